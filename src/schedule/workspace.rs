//! A workspace: the buffers and bind groups of one forward at a time, made once for a capacity.

use super::batch::Batch;
use super::program::Program;
use super::recording::{Input, Recording, Slot, Word};
use super::sizes::Dims;
use crate::error::{Error, Result};
use crate::gpu::{Counters, Gpu};

/// Everything that a forward writes to.
pub(super) struct Workspace {
    pub capacity: Dims,
    /// Parameters of every dispatch, then the parts of the batch: one upload a forward.
    upload: wgpu::Buffer,
    staging: Vec<u8>,
    layout: UploadLayout,
    /// The residual stream.
    stream: wgpu::Buffer,
    scratch: Vec<wgpu::Buffer>,
    pub captures: Vec<wgpu::Buffer>,
    /// Mapped to read the output and the captures.
    pub readback: wgpu::Buffer,
    /// One for each dispatch, in order.
    pub bind_groups: Vec<wgpu::BindGroup>,
    /// The batch sizes that the parameters on the GPU are for.
    params_for: Option<Dims>,
    /// The version of the cache that is bound.
    cache_version: u64,
}

/// Keys and values of earlier tokens, on the GPU.
#[derive(Clone, Copy)]
pub(crate) struct CacheView<'a> {
    /// One for each block.
    pub buffers: &'a [wgpu::Buffer],
    /// Rows of each.
    pub rows: u32,
    /// Another number after the buffers have been replaced.
    pub version: u64,
}

/// Where things lie in the upload buffer, in bytes.
struct UploadLayout {
    /// Distance between the parameters of two dispatches.
    params_stride: u64,
    /// Where they end.
    params: u64,
    /// Offset and size of each [`Input`], in the order of [`Input::ALL`].
    inputs: [(u64, u64); Input::ALL.len()],
    total: u64,
}

/// Bytes of an input of which a batch has nothing: no less than one entry of any.
const LEAST: u64 = 48;

impl UploadLayout {
    fn new(recording: &Recording, capacity: &Dims, limits: &wgpu::Limits) -> Self {
        let uniform = u64::from(limits.min_uniform_buffer_offset_alignment);
        let storage = u64::from(limits.min_storage_buffer_offset_alignment);
        let params_stride = 64u64.next_multiple_of(uniform);
        let params = (params_stride * recording.dispatches().count() as u64).next_multiple_of(storage);
        let mut total = params;
        let inputs = Input::ALL.map(|input| {
            let offset = total.next_multiple_of(storage);
            let size = recording.bytes(Slot::Input(input), capacity).max(LEAST);
            total = offset + size;
            (offset, size)
        });
        UploadLayout { params_stride, params, inputs, total: total.next_multiple_of(16) }
    }
}

impl Workspace {
    /// Allocates everything for batches up to `capacity`.
    pub fn new(program: &Program, capacity: Dims, cache: Option<CacheView<'_>>) -> Result<Self> {
        use wgpu::BufferUsages as U;
        let Program { gpu, recording, .. } = program;
        let layout = UploadLayout::new(recording, &capacity, &gpu.capabilities().limits);
        let upload = gpu.buffer("upload", layout.total, U::UNIFORM | U::STORAGE | U::COPY_DST)?;
        let storage = U::STORAGE | U::COPY_SRC;
        let stream = gpu.buffer("residual stream", recording.bytes(Slot::Stream, &capacity), storage)?;
        let scratch = (0..recording.scratch.len())
            .map(|i| gpu.buffer(recording.scratch[i].name, recording.bytes(Slot::Scratch(i), &capacity), storage))
            .collect::<Result<Vec<_>>>()?;
        let captures = recording
            .captures
            .iter()
            .map(|c| gpu.buffer("capture", 4 * c.size.of(&capacity), storage | U::COPY_DST))
            .collect::<Result<Vec<_>>>()?;
        let read_bytes = read_sizes(recording, &capacity).iter().sum();
        let readback = gpu.buffer("readback", read_bytes, U::MAP_READ | U::COPY_DST)?;
        let mut workspace = Workspace {
            capacity,
            upload,
            staging: vec![0; layout.total as usize],
            layout,
            stream,
            scratch,
            captures,
            readback,
            bind_groups: Vec::new(),
            params_for: None,
            cache_version: 0,
        };
        workspace.rebind(program, cache)?;
        Ok(workspace)
    }

    /// Makes the bind groups, again where the cache's buffers are others than before.
    pub fn rebind(&mut self, program: &Program, cache: Option<CacheView<'_>>) -> Result<()> {
        let version = cache.map_or(0, |c| c.version);
        if self.bind_groups.is_empty() || version != self.cache_version {
            let buffers = cache.map_or(&[][..], |c| c.buffers);
            self.bind_groups = program.gpu.scoped("bind groups", || self.bind(&program.gpu, program, buffers))?;
            self.cache_version = version;
        }
        Ok(())
    }

