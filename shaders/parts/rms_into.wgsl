// The norm's rows are read from one buffer and written to another.

@group(0) @binding(2) var<storage, read> rows: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

fn take(i: u32) -> f32 {
    return rows[i];
}

fn put(i: u32, value: f32) {
    output[i] = value;
}
