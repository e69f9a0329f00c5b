//! What all subcommands share: their common options, exit codes, errors, interruption and warnings.

mod bench;
mod changes;
mod chat;
mod check;
mod choice;
mod cold;
mod devices;
mod embed;
mod generate;
mod lines;
mod progress;
mod quantize;
mod search;
mod stream;

use std::fs::File;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use thalweg::{
    AdapterChoice, CancelToken, Decoder, Dtype, Encoder, Error, Gpu, GpuOptions, LoadOptions, Model, Tuning,
};

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 no usable adapter, 4 bad model or input, \
5 device lost or out of memory, 130 interrupted.

Example:
  thalweg search --model all-MiniLM-L6-v2 \"how do I build it?\" README.md";

/// A GPU engine for transformers that keeps the residual stream resident on the GPU.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    machine: Machine,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::Bench),
    Chat(chat::Chat),
    Check(check::Check),
    Devices(devices::Devices),
    Embed(embed::Embed),
    Generate(generate::Generate),
    Quantize(quantize::Quantize),
    Search(search::Search),
    Stream(stream::Stream),
}

/// The options of every subcommand.
#[derive(Args)]
struct Machine {
    /// GPU to use: its number in `thalweg devices`, or a part of its name
    #[arg(long, global = true, value_name = "N|NAME", help_heading = "Machine")]
    adapter: Option<AdapterChoice>,
    /// Only this graphics API
    #[arg(long, global = true, value_name = "vulkan|metal|dx12|gl", value_parser = backend, help_heading = "Machine")]
    backend: Option<wgpu::Backends>,
    /// How weights are stored on the GPU; auto is as in the file
    #[arg(long, global = true, value_name = "f32|f16|auto", default_value = "auto", help_heading = "Machine")]
    dtype: Dtype,
    /// Does not try the kernels on an adapter or driver that is new before they are used
    #[arg(long, global = true, help_heading = "Machine")]
    no_self_check: bool,
    /// Neither takes compiled kernels from the cache directory nor keeps them there
    #[arg(long, global = true, help_heading = "Machine")]
    no_pipeline_cache: bool,
}

fn backend(name: &str) -> Result<wgpu::Backends, String> {
    match name {
        "vulkan" => Ok(wgpu::Backends::VULKAN),
        "metal" => Ok(wgpu::Backends::METAL),
        "dx12" => Ok(wgpu::Backends::DX12),
        "gl" => Ok(wgpu::Backends::GL),
        _ => Err(format!("{name:?} is none of vulkan, metal, dx12, gl")),
    }
}

/// As `--backend` takes it.
fn backend_name(backend: wgpu::Backends) -> Option<&'static str> {
    ["vulkan", "metal", "dx12", "gl"].into_iter().find(|name| self::backend(name) == Ok(backend))
}

/// What a subcommand runs with.
struct Context {
    machine: Machine,
    cancel: CancelToken,
    part: Part,
}

/// What Ctrl-C ends instead of the program, while there is something.
#[derive(Clone, Default)]
struct Part(Arc<Mutex<Option<CancelToken>>>);

impl Part {
    /// From now on, the first Ctrl-C only cancels the token that this returns.
    fn begin(&self) -> CancelToken {
        let token = CancelToken::new();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        token
    }

    /// From now on, Ctrl-C is for the program again.
    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether there was something that could be cancelled, and was not yet.
    fn cancel(&self) -> bool {
        let part = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        part.is_some_and(|token| {
            token.cancel();
            true
        })
    }
}

impl Context {
    fn gpu(&self) -> Result<Gpu> {
        let adapter = self.machine.adapter.clone().unwrap_or_default();
        Ok(Gpu::new_blocking(self.gpu_options(adapter))?)
    }

    /// How that adapter is opened.
    fn gpu_options(&self, adapter: AdapterChoice) -> GpuOptions {
        let (backends, skip_pipeline_cache) = (self.machine.backend, self.machine.no_pipeline_cache);
        GpuOptions { adapter, backends, skip_pipeline_cache, ..Default::default() }
    }

    /// How models are loaded, where nothing else is said.
    fn load_options(&self) -> LoadOptions {
        let (dtype, skip_self_check) = (self.machine.dtype, self.machine.no_self_check);
        LoadOptions { dtype, skip_self_check, ..Default::default() }
    }

    /// Loads a model that makes vectors, with a progress bar.
    fn encoder(&self, model: &Path) -> Result<Encoder> {
        self.load(model, LoadOptions::default(), |gpu, model, options| {
            pollster::block_on(Encoder::load_with(gpu, model, options))
        })
    }

    /// Loads a language model, with a progress bar.
    fn decoder(&self, model: &Path, options: LoadOptions) -> Result<Decoder> {
        self.load(model, options, |gpu, model, options| pollster::block_on(Decoder::load_with(gpu, model, options)))
    }

