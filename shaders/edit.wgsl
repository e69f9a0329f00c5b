// Edits of rows in place: what the batch says of each token is done in its order. One workgroup a token.
//   set: x = v;  add: x + α·v;  scale: α·x;  project: x - α·(x·v)·v, with v of length 1

struct Params {
    tokens: u32,
    stride: u32, // elements in a row
    part: u32,   // and in a part of it
    site: u32,  // which of the recording's edited points this is
    sites: u32, // how many there are
}

struct Change {
    next: u32, // the one after it, or NONE
    first: u32, // element of its part of the row at which it begins
    columns: u32,
    operation: u32,
    alpha: f32,
    vector: u32, // where v begins
    part: u32,
    unused0: u32,
}

override LANES: u32 = 64u;

const NONE = 0xffffffffu;
const SET = 0u;
const ADD = 1u;
const SCALE = 2u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> edits: array<u32>; // [tokens, sites], the first change of each, or NONE
@group(0) @binding(2) var<storage, read> changes: array<Change>;
@group(0) @binding(3) var<storage, read> vectors: array<f32>;
@group(0) @binding(4) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(LANES)
fn edit(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let token = group.x + group.y * groups.x;
    if (token >= params.tokens) {
        return;
    }
    var place = edits[token * params.sites + params.site];
    while (place != NONE) {
        let change = changes[place];
        let at = token * params.stride + change.part * params.part + change.first;
        var along = 0.0;
        if (change.operation > SCALE) {
            for (var i = lane; i < change.columns; i += LANES) {
                along = fma(values[at + i], vectors[change.vector + i], along);
            }
            along = reduce_sum(lane, along);
        }
        for (var i = lane; i < change.columns; i += LANES) {
            let x = values[at + i];
            switch change.operation {
                case SET: { values[at + i] = vectors[change.vector + i]; }
                case ADD: { values[at + i] = fma(change.alpha, vectors[change.vector + i], x); }
                case SCALE: { values[at + i] = change.alpha * x; }
                default: { values[at + i] = fma(-change.alpha * along, vectors[change.vector + i], x); }
            }
        }
        // the next one may have other columns, and so other invocations for the same element
        storageBarrier();
        place = change.next;
    }
}
