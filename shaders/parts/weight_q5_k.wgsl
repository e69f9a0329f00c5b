// A weight of Q5_K: blocks of 256 elements in 176 bytes: as Q4_K, with 32 bytes of fifth bits in front of the lower 4.
// Bit r of byte l of these is of element l of run r. All products are exact in f32 (at most 22 bits), so that the
// difference is rounded once, whether or not it becomes an fma.

const RUN = 8u;

fn scale_at(i: u32) -> vec2<f32> {
    return scale_and_minimum((i / 64u) * 44u, (i / 8u) % 8u);
}

fn scaled4(i: u32, scale: vec2<f32>) -> vec4<f32> {
    let first = (i / 64u) * 44u;
    let run = (i / 8u) % 8u;
    let nibbles = weight[first + 12u + (run / 2u) * 8u + i % 8u] >> ((run % 2u) * 4u);
    let fifths = weight[first + 4u + i % 8u] >> run;
    let packed = (nibbles & 0x0f0f0f0fu) | ((fifths & 0x01010101u) << 4u);
    return scale.x * vec4<f32>(bytes4(packed)) - scale.y;
}
