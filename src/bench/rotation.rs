//! A case in several copies of its buffers, larger together than the caches, so that no execution finds its inputs there
//! because the one before it has just read them.

use std::collections::HashMap;
use std::sync::Arc;

use super::timing::Encode;
use crate::check::{Case, Outputs, POISON, parameters, written};
use crate::error::{Error, Result};
use crate::gpu::{AdapterClass, Gpu, Pipeline};
use crate::schedule::{Dispatch, Input, Slot, fold};

/// Copies of a case's buffers, and what is run on each.
pub(super) struct Rotation {
    /// One for each copy: what is run, in order.
    copies: Vec<Vec<Step>>,
    /// What is written, by copy.
    outputs: Vec<HashMap<Slot, wgpu::Buffer>>,
}

struct Step {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
    grid: (u32, u32),
}

/// Copies at most.
const MOST: usize = 32;

/// More than the largest cache of the class, in bytes.
fn past_caches(class: AdapterClass) -> usize {
    match class {
        AdapterClass::Cpu | AdapterClass::Integrated => 64 << 20,
        AdapterClass::Discrete => 256 << 20,
    }
}

impl Rotation {
    /// Allocates and fills the copies; `dispatches` of the case are run in each execution.
    pub async fn new(gpu: &Gpu, case: &Case, dispatches: &[Dispatch]) -> Result<Self> {
        let slots = bound(dispatches);
        let shared = |slot: &Slot| is_output(case, dispatches, *slot);
        let rotating: usize = slots.iter().filter(|slot| !shared(slot)).map(|slot| case.contents_of(*slot).len()).sum();
        let class = gpu.capabilities().class;
        let dims = case.batch.dims();
        let flops: f64 = dispatches.iter().map(|d| d.work.flops * f64::from(dims.get(d.work.dim))).sum();
        // each copy is run once before anything is timed: what takes long by estimate has few, which arithmetic bounds
        let most = ((class.flops() / flops.max(1.0)) as usize).clamp(2, MOST);
        let copies = past_caches(class).div_ceil(rotating.max(1)).clamp(2, most);
        let mut all = Rotation { copies: Vec::new(), outputs: Vec::new() };
        let mut kept: HashMap<Slot, wgpu::Buffer> = HashMap::new();
        for _ in 0..copies {
            let mut buffers = HashMap::new();
            for &slot in &slots {
                let known = kept.get(&slot).filter(|_| shared(&slot)).cloned();
                let buffer = match known {
                    Some(buffer) => buffer,
                    None => filled(gpu, case.contents_of(slot)).await?,
                };
                kept.insert(slot, buffer.clone());
                buffers.insert(slot, buffer);
            }
            let steps = dispatches.iter().map(|dispatch| step(gpu, case, dispatch, &buffers));
            all.copies.push(steps.collect::<Result<_>>()?);
            buffers.retain(|slot, _| dispatches.iter().any(|d| written(d).any(|w| w == *slot)));
            all.outputs.push(buffers);
        }
        Ok(all)
    }

    /// Runs each copy once and compares what it writes with what was verified, all of it and to the bit; says what differs.
    pub async fn differs(&self, gpu: &Gpu, verified: &Outputs) -> Result<Option<String>> {
        for (number, outputs) in self.outputs.iter().enumerate() {
            let submission = gpu.scoped("a benchmark", || {
                let mut encoder = gpu.device().create_command_encoder(&Default::default());
                let mut pass = encoder.begin_compute_pass(&Default::default());
                self.encode(&mut pass, number);
                drop(pass);
                gpu.queue().submit([encoder.finish()])
            })?;
            gpu.finished(submission).await?;
            for (slot, buffer) in outputs {
                let Some(wanted) = verified.get(slot) else { continue };
                let found = read(gpu, buffer, 4 * wanted.len()).await?;
                let wrong = found.iter().zip(wanted).position(|(found, wanted)| *found != wanted.to_bits());
                if let Some(place) = wrong {
                    let found = f32::from_bits(found[place]);
                    return Ok(Some(format!("{slot:?} is {found:?} at {place}, and was {:?} before", wanted[place])));
                }
            }
        }
        Ok(None)
    }

