// Queries, keys and values whose heads and rows start at multiples of 4.

@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> v: array<vec4<f32>>;

// Elements 4·quad to 4·quad + 3 of the head that begins at `first`.
fn q4(first: u32, quad: u32) -> vec4<f32> {
    return q[first / 4u + quad];
}

fn k4(first: u32, quad: u32) -> vec4<f32> {
    return k[first / 4u + quad];
}

fn v4(first: u32, quad: u32) -> vec4<f32> {
    return v[first / 4u + quad];
}
