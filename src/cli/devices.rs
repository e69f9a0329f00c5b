//! `thalweg devices`: the adapters of this machine, and what the engine can use of each.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use thalweg::gpu::adapters;
use thalweg::{AdapterChoice, Capabilities, Error, Gpu, LoadOptions, MemoryPlan};

use super::Context;

const NOTES: &str = "Example:
  thalweg devices --json";

/// Lists the GPUs and what they can do
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Devices {
    /// Prints one JSON object {"adapters":[…]}
    #[arg(long)]
    json: bool,
    /// Also what this model would take on each GPU: weights, cache of keys and values, buffers between kernels
    #[arg(long, value_name = "M")]
    model: Option<PathBuf>,
    /// Tokens that the cache should have room for
    #[arg(long, value_name = "N", requires = "model")]
    context: Option<usize>,
}

/// An adapter, opened as the other subcommands would open it.
struct Found {
    index: usize,
    info: wgpu::AdapterInfo,
    matrices: Vec<wgpu::wgt::CooperativeMatrixProperties>,
    gpu: Result<Gpu, Error>,
    plan: Option<MemoryPlan>,
}

impl Devices {
    pub fn run(self, context: &Context) -> Result<()> {
        let all = pollster::block_on(adapters(context.machine.backend));
        let wanted = context.machine.adapter.as_ref();
        let chosen = all.into_iter().enumerate().filter(|(i, a)| wanted.is_none_or(|w| fits(w, *i, &a.get_info())));
        let mut found: Vec<Found> = chosen.map(|(index, adapter)| Found::open(index, &adapter)).collect();
        if found.is_empty() {
            // the reason, in the words of the other subcommands
            context.gpu()?;
            return Err(Error::NoAdapter("none fits".into()).into());
        }
        if let Some(model) = &self.model {
            let model = thalweg::find_model(model)?;
            let options = LoadOptions { dtype: context.machine.dtype, context: self.context, ..Default::default() };
            for found in &mut found {
                let Ok(gpu) = &found.gpu else { continue };
                // what is wrong with the model is wrong on every adapter
                found.plan = Some(MemoryPlan::read(gpu, &model, &options)?);
            }
        }
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            let adapters: Vec<Value> = found.iter().map(Found::json).collect();
            serde_json::to_writer(&mut out, &json!({"adapters": adapters}))?;
            writeln!(out)?;
        } else {
            table(&mut out, &found)?;
            for found in &found {
                found.plan(&mut out)?;
            }
        }
        out.flush()?;
        Ok(())
    }
}

fn fits(wanted: &AdapterChoice, index: usize, info: &wgpu::AdapterInfo) -> bool {
    match wanted {
        AdapterChoice::Best => true,
        AdapterChoice::Index(n) => *n == index,
        AdapterChoice::Name(name) => info.name.to_lowercase().contains(&name.to_lowercase()),
    }
}

impl Found {
    fn open(index: usize, adapter: &wgpu::Adapter) -> Self {
        let (required_features, required_limits) = Gpu::required(adapter);
        let descriptor = wgpu::DeviceDescriptor { required_features, required_limits, ..Default::default() };
        let gpu = match pollster::block_on(adapter.request_device(&descriptor)) {
            Ok((device, queue)) => Gpu::from_host(adapter, device, queue),
            Err(e) => Err(Error::Unsuitable { adapter: adapter.get_info().name, what: e.to_string() }),
        };
        Found { index, info: adapter.get_info(), matrices: adapter.cooperative_matrix_properties(), gpu, plan: None }
    }

    fn capabilities(&self) -> Result<&Capabilities, &Error> {
        self.gpu.as_ref().map(Gpu::capabilities)
    }

    /// What the model takes here, and whether that fits.
    fn plan(&self, out: &mut impl Write) -> io::Result<()> {
        let (Some(plan), Ok(gpu)) = (&self.plan, &self.gpu) else { return Ok(()) };
        write!(out, "\n{}: {plan}", self.index)?;
        if plan.cache_per_token > 0 {
            let (each, most) = (plan.cache_per_token, plan.max_tokens);
            write!(out, " ({each} bytes a token; at most {most} tokens a session)")?;
        }
        match (plan.check(gpu), plan.available) {
            (Err(error), _) => writeln!(out, "\n   does not fit: {error}"),
            (Ok(()), Some(available)) => writeln!(out, "\n   fits into {} MiB", available >> 20),
            (Ok(()), None) => writeln!(out, "\n   how much memory the adapter has is not known"),
        }
    }

