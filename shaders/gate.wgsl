// Gated activation (SwiGLU, GeGLU): out = activation(gate) · up; the first half of a row is the gate, the second up.

struct Params {
    rows: u32,
    columns: u32, // of the output; the input has twice as many
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate_up: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn gate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = ((group.x + group.y * groups.x) * 64u + lane) * 4u;
    let end = min(first + 4u, params.rows * params.columns);
    for (var i = first; i < end; i++) {
        let row = i / params.columns;
        let at = i + row * params.columns;
        output[i] = activate(gate_up[at]) * gate_up[at + params.columns];
    }
}
