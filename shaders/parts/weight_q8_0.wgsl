// A weight of Q8_0: blocks of 32 elements in 34 bytes, an f16 scale and 32 signed bytes. A product of an f16 and a byte
// is exact in f32.

const RUN = 8u;

fn scale_at(i: u32) -> vec2<f32> {
    return vec2<f32>(half_at((i / 8u) * 34u), 0.0);
}

fn scaled4(i: u32, scale: vec2<f32>) -> vec4<f32> {
    let block = (i / 8u) * 34u;
    return scale.x * vec4<f32>(signed4(word_at(block + 2u + (i % 8u) * 4u)));
}
