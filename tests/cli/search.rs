//! `thalweg search`.

use std::fs;

use super::{model, run, run_with};

#[test]
fn nearest_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    fs::write(path("a.txt"), "cold stones\n\n   \r\nthe deep river\r\n").expect("a file");
    fs::write(path("b.txt"), "a boat\nthe deep river\nrain").expect("a file");
    let (bert, a, b) = (model("bert_odd"), path("a.txt"), path("b.txt"));
    let search = |more: &[&str]| run(&[&["search", "--model", &bert, "the deep river", &a, &b], more].concat());

    let found = search(&["--json", "--top", "9"]).ok().json().remove(0);
    assert_eq!(found["query"], "the deep river");
    let results = found["results"].as_array().expect("a list");
    assert_eq!(results.len(), 5, "blank lines are left out: {found}");
    let scores: Vec<f64> = results.iter().filter_map(|hit| hit["score"].as_f64()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert!((scores[0] - 1.0).abs() < 1e-6 && scores[2] < 0.9999, "{scores:?}");
    // of equals, the one that comes first
    let place = |i: usize| (results[i]["file"].as_str().unwrap_or_default(), results[i]["line"].as_u64());
    assert_eq!([place(0), place(1)], [(a.as_str(), Some(4)), (b.as_str(), Some(2))]);
    assert_eq!(results[0]["text"], "the deep river");

    let text = search(&["--top", "2"]).ok().stdout;
    assert_eq!(text, format!("1.0000  {a}:4  the deep river\n1.0000  {b}:2  the deep river\n"));
}

#[test]
fn odd_files() {
    let bert = model("bert_odd");
    let search = |input: &[u8], more: &[&str]| {
        run_with(&[&["search", "--model", &bert, "the river", "-"], more].concat(), input)
    };
    assert_eq!(search(b"", &[]).ok().stdout, "");
    assert_eq!(search(b"\n\n", &["--json"]).ok().json()[0]["results"], serde_json::json!([]));
    search(b"fine\n\xff\n", &[]).fails(4, &["standard input: line 2", "UTF-8"]);
    run(&["search", "--model", &bert, "the river", "/nosuch/file"]).fails(4, &["/nosuch/file"]);
}

/// The query and the lines each get the model's own prompt.
#[test]
fn prompts() {
    let roberta = model("roberta_odd");
    let embed = |prompt: &str, text: &str| {
        let line = run(&["embed", "--model", &roberta, "--prompt", prompt, text]).ok().json().remove(0);
        super::vector(&line["embedding"])
    };
    let (query, line) = (embed("query", "the river"), embed("document", "a stone"));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let cosine = dot(&query, &line) / (dot(&query, &query) * dot(&line, &line)).sqrt();
    let found = run_with(&["search", "--model", &roberta, "the river", "-", "--json"], b"a stone\n").ok();
    let score = found.json()[0]["results"][0]["score"].as_f64().expect("a score");
    assert!((score - cosine).abs() < 1e-6, "{score} {cosine}");
}
