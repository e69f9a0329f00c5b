// The rate of fma in f32 or f16, whichever Real is: eight chains of vec4s an invocation, that depend on nothing but
// themselves. x becomes shift - x again and again, an odd number of times, so that the outcome is known exactly.

struct Params {
    // an odd number
    loops: u32,
    // -1
    factor: f32,
    // a small whole number
    shift: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> starts: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn fma_rate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let start = Real(starts[lane]);
    let factor = vec4<Real>(Real(params.factor));
    let shift = vec4<Real>(Real(params.shift));
    var a = vec4<Real>(start, start + 1, start + 2, start + 3);
    var b = a + 4;
    var c = a + 8;
    var d = a + 12;
    var e = a + 16;
    var f = a + 20;
    var g = a + 24;
    var h = a + 28;
    // chain by chain, five turns in a function, is shorter and gives a quarter less in f16 on drivers for CPUs
    for (var i = 0u; i < params.loops; i++) {
        a = fma(a, factor, shift);
        b = fma(b, factor, shift);
        c = fma(c, factor, shift);
        d = fma(d, factor, shift);
        e = fma(e, factor, shift);
        f = fma(f, factor, shift);
        g = fma(g, factor, shift);
        h = fma(h, factor, shift);
        a = fma(a, factor, shift);
        b = fma(b, factor, shift);
        c = fma(c, factor, shift);
        d = fma(d, factor, shift);
        e = fma(e, factor, shift);
        f = fma(f, factor, shift);
        g = fma(g, factor, shift);
        h = fma(h, factor, shift);
        a = fma(a, factor, shift);
        b = fma(b, factor, shift);
        c = fma(c, factor, shift);
        d = fma(d, factor, shift);
        e = fma(e, factor, shift);
        f = fma(f, factor, shift);
        g = fma(g, factor, shift);
        h = fma(h, factor, shift);
        a = fma(a, factor, shift);
        b = fma(b, factor, shift);
        c = fma(c, factor, shift);
        d = fma(d, factor, shift);
        e = fma(e, factor, shift);
        f = fma(f, factor, shift);
        g = fma(g, factor, shift);
        h = fma(h, factor, shift);
        a = fma(a, factor, shift);
        b = fma(b, factor, shift);
        c = fma(c, factor, shift);
        d = fma(d, factor, shift);
        e = fma(e, factor, shift);
        f = fma(f, factor, shift);
        g = fma(g, factor, shift);
        h = fma(h, factor, shift);
    }
    let all = vec4<f32>(a) + vec4<f32>(b) + vec4<f32>(c) + vec4<f32>(d) + vec4<f32>(e) + vec4<f32>(f) + vec4<f32>(g)
        + vec4<f32>(h);
    sums[64u * (group.x + group.y * groups.x) + lane] = all.x + all.y + all.z + all.w;
}
