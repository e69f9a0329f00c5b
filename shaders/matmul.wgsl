// Matrix product with a stored weight: out[m, n] = activation(Σ_k rows[m, k] · weight[n, k] + bias[n]). Every
// output is one chain of fma over ascending k, in every form but those of cooperative matrices, so that they agree
// bit for bit.

struct Params {
    rows: u32,        // M
    columns: u32,     // N of this chunk of the weight
    depth: u32,       // K
    depth4: u32,      // vec4s of that, the last padded with zeros
    stride4: u32,     // vec4s from one row of the weight to the next
    out_columns: u32, // of a row of the output
    out_first: u32,   // column of the output at which this chunk begins
}

@group(0) @binding(0) var<uniform> params: Params;
// binding 1: the rows, by a rows part; binding 2: the weight, by a weight part; binding 3: the bias, by the finish
// part; binding 4: the output, by an out part. The tile parts use nothing else.

@compute @workgroup_size(LANES)
fn matmul(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    tile(group.x + group.y * groups.x, lane);
}
