// Sums and maxima over a workgroup by a tree in workgroup memory; LANES is a power of two.

var<workgroup> partial: array<f32, LANES>;

fn reduce_sum(lane: u32, value: f32) -> f32 {
    workgroupBarrier(); // the readers of an earlier reduction are done
    partial[lane] = value;
    for (var width = LANES / 2u; width > 0u; width = width / 2u) {
        workgroupBarrier();
        if (lane < width) {
            partial[lane] = partial[lane] + partial[lane + width];
        }
    }
    workgroupBarrier();
    return partial[0];
}

fn reduce_max(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    partial[lane] = value;
    for (var width = LANES / 2u; width > 0u; width = width / 2u) {
        workgroupBarrier();
        if (lane < width) {
            partial[lane] = max(partial[lane], partial[lane + width]);
        }
    }
    workgroupBarrier();
    return partial[0];
}
