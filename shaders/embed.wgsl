// Embedding sum: stream[t] = word[id] · scale + positions[position] + types[type], the first writer of the residual
// stream.
// One invocation writes 4 columns of a token. The word table may be one of several chunks of rows: a token belongs
// to exactly one chunk, and only that chunk's dispatch writes it.

struct Params {
    tokens: u32,
    columns: u32,
    stride4: u32,   // vec4s from one row of the word table to the next
    first_row: u32, // of this chunk of the word table
    rows: u32,      // in this chunk
    scale: f32,     // of the word
}

override HAS_POSITIONS: bool = true;
override HAS_TYPES: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tokens: array<vec4<u32>>; // id, position, type, 0
// binding 2: the word table, by a weight part
@group(0) @binding(3) var<storage, read> positions: array<f32>;
@group(0) @binding(4) var<storage, read> types: array<f32>;
@group(0) @binding(5) var<storage, read_write> stream: array<f32>;

@compute @workgroup_size(64)
fn embed(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quads = (params.columns + 3u) / 4u;
    let index = (group.x + group.y * groups.x) * 64u + lane;
    let t = index / quads;
    if (t >= params.tokens) {
        return;
    }
    let token = tokens[t];
    let row = token.x - params.first_row; // wraps to a large number for the rows of earlier chunks
    if (row >= params.rows) {
        return;
    }
    let quad = index % quads;
    let word = weight4(row * params.stride4 + quad);
    for (var i = 0u; i < 4u; i++) {
        let column = quad * 4u + i;
        if (column < params.columns) {
            var sum = word[i] * params.scale;
            // the order of the additions is Hugging Face's: word + type, then position
            if (HAS_TYPES) {
                sum += types[token.z * params.columns + column];
            }
            if (HAS_POSITIONS) {
                sum += positions[token.y * params.columns + column];
            }
            stream[t * params.columns + column] = sum;
        }
    }
}
