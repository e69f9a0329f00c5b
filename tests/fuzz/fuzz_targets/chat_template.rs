//! Feeds chat templates: an error or a text within its cap, in bounded time and memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thalweg::chat::MAX_RENDERED_BYTES;
use thalweg::{ChatTemplate, Message};
use thalweg_fuzz::told;

fuzz_target!(|source: &str| {
    let specials = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let Some(template) = told(ChatTemplate::new("fuzz.jinja", source, &specials)) else { return };
    let messages = [Message::system("Be brief."), Message::user("Is it deep?"), Message::assistant("Yes.")];
    if let Some(text) = told(template.render(&messages, true)) {
        assert!(text.len() <= MAX_RENDERED_BYTES as usize);
    }
});
