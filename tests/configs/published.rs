//! What published models' configs come to, in the spelling in which they lie on the hub; transformers 5.23 makes the same of
//! them. Keys that mean nothing here are left out, and so are the lists of longrope, which have the right length only.

use thalweg::model::{Placement, QkNorm, Scaling, Spec};

use super::read;

/// Reads a config; `LIST n` stands for n numbers.
fn spec(name: &str, text: &str) -> Spec {
    let text = text.replace("LIST 48", &format!("{:?}", [1.5; 48]));
    let map = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    read(&map).unwrap_or_else(|error| panic!("{name}: {error}")).0
}

/// Heads of queries, heads of keys and values, head size, and blocks.
fn sizes(spec: &Spec) -> [usize; 4] {
    [spec.num_attention_heads, spec.num_key_value_heads, spec.head_size, spec.num_hidden_layers]
}

/// Bases, and how many elements of a head turn.
fn bases(spec: &Spec) -> Vec<(f32, usize)> {
    spec.ropes.iter().map(|rope| (rope.theta, 2 * rope.pairs)).collect()
}

/// Tokens before itself that a query sees in blocks with a window, and which blocks see everything.
fn windows(spec: &Spec) -> (Option<u32>, Vec<usize>) {
    let all = |l: &usize| spec.blocks[*l].mask.before >= 1 << 30;
    let (full, windowed): (Vec<_>, Vec<_>) = (0..spec.blocks.len()).partition(all);
    let before: Vec<_> = windowed.iter().map(|&l| spec.blocks[l].mask.before).collect();
    assert!(before.iter().all(|b| *b == before[0]));
    (before.first().copied(), full)
}

fn tied(spec: &Spec) -> bool {
    spec.head.unwrap().tied
}

#[test]
fn gpt() {
    let gpt2 = spec(
        "gpt2",
        r#"{"model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05, "n_ctx": 1024,
            "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257}"#,
    );
    assert_eq!((sizes(&gpt2), gpt2.intermediate_size, gpt2.max_tokens()), ([12, 12, 64, 12], 3072, 1024));
    assert!(tied(&gpt2) && bases(&gpt2).is_empty() && gpt2.blocks[11].scale == 0.125);
    let pythia = spec(
        "pythia-70m",
        r#"{"model_type": "gpt_neox", "hidden_act": "gelu", "hidden_size": 512, "intermediate_size": 2048,
            "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "num_attention_heads": 8, "num_hidden_layers": 6,
            "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": false, "use_parallel_residual": true,
            "vocab_size": 50304}"#,
    );
    assert_eq!((sizes(&pythia), bases(&pythia)), ([8, 8, 64, 6], vec![(1e4, 16)]));
    assert!(!tied(&pythia) && pythia.placement == Placement::Parallel);
}

#[test]
fn llama() {
    let llama2 = spec(
        "Llama-2-7b",
        r#"{"model_type": "llama", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008,
            "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
            "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null,
            "tie_word_embeddings": false, "vocab_size": 32000}"#,
    );
    assert_eq!((sizes(&llama2), bases(&llama2), tied(&llama2)), ([32, 32, 128, 32], vec![(1e4, 128)], false));
    let llama3 = spec(
        "Llama-3.1-8B",
        r#"{"model_type": "llama", "attention_bias": false, "hidden_act": "silu", "hidden_size": 4096,
            "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": false,
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1,
            "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0,
            "tie_word_embeddings": false, "vocab_size": 128256}"#,
    );
    assert_eq!((sizes(&llama3), bases(&llama3)), ([32, 8, 128, 32], vec![(5e5, 128)]));
    let frequencies = llama3.ropes[0].frequencies(1);
    assert_eq!((frequencies[0], frequencies[63]), (1.0, 3.068_926e-7));
    let smollm = spec(
        "SmolLM-135M",
        r#"{"model_type": "llama", "attention_bias": false, "hidden_act": "silu", "hidden_size": 576,
            "intermediate_size": 1536, "max_position_embeddings": 2048, "num_attention_heads": 9,
            "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
            "rope_scaling": null, "rope_theta": 10000.0, "tie_word_embeddings": true, "vocab_size": 49152}"#,
    );
    assert_eq!((sizes(&smollm), bases(&smollm), tied(&smollm)), ([9, 3, 64, 30], vec![(1e4, 64)], true));
    let tiny = spec(
        "TinyLlama-1.1B",
        r#"{"model_type": "llama", "attention_bias": false, "hidden_act": "silu", "hidden_size": 2048,
            "intermediate_size": 5632, "max_position_embeddings": 2048, "num_attention_heads": 32,
            "num_hidden_layers": 22, "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
            "rope_scaling": null, "rope_theta": 10000.0, "tie_word_embeddings": false, "vocab_size": 32000}"#,
    );
    assert_eq!((sizes(&tiny), tiny.norm_eps), ([32, 4, 64, 22], 1e-5));
}

