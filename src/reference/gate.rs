//! Gated activation in f64.

use super::activate;
use crate::kernels::activation::Activation;

/// activation(gate) · up for rows `[2, columns]`.
pub fn gate(gate_up: &[f64], columns: usize, activation: Activation) -> Vec<f64> {
    let mut out = Vec::new();
    for row in gate_up.chunks_exact(2 * columns) {
        let (gate, up) = row.split_at(columns);
        out.extend(gate.iter().zip(up).map(|(g, u)| activate(*g, activation) * u));
    }
    out
}
