// Few rows without workgroup memory, for drivers that run on the CPU: an invocation holds 4 columns, and sums each as
// one chain of fma over ascending k. Loads that differ between invocations are what costs there.

const LANES = 8u;

fn product(group: u32, lane: u32) {
    let across = (params.columns + 31u) / 32u;
    let row = group / across * 4u;
    let column = group % across * 32u + lane * 4u;
    if (row >= params.rows || column >= params.columns) {
        return;
    }
    let first = min(vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.columns - 1u)) * params.depth4;
    // two calls with constants, so that a row that is alone has no branches
    if (row + 1u == params.rows) {
        finish_rows(row, column, walk(row, first, true));
    } else {
        finish_rows(row, column, walk(row, first, false));
    }
}

// Sums of 4 columns, an element of each for every row.
struct Sums {
    x: vec4<f32>,
    y: vec4<f32>,
    z: vec4<f32>,
    w: vec4<f32>,
}

// A run at a time: of all columns the first vec4, so that what no cache has is on its way for all of them, then of one
// column after the other the rest. Lines that are read so do not drive each other out of the cache where the distance
// of columns is a power of two.
fn walk(row: u32, first: vec4<u32>, alone: bool) -> Sums {
    var sums = Sums();
    let whole = params.depth4 / LINE * LINE;
    for (var run = 0u; run < whole; run += LINE) {
        let place = first + run;
        let scale_x = scale_at(place.x);
        let scale_y = scale_at(place.y);
        let scale_z = scale_at(place.z);
        let scale_w = scale_at(place.w);
        let x = scaled4(place.x, scale_x);
        let y = scaled4(place.y, scale_y);
        let z = scaled4(place.z, scale_z);
        let w = scaled4(place.w, scale_w);
        sums.x = rest(step(sums.x, row, run, x, alone), row, run, place.x, scale_x, alone);
        sums.y = rest(step(sums.y, row, run, y, alone), row, run, place.y, scale_y, alone);
        sums.z = rest(step(sums.z, row, run, z, alone), row, run, place.z, scale_z, alone);
        sums.w = rest(step(sums.w, row, run, w, alone), row, run, place.w, scale_w, alone);
    }
    for (var k = whole; k < params.depth4; k++) {
        let place = first + k;
        sums.x = step(sums.x, row, k, weight4(place.x), alone);
        sums.y = step(sums.y, row, k, weight4(place.y), alone);
        sums.z = step(sums.z, row, k, weight4(place.z), alone);
        sums.w = step(sums.w, row, k, weight4(place.w), alone);
    }
    return sums;
}

// What follows the first vec4 of a column's run.
fn rest(sums: vec4<f32>, row: u32, run: u32, place: u32, scale: vec2<f32>, alone: bool) -> vec4<f32> {
    var total = sums;
    for (var i = 1u; i < LINE; i++) {
        total = step(total, row, run + i, scaled4(place + i, scale), alone);
    }
    return total;
}

// Four terms of one column, of every row.
fn step(sums: vec4<f32>, row: u32, k: u32, w: vec4<f32>, alone: bool) -> vec4<f32> {
    let one = dot4(sums.x, row4(row, k), w);
    if (alone) {
        return vec4<f32>(one, 0.0, 0.0, 0.0);
    }
    return vec4<f32>(
        one,
        dot4(sums.y, row4(row + 1u, k), w),
        dot4(sums.z, row4(row + 2u, k), w),
        dot4(sums.w, row4(row + 3u, k), w),
    );
}

fn dot4(sum: f32, a: vec4<f32>, w: vec4<f32>) -> f32 {
    return fma(a.w, w.w, fma(a.z, w.z, fma(a.y, w.y, fma(a.x, w.x, sum))));
}

fn finish_rows(row: u32, column: u32, sums: Sums) {
    finish4(row, column, vec4<f32>(sums.x.x, sums.y.x, sums.z.x, sums.w.x));
    finish4(row + 1u, column, vec4<f32>(sums.x.y, sums.y.y, sums.z.y, sums.w.y));
    finish4(row + 2u, column, vec4<f32>(sums.x.z, sums.y.z, sums.z.z, sums.w.z));
    finish4(row + 3u, column, vec4<f32>(sums.x.w, sums.y.w, sums.z.w, sums.w.w));
}
