// Each of 8 neighbours has loaded another key of a group; the `i`-th hands on what it has.

fn key4(mine: vec4<f32>, i: u32, first: u32, quad: u32) -> vec4<f32> {
    return subgroupShuffle(mine, i);
}

fn value4(mine: vec4<f32>, i: u32, first: u32, quad: u32) -> vec4<f32> {
    return subgroupShuffle(mine, i);
}
