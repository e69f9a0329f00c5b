//! Decoders: language models that continue texts, session by session, with keys and values in one paged pool.

mod plan;
mod pool;
mod sampling;
mod saved;
mod session;
mod text;
mod tuned;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use plan::MemoryPlan;
pub use sampling::Sampling;
pub use session::{Session, SessionOptions};
pub use text::TextStream;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::attention::{PAGE, SPLIT};
use crate::kernels::sample::NO_TOKEN;
use crate::model::{Files, LoadOptions, Model};
use crate::schedule::{Batch, Dims, DispatchTime, Outcome, Program, Purpose, Watch, record};
use crate::stream::{Edit, Tap, Trace, Uploaded, edited_points};
use pool::Pool;

/// A language model on the GPU: cheap to clone, `Send + Sync`, shared by all of its sessions.
#[derive(Clone)]
pub struct Decoder(Arc<Inner>);

struct Inner {
    model: Model,
    plan: MemoryPlan,
    /// Held while pages are dealt out and a forward is submitted, so that no forward writes into buffers that have just
    /// been replaced; never across an await.
    pool: Mutex<Pool>,
    plain: Programs,
    /// Those of sessions that edit or watch, by their points: the latest few.
    touched: Mutex<Vec<(Watch, Arc<Programs>)>>,
    eos: Vec<u32>,
}

/// The forwards of sessions.
struct Programs {
    prefill: Program,
    decode: Program,
    logits: Program,
}

impl Programs {
    fn new(model: &Model, watch: &Watch) -> Result<Self> {
        let compile = |purpose: Purpose| {
            let recording = record(&model.spec, &model.tensors, &purpose, model.choices, watch);
            Program::new(&model.gpu, recording, Arc::clone(&model.weights))
        };
        Ok(Programs {
            prefill: compile(Purpose::Prefill)?.within(CHUNK_TIME),
            decode: compile(Purpose::Decode)?,
            logits: compile(Purpose::Logits)?,
        })
    }
}

/// Sets of points whose programs are kept.
const MOST_TOUCHED: usize = 4;

/// The most tokens of a prefill's chunk.
const CHUNK: usize = 512;

/// The longest that a prefill's submission should keep the GPU busy, so that a window keeps drawing.
const CHUNK_TIME: Duration = Duration::from_millis(50);

impl Decoder {
    /// Loads a Hugging Face folder, or a model by its name from the user's cache.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Unsupported`] or [`Error::Io`] naming the file and tensor; [`Error::OutOfMemory`] with the
    /// [`MemoryPlan`], before anything is allocated, where it cannot fit.
    pub async fn load(gpu: &Gpu, model: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(gpu, model, LoadOptions::default()).await
    }

    /// [`Decoder::load`], blocking the calling thread.
    pub fn load_blocking(gpu: &Gpu, model: impl AsRef<Path>) -> Result<Self> {
        pollster::block_on(Self::load(gpu, model))
    }

    /// Loads with options.
    ///
    /// # Errors
    /// As [`Decoder::load`], and [`Error::Cancelled`].
    pub async fn load_with(gpu: &Gpu, model: impl AsRef<Path>, options: LoadOptions) -> Result<Self> {
        let files = Files::open(model.as_ref())?;
        if !files.spec.is_decoder() {
            let what = format!("generating text with {:?}, an encoder", files.spec.model_type);
            return Err(Error::unsupported(&files.path, what));
        }
        let eos = files.eos.clone();
        let layout = files.layout(gpu, options.dtype)?;
        let plan = MemoryPlan::new(gpu, &files.spec, &layout, &options);
        plan.check(gpu)?;
        let purposes = [Purpose::Prefill, Purpose::Decode, Purpose::Logits];
        let model = Model::open(gpu, files, layout, &purposes, &options).await?;
        let plain = Programs::new(&model, &Watch::default())?;
        let pool = Mutex::new(Pool::new(gpu, &model.spec));
        let decoder = Decoder(Arc::new(Inner { model, plan, pool, plain, touched: Mutex::default(), eos }));
        decoder.reserve(decoder.0.plan.context)?;
        Ok(decoder)
    }

