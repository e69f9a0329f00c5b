// The norm's rows are the residual stream's, normalised in place.

@group(0) @binding(3) var<storage, read_write> stream: array<f32>;

fn take(i: u32) -> f32 {
    return stream[i];
}

fn put(i: u32, value: f32) {
    stream[i] = value;
}
