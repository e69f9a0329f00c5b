// Where a product's columns lie in the weight, and what becomes of their sums: bias, activation, and a place in the
// output. Gated, columns are by turns a gate and what it lets through, whose rows are the first and the second half
// of the weight; of each pair activation(gate) · other is written.

override HAS_BIAS: bool = true;
override GATED: bool = false;

@group(0) @binding(3) var<storage, read> bias: array<f32>;

// Where a column's row begins in the weight; columns beyond the last are the last.
fn line_of(column: u32) -> u32 {
    let own = min(column, params.columns - 1u);
    return select(own, own / 2u + (own & 1u) * (params.columns / 2u), GATED) * params.stride4;
}

fn finish4(row: u32, column: u32, sums: vec4<f32>) {
    finish2(row, column, sums.xy);
    finish2(row, column + 2u, sums.zw);
}

// Of an even column and the next.
fn finish2(row: u32, column: u32, sums: vec2<f32>) {
    if (GATED) {
        if (row < params.rows && column < params.columns) {
            put(row * params.out_columns + column / 2u, activate(sums.x) * sums.y);
        }
    } else {
        finish(row, column, sums.x);
        finish(row, column + 1u, sums.y);
    }
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
