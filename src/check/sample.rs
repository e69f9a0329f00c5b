//! Cases of `sample`. Ids are compared exactly, so every row has a seed for which the choice is clear: rounding, which may
//! move a threshold or a score by a little, does not change it.

use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan};
use crate::kernels::sample::Sample;
use crate::reference;
use crate::schedule::{Batch, Draw, Slot};

/// Temperature, top-k, top-p, min-p and penalty.
type Options = (f32, u32, f32, f32, f32);

const OPTIONS: &[Options] = &[
    // the largest, whatever else is said
    (0.0, 0, 1.0, 0.0, 1.0),
    (0.0, 3, 0.5, 0.2, 1.0),
    (0.0, 0, 1.0, 0.0, 1.3),
    (0.0, 0, 1.0, 0.0, 0.6),
    // all tokens, from nearly the largest to nearly uniform
    (1.0, 0, 1.0, 0.0, 1.0),
    (0.3, 0, 1.0, 0.0, 1.0),
    (1e-37, 0, 1.0, 0.0, 1.0),
    (1e-5, 0, 0.9, 0.0, 1.0),
    (1e4, 0, 0.9, 0.0, 1.0),
    (1e38, 7, 1.0, 0.0, 1.0),
    // one option at a time
    (1.0, 1, 1.0, 0.0, 1.0),
    (1.0, 2, 1.0, 0.0, 1.0),
    (2.0, 40, 1.0, 0.0, 1.0),
    (1.0, 1 << 30, 1.0, 0.0, 1.0),
    (1.0, 0, 1e-6, 0.0, 1.0),
    (1.0, 0, 0.5, 0.0, 1.0),
    (2.0, 0, 0.99, 0.0, 1.0),
    (1.0, 0, 1.0, 0.02, 1.0),
    (1.0, 0, 1.0, 1.0, 1.0),
    (1.0, 0, 1.0, 0.0, 1.7),
    // together
    (0.8, 40, 0.95, 0.05, 1.1),
    (1.4, 5, 0.6, 0.0, 0.7),
    (2.5, 60, 0.9, 0.1, 2.0),
];

/// How a row's logits lie.
#[derive(Clone, Copy, Debug)]
enum Logits {
    /// Nearly all different.
    Smooth,
    /// Whole numbers, so that many are equal.
    Ties,
    /// All the same.
    Equal,
    /// NaN, infinities, zeros of both signs and the largest floats among others.
    Odd,
    /// Further from each other than the noise reaches, and the largest the last.
    Wide,
    /// All infinite.
    Infinite,
}

const ALL: [Logits; 4] = [Logits::Smooth, Logits::Ties, Logits::Equal, Logits::Odd];

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for vocab in [1, 2, 97, 1000] {
        for options in OPTIONS {
            let rows = ALL.map(|logits| (logits, *options));
            plans.push(case(vocab, &rows, &format!("{options:?}")));
        }
        let mixed: Vec<_> = (0..33).map(|i| (ALL[i % 3], OPTIONS[7 * i % OPTIONS.len()])).collect();
        plans.push(case(vocab, &mixed, "mixed"));
    }
    // with a temperature that lets far ones win, of which top-k leaves two, or two thirds
    let far = [2, 667].into_iter().flat_map(|top_k| [(1e4, top_k, 1.0, 0.0, 1.0); 16]);
    let wide = OPTIONS.iter().copied().chain(far).map(|options| (Logits::Wide, options));
    plans.push(case(1000, &wide.collect::<Vec<_>>(), "far apart"));
    plans.push(case(6, &[(Logits::Infinite, (0.0, 0, 1.0, 0.0, 0.6)); 16], "infinite"));
    for (vocab, options) in [(32000, 4), (32000, 20), (32000, 16), (151_936, 20), (262_147, 0)] {
        let rows = [Logits::Smooth, Logits::Ties].map(|logits| (logits, OPTIONS[options]));
        plans.push(case(vocab, &rows, &format!("{:?}", OPTIONS[options])));
    }
    plans
}

/// A row of that many logits, drawn with all options.
pub(crate) fn row_of(vocab: usize) -> Plan {
    let options = OPTIONS[20];
    case(vocab, &[(Logits::Smooth, options)], &format!("{options:?}"))
}

