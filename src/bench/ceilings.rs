//! A device's own ceilings, measured through WGSL and wgpu as the engine is: nothing that the engine does can be faster.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::probes;
use super::rotation::{bind, filled, read};
use super::statistics::Statistics;
use super::timing::{Timer, Times};
use crate::check::Random;
use crate::error::Result;
use crate::gpu::{AdapterClass, Gpu};
use crate::kernels::Variant;
use crate::schedule::fold;

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Of all values.
    pub unit: String,
    /// The median; none where there is nothing to measure, or where the probe's own output was wrong.
    pub value: Option<f64>,
    /// Each repetition.
    pub samples: Vec<f64>,
    /// Of the samples.
    pub median: Option<f64>,
    /// Largest less smallest, as a share of the median.
    pub spread: Option<f64>,
    /// By the wall clock.
    pub wall: Option<f64>,
    /// By the GPU's own clock.
    pub gpu: Option<f64>,
    /// What else is to be known; why there is no value.
    pub note: Option<String>,
}

/// What bounds everything on a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Memory: bytes read and bytes written of a copy past the caches.
    pub copy: Ceiling,
    /// f32 arithmetic, two operations an fma.
    pub fma_f32: Ceiling,
    /// The same in f16.
    pub fma_f16: Ceiling,
    /// Cooperative matrices.
    pub cooperative_matrix: Ceiling,
    /// One more dispatch in a submission.
    pub dispatch: Ceiling,
    /// A submission of nothing, until it is known to be done.
    pub submission: Ceiling,
    /// From the host's memory into a buffer.
    pub upload: Ceiling,
    /// From a buffer into the host's memory.
    pub readback: Ceiling,
}

impl Ceilings {
    /// Each with what it is, in the order in which they are printed.
    pub fn rows(&self) -> [(&'static str, &Ceiling); 8] {
        [
            ("copy, vec4", &self.copy),
            ("f32 fma", &self.fma_f32),
            ("f16 fma", &self.fma_f16),
            ("cooperative matrices", &self.cooperative_matrix),
            ("a dispatch", &self.dispatch),
            ("an empty submission", &self.submission),
            ("upload", &self.upload),
            ("readback", &self.readback),
        ]
    }

    /// Seconds that work of so much arithmetic and memory takes at least, and what bounds it; `matrices` says that the
    /// arithmetic is that of cooperative matrices.
    pub fn fastest(&self, flops: f64, bytes: f64, matrices: bool) -> Option<(f64, Bound)> {
        let rate = if matrices { &self.cooperative_matrix } else { &self.fma_f32 };
        let arithmetic = flops / (rate.value? * 1e9);
        let memory = bytes / (self.copy.value? * 1e9);
        let least = if arithmetic > memory { (arithmetic, Bound::Arithmetic) } else { (memory, Bound::Memory) };
        (least.0 > 0.0).then_some(least)
    }
}

/// Which ceiling is the nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// f32 fma, or cooperative matrices.
    Arithmetic,
    /// The copy.
    Memory,
}

impl Ceiling {
    fn none(unit: &str, why: impl Into<String>) -> Self {
        Ceiling { unit: unit.into(), note: Some(why.into()), ..Ceiling::default() }
    }

    /// From times of so much work; `of` turns seconds into the unit.
    fn of(unit: &str, times: &Times, of: impl Fn(f64) -> f64) -> Self {
        let rates = |seconds: &[f64]| -> Vec<f64> { seconds.iter().map(|&seconds| of(seconds)).collect() };
        let median = |samples: &[f64]| Statistics::of(samples).map(|s| s.median);
        let wall = rates(&times.wall);
        let gpu = times.gpu.as_deref().map(rates).filter(|rates| Statistics::of(rates).is_some());
        let (wall_median, gpu_median) = (median(&wall), gpu.as_deref().and_then(median));
        let samples = gpu.unwrap_or(wall);
        let statistics = Statistics::of(&samples);
        Ceiling {
            unit: unit.into(),
            value: statistics.map(|s| s.median),
            median: statistics.map(|s| s.median),
            spread: statistics.map(|s| s.spread),
            wall: wall_median,
            gpu: gpu_median,
            note: None,
            samples,
        }
    }
}

