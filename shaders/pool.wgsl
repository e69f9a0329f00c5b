// Pooling: one vector for each sequence out of its tokens' rows of the stream. One invocation a column.
// The modes are sentence-transformers': each sums a sequence's tokens in order, whatever else is in the batch.

struct Params {
    sequences: u32,
    columns: u32,
    out_columns: u32, // of the output rows: several modes may stand side by side
    out_first: u32,   // where this mode's columns begin
}

const CLS = 0u;
const MAX = 1u;
const MEAN = 2u;
const MEAN_SQRT_LEN = 3u;
const WEIGHTED_MEAN = 4u;
const LAST_TOKEN = 5u;
override MODE: u32 = 2u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sequences: array<vec4<u32>>; // first row, length, first pooled token, 0
@group(0) @binding(2) var<storage, read> stream: array<f32>;
@group(0) @binding(3) var<storage, read_write> pooled: array<f32>;

@compute @workgroup_size(64)
fn pool(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    let s = index / params.columns;
    if (s >= params.sequences) {
        return;
    }
    let column = index % params.columns;
    let first = sequences[s].x;
    let length = sequences[s].y;
    let skip = sequences[s].z; // tokens of a prompt that the average leaves out

    var value = 0.0;
    if (MODE == CLS) {
        value = stream[(first + skip) * params.columns + column];
    } else if (MODE == LAST_TOKEN) {
        value = stream[(first + length - 1u) * params.columns + column];
    } else if (MODE == MAX) {
        value = -3.4e38;
        for (var i = skip; i < length; i++) {
            value = max(value, stream[(first + i) * params.columns + column]);
        }
    } else {
        var weights = 0.0;
        for (var i = skip; i < length; i++) {
            let weight = select(1.0, f32(i + 1u), MODE == WEIGHTED_MEAN);
            value = fma(stream[(first + i) * params.columns + column], weight, value);
            weights += weight;
        }
        weights = max(weights, 1e-9);
        value = value / select(weights, sqrt(weights), MODE == MEAN_SQRT_LEN);
    }
    pooled[s * params.out_columns + params.out_first + column] = value;
}
