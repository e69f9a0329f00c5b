//! `thalweg check`: what it prints and writes, and its exit codes.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::run;

/// A part of the inventory that takes no time.
const SOME: &[&str] = &["check", "--filter", "residual_add", "--seed", "5"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SOME.iter().copied().chain(more.iter().copied()).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a report")
}

#[test]
fn a_table_by_default() {
    let table = run(SOME).ok().stdout;
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("KERNEL ")), "{table}");
    assert!(lines.iter().any(|line| line.starts_with("residual_add ")), "{table}");
    let last = lines.last().expect("lines");
    assert!(last.contains("checks: ") && last.contains(" passed; seed 5"), "{table}");
}

#[test]
fn the_list_needs_no_adapter_and_chooses() {
    let all = run(&["check", "--list"]).ok().stdout;
    let names: Vec<_> = all.lines().collect();
    assert!(names.len() > 2000, "{}", names.len());
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), names.len(), "names are unique");
    let full = run(&["check", "--list", "--full"]).ok().stdout;
    assert!(full.lines().count() > names.len());
    let some = run(&["check", "--list", "--filter", "softmax[workgroup] 7 rows"]).ok().stdout;
    assert!(some.lines().count() > 2 && some.lines().all(|name| name.contains("softmax[workgroup] 7 rows")), "{some}");
    // a whole name is that check alone, also one that is a part of others
    let one = "softmax[workgroup] 7 rows of 1, 0 ± 30";
    assert_eq!(run(&["check", "--list", "--filter", one]).ok().stdout.trim(), one);
    let nowhere = run(&["check", "--list", "--adapter", "nosuchname", "--filter", "gate["]).ok().stdout;
    assert!(nowhere.lines().count() > 10);
}

#[test]
fn exit_codes() {
    run(&["check", "--adapter", "nosuchname", "--filter", "gate["]).fails(3, &["nosuchname"]);
    run(&["check", "--adapter", "nosuchname", "--require-adapter"]).fails(3, &["nosuchname"]);
    run(&["check", "--filter", "nosuchcheck"]).fails(2, &["nosuchcheck", "--list"]);
    run(&with(&["--report", "report.txt"])).fails(2, &["report.txt", ".xml, .json, .tap"]);
    run(&with(&["--expect", "/nosuch/file.json"])).fails(4, &["/nosuch/file.json"]);
    // before anything else is done
    let nowhere = "/nosuch/folder/report.json";
    run(&["check", "--adapter", "nosuchname", "--report", nowhere]).fails(4, &[nowhere]);
    assert_eq!(run(&with(&["--seed", "x"])).code, 2);
    assert!(run(&with(&["--require-adapter"])).code == 0);
}

#[test]
fn reports_in_every_form() {
    let folder = tempfile::tempdir().expect("a folder");
    let [json, xml, tap] = ["report.json", "report.xml", "report.tap"].map(|name| folder.path().join(name));
    let paths = [&json, &xml, &tap].map(|path| path.to_str().expect("UTF-8"));
    run(&with(&["--report", paths[0], "--report", paths[1], "--report", paths[2]])).ok();

    let report: Value = serde_json::from_str(&read(&json)).expect("JSON");
    assert_eq!(report["schema"], 1);
    let adapters = report["adapters"].as_array().expect("a list");
    assert_eq!(adapters.len(), 1);
    let cases = report["cases"].as_array().expect("a list");
    assert!(cases.len() > 5);
    for case in cases {
        assert_eq!(case["adapter"], adapters[0]["id"], "{case}");
        assert_eq!((&case["kernel"], &case["seed"]), (&"residual_add".into(), &5.into()), "{case}");
        assert_eq!(case["status"], "pass", "{case}");
        assert!(case["reason"].is_null() && case["ms"].is_number() && case["tolerance"].is_number(), "{case}");
        assert!(case["name"].is_string() && case["variant"].is_string() && case["error"].is_number(), "{case}");
    }

    let tap = read(&tap);
    assert!(tap.starts_with(&format!("TAP version 14\n1..{}\nok 1 - ", cases.len())), "{tap}");
    assert!(!tap.contains("not ok"));

    // what CI systems do with it, by another reader than ours
    let script = "import sys, xml.etree.ElementTree as tree\n\
        root = tree.parse(sys.argv[1]).getroot()\n\
        cases = [c for s in root.findall('testsuite') for c in s.findall('testcase')]\n\
        assert root.tag == 'testsuites' and all(c.get('name') and c.get('classname') for c in cases)\n\
        print(len(cases), root.get('tests'), root.get('failures'))";
    let Ok(python) = Command::new("python3").args(["-c", script, paths[1]]).output() else {
        println!("skipped: no python3");
        return;
    };
    let told = String::from_utf8_lossy(&python.stdout).trim().to_string();
    assert_eq!(told, format!("{0} {0} 0", cases.len()), "{}", String::from_utf8_lossy(&python.stderr));
}

