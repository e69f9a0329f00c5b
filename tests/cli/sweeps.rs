//! `thalweg stream ablate`, `patch` and `steer`, and runs under edits.

use std::fs;

use super::{decoder, model, run};

#[test]
fn ablation() {
    let llama = decoder("llama_gqa");
    let ids = ["--model", &llama, "--ids", "3 1 4 1 5 9 2 6"];
    let table = run(&[&["stream", "ablate"], &ids[..]].concat()).ok();
    assert!(table.stdout.starts_with("loss in nats a token: "), "{}", table.stdout);
    let head = table.stdout.lines().nth(2).expect("a head line");
    for column in ["block", "head 0", "head 3", "attention", "mlp", "attn skip", "mlp skip"] {
        assert!(head.contains(column), "{head}");
    }
    assert_eq!(table.stdout.lines().count(), 3 + 3);

    let more = ["--json", "--components", "heads,mlp_skip", "--scale", "0.5", "--target", "7", "--against", "4"];
    let json = run(&[&["stream", "ablate"], &ids[..], &more[..]].concat()).ok().json();
    let found = &json[0];
    assert_eq!((&found["tokens"], &found["by"]), (&8.into(), &"×0.5".into()));
    let clean = found["clean"].as_f64().expect("a number");
    let components = found["components"].as_array().expect("a list");
    assert_eq!(components.len(), 3 * (4 + 1));
    for (i, component) in components.iter().enumerate() {
        let (value, change) = (component["value"].as_f64().unwrap(), component["change"].as_f64().unwrap());
        assert!((value - clean - change).abs() < 1e-9);
        assert_eq!(component["block"], i / 5);
        match i % 5 {
            4 => assert_eq!((component["component"].as_str(), component["head"].is_null()), (Some("mlp_skip"), true)),
            head => assert_eq!((component["component"].as_str(), &component["head"]), (Some("head"), &head.into())),
        }
    }
    // a gate of 1 changes nothing
    let open = run(&[&["stream", "ablate", "--json", "--scale", "1"], &ids[..]].concat()).ok().json();
    assert!(open[0]["components"].as_array().unwrap().iter().all(|component| component["change"] == 0.0));

    let fails = |more: &[&str], code, parts: &[&str]| {
        run(&[&["stream", "ablate"], &ids[..], more].concat()).fails(code, parts);
    };
    fails(&["--components", "heads,tails"], 4, &["tails", "attention_skip"]);
    fails(&["--by", "resample"], 2, &["--other"]);
    fails(&["--by", "mean", "--other", "a"], 2, &["--other"]);
    fails(&["--reference", "x"], 2, &["--reference"]);
    fails(&["--target", "60000"], 4, &["60000"]);
    fails(&["--target", "two words"], 2, &["two words", "tokens"]);
    fails(&["--by", "resample", "--other", "a"], 4, &["8 tokens"]);
}

/// What a component's removal comes to is a file that can be given again, alone or beside others, here and to other commands.
#[test]
fn ablations_as_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join("edits").join(name).to_str().unwrap().to_string();
    let ablate = ["stream", "ablate", "The vector is stored on the", "--json"];
    let more = ["--components", "heads,block,mlp_skip", "--by", "mean", "--save-edits", &path("")];
    let found = run(&[&ablate[..], &more[..]].concat()).ok().json();
    assert_eq!(fs::read_dir(path("")).unwrap().count(), 6 * (8 + 2));
    let files = ["block5.head7.json", "block0.block.json", "block3.mlp_skip.json"].map(path);
    let again: Vec<&str> = files.iter().flat_map(|file| ["--edits", file]).collect();
    let again = run(&[&ablate[..], &again].concat()).ok().json();
    assert_eq!(again[0]["clean"], found[0]["clean"]);
    for (i, number) in [5 * 10 + 7, 8, 3 * 10 + 9].into_iter().enumerate() {
        let (run, component) = (&again[0]["edits"][i], &found[0]["components"][number]);
        assert_eq!((&run["file"], &run["value"]), (&files[i].as_str().into(), &component["value"]));
        assert_ne!(run["change"], 0.0);
    }
    let table = run(&["stream", "ablate", ablate[2], "--edits", &files[1]]).ok().stdout;
    assert!(table.lines().last().unwrap().ends_with("block0.block.json"), "{table}");
    run(&["generate", "--prompt", ablate[2], "--max-tokens", "2", "--edits", &files[1]]).ok();
    assert_eq!(run(&["stream", "ablate", ablate[2], "--edits", &files[0], "--by", "zero"]).code, 2);
    run(&["stream", "ablate", ablate[2], "--edits", &path("none.json")]).fails(4, &["none.json"]);
}

