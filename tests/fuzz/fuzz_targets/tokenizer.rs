//! Feeds tokenizer.json, and encodes and decodes with what loads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thalweg::files::Tokenizer;
use thalweg_fuzz::{allow_caught_panics, file, told};

fuzz_target!(|bytes: &[u8]| {
    allow_caught_panics();
    let path = file("tokenizer/tokenizer.json", bytes);
    let Some(tokenizer) = told(Tokenizer::open(path.parent().unwrap())) else { return };
    for text in ["", "the river carries water", " W\u{e4}sser \u{1f30a}\n\n12", "<s>[CLS]</s>"] {
        let Some(encoded) = told(tokenizer.encode(text, 32, true)) else { continue };
        assert!(encoded.ids.len() <= 32 && encoded.ids.len() == encoded.type_ids.len());
        told(tokenizer.decode(&encoded.ids, true));
    }
});
