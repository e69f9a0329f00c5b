//! The rig: runs a case's dispatches on buffers of its own, with guard words around each and poison in the outputs.

use std::collections::HashMap;

use super::Case;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::Access;
use crate::schedule::{Batch, Dims, Dispatch, Input, Slot, Word, fold};

/// Bytes in each buffer before a run. An output that the kernel must not read holds a NaN that shows.
pub type Contents = HashMap<Slot, Vec<u8>>;

/// What the written buffers hold after a run.
pub type Outputs = HashMap<Slot, Vec<f32>>;

/// A NaN with a payload: reading it, or not writing where an output belongs, shows.
pub const POISON: u32 = 0x7fc0_dead;

/// Before and after each buffer; also the offset alignment that every device accepts.
const GUARD: usize = 256;
const GUARD_WORD: u32 = 0xdead_beef;

struct Guarded {
    buffer: wgpu::Buffer,
    bytes: usize,
}

/// Runs the case's dispatches in order and reads back every buffer that they may write.
///
/// # Errors
/// [`Error::Internal`] where a guard word was overwritten; else what the device says.
pub fn run(gpu: &Gpu, case: &Case) -> Result<Outputs> {
    run_in_rows(gpu, case, 1)
}

/// The same with every grid dealt out over at least so many rows, as that of a large batch is.
pub(super) fn run_in_rows(gpu: &Gpu, case: &Case, rows: u32) -> Result<Outputs> {
    pollster::block_on(outputs(gpu, case, rows))
}

/// [`run_in_rows`] without blocking.
pub(crate) async fn outputs(gpu: &Gpu, case: &Case, rows: u32) -> Result<Outputs> {
    let during = || format!("{} {}", case.label(), case.shape);
    run_dispatches(gpu, &case.dispatches, &case.batch, &case.contents, rows, &during).await
}

/// Runs dispatches that need be no case; `during` says what they are for.
pub(super) async fn run_dispatches(
    gpu: &Gpu,
    dispatches: &[Dispatch],
    batch: &Batch,
    contents: &Contents,
    rows: u32,
    during: &(dyn Fn() -> String + Sync),
) -> Result<Outputs> {
    let mut buffers = HashMap::new();
    for (slot, bytes) in contents {
        buffers.insert(*slot, guarded(gpu, bytes)?);
    }
    for input in Input::ALL {
        buffers.insert(Slot::Input(input), guarded(gpu, batch.input(input))?);
    }
    let mut last = None;
    for dispatch in dispatches {
        last = Some(submit(gpu, batch, dispatch, rows, &buffers)?);
    }
    let Some(last) = last else { return Ok(Outputs::new()) };
    gpu.finished(last).await?;
    let mut outputs = Outputs::new();
    for slot in dispatches.iter().flat_map(written) {
        let after = read(gpu, &buffers[&slot]).await?;
        outputs.insert(
            slot,
            after.map_err(|place| Error::Internal {
                during: during(),
                message: format!("the kernel wrote outside of {slot:?}, at word {place}"),
            })?,
        );
    }
    Ok(outputs)
}

/// The slots that a dispatch may write.
pub(crate) fn written(dispatch: &Dispatch) -> impl Iterator<Item = Slot> + '_ {
    dispatch
        .bindings
        .iter()
        .zip(&dispatch.variant.bindings)
        .filter(|(_, bound)| bound.access == Access::ReadWrite)
        .map(|(slot, _)| *slot)
}

fn guarded(gpu: &Gpu, bytes: &[u8]) -> Result<Guarded> {
    use wgpu::BufferUsages as U;
    let guard = GUARD_WORD.to_le_bytes().repeat(GUARD / 4);
    let all = [&guard[..], bytes, &guard].concat();
    let buffer = gpu.buffer("case", all.len() as u64, U::STORAGE | U::COPY_DST | U::COPY_SRC)?;
    gpu.scoped("case", || gpu.queue().write_buffer(&buffer, 0, &all))?;
    Ok(Guarded { buffer, bytes: bytes.len() })
}

/// A dispatch's parameters for a batch of that size.
pub(crate) fn parameters(dispatch: &Dispatch, dims: &Dims) -> Vec<u32> {
    let value = |word: &Word| match word {
        Word::U32(value) => *value,
        Word::F32(value) => value.to_bits(),
        Word::Extent(extent) => extent.of(dims) as u32,
    };
    dispatch.params.iter().map(value).collect()
}

fn submit(
    gpu: &Gpu,
    batch: &Batch,
    dispatch: &Dispatch,
    rows: u32,
    buffers: &HashMap<Slot, Guarded>,
) -> Result<wgpu::SubmissionIndex> {
    let dims = batch.dims();
    let words = parameters(dispatch, &dims);
    let params = gpu.buffer("params", 256, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)?;
    let pipeline = gpu.pipeline(&dispatch.variant)?;
    let count = dispatch.grid.count(&dims);
    let (mut x, mut y) = fold(count, gpu, &dispatch.variant.label)?;
    if y < rows {
        (x, y) = (count.div_ceil(rows.into()) as u32, rows);
    }
    gpu.scoped(&dispatch.variant.label, || {
        gpu.queue().write_buffer(&params, 0, bytemuck::cast_slice(&words));
        let bindings = dispatch.bindings.iter().map(|slot| {
            let guarded = &buffers[slot];
            wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &guarded.buffer,
                offset: GUARD as u64,
                // with the guard behind it: drivers drop what is written past a binding, and nobody would notice
                size: std::num::NonZeroU64::new((guarded.bytes + GUARD) as u64),
            })
        });
        let entries: Vec<_> = std::iter::once(params.as_entire_binding())
            .chain(bindings)
            .enumerate()
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding: binding as u32, resource })
            .collect();
        let group = gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(x, y, 1);
        drop(pass);
        gpu.queue().submit([encoder.finish()])
    })
}

/// The content between the guards, or the place of a guard word that changed.
async fn read(gpu: &Gpu, guarded: &Guarded) -> Result<std::result::Result<Vec<f32>, usize>> {
    use wgpu::BufferUsages as U;
    let total = (guarded.bytes + 2 * GUARD) as u64;
    let readback = gpu.buffer("case readback", total, U::MAP_READ | U::COPY_DST)?;
    let submission = gpu.scoped("case", || {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&guarded.buffer, 0, &readback, 0, total);
        gpu.queue().submit([encoder.finish()])
    })?;
    let bytes = gpu.read(&readback, total, submission).await?;
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
    let inner = GUARD / 4..(GUARD + guarded.bytes) / 4;
    let broken = (0..words.len()).find(|i| !inner.contains(i) && words[*i] != GUARD_WORD);
    Ok(match broken {
        Some(place) => Err(place),
        None => Ok(words[inner].iter().map(|w| f32::from_bits(*w)).collect()),
    })
}