    /// The execution with that number.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, number: usize) {
        for step in &self.copies[number % self.copies.len()] {
            pass.set_pipeline(&step.pipeline.pipeline);
            pass.set_bind_group(0, &step.group, &[]);
            pass.dispatch_workgroups(step.grid.0, step.grid.1, 1);
        }
    }

    /// The same as [`Timer`](super::timing::Timer) takes it.
    pub fn encoder(&self) -> Box<Encode<'_>> {
        Box::new(|pass, number| self.encode(pass, number))
    }
}

/// The slots that are bound, each once.
pub(super) fn bound(dispatches: &[Dispatch]) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    for slot in dispatches.iter().flat_map(|dispatch| &dispatch.bindings) {
        if !slots.contains(slot) {
            slots.push(*slot);
        }
    }
    slots
}

/// Whether it is written and not read: one buffer for all copies, as a model has it, so that each execution waits for the
/// one before.
pub(super) fn is_output(case: &Case, dispatches: &[Dispatch], slot: Slot) -> bool {
    let poisoned = || case.contents_of(slot).chunks_exact(4).all(|word| word == POISON.to_le_bytes());
    !matches!(slot, Slot::Input(Input::Tokens))
        && dispatches.iter().any(|d| written(d).any(|w| w == slot))
        && poisoned()
}

fn step(gpu: &Gpu, case: &Case, dispatch: &Dispatch, buffers: &HashMap<Slot, wgpu::Buffer>) -> Result<Step> {
    let dims = case.batch.dims();
    let words = parameters(dispatch, &dims);
    let params = gpu.buffer("params", 256, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)?;
    let pipeline = gpu.pipeline(&dispatch.variant)?;
    let grid = fold(dispatch.grid.count(&dims), gpu, &dispatch.variant.label)?;
    let group = gpu.scoped(&dispatch.variant.label, || {
        gpu.queue().write_buffer(&params, 0, bytemuck::cast_slice(&words));
        bind(gpu, &pipeline, &params, dispatch.bindings.iter().map(|slot| &buffers[slot]))
    })?;
    Ok(Step { pipeline, group, grid })
}

/// The bind group of parameters and whole buffers.
pub(super) fn bind<'a>(
    gpu: &Gpu,
    pipeline: &Pipeline,
    params: &'a wgpu::Buffer,
    buffers: impl Iterator<Item = &'a wgpu::Buffer>,
) -> wgpu::BindGroup {
    let entries: Vec<_> = std::iter::once(params)
        .chain(buffers)
        .zip(0..)
        .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
        .collect();
    gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.layout,
        entries: &entries,
    })
}

/// A buffer with that content.
pub(super) async fn filled(gpu: &Gpu, bytes: &[u8]) -> Result<wgpu::Buffer> {
    use wgpu::BufferUsages as U;
    let buffer = gpu.buffer("benchmark", bytes.len() as u64, U::STORAGE | U::COPY_DST | U::COPY_SRC)?;
    let whole = bytes.len() / 4 * 4;
    if whole > 0 {
        gpu.upload(&buffer, 0, &bytes[..whole]).await?;
    }
    if whole < bytes.len() {
        let mut rest = [0; 4];
        rest[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
        gpu.upload(&buffer, whole as u64, &rest).await?;
    }
    Ok(buffer)
}

/// The first bytes of a buffer, as words.
pub(super) async fn read(gpu: &Gpu, buffer: &wgpu::Buffer, bytes: usize) -> Result<Vec<u32>> {
    use wgpu::BufferUsages as U;
    if bytes as u64 > buffer.size() {
        return Err(Error::Internal { during: "readback".into(), message: format!("{bytes} bytes of fewer") });
    }
    let readback = gpu.buffer("benchmark readback", bytes as u64, U::MAP_READ | U::COPY_DST)?;
    let submission = gpu.scoped("readback", || {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &readback, 0, bytes as u64);
        gpu.queue().submit([encoder.finish()])
    })?;
    Ok(bytemuck::pod_collect_to_vec(&gpu.read(&readback, bytes as u64, submission).await?))
}
