//! The pool of pages in which a decoder's sessions keep keys and values: one buffer for each block, grown in steps.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::attention::PAGE;
use crate::model::Spec;
use crate::schedule::CacheView;

/// Pages of all sessions. A page is the same rows of every block's buffer; forks share pages until one of them writes.
pub(super) struct Pool {
    gpu: Gpu,
    /// Bytes of a page in one buffer.
    page_bytes: u64,
    buffers: Vec<wgpu::Buffer>,
    /// One page: a buffer cannot be copied into itself.
    spare: Option<wgpu::Buffer>,
    blocks: usize,
    /// How many sessions hold each page.
    holders: Vec<u32>,
    free: Vec<u32>,
    version: u64,
}

/// The least that the pool grows by.
const STEP: u32 = 1024 / PAGE;

/// Bytes of one token's keys and values in one block.
pub(super) fn row_bytes(spec: &Spec) -> u64 {
    4 * 2 * (spec.num_key_value_heads * spec.head_size) as u64
}

impl Pool {
    pub fn new(gpu: &Gpu, spec: &Spec) -> Self {
        Pool {
            gpu: gpu.clone(),
            page_bytes: row_bytes(spec) * u64::from(PAGE),
            buffers: Vec::new(),
            spare: None,
            blocks: spec.num_hidden_layers,
            holders: Vec::new(),
            free: Vec::new(),
            version: 0,
        }
    }

    /// Pages that the buffers hold.
    pub fn pages(&self) -> u32 {
        self.holders.len() as u32
    }

    /// What a forward binds.
    pub fn view(&self) -> CacheView<'_> {
        CacheView { buffers: &self.buffers, rows: self.pages() * PAGE, version: self.version }
    }

    /// The most pages that the device can bind in one buffer.
    fn most(&self) -> u32 {
        let limits = &self.gpu.capabilities().limits;
        let bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        (bytes / self.page_bytes) as u32
    }

    /// Makes sure that so many pages are free. The one place where the cache allocates.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with the numbers; the pool is as before.
    pub fn reserve(&mut self, pages: usize) -> Result<()> {
        if self.free.len() >= pages {
            return Ok(());
        }
        let (has, most) = (self.pages(), self.most());
        let needed = u64::from(has) + (pages - self.free.len()) as u64;
        if needed > u64::from(most) {
            let (tokens, limit) = (needed * u64::from(PAGE), u64::from(most) * u64::from(PAGE));
            return Err(Error::OutOfMemory(format!(
                "the key and value cache would need {tokens} tokens, and this device binds {limit} of this model"
            )));
        }
        let needed = needed as u32;
        // at first what the memory plan says, then in steps, so that growing stays rare
        let step = if has == 0 { 0 } else { STEP };
        let wanted = needed.max(has + step).max(has.saturating_mul(2)).min(most);
        // where doubling is too much, what is needed may still fit
        self.grow(wanted).or_else(|error| match error {
            Error::OutOfMemory(_) if wanted > needed => self.grow(needed),
            other => Err(other),
        })
    }

    fn grow(&mut self, pages: u32) -> Result<()> {
        use wgpu::BufferUsages as U;
        let bytes = self.page_bytes * u64::from(pages);
        let usage = U::STORAGE | U::COPY_SRC | U::COPY_DST;
        let larger: Vec<_> =
            (0..self.blocks).map(|_| self.gpu.buffer("key and value cache", bytes, usage)).collect::<Result<_>>()?;
        if self.spare.is_none() {
            self.spare = Some(self.gpu.buffer("spare page", self.page_bytes, U::COPY_SRC | U::COPY_DST)?);
        }
        let old = self.page_bytes * u64::from(self.pages());
        if old > 0 {
            self.gpu.scoped("growth of the cache", || {
                let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
                for (from, to) in self.buffers.iter().zip(&larger) {
                    encoder.copy_buffer_to_buffer(from, 0, to, 0, old);
                }
                self.gpu.queue().submit([encoder.finish()]);
            })?;
        }
        self.buffers = larger;
        // the lowest pages are handed out first
        self.free.splice(0..0, (self.pages()..pages).rev());
        self.holders.resize(pages as usize, 0);
        self.version += 1;
        Ok(())
    }

    /// A page for one session; [`Pool::reserve`] has made sure that there is one.
    pub fn take(&mut self) -> Result<u32> {
        if self.free.is_empty() {
            self.reserve(1)?;
        }
        let page = self.free.pop().ok_or_else(|| Error::OutOfMemory("no page of the cache is free".into()))?;
        self.holders[page as usize] = 1;
        Ok(page)
    }

    /// One more session holds the pages.
    pub fn share(&mut self, pages: &[u32]) {
        pages.iter().for_each(|&page| self.holders[page as usize] += 1);
    }

    /// One session less holds the pages.
    pub fn release(&mut self, pages: &[u32]) {
        for &page in pages {
            let holders = &mut self.holders[page as usize];
            *holders -= 1;
            if *holders == 0 {
                self.free.push(page);
            }
        }
    }

    /// Whether another session holds the page as well.
    pub fn is_shared(&self, page: u32) -> bool {
        self.holders[page as usize] > 1
    }

    /// Copies a page of every block.
    pub fn copy(&self, from: u32, to: u32) -> Result<()> {
        let at = |page: u32| self.page_bytes * u64::from(page);
        let Some(spare) = &self.spare else { return Ok(()) };
        self.gpu.scoped("copy of a page", || {
            let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
            for buffer in &self.buffers {
                encoder.copy_buffer_to_buffer(buffer, at(from), spare, 0, self.page_bytes);
                encoder.copy_buffer_to_buffer(spare, 0, buffer, at(to), self.page_bytes);
            }
            self.gpu.queue().submit([encoder.finish()]);
        })
    }

    /// Reads the first rows of the pages of one block, one page behind another.
    pub fn read(&self, block: usize, pages: &[u32]) -> Result<(wgpu::Buffer, wgpu::SubmissionIndex)> {
        use wgpu::BufferUsages as U;
        let bytes = self.page_bytes * pages.len() as u64;
        let readback = self.gpu.buffer("saved cache", bytes, U::MAP_READ | U::COPY_DST)?;
        let submission = self.gpu.scoped("saving the cache", || {
            let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
            for (i, &page) in pages.iter().enumerate() {
                let (from, to) = (self.page_bytes * u64::from(page), self.page_bytes * i as u64);
                encoder.copy_buffer_to_buffer(&self.buffers[block], from, &readback, to, self.page_bytes);
            }
            self.gpu.queue().submit([encoder.finish()])
        })?;
        Ok((readback, submission))
    }

    /// Writes the first rows of a page of one block.
    pub fn write(&self, block: usize, page: u32, rows: &[u8]) -> Result<()> {
        let at = self.page_bytes * u64::from(page);
        self.gpu.scoped("loading the cache", || self.gpu.queue().write_buffer(&self.buffers[block], at, rows))
    }
}
