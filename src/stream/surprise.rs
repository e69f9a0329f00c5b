//! How surprised a model is at tokens: -ln p, of rows of its stream behind the last block.

use std::sync::Arc;

use crate::error::Result;
use crate::kernels::logit_stats::NOTHING;
use crate::model::Model;
use crate::schedule::{Batch, Operation, Program, Purpose, RowEdit, Watch, record};

/// A language model's final norm and head, a few rows at a time, so that the logits' memory does not grow with the text; of
/// each row comes back one number and not its logits.
pub(crate) struct Surprises {
    program: Program,
    columns: usize,
    rows: usize,
}

/// Rows at a time, at most.
const ROWS: u64 = 256;

impl Surprises {
    /// Whose logits take so many bytes at most, or are one row's.
    pub async fn new(model: &Model, bytes: u64) -> Result<Self> {
        let watch = Watch { from: Some(model.spec.num_hidden_layers), ..Watch::default() };
        let recording = record(&model.spec, &model.tensors, &Purpose::Surprise, model.choices, &watch);
        model.try_variants(&recording).await?;
        let program = Program::new(&model.gpu, recording, Arc::clone(&model.weights))?;
        let fit = (bytes / (4 * model.spec.vocab_size as u64)).clamp(1, ROWS);
        let rows = program.max_tokens().clamp(1, fit as usize);
        Ok(Surprises { program, columns: model.spec.hidden_size, rows })
    }

    /// -ln p of each token after its row, in nats; NaN where a logit is no number.
    pub async fn at(&self, rows: &[(&[f32], u32)]) -> Result<Vec<f64>> {
        let recording = self.program.recording();
        let mut surprises = Vec::with_capacity(rows.len());
        for part in rows.chunks(self.rows) {
            let mut batch = Batch::of(recording);
            for (token, &(row, id)) in part.iter().enumerate() {
                // nothing turns it, and no table is looked into
                batch.push([(0, 0, 0)], 0);
                recording.pairs.iter().enumerate().for_each(|(i, &pairs)| batch.push_angles(i, &vec![0.0; 2 * pairs]));
                let (columns, operation, vector) = (0..self.columns, Operation::Set, batch.vector(row));
                let edit = RowEdit { token, part: 0, columns, operation, alpha: 1.0, vector };
                batch.edit(&recording.sites, 0, edit);
                batch.read(Some(id), token);
            }
            let output = self.program.run(&batch).await?.output;
            let number = |x: f32| if x.to_bits() == NOTHING { f64::NAN } else { f64::from(x) };
            surprises.extend(output.into_iter().map(number));
        }
        Ok(surprises)
    }
}
