//! Spoiled configs: each is refused with exit code 4 and one sentence that names the key. None is run wrongly.

use serde_json::{Value, json};

use super::{read, spellings};

/// Reads a fixture's config with one key changed (`a.b` is inside an object), which must be refused with these words.
fn refused(folder: &str, spelling: usize, key: &str, value: Value, words: &[&str]) {
    let mut map = Value::Object(spellings(folder)[spelling].clone());
    let (parents, last) = key.rsplit_once('.').unwrap_or(("", key));
    let holder = parents.split('.').filter(|name| !name.is_empty()).fold(&mut map, |object, name| &mut object[name]);
    match value.as_str() {
        Some(GONE) => drop(holder.as_object_mut().unwrap().remove(last)),
        _ => holder[last] = value.clone(),
    }
    let Err(error) = read(map.as_object().unwrap()) else { panic!("{folder}: {key} = {value} was taken") };
    let message = error.to_string();
    assert_eq!(error.exit_code(), 4, "{message}");
    assert!(!message.contains('\n') && message.starts_with("config.json: "), "{message}");
    for word in words {
        assert!(message.contains(word), "{folder}, {key} = {value}: {word:?} is not in {message:?}");
    }
}

/// Takes the key away.
const GONE: &str = "(gone)";
/// The spelling of a folder's config.json, and the other.
const MAIN: usize = 0;
const OTHER: usize = 1;

#[test]
fn what_no_family_does() {
    for folder in [
        "gpt2_odd",
        "neox_parallel",
        "llama_gqa",
        "mistral_window",
        "qwen2_bias",
        "qwen3_norm",
        "gemma2_odd",
        "gemma3_odd",
        "phi3_fused",
        "olmo2_odd",
    ] {
        for key in ["add_cross_attention", "is_encoder_decoder", "use_bidirectional_attention"] {
            refused(folder, MAIN, key, json!(true), &[&format!("unsupported: `{key}` true")]);
        }
        for key in ["num_experts", "num_local_experts", "n_routed_experts"] {
            refused(folder, MAIN, key, json!(8), &[&format!("unsupported: `{key}` 8")]);
        }
        refused(folder, MAIN, "quantization_config", json!({"quant_method": "gptq"}), &["`quantization_config`"]);
        refused(folder, MAIN, "vocab_size", json!(GONE), &["`vocab_size`", "nothing"]);
        refused(folder, MAIN, "tie_word_embeddings", json!("yes"), &["`tie_word_embeddings`", "`yes`"]);
    }
    for key in ["is_decoder", "add_cross_attention", "is_encoder_decoder"] {
        refused("modernbert_odd", MAIN, key, json!(true), &[&format!("unsupported: `{key}` true")]);
    }
    for name in ["mixtral", "gemma3", "gemma", "qwen2_moe", "llama4", "phi", "olmo"] {
        refused("llama_gqa", MAIN, "model_type", json!(name), &["unsupported: model_type", name, "gemma3_text"]);
    }
}

