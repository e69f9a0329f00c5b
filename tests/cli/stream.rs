//! `thalweg stream`.

use std::fs;

use safetensors::SafeTensors;

use super::{Run, expected, ints, model, relative_error, run, tensor, texts};

const MODELS: [&str; 9] = [
    "bert_odd",
    "bert_prefixed",
    "bert_bf16_sharded",
    "roberta_odd",
    "xlmr_odd",
    "distilbert_odd",
    "mpnet_odd",
    "bert_wide_heads",
    "bert_head_151",
];

/// Taps into a file of a folder that lives until the test has looked at it.
fn tap(name: &str, more: &[&str]) -> (Run, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out.safetensors");
    let (model, path) = (model(name), out.to_string_lossy().into_owned());
    let run = run(&[&["stream", "tap", "--model", &model, "--out", &path], more].concat());
    let left = fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, usize::from(out.exists()), "a temporary file was left");
    (run, fs::read(out).unwrap_or_default())
}

/// Every point of every family is what Hugging Face computes.
#[test]
fn all_points() {
    for name in MODELS {
        let (text, expected) = (texts(name), expected(name));
        let text = text["stream_text"].as_u64().and_then(|i| text["texts"][i as usize].as_str()).expect("a text");
        // the fixture's text has the model's default prompt in front; a tapped text is taken as it is
        let text = if name == "roberta_odd" { format!("passage: {text}") } else { text.into() };
        let expected = SafeTensors::deserialize(&expected).expect("safetensors");
        let (run, bytes) = tap(name, &["--points", "all,pattern", "--", &text]);
        assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{name}: {}", run.stderr);
        assert!(run.stderr.starts_with("wrote "), "{}", run.stderr);
        let found = SafeTensors::deserialize(&bytes).expect("safetensors");
        let points = |file: &SafeTensors| {
            let mut names: Vec<String> = file.names().iter().map(ToString::to_string).collect();
            names.retain(|name| name.contains("hook_"));
            names.sort();
            names
        };
        assert_eq!(points(&found), points(&expected), "{name}");
        assert_eq!(found.len(), points(&found).len() + 1, "{name}");
        assert_eq!(ints(&found, "ids"), ints(&expected, "ids"), "{name}");
        for point in points(&found) {
            let ((shape, data), (expected_shape, expected)) = (tensor(&found, &point), tensor(&expected, &point));
            assert_eq!(shape, expected_shape, "{name} {point}");
            let error = relative_error(&data, &expected);
            assert!(error <= 2e-5, "{name} {point}: {error:e}");
        }
    }
}

#[test]
fn ids_are_taken_as_they_are() {
    let bytes = expected("bert_odd");
    let ids = ints(&SafeTensors::deserialize(&bytes).expect("safetensors"), "ids");
    let list: Vec<_> = ids.iter().map(ToString::to_string).collect();
    let (run, by_spaces) = tap("bert_odd", &["--ids", &list.join(" "), "--points", "h@1,t1@0"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let (_, by_commas) = tap("bert_odd", &["--ids", &list.join(", "), "--points", "h@1,t1@0"]);
    assert_eq!(by_spaces, by_commas);
    let found = SafeTensors::deserialize(&by_spaces).expect("safetensors");
    assert_eq!(ints(&found, "ids"), ids);
    let mut names = found.names();
    names.sort();
    assert_eq!(names, ["blocks.0.hook_attn_out", "blocks.1.hook_normalized_resid_post", "ids"]);

    tap("bert_odd", &["--ids", &"5 ".repeat(5000), "--points", "all"]).0.fails(4, &["5000 token ids"]);
    tap("bert_odd", &["--ids", "", "--points", "all"]).0.fails(4, &["0 token ids"]);
    tap("bert_odd", &["--ids", "4000000000", "--points", "all"]).0.fails(4, &["4000000000", "vocabulary"]);
}

#[test]
fn long_text_and_wrong_points() {
    let (run, bytes) = tap("bert_odd", &["--points", "hook_embed", &"river ".repeat(500)]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.starts_with("warning: the text has "), "{}", run.stderr);
    assert_eq!(ints(&SafeTensors::deserialize(&bytes).expect("safetensors"), "ids").len(), 24);

    tap("bert_odd", &["a text", "--points", "t9"]).0.fails(4, &["t9", "resid_post"]);
    tap("bert_odd", &["a text", "--points", "resid_post@2"]).0.fails(4, &["resid_post@2", "2 blocks"]);
    let bert = model("bert_odd");
    let out = ["--points", "h", "--out", "/nosuch/folder/out.safetensors"];
    super::run(&[&["stream", "tap", "--model", &bert, "a text"], &out[..]].concat())
        .fails(4, &["/nosuch/folder/out.safetensors"]);
}
