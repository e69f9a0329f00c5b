//! A program: a recording with its compiled kernels and weights, run for batch after batch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::pace::Pace;
use super::recording::{Command, Dispatch, Recording};
use super::sizes::Dims;
use super::workspace::{CacheView, Workspace, read_sizes};
use crate::error::{Error, Result};
use crate::gpu::{Counters, Gpu, Pipeline};

/// A recording, ready to run: `&self` serves several threads, each forward in a workspace of its own.
pub struct Program {
    pub(super) gpu: Gpu,
    pub(super) recording: Recording,
    /// One for each dispatch, in order.
    pub(super) pipelines: Vec<Arc<Pipeline>>,
    /// Of each dispatch, one for each of its tilings.
    tilings: Vec<Vec<Arc<Pipeline>>>,
    pub(super) weights: Arc<[wgpu::Buffer]>,
    /// The longest that a submission should take, by estimate.
    budget: Duration,
    pace: Pace,
    /// Forwards that are submitted and not yet finished.
    running: AtomicUsize,
    /// Workspaces that no forward is using.
    idle: Mutex<Vec<Workspace>>,
}

/// What came back from a forward.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The recording's output.
    pub output: Vec<f32>,
    /// Each of its captures.
    pub captures: Vec<Vec<f32>>,
}

impl Program {
    /// Compiles what the recording needs. Nothing is allocated before the first forward or [`Program::reserve`].
    ///
    /// # Errors
    /// [`Error::Kernel`] where a kernel does not compile, [`Error::DeviceLost`].
    pub fn new(gpu: &Gpu, recording: Recording, weights: Arc<[wgpu::Buffer]>) -> Result<Self> {
        gpu.compile_all(&recording.variants())?;
        gpu.keep_pipelines();
        let pipelines = recording.dispatches().map(|d| gpu.pipeline(&d.variant)).collect::<Result<_>>()?;
        let tiled = |d: &Dispatch| d.tilings.iter().map(|tiling| gpu.pipeline(&tiling.variant)).collect::<Result<_>>();
        let tilings = recording.dispatches().map(tiled).collect::<Result<_>>()?;
        let budget = gpu.submission_budget();
        let pace = Pace::new(gpu.capabilities().class);
        let (running, idle) = Default::default();
        Ok(Program { gpu: gpu.clone(), budget, pace, recording, pipelines, tilings, weights, running, idle })
    }

    /// The same, in submissions that take no longer than that, by estimate.
    pub(crate) fn within(self, budget: Duration) -> Self {
        Program { budget: self.budget.min(budget), ..self }
    }

    /// How fast it runs.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The plain data that it runs.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Tokens of the largest batch whose buffers the device can bind.
    pub fn max_tokens(&self) -> usize {
        let limits = &self.gpu.capabilities().limits;
        let one = Dims { tokens: 1, ..Dims::default() };
        let widest = (0..self.recording.scratch.len())
            .map(|i| self.recording.scratch[i].size)
            .filter(|size| size.dim == super::Dim::Tokens)
            .map(|size| 4 * size.of(&one))
            .max()
            .unwrap_or(4)
            .max(4 * self.recording.d_model as u64);
        (limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / widest) as usize
    }

