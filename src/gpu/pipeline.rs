//! Compiled kernels: linked, compiled once per `Gpu`, with the bind group layout that the host half declares.

use std::sync::Arc;

use super::scope::one_line;
use super::{Counters, Gpu};
use crate::error::{Error, Result};
use crate::kernels::{Access, Variant, link};

/// A compiled variant.
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

impl Gpu {
    /// The compiled form of a variant; compiled on first use.
    ///
    /// # Errors
    /// [`Error::Kernel`] with the compiler's message, which names the shader file and line.
    pub(crate) fn pipeline(&self, variant: &Variant) -> Result<Arc<Pipeline>> {
        let mut cache = self.0.pipelines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(pipeline) = cache.get(&variant.label) {
            return Ok(Arc::clone(pipeline));
        }
        let pipeline = Arc::new(self.compile(variant)?);
        Counters::add(&self.counters().pipelines, 1);
        cache.insert(variant.label.clone(), Arc::clone(&pipeline));
        Ok(pipeline)
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
                cache: None,
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
