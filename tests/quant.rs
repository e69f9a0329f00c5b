//! The reference's quantised blocks against those of the gguf package, to the bit.

use safetensors::SafeTensors;
use thalweg::kernels::WeightType;
use thalweg::reference::dequantised;

#[test]
fn the_reference_reads_blocks_as_gguf_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/quant/blocks.safetensors");
    let file = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    for weight_type in WeightType::ALL.into_iter().filter(|w| w.quantised()) {
        let (name, block) = (weight_type.name(), weight_type.block());
        let blocks = tensors.tensor(&format!("{name}.blocks")).unwrap();
        let expected: Vec<u32> =
            bytemuck::pod_collect_to_vec(tensors.tensor(&format!("{name}.values")).unwrap().data());
        assert_eq!(blocks.shape()[1], block.bytes, "{name}");
        assert_eq!(expected.len(), blocks.shape()[0] * block.elements, "{name}");
        let values = dequantised(weight_type, blocks.data());
        assert_eq!(values.len(), expected.len(), "{name}");
        for (i, (value, bits)) in values.iter().zip(expected).enumerate() {
            assert!(value.to_bits() == bits, "{name} {i}: {value} instead of {}", f32::from_bits(bits));
        }
    }
}
