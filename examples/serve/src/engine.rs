//! One thread that owns all sessions: they step together, and prompts are read in chunks between steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use thalweg::files::Tokenizer;
use thalweg::{Decoder, Error, Sampling, Session, SessionOptions, TextStream};
use tokio::sync::mpsc::UnboundedSender;

/// The most sessions that step together; later ones wait.
const SESSIONS: usize = 32;
/// Tokens of a prompt that are read between two steps of the others.
const CHUNK: usize = 128;

/// A text that is wanted.
pub struct Job {
    pub ids: Vec<u32>,
    pub max_tokens: usize,
    pub sampling: Sampling,
    pub stops: Vec<String>,
    /// Which of the request's texts it is.
    pub index: usize,
    /// Where its pieces go. When the other end is gone, so is the client, and the session is dropped.
    pub events: UnboundedSender<(usize, Event)>,
}

pub enum Event {
    Text(String),
    /// Why it has ended, and how many tokens it has.
    Done(&'static str, usize),
    Failed(Error),
}

/// The way to the thread.
#[derive(Clone)]
pub struct Engine {
    jobs: Sender<Job>,
    active: Arc<AtomicUsize>,
}

impl Engine {
    pub fn start(decoder: Decoder) -> Self {
        let (jobs, receiver) = channel();
        let active = Arc::new(AtomicUsize::new(0));
        let count = active.clone();
        std::thread::spawn(move || work(&decoder, &receiver, &count));
        Engine { jobs, active }
    }

    /// Puts a job in line. A job that cannot be done any more closes its channel.
    pub fn push(&self, job: Job) {
        let _ = self.jobs.send(job);
    }

    /// Sessions that are there now.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }
}

struct Running<'a> {
    job: Job,
    session: Session,
    /// Tokens of the prompt that are read.
    read: usize,
    written: usize,
    text: TextStream<&'a Tokenizer>,
    done: bool,
}

fn work(decoder: &Decoder, jobs: &Receiver<Job>, active: &AtomicUsize) {
    let Ok(tokenizer) = decoder.model().tokenizer() else { return };
    let mut running: Vec<Running> = Vec::new();
    loop {
        while running.len() < SESSIONS {
            // with nothing else to do, wait
            let job =
                if running.is_empty() { jobs.recv().map_err(|_| TryRecvError::Disconnected) } else { jobs.try_recv() };
            match job {
                Ok(job) => running.extend(Running::new(decoder, tokenizer, job)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
            active.store(running.len(), Ordering::Relaxed);
        }
        if let Some(reading) = running.iter_mut().find(|r| r.read < r.job.ids.len()) {
            reading.read_chunk();
        }
        let mut ready: Vec<_> = running.iter_mut().filter(|r| r.read == r.job.ids.len() && !r.done).collect();
        ready.iter_mut().for_each(|r| r.stop_at_limit(decoder));
        ready.retain(|r| !r.done);
        if !ready.is_empty() {
            match decoder.step_blocking(&mut ready.iter_mut().map(|r| &mut r.session).collect::<Vec<_>>()) {
                Ok(ids) => ready.into_iter().zip(ids).for_each(|(r, id)| r.take(id)),
                Err(error) => {
                    let what = error.to_string();
                    ready.into_iter().for_each(|r| r.end(Event::Failed(Error::Input(what.clone()))));
                }
            }
        }
        running.retain(|r| !r.done && !r.job.events.is_closed());
        active.store(running.len(), Ordering::Relaxed);
    }
}

impl<'a> Running<'a> {
    fn new(decoder: &Decoder, tokenizer: &'a Tokenizer, job: Job) -> Option<Self> {
        let options = SessionOptions { sampling: job.sampling, ..Default::default() };
        let stops: Vec<&str> = job.stops.iter().map(String::as_str).collect();
        match decoder.session(options).and_then(|session| Ok((session, TextStream::new(tokenizer, &stops)?))) {
            Ok((session, text)) => Some(Running { job, session, read: 0, written: 0, text, done: false }),
            Err(error) => {
                let _ = job.events.send((job.index, Event::Failed(error)));
                None
            }
        }
    }

    fn read_chunk(&mut self) {
        let end = self.job.ids.len().min(self.read + CHUNK);
        match self.session.prefill_blocking(&self.job.ids[self.read..end]) {
            Ok(()) => self.read = end,
            Err(error) => self.end(Event::Failed(error)),
        }
    }

    fn stop_at_limit(&mut self, decoder: &Decoder) {
        if self.written >= self.job.max_tokens || self.session.tokens().len() > decoder.max_tokens() {
            self.finish("length");
        }
    }

    fn take(&mut self, id: Option<u32>) {
        let Some(id) = id else { return self.finish("stop") };
        self.written += 1;
        match self.text.push(id) {
            Ok(piece) => self.send(piece),
            Err(error) => return self.end(Event::Failed(error)),
        }
        if self.text.stopped() {
            self.finish("stop");
        }
    }

    /// Gives out the text that was held back, and ends.
    fn finish(&mut self, reason: &'static str) {
        match self.text.finish() {
            Ok(rest) => {
                self.send(rest);
                self.end(Event::Done(reason, self.written));
            }
            Err(error) => self.end(Event::Failed(error)),
        }
    }

    fn send(&self, text: String) {
        if !text.is_empty() {
            let _ = self.job.events.send((self.job.index, Event::Text(text)));
        }
    }

    fn end(&mut self, event: Event) {
        self.done = true;
        let _ = self.job.events.send((self.job.index, event));
    }
}
