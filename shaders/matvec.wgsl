// Matrix product with few rows, for decode steps: out[m, n] = activation(Σ_k rows[m, k] · weight[n, k] + bias[n]).
// Each element of the weight is read once for 4 rows. What a row comes to depends on no other row, nor on how many
// there are: a form sums in one order, whether it takes one row or 4.

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
// part; binding 4: the output, by an out part

@compute @workgroup_size(LANES)
fn matvec(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    product(group.x + group.y * groups.x, lane);
}
