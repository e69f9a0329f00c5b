//! How tokens are chosen: options and their ranges, and the kernel `sample` where its cases do not look: that draws follow
//! the probabilities, that the right tokens can be drawn, and that a row's token does not depend on the others.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use thalweg::check::{Case, Contents, Outputs, run};
use thalweg::kernels::sample::{NO_TOKEN, Sample};
use thalweg::schedule::{Batch, Draw, Slot};
use thalweg::{Error, Gpu, GpuOptions, Sampling, reference};

static GPU: LazyLock<Gpu> = LazyLock::new(|| Gpu::new_blocking(GpuOptions::default()).expect("an adapter"));

const LOGITS: [f32; 12] = [2.0, -1.0, 0.5, 3.25, -4.0, 1.5, 2.75, -0.25, 0.0, 1.0, -2.0, 2.5];
const SEEN: [u32; 4] = [3, 4, 6, 9];

/// A row: its logits, its options, the position of the token, and the ids that it has seen.
type Row<'a> = (&'a [f32], Sampling, u32, &'a [u32]);

fn outputs(rows: &[Row]) -> Outputs {
    let mut batch = Batch::new(32);
    for (_, sampling, position, seen) in rows {
        batch.push_cached(&[0], 0, &[0], Some(sampling.draw(*position).unwrap()), seen);
    }
    let (logits, ids) = (Slot::Scratch(0), Slot::Scratch(1));
    let all: Vec<f32> = rows.iter().flat_map(|row| row.0).copied().collect();
    let case = Case {
        kernel: "sample",
        shape: format!("{} rows", rows.len()),
        dispatches: vec![Sample { logits, vocab_size: rows[0].0.len(), ids }.dispatch()],
        batch,
        contents: Contents::from([(logits, bytemuck::cast_slice(&all).to_vec()), (ids, vec![0xff; 4 * rows.len()])]),
        expected: Vec::new(),
        sampled: Vec::new(),
        same: Vec::new(),
        token_rows: Vec::new(),
        tolerance: 0.0,
    };
    run(&GPU, &case).unwrap()
}

fn ids(rows: &[Row]) -> Vec<u32> {
    outputs(rows)[&Slot::Scratch(1)].iter().map(|id| id.to_bits()).collect()
}

/// Temperature, top-k, top-p, min-p and penalty.
type Numbers = (f32, u32, f32, f32, f32);

fn options((temperature, top_k, top_p, min_p, repeat_penalty): Numbers, seed: u64) -> Sampling {
    Sampling { temperature, top_k, top_p, min_p, repeat_penalty, seed }
}

