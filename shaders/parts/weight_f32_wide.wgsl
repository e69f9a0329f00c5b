// A weight of f32, loaded as words of 64 bits.

// vec4s of 64 bytes, which drivers that run on the CPU read one after the other.
const LINE = 4u;

@group(0) @binding(2) var<storage, read> weight: array<vec2<u64>>;

fn weight4(i: u32) -> vec4<f32> {
    let bits = weight[i];
    return vec4<f32>(bitcast<vec2<f32>>(halves(bits.x)), bitcast<vec2<f32>>(halves(bits.y)));
}
