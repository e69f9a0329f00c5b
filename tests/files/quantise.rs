//! Quantisation against the gguf package (tests/fixtures/quant/make_quantised.py), byte for byte.

use safetensors::SafeTensors;
use thalweg::files::{GgmlType, QuantiseError, can_quantise, dequantise, quantise};

const Q8_0: GgmlType = GgmlType::Q8_0;
const Q4_0: GgmlType = GgmlType::Q4_0;

fn stored(ggml_type: GgmlType, values: &[f32]) -> Result<Vec<u8>, QuantiseError> {
    let (elements, bytes) = ggml_type.block().unwrap();
    let mut out = vec![0xaa; values.len() / elements as usize * bytes as usize];
    quantise(ggml_type, values, &mut out).map(|()| out)
}

#[test]
fn rows_become_the_bytes_that_gguf_makes_of_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/quant/quantised.safetensors");
    let file = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let values: Vec<f32> = bytemuck::pod_collect_to_vec(tensors.tensor("values").unwrap().data());
    for ggml_type in [Q8_0, Q4_0] {
        let expected = tensors.tensor(&format!("{ggml_type}.blocks")).unwrap();
        let found = stored(ggml_type, &values).unwrap();
        let block = ggml_type.block().unwrap().1 as usize;
        let pairs = found.chunks(block).zip(expected.data().chunks(block)).zip(values.chunks(32));
        for (i, ((found, expected), values)) in pairs.enumerate() {
            assert_eq!(found, expected, "{ggml_type} block {i}: {values:?}");
        }
        assert_eq!(found.len(), expected.data().len());
    }
}

#[test]
fn floats_are_stored_as_the_nearest() {
    let values = [0.0, -0.0, 1.0, 0.1, -65519.0, 5.96e-8, 2.9e-8, 1.000_488_3];
    let halves: Vec<u16> = bytemuck::pod_collect_to_vec(&stored(GgmlType::F16, &values).unwrap());
    assert_eq!(halves, [0, 0x8000, 0x3c00, 0x2e66, 0xfbff, 1, 0, 0x3c00]);
    let mut back = vec![1.0; 8];
    dequantise(GgmlType::F32, &stored(GgmlType::F32, &values).unwrap(), &mut back).unwrap();
    assert_eq!(back.map_bits(), values.to_vec().map_bits());
}

trait Bits {
    fn map_bits(self) -> Vec<u32>;
}

impl Bits for Vec<f32> {
    fn map_bits(self) -> Vec<u32> {
        self.into_iter().map(f32::to_bits).collect()
    }
}

#[test]
fn what_a_type_cannot_hold_is_refused_by_its_place() {
    let block = |index: usize, value: f32| {
        let mut values = vec![0.5; 96];
        values[index] = value;
        values
    };
    for ggml_type in [GgmlType::F32, GgmlType::F16, Q8_0, Q4_0] {
        assert!(can_quantise(ggml_type));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = stored(ggml_type, &block(70, bad)).unwrap_err();
            assert!(matches!(error, QuantiseError::NotFinite { index: 70, .. }), "{ggml_type}: {error}");
        }
        stored(ggml_type, &block(1, 65504.0)).unwrap();
    }
    for (ggml_type, fits, value) in [
        (GgmlType::F16, 65519.9, 65520.0),
        (Q8_0, 65519.0 * 127.0, 65520.0 * 127.0),
        (Q4_0, -65519.0 * 8.0, -65520.0 * 8.0),
        (Q4_0, 65519.0 * 8.0, 3.4e38),
    ] {
        stored(ggml_type, &block(40, fits)).unwrap();
        let error = stored(ggml_type, &block(40, value)).unwrap_err();
        assert_eq!(error, QuantiseError::TooLarge { ggml_type, index: 40, value });
    }
    for ggml_type in [GgmlType::Q4K, GgmlType::Bf16, GgmlType::Other(99)] {
        assert!(!can_quantise(ggml_type));
        assert_eq!(quantise(ggml_type, &[], &mut []), Err(QuantiseError::Unsupported(ggml_type)));
    }
    for (elements, bytes) in [(32, 33), (33, 34), (64, 34), (0, 34), (32, 0)] {
        let error = quantise(Q8_0, &vec![0.0; elements], &mut vec![0; bytes]).unwrap_err();
        assert_eq!(error, QuantiseError::Length { ggml_type: Q8_0, elements, bytes });
    }
}
