// What becomes of a product's sums: bias, activation, and a place in the output.

override HAS_BIAS: bool = true;

@group(0) @binding(3) var<storage, read> bias: array<f32>;

fn finish4(row: u32, column: u32, sums: vec4<f32>) {
    finish(row, column, sums.x);
    finish(row, column + 1u, sums.y);
    finish(row, column + 2u, sums.z);
    finish(row, column + 3u, sums.w);
}

fn finish(row: u32, column: u32, sum: f32) {
    if (row < params.rows && column < params.columns) {
        var value = sum;
        if (HAS_BIAS) {
            value += bias[column];
        }
        put(row * params.out_columns + params.out_first + column, activate(value));
    }
}