    fn bind(&self, gpu: &Gpu, program: &Program, cache: &[wgpu::Buffer]) -> Vec<wgpu::BindGroup> {
        let mut groups = Vec::new();
        for (i, (dispatch, pipeline)) in program.recording.dispatches().zip(&program.pipelines).enumerate() {
            let params = self.region(&self.upload, self.layout.params_stride * i as u64, params_size(&dispatch.params));
            let entries: Vec<_> = std::iter::once(params)
                .chain(dispatch.bindings.iter().map(|slot| self.resource(*slot, program, cache)))
                .enumerate()
                .map(|(binding, resource)| wgpu::BindGroupEntry { binding: binding as u32, resource })
                .collect();
            groups.push(gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&dispatch.variant.label),
                layout: &pipeline.layout,
                entries: &entries,
            }));
        }
        Counters::add(&gpu.counters().bind_groups, groups.len() as u64);
        groups
    }

    fn region<'a>(&self, buffer: &'a wgpu::Buffer, offset: u64, size: u64) -> wgpu::BindingResource<'a> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size: std::num::NonZeroU64::new(size) })
    }

    fn resource<'a>(
        &'a self,
        slot: Slot,
        program: &'a Program,
        cache: &'a [wgpu::Buffer],
    ) -> wgpu::BindingResource<'a> {
        match slot {
            Slot::Stream => self.stream.as_entire_binding(),
            Slot::Scratch(i) => self.scratch[i].as_entire_binding(),
            Slot::Capture(i) => self.captures[i].as_entire_binding(),
            Slot::Weight(i) => program.weights[i].as_entire_binding(),
            Slot::Cache(i) => cache[i].as_entire_binding(),
            Slot::Input(input) => {
                let (offset, size) = self.layout.inputs[input as usize];
                self.region(&self.upload, offset, size)
            }
        }
    }

    /// The buffer of a slot that can be copied from.
    pub fn buffer(&self, slot: Slot) -> Result<&wgpu::Buffer> {
        match slot {
            Slot::Stream => Ok(&self.stream),
            Slot::Scratch(i) => Ok(&self.scratch[i]),
            Slot::Capture(i) => Ok(&self.captures[i]),
            Slot::Weight(_) | Slot::Input(_) | Slot::Cache(_) => Err(Error::Internal {
                during: "copy of a slot".into(),
                message: format!("{slot:?} does not belong to the workspace"),
            }),
        }
    }

    /// The upload of a forward: the batch, and the parameters where its sizes are others than the last one's.
    pub fn upload(&mut self, queue: &wgpu::Queue, recording: &Recording, batch: &Batch) {
        let dims = batch.dims();
        let told = recording.told_by_parameters(dims);
        let mut start = self.layout.params as usize;
        if self.params_for != Some(told) {
            start = 0;
            self.params_for = Some(told);
            for (i, dispatch) in recording.dispatches().enumerate() {
                let at = self.layout.params_stride as usize * i;
                for (word, bytes) in dispatch.params.iter().zip(self.staging[at..].chunks_exact_mut(4)) {
                    bytes.copy_from_slice(&match word {
                        Word::U32(value) => value.to_le_bytes(),
                        Word::F32(value) => value.to_le_bytes(),
                        Word::Extent(extent) => (extent.of(&dims) as u32).to_le_bytes(),
                    });
                }
            }
        }
        let mut end = start;
        for (input, (offset, _)) in Input::ALL.into_iter().zip(self.layout.inputs) {
            let bytes = batch.input(input);
            if !bytes.is_empty() {
                self.staging[offset as usize..][..bytes.len()].copy_from_slice(bytes);
                end = offset as usize + bytes.len();
            }
        }
        queue.write_buffer(&self.upload, start as u64, &self.staging[start..end]);
    }
}

/// Bytes of a parameter struct: whole groups of 16, as a uniform buffer wants.
fn params_size(params: &[Word]) -> u64 {
    (4 * params.len() as u64).next_multiple_of(16)
}

/// Bytes that come back for a batch: the output, then each capture.
pub(super) fn read_sizes(recording: &Recording, dims: &Dims) -> Vec<u64> {
    let output = recording.output.map_or(0, |(_, extent)| 4 * extent.of(dims));
    let captures = recording.captures.iter().filter(|_| !recording.held);
    std::iter::once(output).chain(captures.map(|c| 4 * c.size.of(dims))).collect()
}