#[test]
fn sizes() {
    for folder in [
        "neox_parallel",
        "llama_gqa",
        "mistral_window",
        "qwen2_bias",
        "qwen3_norm",
        "gemma2_odd",
        "gemma3_odd",
        "phi3_fused",
        "olmo2_odd",
        "modernbert_odd",
    ] {
        refused(folder, MAIN, "num_hidden_layers", json!(0), &["without blocks", "`num_hidden_layers`"]);
        for key in
            ["hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "max_position_embeddings"]
        {
            refused(folder, MAIN, key, json!(GONE), &[&format!("`{key}`"), "nothing"]);
            refused(folder, MAIN, key, json!(-1), &[&format!("`{key}`"), "-1"]);
        }
        refused(folder, MAIN, "intermediate_size", json!(0), &["FFN size is 0"]);
        refused(folder, MAIN, "num_hidden_layers", json!(2_000_000), &["2000000 blocks"]);
    }
    for key in ["n_embd", "n_head", "n_layer", "n_positions"] {
        refused("gpt2_odd", MAIN, key, json!(GONE), &[&format!("`{key}`"), "nothing"]);
    }
    refused("gpt2_odd", MAIN, "n_head", json!(4), &["30", "4 attention heads"]);
    refused("gpt2_odd", MAIN, "n_positions", json!(1 << 20), &["number of positions"]);
    refused("gpt2_odd", MAIN, "layer_norm_epsilon", json!(0), &["epsilon of 0"]);
    refused("neox_parallel", MAIN, "num_attention_heads", json!(5), &["36", "5 attention heads"]);
    refused("llama_mha", MAIN, "num_attention_heads", json!(5), &["36", "5 attention heads"]);
    refused("llama_mha", MAIN, "num_attention_heads", json!(0), &["0 attention heads"]);
    refused("llama_gqa", MAIN, "num_key_value_heads", json!(3), &["4 attention heads", "3"]);
    refused("llama_gqa", MAIN, "num_key_value_heads", json!(0), &["key and value heads is 0"]);
    refused("llama_gqa", MAIN, "head_dim", json!(0), &["head size is 0"]);
    refused("llama_gqa", MAIN, "head_dim", json!(17), &["odd head size, 17"]);
    refused("llama_gqa", MAIN, "head_dim", json!(258), &["head size of 258"]);
    refused("llama_gqa", MAIN, "head_dim", json!(1u64 << 31), &["head size of 2147483648"]);
    for folder in ["gpt2_odd", "neox_parallel", "modernbert_odd"] {
        refused(folder, MAIN, "head_dim", json!(8), &["`head_dim` 8"]);
    }
    refused("llama_gqa", MAIN, "rms_norm_eps", json!(1.5), &["epsilon of 1.5"]);
    // 8, 32 and 4 heads of keys and values where the config does not say, in these families
    refused("mistral_window", MAIN, "num_key_value_heads", json!(GONE), &["4 attention heads", "8"]);
    refused("qwen2_bias", MAIN, "num_key_value_heads", json!(GONE), &["6 attention heads", "32"]);
    refused("gemma3_odd", MAIN, "num_key_value_heads", json!(GONE), &["3 attention heads", "4"]);
    refused("qwen3_norm", MAIN, "head_dim", json!(null), &["`head_dim`"]);
}

#[test]
fn activations_biases_and_caps() {
    for (folder, key) in [
        ("gpt2_odd", "activation_function"),
        ("neox_parallel", "hidden_act"),
        ("llama_gqa", "hidden_act"),
        ("mistral_window", "hidden_act"),
        ("qwen2_bias", "hidden_act"),
        ("qwen3_norm", "hidden_act"),
        ("gemma2_odd", "hidden_activation"),
        ("gemma3_odd", "hidden_activation"),
        ("phi3_fused", "hidden_act"),
        ("olmo2_odd", "hidden_act"),
        ("modernbert_odd", "hidden_activation"),
    ] {
        refused(folder, MAIN, key, json!("quick_gelu"), &[&format!("`{key}` `quick_gelu`")]);
        refused(folder, MAIN, key, json!(1), &[&format!("`{key}`"), "a string"]);
    }
    for folder in ["mistral_window", "phi3_fused"] {
        refused(folder, MAIN, "attention_bias", json!(true), &["`attention_bias` true"]);
    }
    refused("gemma2_odd", MAIN, "attn_logit_softcapping", json!(0), &["attention soft cap"]);
    refused("gemma2_odd", MAIN, "final_logit_softcapping", json!(-30), &["logit soft cap"]);
    refused("gemma2_odd", MAIN, "query_pre_attn_scalar", json!(0), &["`query_pre_attn_scalar`"]);
}

#[test]
fn windows() {
    for folder in ["mistral_window", "qwen2_mixed", "gemma2_odd", "gemma3_odd", "phi3_fused"] {
        refused(folder, MAIN, "sliding_window", json!(0), &["`sliding_window`", "0 tokens"]);
        refused(folder, MAIN, "sliding_window", json!("5"), &["`sliding_window`", "`5`"]);
    }
    for folder in ["qwen2_mixed", "gemma2_odd", "gemma3_odd"] {
        let (new, blocks) =
            if folder == "qwen2_mixed" { (MAIN, 4) } else { (OTHER, if folder == "gemma2_odd" { 3 } else { 4 }) };
        refused(folder, new, "sliding_window", json!(null), &["sliding_attention", "`sliding_window`"]);
        refused(folder, new, "layer_types", json!(["full_attention"]), &["`layer_types`", &blocks.to_string(), "1"]);
        refused(folder, new, "layer_types", json!("full_attention"), &["`layer_types`", "a list of strings"]);
        let types = vec!["chunked_attention"; blocks];
        refused(folder, new, "layer_types", json!(types), &["`layer_types`", "chunked_attention"]);
    }
    refused("qwen2_mixed", MAIN, "use_sliding_window", json!(false), &["sliding_attention", "`sliding_window`"]);
    refused("gemma3_odd", MAIN, "sliding_window_pattern", json!(0), &["`sliding_window_pattern`"]);
    refused("modernbert_odd", MAIN, "global_attn_every_n_layers", json!(0), &["`global_attn_every_n_layers`"]);
    refused("modernbert_odd", MAIN, "local_attention", json!(0), &["`local_attention`"]);
    refused("modernbert_odd", MAIN, "local_attention", json!(1), &["`local_attention`"]);
}

/// Only Llama 1 and 2, GPT-NeoX, Gemma 3's local blocks and ModernBERT are published without a base.
#[test]
fn bases() {
    for folder in ["qwen2_bias", "qwen3_norm", "gemma2_odd", "gemma3_odd", "olmo2_odd", "phi3_longrope"] {
        refused(folder, MAIN, "rope_theta", json!(GONE), &["`rope_theta`", "nothing"]);
        refused(folder, MAIN, "rope_theta", json!(0), &["`rope_theta`", "above 0"]);
    }
    refused("mistral_window", MAIN, "rope_parameters.rope_theta", json!(GONE), &["`rope_theta`", "nothing"]);
    for (folder, key) in [
        ("llama_llama3", "rope_theta"),
        ("neox_parallel", "rotary_emb_base"),
        ("qwen2_bias", "rope_theta"),
        ("gemma3_odd", "rope_theta"),
        ("gemma3_odd", "rope_local_base_freq"),
        ("modernbert_odd", "global_rope_theta"),
        ("modernbert_odd", "local_rope_theta"),
    ] {
        refused(folder, MAIN, key, json!(null), &[&format!("`{key}`")]);
        refused(folder, MAIN, key, json!("10000"), &[&format!("`{key}`"), "a number"]);
    }
    for folder in ["llama_gqa", "neox_serial", "mistral_window", "qwen2_mixed", "phi3_fused"] {
        refused(folder, MAIN, "rope_parameters.rope_theta", json!(null), &["`rope_parameters.rope_theta`"]);
    }
    for (folder, kind) in [("gemma3_odd", "full"), ("gemma3_odd", "sliding"), ("modernbert_odd", "sliding")] {
        let key = format!("rope_parameters.{kind}_attention.rope_theta");
        refused(folder, OTHER, &key, json!(null), &[&format!("`{key}`")]);
    }
    refused("gemma3_odd", OTHER, "rope_parameters.full_attention.rope_theta", json!(GONE), &["`rope_theta`"]);
}

#[test]
fn scalings() {
    for folder in ["llama_gqa", "mistral_window", "qwen2_mixed", "neox_serial", "phi3_fused"] {
        let key = "rope_parameters.rope_type";
        for kind in ["proportional", "mrope", "axial", ""] {
            refused(folder, MAIN, key, json!(kind), &["unsupported", "`rope_parameters.rope_type`", kind]);
        }
        refused(folder, MAIN, key, json!(null), &["`rope_parameters.rope_type`", "null"]);
        refused(folder, MAIN, "rope_parameters", json!([1]), &["`rope_parameters`", "an object"]);
        let nested = json!({"full_attention": {"rope_type": "default", "rope_theta": 10000.0}});
        refused(folder, MAIN, "rope_parameters", nested, &["`rope_parameters`"]);
    }
    for kind in ["linear", "dynamic", "llama3"] {
        refused("phi3_fused", MAIN, "rope_parameters.rope_type", json!(kind), &["`rope_parameters.rope_type`", kind]);
        refused("phi3_longrope", MAIN, "rope_scaling.type", json!(kind), &["`rope_scaling.type`", kind]);
    }
    for (folder, spelling, parent, keys) in [
        ("llama_linear", MAIN, "rope_scaling", &["factor"][..]),
        ("llama_dynamic", OTHER, "rope_parameters", &["factor"]),
        ("llama_llama3", MAIN, "rope_scaling", &["factor", "low_freq_factor", "high_freq_factor"]),
        ("llama_yarn", MAIN, "rope_parameters", &["factor"]),
        ("phi3_longrope", MAIN, "rope_scaling", &["short_factor", "long_factor"]),
    ] {
        for key in keys.iter().map(|key| format!("{parent}.{key}")) {
            refused(folder, spelling, &key, json!(GONE), &[&format!("`{key}`"), "nothing"]);
            refused(folder, spelling, &key, json!("4"), &[&format!("`{key}`")]);
            refused(folder, spelling, &key, json!(0), &[&format!("`{key}`")]);
        }
    }
    for list in [json!([1.0]), json!([1, 2, 3, 4, 5, 6, 7]), json!([1, 2, 3, 4, 5, null])] {
        refused("phi3_longrope", MAIN, "rope_scaling.long_factor", list, &["`rope_scaling.long_factor`"]);
    }
    refused("phi3_longrope", MAIN, "rope_scaling.long_factor", json!([1, 2, 3, 4, 5, 0]), &["longrope", "finite"]);
    refused(
        "phi3_longrope",
        MAIN,
        "original_max_position_embeddings",
        json!(0),
        &["`original_max_position_embeddings`"],
    );
    refused("llama_yarn", MAIN, "rope_parameters.rope_theta", json!(1), &["yarn", "base of 1"]);
}

/// Where transformers passes over what a config says, or fails.
#[test]
fn what_would_be_passed_over() {
    // scaled embeddings honour the share that turns, and their families cannot turn a part
    refused("llama_linear", MAIN, "partial_rotary_factor", json!(0.5), &["`partial_rotary_factor` 0.5"]);
    refused(
        "llama_yarn",
        MAIN,
        "rope_parameters.partial_rotary_factor",
        json!(0.5),
        &["`rope_parameters.partial_rotary"],
    );
    for factor in [json!(0), json!(-0.5), json!(1.5)] {
        refused("neox_parallel", MAIN, "rotary_pct", factor.clone(), &["`rotary_pct`"]);
        refused("phi3_fused", MAIN, "rope_parameters.partial_rotary_factor", factor, &["partial_rotary_factor`"]);
    }
    refused("neox_serial", MAIN, "rope_parameters.partial_rotary_factor", json!(1.0), &["odd head size, 15"]);
    // Gemma 3 with an old key inside `rope_scaling`, or with one embedding for all blocks
    let old = json!({"type": "linear", "factor": 8.0});
    refused("gemma3_odd", MAIN, "rope_scaling", old.clone(), &["`rope_scaling.type` `linear`"]);
    refused("gemma3_odd", OTHER, "rope_scaling", json!({"rope_type": "linear", "factor": 8.0}), &["`rope_scaling`"]);
    let flat = json!({"rope_type": "default", "rope_theta": 1000.0});
    for folder in ["gemma3_odd", "modernbert_odd"] {
        refused(folder, OTHER, "rope_parameters", flat.clone(), &["`rope_parameters`", "full_attention"]);
    }
    refused("modernbert_odd", MAIN, "rope_scaling", old, &["`rope_scaling`"]);
}
