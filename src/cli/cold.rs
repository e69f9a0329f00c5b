//! The cold starts of `thalweg bench`: this program again, in caches of its own, which are empty the first time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use thalweg::AdapterChoice;
use thalweg::bench::{Start, model_name, start};

use super::Context;

/// Where drivers keep what they have compiled: Mesa's, NVIDIA's, AMD's, and what follows the XDG folders; and the engine's.
const CACHES: [&str; 5] = [
    "MESA_SHADER_CACHE_DIR",
    "__GL_SHADER_DISK_CACHE_PATH",
    "AMD_SHADER_DISK_CACHE_PATH",
    "XDG_CACHE_HOME",
    "THALWEG_CACHE",
];

/// A folder that goes when this does.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("thalweg-cold-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts twice, with empty caches and with those that the first has filled.
pub fn starts(context: &Context, model: &Path) -> Result<Vec<Start>> {
    let folder = Folder::new()?;
    let mut all = Vec::new();
    for cache in ["empty", "warm"] {
        if context.cancel.is_cancelled() {
            return Err(thalweg::Error::Cancelled.into());
        }
        let mut child = Command::new(std::env::current_exe()?);
        child.args(["bench", "--cold-start"]).arg(model).args(arguments(context)).stdin(Stdio::null());
        child.envs(CACHES.map(|name| (name, &folder.0)));
        let output = child.output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let found: Start = serde_json::from_slice(&output.stdout)?;
        let name = model_name(model);
        all.push(Start { model: name, pipeline_cache: cache.into(), ..found });
    }
    Ok(all)
}

/// The options that choose the same machine again.
fn arguments(context: &Context) -> Vec<String> {
    let machine = &context.machine;
    let mut arguments = Vec::new();
    match &machine.adapter {
        Some(AdapterChoice::Index(index)) => arguments.extend(["--adapter".into(), index.to_string()]),
        Some(AdapterChoice::Name(name)) => arguments.extend(["--adapter".into(), name.clone()]),
        Some(AdapterChoice::Best) | None => {}
    }
    if let Some(name) = machine.backend.and_then(super::backend_name) {
        arguments.extend(["--backend".into(), name.into()]);
    }
    if machine.no_self_check {
        arguments.push("--no-self-check".into());
    }
    if machine.no_pipeline_cache {
        arguments.push("--no-pipeline-cache".into());
    }
    let dtype = format!("{:?}", machine.dtype).to_lowercase();
    arguments.extend(["--dtype".into(), dtype]);
    arguments
}

/// What the child does.
pub fn child(context: &Context, model: &Path) -> Result<()> {
    let adapter = context.machine.adapter.clone().unwrap_or_default();
    let options = context.gpu_options(adapter);
    println!("{}", serde_json::to_string(&start(options, model, context.load_options())?)?);
    Ok(())
}
