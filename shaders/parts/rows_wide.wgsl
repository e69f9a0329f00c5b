// Rows of activations whose length is a multiple of 4, loaded as words of 64 bits: drivers that run on the CPU load
// each word for each invocation by itself, and two halves come in the time of one.

@group(0) @binding(1) var<storage, read> rows: array<vec2<u64>>;

// As rows_vec4 has it.
fn row4(row: u32, k4: u32) -> vec4<f32> {
    let bits = rows[min(row, params.rows - 1u) * params.depth4 + k4];
    return vec4<f32>(bitcast<vec2<f32>>(halves(bits.x)), bitcast<vec2<f32>>(halves(bits.y)));
}

fn halves(word: u64) -> vec2<u32> {
    return vec2<u32>(u32(word & 0xfffffffflu), u32(word >> 32u));
}
