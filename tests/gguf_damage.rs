//! Models whose GGUF files say something wrong: every key with every kind of wrong value, every tensor under another name,
//! type or shape, and blocks that make no numbers. A typed error that names the file, or a model that runs.

mod common;

use std::path::Path;

use common::{GPU, fixtures};
use thalweg::files::Gguf;
use thalweg::stream::{Kind, Point};
use thalweg::{Decoder, Encoder, Error, LoadOptions, Model};

const WHOLE: [&str; 7] =
    ["bert_odd", "gemma3", "gpt2_odd", "llama_llama3", "llama_yarn", "phi3_longrope", "llama_256_q4_k"];

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixtures(&format!("gguf/models/{name}.gguf"))).unwrap()
}

/// Where what follows a name in the header begins.
fn after(bytes: &[u8], name: &str) -> usize {
    let needle = [&(name.len() as u64).to_le_bytes()[..], name.as_bytes()].concat();
    let at = bytes.windows(needle.len()).position(|w| w == needle);
    at.unwrap_or_else(|| panic!("no {name}")) + needle.len()
}

/// Loads a file of those bytes and runs it, and says whether that went well; an error must be typed and name the file.
fn outcome(what: &str, bytes: &[u8]) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.gguf");
    std::fs::write(&path, bytes).unwrap();
    let loaded = Model::load_blocking(&GPU, &path, LoadOptions::default());
    let run = loaded.and_then(|model| {
        let ids: Vec<u32> = (0..model.spec().max_tokens().min(6) as u32).collect();
        let points: Vec<_> = Point::of_model(model.spec()).into_iter().filter(|p| p.kind == Kind::ResidPost).collect();
        model.trace_blocking(&ids, &points)?;
        // sessions and vectors have checks of their own
        match model.spec().is_decoder() {
            true => Decoder::load_blocking(&GPU, &path).map(|_| ()),
            false => Encoder::load_blocking(&GPU, &path).map(|_| ()),
        }
    });
    match run {
        Ok(()) => Ok(()),
        Err(e @ (Error::File { .. } | Error::Unsupported { .. })) => {
            let text = e.to_string();
            assert!(text.contains("damaged.gguf") && !text.contains('\n'), "{what}: {text}");
            Err(text)
        }
        Err(e @ (Error::OutOfMemory { .. } | Error::Input(_))) => Err(e.to_string()),
        Err(e) => panic!("{what}: {e:?}"),
    }
}

fn path_of(name: &str) -> std::path::PathBuf {
    fixtures(&format!("gguf/models/{name}.gguf"))
}

#[test]
fn wrong_values_are_refused_or_run() {
    let (mut refused, mut ran) = (0, 0);
    for name in WHOLE {
        let whole = read(name);
        let gguf = Gguf::open(&path_of(name)).unwrap();
        for key in gguf.metadata().keys().filter(|key| !key.starts_with("general.") || key.ends_with("architecture")) {
            let at = after(&whole, key);
            let kind = u32::from_le_bytes(whole[at..at + 4].try_into().unwrap());
            let with = |value: [u8; 4]| {
                let mut bytes = whole.clone();
                bytes[at + 4..at + 8].copy_from_slice(&value);
                bytes
            };
            let mut spoiled: Vec<Vec<u8>> = match kind {
                4 | 5 => [0u32, 1, 3, 7, 255, 65_537, 0x7fff_ffff, u32::MAX].map(|n| with(n.to_le_bytes())).into(),
                6 => [0.0f32, -1.0, 1e-38, 1e38, f32::NAN, f32::INFINITY].map(|x| with(x.to_le_bytes())).into(),
                _ => Vec::new(),
            };
            // read as a number of another type of the same size, and missing
            for (at, byte) in [(at, if kind == 4 { 6 } else { 4 }), (at - 1, b'?')] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                spoiled.push(bytes);
            }
            for (i, bytes) in spoiled.iter().enumerate() {
                match outcome(&format!("{name}: {key} {i}"), bytes) {
                    Ok(()) => ran += 1,
                    Err(_) => refused += 1,
                }
            }
        }
    }
    // a window, a base or an epsilon may be another number; a size may not
    assert!(refused > 2 * ran && ran > 20, "{refused} refused, {ran} ran");
}

#[test]
fn keys_that_a_model_cannot_be_without_are_named() {
    for (name, keys) in [
        (
            "llama_yarn",
            &["general.architecture", "llama.block_count", "llama.embedding_length", "llama.context_length"][..],
        ),
        ("llama_llama3", &["llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"]),
        ("gpt2_odd", &["gpt2.attention.layer_norm_epsilon"]),
        ("phi3_longrope", &["phi3.rope.scaling.original_context_length", "phi3.feed_forward_length"]),
    ] {
        for key in keys {
            let mut bytes = read(name);
            let end = after(&bytes, key);
            bytes[end - 1] = b'?';
            let error = outcome(key, &bytes).expect_err(key);
            assert!(error.contains(key), "{key}: {error}");
        }
    }
}

#[test]
fn tensors_of_other_names_types_and_shapes_are_refused() {
    for name in WHOLE {
        let whole = read(name);
        let gguf = Gguf::open(&path_of(name)).unwrap();
        for tensor in gguf.tensors() {
            let end = after(&whole, &tensor.name);
            let mut renamed = whole.clone();
            renamed[end - 1] = b'?';
            // without these it is another model, and nothing says that they should be there
            let others = ["bias", "rope_f", "token_types", "output.weight"];
            let optional = others.iter().any(|other| tensor.name.contains(other));
            if outcome(&format!("{name}: {} renamed", tensor.name), &renamed).is_ok() {
                assert!(optional, "{name} runs without {}", tensor.name);
            }
            // the first dimension, and the type behind the last
            for (at, value) in
                [(end + 4, 2u32), (end + 4 + 8 * tensor.shape.len(), 24), (end + 4 + 8 * tensor.shape.len(), 99)]
            {
                let mut bytes = whole.clone();
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                let ran = outcome(&format!("{name}: {} with {value} at {at}", tensor.name), &bytes);
                assert!(ran.is_err(), "{name} runs with {value} at {at} of {}", tensor.name);
            }
        }
    }
}

#[test]
fn blocks_without_a_finite_scale_are_refused() {
    let name = "llama_256_q4_k";
    let gguf = Gguf::open(&path_of(name)).unwrap();
    for (tensor, at) in [("blk.0.attn_q.weight", 0), ("blk.0.attn_q.weight", 2), ("blk.0.attn_v.weight", 208)] {
        let info = gguf.get(tensor).unwrap();
        for bits in [0x7c00u16, 0xfc00, 0x7e00] {
            let mut bytes = read(name);
            let last = info.offset + info.bytes - u64::from(if at == 208 { 210u16 } else { 144 });
            bytes[last as usize + at..][..2].copy_from_slice(&bits.to_le_bytes());
            let error = outcome(tensor, &bytes).unwrap_err();
            assert!(error.contains(tensor) && error.contains("finite"), "{error}");
        }
    }
}

#[test]
fn other_architectures_and_parts_of_models_are_refused() {
    let mut bytes = read("llama_yarn");
    let at = after(&bytes, "general.architecture") + 4 + 8;
    bytes[at..at + 5].copy_from_slice(b"mamba");
    let error = outcome("another architecture", &bytes).unwrap_err();
    assert!(error.contains("mamba") && error.contains("qwen3"), "{error}");
    let error = Model::load_blocking(&GPU, Path::new("none.gguf"), LoadOptions::default()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("none.gguf"), "{error}");
}
