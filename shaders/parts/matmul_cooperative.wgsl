// What the tiles of cooperative matrices have in common: 64 rows × 64 columns a workgroup, in four squares of 32 ×
// 32, a subgroup each. 32 elements of depth at a time are staged as f16, each row multiplied by a power of two
// (powers.wgsl), and likewise each row of the weight unless it is of f16 already; what becomes of the sums, in f32, is
// divided by both.

override WEIGHT_SCALED: bool = true;

const LANES = 128u;
const SQUARES = 4u;
// elements between staged lines: 32 and a few, so that lines do not begin in the same banks
const PITCH = 40u;

// [row][k] and [column][k]
var<workgroup> staged_rows: array<f16, 2560>;
var<workgroup> staged_weight: array<f16, 2560>;
// a part of each square's sums; zeros, where sums begin
var<workgroup> drain: array<f32, 1024>;
// of the 64 rows and the 64 columns: the bits of their largest magnitudes, and the factors
var<workgroup> largest: array<atomic<u32>, 128>;
var<workgroup> factors: array<f32, 128>;
var<workgroup> tickets: atomic<u32>;

fn tile(group: u32, lane: u32) {
    let across = (params.columns + 63u) / 64u;
    let first_row = (group / across) * 64u;
    let first_column = (group % across) * 64u;
    if (first_row >= params.rows) {
        return;
    }
    measure(first_row, first_column, lane);
    // subgroups have no numbers here: the first invocation of each draws one for all of them
    var drawn = 0u;
    if (subgroupExclusiveAdd(1u) == 0u) {
        drawn = atomicAdd(&tickets, 1u);
    }
    let number = subgroupBroadcastFirst(drawn);
    workgroupBarrier();
    let subgroups = atomicLoad(&tickets);
    // fewer subgroups than squares take several turns, all together; more than squares have nothing to multiply
    for (var turn = 0u; turn < SQUARES; turn += subgroups) {
        multiply(first_row, first_column, lane, turn, min(turn + subgroups, SQUARES), turn + number);
    }
}

// The factors of the tile's rows and columns.
fn measure(first_row: u32, first_column: u32, lane: u32) {
    atomicStore(&largest[lane], 0u);
    if (lane == 0u) {
        atomicStore(&tickets, 0u);
    }
    workgroupBarrier();
    for (var line = lane / 16u; line < 64u; line += 8u) {
        var most = vec4<f32>();
        for (var k4 = lane % 16u; k4 < params.depth4; k4 += 16u) {
            most = max(most, abs(row4(first_row + line, k4)));
        }
        atomicMax(&largest[line], bits_of(most));
    }
    if (WEIGHT_SCALED) {
        for (var line = lane / 16u; line < 64u; line += 8u) {
            let first = line_of(first_column + line);
            var most = vec4<f32>();
            for (var k4 = lane % 16u; k4 < params.depth4; k4 += 16u) {
                most = max(most, abs(weight4(first + k4)));
            }
            atomicMax(&largest[64u + line], bits_of(most));
        }
    }
    workgroupBarrier();
    factors[lane] = select(1.0, factor_of(atomicLoad(&largest[lane])), WEIGHT_SCALED || lane < 64u);
    workgroupBarrier();
}

// Stages 8 vec4s of depth of all lines: 8 invocations load a line's, and each the same of 4 lines.
fn stage(first_row: u32, first_column: u32, first_k4: u32, lane: u32) {
    let line = lane / 8u;
    let k4 = first_k4 + lane % 8u;
    var a0 = vec4<f32>();
    var a1 = vec4<f32>();
    var a2 = vec4<f32>();
    var a3 = vec4<f32>();
    var w0 = vec4<f32>();
    var w1 = vec4<f32>();
    var w2 = vec4<f32>();
    var w3 = vec4<f32>();
    if (k4 < params.depth4) {
        let row = first_row + line;
        a0 = row4(row, k4);
        a1 = row4(row + 16u, k4);
        a2 = row4(row + 32u, k4);
        a3 = row4(row + 48u, k4);
        let column = first_column + line;
        w0 = weight4(line_of(column) + k4);
        w1 = weight4(line_of(column + 16u) + k4);
        w2 = weight4(line_of(column + 32u) + k4);
        w3 = weight4(line_of(column + 48u) + k4);
    }
    let place = line * PITCH + 4u * (lane % 8u);
    workgroupBarrier(); // the readers of the previous step are done
    stage_row(place, a0 * factors[line]);
    stage_row(place + 16u * PITCH, a1 * factors[line + 16u]);
    stage_row(place + 32u * PITCH, a2 * factors[line + 32u]);
    stage_row(place + 48u * PITCH, a3 * factors[line + 48u]);
    stage_weight(place, w0 * factors[line + 64u]);
    stage_weight(place + 16u * PITCH, w1 * factors[line + 80u]);
    stage_weight(place + 32u * PITCH, w2 * factors[line + 96u]);
    stage_weight(place + 48u * PITCH, w3 * factors[line + 112u]);
    workgroupBarrier();
}

fn stage_row(place: u32, four: vec4<f32>) {
    let half = vec4<f16>(four);
    staged_rows[place] = half.x;
    staged_rows[place + 1u] = half.y;
    staged_rows[place + 2u] = half.z;
    staged_rows[place + 3u] = half.w;
}

fn stage_weight(place: u32, four: vec4<f32>) {
    let half = vec4<f16>(four);
    staged_weight[place] = half.x;
    staged_weight[place + 1u] = half.y;
    staged_weight[place + 2u] = half.z;
    staged_weight[place + 3u] = half.w;
}

// Zeros into the first part of the drain, from which sums begin.
fn clear(lane: u32) {
    workgroupBarrier(); // what was drained is finished
    drain[lane] = 0.0;
    drain[lane + 128u] = 0.0;
    workgroupBarrier();
}

// Finishes what the drain holds of the squares `first` to `end`: 256 sums of each, from this row and column of a
// square on, as many in a row as matrices lie side by side there.
fn drained(first_row: u32, first_column: u32, lane: u32, first: u32, end: u32, down: u32, right: u32) {
    workgroupBarrier();
    for (var i = first * 256u + 2u * lane; i < end * 256u; i += 2u * LANES) {
        let square = i / 256u;
        let row = (square / 2u) * 32u + down + (i % 256u) / SIDE_BY_SIDE;
        let column = (square % 2u) * 32u + right + i % SIDE_BY_SIDE;
        let two = vec2<f32>(inverse(factors[64u + column]), inverse(factors[65u + column]));
        let sums = vec2<f32>(drain[i], drain[i + 1u]) * inverse(factors[row]) * two;
        finish2(first_row + row, first_column + column, sums);
    }
    workgroupBarrier();
}
