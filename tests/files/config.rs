//! config.json: typed getters and their errors.

use thalweg::files::Config;

use crate::{folder, put, refused};

fn config(text: &str) -> Config {
    Config::open(folder(&[("config.json", text.as_bytes())]).path()).unwrap()
}

#[test]
fn values_are_read_by_type() {
    let c = config(
        r#"{"hidden_size":384,"layer_norm_eps":1e-12,"model_type":"bert","use_cache":true,"gone":null,"scale":2,
            "architectures":["BertModel"],"rope_parameters":{"rope_theta":10000.0,"inner":{"x":"y"}},"hidden_size":12}"#,
    );
    // the last of two equal keys counts, as in Python
    assert_eq!(c.usize("hidden_size").unwrap(), 12);
    assert_eq!(c.usize_or("missing", 7).unwrap(), 7);
    assert_eq!(c.usize_or("gone", 7).unwrap(), 7);
    assert_eq!(c.opt_usize("gone").unwrap(), None);
    assert_eq!(c.f32_or("layer_norm_eps", 1e-5).unwrap(), 1e-12);
    assert_eq!(c.f32("scale").unwrap(), 2.0);
    assert_eq!(c.str("model_type").unwrap(), "bert");
    assert_eq!(c.str_or("gone", "x").unwrap(), "x");
    assert!(c.bool_or("use_cache", false).unwrap());
    assert_eq!(c.opt_bool("gone").unwrap(), None);
    assert_eq!(c.opt_strings("architectures").unwrap().unwrap(), ["BertModel"]);
    assert!(c.is_null("gone") && !c.is_null("missing") && !c.is_null("scale"));
    assert_eq!((c.f64("layer_norm_eps").unwrap(), c.opt_f64("gone").unwrap()), (1e-12, None));
    assert!(c.has("use_cache") && !c.has("gone") && !c.has("missing"));
    let rope = c.opt_object("rope_parameters").unwrap().unwrap();
    assert_eq!(rope.f32("rope_theta").unwrap(), 10000.0);
    refused("nested", rope.usize("rope_theta"), &["config.json", "`rope_parameters.rope_theta`", "10000.0"]);
    let inner = rope.opt_object("inner").unwrap().unwrap();
    refused("nested twice", inner.usize("x"), &["`rope_parameters.inner.x`", "`y`"]);
}

#[test]
fn wrong_values_are_refused_by_name() {
    let c = config(
        r#"{"text":"12","negative":-1,"fraction":1.5,"huge":2147483649,"endless":1e300,"list":[1],"object":{},"yes":1,
            "limit":2147483648,"names":["a",1]}"#,
    );
    assert_eq!(c.usize("limit").unwrap(), 1 << 31);
    let whole = "a whole number from 0 to 2147483648";
    refused("missing", c.usize("hidden_size"), &["config.json", "`hidden_size`", whole, "nothing"]);
    refused("text", c.usize("text"), &["`text`", whole, "`12`"]);
    refused("negative", c.usize_or("negative", 1), &["`negative`", "-1"]);
    refused("fraction", c.usize("fraction"), &["`fraction`", "1.5"]);
    refused("huge", c.usize("huge"), &["`huge`", "2147483649"]);
    refused("list", c.usize("list"), &["`list`", "a list"]);
    refused("object", c.f32("object"), &["`object`", "a number", "an object"]);
    refused("beyond f32", c.f32("endless"), &["`endless`", "1e+300"]);
    refused("number for bool", c.bool_or("yes", true), &["`yes`", "true or false", "1"]);
    refused("number for text", c.str("yes"), &["`yes`", "a string", "1"]);
    refused("beyond f32, in f64", c.f64("endless"), &["`endless`", "1e+300"]);
    refused("no number", c.f64("hidden_size"), &["`hidden_size`", "a number", "nothing"]);
    assert_eq!(c.f32s("list").unwrap(), [1.0]);
    refused("no numbers", c.f32s("names"), &["`names`", "a list of numbers"]);
    refused("no list of numbers", c.f32s("gone"), &["`gone`", "a list of numbers", "nothing"]);
    refused("mixed list", c.opt_strings("names"), &["`names`", "a list of strings"]);
    refused("no object", c.opt_object("list"), &["`list`", "an object"]);
    let error = c.unsupported("text").to_string();
    assert!(error.contains("unsupported: `text` `12`"), "{error}");
}

#[test]
fn files_that_are_no_config_are_refused() {
    let cases: [(&str, &[u8], &str); 9] = [
        ("empty", b"", "not valid JSON"),
        ("cut off", br#"{"a":1"#, "not valid JSON"),
        ("NaN", br#"{"a":NaN}"#, "not valid JSON"),
        ("a list", b"[]", "expected a JSON object, found a list"),
        ("null", b"null", "expected a JSON object, found null"),
        ("byte order mark", b"\xef\xbb\xbf{}", "byte order mark"),
        ("UTF-16", b"{\0}\0\xff", "not UTF-8"),
        ("something after", b"{} {}", "not valid JSON"),
        ("a number that overflows", br#"{"a":1e999}"#, "not valid JSON"),
    ];
    for (case, bytes, word) in cases {
        let dir = folder(&[("config.json", bytes)]);
        refused(case, Config::open(dir.path()), &["config.json", word]);
    }
    let dir = folder(&[("config.json", "[".repeat(1_000_000).as_bytes())]);
    refused("nested without end", Config::open(dir.path()), &["not valid JSON"]);
    put(dir.path(), "config.json", vec![b' '; (4 << 20) + 1]);
    refused("too large", Config::open(dir.path()), &["config.json", "at most 4194304 bytes"]);
    refused("missing", Config::open(&dir.path().join("x")), &["config.json"]);
}
