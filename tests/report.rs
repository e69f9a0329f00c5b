//! The report: one page that needs nothing else, whose numbers are the stream's, and which works in a browser.

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use common::{Expected, GPU, cosine, fixtures};
use serde_json::{Value, json};
use thalweg::stream::report::MOST_TOKENS;
use thalweg::stream::{Kind, Point, Reading, Report};
use thalweg::{Error, LoadOptions, Model, Task};

const IDS: [u32; 7] = [3, 1, 4, 1, 5, 9, 2];

/// Norms after, before, side by side and all around; with a head and without.
const MODELS: [&str; 6] = [
    "models/bert_odd",
    "decoders/llama_gqa",
    "decoders/neox_parallel",
    "decoders/gemma2_odd",
    "decoders/olmo2_odd",
    "decoders/gpt2_odd",
];

fn model(folder: &str) -> Model {
    Model::load_blocking(&GPU, fixtures(folder), LoadOptions::default()).unwrap_or_else(|e| panic!("{folder}: {e}"))
}

fn report(folder: &str) -> Report {
    model(folder).report_blocking(&IDS, &Task::default()).unwrap_or_else(|e| panic!("{folder}: {e}"))
}

/// What an element of that id holds.
fn element<'a>(html: &'a str, start: &str) -> &'a str {
    let (_, rest) = html.split_once(start).unwrap_or_else(|| panic!("no {start}"));
    rest.split_once("</script>").expect("its end").0
}

#[test]
fn a_page_needs_nothing_else() {
    for name in MODELS {
        let report = report(name);
        let html = report.html();
        assert!(!html.contains("{{"), "{name}: something was not filled in");
        assert!(!html.contains("http://") && !html.contains("https://"), "{name}: an address");
        for attribute in ["src=", "href=\"", "url(", "@import", "<link", "<base", "<iframe"] {
            for (_, rest) in html.match_indices(attribute).map(|(at, found)| html.split_at(at + found.len())) {
                let inside = ["#", "data:image/png;base64,"].iter().any(|start| rest.starts_with(start));
                assert!(inside, "{name}: {attribute}{}", &rest[..rest.len().min(40)]);
            }
        }
        let numbers = element(&html, "id=\"numbers\">");
        let mut page: Value = serde_json::from_str(numbers).expect("JSON");
        let whole: Value = serde_json::from_str(&report.json().to_string()).expect("JSON");
        page["patterns"] = whole["patterns"].clone();
        assert!(page == whole, "{name}: the page's numbers are others");
        let says = !whole["lens"]["rows"][0]["positions"][0]["top"].is_null();
        assert_eq!(says, !name.starts_with("models/"), "{name}");
        for (section, there) in [("lens", says), ("nearness", !says)] {
            assert_eq!(html.contains(&format!("<section id=\"{section}\"")), there, "{name}: {section}");
        }
    }
}

#[test]
fn the_same_again_is_the_same_page() {
    for name in ["models/bert_odd", "decoders/llama_gqa"] {
        let model = model(name);
        let [one, other] = [0, 1].map(|_| model.report_blocking(&IDS, &Task::default()).unwrap());
        assert!(one.html() == other.html() && one.json() == other.json() && one.figures() == other.figures());
    }
}

