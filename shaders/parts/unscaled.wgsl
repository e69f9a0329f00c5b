// A weight whose elements share no scale: each vec4 is a run by itself.

const RUN = 1u;

fn scale_at(i: u32) -> vec2<f32> {
    return vec2<f32>();
}

fn scaled4(i: u32, scale: vec2<f32>) -> vec4<f32> {
    return weight4(i);
}