#[test]
fn mistral() {
    let first = r#"{"model_type": "mistral", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": false,
        "vocab_size": 32000}"#;
    let third = first.replace("10000.0", "1000000.0").replace(": 4096, \"tie", ": null, \"tie");
    let first = spec("Mistral-7B-v0.1", first);
    assert_eq!((sizes(&first), bases(&first)), ([32, 8, 128, 32], vec![(1e4, 128)]));
    assert_eq!(windows(&first), (Some(4095), vec![]));
    let third = spec("Mistral-7B-v0.3", &third);
    assert_eq!((bases(&third), windows(&third)), (vec![(1e6, 128)], (None, (0..32).collect())));
}

#[test]
fn qwen() {
    let qwen2 = spec(
        "Qwen2-0.5B",
        r#"{"model_type": "qwen2", "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
            "max_position_embeddings": 131072, "max_window_layers": 24, "num_attention_heads": 14,
            "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
            "sliding_window": 131072, "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936}"#,
    );
    assert_eq!((sizes(&qwen2), bases(&qwen2), tied(&qwen2)), ([14, 2, 64, 24], vec![(1e6, 64)], true));
    assert_eq!((windows(&qwen2).0, qwen2.biases.qkv, qwen2.biases.o), (None, true, false));
    let qwen25 = spec(
        "Qwen2.5-7B",
        r#"{"model_type": "qwen2", "hidden_act": "silu", "hidden_size": 3584, "intermediate_size": 18944,
            "max_position_embeddings": 131072, "max_window_layers": 28, "num_attention_heads": 28,
            "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
            "sliding_window": 131072, "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 152064}"#,
    );
    assert_eq!((sizes(&qwen25), tied(&qwen25), windows(&qwen25).0), ([28, 4, 128, 28], false, None));
    let qwen3 = spec(
        "Qwen3-0.6B",
        r#"{"model_type": "qwen3", "attention_bias": false, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
            "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
            "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
            "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
            "use_sliding_window": false, "vocab_size": 151936}"#,
    );
    assert_eq!((sizes(&qwen3), bases(&qwen3), tied(&qwen3)), ([16, 8, 128, 28], vec![(1e6, 128)], true));
    assert_eq!((qwen3.qk_norm, qwen3.biases.qkv), (QkNorm::Head, false));
}

#[test]
fn gemma() {
    let gemma2 = spec(
        "gemma-2-2b",
        r#"{"model_type": "gemma2", "attention_bias": false, "attn_logit_softcapping": 50.0,
            "cache_implementation": "hybrid", "final_logit_softcapping": 30.0, "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304,
            "intermediate_size": 9216, "max_position_embeddings": 8192, "num_attention_heads": 8,
            "num_hidden_layers": 26, "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
            "rope_theta": 10000.0, "sliding_window": 4096, "vocab_size": 256000}"#,
    );
    assert_eq!((sizes(&gemma2), bases(&gemma2), tied(&gemma2)), ([8, 4, 256, 26], vec![(1e4, 256)], true));
    assert_eq!(windows(&gemma2), (Some(4095), (0..26).filter(|l| l % 2 == 1).collect()));
    assert_eq!((gemma2.attention_cap, gemma2.head.unwrap().cap), (Some(50.0), Some(30.0)));
    assert_eq!((gemma2.embedding_scale, gemma2.blocks[0].scale), (48.0, 0.0625));
    let gemma3 = spec(
        "gemma-3-1b-it",
        r#"{"model_type": "gemma3_text", "attention_bias": false, "attn_logit_softcapping": null,
            "cache_implementation": "hybrid", "final_logit_softcapping": null, "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "intermediate_size": 6912,
            "max_position_embeddings": 32768, "num_attention_heads": 4, "num_hidden_layers": 26,
            "num_key_value_heads": 1, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
            "rope_local_base_freq": 10000, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": 512,
            "sliding_window_pattern": 6, "vocab_size": 262144}"#,
    );
    assert_eq!((sizes(&gemma3), bases(&gemma3)), ([4, 1, 256, 26], vec![(1e6, 256), (1e4, 256)]));
    assert_eq!(windows(&gemma3), (Some(511), vec![5, 11, 17, 23]));
    assert!(gemma3.blocks.iter().enumerate().all(|(l, block)| block.rope == Some(usize::from(l % 6 != 5))));
    assert_eq!((gemma3.attention_cap, gemma3.head.unwrap().cap, tied(&gemma3)), (None, None, true));
    assert_eq!(gemma3.embedding_scale, 33.941_124);
}

