//! Whole models: encoders in sentences and tokens a second and in the time of one sentence, language models in llama-bench's
//! terms (`pp512`: a prompt of 512 tokens, `tg128`: 128 tokens one by one, `@ d512`: behind 512 others).
//!
//! What is timed is verified: a short text beside the f64 forward on the host; the timed batch to the bit with the products'
//! other form, and its texts alone; a text that was written token by token by reading it again as a prompt.

use std::time::Instant;

use super::ceilings::Ceilings;
use super::report::{Measured, Skipped, Wrong};
use super::run::measured_of;
use super::session::Session;
use super::subject::Subject;
use super::timing::{Timer, Times};
use crate::check::{Fault, Random, Wrong as NotRight, pieces};
use crate::error::{Error, Result};
use crate::files::Pooling;
use crate::schedule::{Choices, Head, Purpose};
use crate::stream::Kind;

/// What came of one model.
#[derive(Default)]
pub(super) struct Outcome {
    pub measured: Vec<Measured>,
    pub wrong: Vec<Wrong>,
    pub skipped: Vec<Skipped>,
}

/// How much of it.
pub(super) struct Sizes {
    /// Sentences of a batch, and tokens of each.
    pub sentences: (usize, usize),
    /// Tokens of a prompt, and tokens written.
    pub prompt: usize,
    pub written: usize,
    /// Tokens that are read before; 0 for none.
    pub depths: &'static [usize],
    /// Tokens that the host's reference reads.
    pub verified: usize,
}

pub(super) const QUICK: Sizes = Sizes { sentences: (16, 16), prompt: 64, written: 16, depths: &[0, 64], verified: 8 };
pub(super) const FULL: Sizes = Sizes { sentences: (64, 16), prompt: 512, written: 128, depths: &[0, 512], verified: 8 };

/// Verifies a model, then times it.
pub(super) async fn measure(
    timer: &Timer<'_>,
    ceilings: &Ceilings,
    subject: &Subject,
    sizes: &Sizes,
    seed: u64,
) -> Result<Outcome> {
    let mut bench =
        Bench { timer, ceilings, subject, sizes, random: Random::of(seed, "texts"), out: Outcome::default() };
    let outcome = if subject.spec().is_decoder() { bench.decoder().await } else { bench.encoder().await };
    let (wrong, skipped) = (&mut bench.out.wrong, &mut bench.out.skipped);
    match outcome {
        Ok(()) => {}
        Err(NotRight::Numbers(fault)) => wrong.push(Wrong {
            name: "model".into(),
            shape: Vec::new(),
            variant: subject.name.clone(),
            dtype: subject.dtype.into(),
            what: fault.what,
        }),
        Err(NotRight::Skipped(reason) | NotRight::Failed(Error::OutOfMemory(reason))) => {
            skipped.push(Skipped { name: subject.name.clone(), reason });
        }
        Err(NotRight::Failed(error)) => return Err(error),
    }
    Ok(bench.out)
}

struct Bench<'a> {
    timer: &'a Timer<'a>,
    ceilings: &'a Ceilings,
    subject: &'a Subject,
    sizes: &'a Sizes,
    random: Random,
    out: Outcome,
}

/// What an execution of a model is.
struct Work<'a> {
    name: String,
    shape: &'a [usize],
    unit: &'a str,
    /// Of what the unit counts.
    amount: f64,
    flops: f64,
    bytes: f64,
    error: f64,
}

pub(super) type Verdict<T> = Result<T, NotRight>;

