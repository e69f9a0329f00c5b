//! `thalweg stream`.

use std::fs;

use safetensors::SafeTensors;

use super::{Run, decoder, expected, ints, model, relative_error, run, tensor, texts};

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
        // and the ids; and the logits, where the folder holds a head for masked tokens
        let head = usize::from(["bert_prefixed", "roberta_odd"].contains(&name));
        assert_eq!(found.len(), points(&found).len() + 1 + head, "{name}");
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

fn object(run: &Run) -> serde_json::Value {
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    serde_json::from_str(&run.stdout).expect("JSON")
}

/// The fixed fields, with the embedded model where none is named.
#[test]
fn a_logit_is_taken_apart() {
    let found =
        object(&run(&["stream", "attribute", "--json", "--position", "2", "--target", "40", "--ids", "3 1 4 1"]));
    let number = |key: &str| found[key].as_f64().expect("a number");
    assert_eq!((number("position"), number("target")), (2.0, 40.0));
    assert!(found["against"].is_null());
    let parts = found["parts"].as_array().expect("parts");
    let value = |part: &serde_json::Value| part["value"].as_f64().expect("a number");
    let sum: f64 = parts.iter().map(value).sum();
    assert!((sum - number("sum")).abs() < 1e-9 && (sum - number("logit")).abs() < 1e-4, "{found}");
    let names: Vec<_> = parts.iter().filter_map(|part| part["name"].as_str()).collect();
    assert!(names.starts_with(&["embed", "L0H0", "L0H1"]) && names.contains(&"5_mlp_out"), "{names:?}");
    let less = object(&run(&["stream", "attribute", "--json", "--against", "7", "--target", "40", "--ids", "3 1 4"]));
    assert_eq!(less["against"], 7);
    assert_eq!(less["position"], 2);
    // by their texts
    let text =
        object(&run(&["stream", "attribute", "--json", "--target", " heap", "--against", " being", "The vector is"]));
    assert!(text["target"].is_u64() && text["against"].is_u64() && text["target"] != text["against"], "{text}");
    run(&["stream", "attribute", "--target", "no single token", "A"]).fails(2, &["not one"]);
    let table = run(&["stream", "attribute", "The ownership of a value"]);
    assert!(table.code == 0 && table.stdout.contains("L5H0") && table.stdout.contains("sum"), "{}", table.stdout);
    for wrong in [["--position", "4"], ["--target", "99999999"], ["--against", "99999999"]] {
        let run = run(&[&["stream", "attribute", "--ids", "3 1 4 1"], &wrong[..]].concat());
        assert_eq!((run.code, run.stdout.as_str()), (4, ""), "{wrong:?}: {}", run.stderr);
    }
}

#[test]
fn a_stream_is_measured() {
    let found = object(&run(&["stream", "measure", "--json", "--model", &model("bert_odd"), "--ids", "5 6 7 8 9"]));
    let blocks = found["blocks"].as_array().expect("blocks");
    assert_eq!(found["cka"].as_array().map(Vec::len), Some(blocks.len() + 1));
    let rows = found["rollout"].as_array().expect("rows");
    assert_eq!(rows.len(), 5);
    for row in rows {
        let sum: f64 = row.as_array().expect("a row").iter().filter_map(serde_json::Value::as_f64).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{row}");
    }
    for block in blocks {
        assert!(block["attention"]["norm"].as_f64().is_some_and(|norm| norm > 0.0), "{block}");
        assert!(block["rank_residual"].as_f64().is_some_and(|x| x > 0.0 && x < 2.0), "{block}");
    }
    let table = run(&["stream", "measure", "--model", &model("bert_odd"), "--ids", "5 6 7"]);
    assert_eq!(table.stdout.lines().count(), 2 + blocks.len(), "{}", table.stdout);
}