#[test]
fn the_same_seed_gives_the_same_errors_whatever_else_is_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let errors = |filter: &str| -> Vec<(String, Value)> {
        let path = folder.path().join("report.json");
        let report = path.to_str().expect("UTF-8");
        run(&["check", "--seed", "11", "--filter", filter, "--report", report]).ok();
        let report: Value = serde_json::from_str(&read(&path)).expect("JSON");
        let cases = report["cases"].as_array().expect("a list").iter();
        cases.map(|case| (case["name"].as_str().expect("a name").into(), case["error"].clone())).collect()
    };
    let some = errors("soft_cap 7 rows");
    assert!(some.len() > 1);
    assert_eq!(errors(&some[1].0), [some[1].clone()]);
}

#[test]
fn an_expected_failure_that_passes_fails_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let known = folder.path().join("known.json");
    let write = |text: &str| fs::write(&known, text).expect("a file");
    let known = known.to_str().expect("UTF-8");
    write(r#"[{"check": "7 rows of 384", "reason": "it is said to be wrong", "link": "https://example.org/1"}]"#);
    let outcome = run(&with(&["--expect", known]));
    assert_eq!(outcome.code, 1, "{}", outcome.stdout);
    assert!(outcome.stderr.starts_with("error: 1 of "), "{}", outcome.stderr);
    for part in ["XPASS residual_add 7 rows of 384", "it is said to be wrong (https://example.org/1)", "again: "] {
        assert!(outcome.stdout.contains(part), "{part}: {}", outcome.stdout);
    }
    // the command that repeats it is one
    let again = outcome.stdout.lines().find_map(|line| line.trim().strip_prefix("again: thalweg ")).expect("a command");
    assert_eq!(again, "check --seed 5 --filter 'residual_add 7 rows of 384'");

    // of another adapter's failures this one knows nothing
    write(r#"[{"adapter": "nosuchname", "check": "", "reason": "elsewhere", "link": "https://example.org/2"}]"#);
    run(&with(&["--expect", known])).ok();
    write(r#"[{"check": 1}]"#);
    run(&with(&["--expect", known])).fails(4, &["known.json"]);
}

/// Every adapter of every backend that is there, or a reason for each that is not usable.
#[test]
fn all_adapters() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("report.json");
    run(&with(&["--adapter", "all", "--report", path.to_str().expect("UTF-8")])).ok();
    let report: Value = serde_json::from_str(&read(&path)).expect("JSON");
    let listed = run(&["devices", "--json"]).ok().json().remove(0);
    let (found, listed) = (report["adapters"].as_array(), listed["adapters"].as_array());
    let (found, listed) = (found.expect("a list"), listed.expect("a list"));
    assert_eq!(found.len(), listed.len());
    for (found, listed) in found.iter().zip(listed) {
        for key in ["index", "name", "backend", "usable"] {
            assert_eq!(found[key], listed[key], "{key}");
        }
        let own = report["cases"].as_array().expect("a list").iter().filter(|case| case["adapter"] == found["id"]);
        assert_eq!(own.count() > 0, found["usable"] == true, "{found}");
    }
}

#[test]
fn vectors_of_a_folder_and_nothing_else() {
    let vectors = ["check", "--vectors", "tests/fixtures/onnx"];
    let with = |more: &[&str]| run(&vectors.iter().chain(more).copied().collect::<Vec<_>>());
    let table = with(&["--filter", "add_"]).ok().stdout;
    assert!(table.contains("skipped 1 on ") && table.contains("in.0 is I16: kernels take"), "{table}");
    assert!(table.lines().last().expect("lines").contains("1 passed, 6 skipped"), "{table}");
    assert_eq!(with(&["--list"]).ok().stdout.lines().count(), 166);
    assert_eq!(with(&["--full"]).code, 2);
    run(&["check", "--vectors", "/nosuch/folder"]).fails(4, &["/nosuch/folder"]);
    run(&["check", "--vectors", "src"]).fails(4, &["src", "no .safetensors file"]);

    // an output that is wrong: the last byte is the highest of a float
    let folder = tempfile::tempdir().expect("a folder");
    let mut bytes = fs::read("tests/fixtures/onnx/swish.safetensors").expect("a vector");
    *bytes.last_mut().expect("bytes") ^= 0x80;
    fs::write(folder.path().join("swish.safetensors"), bytes).expect("written");
    let outcome = run(&["check", "--vectors", folder.path().to_str().expect("UTF-8")]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("FAIL swish") && outcome.stdout.contains("--vectors '"), "{}", outcome.stdout);
}
