// The rate of cooperative matrices of SIDE × SIDE: eight chains of products a subgroup, that depend on nothing but
// themselves. Each sum begins with a number of its own and grows by the same whole numbers, so that the outcome is
// known exactly.

const SIZE = SIDE * SIDE;

struct Params {
    loops: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// eight matrices: all elements of the first are 0, of the second 1, and so on
@group(0) @binding(1) var<storage, read> starts: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

var<workgroup> ones: array<f16, SIDE * SIDE>;
// a matrix of each subgroup, which has as many invocations as a matrix has rows
var<workgroup> drain: array<f32, 128u * SIDE>;
var<workgroup> tickets: atomic<u32>;

@compute @workgroup_size(128)
fn matrix_rate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var i = lane; i < SIZE; i += 128u) {
        ones[i] = f16(starts[SIZE + i]);
    }
    if (lane == 0u) {
        atomicStore(&tickets, 0u);
    }
    workgroupBarrier();
    var drawn = 0u;
    if (subgroupExclusiveAdd(1u) == 0u) {
        drawn = atomicAdd(&tickets, 1u);
    }
    let own = subgroupBroadcastFirst(drawn) * SIZE;
    workgroupBarrier();
    let end = atomicLoad(&tickets) * SIZE;
    let x = coopLoadT<Left>(&ones[0], SIDE);
    let y = coopLoad<Right>(&ones[0], SIDE);
    var a = coopLoadT<Sum>(&starts[0u * SIZE], SIDE);
    var b = coopLoadT<Sum>(&starts[1u * SIZE], SIDE);
    var c = coopLoadT<Sum>(&starts[2u * SIZE], SIDE);
    var d = coopLoadT<Sum>(&starts[3u * SIZE], SIDE);
    var e = coopLoadT<Sum>(&starts[4u * SIZE], SIDE);
    var f = coopLoadT<Sum>(&starts[5u * SIZE], SIDE);
    var g = coopLoadT<Sum>(&starts[6u * SIZE], SIDE);
    var h = coopLoadT<Sum>(&starts[7u * SIZE], SIDE);
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
    coopStoreT(a, &drain[own], SIDE);
    total += drained(lane, end);
    coopStoreT(b, &drain[own], SIDE);
    total += drained(lane, end);
    coopStoreT(c, &drain[own], SIDE);
    total += drained(lane, end);
    coopStoreT(d, &drain[own], SIDE);
    total += drained(lane, end);
    coopStoreT(e, &drain[own], SIDE);
    total += drained(lane, end);
    coopStoreT(f, &drain[own], SIDE);
    total += drained(lane, end);
    coopStoreT(g, &drain[own], SIDE);
    total += drained(lane, end);
    coopStoreT(h, &drain[own], SIDE);
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
