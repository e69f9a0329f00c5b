//! Cases of `surprise`.

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Size};
use crate::kernels::Reduce;
use crate::kernels::logit_stats::NOTHING;
use crate::kernels::surprise::Surprise;
use crate::reference;
use crate::schedule::{Batch, Slot};

/// Centers and spreads of the rows' logits: sure of one token, or of none, or all equal; and far from 0.
const KINDS: [(f32, f32); 7] =
    [(0.0, 8.0), (-30.0, 30.0), (0.0, 3.0), (-2.5, 0.0), (0.0, 1e4), (0.0, 0.1), (90.0, 4.0)];

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for reduce in Reduce::ALL {
        for columns in [1, 2, 64, 65, 300, 1031, 5000] {
            plans.extend(KINDS.map(|kind| case(reduce, columns, kind, 3, None)));
        }
        // NaN of either sign, infinities, and a number beyond all bounds
        for odd in [0x7fc0_0000, 0xffc0_0001, 0x7f80_0000, 0xff80_0000, 0x7e80_0000] {
            plans.push(case(reduce, 300, KINDS[0], 2, Some(odd)));
        }
        // larger than Gemma's, and no count of invocations divides it
        plans.push(case(reduce, 262_147, KINDS[0], 4, None).sized(Size::Large));
    }
    plans
}

/// So many rows, the last of which may have some bits among its own.
fn case(reduce: Reduce, columns: usize, (center, spread): (f32, f32), rows: usize, odd: Option<u32>) -> Plan {
    let (logits, surprises) = (Slot::Scratch(0), Slot::Scratch(1));
    let kernel = Surprise { reduce, logits, columns, surprises };
    let odd_one = odd.map_or(String::new(), |bits| format!(", {bits:#x} in the last"));
    let shape = format!("{rows} rows of {columns}, {center} ± {spread:e}{odd_one}");
    // at the only token of all nothing surprises, whatever its logit is
    let token_rows = if columns == 1 { Vec::new() } else { vec![(logits, columns), (surprises, 1)] };
    Plan::new("surprise", shape, vec![kernel.dispatch()], token_rows, move |random| {
        let mut batch = Batch::new(32);
        batch.push((0..rows as u32).map(|i| (0, i, 0)), 0);
        let (mut all, mut expected) = (Vec::new(), Vec::new());
        for row in 0..rows {
            let mut x = random.values(columns, center, spread);
            let token = random.below(columns);
            batch.read(Some(token as u32), 0);
            if let Some(bits) = odd.filter(|_| row + 1 == rows) {
                x[random.below(columns)] = f32::from_bits(bits);
                expected.push(f64::from(f32::from_bits(NOTHING)));
            } else {
                // where all but the token is below this, nothing is said of how far
                let nats = reference::surprise(&widen(&x), token);
                expected.push(if nats < 1e-12 { 0.0 } else { nats });
            }
            all.extend(x);
        }
        let contents = Contents::from([(logits, bytes(&all)), (surprises, POISON.to_le_bytes().repeat(rows))]);
        if odd.is_none() {
            return Inputs::new(batch, contents, vec![(surprises, expected)]);
        }
        // what is no number is larger than all others
        let places: Vec<_> = expected.iter().copied().enumerate().collect();
        let (sound, odd) = places.split_at(rows - 1);
        Inputs::new(batch, contents, Vec::new()).sampled(surprises, sound.to_vec()).sampled(surprises, odd.to_vec())
    })
}