    /// Makes a workspace for any batch of up to so many tokens, unless there is one: the first forward then allocates
    /// nothing either.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub fn reserve(&self, tokens: usize) -> Result<()> {
        let tokens = tokens.clamp(1, self.max_tokens()) as u32;
        // as many sequences and tiles as tokens: texts of one token each
        self.prepare(Dims { tokens, sequences: tokens, tiles: tokens, ..Dims::default() }, None)
    }

    /// Makes a workspace of at least that capacity, unless there is one.
    pub(crate) fn prepare(&self, dims: Dims, cache: Option<CacheView<'_>>) -> Result<()> {
        self.lease(dims, cache).map(drop)
    }

    /// Bytes of the workspace that a batch of that size gets.
    pub(crate) fn workspace_bytes(&self, dims: Dims) -> u64 {
        self.recording.workspace_bytes(&self.round_up(self.recording.sized_by(dims)))
    }

    /// Runs one batch.
    ///
    /// # Errors
    /// [`Error::Input`] for an empty batch or one that the recording's tables are too small for, [`Error::DeviceLost`], or
    /// [`Error::OutOfMemory`] where a larger workspace cannot be allocated.
    pub async fn run(&self, batch: &Batch) -> Result<Outcome> {
        self.start(batch, None)?.finish().await
    }

    /// Uploads one batch, whose parts are then submitted one by one: the GPU has nothing more to do than one of them.
    pub(crate) fn begin(&self, batch: &Batch, cache: Option<CacheView<'_>>) -> Result<Parts<'_>> {
        batch.check(&self.recording, cache.map_or(0, |c| c.rows))?;
        let dims = batch.dims();
        let mut lease = self.lease(dims, cache)?;
        let workspace = lease.workspace();
        self.gpu.scoped("upload", || workspace.upload(self.gpu.queue(), &self.recording, batch))?;
        Ok(Parts { lease, parts: self.parts(&dims).into_iter(), dims })
    }

    /// Uploads and submits one batch. The caller keeps the cache from being replaced until this returns.
    pub(crate) fn start(&self, batch: &Batch, cache: Option<CacheView<'_>>) -> Result<Running<'_>> {
        batch.check(&self.recording, cache.map_or(0, |c| c.rows))?;
        let dims = batch.dims();
        let mut lease = self.lease(dims, cache)?;
        let submission = self.submit(lease.workspace(), batch)?;
        let alone = self.running.fetch_add(1, Ordering::Relaxed) == 0;
        Ok(Running { lease, submission, dims, start: Instant::now(), alone })
    }

    /// A workspace for a batch: an idle one that is large enough, or a new one.
    pub(super) fn lease(&self, dims: Dims, cache: Option<CacheView<'_>>) -> Result<Lease<'_>> {
        self.gpu.alive()?;
        let dims = self.recording.sized_by(dims);
        let mut smaller = None;
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = idle.iter().position(|w| dims.fits(&w.capacity)) {
                let mut workspace = idle.swap_remove(place);
                drop(idle);
                workspace.rebind(self, cache)?;
                return Ok(Lease { program: self, workspace: Some(workspace) });
            }
            if !idle.is_empty() {
                smaller = Some(idle.swap_remove(0));
            }
        }
        // a workspace that is too small gives way to one that holds all that it held
        let wanted = smaller.as_ref().map_or(dims, |w| dims.max(&w.capacity));
        drop(smaller);
        let workspace = Workspace::new(self, self.round_up(wanted), cache)?;
        Ok(Lease { program: self, workspace: Some(workspace) })
    }

    /// Few capacities, so that batches of changing sizes soon allocate nothing any more.
    fn round_up(&self, dims: Dims) -> Dims {
        let most = self.max_tokens().max(dims.tokens as usize) as u32;
        let tokens = dims.tokens.max(8).next_power_of_two().min(most);
        let sequences = dims.sequences.max(8).next_power_of_two().min(tokens);
        // each sequence has at most one tile that is not full
        let tiles = dims.tiles.max(tokens / self.recording.tile + sequences).min(tokens);
        let few = |size: u32| if size == 0 { 0 } else { size.next_power_of_two() };
        Dims {
            tokens,
            sequences,
            tiles,
            pages: few(dims.pages),
            keys: few(dims.keys),
            splits: few(dims.splits),
            seen: few(dims.seen),
            changes: few(dims.changes),
            vectors: few(dims.vectors),
            ..dims
        }
    }

    /// Uploads the batch and submits the recording: one submission, or several split at block boundaries where the
    /// estimate exceeds the budget, so that no watchdog fires and others get their turn.
    fn submit(&self, workspace: &mut Workspace, batch: &Batch) -> Result<wgpu::SubmissionIndex> {
        let dims = batch.dims();
        self.gpu.scoped("upload", || workspace.upload(self.gpu.queue(), &self.recording, batch))?;
        let mut last = None;
        for part in self.parts(&dims) {
            last = Some(self.submit_part(workspace, part, &dims)?);
        }
        last.ok_or_else(|| Error::Internal { during: "forward".into(), message: "the recording is empty".into() })
    }

    /// Submits a run of the recording's commands, and after the last what copies the results.
    fn submit_part(
        &self,
        workspace: &Workspace,
        part: std::ops::Range<usize>,
        dims: &Dims,
    ) -> Result<wgpu::SubmissionIndex> {
        let commands = &self.recording.commands;
        let dispatches = |range: std::ops::Range<usize>| {
            commands[range]
                .iter()
                .filter_map(|c| if let Command::Dispatch(dispatch) = c { Some(dispatch) } else { None })
        };
        let first = dispatches(0..part.start).count();
        let own = dispatches(part.clone()).filter(|dispatch| dispatch.fitted(dims).1.count(dims) > 0).count();
        let submission = self.gpu.scoped("forward", || -> Result<wgpu::SubmissionIndex> {
            let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
            self.encode(&mut encoder, workspace, &commands[part.clone()], first, dims)?;
            if part.end == commands.len() {
                self.copy_out(&mut encoder, workspace, dims)?;
            }
            Ok(self.gpu.queue().submit([encoder.finish()]))
        })??;
        Counters::add(&self.gpu.counters().submissions, 1);
        Counters::add(&self.gpu.counters().dispatches, own as u64);
        Ok(submission)
    }

    /// The recording's commands in runs of one submission each.
    fn parts(&self, dims: &Dims) -> Vec<std::ops::Range<usize>> {
        let budget = self.budget.as_secs_f64();
        let (mut parts, mut seconds, mut block) = (Vec::new(), 0.0, 0.0);
        let commands = &self.recording.commands[..];
        let (mut start, mut boundary) = (0, 0);
        for (i, command) in commands.iter().enumerate() {
            match command {
                Command::Dispatch(_) => block += self.pace.seconds(flops(command, dims)),
                Command::Boundary => {
                    if boundary > start && seconds + block > budget {
                        parts.push(start..boundary);
                        (start, seconds) = (boundary, 0.0);
                    }
                    (boundary, seconds, block) = (i + 1, seconds + block, 0.0);
                }
                Command::Capture(_) => {}
            }
        }
        if boundary > start && boundary < commands.len() && seconds + block > budget {
            parts.push(start..boundary);
            start = boundary;
        }
        parts.push(start..commands.len());
        parts
    }

    fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        workspace: &Workspace,
        commands: &[Command],
        first: usize,
        dims: &Dims,
    ) -> Result<()> {
        let mut next = first;
        let is_capture = |c: &Command| matches!(c, Command::Capture(_));
        // one pass for every run of dispatches between two captures
        for run in commands.chunk_by(|a, b| !is_capture(a) && !is_capture(b)) {
            if let [Command::Capture(i)] = run {
                let capture = &self.recording.captures[*i];
                if let Some(from) = capture.from {
                    let bytes = 4 * capture.size.of(dims);
                    encoder.copy_buffer_to_buffer(workspace.buffer(from)?, 0, &workspace.captures[*i], 0, bytes);
                }
                continue;
            }
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for command in run {
                if let Command::Dispatch(dispatch) = command {
                    self.dispatch(&mut pass, workspace, dispatch, next, dims)?;
                    next += 1;
                }
            }
        }
        Ok(())
    }

    /// Encodes the dispatch with that number.
    pub(super) fn dispatch(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        workspace: &Workspace,
        dispatch: &Dispatch,
        number: usize,
        dims: &Dims,
    ) -> Result<()> {
        let (variant, grid) = dispatch.fitted(dims);
        let count = grid.count(dims);
        if count == 0 {
            return Ok(()); // nothing of what it works on is in this batch
        }
        let (x, y) = fold(count, &self.gpu, &variant.label)?;
        let own = &self.pipelines[number];
        // layouts that declare the same bindings are one to wgpu, so that the bind group fits all of them
        pass.set_pipeline(&dispatch.tiling(dims).map_or(own, |i| &self.tilings[number][i]).pipeline);
        pass.set_bind_group(0, &workspace.bind_groups[number], &[]);
        pass.dispatch_workgroups(x, y, 1);
        Ok(())
    }

    fn copy_out(&self, encoder: &mut wgpu::CommandEncoder, workspace: &Workspace, dims: &Dims) -> Result<()> {
        let sizes = read_sizes(&self.recording, dims);
        let mut offset = 0;
        if let Some((slot, _)) = self.recording.output {
            encoder.copy_buffer_to_buffer(workspace.buffer(slot)?, 0, &workspace.readback, 0, sizes[0]);
            offset = sizes[0];
        }
        for (capture, size) in workspace.captures.iter().zip(&sizes[1..]) {
            encoder.copy_buffer_to_buffer(capture, 0, &workspace.readback, offset, *size);
            offset += size;
        }
        Ok(())
    }
}

