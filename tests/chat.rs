//! Chat templates: what transformers makes of them, and what hostile ones may not do.

use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Map, Value};
use thalweg::files::Tokenizer;
use thalweg::{ChatTemplate, Error, Message};

fn template(source: &str) -> thalweg::Result<ChatTemplate> {
    ChatTemplate::new("test.jinja", source, &[("bos_token", "<s>"), ("eos_token", "</s>")])
}

#[test]
fn templates_render_as_transformers_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat");
    let (mut files, mut rendered, mut refused) = (0, 0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let specials: Vec<_> =
            file["tokens"].as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())).collect();
        let time = UNIX_EPOCH + Duration::from_secs(file["unix_time"].as_u64().unwrap());
        let template = ChatTemplate::new(&path, file["template"].as_str().unwrap(), &specials).unwrap().at(time);
        files += 1;
        for (i, case) in file["cases"].as_array().unwrap().iter().enumerate() {
            let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
            let prompt = case["add_generation_prompt"].as_bool().unwrap();
            let found = template.render_with(&messages, prompt, case["variables"].as_object().unwrap());
            let name = format!("{} case {i}", path.display());
            match (case["rendered"].as_str(), found) {
                (Some(expected), Ok(found)) => {
                    assert_eq!(found, expected, "{name}");
                    rendered += 1;
                }
                (None, Err(error @ Error::File { .. })) => {
                    let said = case["error"].as_str().unwrap();
                    assert!(error.to_string().contains(&said.replace('\\', "")), "{name}: {error} is not {said}");
                    refused += 1;
                }
                (expected, found) => panic!("{name}: expected {expected:?}, found {found:?}"),
            }
        }
    }
    assert!(files >= 15 && rendered >= 450 && refused >= 40, "{files} {rendered} {refused}");
}

/// The most memory that this process has had, in bytes; 0 where the system does not say.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Memory is bounded by the fuel: this holds for debug builds too.
const MEMORY: u64 = 512 << 20;

