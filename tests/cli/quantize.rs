//! `thalweg quantize`.

use thalweg::files::{GgmlType, Gguf};

use super::{decoder, model, run};

#[test]
fn writes_a_file_and_says_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.gguf");
    let path = out.to_str().unwrap();
    std::fs::write(&out, "what was there").unwrap();
    let done = run(&["quantize", "--model", &decoder("qwen3_norm"), "--to", "q8_0", path]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert!(done.stdout.starts_with(&format!("{path}: 24 tensors (15 F16, 9 F32), ")), "{}", done.stdout);
    let gguf = Gguf::open(&out).unwrap();
    assert_eq!(gguf.get("token_embd.weight").unwrap().ggml_type, GgmlType::F16);
}

#[test]
fn what_cannot_be_written_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.gguf");
    let path = out.to_str().unwrap();
    let refused = run(&["quantize", "--model", &model("mpnet_odd"), "--to", "f16", path]);
    assert_eq!((refused.code, refused.stdout.as_str()), (4, ""));
    assert!(refused.stderr.contains("\"mpnet\" in a GGUF file"), "{}", refused.stderr);
    let missing = run(&["quantize", "--model", "no/such/model", "--to", "f16", path]);
    assert_eq!(missing.code, 4);
    let wrong = run(&["quantize", "--model", &decoder("qwen3_norm"), "--to", "q3_k", path]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("none of q8_0, q4_0, f16, f32"), "{}", wrong.stderr);
    assert!(!out.exists());
}
