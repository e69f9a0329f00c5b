//! Test vectors: ONNX's backend node tests on this machine's adapter, all of them by count and every skip by its reason;
//! and that what is wrong, damaged or unknown is never a pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use thalweg::check::{Machine, Record, Run, Status, VectorOutcome, run_vector, vector_checks};
use thalweg::files::{TensorData, TensorOut, safetensors};
use thalweg::{CancelToken, Error, Gpu, GpuOptions};

static GPU: LazyLock<Gpu> = LazyLock::new(|| {
    let gpu = Gpu::new_blocking(GpuOptions::default()).expect("an adapter");
    println!("on {}: {}", gpu.info().name, gpu.capabilities().summary());
    gpu
});

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx")
}

/// What the runner says of a folder's vectors.
fn records(dir: &Path) -> Vec<Record> {
    let machine = Machine::new(None, GPU.info());
    let run = Run { machine: &machine, seed: 0, expected: &[], arguments: "", cancel: &CancelToken::new() };
    run.all(&|| Gpu::new_blocking(GpuOptions::default()), &vector_checks(dir).unwrap(), &|_| ()).unwrap()
}

#[test]
fn every_backend_node_test_passes_or_says_why_not() {
    let records = records(&fixtures());
    let failures: Vec<_> = records.iter().filter(|r| r.status.fails()).collect();
    assert!(failures.is_empty(), "{failures:#?}");

    let mut passes = BTreeMap::new();
    for record in records.iter().filter(|r| r.status == Status::Pass) {
        *passes.entry(record.kernel.as_str()).or_insert(0) += 1;
        assert!(!record.variant.is_empty(), "{} ran no kernel", record.name);
        assert!(record.error.unwrap() <= record.tolerance, "{record:?}");
    }
    let expected = BTreeMap::from([
        ("Add", 2),
        ("Attention", 92),
        ("Gelu", 4),
        ("LayerNormalization", 19),
        ("MatMul", 7),
        ("RMSNormalization", 19),
        ("RotaryEmbedding", 8),
        ("Softmax", 7),
        ("Swish", 1),
    ]);
    assert_eq!(passes, expected);

    let reasons = |status| {
        let told = records.iter().filter(|r| r.status == status);
        told.filter_map(|r| Some((r.name.as_str(), r.reason.as_deref()?))).collect::<Vec<_>>()
    };
    let skips = [
        ("add_int16", "in.0 is I16: kernels take F32, F16 and BF16"),
        ("add_int8", "in.0 is I8: kernels take F32, F16 and BF16"),
        ("add_uint16", "in.0 is U16: kernels take F32, F16 and BF16"),
        ("add_uint32", "in.0 is U32: kernels take F32, F16 and BF16"),
        ("add_uint64", "in.0 is U64: kernels take F32, F16 and BF16"),
        ("add_uint8", "in.0 is U8: kernels take F32, F16 and BF16"),
        ("attention_local_window_gqa_rank4_mask", "softmax_precision 11: f64, and the kernels' softmax is f32"),
    ];
    assert_eq!(reasons(Status::Skip), skips);
    // the norm's mean and deviation stay in registers; every other output is compared
    let partly = reasons(Status::Pass);
    assert_eq!(partly.len(), 19, "{partly:#?}");
    for (name, reason) in partly {
        assert!(name.starts_with("layer_normalization"), "{name}: {reason}");
        assert_eq!(reason, "not compared, since no kernel produces it: out.1 (Mean), out.2 (InvStdDev)");
    }
}

#[test]
fn attention_is_the_models_own_where_it_says_all_of_it() {
    let kernels = |name: &str| run_vector(&GPU, &fixtures().join(format!("{name}.safetensors"))).unwrap().kernels;
    for name in ["attention_3d_gqa_causal", "attention_4d_diff_heads_sizes_softcap", "attention_bidirectional_window"] {
        let labels = kernels(name);
        assert!(labels.len() == 1 && labels[0].starts_with("attention["), "{name}: {labels:?}");
    }
    let cached = kernels("attention_4d_causal_with_past_and_present");
    assert!(cached[0] == "kv_store" && cached[1].contains("paged") && cached.len() == 2, "{cached:?}");
    let composed = kernels("attention_4d_with_past_and_present");
    assert_eq!(composed[..3], ["kv_store", "attention_scores", "residual_add"]);
}