/// A forward that is submitted part by part; nothing comes back of it.
pub(crate) struct Parts<'a> {
    lease: Lease<'a>,
    parts: std::vec::IntoIter<std::ops::Range<usize>>,
    dims: Dims,
}

impl Parts<'_> {
    /// Submits the next part, if there is one, with the cache as it is now.
    pub fn submit(&mut self, cache: Option<CacheView<'_>>) -> Result<Option<Part>> {
        let program = self.lease.program;
        let Some(part) = self.parts.next() else { return Ok(None) };
        let workspace = self.lease.workspace();
        workspace.rebind(program, cache)?;
        let commands = &program.recording.commands[part.clone()];
        let flops = commands.iter().map(|command| flops(command, &self.dims)).sum();
        let submission = program.submit_part(workspace, part, &self.dims)?;
        Ok(Some(Part { submission, flops }))
    }

    /// What passed the taps, once the last part is done.
    pub async fn captures(mut self, last: wgpu::SubmissionIndex) -> Result<Vec<Vec<f32>>> {
        if self.lease.program.recording.captures.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.lease.read(&self.dims, last).await?.captures)
    }
}

/// A part that was submitted.
pub(crate) struct Part {
    pub submission: wgpu::SubmissionIndex,
    pub flops: f64,
}

/// The arithmetic of a command.
fn flops(command: &Command, dims: &Dims) -> f64 {
    match command {
        Command::Dispatch(d) => d.work.flops * f64::from(dims.get(d.work.dim)),
        _ => 0.0,
    }
}