    /// The same decoder on another [`Gpu`], as after [`Gpu::rebuild`]. Its cache is empty: [`Session::rebuild`] brings
    /// sessions over.
    ///
    /// # Errors
    /// As [`Model::rebuild`].
    pub async fn rebuild(&self, gpu: &Gpu) -> Result<Self> {
        let model = &self.0.model;
        let again = Self::load_with(gpu, &model.origin, model.options.clone()).await?;
        model.is_again(&again.0.model)?;
        Ok(again)
    }

    /// [`Decoder::rebuild`], blocking the calling thread.
    pub fn rebuild_blocking(&self, gpu: &Gpu) -> Result<Self> {
        pollster::block_on(self.rebuild(gpu))
    }

    /// A session without any token.
    ///
    /// # Errors
    /// [`Error::Input`] naming an option that is out of its range, [`Error::OutOfMemory`].
    pub fn session(&self, options: SessionOptions) -> Result<Session> {
        options.sampling.validate()?;
        self.check_edits(&options.edits)?;
        Tap::check_all(&options.taps, &self.0.model.spec)?;
        self.reserve(options.reserve.min(self.max_tokens()))?;
        Ok(Session::new(self.clone(), options))
    }

    /// Chooses the next token of each session, all in one submission, and appends them; `None` for those whose text has
    /// come to its end. Each gets the same token as it would alone.
    ///
    /// # Errors
    /// As [`Session::next_token`]; no session has got a token then.
    pub async fn step(&self, sessions: &mut [&mut Session]) -> Result<Vec<Option<u32>>> {
        for session in sessions.iter() {
            if !Arc::ptr_eq(&session.decoder.0, &self.0) {
                return Err(Error::Input("a session of another decoder".into()));
            }
            if !session.ended {
                session.ready()?;
            }
        }
        let mut running: Vec<&mut Session> =
            sessions.iter_mut().map(|session| &mut **session).filter(|session| !session.ended).collect();
        for session in &mut running {
            session.options.task.check()?;
            session.catch_up().await?;
        }
        let mut chosen = Vec::new();
        if !running.is_empty() {
            chosen = self.forward(|programs| &programs.decode, &mut running, 1, true).await?.output;
        }
        let lost = chosen.iter().position(|id| id.to_bits() == NO_TOKEN).map(|i| running[i].tokens.clone());
        if let Some(tokens) = lost {
            return Err(self.0.model.not_finite(&tokens).await);
        }
        let mut chosen = chosen.into_iter().map(f32::to_bits);
        let mut take = |session: &mut Session| {
            let id = if session.ended { None } else { chosen.next() }?;
            session.cached += 1;
            if self.0.eos.contains(&id) && !session.options.ignore_eos {
                session.ended = true;
                return None;
            }
            session.append(id);
            Some(id)
        };
        Ok(sessions.iter_mut().map(|session| take(session)).collect())
    }

    /// [`Decoder::step`], blocking the calling thread.
    pub fn step_blocking(&self, sessions: &mut [&mut Session]) -> Result<Vec<Option<u32>>> {
        pollster::block_on(self.step(sessions))
    }

    /// Runs one sequence of ids, taken as they are, and brings back what passed the points.
    ///
    /// # Errors
    /// As [`Model::trace`].
    pub async fn trace<T>(&self, ids: &[u32], taps: &[T]) -> Result<Trace>
    where
        for<'a> &'a T: Into<Tap>,
    {
        self.0.model.trace(ids, taps).await
    }

    /// [`Decoder::trace`], blocking the calling thread.
    pub fn trace_blocking<T>(&self, ids: &[u32], taps: &[T]) -> Result<Trace>
    where
        for<'a> &'a T: Into<Tap>,
    {
        self.0.model.trace_blocking(ids, taps)
    }

    /// The model, with its spec and tokenizer.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// The memory that was planned at load.
    pub fn plan(&self) -> &MemoryPlan {
        &self.0.plan
    }

