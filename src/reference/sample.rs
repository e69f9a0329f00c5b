//! The choice of a token in f64.

use std::cmp::Ordering;

use crate::kernels::sample::NO_TOKEN;
use crate::schedule::Draw;

/// What was chosen, and how clearly.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub id: u32,
    /// The tokens that it was drawn from, ascending: one for the largest.
    pub kept: Vec<u32>,
    /// How far it is ahead of the next best: for temperature 0 as a part of its logit, equal ones aside; else in logits over
    /// the temperature, noise included. Infinite where there is none.
    pub lead: f64,
}

/// The token that `draw` chooses of a row of logits: Hugging Face's processors for the repetition penalty, temperature,
/// top-k, top-p and min-p, one after another, then the largest, or a draw. NaN is never chosen; of a row without any number it is
/// [`NO_TOKEN`].
pub fn sample(logits: &[f64], draw: &Draw, seen: &[u32]) -> Sampled {
    let mut x = logits.to_vec();
    for &id in seen {
        let penalty = f64::from(draw.penalty);
        let value = &mut x[id as usize];
        *value = if *value > 0.0 { *value / penalty } else { *value * penalty };
    }
    let mut order: Vec<usize> = (0..x.len()).filter(|&i| !x[i].is_nan()).collect();
    // a stable sort: of equal ones the lowest id first
    order.sort_by(|&a, &b| x[b].partial_cmp(&x[a]).unwrap_or(Ordering::Equal));
    let Some(&first) = order.first() else {
        return Sampled { id: NO_TOKEN, kept: vec![NO_TOKEN], lead: f64::INFINITY };
    };
    if draw.temperature <= 0.0 {
        let next = order.iter().map(|&i| x[i]).find(|&value| value < x[first]);
        let lead = next.map_or(f64::INFINITY, |next| (x[first] - next) / x[first].abs());
        return Sampled { id: first as u32, kept: vec![first as u32], lead };
    }

    let bound = 126f64.exp2();
    let temperature = f64::from(draw.temperature).clamp(1e-30, 1e30);
    let top = x[first].clamp(-bound, bound);
    let z = |i: usize| (x[i].clamp(-bound, bound) - top) / temperature;
    if (1..order.len()).contains(&(draw.top_k as usize)) {
        let least = x[order[draw.top_k as usize - 1]];
        order.retain(|&i| x[i] >= least);
    }
    if draw.top_p < 1.0 {
        let whole: f64 = order.iter().map(|&i| z(i).exp()).sum();
        let mut before = 0.0;
        let enough = order.iter().position(|&i| {
            before += z(i).exp() / whole;
            before >= f64::from(draw.top_p)
        });
        order.truncate(enough.map_or(order.len(), |last| last + 1));
    }
    order.retain(|&i| z(i).exp() >= f64::from(draw.min_p));

    let mut kept: Vec<u32> = order.iter().map(|&i| i as u32).collect();
    kept.sort_unstable();
    let score = |&id: &u32| z(id as usize) + noise(draw, id);
    let mut best = (kept[0], score(&kept[0]));
    let mut second = f64::NEG_INFINITY;
    for id in &kept[1..] {
        let score = score(id);
        if score > best.1 {
            second = best.1;
            best = (*id, score);
        } else {
            second = second.max(score);
        }
    }
    Sampled { id: best.0, kept, lead: best.1 - second }
}

/// Gumbel noise of a token.
fn noise(draw: &Draw, id: u32) -> f64 {
    let u = (f64::from(hash([id, draw.position, draw.seed_low, draw.seed_high])) + 0.5) / 32f64.exp2();
    -(-(-u).ln_1p()).ln()
}

/// 32 bits that look random: pcg4d (Jarzynski and Olano, JCGT 9(3), 2020), then a finaliser (Wellons, hash-prospector).
fn hash(words: [u32; 4]) -> u32 {
    let [mut x, mut y, mut z, mut w] = words.map(|word| word.wrapping_mul(1664525).wrapping_add(1013904223));
    let mut mix = |shift: u32| {
        x = x.wrapping_add(y.wrapping_mul(w));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
        w = w.wrapping_add(y.wrapping_mul(z));
        if shift > 0 {
            (x, y, z, w) = (x ^ (x >> shift), y ^ (y >> shift), z ^ (z >> shift), w ^ (w >> shift));
        }
        w
    };
    mix(16);
    let mut h = mix(0);
    h = (h ^ (h >> 16)).wrapping_mul(0x21f0_aaad);
    h = (h ^ (h >> 15)).wrapping_mul(0xd35a_2d97);
    h ^ (h >> 15)
}
