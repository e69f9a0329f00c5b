//! Attention as models run it: one dispatch of `attention`, on rows or on pages.

use std::collections::HashMap;
use std::ops::Range;

use super::attention::KeysValues;
use super::attention_input::Problem;
use super::case::Step;
use super::kernels::{Kernels, bytes, poison};
use super::tensor::resize_rows;
use crate::kernels::WeightType;
use crate::kernels::attention::{Attention, Form, Heads, tile};
use crate::schedule::{Batch, Slot};

/// The queries of a sequence that see any key, which are neighbours: a window moves by one key a query.
pub fn seeing(p: &Problem, sequence: usize) -> Range<usize> {
    let sees = |query: &usize| {
        let at = p.offsets[sequence] + *query as i64;
        let first = (at - i64::from(p.mask.before)).max(0);
        first < p.lengths[sequence] as i64 && at + i64::from(p.mask.after) >= 0
    };
    let start = (0..p.q.tokens).find(sees).unwrap_or(0);
    let count = (start..p.q.tokens).take_while(sees).count();
    start..start + count
}

/// [batch, queries, heads, own size of values]. A query that sees no key has zeros, as ONNX says; the kernel, whose queries
/// see at least themselves, never gets one.
pub fn attend(p: &Problem, kv: &KeysValues, kernels: &mut Kernels) -> Step<Vec<f32>> {
    let width = p.q.heads * p.size;
    let mut batch = Batch::new(tile(p.size));
    let mut places = Vec::new();
    for b in 0..p.batch {
        let queries = seeing(p, b);
        let keys = match &kv.pages {
            Some(pages) => batch.push_pages(&pages[b]),
            None => p.row(kv, b, 0) as u32,
        };
        if !queries.is_empty() {
            let position = (p.offsets[b] + queries.start as i64) as u32;
            batch.push_queries(queries.len() as u32, position, p.lengths[b] as u32, keys);
        }
        places.extend(queries.map(|query| b * p.q.tokens + query));
    }
    let mut z = vec![0.0; p.batch * p.q.tokens * width];
    if !places.is_empty() {
        let cache = if kv.pages.is_some() { Slot::Cache(0) } else { Slot::Scratch(1) };
        let kernel = Attention {
            form: Form::choose(kernels.gpu.capabilities()).of(WeightType::F32),
            heads: Heads {
                q: Slot::Scratch(0),
                q_stride: width,
                first_q: 0,
                kv: cache,
                kv_stride: 2 * p.k.heads * p.size,
                first_k: 0,
                first_v: p.k.heads * p.size,
                heads: p.q.heads,
                kv_heads: p.k.heads,
                head_size: p.size,
                scale: p.scale,
                cap: p.cap,
                mask: p.mask,
            },
            bias: None,
            z: Slot::Scratch(2),
        };
        let rows: Vec<f32> = places.iter().flat_map(|i| &p.q.values[i * width..(i + 1) * width]).copied().collect();
        let contents = HashMap::from([
            (Slot::Scratch(0), bytes(&rows)),
            (cache, bytes(&kv.rows)),
            (Slot::Scratch(2), poison(rows.len())),
        ]);
        let out = kernels.run_for(Slot::Scratch(2), &[kernel.dispatch()], &batch, contents)?;
        for (i, row) in places.iter().zip(out.chunks_exact(width)) {
            z[i * width..(i + 1) * width].copy_from_slice(row);
        }
    }
    Ok(resize_rows(&z, p.size, p.v.own_size))
}
