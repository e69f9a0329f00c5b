// A weight of Q4_0: blocks of 32 elements in 18 bytes, an f16 scale and 16 bytes, whose lower halves are the first 16
// elements, plus 8, and whose upper halves are the others. The product is exact in f32.

const RUN = 8u;

fn scale_at(i: u32) -> vec2<f32> {
    return vec2<f32>(half_at((i / 8u) * 18u), 0.0);
}

fn scaled4(i: u32, scale: vec2<f32>) -> vec4<f32> {
    let block = (i / 8u) * 18u;
    let group = i % 8u;
    let nibbles = word_at(block + 2u + (group % 4u) * 4u) >> ((group / 4u) * 4u);
    return scale.x * (vec4<f32>(bytes4(nibbles & 0x0f0f0f0fu)) - 8.0);
}
