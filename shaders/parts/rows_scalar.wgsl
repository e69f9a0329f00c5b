// Rows of activations of any length.

@group(0) @binding(1) var<storage, read> rows: array<f32>;

// Elements 4·k4 to 4·k4 + 3 of a row, 0 beyond its end; rows past the end read the last one.
fn row4(row: u32, k4: u32) -> vec4<f32> {
    let first = min(row, params.rows - 1u) * params.depth;
    let last = params.depth - 1u;
    let k = k4 * 4u;
    return vec4<f32>(
        rows[first + k],
        select(0.0, rows[first + min(k + 1u, last)], k + 1u <= last),
        select(0.0, rows[first + min(k + 2u, last)], k + 2u <= last),
        select(0.0, rows[first + min(k + 3u, last)], k + 3u <= last),
    );
}
