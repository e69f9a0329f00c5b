//! Cases of `kv_store`.

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan};
use crate::kernels::attention::PAGE;
use crate::kernels::kv_store::KvStore;
use crate::reference;
use crate::schedule::{Batch, Input, Slot};

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    // turned: nothing, one pair, a part of the head, the whole of it; odd heads have a last element of their own
    for (heads, kv_heads, head_size, pairs) in [
        (1, 1, 1, None),
        (3, 3, 64, None),
        (4, 2, 7, None),
        (1, 1, 2, Some(1)),
        (3, 3, 10, Some(5)),
        (6, 2, 10, Some(2)),
        (5, 5, 37, Some(9)),
        (7, 1, 33, Some(16)),
        (9, 3, 64, Some(32)),
    ] {
        let kernel = KvStore {
            rows: Slot::Scratch(0),
            angles: pairs.map(|pairs| (Input::Angles, pairs)),
            heads,
            kv_heads,
            head_size,
            cache: Slot::Cache(0),
        };
        plans.push(case(kernel, &[(0, 12)], true));
        plans.push(case(kernel, &[(61, 6), (0, 1), (128, 3)], false));
    }
    plans
}

/// `in_order`: the pages are, so that rows of the cache are the tokens' for the test of token locality.
pub(crate) fn case(kernel: KvStore, sequences: &'static [(usize, usize)], in_order: bool) -> Plan {
    let pairs = kernel.angles.map_or(0, |(_, pairs)| pairs);
    let (stride, q) = (kernel.stride(), kernel.heads * kernel.head_size);
    let out = if in_order { (Slot::Cache(0), stride - q) } else { (Slot::Scratch(0), stride) };
    let KvStore { heads, kv_heads, head_size, .. } = kernel;
    let shape = format!("{heads}/{kv_heads} heads of {head_size}, {pairs} pairs, {sequences:?}");
    let token_rows = vec![(Slot::Scratch(0), stride), out];
    Plan::new("kv_store", shape, vec![kernel.dispatch()], token_rows, move |random| {
        let page = PAGE as usize;
        let pages: usize = sequences.iter().map(|(past, own)| (past + own).div_ceil(page)).sum();
        let order = if in_order { (0..pages as u32).collect() } else { random.shuffled(pages) };
        let mut free = order.into_iter();
        let (mut batch, mut places) = (Batch::new(1), Vec::new());
        for &(past, own) in sequences {
            let pages: Vec<u32> = free.by_ref().take((past + own).div_ceil(page)).collect();
            batch.push_cached(&vec![0; own], past as u32, &pages, None, &[]);
            places.extend((past..past + own).map(|i| pages[i / page] as usize * page + i % page));
        }
        let rows = random.values(places.len() * stride, 0.0, 1.0);
        let turns = (0..places.len() * pairs).map(|_| 3.2 * random.uniform());
        let angles: Vec<f32> = turns.flat_map(|angle| [angle.cos(), angle.sin()]).collect();
        batch.push_angles(0, &angles);
        // what other tokens stored stays
        let mut cache = random.values(pages * page * (stride - q), 0.0, 1.0);
        for place in &places {
            cache[place * (stride - q)..(place + 1) * (stride - q)].fill(f32::from_bits(POISON));
        }
        let (after, stored) = reference::kv_store(&widen(&rows), &widen(&angles), &widen(&cache), &places, &kernel);
        let contents = Contents::from([(Slot::Scratch(0), bytes(&rows)), (Slot::Cache(0), bytes(&cache))]);
        Inputs::new(batch, contents, vec![(Slot::Scratch(0), after), (Slot::Cache(0), stored)])
    })
}
