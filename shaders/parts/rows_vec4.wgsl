// Rows of activations whose length is a multiple of 4.

@group(0) @binding(1) var<storage, read> rows: array<vec4<f32>>;

// Elements 4·k4 to 4·k4 + 3 of a row; rows past the end read the last one, and finish drops what comes of them.
fn row4(row: u32, k4: u32) -> vec4<f32> {
    return rows[min(row, params.rows - 1u) * params.depth4 + k4];
}
