//! `thalweg embed`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use safetensors::SafeTensors;

use super::{Run, expected, model, relative_error, run, run_with, tensor, texts, thalweg, vector};

/// Embeds what stands on standard input.
fn piped(input: impl AsRef<[u8]>) -> Run {
    run_with(&["embed", "--model", &model("bert_odd"), "--input", "-"], input.as_ref())
}

/// Embeds texts that are arguments; the lines without their index.
fn arguments(texts: &[&str]) -> Vec<String> {
    let bert = model("bert_odd");
    let all = run(&[&["embed", "--model", &bert, "--"], texts].concat()).ok();
    all.stdout.lines().map(without_index).collect()
}

fn without_index(line: &str) -> String {
    line.split_once(',').expect("a line with an index").1.into()
}

#[test]
fn what_sentence_transformers_says() {
    for name in ["bert_odd", "roberta_odd"] {
        let (texts, expected) = (texts(name), expected(name));
        let expected = SafeTensors::deserialize(&expected).expect("safetensors");
        let texts: Vec<&str> = texts["texts"].as_array().expect("texts").iter().filter_map(|t| t.as_str()).collect();
        let model = model(name);
        let embed = |more: &[&str]| run(&[&["embed", "--model", &model], more, &["--"], &texts].concat());
        let check = |run: Run, part: &str| {
            assert_eq!(run.code, 0, "{}", run.stderr);
            assert_eq!(run.json().len(), texts.len());
            for (i, line) in run.json().iter().enumerate() {
                let (ids, vector_) = (format!("text.{i}{part}.ids"), format!("text.{i}{part}.embedding"));
                assert_eq!(line["index"], i);
                assert_eq!(line["tokens"], expected.tensor(&ids).expect("ids").shape()[0]);
                let error = relative_error(&vector(&line["embedding"]), &tensor(&expected, &vector_).1);
                assert!(error < 2e-5, "{name} {i}{part}: {error:e}");
            }
        };
        check(embed(&[]), "");
        check(embed(&["--batch-tokens", "1"]), "");
        if name == "roberta_odd" {
            check(embed(&["--prompt", "query"]), ".prompt.query");
        }
    }
    let (bert, prompt) = (model("bert_odd"), ["--prompt", "nosuchprompt"]);
    run(&["embed", "--model", &bert, "a text", prompt[0], prompt[1]]).fails(4, &["nosuchprompt", "query"]);
}

#[test]
fn lengths() {
    let bert = model("bert_odd");
    let length = |more: &[&str]| {
        let line = run(&[&["embed", "--model", &bert, "the river"], more].concat()).ok().json().remove(0);
        vector(&line["embedding"]).iter().map(|x| x * x).sum::<f32>().sqrt()
    };
    assert!((length(&[]) - 1.0).abs() < 1e-6);
    assert!((length(&["--no-normalize"]) - 1.0).abs() > 1e-3);
}

#[test]
fn lines() {
    let (a, b, empty) = ("the river", "a stone", "");
    let all = arguments(&[a, b, empty]);
    let cases: [(&str, &[usize]); 9] = [
        ("", &[]),
        ("\n", &[2]),
        ("the river", &[0]),
        ("the river\n", &[0]),
        ("the river\na stone", &[0, 1]),
        ("the river\r\na stone\r\n", &[0, 1]),
        ("\n\nthe river\n\n", &[2, 2, 0, 2]),
        ("\r\nthe river\r\n", &[2, 0]),
        ("\u{feff}the river\n", &[0]),
    ];
    for (input, wanted) in cases {
        let found = piped(input).ok();
        let lines: Vec<_> = found.stdout.lines().map(without_index).collect();
        assert_eq!(lines, wanted.iter().map(|&i| all[i].clone()).collect::<Vec<_>>(), "{input:?}");
        for (i, line) in found.json().iter().enumerate() {
            assert_eq!(line["index"], i, "{input:?}");
        }
    }
}

#[test]
fn a_line_of_a_megabyte() {
    let mut input = "the river ".repeat(100_000);
    input.push_str("\nthe river\n");
    let found = piped(&input);
    assert_eq!(found.code, 0, "{}", found.stderr);
    let warning = "warning: 1 of 2 inputs had more than 24 tokens";
    assert!(found.stderr.starts_with(warning) && found.stderr.lines().count() == 1, "{}", found.stderr);
    let lines = found.json();
    assert_eq!(lines[0]["tokens"], 24);
    assert!(lines[0]["truncated_from"].as_u64() > Some(100_000), "{}", lines[0]);
    assert!(lines[1].get("truncated_from").is_none(), "{}", lines[1]);
}

#[test]
fn text_that_is_none() {
    piped(b"fine\nnot \xff text\n").fails(4, &["standard input: line 2", "UTF-8"]);
    let bert = model("bert_odd");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("a file");
        run(&["embed", "--model", &bert, "--input", &path.to_string_lossy()])
    };
    file("a.txt", b"\xff").fails(4, &["a.txt: line 1", "UTF-8"]);
    let good = file("a.jsonl", b"{\"text\": \"the river\", \"id\": 7}\r\n{\"text\": \"\"}").ok();
    let found: Vec<_> = good.stdout.lines().map(without_index).collect();
    assert_eq!(found, arguments(&["the river", ""]));
    for bad in
        ["{\"text\": 7}", "{\"txt\": \"a\"}", "[\"a\"]", "the river", "", "{\"text\": \"a\"} b", "{\"text\": \"a"]
    {
        let content = format!("{{\"text\": \"fine\"}}\n{bad}\n");
        file("b.jsonl", content.as_bytes()).fails(4, &["b.jsonl: line 2: expected a JSON object with a \"text\""]);
    }
    run(&["embed", "--model", &bert, "--input", "/nosuch/file"]).fails(4, &["/nosuch/file"]);
    run(&["embed", "--model", &bert, "--input", &folder.path().to_string_lossy()]).fails(4, &[]);
}

/// Thousands of lines come out in order, each with the bits that it has alone.
#[test]
fn many_lines() {
    let words = ["river", "stone", "boat", "rain", "the deep channel of the valley", ""];
    let input: Vec<String> = (0..3000).map(|i| format!("{} {}", words[i % 6], words[i / 7 % 6])).collect();
    let found = piped(input.join("\n")).ok();
    let lines: Vec<_> = found.stdout.lines().collect();
    assert_eq!(lines.len(), input.len());
    let picked = [0, 1, 1023, 1024, 1025, 2999];
    let alone = arguments(&picked.map(|i| input[i].as_str()));
    for (i, alone) in picked.into_iter().zip(alone) {
        assert_eq!(lines[i], format!("{{\"index\":{i},{alone}"));
    }
}

/// A reader that has seen enough is no error.
#[test]
fn closed_pipe() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lines.txt");
    fs::write(&path, "the river\n".repeat(4000)).expect("a file");
    let mut child = thalweg(&["embed", "--model", &model("bert_odd"), "--input", &path.to_string_lossy()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut line).expect("a line");
    assert!(line.starts_with("{\"index\":0,"), "{line}");
    drop(stdout);
    let run = Run::from(child.wait_with_output().expect("the binary ends"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}