/// A report of every model: a page, its numbers, its figures; the same bytes again.
#[test]
fn report() {
    for model in [model("bert_odd"), super::decoder("llama_gqa")] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let arguments = ["stream", "report", "--model", &model, "--ids", "3 1 4 1 5"];
        let files = ["--out", &path("a.html"), "--json", &path("a.json"), "--svg", &path("figures")];
        let found = run(&[&arguments[..], &files].concat());
        assert_eq!((found.code, found.stdout.as_str()), (0, ""), "{}", found.stderr);
        assert!(found.stderr.starts_with("wrote 5 tokens ("), "{}", found.stderr);
        let numbers: serde_json::Value =
            serde_json::from_slice(&fs::read(path("a.json")).expect("the numbers")).expect("JSON");
        assert_eq!(numbers["ids"], serde_json::json!([3, 1, 4, 1, 5]));
        assert_eq!(fs::read_dir(path("figures")).expect("the figures").count(), 14);
        let again = run(&[&arguments[..], &["--out", &path("b.html")]].concat());
        assert_eq!(again.code, 0, "{}", again.stderr);
        assert!(fs::read(path("a.html")).expect("a page") == fs::read(path("b.html")).expect("a page"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (ids, out) = (vec!["1"; 257].join(" "), folder.path().join("a.html").to_string_lossy().into_owned());
    let refused = run(&["stream", "report", "--model", &super::decoder("llama_gqa"), "--ids", &ids, "--out", &out]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("at most 256 tokens"), "{}", refused.stderr);
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
    // said before the model is looked for
    let nowhere = "/nosuch/folder/a.html";
    run(&["stream", "report", "--model", "/nosuch/model", "--ids", "1", "--out", nowhere]).fails(4, &[nowhere]);
}

/// The lens as JSON, whose numbers tests/lens.rs compares with Hugging Face's, and as a table.
#[test]
fn lens() {
    let folder = decoder("gemma2_odd");
    let lens = |more: &[&str]| run(&[&["stream", "lens", "--model", &folder], more].concat());
    let ids = ["--ids", "2 10 20 30 40 50 60 70 80"];
    let of = |more: &[&str]| lens(&[&ids[..], more].concat());
    let json = of(&["--json", "--top", "2"]).ok();
    assert!(
        json.stdout.starts_with(r#"{"ids":[2,10,20,30,40,50,60,70,80],"rows":[{"point":"blocks.0.hook_resid_pre","#)
    );
    let json = json.json().remove(0);
    let rows = json["rows"].as_array().expect("rows");
    let points: Vec<_> = rows.iter().map(|row| row["point"].as_str().expect("a name")).collect();
    let pre = [0, 1, 2].map(|l| format!("blocks.{l}.hook_resid_pre"));
    assert_eq!(points, [&pre[0], &pre[1], &pre[2], "blocks.2.hook_resid_post"]);
    for row in rows {
        assert_eq!(row["positions"].as_array().map(Vec::len), Some(9));
        for cell in row["positions"].as_array().expect("positions") {
            let mut keys: Vec<_> = cell.as_object().expect("an object").keys().collect();
            keys.sort();
            assert_eq!(keys, ["entropy", "kl", "rank", "top"]);
            let p = [0, 1].map(|place| cell["top"][place]["p"].as_f64().expect("a probability"));
            assert!(p[0] >= p[1] && p[1] > 0.0 && cell["top"][2].is_null());
            assert!(cell["top"][0]["id"].is_u64() && cell["top"][0]["token"].is_string());
        }
    }
    let last = &rows[3]["positions"][4];
    assert_eq!((last["kl"].as_f64(), last["rank"].as_u64()), (Some(0.0), Some(0)));
    // the rank of another token, by its id and by its text
    let second = last["top"][1]["id"].to_string();
    let aimed = of(&["--json", "--target", &second]).ok().json().remove(0);
    assert_eq!(aimed["rows"][3]["positions"][4]["rank"], 1);
    let by_text = of(&["--json", "--target", "a"]).ok().stdout;
    assert_ne!(by_text, of(&["--json"]).ok().stdout);

    let table = of(&[]).ok().stdout;
    assert_eq!(table.lines().filter(|line| line.starts_with("2 post")).count(), 2, "{table}");
    assert!(!table.contains('\u{1b}') && table.lines().all(|line| line.chars().count() <= 100), "{table}");

    of(&["--target", "281"]).fails(4, &["281", "vocabulary"]);
    of(&["--target", "no token at all"]).fails(2, &["no token at all", "tokens"]);
    assert_eq!(of(&["--top", "65"]).code, 2);
    lens(&["--ids", "2 281"]).fails(4, &["281"]);
}

/// Without a head for masked tokens there are cosines, and the last row is its own.
#[test]
fn lens_of_an_encoder() {
    let lens =
        |name: &str| run(&["stream", "lens", "--model", &model(name), "the river", "--json"]).ok().json().remove(0);
    let cosines = lens("mpnet_odd");
    assert_eq!(cosines["rows"][0]["point"], "blocks.0.hook_resid_pre");
    let last = &cosines["rows"][2];
    assert_eq!(last["point"], "blocks.1.hook_normalized_resid_post");
    for cell in last["positions"].as_array().expect("positions") {
        assert!((cell["cosine"].as_f64().expect("a number") - 1.0).abs() < 1e-6 && cell["top"].is_null());
    }
    assert!(lens("roberta_odd")["rows"][2]["positions"][1]["top"][0]["token"].is_string());
}

/// Parts of points, and what the GPU makes of rows, beside whole points.
#[test]
fn narrowed_points_and_summaries() {
    let name = "bert_odd";
    let ids = ["--ids", "5 3 9 1 7"];
    let (run, whole) = tap(name, &[&ids[..], &["--points", "all,pattern"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let whole = SafeTensors::deserialize(&whole).expect("safetensors");
    let (run, some) = tap(name, &[&ids[..], &["--points", "pattern@1#1:2..4,resid_post@0:3,z@0#0..1"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let found = SafeTensors::deserialize(&some).expect("safetensors");
    let (pattern, post, z) = ("blocks.1.attn.hook_pattern", "blocks.0.hook_resid_post", "blocks.0.attn.hook_z");
    assert_eq!(found.len(), 4);
    let (shape, data) = tensor(&found, pattern);
    assert_eq!((&shape[..], &data[..]), (&[1, 2, 5][..], &tensor(&whole, pattern).1[25 + 10..25 + 20]));
    let ((shape, data), (_, all)) = (tensor(&found, post), tensor(&whole, post));
    let d = all.len() / 5;
    assert_eq!((&shape[..], &data[..]), (&[1, d][..], &all[3 * d..4 * d]));
    let (whole_shape, all) = tensor(&whole, z);
    let (heads, size) = (whole_shape[1], whole_shape[2]);
    let first: Vec<f32> = all.chunks(heads * size).flat_map(|row| &row[..size]).copied().collect();
    assert_eq!(tensor(&found, z), (vec![5, 1, size], first));
    let (_, metadata) = SafeTensors::read_metadata(&some).expect("a header");
    let metadata = metadata.metadata().clone().expect("metadata");
    assert_eq!(metadata[pattern], format!("{pattern}#1..2:2..4"));
    assert_eq!(ints(&found, "ids"), [5, 3, 9, 1, 7]);

    let (run, told) = tap(name, &[&ids[..], &["--points", "pattern@1,resid_post@0:3..5", "--summary", "2"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let told = SafeTensors::deserialize(&told).expect("safetensors");
    assert_eq!(told.len(), 1 + 2 * 4);
    let (_, all) = tensor(&whole, post);
    for (row, own) in all.chunks(d).skip(3).enumerate() {
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by(|&a, &b| own[b].abs().total_cmp(&own[a].abs()));
        let (shape, top) = tensor(&told, &format!("{post}.top"));
        assert_eq!((&shape[..], &top[2 * row..2 * row + 2]), (&[2, 2][..], &[own[order[0]], own[order[1]]][..]));
        assert_eq!(ints(&told, &format!("{post}.top_at"))[2 * row..][..2], [order[0] as i32, order[1] as i32]);
        let norm = own.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((tensor(&told, &format!("{post}.norm")).1[row] / norm - 1.0).abs() < 1e-5);
    }
    // weights of attention sum to 1
    let (shape, means) = tensor(&told, &format!("{pattern}.mean"));
    assert_eq!(shape, [5, tensor(&whole, pattern).0[0]]);
    assert!(means.iter().all(|mean| (mean * 5.0 - 1.0).abs() < 1e-5), "{means:?}");

    for (points, what) in [
        ("pattern@1#9", "has"),
        ("resid_post#0", "has none"),
        ("resid_post:4..4", "no token"),
        ("resid_post:4..9", "the text has 5 tokens"),
        ("z@0..9", "no stream point"),
        ("z:x", "no range"),
    ] {
        let (run, bytes) = tap(name, &[&ids[..], &["--points", points]].concat());
        assert_eq!((run.code, bytes.len()), (4, 0), "{points}: {}", run.stderr);
        assert!(run.stderr.contains(what) && run.stderr.lines().count() == 1, "{points}: {}", run.stderr);
    }
}
