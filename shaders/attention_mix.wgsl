// Values by a stored pattern, for forwards that edit it: z[i, h] = Σ_j pattern[i, h, j] · v[j, h], over all keys j of
// i's own sequence, ascending. Work is dealt out as in attention_scores; an invocation takes every 64th element of a
// head.

struct Params {
    heads: u32,
    group: u32,     // heads that share one head of values
    head_size: u32,
    kv_stride: u32, // elements in a row of v
    first_v: u32,   // column at which head 0 begins
    tiles: u32,
    keys: u32,      // elements in a row of the pattern
}

override SLOTS: u32 = 16u;

const KEYS_BINDING = 5;

@group(0) @binding(0) var<uniform> params: Params;
// binding 1: the tiles, by a part
@group(0) @binding(2) var<storage, read> pattern: array<f32>; // [tokens, heads, keys]
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> z: array<f32>; // [tokens, heads, head_size]

@compute @workgroup_size(64)
fn attention_mix(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.x + group.y * groups.x;
    let head = index / SLOTS % params.heads;
    if (index / SLOTS / params.heads >= params.tiles) {
        return;
    }
    let tile = tiles[index / SLOTS / params.heads];
    let v_at = params.first_v + head / params.group * params.head_size;
    for (var own = index % SLOTS; own < tile.queries; own += SLOTS) {
        let row = (tile.row + own) * params.heads + head;
        for (var d = lane; d < params.head_size; d += 64u) {
            var sum = 0.0;
            for (var key = 0u; key < tile.length; key++) {
                let value = v[key_row(tile.keys, key) * params.kv_stride + v_at + d];
                sum = fma(pattern[row * params.keys + key], value, sum);
            }
            z[row * params.head_size + d] = sum;
        }
    }
}
