// The norm's rows are normalised in place.

@group(0) @binding(2) var<storage, read_write> rows: array<f32>;

fn take(i: u32) -> f32 {
    return rows[i];
}

fn put(i: u32, value: f32) {
    rows[i] = value;
}
