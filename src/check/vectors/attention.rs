//! Attention: by the models' fused `attention` where that says all of it, else composed of `attention_scores`,
//! `residual_add`, `softmax` and `matmul`; keys and values of before and now meet in a paged cache, by `kv_store`.

use std::collections::HashMap;

use super::attention_input::{Heads, Problem};
use super::case::{Step, VectorCase};
use super::kernels::{Kernels, bytes, poison};
use super::tensor::{Array, permute, resize_rows, room};
use super::{Computed, attention_composed, attention_fused};
use crate::kernels::attention::{MAX_HEAD_SIZE, PAGE};
use crate::kernels::kv_store::KvStore;
use crate::schedule::{Batch, Slot};

/// Keys and values of all sequences as kernels read them.
pub struct KeysValues {
    /// f32 [rows, 2, kv_heads, size].
    pub rows: Vec<f32>,
    /// Of each sequence, the rows' pages; none where a sequence's rows follow one another and the next one's follow them.
    pub pages: Option<Vec<Vec<u32>>>,
}

pub fn attention(case: &VectorCase, kernels: &mut Kernels) -> Step<Computed> {
    let problem = Problem::of(case)?;
    let p = &problem;
    // a cache where the case has one, before or after
    let cached = p.past.is_some() || case.outputs.contains_key(&1) || case.outputs.contains_key(&2);
    let kv = if cached { store(p, kernels)? } else { beside(p) };
    let mut computed = Computed::new();
    if cached {
        for (position, which, heads) in [(1, 0, &p.k), (2, 1, &p.v)] {
            let own = p.by_sequence(&kv, which, heads.own_size);
            let shape = [p.batch, p.keys(), heads.heads, heads.own_size];
            let values = permute(&own, &shape, &[0, 2, 1, 3]);
            computed.insert(position, Array { shape: vec![shape[0], shape[2], shape[1], shape[3]], values });
        }
    }
    // queries before the first key are nowhere in the kernel's sequences, of which the first position is 0
    let behind = (0..p.batch).all(|b| p.offsets[b] + attention_fused::seeing(p, b).start as i64 >= 0);
    let fused = p.bias.is_none() && p.scores.is_none() && p.size <= MAX_HEAD_SIZE && behind;
    let z = if fused {
        attention_fused::attend(p, &kv, kernels)?
    } else {
        let (z, scores) = attention_composed::attend(p, &kv, kernels)?;
        if let Some(values) = scores {
            computed.insert(3, Array { shape: vec![p.batch, p.q.heads, p.q.tokens, p.keys()], values });
        }
        z
    };
    let [batch, tokens, heads, size] = [p.batch, p.q.tokens, p.q.heads, p.v.own_size];
    let output = if p.heads_first {
        let values = permute(&z, &[batch, tokens, heads, size], &[0, 2, 1, 3]);
        Array { shape: vec![batch, heads, tokens, size], values }
    } else {
        Array { shape: vec![batch, tokens, heads * size], values: z }
    };
    computed.insert(0, output);
    Ok(computed)
}

impl Problem {
    /// Row of a sequence's key in the keys and values.
    pub fn row(&self, kv: &KeysValues, sequence: usize, key: usize) -> usize {
        let page = PAGE as usize;
        match &kv.pages {
            Some(pages) => pages[sequence][key / page] as usize * page + key % page,
            None => sequence * self.keys() + key,
        }
    }

    /// Keys (0) or values (1) of all sequences, [batch, keys, kv_heads, own_size].
    pub fn by_sequence(&self, kv: &KeysValues, which: usize, own_size: usize) -> Vec<f32> {
        let width = self.k.heads * self.size;
        let places = (0..self.batch).flat_map(|b| (0..self.keys()).map(move |key| (b, key)));
        let rows: Vec<f32> = places
            .flat_map(|(b, key)| &kv.rows[(2 * self.row(kv, b, key) + which) * width..][..width])
            .copied()
            .collect();
        resize_rows(&rows, self.size, own_size)
    }
}

/// Keys and values in rows, without a cache.
fn beside(p: &Problem) -> KeysValues {
    let width = p.k.heads * p.size;
    let rows = p.k.values.chunks_exact(width).zip(p.v.values.chunks_exact(width));
    KeysValues { rows: rows.flat_map(|(k, v)| [k, v]).flatten().copied().collect(), pages: None }
}

/// The cache with what was before in its pages, and what is new put behind it by `kv_store`.
fn store(p: &Problem, kernels: &mut Kernels) -> Step<KeysValues> {
    let (page, width) = (PAGE as usize, p.k.heads * p.size);
    let each = p.keys().div_ceil(page);
    room(&[p.batch * each, page, 2 * width])?;
    let mut batch = Batch::new(1);
    let mut tables = Vec::new();
    for b in 0..p.batch {
        // from the last page down, so that a sequence's pages are not simply one behind another
        let table: Vec<u32> = (b * each..(b + 1) * each).rev().map(|page| page as u32).collect();
        batch.push_cached(&vec![0; p.k.tokens], p.before() as u32, &table, None, &[]);
        tables.push(table);
    }
    let mut kv = KeysValues { rows: Vec::new(), pages: Some(tables) };
    let mut cache = poison(p.batch * each * page * 2 * width);
    if let Some((past_k, past_v)) = &p.past {
        for (which, past) in [past_k, past_v].into_iter().enumerate() {
            for (i, row) in past.values.chunks_exact(width).enumerate() {
                let at = 2 * p.row(&kv, i / past.tokens, i % past.tokens) + which;
                cache[4 * at * width..4 * (at + 1) * width].copy_from_slice(bytemuck::cast_slice(row));
            }
        }
    }
    // the kernel takes queries, keys and values of a token in one row, and leaves queries alone where nothing is turned
    let kernel = KvStore {
        rows: Slot::Scratch(0),
        angles: None,
        heads: 1,
        kv_heads: p.k.heads,
        head_size: p.size,
        cache: Slot::Cache(0),
    };
    let no_query = vec![0.0; p.size];
    let token = |(k, v): (&[f32], &[f32])| [&no_query, k, v].concat();
    let heads = |h: &Heads| h.values.chunks_exact(width).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let rows: Vec<f32> = heads(&p.k).iter().zip(&heads(&p.v)).flat_map(|(k, v)| token((k, v))).collect();
    let contents = HashMap::from([(Slot::Scratch(0), bytes(&rows)), (Slot::Cache(0), cache)]);
    kv.rows = kernels.run_for(Slot::Cache(0), &[kernel.dispatch()], &batch, contents)?;
    Ok(kv)
}
