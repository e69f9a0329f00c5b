//! Feeds config.json to every family: a spec whose numbers can be trusted, or an error that names the key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thalweg::files::Config;
use thalweg::model::Spec;
use thalweg_fuzz::{file, told};

fuzz_target!(|bytes: &[u8]| {
    let path = file("config/config.json", bytes);
    let Some(config) = told(Config::open(path.parent().unwrap())) else { return };
    let Some((spec, _)) = told(Spec::read(&config)) else { return };
    assert_eq!(spec.blocks.len(), spec.num_hidden_layers);
    assert!(spec.num_attention_heads.is_multiple_of(spec.num_key_value_heads) && spec.qkv_width() > 0);
    let ids: Vec<u32> = (0..spec.max_tokens().min(40) as u32).collect();
    for (rope, position) in spec.ropes.iter().zip(spec.positions_of(&ids)) {
        let mut angles = Vec::new();
        let frequencies = rope.frequencies(ids.len());
        rope.angles(&frequencies, position, &mut angles);
        assert_eq!(angles.len(), 2 * rope.pairs);
        assert!(2 * rope.pairs <= spec.head_size + 1, "{rope:?} in heads of {}", spec.head_size);
    }
});