fn case(vocab: usize, rows: &[(Logits, Options)], what: &str) -> Plan {
    let (logits, out) = (Slot::Scratch(0), Slot::Scratch(1));
    let shape = format!("{} rows of {vocab}, {what}", rows.len());
    let kernel = Sample { logits, vocab_size: vocab, ids: out };
    let rows = rows.to_vec();
    let plan = Plan::new("sample", shape, vec![kernel.dispatch()], vec![(logits, vocab), (out, 1)], move |random| {
        let mut batch = Batch::new(32);
        let (mut all, mut ids) = (Vec::new(), Vec::new());
        for (kind, options) in &rows {
            let (logits, draw, seen, id) = row(random, vocab, *kind, *options);
            // the draw is all that matters of the batch; its page does not exist
            batch.push_cached(&[0], 0, &[0], Some(draw), &seen);
            all.extend(logits);
            // the same bits as a float, a different one for each id
            ids.push(f64::from(f32::from_bits(id)));
        }
        let contents = Contents::from([(logits, bytes(&all)), (out, POISON.to_le_bytes().repeat(rows.len()))]);
        Inputs::new(batch, contents, vec![(out, ids)])
    });
    Plan { tolerance: 0.0, ..plan }
}

/// Logits, options, seen tokens and what they should give.
fn row(random: &mut Random, vocab: usize, kind: Logits, options: Options) -> (Vec<f32>, Draw, Vec<u32>, u32) {
    let (temperature, top_k, top_p, min_p, penalty) = options;
    loop {
        let mut logits = random.values(vocab, 1.0, 8.0);
        for x in &mut logits {
            match kind {
                Logits::Smooth => {}
                Logits::Wide => *x *= 8.0,
                Logits::Infinite => *x = f32::INFINITY,
                Logits::Ties => *x = x.round(),
                Logits::Equal => *x = -2.5,
                Logits::Odd => {
                    let odd = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN, 0.0, -0.0];
                    let pick = random.below(14);
                    // two thirds of such rows have no positive infinity, which would hide the rest
                    if pick < odd.len() && (pick != 2 || random.below(2 * vocab) == 0) {
                        *x = odd[pick];
                    }
                }
            }
        }
        if let (Logits::Wide, Some(last)) = (kind, logits.last_mut()) {
            *last = 73.0;
        }
        // mostly large ones, which matter
        let mut large = |_| {
            let some = (0..8).map(|_| random.below(vocab));
            some.max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap_or(0) as u32
        };
        let count = 3 * usize::from(options.4 != 1.0);
        let mut seen: Vec<u32> = (0..count).map(&mut large).collect();
        seen.extend((0..random.below(9)).map(|_| random.below(vocab) as u32));
        seen.sort_unstable();
        seen.dedup();
        let wide = widen(&logits);
        for _ in 0..8 {
            let (seed, position) = (random.bits(), random.below(5000) as u32);
            let draw = Draw {
                temperature,
                top_k,
                top_p,
                min_p,
                penalty,
                seed_low: seed as u32,
                seed_high: (seed >> 32) as u32,
                position,
                first_seen: 0,
                seen: 0,
                unused: [0; 2],
            };
            if let Some(id) = clear(&wide, &draw, &seen) {
                return (logits, draw, seen, id);
            }
        }
    }
}

/// The token, where neither rounding of scores nor of thresholds could lead to another.
fn clear(logits: &[f64], draw: &Draw, seen: &[u32]) -> Option<u32> {
    let penalised = draw.penalty != 1.0 && !seen.is_empty();
    let sampled = reference::sample(logits, draw, seen);
    if draw.temperature <= 0.0 {
        // unpenalised logits are compared as they are
        return (!penalised || sampled.lead > 1e-5).then_some(sampled.id);
    }
    let mut others = Vec::new();
    if draw.top_p < 1.0 {
        others.push(Draw { top_p: draw.top_p * 0.9999, ..*draw });
        others.push(Draw { top_p: draw.top_p * 1.0001, ..*draw });
    }
    if draw.min_p > 0.0 {
        others.push(Draw { min_p: draw.min_p * 0.9999, ..*draw });
        others.push(Draw { min_p: (draw.min_p * 1.0001).min(1.0), ..*draw });
    }
    if penalised && draw.top_k > 0 {
        others.push(Draw { top_k: (draw.top_k - 1).max(1), ..*draw });
        others.push(Draw { top_k: draw.top_k + 1, ..*draw });
    }
    let same = |other: &Draw| {
        let other = reference::sample(logits, other, seen);
        other.id == sampled.id && other.lead > 1e-3
    };
    (sampled.lead > 1e-3 && others.iter().all(same)).then_some(sampled.id)
}
