//! Feeds whole GGUF files to everything that reads a vocabulary, a template or the ends of a text out of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thalweg::ChatTemplate;
use thalweg::files::{Gguf, Tokenizer, gguf_chat_templates, gguf_eos_ids};
use thalweg_fuzz::{allow_caught_panics, file, told};

fuzz_target!(|bytes: &[u8]| {
    allow_caught_panics();
    let path = file("vocabulary.gguf", bytes);
    let Some(gguf) = told(Gguf::open(&path)) else { return };
    told(gguf_eos_ids(&gguf));
    for (_, template) in told(gguf_chat_templates(&gguf)).unwrap_or_default() {
        told(ChatTemplate::new(&path, template, &[("bos_token", "<s>")]));
    }
    let Some(Some(tokenizer)) = told(Tokenizer::from_gguf(&gguf)) else { return };
    for text in ["", "the river carries water", " W\u{e4}sser \u{1f30a}\n\n12", "<s>[CLS]</s>"] {
        if let Some(encoded) = told(tokenizer.encode(text, 32, true)) {
            told(tokenizer.decode(&encoded.ids, true));
        }
    }
});