/// Measures them; `done` is told of each. The timer leaves the GPU's clock aside from then on where it is not to be believed.
pub(super) async fn measure(timer: &mut Timer<'_>, done: &dyn Fn(&str)) -> Result<Ceilings> {
    let gpu = timer.gpu;
    done("f32 fma");
    let fma_f32 = fma(timer, &probes::fma_f32()).await?;
    let doubt = disbelieved(&fma_f32);
    timer.clock &= doubt.is_none();
    let fma_f32 = match doubt {
        Some(why) => Ceiling { note: Some(why), ..fma(timer, &probes::fma_f32()).await? },
        None => fma_f32,
    };
    done("f16 fma");
    let fma_f16 = if gpu.capabilities().f16 {
        fma(timer, &probes::fma_f16()).await?
    } else {
        Ceiling::none("GFLOP/s", "the adapter has no f16 in shaders")
    };
    done("cooperative matrices");
    let cooperative_matrix = matrices(timer).await?;
    done("copy");
    let (copy, dispatch) = copies(timer).await?;
    done("upload and readback");
    let (upload, readback) = transfers(timer).await?;
    done("submission");
    let submission = submissions(timer).await?;
    Ok(Ceilings { copy, fma_f32, fma_f16, cooperative_matrix, dispatch, submission, upload, readback })
}

/// Why the GPU's clock is not believed: on a long submission it must agree with the wall clock.
fn disbelieved(long: &Ceiling) -> Option<String> {
    let (wall, gpu) = (long.wall?, long.gpu?);
    let ratio = gpu / wall;
    (!(0.8..2.0).contains(&ratio))
        .then(|| format!("timestamps say {ratio:.2} times what the wall clock says: not used"))
}

/// An odd number of loops of 5 fma each, on 32 values an invocation.
async fn fma(timer: &Timer<'_>, variant: &Variant) -> Result<Ceiling> {
    let gpu = timer.gpu;
    let (groups, loops) = match gpu.capabilities().class {
        AdapterClass::Cpu => (256, 41u32),
        AdapterClass::Integrated => (2048, 101),
        AdapterClass::Discrete => (8192, 401),
    };
    const SHIFT: f32 = 40.0;
    let starts: Vec<f32> = (0..64).map(|lane| (lane % 8) as f32).collect();
    let words = [loops, (-1f32).to_bits(), SHIFT.to_bits()];
    let probe = Probe::new(gpu, variant, &words, bytemuck::cast_slice(&starts), 4 * 64 * groups as usize).await?;
    let times = timer.time(&mut |pass, _| probe.encode(pass, groups)).await?;
    // 32 values, of which the first is the start and each other one more: every one of them is shift - x now
    let expected = |lane: usize| 32.0 * SHIFT - 32.0 * starts[lane] - (31 * 32 / 2) as f32;
    let found = read(gpu, &probe.output, 4 * 64 * groups as usize).await?;
    let wrong = found.iter().enumerate().position(|(i, word)| *word != expected(i % 64).to_bits());
    if let Some(place) = wrong {
        let what = format!("wrong: {} instead of {}", f32::from_bits(found[place]), expected(place % 64));
        return Ok(Ceiling::none("GFLOP/s", what));
    }
    let flops = 2.0 * 5.0 * 32.0 * f64::from(loops) * 64.0 * f64::from(groups);
    Ok(Ceiling::of("GFLOP/s", &times, |seconds| flops / seconds / 1e9))
}

