//! Direct logit attribution: the parts of a logit sum to it, they have the names of everything that was added, and they are
//! what hooks in another implementation give.

mod common;

use common::{Expected, GPU, fixtures};
use thalweg::stream::Question;
use thalweg::{Dtype, Error, LoadOptions, Model};

const DECODERS: [&str; 10] = [
    "llama_gqa",
    "gemma2_odd",
    "gemma3_odd",
    "gpt2_odd",
    "phi3_longrope",
    "qwen3_norm",
    "neox_parallel",
    "neox_serial",
    "olmo2_odd",
    "llama_mqa_bias",
];

fn model(folder: &str) -> Model {
    Model::load_blocking(&GPU, fixtures(folder), LoadOptions::default()).unwrap_or_else(|e| panic!("{folder}: {e}"))
}

#[test]
fn parts_of_a_logit_sum_to_it() {
    for name in DECODERS {
        let model = model(&format!("decoders/{name}"));
        let ids = Expected::open(&format!("decoders/{name}")).ids("ids");
        let spec = model.spec();
        let vocabulary = spec.vocab_size as u32;
        let questions = [
            Question::default(),
            Question { position: Some(0), target: Some(5), against: None },
            Question { position: Some(ids.len() / 2), target: Some(vocabulary - 1), against: Some(7) },
        ];
        for question in questions {
            let found = model.attribute_blocking(&ids, question).unwrap();
            assert_eq!(found.position, question.position.unwrap_or(ids.len() - 1));
            let size = found.logit.abs().max(found.parts.iter().map(|(_, x)| x.abs()).fold(0.0, f64::max));
            let error = (found.sum() - found.logit).abs() / size;
            assert!(error <= 1e-4, "{name} {question:?}: {} of parts, {} in all", found.sum(), found.logit);
            let names: Vec<_> = found.parts.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names[0], "embed");
            for block in 0..spec.num_hidden_layers {
                for head in 0..spec.num_attention_heads {
                    assert!(names.contains(&&*format!("L{block}H{head}")), "{name}: {names:?}");
                }
                assert!(names.contains(&&*format!("{block}_mlp_out")), "{name}: {names:?}");
            }
            assert_eq!(names.contains(&"pos_embed"), name == "gpt2_odd", "{name}: {names:?}");
            let cap = spec.head.and_then(|head| head.cap).is_some();
            assert_eq!(names.contains(&"logit_soft_cap"), cap, "{name}: {names:?}");
            assert_eq!(
                names.contains(&"ln_final_bias"),
                name.starts_with("gpt2") || name.starts_with("neox"),
                "{name}"
            );
        }
        // with another token taken off, each part is the difference of the two
        let of = |target, against| {
            let question = Question { position: None, target: Some(target), against };
            model.attribute_blocking(&ids, question).unwrap().parts
        };
        let (one, other, both) = (of(3, None), of(9, None), of(3, Some(9)));
        for ((a, b), c) in one.iter().zip(&other).zip(&both) {
            assert!((a.1 - b.1 - c.1).abs() < 1e-9 * (1.0 + a.1.abs() + b.1.abs()), "{name}: {}", a.0);
        }
    }
}

#[test]
fn an_encoders_parts_sum_to_its_stream() {
    for name in ["models/bert_odd", "models/mpnet_odd", "decoders/modernbert_odd"] {
        let model = model(name);
        for position in [None, Some(4)] {
            let question = Question { position, ..Question::default() };
            let found = model.attribute_blocking(&[3, 1, 4, 1, 5], question).unwrap();
            assert!((found.sum() - found.logit).abs() < 1e-9 * found.logit, "{name}: {} {}", found.sum(), found.logit);
            let trace = model.trace_blocking(&[3, 1, 4, 1, 5], &last(&model)).unwrap();
            let d = model.spec().hidden_size;
            let row = &trace.tensors.values().next().unwrap().data[found.position * d..][..d];
            let length = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            assert!((found.logit - length).abs() < 1e-5 * length, "{name}: {} {length}", found.logit);
        }
        let question = Question { target: Some(1), ..Question::default() };
        assert!(matches!(model.attribute_blocking(&[1, 2], question), Err(Error::Input(_))), "{name}");
    }
}

fn last(model: &Model) -> Vec<thalweg::stream::Point> {
    let l = model.spec().num_hidden_layers - 1;
    let text = if model.spec().final_norm { "ln_final.hook_normalized".into() } else { format!("h@{l}") };
    thalweg::stream::parse_points(&text, model.spec()).unwrap()
}

#[test]
fn what_is_not_there_is_refused() {
    let model = model("decoders/gpt2_odd");
    let vocabulary = model.spec().vocab_size as u32;
    let ask = |question| model.attribute_blocking(&[1, 2, 3], question);
    for question in [
        Question { position: Some(3), ..Question::default() },
        Question { target: Some(vocabulary), ..Question::default() },
        Question { against: Some(vocabulary), ..Question::default() },
    ] {
        assert!(matches!(ask(question), Err(Error::Input(_))), "{question:?}");
    }
    assert!(model.attribute_blocking(&[], Question::default()).is_err());
    assert!(model.attribute_blocking(&[vocabulary], Question::default()).is_err());
}

/// What hooks in PyTorch gave: `tests/against/attribution.py --write`.
#[test]
fn parts_are_those_of_another_implementation() {
    let said = std::fs::read_to_string(fixtures("attribution.json")).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let ids: Vec<u32> = serde_json::from_value(said["ids"].clone()).unwrap();
    let models = said["models"].as_object().unwrap();
    assert!(models.len() >= 8);
    for (name, questions) in models {
        let options = LoadOptions { dtype: Dtype::F32, ..Default::default() };
        let model = Model::load_blocking(&GPU, fixtures(&format!("decoders/{name}")), options).unwrap();
        for asked in questions.as_array().unwrap() {
            let id = |key: &str| asked[key].as_u64().map(|id| id as u32);
            let position = id("position").map(|position| position as usize);
            let question = Question { position, target: id("target"), against: id("against") };
            let found = model.attribute_blocking(&ids, question).unwrap();
            let parts = asked["parts"].as_object().unwrap();
            let largest = parts.values().map(|x| x.as_f64().unwrap().abs()).fold(0.0, f64::max);
            let mut named = 0;
            for (part, value) in &found.parts {
                let Some(expected) = parts.get(part) else { continue };
                let error = (value - expected.as_f64().unwrap()).abs() / largest;
                assert!(error <= 1e-4, "{name} {question:?}: {part} is {value} instead of {expected}");
                named += 1;
            }
            assert_eq!(named, parts.len(), "{name} {question:?}");
        }
    }
}