    /// Loads a model of any kind, with a progress bar.
    fn model(&self, model: &Path) -> Result<Model> {
        self.load(model, LoadOptions::default(), Model::load_blocking)
    }

    fn load<T>(
        &self,
        model: &Path,
        options: LoadOptions,
        load: impl FnOnce(&Gpu, PathBuf, LoadOptions) -> thalweg::Result<T>,
    ) -> Result<T> {
        // a model that is not there is told before the GPU is opened
        let model = thalweg::find_model(model)?;
        let gpu = self.gpu()?;
        let bar = progress::loading();
        let task = progress::task(&bar, &self.cancel);
        let (dtype, skip_self_check) = (self.machine.dtype, self.machine.no_self_check);
        let loaded = load(&gpu, model, LoadOptions { dtype, skip_self_check, task, ..options });
        bar.finish_and_clear();
        Ok(loaded?)
    }
}

/// Parses the arguments, runs the subcommand and turns its outcome into an exit code.
pub fn main() -> ExitCode {
    // a panic inside a dependency becomes an error below, and its place is for those who debug
    std::panic::set_hook(Box::new(|info| log::debug!("{info}")));
    let cli = Cli::parse();
    let quiet = "warn,wgpu_hal=off,wgpu_core=error,naga=error";
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(quiet)).init();
    let context = Context { machine: cli.machine, cancel: CancelToken::new(), part: Part::default() };
    stop_on_interrupt(context.cancel.clone(), context.part.clone());
    let outcome = catch_unwind(AssertUnwindSafe(|| match cli.command {
        Command::Bench(command) => command.run(&context),
        Command::Chat(command) => command.run(&context),
        Command::Check(command) => command.run(&context),
        Command::Devices(command) => command.run(&context),
        Command::Embed(command) => command.run(&context),
        Command::Generate(command) => command.run(&context),
        Command::Quantize(command) => command.run(&context),
        Command::Search(command) => command.run(&context),
        Command::Stream(command) => command.run(&context),
    }));
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failure(&error),
        Err(_) => {
            say("error", "a bug in thalweg or in a library that it uses; RUST_LOG=debug says where");
            ExitCode::from(1)
        }
    }
}

/// Ctrl-C ends a part of the work where there is one. Else it asks the engine to stop; what does not within a second
/// (reading a terminal, say) is ended.
fn stop_on_interrupt(cancel: CancelToken, part: Part) {
    let handler = move || {
        if part.cancel() {
            return;
        }
        cancel.cancel();
        std::thread::sleep(Duration::from_secs(1));
        std::process::exit(130);
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        log::warn!("Ctrl-C cannot be handled: {error}");
    }
}

fn failure(error: &anyhow::Error) -> ExitCode {
    if let Some(error) = error.downcast_ref::<Error>() {
        say("error", &error.to_string());
        return ExitCode::from(error.exit_code());
    }
    if let Some(Usage(what)) = error.downcast_ref::<Usage>() {
        say("error", what);
        return ExitCode::from(2);
    }
    // the library wraps its own, so that a bare one is about standard output
    if let Some(error) = error.downcast_ref::<io::Error>() {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return ExitCode::SUCCESS; // the reader has seen enough
        }
        say("error", &format!("cannot write the results: {error}"));
        return ExitCode::from(4);
    }
    say("error", &format!("{error:#}"));
    ExitCode::from(1)
}

/// Arguments that are well formed and make no sense.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A line on standard error, which may be closed: `eprintln!` would panic.
fn say(kind: &str, text: &str) {
    let _ = writeln!(io::stderr(), "{kind}: {text}");
}

/// Numbers with spaces or commas between.
#[derive(Clone)]
struct Ids(Vec<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        words
            .map(|word| word.parse().map_err(|_| format!("{word:?} is no token id")))
            .collect::<Result<_, _>>()
            .map(Ids)
    }
}

/// Says before long work, and not behind it, that what comes of it has no place. Leaves things as they were.
fn writable(path: &Path) -> Result<()> {
    let error = |error| Error::io(path, error);
    let there = path.exists();
    File::options().create(true).append(true).open(path).map_err(error)?;
    Ok(if there { Ok(()) } else { std::fs::remove_file(path).map_err(error) }?)
}

/// `1 token`, `2 tokens`.
fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Tokens of the batch that forms of kernels are timed on.
const TUNED_TOKENS: usize = 512;

/// What tuning has measured, for who asks to see it.
fn log_times(tuning: &Tuning) {
    for (choices, time) in &tuning.times {
        log::info!("{:.3} ms with {:?} and {:?}", time.as_secs_f64() * 1e3, choices.matmul, choices.attention);
    }
}
