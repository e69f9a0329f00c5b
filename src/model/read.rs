//! Weights back from the GPU, for instruments: vectors as they are, rows of the head as the model uses them.

use std::collections::HashMap;
use std::sync::Arc;

use super::Model;
use crate::error::{Error, Result};
use crate::kernels::embed::Embed;
use crate::schedule::{Batch, Bounds, Command, Dim, Extent, Program, Recording, Slot};

impl Model {
    /// Vectors of weights that are stored as f32, by their slots.
    pub(crate) async fn read_vectors(&self, slots: &[Slot]) -> Result<HashMap<Slot, Vec<f32>>> {
        use wgpu::BufferUsages as U;
        let buffers = slots.iter().map(|slot| match slot {
            Slot::Weight(i) => Ok(&self.weights[*i]),
            other => Err(Error::Internal { during: "readback".into(), message: format!("{other:?} is no weight") }),
        });
        let buffers = buffers.collect::<Result<Vec<_>>>()?;
        let total: u64 = buffers.iter().map(|buffer| buffer.size()).sum();
        if total == 0 {
            return Ok(HashMap::new());
        }
        let readback = self.gpu.buffer("vectors", total, U::MAP_READ | U::COPY_DST)?;
        let submission = self.gpu.scoped("readback", || {
            let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
            let mut offset = 0;
            for buffer in &buffers {
                encoder.copy_buffer_to_buffer(buffer, 0, &readback, offset, buffer.size());
                offset += buffer.size();
            }
            self.gpu.queue().submit([encoder.finish()])
        })?;
        let bytes = self.gpu.read(&readback, total, submission).await?;
        let mut rest = &bytes[..];
        let mut vectors = HashMap::new();
        for (slot, buffer) in slots.iter().zip(&buffers) {
            let (own, after) = rest.split_at(buffer.size() as usize);
            vectors.insert(*slot, bytemuck::pod_collect_to_vec(own));
            rest = after;
        }
        Ok(vectors)
    }

    /// Rows of the language model's head (W_U), f32 `[tokens, d_model]`, however they are stored.
    ///
    /// # Errors
    /// [`Error::Input`] for a model without such a head, or a token beyond the vocabulary; [`Error::OutOfMemory`],
    /// [`Error::DeviceLost`].
    pub async fn head_rows(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        // behind a transform of its own, a head's rows are no directions of the stream
        let Some(head) = self.tensors.head.as_ref().filter(|head| head.transform.is_none()) else {
            return Err(Error::Input("this model has no language model's head".into()));
        };
        self.check_ids(tokens)?;
        let columns = self.spec.hidden_size;
        // the kernel that looks words up does the same with the rows of any matrix
        let rows = head.decoder.weight.chunks.iter().map(|chunk| Embed {
            weight: chunk.weight_type,
            words: chunk.slot,
            first_row: chunk.first_row,
            rows: chunk.rows,
            columns,
            positions: None,
            types: None,
            scale: 1.0,
        });
        let recording = Recording {
            commands: rows.map(|rows| Command::Dispatch(rows.dispatch())).collect(),
            d_model: columns,
            scratch: Vec::new(),
            captures: Vec::new(),
            sites: Vec::new(),
            least: 0,
            held: false,
            resumed: 0,
            output: Some((Slot::Stream, Extent::new(columns as u64, Dim::Tokens))),
            tile: 1,
            bounds: Bounds { ids: self.spec.vocab_size as u32, positions: u32::MAX, types: 1 },
            pairs: [0, 0],
        };
        self.try_variants(&recording).await?;
        let program = Program::new(&self.gpu, recording, Arc::clone(&self.weights))?;
        let mut batch = Batch::of(program.recording());
        batch.push(tokens.iter().zip(0..).map(|(&id, position)| (id, position, 0)), 0);
        Ok(program.run(&batch).await?.output)
    }
}