/// What transformers 5.23 leaves of `LOGITS`, with `SEEN` as the ids: the processors' own output.
const KEPT: &[(Numbers, &[u32])] = &[
    ((3.0, 0, 1.0, 0.0, 1.0), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ((1.0, 3, 1.0, 0.0, 1.0), &[3, 6, 11]),
    ((0.5, 5, 0.8, 0.0, 1.0), &[3, 6]),
    ((1.5, 0, 0.7, 0.0, 1.0), &[0, 3, 6, 11]),
    ((2.0, 0, 0.9, 0.1, 1.0), &[0, 2, 3, 5, 6, 8, 9, 11]),
    ((1.0, 0, 1.0, 0.3, 1.0), &[3, 6, 11]),
    ((1.0, 3, 1.0, 0.0, 1.5), &[0, 3, 11]),
    ((0.7, 6, 0.9, 0.05, 1.3), &[0, 3, 6, 11]),
    ((3.0, 8, 0.95, 0.35, 0.5), &[3, 6]),
    ((0.2, 0, 0.3, 0.0, 1.0), &[3]),
    ((2.5, 0, 0.99, 0.0, 2.0), &[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]),
    ((4.0, 4, 0.6, 0.0, 1.2), &[3, 6, 11]),
];

#[test]
fn the_tokens_that_transformers_keeps_can_be_drawn_and_no_others() {
    let wide: Vec<f64> = LOGITS.iter().copied().map(f64::from).collect();
    for (index, (numbers, kept)) in KEPT.iter().enumerate() {
        let sampling = options(*numbers, 77 + index as u64);
        let seen: BTreeSet<_> = reference::sample(&wide, &sampling.draw(0).unwrap(), &SEEN).kept.into_iter().collect();
        assert_eq!(seen, kept.iter().copied().collect(), "the reference with {numbers:?}");
        let rows: Vec<Row> = (0..600).map(|position| (&LOGITS[..], sampling, position, &SEEN[..])).collect();
        let drawn: BTreeSet<_> = ids(&rows).into_iter().collect();
        assert_eq!(drawn, kept.iter().copied().collect(), "{numbers:?}");
    }
}

/// Of equal tokens top-k keeps all, top-p only as many as it needs.
#[test]
fn ties_at_a_threshold() {
    let logits = [0.0f32, 1.0, 1.0, 1.0, 1.0, 0.0, 2.0];
    let cases: [(_, &[u32]); 5] = [
        ((1.0, 2, 1.0, 0.0, 1.0), &[1, 2, 3, 4, 6]),
        ((1.0, 6, 1.0, 0.0, 1.0), &[0, 1, 2, 3, 4, 5, 6]),
        // e / (4 e + e² + 2) = 0.134, e² / … = 0.365
        ((1.0, 0, 0.6, 0.0, 1.0), &[1, 2, 6]),
        ((1.0, 2, 0.45, 0.0, 1.0), &[1, 6]),
        ((1.0, 0, 0.92, 0.0, 1.0), &[0, 1, 2, 3, 4, 6]),
    ];
    for (numbers, kept) in cases {
        let rows: Vec<Row> = (0..300).map(|i| (&logits[..], options(numbers, 3), i, &[][..])).collect();
        let drawn: BTreeSet<_> = ids(&rows).into_iter().collect();
        assert_eq!(drawn, kept.iter().copied().collect(), "{numbers:?}");
    }
}

/// A little more and a little less than a token needs.
#[test]
fn thresholds_are_sharp() {
    // five times 10 %, then 25, 15 and 10 % of the probability
    let shares = [0.1f32, 0.25, 0.1, 0.1, 0.15, 0.1, 0.1, 0.1];
    let logits: Vec<f32> = shares.iter().enumerate().map(|(i, p)| (p * (1.0 + 1e-3 * i as f32)).ln()).collect();
    let whole: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
    let descending = [1usize, 4, 7, 6, 5, 3, 2, 0];
    for count in 1..=8 {
        let kept = &descending[..count];
        let last = f64::from(logits[kept[count - 1]]).exp();
        let most: f64 = kept.iter().map(|id| f64::from(logits[*id]).exp() / whole).sum();
        let second = f64::from(logits[1]).exp();
        let with = |top_k: usize, top_p: f64, min_p: f64| (1.0, top_k as u32, top_p as f32, min_p as f32, 1.0);
        let mut cases = vec![with(count, 1.0, 0.0), with(0, most - 2e-5, 0.0), with(0, 1.0, last / second * 0.9999)];
        if count < 8 {
            let next = f64::from(logits[descending[count]]).exp();
            cases.push(with(0, most - last / whole + 2e-5, 0.0));
            cases.push(with(0, 1.0, next / second * 1.0001));
            // of what top-k left, top-p and then min-p
            cases.push(with(count + 1, most / (most + next / whole) - 2e-5, 0.0));
            cases.push(with(count + 1, 1.0, next / second * 1.0001));
        }
        for numbers in cases {
            let rows: Vec<Row> = (0..150).map(|i| (&logits[..], options(numbers, 11), i, &[][..])).collect();
            let drawn: BTreeSet<_> = ids(&rows).into_iter().collect();
            assert_eq!(drawn, kept.iter().map(|id| *id as u32).collect(), "{count}: {numbers:?}");
        }
    }
}

/// χ² of draws against softmax, over positions, over seeds and over ids. Everything is fixed, so this cannot fail by chance.
#[test]
fn draws_follow_the_probabilities() {
    let vocab = 40;
    let logits: Vec<f32> = (0..vocab).map(|i| ((i * 29) % vocab) as f32 * 0.1).collect();
    let count = 4000u32;
    for temperature in [1.0, 3.0] {
        let sampling = |seed: u64| Sampling { temperature, seed, ..Sampling::default() };
        let probabilities: Vec<f64> = {
            let e: Vec<f64> = logits.iter().map(|x| (f64::from(*x) / f64::from(temperature)).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.iter().map(|e| e / sum).collect()
        };
        let by_position: Vec<Row> = (0..count).map(|i| (&logits[..], sampling(1), i, &[][..])).collect();
        let by_seed: Vec<Row> = (0..count).map(|i| (&logits[..], sampling(u64::from(i)), 7, &[][..])).collect();
        let by_upper: Vec<Row> = (0..count).map(|i| (&logits[..], sampling(u64::from(i) << 32), 7, &[][..])).collect();
        for (name, rows) in [("position", by_position), ("seed", by_seed), ("upper half of the seed", by_upper)] {
            let drawn = ids(&rows);
            let counted = |ids: &[u32], probabilities: &[f64]| -> f64 {
                let mut counts = vec![0f64; probabilities.len()];
                ids.iter().for_each(|id| counts[*id as usize] += 1.0);
                let expected = probabilities.iter().map(|p| p * ids.len() as f64);
                counts.iter().zip(expected).map(|(n, e)| (n - e).powi(2) / e).sum()
            };
            // 39 degrees of freedom: 72.1 is passed once in a thousand
            let square = counted(&drawn, &probabilities);
            println!("{name}, temperature {temperature}: {square:.1}");
            assert!(square < 72.1, "{name}, temperature {temperature}: {square}");
            // neighbours are independent: pairs of coarse classes
            let class = |id: u32| id % 5;
            let mut coarse = [0f64; 5];
            (0..vocab as u32).for_each(|id| coarse[class(id) as usize] += probabilities[id as usize]);
            let pairs: Vec<u32> = drawn.chunks_exact(2).map(|pair| 5 * class(pair[0]) + class(pair[1])).collect();
            let products: Vec<f64> = (0..25).map(|i| coarse[i / 5] * coarse[i % 5]).collect();
            // 24 degrees of freedom
            let square = counted(&pairs, &products);
            assert!(square < 51.2, "neighbours by {name}, temperature {temperature}: {square}");
        }
    }
}

/// Far-off tokens keep their share: a flat vocabulary of 151,936, one third of it a little better.
#[test]
fn large_vocabularies_are_drawn_from_evenly() {
    let vocab = 151_936;
    let logits: Vec<f32> = (0..vocab).map(|i| if i % 3 == 0 { std::f32::consts::LN_2 } else { 0.0 }).collect();
    let rows: Vec<Row> = (0..64)
        .map(|i| (&logits[..], Sampling { temperature: 1.0, seed: 5, ..Sampling::default() }, i, &[][..]))
        .collect();
    let drawn = ids(&rows);
    let better = drawn.iter().filter(|id| *id % 3 == 0).count();
    // half of them are expected, with a deviation of 4
    assert!((20..=44).contains(&better), "{better} of 64");
    let low = drawn.iter().filter(|id| **id < vocab as u32 / 2).count();
    assert!((20..=44).contains(&low), "{low} of 64");
    assert!(drawn.iter().collect::<BTreeSet<_>>().len() >= 63, "{drawn:?}");
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let other: Vec<f32> = LOGITS.iter().map(|x| -x).collect();
    let rows: Vec<Row> = KEPT
        .iter()
        .enumerate()
        .map(|(i, (numbers, _))| (if i % 2 == 0 { &LOGITS[..] } else { &other }, options(*numbers, 9), 40, &SEEN[..]))
        .collect();
    let together = ids(&rows);
    let backwards = ids(&rows.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(together, backwards.into_iter().rev().collect::<Vec<_>>());
    let alone: Vec<u32> = rows.iter().flat_map(|row| ids(&[*row])).collect();
    assert_eq!(together, alone);
    // and the same again
    assert_eq!(together, ids(&rows));
    // another seed, either half of it, and another position give others
    let sampling = Sampling { temperature: 9.0, ..Sampling::default() };
    let draws = |seed: u64, first: u32| -> Vec<u32> {
        let rows: Vec<Row> = (first..first + 50)
            .map(|position| (&LOGITS[..], Sampling { seed, ..sampling }, position, &[][..]))
            .collect();
        ids(&rows)
    };
    let all = [draws(0, 0), draws(1, 0), draws(1 << 32, 0), draws(0, 50)];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn a_penalty_is_applied_once_and_only_to_what_was_seen() {
    let sampling = Sampling { repeat_penalty: 1.3, ..Sampling::default() };
    for temperature in [0.0, 1.0] {
        let row = (&LOGITS[..], Sampling { temperature, top_k: 5, top_p: 0.9, ..sampling }, 0, &SEEN[..]);
        let plain = (&LOGITS[..], Sampling { repeat_penalty: 1.0, ..row.1 }, 0, &SEEN[..]);
        let after = &outputs(&[plain, row, plain])[&Slot::Scratch(0)];
        for (i, x) in after.iter().enumerate() {
            let (before, id) = (LOGITS[i % 12], i as u32 % 12);
            match SEEN.contains(&id) && i / 12 == 1 {
                false => assert_eq!(x.to_bits(), before.to_bits(), "{i}"),
                true => {
                    let expected = if before > 0.0 { before / 1.3 } else { before * 1.3 };
                    assert!((x - expected).abs() < 1e-6 * expected.abs(), "{x} instead of {expected}");
                }
            }
        }
    }
    // 3.25 / 1.3 = 2.5 is not above 2.5, at 11, but 2.75 / 1.3 is below: the best is another only with penalties
    let best = |repeat_penalty| ids(&[(&LOGITS, Sampling { repeat_penalty, ..sampling }, 0, &SEEN)]);
    assert_eq!((best(1.0), best(1.25), best(1.4), best(0.5)), (vec![3], vec![3], vec![11], vec![3]));
}

#[test]
fn values_that_are_no_numbers() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let rows: [([f32; 5], &[u32]); 8] = [
        ([nan, -nan, nan, nan, nan], &[NO_TOKEN]),
        ([nan, 1.0, nan, -nan, 1.0], &[1, 4]),
        ([nan, -inf, nan, nan, nan], &[1]),
        ([-inf, -inf, -3.0, nan, -inf], &[2]),
        ([inf, 1.0, 3.0e38, nan, inf], &[0, 2, 4]),
        ([-inf, nan, -inf, -inf, nan], &[0, 2, 3]),
        ([f32::MIN, nan, -inf, 0.0, f32::MAX], &[4]),
        ([f32::from_bits(1), 0.0, -0.0, nan, -inf], &[0, 1, 2]),
    ];
    for (logits, allowed) in rows {
        for numbers in [(0.0, 0, 1.0, 0.0, 1.0), (1.0, 0, 1.0, 0.0, 1.0), (0.5, 3, 0.99, 0.01, 1.5)] {
            let seen = [0u32, 2, 3];
            let rows: Vec<Row> = (0..40).map(|i| (&logits[..], options(numbers, 1), i, &seen[..])).collect();
            for id in ids(&rows) {
                assert!(allowed.contains(&id), "{id} of {logits:?} with {numbers:?}");
            }
        }
    }
    // the lowest of equal ones, zeros of both signs among them
    let first = |logits: [f32; 4]| ids(&[(&logits, Sampling::default(), 0, &[])])[0];
    assert_eq!([first([-0.0, 0.0, 0.0, -1.0]), first([-1.0, nan, 5.0, 5.0]), first([nan; 4])], [0, 2, NO_TOKEN]);
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let good = Sampling::default();
    good.validate().unwrap();
    Sampling { temperature: 2.0, top_k: 5, top_p: 0.1, min_p: 1.0, repeat_penalty: 0.1, seed: 1 }.validate().unwrap();
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let bad = [nan, -0.1, inf].map(|temperature| ("temperature", Sampling { temperature, ..good })).into_iter();
    let bad = bad.chain([0.0, 1.5, nan, -1.0].map(|top_p| ("top_p", Sampling { top_p, ..good })));
    let bad = bad.chain([-0.1, 1.1, nan].map(|min_p| ("min_p", Sampling { min_p, ..good })));
    let bad = bad.chain([0.0, -2.0, nan, inf].map(|p| ("repeat_penalty", Sampling { repeat_penalty: p, ..good })));
    for (name, sampling) in bad {
        match sampling.draw(0) {
            Err(Error::Input(message)) => {
                assert!(message.starts_with(name) && message.contains("must be"), "{message}")
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let draw: Draw = Sampling { seed: 0x1_2345_6789, ..good }.draw(17).unwrap();
    assert_eq!((draw.seed_low, draw.seed_high, draw.position, draw.penalty), (0x2345_6789, 1, 17, 1.0));
}