#[test]
fn encoders_by_their_cosine() {
    let bert = model("bert_odd");
    let text = ["--model", &bert, "a river carries water"];
    let own = run(&[&["stream", "ablate", "--json"], &text[..]].concat()).ok().json();
    assert_eq!(own[0]["metric"], "cosine of the vectors");
    assert!((own[0]["clean"].as_f64().unwrap() - 1.0).abs() < 1e-6);
    let folder = tempfile::tempdir().unwrap();
    let texts = folder.path().join("texts");
    fs::write(&texts, "a river\n\nthe water\n").unwrap();
    let more = ["--to", "a mountain", "--by", "mean", "--reference", texts.to_str().unwrap()];
    let other = run(&[&["stream", "ablate", "--json"], &text[..], &more[..]].concat()).ok().json();
    assert!(other[0]["clean"].as_f64().unwrap() < 0.999);
    run(&[&["stream", "ablate", "--target", "5"], &text[..]].concat()).fails(4, &["encoder", "logit"]);
    // the other prompt has as many tokens
    let patch = ["--corrupted", "the river carries water", "--json", "--points", "resid_pre@1,z"];
    let found = run(&[&["stream", "patch"], &text[..], &patch[..]].concat()).ok().json();
    assert!((found[0]["clean"].as_f64().unwrap() - 1.0).abs() < 1e-6);
    let tokens = found[0]["clean_ids"].as_array().unwrap().len();
    assert_eq!(found[0]["places"].as_array().unwrap().len(), tokens + 2 * 3);
}

#[test]
fn patching() {
    let clean = ["stream", "patch", "The vector is stored on the"];
    let corrupted = ["--corrupted", "The string is stored on the"];
    let tables = run(&[&clean[..], &corrupted[..]].concat()).ok().stdout;
    assert!(tables.contains("token 1 is \" vector\" and \" string\""), "{tables}");
    for title in ["resid_pre, by block and token", "attn_out, by", "mlp_out, by", "z, by block and head"] {
        assert!(tables.contains(title), "{tables}");
    }
    let json = run(&[&clean[..], &corrupted[..], &["--json", "--points", "resid_pre@0"]].concat()).ok().json();
    let places = json[0]["places"].as_array().unwrap();
    assert_eq!(places.len(), json[0]["clean_ids"].as_array().unwrap().len());
    for (position, place) in places.iter().enumerate() {
        assert_eq!((&place["point"], &place["position"]), (&"blocks.0.hook_resid_pre".into(), &position.into()));
        assert!(place["head"].is_null());
        // the only token that differs is all of the difference
        assert_eq!(place["share"], if position == 1 { 1.0 } else { 0.0 });
    }
    let loss = run(&[&clean[..], &corrupted[..], &["--points", "resid_pre@0", "--loss"]].concat()).ok();
    assert!(loss.stdout.starts_with("loss in nats a token: "), "{}", loss.stdout);
    run(&[&clean[..], &["--corrupted", "The string"]].concat()).fails(4, &["same length"]);
    run(&[&clean[..], &["--corrupted", clean[2]]].concat()).fails(4, &["--target"]);
    run(&[&clean[..], &["--corrupted", clean[2], "--target", "5"]].concat()).fails(4, &["nothing that patching"]);
    run(&[&clean[..], &corrupted[..], &["--points", "hook_result"]].concat()).fails(4, &["hook_result"]);
}

