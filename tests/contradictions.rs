//! Model folders whose parts contradict each other or ask for what is not there: each is a typed error that names the
//! file, and none is run wrongly.

mod common;

use std::path::Path;

use common::{GPU, fixtures, load};
use serde_json::{Value, json};
use thalweg::{Dtype, Error};

/// A copy of a fixture, spoiled.
fn spoiled(model: &str, spoil: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures(model), folder.path());
    spoil(folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Loads the folder, which must fail with exit code 4 and a sentence that holds all of `words`.
fn refused(folder: &Path, dtype: Dtype, words: &[&str]) {
    let Err(error) = load(&GPU, folder, dtype) else { panic!("loaded, in spite of {words:?}") };
    assert_eq!(error.exit_code(), 4, "{error}");
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

fn config(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    spoiled("models/bert_odd", |dir| {
        // a plain folder: the pooling would contradict another width first
        std::fs::remove_file(dir.join("modules.json")).unwrap();
        edit(&dir.join("config.json"), change);
    })
}

#[test]
fn configs_that_contradict_the_weights() {
    for (key, value, words) in [
        (
            "hidden_size",
            json!(33),
            &["model.safetensors", "embeddings.word_embeddings.weight", "[120, 33]", "[120, 30]"][..],
        ),
        ("vocab_size", json!(121), &["model.safetensors", "word_embeddings", "[121, 30]"]),
        (
            "intermediate_size",
            json!(51),
            &["model.safetensors", "encoder.layer.0.intermediate.dense.weight", "[51, 30]"],
        ),
        ("num_hidden_layers", json!(3), &["encoder.layer.2.attention.self.query.weight", "missing"]),
        ("max_position_embeddings", json!(1000), &["position_embeddings", "[1000, 30]"]),
        ("type_vocab_size", json!(5), &["token_type_embeddings", "[5, 30]"]),
        ("num_attention_heads", json!(4), &["config.json", "30", "4"]),
        ("num_attention_heads", json!(0), &["config.json"]),
        ("num_attention_heads", json!(-1), &["config.json", "num_attention_heads"]),
        ("hidden_size", json!(u64::MAX), &["config.json", "hidden_size"]),
        ("hidden_size", json!("30"), &["config.json", "hidden_size"]),
        ("hidden_size", json!(null), &["config.json", "hidden_size"]),
        ("num_hidden_layers", json!(2_000_000_000), &["config.json", "2000000000"]),
        ("layer_norm_eps", json!(-1.0), &["config.json", "epsilon"]),
        ("hidden_act", json!("quick_gelu"), &["config.json", "hidden_act", "quick_gelu"]),
        ("position_embedding_type", json!("relative_key"), &["config.json", "relative_key"]),
        ("is_decoder", json!(true), &["config.json", "is_decoder"]),
        ("model_type", json!("t5"), &["config.json", "t5", "bert"]),
        ("model_type", json!(null), &["config.json", "model_type"]),
    ] {
        let folder = config(|config| config[key] = value);
        refused(folder.path(), Dtype::Auto, words);
    }
}

#[test]
fn a_head_beyond_the_kernel_is_refused() {
    let folder = spoiled("models/bert_odd", |dir| {
        edit(&dir.join("config.json"), |c| {
            c["hidden_size"] = json!(300);
            c["num_attention_heads"] = json!(1);
        });
    });
    refused(folder.path(), Dtype::Auto, &["config.json", "head size of 300"]);
}

/// Rewrites the weights with some tensor changed.
fn weights(model: &str, change: impl Fn(&str, &mut Vec<u8>)) -> tempfile::TempDir {
    spoiled(model, |dir| {
        let path = dir.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let changed: Vec<_> = tensors
            .iter()
            .map(|(name, view)| {
                let mut data = view.data().to_vec();
                change(name, &mut data);
                (name.to_string(), view.dtype(), view.shape().to_vec(), data)
            })
            .collect();
        let views = changed.iter().map(|(name, dtype, shape, data)| {
            (name.clone(), safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    })
}

#[test]
fn weights_that_are_not_finite_are_refused_wherever_they_are() {
    for (tensor, place) in [
        ("embeddings.word_embeddings.weight", 0),
        ("encoder.layer.1.attention.self.key.weight", 31),
        ("encoder.layer.1.output.dense.bias", 7),
        ("encoder.layer.0.output.LayerNorm.weight", 29),
    ] {
        for value in [f32::NAN, f32::INFINITY] {
            let folder = weights("models/bert_odd", |name, data| {
                if name == tensor {
                    data[4 * place..4 * place + 4].copy_from_slice(&value.to_le_bytes());
                }
            });
            refused(folder.path(), Dtype::Auto, &["model.safetensors", tensor, &place.to_string()]);
        }
    }
}

#[test]
fn weights_beyond_f16_are_refused_in_f16_only() {
    let folder = weights("models/bert_odd", |name, data| {
        if name == "encoder.layer.0.intermediate.dense.weight" {
            data[..4].copy_from_slice(&1e5f32.to_le_bytes());
        }
    });
    refused(folder.path(), Dtype::F16, &["encoder.layer.0.intermediate.dense.weight", "100000", "f16"]);
    load(&GPU, folder.path(), Dtype::F32).unwrap();
}

#[test]
fn sentence_folders_that_contradict_the_model() {
    let pooling = spoiled("models/bert_odd", |dir| {
        edit(&dir.join("1_Pooling/config.json"), |c| {
            for key in ["word_embedding_dimension", "embedding_dimension"] {
                if !c[key].is_null() {
                    c[key] = json!(31);
                }
            }
        });
    });
    refused(pooling.path(), Dtype::Auto, &["31", "30"]);
    let dense = spoiled("models/bert_bf16_sharded", |dir| {
        edit(&dir.join("2_Dense/config.json"), |c| c["in_features"] = json!(35));
    });
    refused(dense.path(), Dtype::Auto, &["2_Dense", "35", "36"]);
}

#[test]
fn missing_files_are_named() {
    for file in ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"] {
        let folder = spoiled("models/bert_odd", |dir| {
            std::fs::remove_file(dir.join(file)).unwrap();
            // without it, the tokenizer could be built from a word list
            let _ = std::fs::remove_file(dir.join("vocab.txt"));
        });
        refused(folder.path(), Dtype::Auto, &[file.rsplit('/').next().unwrap().split('.').next().unwrap()]);
    }
    refused(Path::new("/nonexistent/model"), Dtype::Auto, &["/nonexistent/model"]);
}

#[test]
fn a_missing_or_truncated_shard_is_named() {
    let shard = |dir: &Path| {
        let mut shards: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "safetensors") && p.to_str().unwrap().contains("-of-"))
            .collect();
        shards.sort();
        shards[1].clone()
    };
    let name = shard(&fixtures("models/bert_bf16_sharded")).file_name().unwrap().to_str().unwrap().to_string();
    let missing = spoiled("models/bert_bf16_sharded", |dir| std::fs::remove_file(shard(dir)).unwrap());
    refused(missing.path(), Dtype::Auto, &[&name]);
    let truncated = spoiled("models/bert_bf16_sharded", |dir| {
        let path = shard(dir);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
    });
    refused(truncated.path(), Dtype::Auto, &[&name]);
}

#[test]
fn ids_beyond_the_vocabulary_are_refused() {
    let encoder = load(&GPU, fixtures("models/bert_odd"), Dtype::Auto).unwrap();
    let points = thalweg::stream::parse_points("resid_post", encoder.spec()).unwrap();
    for ids in [&[1, 120][..], &[u32::MAX], &[], &[1; 2000]] {
        let error = encoder.trace_blocking(ids, &points).unwrap_err();
        assert!(matches!(error, Error::Input(_)) && error.exit_code() == 4, "{error:?}");
    }
    encoder.trace_blocking(&[1, 119], &points).unwrap();
}

/// A tokenizer that knows more words than the model has rows.
#[test]
fn a_tokenizer_larger_than_the_vocabulary_is_an_error_of_that_text() {
    let folder = spoiled("models/bert_odd", |dir| {
        edit(&dir.join("tokenizer.json"), |t| t["model"]["vocab"]["river"] = json!(5000));
    });
    let encoder = load(&GPU, folder.path(), Dtype::Auto).unwrap();
    let error = encoder.embed_blocking(&["river"]).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("5000"), "{error}");
}

#[test]
fn a_text_without_any_token_is_an_error() {
    let folder = spoiled("models/bert_odd", |dir| {
        edit(&dir.join("tokenizer.json"), |t| t["post_processor"] = Value::Null);
    });
    let encoder = load(&GPU, folder.path(), Dtype::Auto).unwrap();
    assert_eq!(encoder.embed_blocking(&["river", "river"]).unwrap().len(), 2);
    let error = encoder.embed_blocking(&["river", "", "river"]).unwrap_err();
    assert!(matches!(&error, Error::Input(what) if what.contains("no tokens")), "{error:?}");
}
