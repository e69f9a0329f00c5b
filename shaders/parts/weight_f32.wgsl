// A weight of f32: weight4(i) is the i-th group of 4 elements.

// vec4s of 64 bytes, which drivers that run on the CPU read one after the other.
const LINE = 4u;

@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;

fn weight4(i: u32) -> vec4<f32> {
    return weight[i];
}