/// Products of cooperative matrices, f16 with sums in f32, of the size that is faster.
async fn matrices(timer: &Timer<'_>) -> Result<Ceiling> {
    let gpu = timer.gpu;
    let mut best = Ceiling::none("GFLOP/s", "the device has no cooperative matrices of f16 with sums in f32");
    for side in probes::MATRICES.into_iter().filter(|side| gpu.capabilities().offers(probes::matrix(*side).needs)) {
        let found = matrix(timer, side).await?;
        if best.value.is_none() || found.value > best.value {
            best = found;
        }
    }
    Ok(best)
}

/// Loops of 16 products a subgroup, on 8 sums.
async fn matrix(timer: &Timer<'_>, side: u32) -> Result<Ceiling> {
    let (gpu, variant, elements) = (timer.gpu, probes::matrix(side), (side * side) as usize);
    let (groups, loops) = match gpu.capabilities().class {
        AdapterClass::Cpu => (16, 41u32),
        AdapterClass::Integrated => (2048, 201),
        AdapterClass::Discrete => (8192, 401),
    };
    let starts: Vec<f32> = (0..8 * elements).map(|i| (i / elements) as f32).collect();
    let output = 4 * 128 * groups as usize;
    let probe = Probe::new(gpu, &variant, &[loops], bytemuck::cast_slice(&starts), output).await?;
    let times = timer.time(&mut |pass, _| probe.encode(pass, groups)).await?;
    // each of the 8 sums grows by 2 times the side a loop, in each of its elements, from 0, 1 and so on to 7
    let of_elements = (28 + 8 * 2 * side * loops) as f32;
    let found: Vec<f32> = read(gpu, &probe.output, output).await?.into_iter().map(f32::from_bits).collect();
    // how many of them an invocation has says how many subgroups a workgroup has
    let subgroups = f64::from(found[0] / of_elements) * 128.0 / elements as f64;
    let whole = [2.0, 4.0, 8.0, 16.0].contains(&subgroups);
    let total: f64 = found.iter().copied().map(f64::from).sum();
    let wanted = f64::from(groups) * subgroups * elements as f64 * f64::from(of_elements);
    if !whole || total != wanted {
        return Ok(Ceiling::none("GFLOP/s", format!("wrong: {subgroups} subgroups, sums of {total}, not {wanted}")));
    }
    let flops = 2.0 * f64::from(side).powi(3) * 16.0 * f64::from(loops) * subgroups * f64::from(groups);
    let measured = Ceiling::of("GFLOP/s", &times, |seconds| flops / seconds / 1e9);
    Ok(Ceiling { note: Some(variant.label), ..measured })
}

/// The copy of a large buffer, and dispatches of nearly nothing.
async fn copies(timer: &Timer<'_>) -> Result<(Ceiling, Ceiling)> {
    let gpu = timer.gpu;
    let most = gpu.capabilities().limits.max_storage_buffer_binding_size as usize;
    let bytes = match gpu.capabilities().class {
        AdapterClass::Cpu | AdapterClass::Integrated => 64 << 20,
        AdapterClass::Discrete => 256 << 20,
    }
    .min(most / 4096 * 4096);
    let content = random_bytes(bytes);
    let wanted = bytemuck::pod_collect_to_vec::<u8, u32>(&content);
    let mut best = Ceiling::none("GB/s", "wrong: the copy is not what was copied");
    for steps in probes::COPIES {
        let variant = probes::copy(steps);
        let probe = Probe::new(gpu, &variant, &[(bytes / 16) as u32], &content, bytes).await?;
        let grid = fold((bytes / 1024 / steps as usize) as u64, gpu, &variant.label)?;
        let times = timer.time(&mut |pass, _| probe.encode_folded(pass, grid)).await?;
        if read(gpu, &probe.output, bytes).await? == wanted {
            let found = Ceiling::of("GB/s", &times, |seconds| 2.0 * bytes as f64 / seconds / 1e9);
            if found.value > best.value {
                best = Ceiling { note: Some(variant.label), ..found };
            }
        }
    }
    let probe = Probe::new(gpu, &probes::copy(1), &[64], &content[..1024], 1024).await?;
    // each writes what the one before it wrote, and so waits for it
    let times = timer.time(&mut |pass, _| probe.encode(pass, 1)).await?;
    Ok((best, Ceiling::of("µs", &times, |seconds| seconds * 1e6)))
}

