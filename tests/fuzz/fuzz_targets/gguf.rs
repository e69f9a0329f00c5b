//! Feeds bytes to the GGUF parser: it must not panic, take memory by the file's numbers, or let a tensor leave the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use thalweg::files::gguf::read_header;

fuzz_target!(|bytes: &[u8]| {
    let size = bytes.len() as u64;
    let header = match read_header("fuzz.gguf".as_ref(), bytes, size) {
        Ok(header) => header,
        Err(error) => {
            let message = error.to_string();
            assert!(error.exit_code() == 4 && !message.contains('\n') && message.len() < 2000, "{message}");
            return;
        }
    };
    let mut order: Vec<_> = header.tensors.iter().collect();
    order.sort_by_key(|t| t.offset);
    let mut end = 0;
    for info in order {
        assert!(info.offset >= end && info.offset % 8 == 0 && info.elements() > 0, "{info:?}");
        end = info.offset + info.bytes;
        assert!(end <= size, "{info:?}");
        if let Some((elements, bytes)) = info.ggml_type.block() {
            assert_eq!(info.elements() as u128 * u128::from(bytes), u128::from(info.bytes) * u128::from(elements));
        }
    }
    let m = &header.metadata;
    for key in m.keys() {
        let _ = (m.opt_usize(key), m.opt_u32(key), m.opt_f32(key), m.opt_bool(key), m.opt_str(key), m.unsupported(key));
        let _ = (m.opt_u32s(key), m.opt_i32s(key), m.opt_f32s(key));
        if let Ok(Some(strings)) = m.opt_strings(key) {
            assert_eq!(strings.iter().count(), strings.len());
        }
    }
});