    fn kind(&self) -> &'static str {
        match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        }
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "index": self.index,
            "name": self.info.name,
            "backend": self.info.backend.to_str(),
            "kind": self.kind(),
            "driver": self.info.driver,
            "driver_info": self.info.driver_info,
            "vendor": self.info.vendor,
            "device": self.info.device,
            "usable": self.gpu.is_ok(),
        });
        match self.capabilities() {
            Err(error) => value["problem"] = json!(error.to_string()),
            Ok(has) => {
                value["f16"] = json!(has.f16);
                value["subgroups"] = has.subgroups.map_or(Value::Null, |s| json!({"min": s.min, "max": s.max}));
                let matrix = |m: &wgpu::wgt::CooperativeMatrixProperties| {
                    let (ab, c) = (format!("{:?}", m.ab_type), format!("{:?}", m.cr_type));
                    json!({"m": m.m_size, "n": m.n_size, "k": m.k_size,
                           "ab": ab.to_lowercase(), "c": c.to_lowercase()})
                };
                value["cooperative_matrices"] = self.matrices.iter().map(matrix).collect();
                value["timestamps"] = json!(has.timestamps);
                value["memory"] = json!(has.memory);
                let limits = &has.limits;
                value["limits"] = json!({
                    "max_buffer_size": limits.max_buffer_size,
                    "max_storage_buffer_binding_size": limits.max_storage_buffer_binding_size,
                    "max_storage_buffers_per_shader_stage": limits.max_storage_buffers_per_shader_stage,
                    "max_compute_workgroup_storage_size": limits.max_compute_workgroup_storage_size,
                    "max_compute_invocations_per_workgroup": limits.max_compute_invocations_per_workgroup,
                    "max_compute_workgroups_per_dimension": limits.max_compute_workgroups_per_dimension,
                });
            }
        }
        if let (Some(plan), Ok(gpu)) = (&self.plan, &self.gpu) {
            value["plan"] = json!({
                "weights": plan.weights,
                "cache": plan.cache,
                "cache_per_token": plan.cache_per_token,
                "context": plan.context,
                "scratch": plan.scratch,
                "total": plan.total(),
                "available": plan.available,
                "max_tokens": plan.max_tokens,
                "fits": plan.check(gpu).is_ok(),
            });
        }
        value
    }

    fn cells(&self) -> Vec<String> {
        let info = &self.info;
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_string();
        let (name, backend) = (info.name.clone(), info.backend.to_str().to_string());
        let mut cells = vec![self.index.to_string(), name, backend, self.kind().into(), driver];
        match self.capabilities() {
            Err(error) => cells.push(error.to_string()),
            Ok(has) => {
                let yes = |flag| if flag { "yes" } else { "no" }.to_string();
                let subgroups = match has.subgroups {
                    None => "no".into(),
                    Some(s) if s.min == s.max => s.min.to_string(),
                    Some(s) => format!("{}-{}", s.min, s.max),
                };
                let mut shapes: Vec<_> =
                    self.matrices.iter().map(|m| format!("{}x{}x{}", m.m_size, m.n_size, m.k_size)).collect();
                shapes.dedup();
                let shapes = if shapes.is_empty() { "no".into() } else { shapes.join(" ") };
                let binding = format!("{} MiB", has.limits.max_storage_buffer_binding_size >> 20);
                let memory = format!("{} KiB", has.limits.max_compute_workgroup_storage_size >> 10);
                cells.extend([yes(has.f16), subgroups, shapes, yes(has.timestamps), binding, memory]);
            }
        }
        cells
    }
}

const HEAD: [&str; 11] =
    ["#", "NAME", "BACKEND", "KIND", "DRIVER", "F16", "SUBGROUPS", "MATRICES", "TIMESTAMPS", "BINDING", "WORKGROUP"];

fn table(out: &mut impl Write, found: &[Found]) -> io::Result<()> {
    let mut rows = vec![HEAD.map(String::from).to_vec()];
    rows.extend(found.iter().map(Found::cells));
    // an adapter that cannot be used has its reason as the last cell, which widens no column
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|c| rows.iter().filter(|row| row.len() > c + 1 || row.len() == HEAD.len()).map(|row| row[c].len()).max())
        .map(|width| width.unwrap_or(0))
        .collect();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
