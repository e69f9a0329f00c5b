// A weight of f16, loaded as words of 64 bits, widened in registers by a core function that needs no feature.

// vec4s of 64 bytes, which drivers that run on the CPU read one after the other.
const LINE = 8u;

@group(0) @binding(2) var<storage, read> weight: array<u64>;

fn weight4(i: u32) -> vec4<f32> {
    let bits = halves(weight[i]);
    return vec4<f32>(unpack2x16float(bits.x), unpack2x16float(bits.y));
}
