//! The house rules, checked: every kernel has its namesakes, host and shader declare the same, all WGSL passes naga and
//! tint and translates to every backend, and only the kernels that may write the residual stream do.

use std::collections::BTreeSet;
use std::path::Path;

use naga::back::{glsl, hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ScalarKind, TypeInner};
use thalweg::bench::PROBES;
use thalweg::kernels::link::{Dialect, SOURCES, link};
use thalweg::kernels::{Access, KERNELS, Kernel, Needs, ParamType, Variant};

fn stems(folder: &str, extension: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    std::fs::read_dir(&path)
        .unwrap_or_else(|e| panic!("{folder}: {e}"))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_string())
        .collect()
}

fn variants() -> impl Iterator<Item = Variant> {
    kernels().flat_map(|kernel| (kernel.variants)())
}

/// The kernels, and the benchmark's probes.
fn kernels() -> impl Iterator<Item = &'static Kernel> {
    KERNELS.iter().chain(PROBES)
}

#[test]
fn every_kernel_has_its_namesakes() {
    let inventory: BTreeSet<_> = KERNELS.iter().map(|k| k.name.to_string()).collect();
    let without = |folder: &str, others: &[&str]| -> BTreeSet<String> {
        stems(folder, "rs").into_iter().filter(|stem| !others.contains(&stem.as_str())).collect()
    };
    assert_eq!(stems("shaders", "wgsl"), inventory, "shaders/");
    assert_eq!(without("src/kernels", &["mod", "link", "activation", "product", "weight"]), inventory, "src/kernels/");
    assert_eq!(without("src/reference", &["mod", "quant"]), inventory, "src/reference/");
    let (kernels_share, models) = (["mod", "case", "random", "rig"], ["decomposed", "forward", "models", "pieces"]);
    let runner = ["expected", "invariants", "inventory", "report", "runner", "self_check"];
    let others = [&kernels_share[..], &models, &runner].concat();
    assert_eq!(without("src/check", &others), inventory, "src/check/");
    let parts = stems("shaders/parts", "wgsl").into_iter().map(|part| format!("parts/{part}"));
    let probes: BTreeSet<_> = PROBES.iter().map(|probe| probe.name.to_string()).collect();
    assert_eq!(stems("shaders/bench", "wgsl"), probes, "shaders/bench/");
    let probes = probes.into_iter().map(|probe| format!("bench/{probe}"));
    let files: BTreeSet<_> = stems("shaders", "wgsl").into_iter().chain(parts).chain(probes).collect();
    assert_eq!(SOURCES.iter().map(|(stem, _)| stem.to_string()).collect::<BTreeSet<_>>(), files, "SOURCES");
    let used: BTreeSet<_> = variants().flat_map(|v| v.parts).map(|part| format!("parts/{part}")).collect();
    assert!(files.iter().filter(|f| f.starts_with("parts/")).all(|f| used.contains(f)), "a part that nothing uses");
}

#[test]
fn labels_are_unique_and_name_their_kernel() {
    let mut seen = BTreeSet::new();
    for kernel in KERNELS {
        for variant in (kernel.variants)() {
            assert_eq!(variant.kernel, kernel.name);
            assert!(variant.label.starts_with(kernel.name), "{}", variant.label);
            assert!(seen.insert(variant.label.clone()), "{} twice", variant.label);
        }
        let needs_nothing = |v: &Variant| v.needs == Needs::NOTHING;
        assert!((kernel.variants)().iter().any(needs_nothing), "{} has no variant that runs everywhere", kernel.name);
    }
}

/// The linked variant, parsed, validated, and with its constants filled in.
fn compiled(variant: &Variant) -> (Module, ModuleInfo) {
    let linked = link(variant, Dialect::Naga);
    let parsed = naga::front::wgsl::parse_str(&linked.wgsl);
    let module =
        parsed.unwrap_or_else(|e| panic!("{}: {}", variant.label, linked.name_lines(&e.emit_to_string(&linked.wgsl))));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}: {e:?}", variant.label));
    let constants = variant.constants.iter().map(|(name, value)| (name.to_string(), f64::from(*value))).collect();
    let (module, info) = naga::back::pipeline_constants::process_overrides(&module, &info, None, &constants)
        .unwrap_or_else(|e| panic!("{}: {e}", variant.label));
    (module.into_owned(), info.into_owned())
}