    /// The tokens that end a text.
    pub fn eos(&self) -> &[u32] {
        &self.0.eos
    }

    /// Most tokens of a session.
    pub fn max_tokens(&self) -> usize {
        self.0.model.spec.max_tokens()
    }

    /// Where the time of a session's next step goes: each dispatch with timestamps around it. Nothing is chosen.
    ///
    /// # Errors
    /// [`Error::Input`] where the device has no timestamps; else as [`Session::next_token`].
    pub async fn profile(&self, session: &mut Session) -> Result<Vec<DispatchTime>> {
        session.ready()?;
        session.catch_up().await?;
        session.make_room(1)?;
        let program = &self.0.plain.decode;
        let mut batch = Batch::of(program.recording());
        session.push(&mut batch, &mut Uploaded::default(), program.recording(), 1, true)?;
        let profile = {
            let pool = self.pool();
            program.start_profile(&batch, Some(pool.view()))?
        };
        profile.finish().await
    }

    /// The program of a prefill's chunks, for benchmarks and tests.
    pub fn prefill_program(&self) -> &Program {
        &self.0.plain.prefill
    }

    /// The program of a decode step, for benchmarks and tests.
    pub fn decode_program(&self) -> &Program {
        &self.0.plain.decode
    }

    /// The longest that one submission of a prefill took since this was last asked, its waits included: what another user of
    /// the GPU had to wait for.
    pub fn longest_prefill_submission(&self) -> Duration {
        self.0.plain.prefill.pace().longest()
    }

