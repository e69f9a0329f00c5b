//! Cases of `logit_stats`. Each shape is three of them: all that it writes, in which ids weigh nothing; each number of each
//! sequence's rows on its own scale; and ids and ranks, to the bit.

use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Size};
use crate::kernels::Reduce;
use crate::kernels::logit_stats::{FIRST, LogitStats, MOST, NOTHING, words};
use crate::reference;
use crate::schedule::{Batch, Slot};

/// What of the results is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    All,
    Numbers,
    Ids,
}

/// How a row's logits lie.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Of a spread, about a center.
    Spread(f32, f32),
    /// Whole numbers, so that many are equal.
    Ties,
    /// All the same.
    Equal,
    /// Nearly those of the row that it is compared with.
    Near,
    /// With NaN of either sign, an infinity, or a number beyond all bounds among them.
    Odd(u32),
}

use Kind::{Equal, Near, Odd, Spread, Ties};

/// The kinds of a sequence's rows; the last is what the others, and itself, are compared with.
const SOUND: &[&[Kind]] = &[
    &[Ties, Spread(0.0, 8.0), Spread(-30.0, 30.0), Equal, Spread(0.0, 3.0)],
    &[Near, Near, Spread(0.0, 3.0)],
    &[Near, Near, Spread(1e4, 8.0)],
    &[Equal, Spread(-1e4, 2.0), Spread(9e3, 4.0), Spread(1e4, 8.0)],
    &[Spread(0.0, 1e4), Spread(2.0, 1.0), Ties],
    &[Spread(0.0, 2.0), Spread(0.0, 1e4)],
];

const ODD: &[&[Kind]] = &[
    &[Odd(0x7fc0_0000), Odd(0xffc0_0001), Odd(0x7f80_0000), Odd(0xff80_0000), Odd(0x7e80_0000), Spread(0.0, 5.0)],
    &[Spread(0.0, 5.0), Odd(0x7fa0_0000)],
];

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for reduce in Reduce::ALL {
        for part in [Part::All, Part::Numbers, Part::Ids] {
            for (columns, top) in [(300, 5), (1, 3), (2, 1), (70, MOST), (257, 10), (1031, MOST), (5000, 0)] {
                plans.push(case(reduce, columns, top, SOUND, part));
            }
        }
        // larger than Gemma's, and no count of invocations divides it
        for part in [Part::Numbers, Part::Ids] {
            plans.push(case(reduce, 262_147, 10, &SOUND[..2], part).sized(Size::Large));
        }
        plans.push(case(reduce, 300, 4, ODD, Part::All));
        plans.push(case(reduce, 300, 4, ODD, Part::Ids));
    }
    plans
}

fn case(reduce: Reduce, columns: usize, top: usize, sequences: &'static [&'static [Kind]], part: Part) -> Plan {
    let (logits, stats) = (Slot::Scratch(0), Slot::Scratch(1));
    let rows: usize = sequences.iter().map(|kinds| kinds.len()).sum();
    let kernel = LogitStats { reduce, logits, columns, top, stats };
    let odd = if sequences == ODD { ", not all numbers" } else { "" };
    let shape = format!("{rows} rows of {columns}, {top} of them, {part:?}{odd}");
    let token_rows = vec![(logits, columns), (stats, words(top))];
    let plan = Plan::new("logit_stats", shape, vec![kernel.dispatch()], token_rows, move |random| {
        let mut batch = Batch::new(32);
        let (mut all, mut expected) = (Vec::new(), Vec::new());
        for kinds in sequences {
            let first = batch.dims().tokens as usize;
            batch.push((0..kinds.len() as u32).map(|i| (0, i, 0)), 0);
            let last = row(random, *kinds.last().unwrap_or(&Equal), columns, &[]);
            for (i, &kind) in kinds.iter().enumerate() {
                let x = if i + 1 == kinds.len() { last.clone() } else { row(random, kind, columns, &last) };
                let token = (random.below(3) > 0).then(|| random.below(columns));
                batch.read(token.map(|id| id as u32), first + kinds.len() - 1);
                expected.extend(result(&x, &last, token, top));
                all.extend(x);
            }
        }
        let contents = Contents::from([(logits, bytes(&all)), (stats, POISON.to_le_bytes().repeat(expected.len()))]);
        let stride = words(top);
        let sequences = batch.sequences();
        let column = |rows: std::ops::Range<usize>, c: usize| {
            rows.map(|row| row * stride + c).map(|i| (i, expected[i])).collect()
        };
        let inputs = |expected| Inputs::new(batch.clone(), contents.clone(), expected);
        match part {
            Part::All => inputs(vec![(stats, expected)]),
            Part::Numbers => {
                let groups = sequences.into_iter().flat_map(|rows| (0..4).map(move |c| (rows.clone(), c)));
                groups.fold(inputs(Vec::new()), |inputs, (rows, c)| inputs.sampled(stats, column(rows, c)))
            }
            Part::Ids => {
                let ids = [4, 5].into_iter().chain((0..top).map(|place| FIRST + 2 * place));
                ids.fold(inputs(Vec::new()), |inputs, c| inputs.sampled(stats, column(0..rows, c)))
            }
        }
    });
    // ids are their own bits, and numbers of rows that have none are the same
    if part == Part::Ids { Plan { tolerance: 0.0, ..plan } } else { plan }
}

fn row(random: &mut Random, kind: Kind, columns: usize, other: &[f32]) -> Vec<f32> {
    match kind {
        Spread(center, spread) => random.values(columns, center, spread),
        Ties => random.values(columns, 0.0, 4.0).into_iter().map(f32::round).collect(),
        Equal => vec![-2.5; columns],
        Near => other.iter().map(|x| x + 0.02 * random.uniform()).collect(),
        Odd(bits) => {
            let mut row = random.values(columns, 0.0, 5.0);
            row[random.below(columns)] = f32::from_bits(bits);
            row
        }
    }
}

fn is_sound(row: &[f32]) -> bool {
    row.iter().all(|x| x.abs() < 8.5e37)
}

/// A row of results, ids as the floats of their bits.
fn result(x: &[f32], other: &[f32], token: Option<usize>, top: usize) -> Vec<f64> {
    let bits = |id: u32| f64::from(f32::from_bits(id));
    let (sound, both) = (is_sound(x), is_sound(x) && is_sound(other));
    let placed = if token.is_some() { sound } else { both };
    let nothing = bits(NOTHING);
    if !sound {
        return vec![nothing; words(top)];
    }
    let wide = widen(x);
    let stats = match both {
        true => reference::logit_stats(&wide, &widen(other), token, top),
        false => reference::logit_stats(&wide, &wide, token, top),
    };
    let id = |id: usize| bits(id as u32);
    let when = |there: bool, value: f64| if there { value } else { nothing };
    let mut words = vec![stats.largest, stats.log_sum, stats.entropy];
    words.push(when(both, stats.kl));
    words.extend([id(stats.token), id(stats.rank), wide[stats.token]].map(|value| when(placed, value)));
    for place in 0..top {
        let token = stats.top.get(place);
        words.extend([token.map_or(nothing, |&t| id(t)), token.map_or(nothing, |&t| wide[t])]);
    }
    words
}
