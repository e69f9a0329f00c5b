//! Cases of `embed`.

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Inputs, Plan};
use crate::kernels::WeightType;
use crate::kernels::embed::Embed;
use crate::reference;
use crate::schedule::{Batch, Input, Slot};

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for weight in WeightType::ALL {
        let widths: &[usize] = match weight.block().elements {
            1 => &[1, 3, 4, 30, 130, 512],
            32 => &[32, 96, 384],
            _ => &[256, 768],
        };
        for &columns in widths {
            for (positions, types) in [(false, false), (true, false), (true, true)] {
                // one chunk of the word table, and three of which the last is short
                for chunk_rows in [17, 7] {
                    plans.push(case(
                        weight,
                        columns,
                        positions,
                        types,
                        Table { rows: ROWS, chunk_rows, lengths: &[5, 1, 9] },
                    ));
                }
            }
        }
    }
    plans
}

const ROWS: usize = 17;

/// The word table, and the tokens that are looked up.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub rows: usize,
    /// Of a chunk of the table.
    pub chunk_rows: usize,
    /// Tokens of each sequence.
    pub lengths: &'static [usize],
}

pub(crate) fn case(weight: WeightType, columns: usize, has_positions: bool, has_types: bool, table: Table) -> Plan {
    let Table { rows: all, chunk_rows, lengths } = table;
    let (tokens, longest) = (lengths.iter().sum::<usize>(), lengths.iter().copied().max().unwrap_or(1));
    // quantised words alone: what a block's elements are, to the bit
    let exact = weight.quantised() && !has_positions;
    let scale = if has_types || exact { 1.0 } else { 6.5 };
    let chunks = move || (0..all).step_by(chunk_rows).map(move |first| (first, chunk_rows.min(all - first)));
    let dispatch = |(i, (first_row, rows))| {
        let embed = Embed {
            weight,
            words: Slot::Weight(i),
            first_row,
            rows,
            columns,
            positions: has_positions.then_some(Slot::Weight(100)),
            types: has_types.then_some(Slot::Weight(101)),
            scale,
        };
        embed.dispatch()
    };
    let dispatches = chunks().enumerate().map(dispatch).collect();
    let shape = format!("{tokens} tokens of {all} words in chunks of {chunk_rows}, {columns} columns");
    let token_rows = vec![(Slot::Input(Input::Tokens), 4), (Slot::Stream, columns)];
    let plan = Plan::new("embed", shape, dispatches, token_rows, move |random| {
        let mut batch = Batch::new(32);
        for &length in lengths {
            let id = |i| (random.below(all) as u32, i as u32, random.below(2) as u32);
            let ids: Vec<_> = (0..length).map(id).collect();
            batch.push(ids, 0);
        }
        let mut contents = super::Contents::new();
        let positions = random.values(longest * columns, 0.0, 1.0);
        let types = random.values(2 * columns, 0.0, 1.0);
        contents.insert(Slot::Weight(100), bytes(&positions));
        contents.insert(Slot::Weight(101), bytes(&types));
        contents.insert(Slot::Stream, POISON.to_le_bytes().repeat(tokens * columns));
        let mut words = Vec::new();
        for (i, (_, rows)) in chunks().enumerate() {
            let (stored, values) = random.weight(rows, columns, weight);
            words.extend(values);
            contents.insert(Slot::Weight(i), stored);
        }
        let given = |table: &[f32], has: bool| if has { widen(table) } else { Vec::new() };
        let tokens: Vec<[u32; 4]> = bytemuck::pod_collect_to_vec(batch.input(Input::Tokens));
        let (p, t) = (given(&positions, has_positions), given(&types, has_types));
        let expected = reference::embed(&tokens, &words, &p, &t, columns, scale.into());
        Inputs::new(batch, contents, vec![(Slot::Stream, expected)])
    });
    Plan { tolerance: if exact { 0.0 } else { plan.tolerance }, ..plan }
}