    /// Names the model and its weights, for files that belong to them.
    fn fingerprint(&self) -> String {
        self.0.model.fingerprint.clone()
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails where a session of so many tokens is too long.
    fn fits(&self, tokens: usize) -> Result<()> {
        let limit = self.max_tokens();
        if tokens > limit { Err(Error::TooLong { tokens, limit }) } else { Ok(()) }
    }

    /// Makes everything that a session of so many tokens writes to: what it then allocates is nothing.
    fn reserve(&self, tokens: usize) -> Result<()> {
        let pages = tokens.div_ceil(PAGE as usize);
        let mut pool = self.pool();
        pool.reserve(pages)?;
        let Programs { prefill, decode, .. } = &self.0.plain;
        let splits = (tokens as u32).div_ceil(SPLIT);
        let base = Dims { pages: pages as u32, splits, ..Dims::default() };
        decode.prepare(Dims { tokens: 1, sequences: 1, tiles: 1, seen: tokens as u32, ..base }, Some(pool.view()))?;
        let chunk = CHUNK.min(self.max_tokens()) as u32;
        prefill
            .prepare(Dims { tokens: chunk, tiles: chunk.div_ceil(prefill.recording().tile), ..base }, Some(pool.view()))
    }

    /// How many of the `left` tokens the next chunk of a prefill takes, after `past` tokens.
    fn chunk(&self, past: usize, left: usize) -> usize {
        let prefill = &self.0.plain.prefill;
        let recording = prefill.recording();
        let seconds = |count: usize| {
            let (tokens, pairs) = (count as u32, (count * (past + count)).min(u32::MAX as usize) as u32);
            let dims = Dims { tokens, pairs, tiles: tokens.div_ceil(recording.tile), ..Dims::default() };
            prefill.pace().seconds(recording.flops(&dims))
        };
        let mut count = left.min(CHUNK);
        // products take 8 rows in the time of one
        while count > 8 && seconds(count) > CHUNK_TIME.as_secs_f64() {
            count = (count / 2).next_multiple_of(8);
        }
        count
    }

    /// Brings the next `count` tokens of a session into the cache.
    async fn prefill(&self, session: &mut Session, count: usize) -> Result<()> {
        let programs = self.programs(&[session]).await?;
        let program = programs.as_ref().map_or(&self.0.plain.prefill, |programs| &programs.prefill);
        let count = count.min(program.max_tokens());
        session.make_room(count)?;
        let mut batch = Batch::of(program.recording());
        session.push(&mut batch, &mut Uploaded::default(), program.recording(), count, false)?;
        let mut parts = {
            let pool = self.pool();
            program.begin(&batch, Some(pool.view()))?
        };
        // one after another, so that whoever else uses the GPU waits for no more than one
        let mut last = None;
        loop {
            let submitted = {
                let pool = self.pool();
                parts.submit(Some(pool.view()))?
            };
            let Some(part) = submitted else { break };
            let start = Instant::now();
            last = Some(part.submission.clone());
            self.0.model.gpu.finished(part.submission).await?;
            program.pace().measured(part.flops, start.elapsed());
        }
        if let Some(last) = last {
            let captures = parts.captures(last).await?;
            session.capture(program.recording(), &captures, 0..count, count);
        }
        session.cached += count;
        Ok(())
    }

    /// Fails where the model cannot have an edit.
    fn check_edits(&self, edits: &[Edit]) -> Result<()> {
        edits.iter().try_for_each(|edit| edit.check(&self.0.model.spec))
    }

    /// The programs for what sessions edit and watch, made when they are first asked for; `None` where that is nothing.
    async fn programs(&self, sessions: &[&mut Session]) -> Result<Option<Arc<Programs>>> {
        let options = || sessions.iter().map(|session| &session.options);
        // of each point what any of them watches now; which tokens these are is the sessions' own affair
        let mut taps: Vec<Tap> = Vec::new();
        for tap in sessions.iter().flat_map(|session| session.tapped()) {
            match taps.iter_mut().find(|known| known.point == tap.point) {
                Some(known) => {
                    let both = known.heads.take().zip(tap.heads);
                    known.heads = both.map(|(a, b)| a.start.min(b.start)..a.end.max(b.end));
                }
                None => taps.push(Tap { tokens: None, ..tap }),
            }
        }
        taps.sort_by_key(|tap| tap.point);
        let edits = edited_points(options().flat_map(|options| &*options.edits));
        let watch = Watch { taps, edits, ..Watch::default() };
        if watch.edits.is_empty() && watch.taps.is_empty() {
            return Ok(None);
        }
        let touched = || self.0.touched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, programs)) = touched().iter().find(|(known, _)| *known == watch) {
            return Ok(Some(Arc::clone(programs)));
        }
        let programs = Arc::new(Programs::new(&self.0.model, &watch)?);
        self.0.model.try_variants(programs.decode.recording()).await?;
        let mut touched = touched();
        if touched.len() == MOST_TOUCHED {
            touched.remove(0);
        }
        touched.push((watch, Arc::clone(&programs)));
        Ok(Some(programs))
    }

    /// The logits after a session's last token.
    async fn logits_of(&self, session: &mut Session) -> Result<Vec<f32>> {
        session.ready()?;
        session.catch_up().await?;
        let logits = self.forward(|programs| &programs.logits, &mut [session], 1, false).await?.output;
        match logits.iter().all(|x| x.is_finite()) {
            true => Ok(logits),
            false => Err(self.0.model.not_finite(&session.tokens).await),
        }
    }

    /// Runs the next `count` tokens of each session in one batch.
    async fn forward(
        &self,
        which: fn(&Programs) -> &Program,
        sessions: &mut [&mut Session],
        count: usize,
        chosen: bool,
    ) -> Result<Outcome> {
        let programs = self.programs(sessions).await?;
        let program = which(programs.as_deref().unwrap_or(&self.0.plain));
        let (mut batch, mut uploaded) = (Batch::of(program.recording()), Uploaded::default());
        for session in sessions.iter_mut() {
            session.make_room(count)?;
            session.push(&mut batch, &mut uploaded, program.recording(), count, chosen)?;
        }
        let running = {
            let pool = self.pool();
            program.start(&batch, Some(pool.view()))?
        };
        let outcome = running.finish().await?;
        let all = sessions.len() * count;
        for (session, first) in sessions.iter_mut().zip((0..).step_by(count)) {
            session.capture(program.recording(), &outcome.captures, first..first + count, all);
        }
        Ok(outcome)
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("model", &self.0.model.spec.model_type).finish()
    }
}