/// A vector of the test's own, in a folder of its own.
struct Vector {
    tensors: Vec<(&'static str, Vec<usize>, Vec<f32>)>,
    metadata: BTreeMap<String, String>,
}

impl Vector {
    fn new(op: &str, tensors: &[(&'static str, &[usize], &[f32])]) -> Self {
        let pairs = [("op", op), ("opset", "24"), ("attributes", "{}"), ("source", "a test")];
        Vector {
            tensors: tensors.iter().map(|(name, shape, values)| (*name, shape.to_vec(), values.to_vec())).collect(),
            metadata: pairs.map(|(k, v)| (k.to_string(), v.to_string())).into(),
        }
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    fn write(&self, path: &Path) {
        let tensors: Vec<_> = self
            .tensors
            .iter()
            .map(|(name, shape, values)| TensorOut { name, shape, data: TensorData::F32(values) })
            .collect();
        safetensors::write(path, &tensors, &self.metadata).unwrap();
    }

    fn run(&self) -> VectorOutcome {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("case.safetensors");
        self.write(&path);
        let outcome = run_vector(&GPU, &path).unwrap();
        assert_eq!(outcome.name, "case");
        outcome
    }

    fn fails(&self, reason: &str) {
        self.ends(Status::Fail, reason);
    }

    fn skips(&self, reason: &str) {
        self.ends(Status::Skip, reason);
    }

    fn ends(&self, status: Status, reason: &str) {
        let outcome = self.run();
        let said = outcome.reason.clone().unwrap_or_default();
        assert!(outcome.status == status && said.contains(reason), "expected {status:?} {reason}, got {outcome:?}");
    }
}

const ONE: &[usize] = &[1];
const TWO: &[usize] = &[2];

/// 1 + 2 and 3 + 5, as `out.0` says.
fn sum(out: [f32; 2]) -> Vector {
    Vector::new("Add", &[("in.0", TWO, &[1.0, 3.0]), ("in.1", TWO, &[2.0, 5.0]), ("out.0", TWO, &out)])
}

#[test]
fn a_wrong_output_fails() {
    assert_eq!(sum([3.0, 8.0]).run().status, Status::Pass);
    sum([3.0, 8.1]).fails("8.0 instead of 8.1 at 1");
    sum([3.0, 8.0005]).fails("relative error");
    sum([3.0, f32::NAN]).fails("instead of NaN");
    sum([3.0, f32::INFINITY]).fails("instead of inf");
    // more is allowed where the file says so, and never less
    assert_eq!(sum([3.0, 8.0005]).with("tolerance", "1e-3").run().status, Status::Pass);
    assert_eq!(sum([3.0, 8.00001]).with("tolerance", "0").run().status, Status::Pass);
    sum([f32::NAN, 8.0]).with("tolerance", "1e30").fails("instead of NaN");
    sum([3.0, 8.0]).with("tolerance", "NaN").fails("`tolerance` is `NaN`");
    // infinite sums are right only where they are expected
    let large: &[f32] = &[3e38];
    let overflow = |out: f32| Vector::new("Add", &[("in.0", ONE, large), ("in.1", ONE, large), ("out.0", ONE, &[out])]);
    assert_eq!(overflow(f32::INFINITY).run().status, Status::Pass);
    overflow(3e38).fails("out.0");
}

/// What the backend node tests leave out.
#[test]
fn other_attributes_and_opsets_are_followed() {
    let x: [f32; 4] = [-3.0, -0.5, 0.25, 2.0];
    let swish = x.map(|x| x / (1.0 + (-1.5 * x).exp()));
    let vector = Vector::new("Swish", &[("in.0", &[4], &x), ("out.0", &[4], &swish)]);
    let outcome = vector.with("attributes", r#"{"alpha": 1.5}"#).run();
    assert_eq!(
        (outcome.status, &outcome.kernels[..]),
        (Status::Pass, &["gate", "gate[sigmoid]"].map(String::from)[..])
    );
    // before opset 13, a softmax is over all axes from its own on
    let sum: f32 = x.iter().map(|x| x.exp()).sum();
    let all = x.map(|x| x.exp() / sum);
    let softmax = |opset| {
        let vector = Vector::new("Softmax", &[("in.0", &[1, 2, 2], &x), ("out.0", &[1, 2, 2], &all)]);
        vector.with("attributes", r#"{"axis": 1}"#).with("opset", opset).run().status
    };
    assert_eq!((softmax("11"), softmax("13")), (Status::Pass, Status::Fail));
    // a row that is all of a mask's smallest finite number is no hidden row, and the kernels cannot tell
    let (q, v) = (("in.0", &[1, 1, 1, 1][..], &[1.0f32][..]), ("in.2", &[1, 1, 2, 1][..], &[4.0f32, 6.0][..]));
    let k = ("in.1", v.1, &[0.0f32, 0.0][..]);
    let masked = |mask: &[f32], z: f32| {
        let out = ("out.0", q.1, &[z][..]);
        Vector::new("Attention", &[q, k, v, ("in.3", &[1, 2], mask), out])
    };
    let (least, none) = (f32::MIN, f32::NEG_INFINITY);
    for (mask, z) in [([0.0, 0.0], 5.0), ([least, 0.0], 6.0), ([none, 0.0], 6.0), ([none, none], 0.0)] {
        assert_eq!(masked(&mask, z).run().status, Status::Pass, "{mask:?}");
    }
    masked(&[least, least], 5.0).skips("a row of nothing but numbers below");
    masked(&[least, none], 4.0).skips("a row of nothing but numbers below");
}

#[test]
fn what_no_kernel_claims_is_a_skip() {
    Vector::new("Conv", &[("in.0", ONE, &[1.0]), ("out.0", ONE, &[1.0])]).skips("no kernel does the operator `Conv`");
    sum([3.0, 8.0]).with("attributes", r#"{"axis": 1}"#).skips("attribute `axis` of Add is not followed");
    Vector::new("Swish", &[("in.0", ONE, &[0.0]), ("out.0", ONE, &[0.0])]).with("opset", "23").skips("no Swish");
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        Vector::new("Softmax", &[("in.0", ONE, &[odd]), ("out.0", ONE, &[1.0])]).skips("assume finite numbers");
    }
    Vector::new("Gelu", &[("in.0", &[0, 3], &[]), ("out.0", &[0, 3], &[])]).skips("in.0 is empty");
    // sizes that only multiplying makes
    let long: &[f32] = &vec![1.0; 1 << 13];
    let square = [("in.0", &[1usize << 13, 1][..], long), ("in.1", &[1, 1 << 13], long), ("out.0", ONE, &[1.0])];
    Vector::new("Add", &square).skips("elements of one buffer");
    Vector::new("MatMul", &square).skips("elements of one buffer");
    let gamma: &[f32] = &[1.0, 1.0, 2.0, 2.0];
    let norm = [("in.0", &[2usize, 2][..], gamma), ("in.1", &[2, 2], gamma), ("out.0", &[2, 2], gamma)];
    Vector::new("RMSNormalization", &norm).skips("differs from row to row");
}

#[test]
fn what_contradicts_itself_fails() {
    let x: &[f32] = &[1.0, 2.0];
    Vector::new("Add", &[("in.0", TWO, x), ("out.0", TWO, x)]).fails("in.1 is missing");
    Vector::new("Add", &[("in.0", TWO, x), ("in.1", TWO, x)]).fails("out.0 is missing");
    Vector::new("Add", &[]).fails("in.0 is missing");
    Vector::new("Add", &[("in.0", TWO, x), ("in.1", &[3], &[1.0; 3]), ("out.0", TWO, x)]).fails("broadcast");
    Vector::new("Add", &[("in.0", TWO, x), ("in.1", TWO, x), ("out.0", &[1, 2], &[2.0, 4.0])]).fails("shape [1, 2]");
    Vector::new("Gelu", &[("in.0", TWO, x), ("in.1", TWO, x), ("out.0", TWO, x)]).fails("Gelu has no in.1");
    Vector::new("Gelu", &[("in.0", TWO, x), ("out.0", TWO, x), ("out.1", TWO, x)]).fails("Gelu has no out.1");
    Vector::new("Gelu", &[("in.0", TWO, x), ("out.00", TWO, x)]).fails("`out.00`");
    Vector::new("MatMul", &[("in.0", TWO, x), ("in.1", &[3], &[1.0; 3]), ("out.0", &[], &[1.0])]).fails("2 columns");
    let sum = || sum([3.0, 8.0]);
    sum().with("attributes", "[1]").fails("expected an object");
    sum().with("attributes", "{").fails("not JSON");
    sum().with("opset", "new").fails("`opset` is `new`");
    Vector { metadata: BTreeMap::new(), ..sum() }.fails("no `op`");
    let softmax = || Vector::new("Softmax", &[("in.0", TWO, x), ("out.0", TWO, x)]);
    softmax().with("attributes", r#"{"axis": 1}"#).fails("axis 1 of a tensor of 1 dimensions");
    softmax().with("attributes", r#"{"axis": "last"}"#).fails("attribute axis is `last`");
    // attention whose heads do not divide, whose numbers of heads are left out, whose cache is half there
    let (eight, six) = (&[1.0f32; 8][..], &[1.0f32; 6][..]);
    let attention = |k: &[usize], extra: &[(&'static str, &[usize], &[f32])]| {
        let count: usize = k.iter().product();
        let q: (&str, &[usize], &[f32]) = ("in.0", &[1, 2, 2, 2], eight);
        let kv = [("in.1", k, &[1.0f32; 8][..count]), ("in.2", k, &[1.0; 8][..count]), ("out.0", q.1, eight)];
        Vector::new("Attention", &[&[q], &kv[..], extra].concat())
    };
    assert_eq!(attention(&[1, 2, 2, 2], &[]).run().status, Status::Pass);
    attention(&[1, 3, 1, 2], &[]).fails("2 heads of 2 for queries, 3 of 2 for keys");
    attention(&[1, 2, 4], &[]).fails("in.1 has shape [1, 2, 4]");
    attention(&[1, 2, 2, 2], &[("in.4", &[1, 2, 2, 2], eight)]).fails("one is missing");
    attention(&[1, 2, 2, 2], &[("in.3", &[2, 3], six)]).fails("3 columns for 2 keys");
    attention(&[1, 2, 2, 2], &[("in.6", ONE, &[2.0])]).fails("in.6 is F32, expected I64");
}

#[test]
fn a_damaged_file_is_an_outcome_and_an_empty_folder_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(vector_checks(&folder.path().join("none")), Err(Error::Io { .. })));
    assert!(matches!(vector_checks(folder.path()), Err(Error::File { .. })));
    let path = folder.path().join("b.safetensors");
    sum([3.0, 8.0]).write(&path);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(folder.path().join("a.safetensors"), &whole[..whole.len() - 1]).unwrap();
    std::fs::create_dir(folder.path().join("c.safetensors")).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no vector").unwrap();
    let records = records(folder.path());
    let ends: Vec<_> = records.iter().map(|r| (r.name.as_str(), r.kernel.as_str(), r.status)).collect();
    assert_eq!(ends, [("a", "vector", Status::Fail), ("b", "Add", Status::Pass), ("c", "vector", Status::Fail)]);
    assert!(records[0].reason.as_deref().unwrap().contains("a.safetensors"), "{:?}", records[0]);
    let repeat = records[0].repeat.as_deref().unwrap();
    assert!(repeat.ends_with("--filter 'a'"), "{repeat}");

    // whatever a byte becomes, the file has an outcome; and where it is data, not a pass
    let data = whole.len() - 24;
    for place in 0..whole.len() {
        for flip in [0x01, 0x40, 0x80] {
            let mut bytes = whole.clone();
            bytes[place] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            let outcome = run_vector(&GPU, &path).unwrap();
            let low_bits = place >= data && (place - data) % 4 < 2;
            assert!(place < data || low_bits || outcome.status != Status::Pass, "{place} {flip}: {outcome:?}");
        }
    }
}
