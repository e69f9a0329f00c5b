//! `thalweg bench`: its forms, what it compares, and its exit codes. Nothing here depends on how fast anything is.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::run;

/// Two results that take little time.
const SOME: &[&str] = &["bench", "--filter", "gate"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SOME.iter().copied().chain(more.iter().copied()).collect()
}

fn report(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a report")).expect("JSON")
}

fn rate(value: &Value) -> bool {
    value.as_f64().is_some_and(|rate| rate > 0.0 && rate.is_finite())
}

/// The schema that others script against, and that a comparison finds what became slower.
#[test]
fn a_report_and_its_comparisons() {
    let folder = tempfile::tempdir().expect("a folder");
    let [out, doctored, plot] = ["now.json", "old.json", "plot.svg"].map(|name| folder.path().join(name));
    let [out_name, doctored_name, plot_name] = [&out, &doctored, &plot].map(|path| path.to_str().expect("UTF-8"));
    let table = run(&with(&["--out", out_name, "--plot", plot_name])).ok().stdout;
    for part in ["| ceiling | value |", "| copy, vec4 |", "| cooperative matrices | n/a |", "| gate | 128 × 1536 |"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(fs::read_to_string(&plot).expect("a plot").starts_with("<svg "));

    let mut now = report(&out);
    assert_eq!((&now["schema"], &now["suite"]), (&1.into(), &"quick".into()));
    assert!(now["version"].is_string() && now["adapter"]["name"].is_string(), "{now}");
    for name in ["copy", "fma_f32", "dispatch", "submission", "upload", "readback"] {
        let ceiling = &now["ceilings"][name];
        assert!(rate(&ceiling["value"]) && ceiling["samples"].as_array().expect("a list").len() >= 5, "{name}: {now}");
    }
    assert!(now["ceilings"]["cooperative_matrix"]["value"].is_null());
    let results = now["results"].as_array().expect("a list");
    assert!(!results.is_empty());
    for result in results {
        assert_eq!((&result["name"], &result["shape"]), (&"gate".into(), &serde_json::json!([128, 1536])), "{result}");
        assert_eq!(
            (&result["dtype"], &result["unit"], &result["checked"]),
            (&"f32".into(), &"GB/s".into(), &true.into())
        );
        let samples = result["samples"].as_array().expect("a list");
        assert!(samples.len() >= 5 && samples.iter().all(rate), "{result}");
        assert!(rate(&result["value"]) && rate(&result["median"]) && rate(&result["wall"]), "{result}");
        assert!(result["spread"].is_number() && rate(&result["of_ceiling"]) && result["error"].is_number(), "{result}");
        assert!(result["variant"].as_str().expect("a label").starts_with("gate["), "{result}");
    }

    // an old run that was slower is no reason to fail, one that was much faster is
    for (times, code) in [(1e-6, 0), (1e6, 1)] {
        let result = &mut now["results"][0];
        result["value"] = (result["median"].as_f64().expect("a rate") * times).into();
        fs::write(&doctored, now.to_string()).expect("a file");
        let outcome = run(&with(&["--compare", doctored_name, "--threshold", "0.5"]));
        assert_eq!(outcome.code, code, "{}", outcome.stderr);
        assert!(outcome.stdout.contains("| gate [128, 1536], gate[silu], f32 |"), "{}", outcome.stdout);
        assert_eq!(outcome.stdout.contains(" slower |"), code == 1, "{}", outcome.stdout);
    }
}

#[test]
fn forms_for_programs() {
    let json = run(&with(&["--format", "json"])).ok().stdout;
    let value: Value = serde_json::from_str(&json).expect("one object");
    assert_eq!(value["schema"], 1);
    let csv = run(&with(&["--format", "csv", "--seed", "9"])).ok().stdout;
    let lines: Vec<_> = csv.lines().collect();
    assert!(lines[0].starts_with("name,shape,variant,dtype,unit,value,median,spread,of_ceiling,"), "{csv}");
    assert!(lines.len() == 2 && lines[1].starts_with("gate,128x1536,gate[silu],f32,GB/s,"), "{csv}");
}

#[test]
fn exit_codes() {
    run(&with(&["--adapter", "nosuchname"])).fails(3, &["nosuchname"]);
    run(&with(&["--compare", "/nosuch/old.json"])).fails(4, &["/nosuch/old.json"]);
    run(&with(&["--out", "/nosuch/folder/new.json"])).fails(4, &["/nosuch/folder/new.json"]);
    run(&with(&["--model", "/nosuch/model"])).fails(4, &["/nosuch/model"]);
    for usage in [["--suite", "none"], ["--format", "xml"], ["--threshold", "0.5"]] {
        assert_eq!(run(&with(&usage)).code, 2, "{usage:?}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let old = folder.path().join("old.json");
    for (text, what) in
        [("{", "not a report"), (r#"{"schema":2,"adapter":{"name":"","backend":""},"results":[]}"#, "schema 2")]
    {
        fs::write(&old, text).expect("a file");
        run(&with(&["--compare", old.to_str().expect("UTF-8")])).fails(4, &["old.json", what]);
    }
}

/// What a kernel leaves for the next one to finish, as a step's attention does, is right as it is: each kernel that models of
/// this suite run is measured, and the exit code is 0.
#[test]
fn every_kernel_is_right() {
    let mut names = HashSet::new();
    // one or the other is in each kernel's label, as in `kv_store` and `gate[silu]`, and in no model's name
    for filter in ["[", "_"] {
        let json = run(&["bench", "--filter", filter, "--format", "json"]).ok().stdout;
        let value: Value = serde_json::from_str(&json).expect("one object");
        assert_eq!(value["wrong"], serde_json::json!([]), "{value}");
        let results = value["results"].as_array().expect("a list");
        names.extend(results.iter().map(|result| result["name"].as_str().expect("a name").to_string()));
    }
    for name in ["matmul", "matvec", "attention", "attention_split", "layer_norm", "rms_norm", "kv_store", "gate"] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
}

/// A model of one's own, and what it takes to start it.
#[test]
fn a_model_that_is_named() {
    let model = super::decoder("llama_gqa");
    let name = Path::new(&model).file_name().and_then(|name| name.to_str()).expect("a name").to_string();
    let json = run(&["bench", "--filter", &name, "--model", &model, "--format", "json"]).ok().stdout;
    let value: Value = serde_json::from_str(&json).expect("one object");
    let results = value["results"].as_array().expect("a list");
    let names: Vec<_> = results.iter().map(|result| result["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["pp64", "tg16", "pp64 @ d64", "tg16 @ d64"], "{value}");
    for result in results {
        assert_eq!((&result["variant"], &result["unit"]), (&name.clone().into(), &"tokens/s".into()), "{result}");
        assert!(rate(&result["value"]) && result["checked"] == true && result["gpu"].is_null(), "{result}");
    }
    let starts = value["starts"].as_array().expect("a list");
    let caches: Vec<_> = starts.iter().map(|start| start["pipeline_cache"].as_str().expect("a name")).collect();
    assert_eq!(caches, ["empty", "warm"]);
    assert!(starts.iter().all(|start| rate(&start["load_s"]) && rate(&start["first_s"]) && rate(&start["gpu_bytes"])));
}

/// A whole encoder is verified before it is timed, and is right.
#[test]
fn an_encoder_is_measured() {
    let table = run(&["bench", "--filter", "MiniLM"]).ok().stdout;
    assert!(table.contains("tokens/s") && table.contains("latency") && !table.contains("WRONG"), "{table}");
}
