//! Attention in single steps, for masks that are no window and for scores that are shown: `attention_scores` (scale, soft
//! cap, grouping, windows), `residual_add` (masks), `softmax`, and `matmul` with the values.

use std::collections::HashMap;

use super::attention::KeysValues;
use super::attention_input::{HIDDEN, LOWEST, Problem, Scores};
use super::case::{Step, fail, skip};
use super::kernels::{Kernels, bytes, poison, tokens};
use super::tensor::{gather, permute, room};
use crate::kernels::WeightType;
use crate::kernels::attention::{Heads, Mask};
use crate::kernels::attention_scores::AttentionScores;
use crate::schedule::Slot;

/// [batch, queries, heads, own size of values], and the scores that are shown, [batch, heads, queries, keys].
pub fn attend(p: &Problem, kv: &KeysValues, kernels: &mut Kernels) -> Step<(Vec<f32>, Option<Vec<f32>>)> {
    let [heads, queries, keys] = [p.q.heads, p.q.tokens, p.keys()];
    let per = room(&[heads, queries, keys])?;
    room(&[p.batch, per])?;
    let all_k = p.by_sequence(kv, 0, p.k.own_size);
    let all_v = p.by_sequence(kv, 1, p.v.own_size);
    let (mut z, mut shown) = (Vec::new(), Vec::new());
    for b in 0..p.batch {
        let k = &all_k[b * keys * p.k.heads * p.k.own_size..][..keys * p.k.heads * p.k.own_size];
        let v = &all_v[b * keys * p.v.heads * p.v.own_size..][..keys * p.v.heads * p.v.own_size];
        let (pattern, scores) = pattern(p, b, k, kernels)?;
        shown.extend(scores);
        // the heads that share values are neighbours, so that their rows are those of one product
        let values = permute(v, &[keys, p.v.heads, p.v.own_size], &[1, 2, 0]);
        let shared = heads / p.k.heads * queries;
        let mut by_head = Vec::new();
        for (rows, weight) in pattern.chunks_exact(shared * keys).zip(values.chunks_exact(p.v.own_size * keys)) {
            by_head.extend(kernels.matmul(rows, weight, [shared, keys, p.v.own_size], WeightType::F32)?);
        }
        z.extend(permute(&by_head, &[heads, queries, p.v.own_size], &[1, 0, 2]));
    }
    Ok((z, p.scores.map(|_| shown)))
}

