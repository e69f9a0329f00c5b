// Residual addition: stream = stream + term, element by element.

struct Params {
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> term: array<f32>;
@group(0) @binding(2) var<storage, read_write> stream: array<f32>;

@compute @workgroup_size(64)
fn residual_add(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = ((group.x + group.y * groups.x) * 64u + lane) * 4u;
    let end = min(first + 4u, params.rows * params.columns);
    for (var i = first; i < end; i++) {
        stream[i] = stream[i] + term[i];
    }
}
