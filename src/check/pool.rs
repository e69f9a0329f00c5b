//! Cases of `pool`.

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan};
use crate::files::Pooling;
use crate::kernels::pool::Pool;
use crate::reference;
use crate::schedule::{Batch, Slot};

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for (mode, ..) in Pooling::ALL {
        for columns in [1, 3, 64, 130, 384] {
            for skip in [0, 2] {
                plans.push(case(mode, columns, skip, &[3, 1, 17, 64, 5]));
            }
        }
    }
    plans
}

pub(crate) fn case(mode: Pooling, columns: usize, skip: usize, lengths: &'static [usize]) -> Plan {
    // two modes side by side: this one writes the right half
    let out_columns = 2 * columns;
    let pool = Pool { mode, columns, pooled: Slot::Scratch(0), out_columns, out_first: columns };
    let shape = format!("{columns} columns, sequences of {lengths:?}, {skip} skipped");
    Plan::new("pool", shape, vec![pool.dispatch()], Vec::new(), move |random| {
        let total: usize = lengths.iter().sum();
        let mut batch = Batch::new(32);
        for &length in lengths {
            batch.push((0..length as u32).map(|i| (0, i, 0)), skip as u32);
        }
        let stream = random.values(total * columns, 0.3, 1.0);
        let left = random.values(lengths.len() * out_columns, 0.0, 1.0);
        let (wide, mut expected) = (widen(&stream), widen(&left));
        let mut first = 0;
        for (s, &length) in lengths.iter().enumerate() {
            let rows = &wide[first * columns..(first + length) * columns];
            let vector = reference::pool(rows, columns, skip.min(length - 1), mode);
            expected[s * out_columns + columns..][..columns].copy_from_slice(&vector);
            first += length;
        }
        // the left half must stay as it is; the right half is poisoned
        let mut before = bytes(&left);
        for row in before.chunks_exact_mut(4 * out_columns) {
            row[4 * columns..].copy_from_slice(&POISON.to_le_bytes().repeat(columns));
        }
        let contents = Contents::from([(Slot::Stream, bytes(&stream)), (Slot::Scratch(0), before)]);
        Inputs::new(batch, contents, vec![(Slot::Scratch(0), expected)])
    })
}
