// The rate of cooperative matrices of 8 × 8: eight chains of products a subgroup, that depend on nothing but
// themselves. Each sum begins with a number of its own and grows by the same whole numbers, so that the outcome is
// known exactly.

struct Params {
    loops: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// eight matrices: all elements of the first are 0, of the second 1, and so on
@group(0) @binding(1) var<storage, read> starts: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

var<workgroup> ones: array<f16, 64>;
// a matrix of each subgroup, of which there are at most 16
var<workgroup> drain: array<f32, 1024>;
var<workgroup> tickets: atomic<u32>;

@compute @workgroup_size(128)
fn matrix8(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var i = lane; i < 64u; i += 128u) {
        ones[i] = f16(starts[64u + i]);
    }
    if (lane == 0u) {
        atomicStore(&tickets, 0u);
    }
    workgroupBarrier();
    var drawn = 0u;
    if (subgroupExclusiveAdd(1u) == 0u) {
        drawn = atomicAdd(&tickets, 1u);
    }
    let own = subgroupBroadcastFirst(drawn) * 64u;
    workgroupBarrier();
    let end = atomicLoad(&tickets) * 64u;
    let x = coopLoadT<coop_mat8x8<f16, A>>(&ones[0], 8u);
    let y = coopLoad<coop_mat8x8<f16, B>>(&ones[0], 8u);
    var a = coopLoadT<coop_mat8x8<f32, C>>(&starts[0u], 8u);
    var b = coopLoadT<coop_mat8x8<f32, C>>(&starts[64u], 8u);
    var c = coopLoadT<coop_mat8x8<f32, C>>(&starts[128u], 8u);
    var d = coopLoadT<coop_mat8x8<f32, C>>(&starts[192u], 8u);
    var e = coopLoadT<coop_mat8x8<f32, C>>(&starts[256u], 8u);
    var f = coopLoadT<coop_mat8x8<f32, C>>(&starts[320u], 8u);
    var g = coopLoadT<coop_mat8x8<f32, C>>(&starts[384u], 8u);
    var h = coopLoadT<coop_mat8x8<f32, C>>(&starts[448u], 8u);
    for (var i = 0u; i < params.loops; i++) {
        a = coopMultiplyAdd(x, y, a);
        b = coopMultiplyAdd(x, y, b);
        c = coopMultiplyAdd(x, y, c);
        d = coopMultiplyAdd(x, y, d);
        e = coopMultiplyAdd(x, y, e);
        f = coopMultiplyAdd(x, y, f);
        g = coopMultiplyAdd(x, y, g);
        h = coopMultiplyAdd(x, y, h);
        a = coopMultiplyAdd(x, y, a);
        b = coopMultiplyAdd(x, y, b);
        c = coopMultiplyAdd(x, y, c);
        d = coopMultiplyAdd(x, y, d);
        e = coopMultiplyAdd(x, y, e);
        f = coopMultiplyAdd(x, y, f);
        g = coopMultiplyAdd(x, y, g);
        h = coopMultiplyAdd(x, y, h);
    }
    var total = 0.0;
    coopStoreT(a, &drain[own], 8u);
    total += drained(lane, end);
    coopStoreT(b, &drain[own], 8u);
    total += drained(lane, end);
    coopStoreT(c, &drain[own], 8u);
    total += drained(lane, end);
    coopStoreT(d, &drain[own], 8u);
    total += drained(lane, end);
    coopStoreT(e, &drain[own], 8u);
    total += drained(lane, end);
    coopStoreT(f, &drain[own], 8u);
    total += drained(lane, end);
    coopStoreT(g, &drain[own], 8u);
    total += drained(lane, end);
    coopStoreT(h, &drain[own], 8u);
    total += drained(lane, end);
    sums[128u * (group.x + group.y * groups.x) + lane] = total;
}

// An invocation's share of what the subgroups have drained.
fn drained(lane: u32, end: u32) -> f32 {
    workgroupBarrier();
    var sum = 0.0;
    for (var i = lane; i < end; i += 128u) {
        sum += drain[i];
    }
    workgroupBarrier();
    return sum;
}