#[test]
fn hostile_templates_are_stopped() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(50_000), close.repeat(50_000));
    let nested_ifs = format!("{}x{}", "{% if true %}".repeat(9_000), "{% endif %}".repeat(9_000));
    let cases: Vec<(&str, String)> = [
        ("endless", "{% for i in range(10**9) %}{% endfor %}"),
        ("nested loops", "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"),
        ("much output", "{% for i in range(100000) %}{{ 'a' * 100 }}{% endfor %}"),
        ("much raw output", "{% for i in range(100000) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}"),
        ("repeat", "{% set x = 'a' * 10**10 %}{{ x|length }}"),
        ("repeat list", "{% set x = [1] * 10**10 %}{{ x|list|length }}"),
        ("joined repeat", "{{ ','.join(['aaaaaaaaaaaaaaaa'] * 10**10)|length }}"),
        ("join filter", "{{ (['aaaaaaaaaaaaaaaa'] * 10**10)|join(',')|length }}"),
        ("doubling by ~", "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"),
        ("doubling by +", "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"),
        (
            "doubling by capture",
            "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}\
             {% set ns.x = y %}{% endfor %}",
        ),
        (
            "doubling lists",
            "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = (ns.x + ns.x)|list %}{% endfor %}",
        ),
        (
            "lazy doubling of lists",
            "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}\
             {{ ns.x|length }}{{ ns.x|last }}{{ ns.x|tojson|length }}",
        ),
        ("lazy doubling by *", "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = 2 * ns.x %}{% endfor %}{{ ns.x|length }}"),
        (
            "doubling by replace",
            "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}",
        ),
        (
            "doubling by filter",
            "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x|replace('a', ns.x) %}{% endfor %}",
        ),
        (
            "doubling by tojson",
            "{% set ns = namespace(x='\\\\') %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x]|tojson %}{% endfor %}",
        ),
        ("wide format", "{{ '{:999999999}'.format('a')|length }}"),
        ("wide format filter", "{{ '%999999999s'|format('a')|length }}"),
        ("wide format by *", "{{ '%*s'|format(999999999, 'a')|length }}"),
        ("centre", "{{ 'a'|center(999999999)|length }}"),
        ("indent", "{{ ('\n' * 1000)|indent(999999999)|length }}"),
        ("batch", "{{ [1]|batch(999999999, 'x')|list|length }}"),
        ("slice", "{{ [1]|slice(999999999, 'x')|list|length }}"),
        ("power", "{{ 10**10**10 }}"),
        ("macro recursion", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"),
        ("macro doubling", "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}a{% endmacro %}{{ f(15) }}"),
        ("mutual recursion", "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"),
        ("loop recursion", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
        ("unknown function", "{{ open('/etc/passwd') }}"),
        ("unknown filter", "{{ 'a'|nothing }}"),
        ("unknown method", "{{ 'a'.nothing() }}"),
        ("unknown test", "{{ 'a' is nothing }}"),
        ("attribute of undefined", "{{ nothing.x.y }}"),
        ("attribute of none", "{{ none.x.y }}"),
        ("include", "{% include '/etc/passwd' %}"),
        ("import", "{% import '/etc/passwd' as x %}"),
        ("division", "{{ 1 // 0 }}"),
        ("syntax", "{% for %}"),
        ("unclosed", "{% if true %}"),
        ("unclosed string", "{{ 'a }}"),
        ("call a string", "{{ 'a'() }}"),
        ("raise", "{{ raise_exception('no') }}"),
        (
            "deep value printed",
            "{% set ns = namespace(x=[]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        ),
        (
            "deep value as JSON",
            "{% set ns = namespace(x=[]) %}{% for i in range(9000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x|tojson }}",
        ),
    ]
    .into_iter()
    .map(|(name, source)| (name, source.to_string()))
    .chain([
        ("deep parentheses", format!("{{{{ {} }}}}", deep("(", ")"))),
        ("deep lists", format!("{{{{ {} }}}}", deep("[", "]"))),
        ("deep ifs", nested_ifs),
        ("too large", "a".repeat(300 << 10)),
    ])
    .collect();
    let before = peak();
    for (name, source) in cases {
        let start = Instant::now();
        let outcome = template(&source).and_then(|template| template.render(&[Message::user("x")], true));
        let time = start.elapsed();
        assert!(time < Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 }), "{name}: {time:?}");
        match outcome {
            Err(Error::File { path, what }) => {
                assert_eq!(path, Path::new("test.jinja"), "{name}");
                assert!(what.contains("chat template") && what.len() < 600, "{name}: {what}");
                println!("{name} ({time:?}): {what}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert!(peak().saturating_sub(before) < MEMORY, "{name}: {} MiB", (peak() - before) >> 20);
    }
}

/// Templates that end anywhere are templates or errors; none makes what reads them panic.
#[test]
fn cut_templates_are_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat");
    for entry in std::fs::read_dir(folder).unwrap() {
        let file: Value = serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let source = file["template"].as_str().unwrap();
        for (end, _) in source.char_indices().step_by(5) {
            for cut in [&source[..end], &source[end..]] {
                if let Err(error) = template(cut) {
                    assert!(!error.to_string().contains("minijinja"), "{error}: {cut}");
                }
            }
        }
    }
}

/// What is deep, but does not show, must not end the program when it is dropped.
#[test]
fn deep_values_are_dropped() {
    let lists = "{% set ns = namespace(x=[]) %}{% for i in range(30000) %}{% set ns.x = [ns.x] %}{% endfor %}done";
    let nots = format!("{{{{ {}1 }}}}done", "not ".repeat(60_000));
    for source in [lists, &nots] {
        match template(source).and_then(|template| template.render(&[], true)) {
            Ok(text) => assert!(text.ends_with("done")),
            Err(error) => assert!(matches!(error, Error::File { .. }), "{error}"),
        }
    }
}

fn open(files: &[(&str, &str)]) -> thalweg::Result<Option<ChatTemplate>> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    ChatTemplate::open(folder.path())
}

#[test]
fn folders_say_their_template() {
    let say = |files: &[(&str, &str)]| open(files).unwrap().unwrap().render(&[Message::user("x")], false).unwrap();
    assert!(open(&[]).unwrap().is_none());
    assert!(open(&[("tokenizer_config.json", r#"{"chat_template": null}"#)]).unwrap().is_none());
    let config = ("tokenizer_config.json", r#"{"chat_template": "config {{ bos_token }}", "bos_token": "<s>"}"#);
    let old = ("chat_template.json", r#"{"chat_template": "old"}"#);
    let jinja = ("chat_template.jinja", "jinja {{ bos_token }}{{ eos_token }}");
    assert_eq!(say(&[old]), "old");
    assert_eq!(say(&[old, config]), "config <s>");
    assert_eq!(say(&[old, config, jinja]), "jinja <s>");
    let map = ("special_tokens_map.json", r#"{"bos_token": "<b>", "eos_token": {"content": "</e>", "lstrip": false}}"#);
    assert_eq!(say(&[config, jinja, map]), "jinja <s></e>");
    let list = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    assert_eq!(say(&[("tokenizer_config.json", list)]), "d");
    for (text, part) in [
        (r#"{"chat_template": [{"name": "tool_use", "template": "t"}]}"#, "tool_use"),
        (r#"{"chat_template": 3}"#, "found 3"),
        (r#"{"chat_template": "{% for"}"#, "syntax"),
        ("[", "JSON"),
    ] {
        match open(&[("tokenizer_config.json", text)]) {
            Err(Error::File { path, what }) => {
                assert!(path.ends_with("tokenizer_config.json") && what.contains(part), "{what}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(open(&[("chat_template.jinja", &"a".repeat(300 << 10))]), Err(Error::File { .. })));
}

#[test]
fn special_tokens_in_a_template_are_tokens() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decoders/llama_gqa");
    let tokenizer = Tokenizer::open(&folder).unwrap();
    let template = template("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}").unwrap();
    let ids = template.encode(&tokenizer, &[Message::user("the")], true).unwrap();
    assert_eq!((ids[0], ids[ids.len() - 1]), (1, 2));
    assert_eq!(ids.iter().filter(|&&id| id == 1).count(), 1, "none is added");
    // without a template the tokenizer's own are added
    let neutral = ChatTemplate::neutral();
    let text =
        neutral.render(&[Message::system("S"), Message::user("a"), Message::assistant("b"), Message::user("c")], true);
    assert_eq!(text.unwrap(), "S\n\nUser: a\nAssistant: b\nUser: c\nAssistant:");
    assert_eq!(neutral.encode(&tokenizer, &[Message::user("a")], true).unwrap()[0], 1);
    assert_eq!(neutral.stops(), ["\nUser:"]);
    let with = template_of_variables();
    assert_eq!(with, "true 3");
}

fn template_of_variables() -> String {
    let mut variables = Map::new();
    variables.insert("flag".into(), Value::from(true));
    variables.insert("n".into(), Value::from(3));
    let template = template("{{ flag|tojson }} {{ n }}").unwrap();
    template.render_with(&[], false, &variables).unwrap()
}
