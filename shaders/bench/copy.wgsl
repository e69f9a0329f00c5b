// The copy that memory's ceiling is measured with: vec4s, neighbours side by side.

struct Params {
    // vec4s to copy
    count: u32,
}

// vec4s an invocation
override STEPS: u32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn copy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = 64u * STEPS * (group.x + group.y * groups.x) + lane;
    for (var i = first; i < first + 64u * STEPS; i += 64u) {
        if i < params.count {
            output[i] = input[i];
        }
    }
}
