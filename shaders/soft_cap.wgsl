// Soft cap in place: x becomes cap · tanh(x / cap) (Gemma 2's logits). One invocation 4 values.

struct Params {
    rows: u32,
    columns: u32,
    cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(64)
fn soft_cap(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = ((group.x + group.y * groups.x) * 64u + lane) * 4u;
    let end = min(first + 4u, params.rows * params.columns);
    for (var i = first; i < end; i++) {
        values[i] = params.cap * tanh_of(values[i] / params.cap);
    }
}
