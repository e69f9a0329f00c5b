// A weight of Q6_K: blocks of 256 elements in 210 bytes: 128 bytes of lower 4 bits, 64 of upper 2 bits, 16 signed
// scales of 16 elements each, an f16 scale of them all. Each half of the block is 4 runs of 32 elements: the lower bits
// of runs 0 and 1 are the lower halves of its 64 bytes, those of runs 2 and 3 the upper halves; the upper bits of run r
// are bits 2·r and 2·r + 1 of its 32 bytes. Elements are stored plus 32. All products are exact in f32 (at most 23
// bits).

const RUN = 4u;

fn scale_at(i: u32) -> vec2<f32> {
    let block = (i / 64u) * 210u;
    // the scale's byte is in a word that begins at an even place
    let place = (i % 64u) / 4u;
    let scale = signed4(word_at(block + 192u + (place & 14u)))[place & 1u];
    return vec2<f32>(half_at(block + 208u) * f32(scale), 0.0);
}

fn scaled4(i: u32, scale: vec2<f32>) -> vec4<f32> {
    let block = (i / 64u) * 210u;
    let group = i % 64u;
    let side = group / 32u;
    let run = (group / 8u) % 4u;
    let offset = (i % 8u) * 4u;
    let lower = word_at(block + side * 64u + (run % 2u) * 32u + offset) >> ((run / 2u) * 4u);
    let upper = word_at(block + 128u + side * 32u + offset) >> (run * 2u);
    let packed = (lower & 0x0f0f0f0fu) | ((upper & 0x03030303u) << 4u);
    return scale.x * (vec4<f32>(bytes4(packed)) - 32.0);
}
