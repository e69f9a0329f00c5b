// Sums of 16 rows × 4 columns an invocation, for drivers that run on the CPU: these load for each invocation by itself,
// so that each of 8 loads other rows and hands them to the rest of its subgroup. A load of the weight serves all rows.
// No invocation leaves early: the others need its rows.

const LANES = 8u;

// The sums of row i are element i. Only constants index them, so that compilers see 16 names.
alias Sums = array<vec4<f32>, 16>;

// The next four elements of four columns of the weight: x has the first of each.
struct Columns {
    x: vec4<f32>,
    y: vec4<f32>,
    z: vec4<f32>,
    w: vec4<f32>,
}

// Of the runs of four columns.
struct Scales {
    a: vec2<f32>,
    b: vec2<f32>,
    c: vec2<f32>,
    d: vec2<f32>,
}

// Where the four columns begin in the weight.
fn first_of(column: u32) -> vec4<u32> {
    return vec4<u32>(line_of(column), line_of(column + 1u), line_of(column + 2u), line_of(column + 3u));
}

// The scales of the runs that begin there.
fn scales_at(place: vec4<u32>) -> Scales {
    return Scales(scale_at(place.x), scale_at(place.y), scale_at(place.z), scale_at(place.w));
}

fn columns_at(place: vec4<u32>, scales: Scales) -> Columns {
    let a = scaled4(place.x, scales.a);
    let b = scaled4(place.y, scales.b);
    let c = scaled4(place.z, scales.c);
    let d = scaled4(place.w, scales.d);
    return Columns(
        vec4<f32>(a.x, b.x, c.x, d.x),
        vec4<f32>(a.y, b.y, c.y, d.y),
        vec4<f32>(a.z, b.z, c.z, d.z),
        vec4<f32>(a.w, b.w, c.w, d.w),
    );
}

// Four terms of the sums of 16 rows, of which an invocation loads two.
fn add16(sums: ptr<function, Sums>, row: u32, lane: u32, k: u32, w: Columns) {
    let low = row4(row + lane, k);
    let high = row4(row + 8u + lane, k);
    (*sums)[0] = add4((*sums)[0], subgroupBroadcast(low, 0u), w);
    (*sums)[1] = add4((*sums)[1], subgroupBroadcast(low, 1u), w);
    (*sums)[2] = add4((*sums)[2], subgroupBroadcast(low, 2u), w);
    (*sums)[3] = add4((*sums)[3], subgroupBroadcast(low, 3u), w);
    (*sums)[4] = add4((*sums)[4], subgroupBroadcast(low, 4u), w);
    (*sums)[5] = add4((*sums)[5], subgroupBroadcast(low, 5u), w);
    (*sums)[6] = add4((*sums)[6], subgroupBroadcast(low, 6u), w);
    (*sums)[7] = add4((*sums)[7], subgroupBroadcast(low, 7u), w);
    (*sums)[8] = add4((*sums)[8], subgroupBroadcast(high, 0u), w);
    (*sums)[9] = add4((*sums)[9], subgroupBroadcast(high, 1u), w);
    (*sums)[10] = add4((*sums)[10], subgroupBroadcast(high, 2u), w);
    (*sums)[11] = add4((*sums)[11], subgroupBroadcast(high, 3u), w);
    (*sums)[12] = add4((*sums)[12], subgroupBroadcast(high, 4u), w);
    (*sums)[13] = add4((*sums)[13], subgroupBroadcast(high, 5u), w);
    (*sums)[14] = add4((*sums)[14], subgroupBroadcast(high, 6u), w);
    (*sums)[15] = add4((*sums)[15], subgroupBroadcast(high, 7u), w);
}

// Four terms of the sums of one row, in their order.
fn add4(sums: vec4<f32>, a: vec4<f32>, w: Columns) -> vec4<f32> {
    let two = fma(vec4<f32>(a.y), w.y, fma(vec4<f32>(a.x), w.x, sums));
    return fma(vec4<f32>(a.w), w.w, fma(vec4<f32>(a.z), w.z, two));
}

// Four rows at a time, which move up: compiled once for four rows and not for 16.
fn finish16(sums: ptr<function, Sums>, row: u32, column: u32) {
    let end = min(row + 16u, params.rows);
    for (var i = row; i < end; i += 4u) {
        finish4(i, column, (*sums)[0]);
        finish4(i + 1u, column, (*sums)[1]);
        finish4(i + 2u, column, (*sums)[2]);
        finish4(i + 3u, column, (*sums)[3]);
        (*sums)[0] = (*sums)[4];
        (*sums)[1] = (*sums)[5];
        (*sums)[2] = (*sums)[6];
        (*sums)[3] = (*sums)[7];
        (*sums)[4] = (*sums)[8];
        (*sums)[5] = (*sums)[9];
        (*sums)[6] = (*sums)[10];
        (*sums)[7] = (*sums)[11];
        (*sums)[8] = (*sums)[12];
        (*sums)[9] = (*sums)[13];
        (*sums)[10] = (*sums)[14];
        (*sums)[11] = (*sums)[15];
    }
}
