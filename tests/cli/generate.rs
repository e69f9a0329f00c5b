//! `thalweg generate`, and what `devices --model` and `stream tap` say of language models.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde_json::Value;

use super::{decoder, ints, model, relative_error, run, tensor, thalweg};

struct Fixture {
    model: String,
    prompt: String,
    ids: String,
    greedy: Vec<u64>,
    text: String,
    eos_at: Option<usize>,
    bytes: Vec<u8>,
}

fn fixture(name: &str) -> Fixture {
    let model = decoder(name);
    let bytes = std::fs::read(format!("{model}/expected.safetensors")).expect("the fixture");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("safetensors");
    let metadata = header.metadata().clone().expect("metadata");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let ids: Vec<String> = ints(&file, "ids").iter().map(ToString::to_string).collect();
    let greedy = ints(&file, "greedy").iter().map(|&id| id as u64).collect();
    Fixture {
        model,
        prompt: metadata["prompt"].clone(),
        ids: ids.join(" "),
        greedy,
        text: metadata["greedy_text"].clone(),
        eos_at: metadata["greedy_eos_at"].parse().ok(),
        bytes: bytes.clone(),
    }
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id")).collect()
}

#[test]
fn greedy_tokens_are_hugging_faces() {
    for name in ["gpt2_odd", "llama_gqa", "gemma3_odd", "mistral_window", "qwen2_bias", "phi3_longrope"] {
        let f = fixture(name);
        let greedy = ["generate", "--model", &f.model, "--max-tokens", "64", "--json"];
        let by_text = run(&[&greedy[..], &["--prompt", &f.prompt, "--ignore-eos"]].concat()).ok();
        let by_ids = run(&[&greedy[..], &["--ids", &f.ids, "--ignore-eos"]].concat()).ok();
        for run in [by_text, by_ids] {
            let report = &run.json()[0];
            let prompt: Vec<String> = numbers(&report["prompt_ids"]).iter().map(ToString::to_string).collect();
            assert_eq!(prompt.join(" "), f.ids, "{name}");
            assert_eq!(numbers(&report["ids"]), f.greedy, "{name}");
            assert_eq!(report["text"], f.text.as_str(), "{name}");
            assert_eq!(report["stop"], "length", "{name}");
            for key in ["load_s", "prefill_tokens_per_s", "decode_tokens_per_s", "first_token_s"] {
                assert!(report["timings"][key].as_f64().is_some_and(|x| x > 0.0), "{name}: {report}");
            }
            for key in ["prefill_chunk", "decode_step"] {
                assert!(report["dispatches"][key].as_u64().is_some_and(|n| n > 10), "{name}: {report}");
            }
        }
        // without --ignore-eos the text ends where generation_config.json says
        let run = run(&[&greedy[..], &["--ids", &f.ids]].concat()).ok();
        let report = &run.json()[0];
        let end = f.eos_at.unwrap_or(64);
        assert_eq!(numbers(&report["ids"]), f.greedy[..end], "{name}");
        assert_eq!(report["stop"], if f.eos_at.is_some() { "eos" } else { "length" }, "{name}");
    }
}

#[test]
fn text_streams_as_it_is_written() {
    let f = fixture("qwen2_mixed");
    let start = ["generate", "--model", &f.model, "--ids", &f.ids, "--max-tokens", "64", "--ignore-eos"];
    let run_of = |more: &[&str]| run(&[&start[..], more].concat()).ok();
    assert_eq!(run_of(&[]).stdout, format!("{}\n", f.text));
    // a stop string ends the text before it
    let stop: String = f.text.chars().skip(20).take(3).collect();
    let before = &f.text[..f.text.find(&stop).expect("it is a part")];
    let stopped = run_of(&["--stop", "nothing like this", "--stop", &stop, "--json"]);
    assert_eq!((&stopped.json()[0]["text"], &stopped.json()[0]["stop"]), (&Value::from(before), &Value::from("stop")));
    assert_eq!(run_of(&["--stop", &stop]).stdout, format!("{before}\n"));
    // tuning comes after the text, and the next run's is the same
    for _ in 0..2 {
        assert_eq!(run_of(&["--tune"]).stdout, format!("{}\n", f.text));
    }
    assert!(numbers(&stopped.json()[0]["ids"]).len() < 64);
}

