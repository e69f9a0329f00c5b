//! What follows the last block: pooling, the language model's head, the sampler.

use super::{Head, Purpose, Recorder};
use crate::files::Pooling;
use crate::kernels::l2_normalize::L2Normalize;
use crate::kernels::logit_stats::{LogitStats, words};
use crate::kernels::matmul::{Activation, MatMul, Output};
use crate::kernels::pool::Pool;
use crate::kernels::sample::Sample;
use crate::kernels::soft_cap::SoftCap;
use crate::kernels::surprise::Surprise;
use crate::model::{Dense, LogitHead, Tensors, Transform};
use crate::schedule::recording::Slot;
use crate::schedule::sizes::{Dim, Extent};
use crate::stream::Kind;

impl Recorder<'_> {
    /// The final norm and the logits, as far as points ask for them.
    pub fn traced_head(&mut self, tensors: &Tensors) {
        if !self.touches(0, Kind::FinalNormalized) && !self.touches(0, Kind::Logits) {
            return;
        }
        let normed = self.final_norm(tensors, Slot::Stream, MatMul::TOKENS);
        if let Some(head) = tensors.head.as_ref().filter(|_| self.touches(0, Kind::Logits)) {
            self.traced_logits(head, normed);
        }
    }

    /// What every row says, as if it stood behind the last block.
    pub fn lens(&mut self, tensors: &Tensors, top: usize) {
        let normed = self.final_norm(tensors, Slot::Stream, MatMul::TOKENS);
        let Some(head) = &tensors.head else { return };
        let logits = self.traced_logits(head, normed);
        let (reduce, columns) = (self.choices.reduce, self.spec.vocab_size);
        let stats = self.scratch("logits' statistics", words(top), Dim::Tokens);
        self.push(LogitStats { reduce, logits, columns, top, stats }.dispatch());
        self.recording.output = Some((stats, Extent::new(words(top) as u64, Dim::Tokens)));
    }

    /// How surprised every row is at its token, as if it stood behind the last block.
    pub fn surprise(&mut self, tensors: &Tensors) {
        let normed = self.final_norm(tensors, Slot::Stream, MatMul::TOKENS);
        let Some(head) = &tensors.head else { return };
        let logits = self.logits(head, normed, MatMul::TOKENS);
        let (reduce, columns) = (self.choices.reduce, self.spec.vocab_size);
        let surprises = self.scratch("surprises", 1, Dim::Tokens);
        self.push(Surprise { reduce, logits, columns, surprises }.dispatch());
        self.recording.output = Some((surprises, Extent::new(1, Dim::Tokens)));
    }

    /// Rows behind the final norm, where the model has one.
    fn final_norm(&mut self, tensors: &Tensors, input: Slot, rows: Extent) -> Slot {
        let Some(norm) = tensors.final_norm else { return input };
        let normed = self.scratch("final norm", self.spec.hidden_size, rows.dim);
        self.norm_into(norm, input, rows, normed);
        if rows == MatMul::TOKENS {
            self.tap_row(0, normed, Kind::FinalNormalized);
        }
        normed
    }

    /// The logits of every token.
    fn traced_logits(&mut self, head: &LogitHead, normed: Slot) -> Slot {
        let vocab = self.spec.vocab_size;
        let logits = self.logits(head, normed, MatMul::TOKENS);
        self.tap(0, logits, vocab, &[(Kind::Logits, 0..vocab)]);
        logits
    }

    /// The logits of each sequence's one token, and the choice of the next.
    pub fn next_token(&mut self, tensors: &Tensors) {
        let normed = self.final_norm(tensors, Slot::Stream, MatMul::TOKENS);
        let Some(head) = &tensors.head else { return };
        let logits = self.traced_logits(head, normed);
        let vocab_size = self.spec.vocab_size;
        if *self.purpose == Purpose::Logits {
            self.recording.output = Some((logits, Extent::new(vocab_size as u64, Dim::Tokens)));
            return;
        }
        let ids = self.scratch("next ids", 1, Dim::Tokens);
        self.push(Sample { logits, vocab_size, ids }.dispatch());
        self.recording.output = Some((ids, Extent::new(1, Dim::Tokens)));
    }

    /// The language model's head over rows, and the cap of its logits.
    fn logits(&mut self, head: &LogitHead, mut input: Slot, rows: Extent) -> Slot {
        let columns = self.spec.vocab_size;
        if let Some(Transform { dense, activation, norm }) = &head.transform {
            let [made, normed] =
                ["head's dense", "head's norm"].map(|name| self.scratch(name, dense.weight.rows, rows.dim));
            self.linear(dense, input, rows, *activation, Output::Store(made));
            self.norm_into(*norm, made, rows, normed);
            input = normed;
        }
        let logits = self.scratch("logits", columns, rows.dim);
        self.linear(&head.decoder, input, rows, Activation::None, Output::Store(logits));
        if let Some(cap) = self.spec.head.and_then(|head| head.cap) {
            self.push(SoftCap { values: logits, rows, columns, cap }.dispatch());
        }
        logits
    }

    /// The logits after each sequence's last token.
    pub fn score(&mut self, tensors: &Tensors) {
        let columns = self.spec.hidden_size;
        let rows = MatMul::SEQUENCES;
        let last = match self.alone {
            Some(last) => last,
            None => {
                let last = self.scratch("last token", columns, Dim::Sequences);
                self.last_rows(Slot::Stream, columns, last);
                last
            }
        };
        let last = self.final_norm(tensors, last, rows);
        let Some(head) = &tensors.head else { return };
        let logits = self.logits(head, last, rows);
        self.recording.output = Some((logits, Extent::new(self.spec.vocab_size as u64, Dim::Sequences)));
    }

    /// The row of each sequence's last token, of the stream or of another buffer.
    pub fn last_rows(&mut self, from: Slot, columns: usize, pooled: Slot) {
        let mode = Pooling::LastToken;
        let mut dispatch = Pool { mode, columns, pooled, out_columns: columns, out_first: 0 }.dispatch();
        dispatch.bindings.iter_mut().filter(|slot| **slot == Slot::Stream).for_each(|slot| *slot = from);
        self.push(dispatch);
    }

    /// An encoder's vectors, one for each sequence.
    pub fn pooled(&mut self, tensors: &Tensors, head: &Head) {
        if let Some(norm) = tensors.final_norm {
            self.norm_in_place(norm);
            self.tap_row(0, Slot::Stream, Kind::FinalNormalized);
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
