//! Compiled kernels: linked, compiled once per `Gpu`, with the bind group layout that the host half declares.

use std::collections::{HashMap, HashSet};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use super::kept::{hash, write_whole};
use super::scope::one_line;
use super::{Counters, Gpu};
use crate::error::{Error, Result};
use crate::kernels::{Access, Variant, link};

/// A compiled variant.
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// A variant, once it is compiled.
type Compiled = Mutex<Option<Arc<Pipeline>>>;

/// The compiled variants of a `Gpu`, by their labels.
#[derive(Default)]
pub(super) struct Pipelines {
    /// The lock of the map is held for a look; that of a label while it is compiled, so that others compile beside it.
    compiled: Mutex<HashMap<String, Arc<Compiled>>>,
    /// What the driver made of them, for the next program; none where the backend or the options have none.
    cache: OnceLock<wgpu::PipelineCache>,
    /// How many there were when the cache was written last.
    kept: Mutex<u64>,
}

/// A longer cache is not written: it holds what older versions of a driver or a program left in it.
const LONGEST_CACHE: usize = 256 << 20;

impl Gpu {
    /// The compiled form of a variant; compiled on first use.
    ///
    /// # Errors
    /// [`Error::Kernel`] with the compiler's message, which names the shader file and line.
    pub(crate) fn pipeline(&self, variant: &Variant) -> Result<Arc<Pipeline>> {
        let own = {
            let mut all = self.0.pipelines.compiled.lock().unwrap_or_else(PoisonError::into_inner);
            match all.get(&variant.label) {
                Some(own) => Arc::clone(own),
                None => Arc::clone(all.entry(variant.label.clone()).or_default()),
            }
        };
        let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = &*own {
            return Ok(Arc::clone(pipeline));
        }
        let pipeline = Arc::new(self.compile(variant)?);
        Counters::add(&self.counters().pipelines, 1);
        Ok(Arc::clone(own.insert(pipeline)))
    }

    /// Compiles what is not compiled yet, in as many threads as there are cores. Drivers of GPUs compile here; some software
    /// drivers do when a kernel first runs.
    ///
    /// # Errors
    /// As [`Gpu::pipeline`].
    pub(crate) fn compile_all(&self, variants: &[Variant]) -> Result<()> {
        let mut seen = HashSet::new();
        let variants: Vec<_> = variants.iter().filter(|v| seen.insert(&v.label) && !self.is_compiled(v)).collect();
        let threads = thread::available_parallelism().map_or(1, usize::from).min(variants.len());
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some(variant) = variants.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.pipeline(variant)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            let others = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            others.fold(own, Result::and)
        })
    }

    /// Whether there is nothing to wait for.
    fn is_compiled(&self, variant: &Variant) -> bool {
        let all = self.0.pipelines.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = all.get(&variant.label).map(Arc::clone) else { return false };
        drop(all);
        own.try_lock().is_ok_and(|own| own.is_some())
    }

    /// Takes what an earlier program on the same adapter, driver and version has kept, if it did.
    #[expect(
        unsafe_code,
        reason = "drivers believe what they are given as a cache; a hash says that it is what was kept"
    )]
    pub(super) fn open_pipeline_cache(&self) {
        let Some((path, about)) = self.pipeline_cache_file() else { return };
        let data = std::fs::read(&path).ok().and_then(|bytes| {
            let data = unsealed(&about, &bytes).map(<[u8]>::to_vec);
            if data.is_none() {
                log::warn!("{} is damaged and is not used: kernels are compiled again", path.display());
            }
            data
        });
        // SAFETY: the data is what `get_data` gave to a program of this version on an adapter of the same name, numbers and
        // driver: all of them, and every byte, are in the hash that was checked just now, and the folder is the user's own.
        let cache = self.scoped("pipeline cache", || unsafe {
            self.device().create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("thalweg"),
                data: data.as_deref(),
                // begins anew where the driver does not want it any more
                fallback: true,
            })
        });
        match cache {
            Ok(cache) => drop(self.0.pipelines.cache.set(cache)),
            Err(error) => log::debug!("no pipeline cache: {error}"),
        }
    }

    /// Keeps what was compiled for the next program, if anything was since the last time.
    pub(crate) fn keep_pipelines(&self) {
        let Pipelines { cache, kept, .. } = &self.0.pipelines;
        let (Some(cache), Some((path, about))) = (cache.get(), self.pipeline_cache_file()) else { return };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.counters().pipelines.load(Ordering::Relaxed);
        if *kept == now {
            return;
        }
        *kept = now;
        // a driver that has found all of it in the cache has nothing new to say
        match cache.get_data().map(|data| sealed(&about, &data)) {
            Some(bytes) if bytes.len() <= LONGEST_CACHE && std::fs::read(&path).ok().as_ref() != Some(&bytes) => {
                write_whole(&path, &bytes);
            }
            _ => {}
        }
    }

    /// Where they are kept, and what the file is about; none where the backend has no such thing, or nobody wants it.
    fn pipeline_cache_file(&self) -> Option<(std::path::PathBuf, String)> {
        let unwanted = self.0.options.as_ref().is_some_and(|options| options.skip_pipeline_cache);
        if unwanted || !self.device().features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let key = wgpu::util::pipeline_cache_key(self.info())?;
        Some((self.kept("pipelines", "bin")?, format!("{key}, {}", self.about())))
    }

    #[expect(unsafe_code, reason = "run-time checks make locally indexed code slow; the host proves the indices")]
    fn compile(&self, variant: &Variant) -> Result<Pipeline> {
        let refused = |message: String| Error::Kernel { kernel: variant.label.clone(), message };
        if !self.capabilities().offers(variant.needs) {
            return Err(refused(format!("it needs {:?}", variant.needs)));
        }
        let linked = link::link(variant, link::Dialect::Naga);
        let constants: Vec<(&str, f64)> = variant.constants.iter().map(|&(name, value)| (name, value.into())).collect();
        let compiled = self.scoped(&variant.label, || {
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(&variant.label),
                source: wgpu::ShaderSource::Wgsl(linked.wgsl.as_str().into()),
            };
            // SAFETY: the checks that this leaves out (indices, loop bounds) are proven by the host: every size in
            // the parameters is one that the bound buffers were allocated for, ids are checked against the
            // vocabulary before upload, every loop ends at such a size, and no kernel takes WGSL from outside.
            let module = unsafe {
                self.device().create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
            };
            let layout = self.bind_group_layout(variant);
            let pipeline_layout = self.device().create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&variant.label),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let pipeline = self.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&variant.label),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(variant.kernel),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    // every kernel writes its workgroup memory before reading it
                    zero_initialize_workgroup_memory: false,
                },
                cache: self.0.pipelines.cache.get(),
            });
            Pipeline { pipeline, layout }
        });
        compiled.map_err(|error| match error {
            Error::Internal { message, .. } => refused(linked.name_lines(&one_line(&message))),
            other => other,
        })
    }

    fn bind_group_layout(&self, variant: &Variant) -> wgpu::BindGroupLayout {
        let entries: Vec<_> = std::iter::once(Access::Uniform)
            .chain(variant.bindings.iter().map(|b| b.access))
            .enumerate()
            .map(|(binding, access)| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match access {
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        self.device().create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(&variant.label),
            entries: &entries,
        })
    }
}

