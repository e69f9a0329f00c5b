// Matrix product with a stored weight: out[m, n] = activation(Σ_k rows[m, k] · weight[n, k] + bias[n]).
// Every output is one chain of fma over ascending k, in every form, so that all forms agree bit for bit.

struct Params {
    rows: u32,        // M
    columns: u32,     // N of this chunk of the weight
    depth: u32,       // K
    depth4: u32,      // vec4s in a row of the weight, which is padded with zeros
    out_columns: u32, // of a row of the output
    out_first: u32,   // column of the output at which this chunk begins
}

override HAS_BIAS: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// binding 1: the rows, by a rows part; binding 2: the weight, by a weight part
@group(0) @binding(3) var<storage, read> bias: array<f32>;
// binding 4: the output, by an out part

// The tile parts use nothing but row4 and weight4 to read and finish4 to write.
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

@compute @workgroup_size(LANES)
fn matmul(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    tile(group.x + group.y * groups.x, lane);
}