#[test]
fn figures_hold_numbers_only() {
    let most = |report: &Report| report.figures().iter().map(|figure| figure.name.clone()).collect::<Vec<_>>();
    for name in MODELS {
        // one token has no others to look at
        for ids in [&IDS[..], &IDS[..1]] {
            let report = model(name).report_blocking(ids, &Task::default()).unwrap();
            assert_eq!(most(&report).len(), most(&report).into_iter().collect::<BTreeSet<_>>().len());
            for figure in report.figures() {
                let svg = figure.standalone();
                assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{name} {}", figure.name);
                for path in svg.split(" d=\"").skip(1) {
                    let d = path.split('"').next().unwrap();
                    assert!(d.starts_with('M') && d.len() > 4, "{name} {}: {d}", figure.name);
                    assert!(d.chars().all(|c| c.is_ascii_digit() || " .-MLCZVvhm".contains(c)), "{name}: {d}");
                }
            }
        }
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[track_caller]
fn near(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 2e-5 * (1.0 + b.abs()), "{what}: {a} and {b}");
}

#[test]
fn numbers_are_the_streams() {
    const KINDS: [(&str, Kind); 6] = [
        ("x", Kind::ResidPre),
        ("t1", Kind::AttnOut),
        ("t2", Kind::ResidMid),
        ("t4", Kind::MlpOut),
        ("t5", Kind::ResidPost),
        ("h", Kind::NormalizedResidPost),
    ];
    for name in MODELS {
        let model = model(name);
        let json = model.report_blocking(&IDS, &Task::default()).unwrap().json();
        let points: Vec<_> = Point::of_model(model.spec());
        let trace = model.trace_blocking(&IDS, &points).unwrap();
        let d = model.spec().hidden_size;
        for (block, found) in json["blocks"].as_array().unwrap().iter().enumerate() {
            for (state, kind) in KINDS {
                let point = Point::new(block, kind);
                let Some(tensor) = trace.tensors.get(&point) else {
                    assert!(found["states"][state].is_null(), "{name} {state}");
                    continue;
                };
                let found = &found["states"][state];
                assert_eq!(found["point"], point.to_string());
                for (i, row) in tensor.data.chunks_exact(d).enumerate() {
                    let what = format!("{name} {point} of token {i}");
                    let f64s = || row.iter().copied().map(f64::from);
                    near(numbers(&found["norm"])[i], f64s().map(|x| x * x).sum::<f64>().sqrt(), &what);
                    near(numbers(&found["mean"])[i], f64s().sum::<f64>() / d as f64, &what);
                    near(numbers(&found["min"])[i], f64s().fold(f64::INFINITY, f64::min), &what);
                    near(numbers(&found["max"])[i], f64s().fold(f64::NEG_INFINITY, f64::max), &what);
                    if state == "t1" {
                        let x = &trace.tensors[&Point::new(block, Kind::ResidPre)].data[i * d..(i + 1) * d];
                        near(numbers(&found["cosine"])[i], cosine(row, x), &what);
                    }
                }
            }
            let pattern = &trace.tensors[&Point::new(block, Kind::Pattern)].data;
            let bytes = decode(json["patterns"]["blocks"][block].as_str().unwrap());
            assert_eq!(bytes.len(), pattern.len());
            for (byte, weight) in bytes.iter().zip(pattern) {
                assert!((f32::from(*byte) / 255.0 - weight).abs() <= 0.501 / 255.0, "{name}: {byte} for {weight}");
            }
        }
        let measures = model.measure_blocking(&IDS).unwrap();
        for (found, block) in json["blocks"].as_array().unwrap().iter().zip(&measures.blocks) {
            near(found["influence"].as_f64().unwrap(), block.influence, name);
            near(found["rank_residual"].as_f64().unwrap(), block.rank_residual, name);
            near(found["mlp"]["ratio"].as_f64().unwrap(), block.mlp.ratio, name);
        }
        if let Some(logits) = trace.tensors.get(&Point::new(0, Kind::Logits)) {
            lens_ends_with_the_models_own(name, &json["lens"], &logits.data);
        }
    }
}

fn lens_ends_with_the_models_own(name: &str, lens: &Value, logits: &[f32]) {
    let last = lens["rows"].as_array().unwrap().last().unwrap();
    let positions = last["positions"].as_array().unwrap();
    let first = lens["rows"][0]["positions"].as_array().unwrap();
    for ((position, row), first) in positions.iter().zip(logits.chunks_exact(logits.len() / IDS.len())).zip(first) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - largest).exp()).sum();
        let id = position["top"][0]["id"].as_u64().unwrap() as usize;
        assert_eq!(row[id], largest, "{name}");
        near(position["top"][0]["p"].as_f64().unwrap(), 1.0 / sum, name);
        let entropy: f64 = row.iter().map(|x| f64::from(x - largest).exp() / sum).map(|p| -p * p.ln()).sum();
        near(position["entropy"].as_f64().unwrap(), entropy, name);
        near(position["kl"].as_f64().unwrap(), 0.0, name);
        assert!(first["kl"].as_f64().unwrap() > 0.0, "{name}");
    }
}

fn decode(base64: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut word, mut bits) = (0u32, 0);
    for digit in base64.bytes().filter(|&digit| digit != b'=') {
        word = word << 6 | DIGITS.iter().position(|&d| d == digit).expect("a digit") as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    bytes
}

#[test]
fn too_many_tokens_are_refused() {
    let model = model("decoders/llama_gqa");
    let error = model.report_blocking(&[1; MOST_TOKENS + 1], &Task::default()).unwrap_err();
    assert!(matches!(&error, Error::Input(text) if text.contains("256") && text.contains("257")), "{error}");
    assert!(matches!(model.report_blocking(&[], &Task::default()), Err(Error::Input(_))));
}

const HOSTILE: &str =
    "</script><script>window.hit=1</script><img src=x onerror=window.hit=1>\"'&{{tokens}}\u{202e}\u{2028}";

/// A report whose every text is hostile.
fn hostile() -> Report {
    let mut report = report("decoders/llama_gqa");
    report.model = HOSTILE.into();
    report.target = Some(HOSTILE.into());
    report.tokens.iter_mut().for_each(|token| *token = HOSTILE.into());
    for reading in report.lens.rows.iter_mut().flat_map(|row| &mut row.positions) {
        let Reading::Distribution(said) = reading else { panic!("a lens") };
        said.top.iter_mut().for_each(|guess| guess.token = Some(HOSTILE.into()));
    }
    report
}

