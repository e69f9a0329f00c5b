//! The memory that a decoder will take, computed before anything is allocated.

use std::fmt;
use std::path::Path;

use super::CHUNK;
use super::pool::row_bytes;
use crate::encode::BATCH_TOKENS;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::attention::{PAGE, SPLIT};
use crate::model::{Files, Layout, LoadOptions, Spec};
use crate::schedule::{Dims, Purpose, Watch, record};

/// What is made at load where nothing else is asked for: room for so many tokens.
const CONTEXT: usize = 2048;

/// Bytes on the GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights.
    pub weights: u64,
    /// Keys and values of one token in all blocks.
    pub cache_per_token: u64,
    /// Tokens that the cache has room for at load; it grows beyond when sessions need more.
    pub context: usize,
    /// Keys and values of so many tokens.
    pub cache: u64,
    /// Buffers between kernels: of a prefill's chunk, and of a decode step.
    pub scratch: u64,
    /// Most tokens of a session: the model's own limit, or what one binding of this device holds.
    pub max_tokens: usize,
    /// What may be used, where it is known.
    pub available: Option<u64>,
    /// Of the largest buffer that would have to be bound.
    largest: u64,
}

impl MemoryPlan {
    /// The plan of a model, of which nothing is loaded. Encoders have no cache.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Unsupported`] or [`Error::Io`] naming the file and tensor.
    pub fn read(gpu: &Gpu, model: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        let files = Files::open(model.as_ref())?;
        let layout = files.layout(gpu, options.dtype)?;
        Ok(Self::new(gpu, &files.spec, &layout, options))
    }

    pub(crate) fn new(gpu: &Gpu, spec: &Spec, layout: &Layout, options: &LoadOptions) -> Self {
        let limits = &gpu.capabilities().limits;
        let binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        // encoders keep no keys and values from one forward to the next
        let row = if spec.is_decoder() { row_bytes(spec) } else { 0 };
        let max_tokens = spec.max_tokens().min(binding.checked_div(row).map_or(usize::MAX, |rows| rows as usize));
        let context = options.context.unwrap_or(CONTEXT.min(max_tokens)).clamp(1, spec.max_tokens());
        let pages = context.div_ceil(PAGE as usize) as u32;
        let cache_per_token = row * spec.num_hidden_layers as u64;
        let splits = (context as u32).div_ceil(SPLIT);
        let base = Dims { pages, splits, ..Dims::default() };
        let chunk = CHUNK.min(spec.max_tokens()).next_power_of_two() as u32;
        let choices = options.choices(gpu);
        let batch = BATCH_TOKENS as u32;
        let forwards = if spec.is_decoder() {
            vec![
                (Purpose::Prefill, Dims { tokens: chunk, tiles: chunk / 32 + 8, ..base }),
                (Purpose::Decode, Dims { tokens: 8, sequences: 8, tiles: 8, seen: context as u32, ..base }),
            ]
        } else {
            vec![(Purpose::Trace, Dims { tokens: batch, sequences: batch, tiles: batch, ..Dims::default() })]
        };
        let scratch = forwards
            .into_iter()
            .map(|(purpose, dims)| {
                record(spec, &layout.tensors, &purpose, choices, &Watch::default()).workspace_bytes(&dims)
            })
            .sum();
        let rows = u64::from(pages) * u64::from(PAGE);
        MemoryPlan {
            weights: layout.bytes(),
            cache_per_token,
            context,
            cache: cache_per_token * rows,
            scratch,
            max_tokens,
            available: options.memory.or(gpu.capabilities().memory),
            largest: row * rows,
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.scratch
    }

    /// Whether it fits.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with the numbers, where it cannot.
    pub fn check(&self, gpu: &Gpu) -> Result<()> {
        let limits = &gpu.capabilities().limits;
        let binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        if self.largest > binding {
            return Err(Error::OutOfMemory(format!(
                "a cache of {} tokens needs {} in one binding, and this device allows {}; ask for at most {} tokens",
                self.context,
                mib(self.largest),
                mib(binding),
                self.max_tokens
            )));
        }
        match self.available {
            Some(available) if self.total() > available => Err(Error::OutOfMemory(format!(
                "the model needs {self}, and {} can be used; a smaller context or --dtype f16 takes less",
                mib(available)
            ))),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: weights {}, cache of {} tokens {}, scratch {}",
            mib(self.total()),
            mib(self.weights),
            self.context,
            mib(self.cache),
            mib(self.scratch)
        )
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
