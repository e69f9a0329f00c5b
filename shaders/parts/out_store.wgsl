// The output is written.

@group(0) @binding(4) var<storage, read_write> output: array<f32>;

fn put(i: u32, value: f32) {
    output[i] = value;
}
