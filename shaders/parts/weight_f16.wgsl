// A weight of f16, widened in registers by a core function that needs no feature.

// vec4s of 64 bytes, which drivers that run on the CPU read one after the other.
const LINE = 8u;

@group(0) @binding(2) var<storage, read> weight: array<vec2<u32>>;

fn weight4(i: u32) -> vec4<f32> {
    let bits = weight[i];
    return vec4<f32>(unpack2x16float(bits.x), unpack2x16float(bits.y));
}
