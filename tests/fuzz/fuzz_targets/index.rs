//! Feeds bytes to the reader of a sharded checkpoint's table, beside one shard.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thalweg::files::Checkpoint;
use thalweg_fuzz::{file, told};

/// A header without tensors.
const SHARD: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

fuzz_target!(|bytes: &[u8]| {
    let path = file("index/model.safetensors.index.json", bytes);
    file("index/model-00001-of-00001.safetensors", SHARD);
    told(Checkpoint::open(path.parent().unwrap()));
});