#[test]
fn host_and_shader_declare_the_same() {
    for kernel in kernels() {
        for variant in (kernel.variants)() {
            let (module, _) = compiled(&variant);
            assert_eq!(module.entry_points.len(), 1, "{}", variant.label);
            assert_eq!(module.entry_points[0].name, kernel.name, "{}: the entry point's name", variant.label);
            let mut found = Vec::new();
            for (_, variable) in module.global_variables.iter() {
                let Some(binding) = &variable.binding else { continue };
                assert_eq!(binding.group, 0, "{}", variant.label);
                let access = match variable.space {
                    AddressSpace::Uniform => Access::Uniform,
                    AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
                        Access::ReadWrite
                    }
                    AddressSpace::Storage { .. } => Access::Read,
                    other => panic!("{}: a binding in {other:?}", variant.label),
                };
                found.push((binding.binding, variable.name.clone().unwrap(), access));
                if access == Access::Uniform {
                    assert_eq!(params(&module, variable.ty), kernel.params, "{}: the parameters", variant.label);
                }
            }
            found.sort_by_key(|(binding, ..)| *binding);
            let declared: Vec<_> = std::iter::once((0, "params".to_string(), Access::Uniform))
                .chain(variant.bindings.iter().zip(1..).map(|(b, i)| (i, b.name.to_string(), b.access)))
                .collect();
            assert_eq!(found, declared, "{}: the bindings", variant.label);
            assert!(variant.bindings.len() <= 8, "{}: more storage buffers than every device has", variant.label);
            let overrides: BTreeSet<_> = overrides(&variant);
            for (name, _) in &variant.constants {
                assert!(overrides.contains(*name), "{}: no override {name}", variant.label);
            }
        }
    }
}

fn overrides(variant: &Variant) -> BTreeSet<String> {
    let module = naga::front::wgsl::parse_str(&link(variant, Dialect::Naga).wgsl).unwrap();
    module.overrides.iter().filter_map(|(_, o)| o.name.clone()).collect()
}

/// Names and types of the parameter struct, which must be plain 4-byte words one behind another.
fn params(module: &Module, ty: naga::Handle<naga::Type>) -> Vec<(&'static str, ParamType)> {
    let TypeInner::Struct { members, .. } = &module.types[ty].inner else { panic!("params is no struct") };
    let words = members.iter().enumerate().map(|(i, member)| {
        assert_eq!(member.offset as usize, 4 * i);
        let TypeInner::Scalar(scalar) = module.types[member.ty].inner else { panic!("a parameter is no scalar") };
        let ty = match scalar.kind {
            ScalarKind::Uint => ParamType::U32,
            ScalarKind::Float => ParamType::F32,
            other => panic!("a parameter of {other:?}"),
        };
        (&*member.name.clone().unwrap().leak(), ty)
    });
    words.collect()
}

#[test]
fn limits_of_every_device_are_kept() {
    for variant in variants() {
        let (module, _) = compiled(&variant);
        let size = module.entry_points[0].workgroup_size.iter().product::<u32>();
        assert!((1..=256).contains(&size), "{}: {size} invocations", variant.label);
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let workgroup = |v: &naga::GlobalVariable| v.space == AddressSpace::WorkGroup;
        let bytes: u32 =
            module.global_variables.iter().filter(|(_, v)| workgroup(v)).map(|(_, v)| layouter[v.ty].size).sum();
        assert!(bytes <= 16384, "{}: {bytes} bytes of workgroup memory", variant.label);
    }
}

#[test]
fn every_variant_translates_to_every_backend() {
    for variant in variants() {
        let (module, info) = compiled(&variant);
        let (label, matrix) = (&variant.label, variant.needs.matrix);
        spv::write_vec(&module, &info, &spv::Options { lang_version: (1, 3), ..Default::default() }, None)
            .unwrap_or_else(|e| panic!("{label} to SPIR-V: {e}"));
        // Metal has cooperative matrices of 8 × 8, and DX12 none
        if matrix > 8 {
            continue;
        }
        let metal = msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
        msl::write_string(&module, &info, &metal, &Default::default())
            .unwrap_or_else(|e| panic!("{label} to MSL: {e}"));
        if matrix > 0 {
            continue;
        }
        let options =
            hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, fake_missing_bindings: true, ..Default::default() };
        let pipeline = hlsl::PipelineOptions::default();
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{label} to HLSL: {e}"));
        // OpenGL has no subgroup operations in naga's GLSL for every version: the variants without are its own
        if variant.needs == Needs::NOTHING {
            let options = glsl::Options {
                version: glsl::Version::Embedded { version: 310, is_webgl: false },
                ..Default::default()
            };
            let pipeline = glsl::PipelineOptions {
                shader_stage: naga::ShaderStage::Compute,
                entry_point: variant.kernel.into(),
                multiview: None,
            };
            let mut text = String::new();
            glsl::Writer::new(&mut text, &module, &info, &options, &pipeline, Default::default())
                .and_then(|mut writer| writer.write())
                .unwrap_or_else(|e| panic!("{label} to GLSL: {e}"));
        }
    }
}