/// Bytes of an upload or a readback.
const TRANSFER: usize = 32 << 20;

async fn transfers(timer: &Timer<'_>) -> Result<(Ceiling, Ceiling)> {
    let gpu = timer.gpu;
    let content = random_bytes(TRANSFER);
    let buffer = filled(gpu, &content).await?;
    use wgpu::BufferUsages as U;
    let back = gpu.buffer("benchmark readback", TRANSFER as u64, U::MAP_READ | U::COPY_DST)?;
    let (mut up, mut down, mut same) = (Vec::new(), Vec::new(), true);
    for _ in 0..=timer.samples {
        if timer.cancel.is_cancelled() {
            return Err(crate::Error::Cancelled);
        }
        let start = Instant::now();
        gpu.upload(&buffer, 0, &content).await?;
        up.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let submission = gpu.scoped("readback", || {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&buffer, 0, &back, 0, TRANSFER as u64);
            gpu.queue().submit([encoder.finish()])
        })?;
        let found = gpu.read(&back, TRANSFER as u64, submission).await?;
        down.push(start.elapsed().as_secs_f64());
        same &= found == content;
    }
    let ceiling = |times: &[f64]| {
        if !same {
            return Ceiling::none("GB/s", "wrong: what came back is not what went up");
        }
        // the first of them is the warm-up
        let times = Times { wall: times[1..].to_vec(), gpu: None };
        Ceiling::of("GB/s", &times, |seconds| TRANSFER as f64 / seconds / 1e9)
    };
    Ok((ceiling(&up), ceiling(&down)))
}

async fn submissions(timer: &Timer<'_>) -> Result<Ceiling> {
    let gpu = timer.gpu;
    let mut wall = Vec::new();
    for _ in 0..8 * timer.samples {
        let start = Instant::now();
        let submission = gpu.scoped("an empty submission", || {
            gpu.queue().submit([gpu.device().create_command_encoder(&Default::default()).finish()])
        })?;
        gpu.finished(submission).await?;
        wall.push(start.elapsed().as_secs_f64());
    }
    let warm = Times { wall: wall.split_off(timer.samples), gpu: None };
    Ok(Ceiling::of("µs", &warm, |seconds| seconds * 1e6))
}

fn random_bytes(bytes: usize) -> Vec<u8> {
    let mut random = Random::new(bytes as u64);
    (0..bytes / 8).flat_map(|_| random.bits().to_le_bytes()).collect()
}

/// A probe with its buffers.
struct Probe {
    pipeline: std::sync::Arc<crate::gpu::Pipeline>,
    group: wgpu::BindGroup,
    output: wgpu::Buffer,
}

impl Probe {
    async fn new(gpu: &Gpu, variant: &Variant, words: &[u32], input: &[u8], output: usize) -> Result<Self> {
        use wgpu::BufferUsages as U;
        let params = gpu.buffer("params", 256, U::UNIFORM | U::COPY_DST)?;
        gpu.upload(&params, 0, bytemuck::cast_slice(words)).await?;
        let input = filled(gpu, input).await?;
        let output = gpu.buffer("benchmark", output as u64, U::STORAGE | U::COPY_SRC)?;
        let pipeline = gpu.pipeline(variant)?;
        let group = gpu.scoped(&variant.label, || bind(gpu, &pipeline, &params, [&input, &output].into_iter()))?;
        Ok(Probe { pipeline, group, output })
    }

    fn encode(&self, pass: &mut wgpu::ComputePass<'_>, groups: u32) {
        self.encode_folded(pass, (groups, 1));
    }

    fn encode_folded(&self, pass: &mut wgpu::ComputePass<'_>, (x, y): (u32, u32)) {
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(x, y, 1);
    }
}
