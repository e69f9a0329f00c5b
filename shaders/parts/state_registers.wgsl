// What a query of attention holds while it passes over the keys, in registers: for heads whose size is exactly QUADS
// groups of 4, so that compilers unroll the loops over them. Drivers that run on the CPU reach workgroup memory one
// invocation at a time, and registers all together.

override QUADS: u32 = 8u; // at most 16

var<private> query: array<vec4<f32>, 16>;
var<private> sums: array<vec4<f32>, 16>;

fn quads() -> u32 {
    return QUADS;
}

fn begin(lane: u32, q_at: u32) {
    for (var d = 0u; d < QUADS; d++) {
        query[d] = q4(q_at, d);
        sums[d] = vec4<f32>();
    }
}

fn query4(q_at: u32, d: u32) -> vec4<f32> {
    return query[d];
}

fn sum_of(lane: u32, d: u32) -> vec4<f32> {
    return sums[d];
}

fn set_sum(lane: u32, d: u32, value: vec4<f32>) {
    sums[d] = value;
}