#[test]
fn steering() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (heap, stack, out) = (path("heap"), path("stack"), path("v.safetensors"));
    fs::write(&heap, "The heap is\nBoxes live on the heap\n").unwrap();
    fs::write(&stack, "The stack is\nIntegers live on the stack\n").unwrap();
    let sides = ["--positive", &heap, "--negative", &stack, "--out", &out];
    let json = run(&[&["stream", "steer", "--json", "--points", "resid_post@3"], &sides[..]].concat()).ok().json();
    assert_eq!((&json[0]["positive"], &json[0]["negative"]), (&2.into(), &2.into()));
    assert!(json[0]["vectors"][0]["norm"].as_f64().unwrap() > 1.0);
    let file = fs::read(&out).unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(super::tensor(&file, "blocks.3.hook_resid_post").0, [256]);

    let write = |more: &[&str]| {
        let begin = ["generate", "--prompt", "The value is stored", "--max-tokens", "8", "--json"];
        run(&[&begin[..], more].concat())
    };
    let text = |more: &[&str]| write(more).ok().json()[0]["text"].clone();
    let plain = text(&[]);
    assert_eq!(text(&["--steer", &format!("{out}@3*0")]), plain);
    let steered = text(&["--steer", &format!("{out}@3*4")]);
    assert_ne!(steered, plain);
    // the same as edits in a file
    let edits = path("edits.json");
    let edit = r#"{"edits":[{"point":"blocks.3.hook_resid_post","op":"add","alpha":2,
        "vector":{"file":"v.safetensors","tensor":"blocks.3.hook_resid_post"}}]}"#;
    fs::write(&edits, edit).unwrap();
    assert_eq!(
        text(&["--edits", &edits, "--steer", &format!("{out}@3*2")]),
        text(&["--edits", &edits, "--edits", &edits])
    );

    let malformed = write(&["--steer", &out]);
    assert!(malformed.code == 2 && malformed.stderr.contains("FILE@LAYER*ALPHA"), "{}", malformed.stderr);
    write(&["--steer", &format!("{out}@9*1")]).fails(4, &["blocks.9.hook_resid_post"]);
    write(&["--steer", "/nosuch@1*1"]).fails(4, &["/nosuch"]);
    write(&["--edits", &heap]).fails(4, &["list of edits"]);
    let llama = decoder("llama_gqa");
    let wide = ["generate", "--model", &llama, "--ids", "1 2", "--steer", &format!("{out}@1*1")];
    let wide = run(&wide);
    assert_eq!(wide.code, 4);
    assert!(wide.stderr.contains("warning: the vectors") && wide.stderr.contains("256 numbers"), "{}", wide.stderr);
    fs::write(&stack, "\n\n").unwrap();
    run(&[&["stream", "steer"], &sides[..]].concat()).fails(4, &["at least one prompt"]);

    // a lens sees them too
    let lens = |more: &[&str]| run(&[&["stream", "lens", "a value", "--json"], more].concat()).ok().json().remove(0);
    let (plain, edited) = (lens(&[]), lens(&["--edits", &edits]));
    // divergence and rank are told of the last distribution, which the edits change
    let guesses = |lens: &serde_json::Value, row: usize| -> Vec<serde_json::Value> {
        lens["rows"][row]["positions"].as_array().unwrap().iter().map(|position| position["top"].clone()).collect()
    };
    assert_eq!(guesses(&plain, 3), guesses(&edited, 3));
    assert_ne!(guesses(&plain, 4), guesses(&edited, 4));

    // what is tapped under edits is what the edits make
    let tapped = |more: &[&str]| {
        let to = path("tap.safetensors");
        let run = run(&[&["stream", "tap", "a value", "--points", "resid_post@3", "--out", &to], more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        let bytes = fs::read(&to).unwrap();
        super::tensor(&safetensors::SafeTensors::deserialize(&bytes).unwrap(), "blocks.3.hook_resid_post").1
    };
    let (plain, edited) = (tapped(&[]), tapped(&["--edits", &edits]));
    let vector = super::tensor(&file, "blocks.3.hook_resid_post").1;
    for (i, (a, b)) in plain.iter().zip(&edited).enumerate() {
        assert!((a + 2.0 * vector[i % 256] - b).abs() < 1e-4, "{i}: {a} and {b}");
    }
}
