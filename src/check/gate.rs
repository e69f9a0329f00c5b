//! Cases of `gate`.

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Size, tokens};
use crate::kernels::activation::Activation;
use crate::kernels::gate::Gate;
use crate::reference;
use crate::schedule::Slot;

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for activation in Activation::ALL {
        for (rows, columns) in [(1, 1), (3, 85), (7, 128), (33, 61)] {
            plans.push(case(activation, rows, columns));
        }
        // SmolLM2-135M's
        plans.push(case(activation, 32, 1536).sized(Size::Large));
    }
    plans
}

pub(crate) fn case(activation: Activation, rows: usize, columns: usize) -> Plan {
    let gate = Gate { activation, gate_up: Slot::Scratch(0), output: Slot::Scratch(1), columns };
    let token_rows = vec![(Slot::Scratch(0), 2 * columns), (Slot::Scratch(1), columns)];
    let shape = format!("{rows} rows of {columns}");
    Plan::new("gate", shape, vec![gate.dispatch()], token_rows, move |random| {
        let gate_up = random.values(rows * 2 * columns, 1.0, 4.0);
        let contents = Contents::from([
            (Slot::Scratch(0), bytes(&gate_up)),
            (Slot::Scratch(1), POISON.to_le_bytes().repeat(rows * columns)),
        ]);
        let expected = reference::gate(&widen(&gate_up), columns, activation);
        Inputs::new(tokens(rows), contents, vec![(Slot::Scratch(1), expected)])
    })
}
