// A weight of bfloat16, whose bits are the upper half of an f32, loaded as words of 64 bits.

// vec4s of 64 bytes, which drivers that run on the CPU read one after the other.
const LINE = 8u;

@group(0) @binding(2) var<storage, read> weight: array<u64>;

fn weight4(i: u32) -> vec4<f32> {
    let bits = halves(weight[i]);
    return bitcast<vec4<f32>>(vec4<u32>(
        bits.x << 16u,
        bits.x & 0xffff0000u,
        bits.y << 16u,
        bits.y & 0xffff0000u,
    ));
}
