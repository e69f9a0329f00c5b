// Every invocation loads all 8 keys of a group; what the `i`-th of 8 neighbours has loaded is not used.

fn key4(mine: vec4<f32>, i: u32, first: u32, quad: u32) -> vec4<f32> {
    return k4(first, quad);
}

fn value4(mine: vec4<f32>, i: u32, first: u32, quad: u32) -> vec4<f32> {
    return v4(first, quad);
}
