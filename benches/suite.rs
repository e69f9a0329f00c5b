//! The benchmark of `thalweg bench` under `cargo bench`: ceilings, kernels and models, each verified before it is timed.
//!
//! `cargo bench --bench suite` runs the quick suite on the best adapter; `-- matmul` only what has that in its name, `-- --full`
//! everything. `THALWEG_MODEL` names a model that is measured as well.

use std::io;
use std::path::Path;

use anyhow::{Result, ensure};
use thalweg::bench::{Format, Options, Suite, run};
use thalweg::{Gpu, GpuOptions, LoadOptions};

fn main() -> Result<()> {
    env_logger::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let model = std::env::var_os("THALWEG_MODEL").map(|name| thalweg::find_model(Path::new(&name))).transpose()?;
    let options = Options {
        suite: if arguments.iter().any(|argument| argument == "--full") { Suite::Full } else { Suite::Quick },
        // cargo itself puts --bench behind the others
        filter: arguments.into_iter().find(|argument| !argument.starts_with("--")),
        seed: 1,
        model: model.map(|path| (path, LoadOptions::default())),
        ..Options::default()
    };
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let report = run(&gpu, &options, &|done, total, what| eprintln!("{done}/{total} {what}"))?;
    report.write(Format::Markdown, &mut io::stdout().lock())?;
    ensure!(report.wrong.is_empty(), "{} outputs are wrong", report.wrong.len());
    Ok(())
}
