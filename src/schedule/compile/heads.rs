//! What follows the last block: pooling, the language model's head, the sampler.

use super::{Head, Purpose, Recorder};
use crate::kernels::l2_normalize::L2Normalize;
use crate::kernels::matmul::{Activation, MatMul, Output};
use crate::kernels::pool::Pool;
use crate::kernels::sample::Sample;
use crate::kernels::soft_cap::SoftCap;
use crate::model::{Dense, Linear, Matrix, Tensors};
use crate::schedule::recording::{Dim, Extent, Slot};
use crate::stream::Kind;

impl Recorder<'_> {
    /// The final norm and the logits, as far as points ask for them.
    pub fn traced_head(&mut self, tensors: &Tensors) {
        let Some(norm) = tensors.final_norm else { return };
        if !self.wants(0, Kind::FinalNormalized) && !self.wants(0, Kind::Logits) {
            return;
        }
        let normed = self.scratch("final norm", self.spec.hidden_size, Dim::Tokens);
        self.norm_into(norm, Slot::Stream, MatMul::TOKENS, normed);
        self.tap_row(0, normed, Kind::FinalNormalized);
        if let Some(head) = tensors.head.as_ref().filter(|_| self.wants(0, Kind::Logits)) {
            let vocab = self.spec.vocab_size;
            let logits = self.logits(head, normed);
            self.tap(0, logits, vocab, &[(Kind::Logits, 0..vocab)]);
        }
    }

    /// The logits of each sequence's one token, and the choice of the next.
    pub fn next_token(&mut self, tensors: &Tensors) {
        let mut normed = Slot::Stream;
        if let Some(norm) = tensors.final_norm {
            normed = self.scratch("final norm", self.spec.hidden_size, Dim::Tokens);
            self.norm_into(norm, Slot::Stream, MatMul::TOKENS, normed);
        }
        let Some(head) = &tensors.head else { return };
        let logits = self.logits(head, normed);
        let vocab_size = self.spec.vocab_size;
        if *self.purpose == Purpose::Logits {
            self.recording.output = Some((logits, Extent::new(vocab_size as u64, Dim::Tokens)));
            return;
        }
        let ids = self.scratch("next ids", 1, Dim::Tokens);
        self.push(Sample { logits, vocab_size, ids }.dispatch());
        self.recording.output = Some((ids, Extent::new(1, Dim::Tokens)));
    }

    /// The language model's head over every token, and the cap of its logits.
    fn logits(&mut self, head: &Matrix, input: Slot) -> Slot {
        let (rows, columns) = (MatMul::TOKENS, self.spec.vocab_size);
        let logits = self.scratch("logits", columns, Dim::Tokens);
        let linear = Linear { weight: head.clone(), bias: Vec::new() };
        self.linear(&linear, input, rows, Activation::None, Output::Store(logits));
        if let Some(cap) = self.spec.head.and_then(|head| head.cap) {
            self.push(SoftCap { values: logits, rows, columns, cap }.dispatch());
        }
        logits
    }

    /// An encoder's vectors, one for each sequence.
    pub fn pooled(&mut self, tensors: &Tensors, head: &Head) {
        if let Some(norm) = tensors.final_norm {
            self.norm_in_place(norm);
        }
        self.pool(head, &tensors.dense);
    }

    fn pool(&mut self, head: &Head, dense: &[Dense]) {
        let d = self.spec.hidden_size;
        let mut columns = d * head.pooling.len();
        let mut vectors = self.scratch("pooled", columns, Dim::Sequences);
        for (i, &mode) in head.pooling.iter().enumerate() {
            let pool = Pool { mode, columns: d, pooled: vectors, out_columns: columns, out_first: i * d };
            self.push(pool.dispatch());
        }
        for layer in dense {
            columns = layer.linear.weight.rows;
            let output = self.scratch("dense", columns, Dim::Sequences);
            self.linear(&layer.linear, vectors, MatMul::SEQUENCES, layer.activation, Output::Store(output));
            vectors = output;
        }
        if head.normalize {
            self.push(L2Normalize { reduce: self.choices.reduce, values: vectors, columns }.dispatch());
        }
        self.recording.output = Some((vectors, Extent::new(columns as u64, Dim::Sequences)));
    }
}
