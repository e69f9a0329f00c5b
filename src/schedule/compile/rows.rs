//! What every token goes through alone: norms and products.

use super::Recorder;
use crate::kernels::layer_norm::{self, LayerNorm};
use crate::kernels::matmul::{Activation, MatMul, Output, Product};
use crate::kernels::matvec::MatVec;
use crate::kernels::rms_norm::RmsNorm;
use crate::model::{Linear, Norm, NormKind};
use crate::schedule::recording::Slot;
use crate::schedule::sizes::Extent;

impl Recorder<'_> {
    /// The stream becomes its own normalised form.
    pub fn norm_in_place(&mut self, norm: Norm) {
        self.layer_norm(norm, MatMul::TOKENS, layer_norm::Output::InPlace);
    }

    /// Normalises rows of the stream's width into another buffer.
    pub fn norm_into(&mut self, norm: Norm, input: Slot, rows: Extent, output: Slot) {
        let spec = self.spec;
        match spec.norm {
            NormKind::Layer | NormKind::LayerNoBias => {
                self.layer_norm(norm, rows, layer_norm::Output::Into { rows: input, output });
            }
            NormKind::Rms | NormKind::RmsPlusOne => {
                let columns = spec.hidden_size;
                self.rms_norm(RmsNorm { input, output, rows, columns, stride: columns, ..self.rms(norm.gamma) });
            }
        }
    }

    fn layer_norm(&mut self, norm: Norm, rows: Extent, output: layer_norm::Output) {
        let Norm { gamma, beta } = norm;
        let (columns, eps) = (self.spec.hidden_size, self.spec.norm_eps);
        self.push(LayerNorm { sums: self.choices.sums, gamma, beta, rows, columns, eps, output }.dispatch());
    }

    pub fn rms_norm(&mut self, norm: RmsNorm) {
        self.push(norm.dispatch());
    }

    /// An RMS norm of the model with that γ, over nothing yet.
    pub fn rms(&self, gamma: Slot) -> RmsNorm {
        RmsNorm {
            sums: self.choices.sums,
            gamma,
            add_one: self.spec.norm == NormKind::RmsPlusOne,
            input: Slot::Stream,
            output: Slot::Stream,
            rows: MatMul::TOKENS,
            columns: 0,
            heads: 1,
            stride: 0,
            first: 0,
            eps: self.spec.norm_eps,
        }
    }

    /// One product: a dispatch for each chunk of the weight.
    pub fn linear(&mut self, linear: &Linear, input: Slot, rows: Extent, activation: Activation, output: Output) {
        let Linear { weight, bias } = linear;
        for (i, chunk) in weight.chunks.iter().enumerate() {
            let product = Product {
                weight_type: chunk.weight_type,
                input,
                rows,
                weight: chunk.slot,
                columns: chunk.rows,
                depth: weight.columns,
                bias: bias.get(i).copied(),
                activation,
                output,
                out_columns: if let Output::Gate(_) = output { weight.rows / 2 } else { weight.rows },
                out_first: chunk.first_row,
            };
            self.push(if self.purpose.steps() {
                MatVec { form: self.choices.matvec, product }.dispatch()
            } else {
                MatMul { form: self.choices.matmul, product }.fitted()
            });
        }
    }
}
