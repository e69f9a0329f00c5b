// What a query of attention holds while it passes over the keys, in workgroup memory: room for heads of any size.

override ROOM: u32 = 256u; // groups of 4 of all queries together

// the weighted sum of the values so far, [quad][query]
var<workgroup> sums: array<vec4<f32>, ROOM>;

fn quads() -> u32 {
    return params.quads;
}

fn begin(lane: u32, q_at: u32) {
    for (var d = 0u; d < params.quads; d++) {
        sums[d * LANES + lane] = vec4<f32>();
    }
}

fn query4(q_at: u32, d: u32) -> vec4<f32> {
    return q4(q_at, d);
}

fn sum_of(lane: u32, d: u32) -> vec4<f32> {
    return sums[d * LANES + lane];
}

fn set_sum(lane: u32, d: u32, value: vec4<f32>) {
    sums[d * LANES + lane] = value;
}
