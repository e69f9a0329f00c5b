//! sentence-transformers folders, old and new spellings.

use thalweg::Error;
use thalweg::files::{Activation, Pooling, SentenceConfig};

use crate::{folder, refused};

const OLD: &str = "sentence_transformers.models.";

/// A modules.json of (path, type).
fn modules(list: &[(&str, &str)]) -> String {
    let entries = list
        .iter()
        .enumerate()
        .map(|(i, (path, kind))| serde_json::json!({"idx": 9 - i, "name": i.to_string(), "path": path, "type": kind}));
    serde_json::Value::Array(entries.collect()).to_string()
}

fn open(files: &[(&str, &str)]) -> thalweg::Result<SentenceConfig> {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    SentenceConfig::open(folder(&files).path())
}

fn plain() -> String {
    modules(&[("", "sentence_transformers.models.Transformer"), ("1_Pooling", "sentence_transformers.models.Pooling")])
}

const POOLING: &str = "1_Pooling/config.json";
const MEAN: &str = r#"{"word_embedding_dimension":384,"pooling_mode_mean_tokens":true}"#;

#[test]
fn a_folder_without_modules_is_mean_pooled_and_normalised() {
    let dir = folder(&[("sentence_bert_config.json", br#"{"max_seq_length":3}"#)]);
    let config = SentenceConfig::open(dir.path()).unwrap();
    assert_eq!(config.transformer_dir, dir.path());
    assert_eq!((config.pooling, config.normalize, config.include_prompt), (vec![Pooling::Mean], true, true));
    assert_eq!((config.max_seq_length, config.dense.len(), config.prompts.len()), (None, 0, 0));
}

/// The files of all-MiniLM-L6-v2, as published.
#[test]
fn minilm() {
    let dir = folder(&[
        (
            "modules.json",
            br#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
                 {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
                 {"idx":2,"name":"2","path":"2_Normalize","type":"sentence_transformers.models.Normalize"}]"#,
        ),
        ("sentence_bert_config.json", br#"{"max_seq_length":256,"do_lower_case":false}"#),
        ("config_sentence_transformers.json", br#"{"__version__":{"sentence_transformers":"2.0.0"}}"#),
        (
            POOLING,
            br#"{"word_embedding_dimension":384,"pooling_mode_cls_token":false,"pooling_mode_mean_tokens":true,
                 "pooling_mode_max_tokens":false,"pooling_mode_mean_sqrt_len_tokens":false}"#,
        ),
    ]);
    let config = SentenceConfig::open(dir.path()).unwrap();
    assert_eq!(config.pooling, [Pooling::Mean]);
    assert_eq!(config.word_embedding_dimension, Some(384));
    assert_eq!(config.max_seq_length, Some(256));
    assert!(config.normalize && !config.do_lower_case && config.include_prompt);
    assert_eq!((config.prompts["query"].as_str(), config.default_prompt_name), ("", None));
}

#[test]
fn a_folder_as_version_6_saves_it() {
    let st = "sentence_transformers.";
    let list = modules(&[
        ("0_Transformer", &format!("{st}base.modules.transformer.Transformer")),
        ("1_Pooling", &format!("{st}sentence_transformer.modules.pooling.Pooling")),
        ("2_Dense", &format!("{st}base.modules.dense.Dense")),
        ("3_Dense", &format!("{st}models.Dense.Dense")),
        ("4_Dropout", &format!("{st}sentence_transformer.modules.Dropout")),
        ("5_Normalize", &format!("{st}base.modules.normalize.Normalize")),
    ]);
    let dir = folder(&[
        ("modules.json", list.as_bytes()),
        ("0_Transformer/sentence_bert_config.json", b"{}"),
        (
            "0_Transformer/sentence_roberta_config.json",
            br#"{"transformer_task":"feature-extraction","max_seq_length":null,"do_lower_case":true,
                 "modality_config":{"text":{"method":"forward","method_output_name":"last_hidden_state"}},
                 "module_output_name":"token_embeddings","processor_kwargs":{"model_max_length":77},"model_kwargs":{}}"#,
        ),
        (
            POOLING,
            br#"{"embedding_dimension":64,"pooling_mode":["lasttoken","cls","weightedmean"],"include_prompt":false,
                 "pooling_mode_mean_tokens":true}"#,
        ),
        ("2_Dense/config.json", br#"{"in_features":192,"out_features":32,"bias":false,"activation_function":"torch.nn.modules.linear.Identity","more":1}"#),
        ("3_Dense/config.json", br#"{"in_features":32,"out_features":16}"#),
        ("5_Normalize/config.json", br#"{"module_input_name":"sentence_embedding","module_output_name":"sentence_embedding"}"#),
        (
            "config_sentence_transformers.json",
            br#"{"model_type":"SentenceTransformer","prompts":{"query":"query: ","none":null},
                 "default_prompt_name":"query","similarity_fn_name":"cosine","truncate_dim":8}"#,
        ),
    ]);
    let config = SentenceConfig::open(dir.path()).unwrap();
    assert_eq!(config.transformer_dir, dir.path().join("0_Transformer"));
    assert_eq!(config.pooling, [Pooling::LastToken, Pooling::Cls, Pooling::WeightedMean]);
    assert_eq!((config.word_embedding_dimension, config.include_prompt), (Some(64), false));
    assert_eq!((config.max_seq_length, config.do_lower_case, config.normalize), (Some(77), true, true));
    let [a, b] = &config.dense[..] else { panic!("{:?}", config.dense) };
    assert_eq!((a.in_features, a.out_features, a.bias, a.activation), (192, 32, false, Activation::Identity));
    assert_eq!((b.in_features, b.out_features, b.bias, b.activation), (32, 16, true, Activation::Tanh));
    assert_eq!(b.dir, dir.path().join("3_Dense"));
    let prompts: Vec<(&str, &str)> = config.prompts.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(prompts, [("document", ""), ("none", ""), ("query", "query: ")]);
    assert_eq!((config.default_prompt_name.as_deref(), config.truncate_dim), (Some("query"), Some(8)));
}

#[test]
fn pooling_modes() {
    let modes = |text: &str| open(&[("modules.json", &plain()), (POOLING, text)]).map(|c| c.pooling);
    // the old keys are concatenated in a fixed order, whatever their order in the file
    let all = r#"{"pooling_mode_lasttoken":true,"pooling_mode_weightedmean_tokens":true,"pooling_mode_max_tokens":true,
        "pooling_mode_mean_sqrt_len_tokens":true,"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":true}"#;
    assert_eq!(modes(all).unwrap(), Pooling::ALL.map(|(mode, ..)| mode));
    assert_eq!(modes(r#"{"pooling_mode_mean_tokens":false}"#).unwrap(), [Pooling::Mean]);
    assert_eq!(modes(r#"{"embedding_dimension":2}"#).unwrap(), [Pooling::Mean]);
    for (mode, name, key) in Pooling::ALL {
        assert_eq!(mode.name(), name);
        assert_eq!(modes(&format!(r#"{{"pooling_mode":"{name}","pooling_mode_max_tokens":true}}"#)).unwrap(), [mode]);
        assert_eq!(modes(&format!(r#"{{"{key}":true}}"#)).unwrap(), [mode]);
    }
    for (case, text, words) in [
        ("unknown mode", r#"{"pooling_mode":"median"}"#, ["unsupported", "`median`"]),
        ("unknown in a list", r#"{"pooling_mode":["cls","median"]}"#, ["unsupported", "`median`"]),
        ("number", r#"{"pooling_mode":3}"#, ["`pooling_mode`", "3"]),
        ("no mode", r#"{"pooling_mode":[]}"#, ["`pooling_mode`", "found 0"]),
        ("unknown key", r#"{"pooling_mode_attention":true}"#, ["unsupported", "`pooling_mode_attention`"]),
        ("text for a bool", r#"{"pooling_mode_cls_token":"yes"}"#, ["`pooling_mode_cls_token`", "`yes`"]),
        ("size", r#"{"word_embedding_dimension":-4}"#, ["`word_embedding_dimension`", "-4"]),
    ] {
        refused(case, modes(text), &[POOLING, words[0], words[1]]);
    }
    refused("no config", open(&[("modules.json", &plain())]), &[POOLING]);
}

#[test]
fn module_lists_are_refused_by_name() {
    let t = format!("{OLD}Transformer");
    let of = |kinds: &[&str]| {
        let list: Vec<(String, String)> =
            kinds.iter().enumerate().map(|(i, kind)| (format!("{i}_M"), format!("{OLD}{kind}"))).collect();
        modules(&list.iter().map(|(path, kind)| (path.as_str(), kind.as_str())).collect::<Vec<_>>())
    };
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("not a list", "{}".into(), &["expected a list"]),
        ("no type", r#"[{"name":"0","path":""}]"#.into(), &["module 0", "`type`", "nothing"]),
        ("path of a number", r#"[{"name":"0","path":1,"type":"x"}]"#.into(), &["module 0", "`path`", "1"]),
        ("not an object", "[1]".into(), &["module 0"]),
        ("no modules", "[]".into(), &["without a Pooling module"]),
        ("no pooling", modules(&[("", &t)]), &["without a Pooling module"]),
        ("parent", modules(&[("../x", &t)]), &["module 0", "`../x`"]),
        ("parent inside", modules(&[("a/../../x", &t)]), &["`a/../../x`"]),
        ("parent, Windows", modules(&[("a\\..\\x", &t)]), &["module 0"]),
        ("absolute", modules(&[("/etc", &t)]), &["`/etc`"]),
        ("drive", modules(&[("C:\\x", &t)]), &["module 0"]),
        ("share", modules(&[("\\\\host\\x", &t)]), &["module 0"]),
        ("zero byte", modules(&[("a\0", &t)]), &["module 0"]),
        (
            "same name",
            format!("[{0},{0}]", r#"{"name":"0","path":"","type":"sentence_transformers.models.Transformer"}"#),
            &["module 1", "`0`", "taken"],
        ),
        ("unknown type", of(&["Transformer", "LSTM"]), &["unsupported", "`sentence_transformers.models.LSTM`"]),
        ("foreign type", modules(&[("", &t), ("1", "evil.Pooling")]), &["unsupported", "`evil.Pooling`"]),
        ("made-up package", modules(&[("", &t), ("1", &format!("{OLD}x.Pooling"))]), &["unsupported", ".x.Pooling`"]),
        ("first is no transformer", of(&["StaticEmbedding"]), &["unsupported", "StaticEmbedding`"]),
        ("two transformers", of(&["Transformer", "Transformer"]), &["Transformer` after another"]),
        ("two poolings", of(&["Transformer", "Pooling", "Pooling"]), &["Pooling` twice"]),
        ("dense first", of(&["Transformer", "Dense", "Pooling"]), &["Dense` before Pooling"]),
        ("normalise first", of(&["Transformer", "Normalize", "Pooling"]), &["Normalize` before Pooling"]),
        ("dense last", of(&["Transformer", "Pooling", "Normalize", "Dense"]), &["Dense` after Normalize"]),
    ];
    for (case, list, words) in cases {
        let result = open(&[("modules.json", &list), (POOLING, MEAN), ("1_M/config.json", MEAN)]);
        let words: Vec<&str> = words.iter().copied().chain(["modules.json"]).collect();
        refused(case, result, &words);
    }
}

#[test]
fn settings_that_change_the_numbers_are_refused_by_name() {
    let transformer = "sentence_bert_config.json";
    let model = "config_sentence_transformers.json";
    let cases: [(&str, &str, &[&str]); 15] = [
        (transformer, r#"{"max_seq_length":"many"}"#, &["`max_seq_length`", "`many`"]),
        (transformer, r#"{"max_seq_length":0}"#, &["`max_seq_length`", "found 0"]),
        (transformer, r#"{"do_lower_case":1}"#, &["`do_lower_case`"]),
        (transformer, r#"{"transformer_task":"fill-mask"}"#, &["unsupported", "`fill-mask`"]),
        (transformer, r#"{"module_output_name":"sentence_embedding"}"#, &["unsupported", "`sentence_embedding`"]),
        (transformer, r#"{"modality_config":{"message":{}}}"#, &["unsupported", "`modality_config.message`"]),
        (
            transformer,
            r#"{"modality_config":{"text":{"method":"x"}}}"#,
            &["unsupported", "`modality_config.text.method` `x`"],
        ),
        (transformer, r#"{"tokenizer_name_or_path":"other"}"#, &["unsupported", "`tokenizer_name_or_path`"]),
        (transformer, r#"{"config_args":{"hidden_act":"relu"}}"#, &["unsupported", "`config_args.hidden_act`"]),
        (
            transformer,
            r#"{"processing_kwargs":{"text":{"max_length":5}}}"#,
            &["unsupported", "`processing_kwargs.text`"],
        ),
        (model, r#"{"model_type":"SparseEncoder"}"#, &["unsupported", "`SparseEncoder`"]),
        (model, r#"{"prompts":{"q":1}}"#, &["`prompts.q`", "1"]),
        (model, r#"{"prompts":["q"]}"#, &["`prompts`", "a list"]),
        (model, r#"{"default_prompt_name":"q"}"#, &["`default_prompt_name`", "`q`"]),
        (model, r#"{"truncate_dim":0}"#, &["`truncate_dim`", "found 0"]),
    ];
    for (file, text, words) in cases {
        let result = open(&[("modules.json", &plain()), (POOLING, MEAN), (file, text)]);
        let words: Vec<&str> = words.iter().copied().chain([file]).collect();
        refused(text, result, &words);
    }
    let list = modules(&[
        ("", &format!("{OLD}Transformer")),
        ("1_Pooling", &format!("{OLD}Pooling")),
        ("2_Dense", &format!("{OLD}Dense")),
        ("3_Normalize", &format!("{OLD}Normalize")),
    ]);
    let dense = "2_Dense/config.json";
    let normalize = "3_Normalize/config.json";
    for (file, text, words) in [
        (dense, r#"{"in_features":1}"#, ["`out_features`", "nothing"]),
        (dense, r#"{"in_features":1,"out_features":0}"#, ["`out_features`", "found 0"]),
        (dense, r#"{"activation_function":"os.system"}"#, ["unsupported", "`os.system`"]),
        (dense, r#"{"activation_function":"torch.nn.modules.activation.Hardswish"}"#, ["unsupported", "Hardswish`"]),
        (dense, r#"{"use_residual":true}"#, ["unsupported", "`use_residual` true"]),
        (dense, r#"{"module_input_name":"token_embeddings"}"#, ["unsupported", "`token_embeddings`"]),
        (normalize, r#"{"module_input_name":"token_embeddings"}"#, ["unsupported", "`token_embeddings`"]),
    ] {
        let good = r#"{"in_features":1,"out_features":1}"#;
        let other = if file == dense { normalize } else { dense };
        let result = open(&[("modules.json", &list), (POOLING, MEAN), (other, good), (file, text)]);
        let error = refused(text, result, &[file, words[0], words[1]]);
        assert_eq!(matches!(error, Error::Unsupported { .. }), words[0] == "unsupported");
    }
}
