// Sums and maxima over a workgroup by subgroup operations. Nothing is assumed of the subgroups' size, or of how
// invocations are dealt to them: each leaves its partial result at the place of its first invocation, and all read all
// of them.

var<workgroup> partial: array<f32, LANES>;

fn reduce_sum(lane: u32, value: f32) -> f32 {
    let own = subgroupAdd(value);
    let place = subgroupExclusiveAdd(1u);
    workgroupBarrier(); // the readers of an earlier reduction are done
    partial[lane] = select(0.0, own, place == 0u);
    workgroupBarrier();
    let size = subgroupAdd(1u);
    var total = 0.0;
    for (var i = place; i < LANES; i += size) {
        total += partial[i];
    }
    return subgroupAdd(total);
}

fn reduce_max(lane: u32, value: f32) -> f32 {
    let own = subgroupMax(value);
    workgroupBarrier();
    partial[lane] = own;
    workgroupBarrier();
    let size = subgroupAdd(1u);
    var total = -3.4e38;
    for (var i = subgroupExclusiveAdd(1u); i < LANES; i += size) {
        total = max(total, partial[i]);
    }
    return subgroupMax(total);
}