#[test]
fn phi() {
    let phi3 = r#"{"model_type": "phi3", "hidden_act": "silu", "hidden_size": 3072, "intermediate_size": 8192,
        "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
        "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0,
        "sliding_window": 2047, "tie_word_embeddings": false, "vocab_size": 32064}"#;
    let scaling = r#"{"long_factor": LIST 48, "short_factor": LIST 48, "type": "longrope"}"#;
    let phi35 = phi3.replace("\"rope_scaling\": null", &format!("\"rope_scaling\": {scaling}"));
    let phi35 = phi35.replace(": 4096, \"num_att", ": 131072, \"num_att").replace(": 2047", ": 262144");
    let phi4 = phi35.replace("_heads\": 32, \"num_hid", "_heads\": 24, \"num_hid").replace("heads\": 32", "heads\": 8");
    let phi4 = phi4
        .replace("false", "true")
        .replace("32064", "200064")
        .replace("{\"m", "{\"partial_rotary_factor\": 0.75, \"m");
    let phi3 = spec("Phi-3-mini-4k", phi3);
    assert_eq!((sizes(&phi3), bases(&phi3), tied(&phi3)), ([32, 32, 96, 32], vec![(1e4, 96)], false));
    assert_eq!(windows(&phi3), (Some(2046), vec![]));
    for (name, text, heads, tie) in [
        ("Phi-3.5-mini", &phi35, [32, 32, 96, 32], false),
        ("Phi-3-mini-128k, as first published", &phi35.replace("longrope", "su"), [32, 32, 96, 32], false),
        ("Phi-4-mini", &phi4, [24, 8, 128, 32], true),
    ] {
        let phi = spec(name, text);
        assert_eq!((sizes(&phi), bases(&phi), tied(&phi)), (heads, vec![(1e4, 96)], tie), "{name}");
        assert_eq!((windows(&phi).0, phi.ropes[0].attention_factor), (Some(262_143), 1.190_238_1), "{name}");
        assert!(matches!(phi.ropes[0].scaling, Scaling::LongRope { original: 4096, .. }), "{name}");
        assert_eq!([4096, 4097].map(|tokens| phi.ropes[0].epoch(tokens)), [0, 1]);
    }
}

#[test]
fn olmo_and_modernbert() {
    let olmo = spec(
        "OLMo-2-0425-1B",
        r#"{"model_type": "olmo2", "attention_bias": false, "hidden_act": "silu", "hidden_size": 2048,
            "intermediate_size": 8192, "max_position_embeddings": 4096, "num_attention_heads": 16,
            "num_hidden_layers": 16, "num_key_value_heads": 16, "rms_norm_eps": 1e-06, "rope_scaling": null,
            "rope_theta": 500000, "tie_word_embeddings": false, "vocab_size": 100352}"#,
    );
    assert_eq!((sizes(&olmo), bases(&olmo), tied(&olmo)), ([16, 16, 128, 16], vec![(5e5, 128)], false));
    assert_eq!((olmo.placement, olmo.qk_norm), (Placement::After, QkNorm::Row));
    let modernbert = spec(
        "ModernBERT-base",
        r#"{"model_type": "modernbert", "attention_bias": false, "global_attn_every_n_layers": 3,
            "global_rope_theta": 160000.0, "hidden_activation": "gelu", "hidden_size": 768, "intermediate_size": 1152,
            "layer_norm_eps": 1e-05, "local_attention": 128, "local_rope_theta": 10000.0,
            "max_position_embeddings": 8192, "mlp_bias": false, "norm_bias": false, "norm_eps": 1e-05,
            "num_attention_heads": 12, "num_hidden_layers": 22, "position_embedding_type": "absolute",
            "vocab_size": 50368}"#,
    );
    assert_eq!((sizes(&modernbert), bases(&modernbert)), ([12, 12, 64, 22], vec![(1.6e5, 64), (1e4, 64)]));
    assert_eq!(windows(&modernbert), (Some(64), (0..22).filter(|l| l % 3 == 0).collect()));
    assert!(modernbert.head.is_none() && modernbert.blocks[1].mask.after == 64);
    assert!(modernbert.blocks.iter().enumerate().all(|(l, block)| block.attention_norm == (l > 0)));
}