/// The pattern of one sequence, [heads, queries, keys], and what of its scores is shown. A row that sees no key is zeros.
fn pattern(p: &Problem, b: usize, k: &[f32], kernels: &mut Kernels) -> Step<(Vec<f32>, Vec<f32>)> {
    let [heads, queries, keys] = [p.q.heads, p.q.tokens, p.keys()];
    let per = heads * queries * keys;
    let mut shown = match p.scores {
        Some(Scores::Raw) => scores(p, b, k, None, Mask::NONE, kernels)?,
        Some(Scores::Capped) => scores(p, b, k, p.cap, Mask::NONE, kernels)?,
        _ => Vec::new(),
    };
    let mut values = scores(p, b, k, p.cap, p.mask, kernels)?;
    let own = p.bias.as_ref().map(|bias| &bias[b * per..(b + 1) * per]);
    let unseen = |i: usize| {
        let (query, key) = (i / keys % queries, i % keys);
        !p.sees(b, query, key) || own.is_some_and(|bias| bias[i] == f32::NEG_INFINITY)
    };
    let hidden: Vec<bool> = (0..per).map(unseen).collect();
    if own.is_some() || p.lengths[b] < keys {
        // padding is hidden by what is added, as a mask's -∞ is
        let term = |i: usize| match own.map_or(0.0, |bias| bias[i]) {
            _ if i % keys >= p.lengths[b] => HIDDEN,
            bias => bias.max(HIDDEN),
        };
        values = kernels.add(&values, &(0..per).map(term).collect::<Vec<_>>())?;
    }
    // a mask may have finite numbers as low as what hides a key: their keys weigh nothing beside any other
    let low = |i: usize| own.is_some_and(|bias| bias[i] <= LOWEST);
    if let Some(i) = (0..per).find(|&i| (hidden[i] || low(i)) != (values[i] <= LOWEST)) {
        return fail(format!("a kernel's score of {:?} at {i}, hidden: {}", values[i], hidden[i]));
    }
    if p.scores == Some(Scores::Biased) {
        if (0..per).any(|i| low(i) && !hidden[i]) {
            return skip(format!("in.3 has finite numbers below {LOWEST:e}, and out.3 shows them"));
        }
        let infinite = |(value, hidden): (&f32, &bool)| if *hidden { f32::NEG_INFINITY } else { *value };
        shown = values.iter().zip(&hidden).map(infinite).collect();
    }
    let row = |r: usize| r * keys..(r + 1) * keys;
    let (seeing, blind): (Vec<usize>, Vec<usize>) =
        (0..heads * queries).partition(|&r| row(r).any(|i| !hidden[i] && !low(i)));
    if blind.into_iter().any(|r| row(r).any(|i| !hidden[i])) {
        return skip(format!("in.3 has a row of nothing but numbers below {LOWEST:e}"));
    }
    let mut pattern = vec![0.0; per];
    if !seeing.is_empty() {
        let rows: Vec<f32> = seeing.iter().flat_map(|&r| &values[row(r)]).copied().collect();
        let rows = kernels.softmax(&rows, keys)?;
        for (r, weights) in seeing.into_iter().zip(rows.chunks_exact(keys)) {
            pattern[row(r)].copy_from_slice(weights);
        }
    }
    if p.scores == Some(Scores::Pattern) {
        shown.clone_from(&pattern);
    }
    Ok((pattern, shown))
}

/// Scores of one sequence, [heads, queries, keys]. The kernel takes as many queries as keys, the i-th of each at position i:
/// so queries and keys are put at their positions, and the others are left out of what comes back.
fn scores(p: &Problem, b: usize, k: &[f32], cap: Option<f32>, mask: Mask, kernels: &mut Kernels) -> Step<Vec<f32>> {
    let [heads, queries, keys, size] = [p.q.heads, p.q.tokens, p.keys(), p.q.own_size];
    let (q_width, k_width) = (heads * size, p.k.heads * size);
    let stride = q_width + k_width;
    // queries in front of the first key move all to behind 0
    let first_key = p.offsets[b].min(0).unsigned_abs() as usize;
    let first_query = p.offsets[b].max(0) as usize;
    let total = (first_query + queries).max(first_key + keys);
    room(&[total, stride])?;
    let elements = room(&[heads, total, total])?;
    let mut rows = vec![0.0; total * stride];
    let padded = p.q.heads * p.size;
    for query in 0..queries {
        let from = &p.q.values[(b * queries + query) * padded..][..padded];
        let to = &mut rows[(first_query + query) * stride..][..q_width];
        for (to, from) in to.chunks_exact_mut(size).zip(from.chunks_exact(p.size)) {
            to.copy_from_slice(&from[..size]);
        }
    }
    for key in 0..keys {
        let to = &mut rows[(first_key + key) * stride + q_width..][..k_width];
        to.copy_from_slice(&k[key * k_width..(key + 1) * k_width]);
    }
    let kernel = AttentionScores {
        heads: Heads {
            q: Slot::Scratch(0),
            q_stride: stride,
            first_q: 0,
            kv: Slot::Scratch(0),
            kv_stride: stride,
            first_k: q_width,
            first_v: 0,
            heads,
            kv_heads: p.k.heads,
            head_size: size,
            scale: p.scale,
            cap,
            mask,
        },
        bias: None,
        scores: Slot::Scratch(1),
    };
    let contents = HashMap::from([(Slot::Scratch(0), bytes(&rows)), (Slot::Scratch(1), poison(elements))]);
    let all = kernels.run_for(Slot::Scratch(1), &[kernel.dispatch()], &tokens(total), contents)?;
    let from = &all[first_query * heads * total + first_key..];
    Ok(gather(from, &[heads, queries, keys], &[total, heads * total, 1]))
}
