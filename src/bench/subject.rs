//! A model to be measured: of random weights, or from its files.

use std::path::Path;
use std::sync::Arc;

use super::rotation::read;
use crate::check::forward::Model as Host;
use crate::check::{Random, pieces};
use crate::error::{Error, Result};
use crate::gpu::{AdapterClass, Gpu};
use crate::kernels::WeightType;
use crate::model::{LoadOptions, Model, Spec};
use crate::schedule::{Choices, Program, Purpose, Slot};

/// A model to be measured: on the GPU, and on the host for the reference.
pub(super) struct Subject {
    pub name: String,
    pub dtype: &'static str,
    pub host: Host,
    weights: Arc<[wgpu::Buffer]>,
    pub choices: Choices,
}

impl Subject {
    /// Of that shape, with random weights.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] before anything is made, where the GPU or the host has too little.
    pub fn random(gpu: &Gpu, name: &str, spec: Spec, weight_type: WeightType, seed: u64) -> Result<Self> {
        fits(gpu, &spec, weight_type)?;
        let limits = &gpu.capabilities().limits;
        let most = limits.max_storage_buffer_binding_size.min(1 << 30) as usize;
        let mut random = Random::of(seed, name);
        let mut host = Host::within(spec, weight_type, &mut random, Some(most));
        // the pieces' own, which none of these models has
        host.tensors.dense.clear();
        let weights = pieces::upload(gpu, &host)?;
        let choices = Choices::of(gpu.capabilities());
        Ok(Subject { name: name.into(), dtype: weight_type.name(), host, weights, choices })
    }

    /// From its files. Texts are pooled by their mean, whatever the folder says, and dense layers are left out.
    pub async fn load(gpu: &Gpu, path: &Path, options: LoadOptions) -> Result<Self> {
        let model = Model::load(gpu, path, options).await?;
        if model.spec.relative_bias.is_some() {
            let what = "benchmarks of models with relative position biases: the reference has none";
            return Err(Error::unsupported(path, what));
        }
        let mut weights = Vec::new();
        for buffer in model.weights.iter() {
            weights.push(bytemuck::cast_slice(&read(gpu, buffer, buffer.size() as usize).await?).to_vec());
        }
        let mut tensors = model.tensors.clone();
        tensors.dense.clear();
        let dtype = tensors.blocks.first().map_or("f32", |block| block.qkv.weight.chunks[0].weight_type.name());
        let name = super::model_name(path);
        let host = Host { spec: model.spec.clone(), tensors, weights };
        Ok(Subject { name, dtype, host, weights: Arc::clone(&model.weights), choices: model.choices })
    }

    /// What it is.
    pub fn spec(&self) -> &Spec {
        &self.host.spec
    }

    /// Its program for a purpose.
    pub fn program(&self, gpu: &Gpu, purpose: &Purpose, choices: Choices) -> Result<Program> {
        pieces::program(gpu, &self.host, &self.weights, purpose, choices, &[])
    }

    /// Random ids of its vocabulary.
    pub fn ids(&self, random: &mut Random, count: usize) -> Vec<u32> {
        (0..count).map(|_| random.below(self.spec().vocab_size) as u32).collect()
    }

    /// Bytes of the weights that a forward reads, but for the word table's rows.
    pub fn read_by(&self, program: &Program) -> f64 {
        let mut seen = std::collections::HashSet::new();
        let dispatches = program.recording().dispatches().filter(|dispatch| dispatch.variant.kernel != "embed");
        let slots = dispatches.flat_map(|dispatch| &dispatch.bindings);
        let size = |slot: &Slot| match slot {
            Slot::Weight(i) if seen.insert(*i) => self.weights[*i].size(),
            _ => 0,
        };
        slots.map(size).sum::<u64>() as f64
    }
}

/// Whether there is memory for a model on both sides.
fn fits(gpu: &Gpu, spec: &Spec, weight_type: WeightType) -> Result<()> {
    let d = spec.hidden_size;
    let up = if spec.gated { 2 } else { 1 } * spec.intermediate_size;
    let z = spec.num_attention_heads * spec.head_size;
    let block = (spec.qkv_width() + z + up + spec.intermediate_size) * d;
    let words = spec.vocab_size * d;
    let stored = weight_type.row_bytes(words + spec.num_hidden_layers * block) as u64;
    // the reference widens a matrix at a time: the words to f64, by way of f32
    let host = stored + 12 * words as u64;
    enough(gpu, host, stored + stored / 8)
}

/// Whether there are so many bytes on the host and on the GPU.
///
/// # Errors
/// [`Error::OutOfMemory`] with the numbers.
pub(super) fn enough(gpu: &Gpu, host: u64, device: u64) -> Result<()> {
    let enough = |has: Option<u64>, needs: u64, whose: &str| match has {
        Some(has) if has < needs => {
            let [needs, has] = [needs, has].map(|bytes| bytes >> 20);
            Err(Error::OutOfMemory(format!("it takes {needs} MiB {whose}, and {has} MiB are there")))
        }
        _ => Ok(()),
    };
    let shared = gpu.capabilities().class != AdapterClass::Discrete;
    enough(crate::gpu::host_memory(), host + if shared { device } else { 0 }, "of the host's memory")?;
    enough(gpu.capabilities().memory, device, "on the GPU")
}