impl Bench<'_> {
    fn check(&self) -> Result<()> {
        if self.timer.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn push(&mut self, work: &Work<'_>, seconds: Vec<f64>) {
        let of = |seconds: f64| match work.unit {
            "ms" => seconds * 1e3,
            _ => work.amount / seconds,
        };
        let times = Times { wall: seconds, gpu: None };
        let matrices = pieces::halves(&self.subject.host, self.subject.choices);
        let fastest = self.ceilings.fastest(work.flops, work.bytes, matrices);
        let measured = measured_of(&times, fastest, work.flops, work.bytes, of).map(|measured| Measured {
            name: work.name.clone(),
            shape: work.shape.to_vec(),
            variant: self.subject.name.clone(),
            dtype: self.subject.dtype.into(),
            unit: work.unit.into(),
            error: Some(work.error),
            models: vec![self.subject.name.clone()],
            ..measured
        });
        self.out.measured.extend(measured);
    }

    async fn encoder(&mut self) -> Verdict<()> {
        let (gpu, subject) = (self.timer.gpu, self.subject);
        let purpose = Purpose::Embed(Head { pooling: vec![Pooling::Mean], normalize: true });
        let program = subject.program(gpu, &purpose, subject.choices)?;
        let (count, length) = self.sizes.sentences;
        let length = length.min(subject.spec().max_tokens());
        let texts: Vec<_> = (0..count).map(|_| subject.ids(&mut self.random, length)).collect();
        let all = pieces::batch(&subject.host, &program, &texts);
        let vectors = program.run(&all).await?.output;
        let d = subject.spec().hidden_size;
        // one of them beside the reference, alone to the bit, and all of them with the other tiling
        let one = self.random.below(count);
        let alone = pieces::batch(&subject.host, &program, std::slice::from_ref(&texts[one]));
        let single = program.run(&alone).await?.output;
        same("a text alone", &single, &vectors[one * d..(one + 1) * d])?;
        let other = subject.choices.matmul.other(gpu.capabilities());
        let naive = subject.program(gpu, &purpose, Choices { matmul: other, ..subject.choices })?;
        same("the other tiling", &naive.run(&all).await?.output, &vectors)?;
        drop(naive);
        self.check()?;
        let passed = subject.host.forward(&texts[one]);
        let last = passed.points.iter().find(|(point, _)| point.kind == Kind::FinalNormalized);
        let rows = last.map_or(&passed.stream, |(_, normed)| normed);
        let wanted = subject.host.vector(rows, &[Pooling::Mean]);
        let tolerance = tolerance(subject);
        let error = pieces::compared("a sentence's vector", &single, &wanted, tolerance)?;
        let bytes = subject.read_by(&program);
        for (batch, verified, number) in [(&alone, &single, 1), (&all, &vectors, count)] {
            let mut seconds = Vec::new();
            for _ in 0..self.timer.samples {
                self.check()?;
                let start = Instant::now();
                let output = program.run(batch).await?.output;
                seconds.push(start.elapsed().as_secs_f64());
                same("a repetition", &output, verified)?;
            }
            let dims = batch.dims();
            let flops = program.recording().flops(&dims);
            let names: &[_] = if number == 1 {
                &[("latency", "ms")]
            } else {
                &[("sentences", "sentences/s"), ("tokens", "tokens/s")]
            };
            for (name, unit) in names {
                let amount = if *unit == "tokens/s" { f64::from(dims.tokens) } else { number as f64 };
                let shape = &[number, length];
                let work = Work { name: name.to_string(), shape, unit, amount, flops, bytes, error };
                self.push(&work, seconds.clone());
            }
        }
        Ok(())
    }

    async fn decoder(&mut self) -> Verdict<()> {
        let (gpu, subject, sizes) = (self.timer.gpu, self.subject, self.sizes);
        let deepest = sizes.depths.iter().copied().max().unwrap_or(0);
        let most = (deepest + sizes.prompt.max(sizes.written) + 1).max(sizes.verified + 1);
        if most > subject.spec().max_tokens() {
            let takes = subject.spec().max_tokens();
            return Err(NotRight::Skipped(format!("it takes {takes} tokens, and {most} are measured")));
        }
        let session = Session::new(gpu, subject, most)?;
        let ids = subject.ids(&mut self.random, most);
        // a short text beside the reference
        let short = &ids[..sizes.verified];
        session.read(short, 0..short.len() - 1).await?;
        let logits = session.logits(short).await?;
        self.check()?;
        let passed = subject.host.forward(short);
        let vocabulary = subject.spec().vocab_size;
        let wanted = passed.points.iter().find(|(point, _)| point.kind == Kind::Logits);
        let wanted = wanted.map_or(&[][..], |(_, all)| &all[all.len() - vocabulary..]);
        let error = pieces::compared("the logits", &logits, wanted, tolerance(subject))?;
        drop(passed);
        for &depth in sizes.depths {
            let suffix = if depth == 0 { String::new() } else { format!(" @ d{depth}") };
            session.read(&ids, 0..depth).await?;
            // a prompt: all but its last token, and then the step that chooses what follows
            let text = &ids[..depth + sizes.prompt];
            let (mut seconds, mut chosen) = (Vec::new(), None);
            for round in 0..=self.timer.samples {
                self.check()?;
                let start = Instant::now();
                session.read(text, depth..text.len() - 1).await?;
                let next = session.step(text).await?;
                let time = start.elapsed().as_secs_f64();
                if *chosen.get_or_insert(next) != next {
                    return Err(NotRight::Skipped("two runs of a prompt end in different tokens".into()));
                }
                if round > 0 {
                    seconds.push(time);
                }
            }
            session.agrees(text).await?;
            let (flops, bytes) = session.prompt_work(subject, &ids, depth..text.len());
            let (name, shape) = (format!("pp{}{suffix}", sizes.prompt), with_depth(sizes.prompt, depth));
            let amount = sizes.prompt as f64;
            self.push(&Work { name, shape: &shape, unit: "tokens/s", amount, flops, bytes, error }, seconds);

            let (mut seconds, mut written) = (Vec::new(), None);
            for round in 0..=self.timer.samples {
                self.check()?;
                session.read(&ids, 0..depth).await?;
                let mut text = ids[..depth + 1].to_vec();
                let start = Instant::now();
                for _ in 0..sizes.written {
                    let next = session.step(&text).await?;
                    text.push(next);
                }
                let time = start.elapsed().as_secs_f64();
                if round > 0 {
                    seconds.push(time);
                }
                if *written.get_or_insert_with(|| text.clone()) != text {
                    return Err(wrong("two runs write different texts"));
                }
            }
            // the same text, read instead of written
            let text = written.unwrap_or_default();
            let stepped = session.logits(&text).await?;
            session.read(&text, 0..text.len() - 1).await?;
            let read = session.logits(&text).await?;
            pieces::compared("logits behind a written text", &stepped, &widened(&read), 1e-4)?;
            let (flops, bytes) = session.step_work(subject, &ids, depth + sizes.written / 2);
            let (name, shape) = (format!("tg{}{suffix}", sizes.written), with_depth(sizes.written, depth));
            let written = sizes.written as f64;
            let (flops, bytes) = (flops * written, bytes * written);
            self.push(&Work { name, shape: &shape, unit: "tokens/s", amount: written, flops, bytes, error }, seconds);
        }
        Ok(())
    }
}

fn wrong(what: &str) -> NotRight {
    NotRight::Numbers(Fault { error: f64::NAN, what: what.into() })
}

/// Tokens, and those before them where there are any.
fn with_depth(tokens: usize, depth: usize) -> Vec<usize> {
    if depth == 0 { vec![tokens] } else { vec![tokens, depth] }
}

/// Rounding adds up from block to block.
fn tolerance(subject: &Subject) -> f64 {
    let allowed = pieces::allowed(&subject.host, subject.choices);
    if subject.spec().num_hidden_layers > 16 { 2.0 * allowed } else { allowed }
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// The same bits.
pub(super) fn same(what: &str, found: &[f32], wanted: &[f32]) -> Verdict<()> {
    let differ = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
    match found.iter().zip(wanted).position(differ) {
        None if found.len() == wanted.len() => Ok(()),
        place => {
            let place = place.unwrap_or(found.len().min(wanted.len()));
            Err(wrong(&format!("{what} has other bits at {place}")))
        }
    }
}
