//! Host half of `shaders/kv_store.wgsl`: turns queries and keys, and puts keys and values into the cache.

use super::{Kernel, ParamType::U32, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "kv_store",
    token_local: true,
    variants,
    params: &[
        ("tokens", U32),
        ("stride", U32),
        ("heads", U32),
        ("kv_heads", U32),
        ("head_size", U32),
        ("pairs", U32),
        ("first", U32),
    ],
};

/// Keys and values of one block on their way into its cache.
#[derive(Clone, Copy, Debug)]
pub struct KvStore {
    /// Queries, keys and values, f32 `[tokens, (heads + 2·kv_heads)·head_size]`; the queries are turned in place.
    pub rows: Slot,
    /// cos and sin, f32 `[tokens, pairs, 2]`, and the pairs (halves of the turned part); `None` turns nothing.
    pub angles: Option<(Input, usize)>,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements in a head.
    pub head_size: usize,
    /// f32 `[rows, 2, kv_heads, head_size]`; each token says which row is its own.
    pub cache: Slot,
}

fn variants() -> Vec<Variant> {
    vec![Variant {
        bindings: vec![read("tokens"), read("angles"), write("rows"), write("cache")],
        ..Variant::new("kv_store", &[])
    }]
}

impl KvStore {
    /// Elements in a row of queries, keys and values.
    pub fn stride(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_size
    }

    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let first = if self.angles.is_some() { 0 } else { self.heads };
        let units = (self.heads + 2 * self.kv_heads - first) * self.head_size.div_ceil(2);
        Dispatch {
            variant: variants().remove(0),
            params: vec![
                Word::Extent(Extent::new(1, Dim::Tokens)),
                Word::U32(self.stride() as u32),
                Word::U32(self.heads as u32),
                Word::U32(self.kv_heads as u32),
                Word::U32(self.head_size as u32),
                Word::U32(self.angles.map_or(0, |(_, pairs)| pairs as u32)),
                Word::U32(first as u32),
            ],
            bindings: vec![
                Slot::Input(Input::Tokens),
                Slot::Input(self.angles.map_or(Input::Tokens, |(input, _)| input)),
                self.rows,
                self.cache,
            ],
            grid: Grid::new(Extent::new(units as u64, Dim::Tokens), 64),
            work: Work { flops: 8.0 * units as f64, dim: Dim::Tokens },
            tilings: Vec::new(),
        }
    }
}