/// A forward that was submitted, whose workspace is its own until it is finished or dropped.
pub(crate) struct Running<'a> {
    lease: Lease<'a>,
    submission: wgpu::SubmissionIndex,
    dims: Dims,
    start: Instant,
    /// Whether no other forward was in front of it.
    alone: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.lease.program.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Running<'_> {
    pub fn program(&self) -> &Program {
        self.lease.program
    }

    /// The batch's sizes.
    pub fn dims(&self) -> &Dims {
        &self.dims
    }

    /// A capture's buffer.
    pub fn capture(&self, number: usize) -> Option<&wgpu::Buffer> {
        self.lease.workspace.as_ref()?.captures.get(number)
    }

    /// Waits for the forward and reads back what it was to bring.
    pub async fn finish(mut self) -> Result<Outcome> {
        let outcome = self.lease.read(&self.dims, self.submission.clone()).await?;
        let program = self.lease.program;
        if self.alone {
            program.pace.measured(program.recording.flops(&self.dims), self.start.elapsed());
        }
        Ok(outcome)
    }
}

/// A count of workgroups over two dimensions: kernels number them `x + y · groups.x` and skip those past the end.
pub(crate) fn fold(count: u64, gpu: &Gpu, label: &str) -> Result<(u32, u32)> {
    let most = u64::from(gpu.capabilities().limits.max_compute_workgroups_per_dimension);
    let y = count.div_ceil(most).max(1);
    let x = count.div_ceil(y);
    if y > most {
        return Err(Error::OutOfMemory(format!("{label} needs {count} workgroups in one dispatch")));
    }
    Ok((x as u32, y as u32))
}

/// A workspace in use; it goes back to the program when the forward ends, however it ends.
pub(super) struct Lease<'a> {
    program: &'a Program,
    workspace: Option<Workspace>,
}

impl Lease<'_> {
    pub fn program(&self) -> &Program {
        self.program
    }

    pub fn workspace(&mut self) -> &mut Workspace {
        self.workspace.as_mut().expect("present until the lease is dropped")
    }

    /// What a submission copies out.
    async fn read(&mut self, dims: &Dims, submission: wgpu::SubmissionIndex) -> Result<Outcome> {
        let program = self.program;
        let sizes = read_sizes(&program.recording, dims);
        let workspace = self.workspace();
        let bytes = program.gpu.read(&workspace.readback, sizes.iter().sum(), submission).await?;
        let mut rest = &bytes[..];
        let mut parts = sizes.iter().map(|&size| {
            let (part, after) = rest.split_at(size as usize);
            rest = after;
            bytemuck::pod_collect_to_vec(part)
        });
        let output = parts.next().unwrap_or_default();
        Ok(Outcome { output, captures: parts.collect() })
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(workspace) = self.workspace.take() {
            self.program.idle.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
        }
    }
}
