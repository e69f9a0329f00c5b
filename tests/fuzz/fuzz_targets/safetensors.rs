//! Feeds bytes to the safetensors reader: no panic, no memory by the file's numbers, no tensor outside of the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thalweg::files::Checkpoint;
use thalweg_fuzz::{file, told};

fuzz_target!(|bytes: &[u8]| {
    let path = file("model.safetensors", bytes);
    let Some(checkpoint) = told(Checkpoint::open_file(&path)) else { return };
    for info in checkpoint.tensors() {
        assert!(info.offset + info.bytes <= bytes.len() as u64, "{info:?}");
        let mut head = vec![0; info.bytes.min(64) as usize];
        checkpoint.read(info, 0, &mut head).unwrap();
        let mut row = vec![0f32; info.row_len()];
        if info.rows() > 0 {
            let _ = told(checkpoint.read_f32_rows(info, 0, 1, &mut row));
        }
    }
});
