//! Dequantisation for the loader against the gguf package (tests/fixtures/quant/make_types.py), to the bit.

use safetensors::SafeTensors;
use thalweg::files::{DequantiseError, GgmlType, can_dequantise, dequantise};

#[test]
fn blocks_become_the_numbers_that_gguf_makes_of_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/quant/types.safetensors");
    let file = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut types = 0;
    for &ggml_type in GgmlType::ALL {
        let Ok(blocks) = tensors.tensor(&format!("{ggml_type}.blocks")) else {
            assert!(!can_dequantise(ggml_type), "{ggml_type} has no test");
            let refused = dequantise(ggml_type, &[], &mut []);
            assert_eq!(refused, Err(DequantiseError::Unsupported(ggml_type)));
            continue;
        };
        types += 1;
        assert!(can_dequantise(ggml_type), "{ggml_type}");
        let expected = tensors.tensor(&format!("{ggml_type}.values")).unwrap();
        let expected: Vec<u32> = bytemuck::pod_collect_to_vec(expected.data());
        let mut values = vec![f32::NAN; expected.len()];
        dequantise(ggml_type, blocks.data(), &mut values).unwrap();
        for (i, (value, bits)) in values.iter().zip(expected).enumerate() {
            assert!(value.to_bits() == bits, "{ggml_type} {i}: {value} instead of {}", f32::from_bits(bits));
        }
    }
    assert_eq!(types, 16);
    assert!(!can_dequantise(GgmlType::Other(99)));
}

#[test]
fn bytes_that_are_not_the_blocks_of_so_many_elements_are_refused() {
    for (bytes, elements) in [(33, 32), (35, 32), (34, 31), (34, 64), (0, 32), (34, 0), (17, 16)] {
        let found = dequantise(GgmlType::Q8_0, &vec![0; bytes], &mut vec![0.0; elements]);
        assert_eq!(found, Err(DequantiseError::Length { ggml_type: GgmlType::Q8_0, bytes, elements }));
    }
    assert_eq!(dequantise(GgmlType::Q4K, &[], &mut []), Ok(()));
    let error = dequantise(GgmlType::Other(99), &[], &mut []).unwrap_err();
    assert_eq!(error.to_string(), "elements of ggml type 99 cannot be turned into floats");
    let error = dequantise(GgmlType::F16, &[0; 3], &mut [0.0]).unwrap_err();
    assert_eq!(error.to_string(), "3 bytes of F16 are not 1 elements");
}
