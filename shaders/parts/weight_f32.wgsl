// A weight of f32: weight4(i) is the i-th group of 4 elements.

@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;

fn weight4(i: u32) -> vec4<f32> {
    return weight[i];
}
