//! Frequencies against those that transformers computed.

use serde_json::{Value, json};

use super::{fixture, read};

/// Through GPT-NeoX's config, since that family honours `partial_rotary_factor` with every scaling.
#[test]
fn frequencies_are_transformers() {
    let cases = super::json(&fixture("rope.json"));
    let (mut numbers, mut off) = (0, 0);
    for case in cases.as_array().unwrap() {
        let mut parameters = case["rope_parameters"].clone();
        if parameters.get("partial_rotary_factor").is_none() {
            parameters["partial_rotary_factor"] = json!(1.0);
        }
        let config = json!({
            "model_type": "gpt_neox", "hidden_size": case["head_dim"], "num_attention_heads": 1, "num_hidden_layers": 1,
            "intermediate_size": 4, "vocab_size": 4, "max_position_embeddings": case["max_position_embeddings"],
            "rope_parameters": parameters,
        });
        let (spec, _) = read(config.as_object().unwrap()).unwrap_or_else(|error| panic!("{case}: {error}"));
        let rope = &spec.ropes[0];
        assert_eq!(rope.pairs * 2, case["rotary_dims"].as_u64().unwrap() as usize, "{case}");
        assert_eq!(rope.attention_factor, case["attention_factor"].as_f64().unwrap() as f32, "{case}");
        let expected: Vec<f32> = case["inv_freq"].as_array().unwrap().iter().map(number).collect();
        let frequencies = rope.frequencies(case["length"].as_u64().unwrap() as usize);
        assert_eq!(frequencies.len(), expected.len());
        numbers += expected.len();
        for (k, (a, b)) in frequencies.iter().zip(&expected).enumerate() {
            assert!(a.to_bits().abs_diff(b.to_bits()) <= 1, "{case}: frequency {k} is {a}, not {b}");
            off += usize::from(a != b);
        }
    }
    // torch's f32 power, of eight numbers at a time, is not always the nearest; ours is
    assert!(numbers == 499 && off <= 2, "{off} of {numbers} differ");
}

fn number(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

/// The angle is one f32 product; its cos and sin are scaled after they are rounded.
#[test]
fn angles_are_f32_products() {
    let config = json!({
        "model_type": "llama", "hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 4,
        "vocab_size": 4, "max_position_embeddings": 64,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    });
    let (spec, _) = read(config.as_object().unwrap()).unwrap();
    let rope = &spec.ropes[0];
    let mut angles = Vec::new();
    rope.angles(&rope.frequencies(1), 16_777_215, &mut angles);
    let expected = rope.frequencies(1).into_iter().flat_map(|frequency| {
        let angle = f64::from(16_777_215.0f32 * frequency);
        [angle.cos() as f32 * 1.138_629_4, angle.sin() as f32 * 1.138_629_4]
    });
    assert_eq!(angles, expected.collect::<Vec<_>>());
}
