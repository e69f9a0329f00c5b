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
    let first = vec4<u32>(line_of(column), line_of(column + 1u), line_of(column + 2u), line_of(column + 3u));
    if (row + 1u == params.rows) {
        finish4(row, column, alone(row, first));
        return;
    }
    let sums = together(row, first);
    finish4(row, column, vec4<f32>(sums.x.x, sums.y.x, sums.z.x, sums.w.x));
    finish4(row + 1u, column, vec4<f32>(sums.x.y, sums.y.y, sums.z.y, sums.w.y));
    finish4(row + 2u, column, vec4<f32>(sums.x.z, sums.y.z, sums.z.z, sums.w.z));
    finish4(row + 3u, column, vec4<f32>(sums.x.w, sums.y.w, sums.z.w, sums.w.w));
}

// One row, a line at a time: of all columns the first vec4, so that what no cache has is on its way for all of them,
// then of one column after the other the rest. Lines that are read so do not drive each other out of the cache where
// the distance of columns is a power of two.
fn alone(row: u32, first: vec4<u32>) -> vec4<f32> {
    var sums = vec4<f32>();
    let whole = params.depth4 / LINE * LINE;
    for (var line = 0u; line < whole; line += LINE) {
        let place = first + line;
        let scale_x = scale_at(place.x);
        let scale_y = scale_at(place.y);
        let scale_z = scale_at(place.z);
        let scale_w = scale_at(place.w);
        let x = scaled4(place.x, scale_x);
        let y = scaled4(place.y, scale_y);
        let z = scaled4(place.z, scale_z);
        let w = scaled4(place.w, scale_w);
        let a = row4(row, line);
        sums.x = rest(dot4(sums.x, a, x), row, line, place.x, scale_x);
        sums.y = rest(dot4(sums.y, a, y), row, line, place.y, scale_y);
        sums.z = rest(dot4(sums.z, a, z), row, line, place.z, scale_z);
        sums.w = rest(dot4(sums.w, a, w), row, line, place.w, scale_w);
    }
    for (var k = whole; k < params.depth4; k++) {
        let place = first + k;
        let a = row4(row, k);
        sums.x = dot4(sums.x, a, weight4(place.x));
        sums.y = dot4(sums.y, a, weight4(place.y));
        sums.z = dot4(sums.z, a, weight4(place.z));
        sums.w = dot4(sums.w, a, weight4(place.w));
    }
    return sums;
}

// What follows the first vec4 of a column's line.
fn rest(sum: f32, row: u32, line: u32, place: u32, scale: vec2<f32>) -> f32 {
    var total = sum;
    for (var i = 1u; i < LINE; i++) {
        total = dot4(total, row4(row, line + i), scaled4(place + i, scale));
    }
    return total;
}

// Sums of 4 columns, an element of each for every row.
struct Sums {
    x: vec4<f32>,
    y: vec4<f32>,
    z: vec4<f32>,
    w: vec4<f32>,
}

// Up to 4 rows.
fn together(row: u32, first: vec4<u32>) -> Sums {
    var sums = Sums();
    for (var run = 0u; run < params.depth4; run += RUN) {
        let place = first + run;
        let scale_x = scale_at(place.x);
        let scale_y = scale_at(place.y);
        let scale_z = scale_at(place.z);
        let scale_w = scale_at(place.w);
        for (var i = 0u; i < RUN; i++) {
            sums.x = step(sums.x, row, run + i, scaled4(place.x + i, scale_x));
            sums.y = step(sums.y, row, run + i, scaled4(place.y + i, scale_y));
            sums.z = step(sums.z, row, run + i, scaled4(place.z + i, scale_z));
            sums.w = step(sums.w, row, run + i, scaled4(place.w + i, scale_w));
        }
    }
    return sums;
}

// Four terms of one column, of every row.
fn step(sums: vec4<f32>, row: u32, k: u32, w: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(
        dot4(sums.x, row4(row, k), w),
        dot4(sums.y, row4(row + 1u, k), w),
        dot4(sums.z, row4(row + 2u, k), w),
        dot4(sums.w, row4(row + 3u, k), w),
    );
}

fn dot4(sum: f32, a: vec4<f32>, w: vec4<f32>) -> f32 {
    return fma(a.w, w.w, fma(a.z, w.z, fma(a.y, w.y, fma(a.x, w.x, sum))));
}
