//! Usage, adapters, and models that are missing or damaged.

use std::fs;

use safetensors::SafeTensors;

use super::{model, run};

#[test]
fn help_and_usage() {
    for arguments in [&["--help"][..], &["embed", "--help"], &["search", "--help"], &["stream", "tap", "--help"]] {
        let help = run(arguments).ok();
        assert!(help.stdout.contains("Example:\n  thalweg "), "{}", help.stdout);
    }
    assert!(run(&["--version"]).ok().stdout.starts_with("thalweg "));
    let bert = model("bert_odd");
    let wrong: [&[&str]; 13] = [
        &[],
        &["nosuchcommand"],
        &["embed", "a text"],
        &["embed", "--model", &bert],
        &["embed", "--model", &bert, "a text", "--input", "-"],
        &["embed", "--model", &bert, "a text", "--batch-tokens", "0"],
        &["embed", "--model", &bert, "a text", "--dtype", "f64"],
        &["search", "--model", &bert, "a query"],
        &["search", "--model", &bert, "a query", "README.md", "--top", "0"],
        &["stream", "tap", "--model", &bert, "--points", "all", "--out", "x"],
        &["stream", "tap", "--model", &bert, "a text", "--ids", "1", "--points", "all", "--out", "x"],
        &["stream", "tap", "--model", &bert, "--ids", "1 x", "--points", "all", "--out", "x"],
        &["devices", "--backend", "opencl"],
    ];
    for arguments in wrong {
        let outcome = run(arguments);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{arguments:?}: {}", outcome.stderr);
    }
}

#[test]
fn devices() {
    let listed = run(&["devices", "--json"]).ok().json().remove(0);
    let adapters = listed["adapters"].as_array().expect("a list");
    for (index, adapter) in adapters.iter().enumerate() {
        assert_eq!(adapter["index"], index);
        for key in ["name", "backend", "kind", "driver"] {
            assert!(adapter[key].is_string(), "{key}: {adapter}");
        }
        if adapter["usable"] == true {
            assert!(adapter["limits"]["max_storage_buffer_binding_size"].as_u64() >= Some(128 << 20), "{adapter}");
            assert!(adapter["f16"].is_boolean() && adapter["timestamps"].is_boolean(), "{adapter}");
        }
    }
    let table = run(&["devices"]).ok().stdout;
    assert_eq!(table.lines().count(), 1 + adapters.len(), "{table}");
    assert!(table.starts_with("#  NAME"), "{table}");
    let first = run(&["devices", "--json", "--adapter", "0"]).ok().json().remove(0);
    assert_eq!(first["adapters"].as_array().map(Vec::len), Some(1));
}

#[test]
fn no_adapter() {
    run(&["devices", "--adapter", "nosuchname"]).fails(3, &["nosuchname"]);
    run(&["devices", "--adapter", "99"]).fails(3, &["99"]);
    run(&["embed", "--model", &model("bert_odd"), "a text", "--adapter", "nosuchname"]).fails(3, &["nosuchname"]);
}

#[test]
fn missing_model() {
    run(&["embed", "--model", "/nosuch/model", "a text"]).fails(4, &["/nosuch/model"]);
    run(&["search", "--model", "nosuchmodel", "a query", "Cargo.toml"]).fails(4, &["nosuchmodel"]);
}

/// A copy of a fixture whose file of weights was changed.
fn damaged(change: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        fs::copy(format!("{}/{name}", model("bert_odd")), copy.path().join(name)).expect("a copy");
    }
    let weights = copy.path().join("model.safetensors");
    let mut bytes = fs::read(&weights).expect("the weights");
    change(&mut bytes);
    fs::write(weights, bytes).expect("the damaged weights");
    copy
}

#[test]
fn damaged_models() {
    let embed = |copy: &tempfile::TempDir| run(&["embed", "--model", &copy.path().to_string_lossy(), "a text"]);
    // as downloads end that were cut off: within the last tensor
    let cut = damaged(|bytes| bytes.truncate(bytes.len() - 10));
    embed(&cut).fails(4, &["model.safetensors: ", "tensor `"]);
    let tensor = "embeddings.LayerNorm.weight";
    let not_a_number = damaged(|bytes| {
        let (header, metadata) = SafeTensors::read_metadata(bytes).expect("safetensors");
        let start = 8 + header + metadata.info(tensor).expect("the tensor is there").data_offsets.0;
        bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    embed(&not_a_number).fails(4, &["model.safetensors: tensor `", tensor, "NaN at index 0"]);
    embed(&damaged(Vec::clear)).fails(4, &["model.safetensors: "]);
}