#[test]
fn draws_repeat_with_their_seed() {
    let f = fixture("llama_mha");
    let start = ["generate", "--model", &f.model, "--ids", &f.ids, "--max-tokens", "24", "--ignore-eos", "--json"];
    let ids = |more: &[&str]| numbers(&run(&[&start[..], more].concat()).ok().json()[0]["ids"]);
    let warm =
        ["--temperature", "1.5", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.01", "--repeat-penalty", "1.2"];
    let seeded = |seed: &str| ids(&[&warm[..], &["--seed", seed]].concat());
    assert_eq!(seeded("1"), seeded("1"));
    assert_ne!(seeded("1"), seeded("2"));
    // one token to choose from is the greedy one
    assert_eq!(ids(&["--temperature", "2", "--top-k", "1"]), f.greedy[..24]);
}

#[test]
fn odd_input_is_told() {
    let f = fixture("gpt2_odd");
    let start = ["generate", "--model", &f.model];
    let fails = |more: &[&str], code, parts: &[&str]| run(&[&start[..], more].concat()).fails(code, parts);
    fails(&["--ids", "1 2 100000"], 4, &["100000", "vocabulary"]);
    fails(&["--ids", &"1 ".repeat(85)], 4, &["85", "84"]);
    fails(&["--ids", ""], 4, &["no tokens"]);
    fails(&["--ids", "1", "--temperature", "-1"], 4, &["temperature"]);
    fails(&["--ids", "1", "--top-p", "0"], 4, &["top"]);
    fails(&["--ids", "1", "--stop", ""], 4, &["stop"]);
    assert_eq!(run(&start).code, 2);
    assert_eq!(run(&[&start[..], &["--ids", "1", "--prompt", "a"]].concat()).code, 2);
    assert_eq!(run(&[&start[..], &["--ids", "one"]].concat()).code, 2);
    run(&["generate", "--model", &model("bert_odd"), "--ids", "1"]).fails(4, &["encoder"]);
    run(&["embed", "--model", &f.model, "text"]).fails(4, &["gpt2", "language model"]);
    // more than the model takes: what was written before the limit is printed, and then it is told
    let run = run(&[&start[..], &["--ids", "1 2 3", "--max-tokens", "200", "--ignore-eos"]].concat());
    assert_eq!(run.code, 4);
    assert!(run.stderr.contains("85") && !run.stdout.is_empty(), "{} {}", run.stdout, run.stderr);
}

/// Ids need no tokenizer; texts do.
#[test]
fn a_model_without_tokenizer_takes_ids() {
    let folder = tempfile::tempdir().expect("a folder");
    let f = fixture("neox_serial");
    for name in ["config.json", "model.safetensors", "generation_config.json"] {
        std::fs::copy(format!("{}/{name}", f.model), folder.path().join(name)).expect("a copy");
    }
    let path = folder.path().to_str().expect("UTF-8");
    let start = ["generate", "--model", path, "--max-tokens", "8", "--ignore-eos"];
    let json = run(&[&start[..], &["--ids", &f.ids, "--json"]].concat()).ok().json().remove(0);
    assert_eq!(numbers(&json["ids"]), f.greedy[..8]);
    assert!(json["text"].is_null());
    let printed = run(&[&start[..], &["--ids", &f.ids]].concat()).ok().stdout;
    let ids: Vec<u64> = printed.split_whitespace().map(|id| id.parse().expect("an id")).collect();
    assert_eq!(ids, f.greedy[..8]);
    run(&[&start[..], &["--prompt", "a"]].concat()).fails(4, &["tokenizer"]);
}

#[test]
fn taps_of_language_models() {
    for name in ["gemma2_odd", "neox_parallel"] {
        let f = fixture(name);
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out.safetensors");
        let path = out.to_str().expect("UTF-8");
        let taps = ["stream", "tap", "--model", &f.model, "--out", path, "--points", "all", "--ids", &f.ids];
        assert_eq!(run(&taps).code, 0);
        let bytes = std::fs::read(&out).expect("the file");
        let (found, expected) = (SafeTensors::deserialize(&bytes), SafeTensors::deserialize(&f.bytes));
        let (found, expected) = (found.expect("safetensors"), expected.expect("safetensors"));
        let names: Vec<_> = found.names().into_iter().filter(|name| *name != "ids").collect();
        assert!(names.contains(&"logits") && names.contains(&"ln_final.hook_normalized"));
        assert_eq!(names.iter().any(|name| name.ends_with("hook_resid_mid")), name == "gemma2_odd");
        for point in names {
            let ((shape, data), (expected_shape, expected)) = (tensor(&found, point), tensor(&expected, point));
            assert_eq!(shape, expected_shape, "{name} {point}");
            let error = relative_error(&data, &expected);
            assert!(error <= 2e-5, "{name} {point}: {error:e}");
        }
    }
}

#[test]
fn devices_tell_what_a_model_takes() {
    let f = fixture("llama_gqa");
    let json = run(&["devices", "--json", "--model", &f.model, "--context", "640"]).ok().json().remove(0);
    let plan = &json["adapters"][0]["plan"];
    // 2 heads of 18 for keys and for values, in 3 blocks, in f32; whole pages of 64
    assert_eq!(plan["cache_per_token"], 2 * 2 * 18 * 3 * 4);
    assert_eq!((&plan["context"], &plan["max_tokens"]), (&Value::from(640), &Value::from(2048)));
    assert_eq!(plan["cache"], 2 * 2 * 18 * 3 * 4 * 640);
    let sum = ["weights", "cache", "scratch"].map(|key| plan[key].as_u64().expect("bytes")).iter().sum::<u64>();
    assert_eq!(plan["total"], sum);
    assert_eq!(plan["fits"], true);
    let table = run(&["devices", "--model", &f.model]).ok().stdout;
    assert!(table.contains("weights") && table.contains("2048 tokens"), "{table}");
    assert_eq!(
        run(&["devices", "--json", "--model", &model("bert_odd")]).ok().json()[0]["adapters"][0]["plan"]["cache"],
        0
    );
}

#[cfg(unix)]
#[test]
fn an_interrupted_text_ends_cleanly() {
    // a model whose texts never end
    let f = fixture("llama_dynamic");
    let arguments = ["generate", "--model", &f.model, "--ids", &f.ids, "--max-tokens", "100000", "--ignore-eos"];
    let mut command = thalweg(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut out = child.stdout.take().expect("a pipe");
    let mut first = [0u8; 1];
    out.read_exact(&mut first).expect("some text");
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let start = Instant::now();
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).expect("its output");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(rest.last(), Some(&b'\n'), "the line is ended");
}

#[test]
fn without_a_model_the_embedded_one_writes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rustbook.json");
    let cases: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let written = run(&["generate", "--prompt", prompt, "--max-tokens", "32", "--json"]).ok().json().remove(0);
        assert_eq!((&written["prompt_ids"], &written["ids"]), (&case["prompt_ids"], &case["greedy"]), "{prompt}");
        let named = run(&["generate", "--model", "rustbook", "--prompt", prompt, "--max-tokens", "32"]).ok();
        assert_eq!(named.stdout.trim_end(), written["text"].as_str().unwrap().trim_end());
    }
    // the other subcommands too; the tap's ids are those of the prompt
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("stream.safetensors");
    let tap = run(&["stream", "tap", "A `Mutex`", "--points", "resid_post@0", "--out", out.to_str().unwrap()]);
    assert_eq!(tap.code, 0, "{}", tap.stderr);
    let file = std::fs::read(out).unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    let ids: Vec<Value> = ints(&file, "ids").into_iter().map(Value::from).collect();
    assert_eq!(&Value::from(ids), &cases[1]["prompt_ids"]);
}