/// tint, where it is on PATH: the other compiler that this WGSL must pass, with its uniformity analysis. Its cooperative
/// matrices are not naga's, and words of 64 bits are none of its.
#[test]
fn tint_accepts_all_wgsl() {
    let folder = tempfile::tempdir().unwrap();
    let missing = std::process::Command::new("tint").arg("--version").output().is_err();
    if missing {
        println!("skipped: tint is not on PATH");
        return;
    }
    for (i, variant) in variants().filter(portable).enumerate() {
        let path = folder.path().join(format!("{i}.wgsl"));
        std::fs::write(&path, link(&variant, Dialect::Tint).wgsl).unwrap();
        let out = std::process::Command::new("tint").args(["--format", "wgsl"]).arg(&path).output().unwrap();
        assert!(out.status.success(), "{}: {}", variant.label, String::from_utf8_lossy(&out.stderr));
    }
}

fn portable(variant: &Variant) -> bool {
    variant.needs.matrix == 0 && !variant.needs.features.contains(wgpu::Features::SHADER_INT64)
}

/// `embed`, the adders and the in-place norm are the only kernels that write the residual stream.
#[test]
fn only_the_named_kernels_write_the_stream() {
    for variant in variants() {
        let writes = variant.bindings.iter().any(|b| b.name == "stream" && b.access == Access::ReadWrite);
        let may = ["embed", "residual_add"].contains(&variant.kernel)
            || variant.parts.iter().any(|part| ["out_add", "norm_inplace"].contains(part));
        assert_eq!(writes, may, "{}", variant.label);
    }
}

#[test]
fn shader_files_say_what_they_are() {
    for (stem, text) in SOURCES {
        assert!(text.starts_with("// "), "{stem}.wgsl does not begin with what it is");
        assert!(!text.contains("keep in sync"), "{stem}.wgsl");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{stem}.wgsl has a line of over 120 characters");
    }
}

/// The README walks through a family's file, which must be the one that is there; the whole part stays short.
#[test]
fn the_readme_shows_a_familys_file_as_it_is() {
    let read = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (readme, family) = (read("README.md"), read("src/model/olmo2.rs"));
    let part = readme.split("## Adding a family").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    assert!(part.contains(family.trim_end()), "README.md shows another src/model/olmo2.rs");
    assert!(part.lines().count() < 80);
}

/// What the list of mutants says of one.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    kernel: String,
    filter: String,
    file: String,
    #[serde(default, rename = "race")]
    _race: bool,
    from: String,
    to: String,
    wrong: String,
}

#[test]
fn mutants_fit_the_tree_and_leave_no_kernel_out() {
    #[derive(serde::Deserialize)]
    struct List {
        mutants: Vec<Mutant>,
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lists = stems("tests/mutants", "json").into_iter().map(|stem| {
        let text = std::fs::read_to_string(root.join(format!("tests/mutants/{stem}.json"))).unwrap();
        serde_json::from_str::<List>(&text).unwrap_or_else(|e| panic!("{stem}: {e}"))
    });
    let mutants: Vec<Mutant> = lists.flat_map(|list| list.mutants).collect();
    let checks: Vec<String> = thalweg::check::inventory().into_iter().map(|check| check.name).collect();
    let kernels: BTreeSet<_> = KERNELS.iter().map(|k| k.name).chain(["block", "encoder", "decoder"]).collect();
    let table = std::fs::read_to_string(root.join("tests/mutants/README.md")).unwrap();
    let (mut names, mut files) = (BTreeSet::new(), BTreeSet::new());
    for Mutant { name, kernel, filter, file, from, to, wrong, .. } in &mutants {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{name}: {file}: {e}"));
        assert_eq!(text.matches(from.as_str()).count(), 1, "{name}: its text in {file}");
        assert!(from != to && names.insert(name), "{name} is there twice, or changes nothing");
        assert!(kernels.contains(kernel.as_str()), "{name}: no kernel {kernel}");
        assert!(checks.iter().any(|check| check.contains(filter)), "{name}: no check {filter}");
        assert!(table.contains(&format!("| {wrong} |")), "{name}: not in the table; run tests/mutants/run.py");
        files.insert(file.clone());
    }
    // the benchmark's own probes are verified by itself, and no check runs them
    let probes: BTreeSet<_> = PROBES.iter().flat_map(|probe| (probe.variants)()).flat_map(|v| v.parts).collect();
    let probed = |stem: &str| stem.starts_with("bench/") || probes.iter().any(|part| stem == format!("parts/{part}"));
    let shaders = SOURCES.iter().filter(|(stem, _)| !probed(stem)).map(|(stem, _)| format!("shaders/{stem}.wgsl"));
    // no driver that runs mutants has matrices of this size
    let shaders = shaders.filter(|file| !file.ends_with("_cooperative16.wgsl"));
    let hosts = KERNELS.iter().map(|kernel| format!("src/kernels/{}.rs", kernel.name));
    let without: Vec<_> = shaders.chain(hosts).filter(|file| !files.contains(file)).collect();
    assert!(without.is_empty(), "no mutant of {without:?}");
}
