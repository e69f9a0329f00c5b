//! A language model with one session's cache, run by its programs alone: what is timed is the forward, and no pool of pages.

use super::models::{Verdict, same};
use super::subject::Subject;
use crate::check::forward::Model as Host;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::attention::PAGE;
use crate::schedule::{Batch, CacheView, Choices, Draw, Program, Purpose};

/// The programs, and the cache.
pub(super) struct Session<'a> {
    host: &'a Host,
    prefill: Program,
    /// With the products' other form.
    naive: Program,
    decode: Program,
    logits: Program,
    cache: Vec<wgpu::Buffer>,
    pages: Vec<u32>,
}

/// Tokens of a prompt's part.
const CHUNK: usize = 512;

impl<'a> Session<'a> {
    /// With room for so many tokens.
    pub fn new(gpu: &Gpu, subject: &'a Subject, tokens: usize) -> Result<Self> {
        let spec = subject.spec();
        let pages = tokens.div_ceil(PAGE as usize) as u32;
        let width = 8 * (spec.num_key_value_heads * spec.head_size) as u64;
        let bytes = u64::from(pages * PAGE) * width;
        let cache = |_| gpu.buffer("cache", bytes, wgpu::BufferUsages::STORAGE);
        let other = subject.choices.matmul.other(gpu.capabilities());
        let naive = Choices { matmul: other, ..subject.choices };
        Ok(Session {
            host: &subject.host,
            prefill: subject.program(gpu, &Purpose::Prefill, subject.choices)?,
            naive: subject.program(gpu, &Purpose::Prefill, naive)?,
            decode: subject.program(gpu, &Purpose::Decode, subject.choices)?,
            logits: subject.program(gpu, &Purpose::Logits, subject.choices)?,
            cache: (0..spec.num_hidden_layers).map(cache).collect::<Result<_>>()?,
            pages: (0..pages).collect(),
        })
    }

    fn view(&self) -> CacheView<'_> {
        CacheView { buffers: &self.cache, rows: self.pages.len() as u32 * PAGE, version: 1 }
    }

    fn batch(&self, ids: &[u32], range: std::ops::Range<usize>, chooses: bool) -> Batch {
        let mut batch = Batch::of(self.prefill.recording());
        let draw = chooses.then_some(Draw {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            penalty: 1.0,
            seed_low: 0,
            seed_high: 0,
            position: range.end as u32,
            first_seen: 0,
            seen: 0,
            unused: [0; 2],
        });
        let pages = &self.pages[..range.end.div_ceil(PAGE as usize)];
        batch.push_cached(&ids[range.clone()], range.start as u32, pages, draw, &[]);
        for rope in 0..self.host.spec.ropes.len() {
            batch.push_angles(rope, &self.host.angles(rope, range.end, range.clone()));
        }
        batch
    }

    /// Reads tokens into the cache.
    pub async fn read(&self, ids: &[u32], range: std::ops::Range<usize>) -> Result<()> {
        self.read_by(&self.prefill, ids, range).await
    }

    async fn read_by(&self, program: &Program, ids: &[u32], range: std::ops::Range<usize>) -> Result<()> {
        for first in range.clone().step_by(CHUNK) {
            let batch = self.batch(ids, first..range.end.min(first + CHUNK), false);
            program.start(&batch, Some(self.view()))?.finish().await?;
        }
        Ok(())
    }

    /// The token that follows a text of which all but the last are in the cache.
    pub async fn step(&self, ids: &[u32]) -> Result<u32> {
        let batch = self.batch(ids, ids.len() - 1..ids.len(), true);
        let output = self.decode.start(&batch, Some(self.view()))?.finish().await?.output;
        Ok(output.first().map_or(0, |id| id.to_bits()))
    }

    /// The logits of the same.
    pub async fn logits(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let batch = self.batch(ids, ids.len() - 1..ids.len(), true);
        Ok(self.logits.start(&batch, Some(self.view()))?.finish().await?.output)
    }

    /// A prompt read with the products' other form leads to the same bits.
    pub async fn agrees(&self, ids: &[u32]) -> Verdict<()> {
        let ours = self.logits(ids).await?;
        self.read_by(&self.naive, ids, 0..ids.len() - 1).await?;
        same("a prompt read with the other tiling", &self.logits(ids).await?, &ours)
    }

    /// FLOP and bytes of reading a prompt and choosing what follows.
    pub fn prompt_work(&self, subject: &Subject, ids: &[u32], range: std::ops::Range<usize>) -> (f64, f64) {
        let last = range.end - 1;
        let (flops, bytes) = self.step_work(subject, ids, last);
        let batch = self.batch(ids, range.start..last, false);
        (flops + self.prefill.recording().flops(&batch.dims()), bytes + subject.read_by(&self.prefill))
    }

    /// FLOP and bytes of one step behind so many tokens.
    pub fn step_work(&self, subject: &Subject, ids: &[u32], past: usize) -> (f64, f64) {
        let past = past.min(ids.len() - 1);
        let batch = self.batch(ids, past..past + 1, true);
        let row: u64 =
            self.cache.iter().map(|buffer| buffer.size()).sum::<u64>() / (self.pages.len() as u64 * u64::from(PAGE));
        let cache = row as f64 * past as f64;
        (self.decode.recording().flops(&batch.dims()), subject.read_by(&self.decode) + cache)
    }
}