#[test]
fn hostile_texts_are_text() {
    let report = hostile();
    let html = report.html();
    assert!(!html.contains("<img") && !html.contains("<script>window"));
    // its own three, and no others
    assert_eq!((html.matches("<script").count(), html.matches("</script").count()), (3, 3));
    let numbers: Value = serde_json::from_str(element(&html, "id=\"numbers\">")).expect("JSON");
    assert_eq!(numbers["tokens"][0], HOSTILE);
    for figure in report.figures() {
        assert!(!figure.standalone().contains("<script") && !figure.standalone().contains("<img"), "{}", figure.name);
    }
}

/// A Chromium, where there is one.
fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    let runs = |program: &PathBuf| {
        // a name may stand for a package that is not installed
        program.is_file() && Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success())
    };
    found.into_iter().find(runs)
}

/// Opens a page from disk, lets a script drive it, and brings back what that left in `#outcome`.
fn driven(browser: &PathBuf, html: &str) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let faults = "<script>window.faults=[];addEventListener('error',e=>faults.push(String(e.message)));\
        addEventListener('unhandledrejection',e=>faults.push(String(e.reason)));\
        addEventListener('securitypolicyviolation',e=>faults.push(e.blockedURI));</script>";
    let driver = format!("<script>{}</script></body>", include_str!("report_driver.js"));
    let page = html.replacen("<head>", &format!("<head>{faults}"), 1).replacen("</body>", &driver, 1);
    let path = folder.path().join("page.html");
    std::fs::write(&path, page).expect("the page");
    let out = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"])
        .args(["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1100,900"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", path.display()))
        .output()
        .expect("the browser runs");
    let (dom, log) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let console: Vec<_> = log.lines().filter(|line| line.contains(":CONSOLE")).collect();
    assert!(console.is_empty(), "{console:#?}");
    let outcome = dom.split_once("<pre id=\"outcome\">").unwrap_or_else(|| panic!("no outcome: {log}")).1;
    let outcome = outcome.split("</pre>").next().unwrap();
    let outcome = outcome.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&outcome).unwrap_or_else(|e| panic!("{e}: {outcome}"))
}

#[test]
fn a_browser_shows_it_and_the_keyboard_drives_it() {
    let Some(browser) = browser() else {
        eprintln!("skipped: there is no Chromium on PATH");
        return;
    };
    let gpt2 = Expected::open("decoders/gpt2_odd").ids("ids");
    let reports = [
        report("models/bert_odd"),
        model("decoders/gpt2_odd").report_blocking(&gpt2, &Task::default()).unwrap(),
        hostile(),
    ];
    for report in &reports {
        let figures: Vec<_> = report.figures().iter().map(|figure| figure.standalone()).collect();
        let figures = json!(figures).to_string().replace('<', "\\u003c");
        let figures = format!("<script type=\"application/json\" id=\"figures\">{figures}</script></body>");
        let outcome = driven(&browser, &report.html().replacen("</body>", &figures, 1));
        assert_eq!(outcome["faults"], json!([]));
        assert_eq!(outcome["hit"], Value::Null, "a text became a script");
        assert_eq!(outcome["images"], 0, "a text became an element");
        let (last, blocks, heads) = (report.ids.len() - 1, report.blocks.len(), report.facts.heads);
        let choice = |token: usize, block: usize, head: usize| json!(format!("{token} {block} {head}"));
        assert_eq!(outcome["choices"]["start"], choice(last, 0, 0));
        assert_eq!(outcome["choices"]["right"], choice(last, 1.min(blocks - 1), 0));
        assert_eq!(outcome["choices"]["up"], choice(last - 1, 1.min(blocks - 1), 0));
        assert_eq!(outcome["choices"]["head"], choice(last - 1, 0, 1.min(heads - 1)));
        assert_eq!(outcome["choices"]["end"], choice(last - 1, 0, heads - 1));
        assert_eq!(outcome["choices"]["elsewhere"], outcome["choices"]["end"], "arrows outside of pictures scroll");
        assert_eq!(outcome["choices"]["token"], choice(0, 0, heads - 1));
        assert_eq!(outcome["choices"]["slider"], choice(0, blocks - 1, heads - 1));
        assert_ne!(outcome["river"]["mean"], outcome["river"]["token"], "the river is the mean's still");
        let sections: Vec<_> = outcome["sections"].as_object().unwrap().iter().collect();
        assert_eq!(sections.len(), 7);
        for (name, size) in sections {
            assert!(size[0].as_f64() > Some(300.0) && size[1].as_f64() > Some(60.0), "{name}: {size}");
        }
        assert_eq!(outcome["figures"], json!([]), "figures that are no SVG");
        assert_eq!(outcome["unnamed"], 0, "controls without a name");
        // the first token of the last head of the last block, read from the picture
        let tokens = report.patterns.tokens;
        let row = &report.patterns.blocks[blocks - 1][(heads - 1) * tokens * tokens..][..tokens];
        let largest = f64::from(*row.iter().max().unwrap()) / 2.55;
        let shown: f64 = outcome["weight"].as_str().unwrap().trim_end_matches(" %").parse().expect("a share");
        assert!((shown - largest).abs() <= 0.8, "{shown} for {largest}");
    }
}
