// A weight of Q4_K: blocks of 256 elements in 144 bytes: an f16 each of scales and minima, 12 bytes of 6-bit scales and
// minima, 128 bytes. Each 32 bytes hold two runs of 32 elements, in their lower and in their upper halves. All products
// are exact in f32 (at most 21 bits), so that the difference is rounded once, whether or not it becomes an fma.

const RUN = 8u;

fn scale_at(i: u32) -> vec2<f32> {
    return scale_and_minimum((i / 64u) * 36u, (i / 8u) % 8u);
}

fn scaled4(i: u32, scale: vec2<f32>) -> vec4<f32> {
    let first = (i / 64u) * 36u;
    let run = (i / 8u) % 8u;
    let nibbles = weight[first + 4u + (run / 2u) * 8u + i % 8u] >> ((run % 2u) * 4u);
    return scale.x * vec4<f32>(bytes4(nibbles & 0x0f0f0f0fu)) - scale.y;
}
