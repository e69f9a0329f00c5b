//! Cases of `matmul`.

use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Case, Contents, TOLERANCE, tokens};
use crate::kernels::WeightType;
use crate::kernels::matmul::{Activation, Form, MatMul, Output};
use crate::reference;
use crate::schedule::{Dispatch, Slot};

/// M, N, K: around every edge of every tile, and a model's.
const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (1, 5, 4),
    (2, 33, 7),
    (40, 1, 130),
    (7, 31, 13),
    (8, 32, 16),
    (9, 65, 17),
    (33, 7, 36),
    (64, 64, 64),
    (65, 66, 20),
    (70, 130, 3),
    (16, 384, 384),
];

/// M, N: the same edges for quantised weights, whose K is whole blocks.
const QUANTISED: [(usize, usize); 8] = [(1, 5), (2, 33), (3, 34), (5, 31), (9, 65), (16, 7), (33, 9), (65, 66)];

pub fn cases(random: &mut Random) -> Vec<Case> {
    let products = Form::ALL.map(|form| move |product: &MatMul| MatMul { form, ..*product }.dispatch());
    products.iter().flat_map(|product| products_of(random, &SHAPES, product)).collect()
}

/// Cases of every variant of a product, `dispatch`ed by its kernel.
pub(super) fn products_of(
    random: &mut Random,
    shapes: &[(usize, usize, usize)],
    dispatch: &dyn Fn(&MatMul) -> Dispatch,
) -> Vec<Case> {
    let mut cases = Vec::new();
    let (quantised, floats): (Vec<_>, Vec<_>) = WeightType::ALL.into_iter().partition(|w| w.quantised());
    for weight_type in floats {
        for bias in [false, true] {
            for (i, &shape) in shapes.iter().enumerate() {
                let activation = Activation::ALL[i % Activation::ALL.len()];
                cases.push(Maker { dispatch, weight_type, bias, activation, add: false, chunk: 0 }.case(random, shape));
                let plain = Activation::None;
                let chunk = if i % 2 == 0 { 0 } else { 64 };
                cases.push(
                    Maker { dispatch, weight_type, bias, activation: plain, add: true, chunk }.case(random, shape),
                );
            }
            for activation in Activation::ALL {
                for shape in [(5, 34, 12), (10, 35, 14)] {
                    let maker = Maker { dispatch, weight_type, bias, activation, add: false, chunk: 20 };
                    cases.push(maker.case(random, shape));
                }
            }
        }
    }
    for weight_type in quantised {
        let depths = if weight_type.block().elements == 32 { [32, 96, 256, 512] } else { [256, 512, 768, 1024] };
        for bias in [false, true] {
            let activations = weight_type.activations(bias);
            for (i, (m, n)) in QUANTISED.into_iter().enumerate() {
                let shape = (m, n, depths[(i + i / 4) % 4]);
                let activation = activations[i % activations.len()];
                // chunks that begin at odd rows, so that blocks lie at every place in a word
                let chunk = if i % 2 == 0 { 0 } else { 21 };
                cases.push(Maker { dispatch, weight_type, bias, activation, add: false, chunk }.case(random, shape));
                let plain = Activation::None;
                cases.push(
                    Maker { dispatch, weight_type, bias, activation: plain, add: true, chunk: 21 - chunk }
                        .case(random, shape),
                );
            }
        }
    }
    cases
}

struct Maker<'a> {
    dispatch: &'a dyn Fn(&MatMul) -> Dispatch,
    weight_type: WeightType,
    bias: bool,
    activation: Activation,
    add: bool,
    /// Rows of the weight's chunks; 0 for one chunk.
    chunk: usize,
}

impl Maker<'_> {
    fn case(&self, random: &mut Random, (m, n, k): (usize, usize, usize)) -> Case {
        let rows = random.values(m * k, 0.0, 1.0);
        // away from 0, so that no sum of few outputs cancels: an error relative to nothing says nothing
        let before = random.values(m * n, 4.0, 1.0);
        let step = if self.chunk == 0 { n } else { self.chunk };
        let (output, slot) = if self.add {
            (Output::AddToStream, Slot::Stream)
        } else {
            (Output::Store(Slot::Scratch(1)), Slot::Scratch(1))
        };
        let mut contents = Contents::from([
            (Slot::Scratch(0), bytes(&rows)),
            (slot, if self.add { bytes(&before) } else { POISON.to_le_bytes().repeat(m * n) }),
        ]);
        let (mut weights, mut biases, mut dispatches) = (Vec::new(), Vec::new(), Vec::new());
        for (i, out_first) in (0..n).step_by(step).enumerate() {
            let columns = step.min(n - out_first);
            let (stored, values) = random.weight(columns, k, self.weight_type);
            let bias = random.values(columns, 3.0, 1.0);
            contents.insert(Slot::Weight(2 * i), stored);
            contents.insert(Slot::Weight(2 * i + 1), bytes(&bias));
            weights.extend(values);
            biases.extend(widen(&bias));
            let product = MatMul {
                form: Form::Register,
                weight_type: self.weight_type,
                input: Slot::Scratch(0),
                rows: MatMul::TOKENS,
                weight: Slot::Weight(2 * i),
                columns,
                depth: k,
                bias: self.bias.then_some(Slot::Weight(2 * i + 1)),
                activation: self.activation,
                output,
                out_columns: n,
                out_first,
            };
            dispatches.push((self.dispatch)(&product));
        }
        if !self.bias {
            biases.clear();
        }
        let mut expected = reference::matmul(&widen(&rows), &weights, &biases, n, k, self.activation);
        if self.add {
            expected = reference::residual_add(&widen(&before), &expected);
        }
        Case {
            kernel: dispatches[0].variant.kernel,
            shape: format!("[{m},{k}]x[{k},{n}] in chunks of {step}"),
            dispatches,
            batch: tokens(m),
            contents,
            expected: vec![(slot, expected)],
            token_rows: vec![(Slot::Scratch(0), k), (slot, n)],
            tolerance: TOLERANCE,
        }
    }
}