/// Data behind a hash of it and of what it is about.
fn sealed(about: &str, data: &[u8]) -> Vec<u8> {
    let hash = hash(&[about.as_bytes(), data].concat());
    [&hash.to_le_bytes(), data].concat()
}

/// The data, where the hash in front of it is right.
fn unsealed<'a>(about: &str, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (_, data) = bytes.split_at_checked(8)?;
    (sealed(about, data) == bytes).then_some(data)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::gpu::GpuOptions;
    use crate::kernels::KERNELS;

    fn open(cache: &Path, skip_pipeline_cache: bool) -> Gpu {
        let options = GpuOptions { cache_dir: Some(cache.into()), skip_pipeline_cache, ..Default::default() };
        Gpu::new_blocking(options).expect("an adapter")
    }

    fn variants(gpu: &Gpu) -> Vec<Variant> {
        let all = KERNELS.iter().filter(|kernel| kernel.name != "matmul").flat_map(|kernel| (kernel.variants)());
        all.filter(|variant| gpu.capabilities().offers(variant.needs)).take(24).collect()
    }

    #[test]
    fn threads_compile_each_variant_once() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = open(folder.path(), true);
        let variants = variants(&gpu);
        let twice = [&variants[..], &variants].concat();
        thread::scope(|scope| {
            (0..3).for_each(|_| drop(scope.spawn(|| gpu.compile_all(&twice).unwrap())));
        });
        assert_eq!(gpu.counts().pipelines, variants.len() as u64);
        let of = |variant| gpu.pipeline(variant).unwrap();
        assert!(variants.iter().all(|variant| Arc::ptr_eq(&of(variant), &of(variant))));
        assert_eq!(gpu.counts().pipelines, variants.len() as u64);
    }

    /// The first error of several threads is told, and the others' kernels are there.
    #[test]
    fn what_does_not_compile_keeps_nothing_else_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = open(folder.path(), true);
        let variants = variants(&gpu);
        let wrong = Variant { constants: vec![("NO_SUCH_NAME", 1)], label: "wrong".into(), ..variants[0].clone() };
        let all = [std::slice::from_ref(&wrong), &variants].concat();
        let error = gpu.compile_all(&all).unwrap_err();
        assert!(matches!(&error, Error::Kernel { kernel, .. } if kernel == "wrong"), "{error}");
        assert!(gpu.compile_all(&all[1..]).is_ok());
        assert!(gpu.pipeline(&wrong).is_err(), "again");
    }

    #[test]
    fn what_is_compiled_is_kept_for_the_next_program() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), false);
        let variants = variants(&first);
        let Some((path, about)) = first.pipeline_cache_file() else {
            return assert!(!first.device().features().contains(wgpu::Features::PIPELINE_CACHE));
        };
        let compile = |gpu: &Gpu, variants: &[Variant]| {
            gpu.compile_all(variants).unwrap();
            gpu.keep_pipelines();
        };
        compile(&first, &[]);
        assert!(!path.exists(), "nothing to keep");
        compile(&first, &variants);
        let kept = std::fs::read(&path).unwrap();
        assert!(unsealed(&about, &kept).is_some());
        assert!(unsealed("another driver", &kept).is_none());
        // each of these is taken for what it is, and replaced
        let mut damaged = kept.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for bytes in [kept, damaged, b"short".to_vec(), Vec::new()] {
            std::fs::write(&path, bytes).unwrap();
            let next = open(folder.path(), false);
            compile(&next, &variants);
            assert!(unsealed(&about, &std::fs::read(&path).unwrap()).is_some());
        }
        // and who wants none has none
        let other = tempfile::tempdir().unwrap();
        compile(&open(other.path(), true), &variants);
        assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0);
    }
}
