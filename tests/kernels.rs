//! The kernels' part of `thalweg check` on this machine's adapter, a test a kernel; and the checks' own tests: what is wrong
//! does not pass.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use thalweg::check::{Case, Check, Machine, Plan, Random, Record, Run, Status, choose, inventory, plans, run};
use thalweg::kernels::KERNELS;
use thalweg::schedule::Word;
use thalweg::{CancelToken, Error, Gpu, GpuOptions};

static GPU: LazyLock<Gpu> = LazyLock::new(|| {
    let gpu = Gpu::new_blocking(GpuOptions::default()).expect("an adapter");
    println!("on {}: {}", gpu.info().name, gpu.capabilities().summary());
    gpu
});

/// A fresh seed every run; a failure prints it.
static SEED: LazyLock<u64> = LazyLock::new(|| {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let fresh = now.map_or(1, |time| u64::from(time.subsec_nanos()));
    let seed = std::env::var("THALWEG_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(fresh);
    println!("THALWEG_SEED={seed}");
    seed
});

fn record(checks: &[Check]) -> Vec<Record> {
    let machine = Machine::new(None, GPU.info());
    let run = Run { machine: &machine, seed: *SEED, expected: &[], arguments: "", cancel: &CancelToken::new() };
    run.all(&|| Gpu::new_blocking(GpuOptions::default()), checks, &|_| {}).unwrap()
}

/// Every check of a kernel passes, or is skipped because this adapter cannot run it.
fn check(kernel: &str) {
    let checks: Vec<_> = choose(inventory(), false, None).into_iter().filter(|c| c.kernel == kernel).collect();
    assert!(!checks.is_empty());
    let records = record(&checks);
    assert_eq!(records.len(), checks.len());
    let failures: Vec<_> = records.iter().filter(|r| !matches!(r.status, Status::Pass | Status::Skip)).collect();
    assert!(failures.is_empty(), "{} failures:\n{failures:#?}", failures.len());
    assert!(records.iter().any(|r| r.status == Status::Pass));
}

macro_rules! a_test_for_each {
    ($($kernel:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($kernel)),*];
        $(
            #[test]
            fn $kernel() {
                check(stringify!($kernel));
            }
        )*
    };
}

a_test_for_each! {
    embed layer_norm rms_norm residual_add matmul matvec gate rope kv_store attention attention_split attention_merge
    attention_scores softmax attention_mix soft_cap pool l2_normalize sample edit split_heads summarize take logit_stats surprise block
    encoder decoder
}

#[test]
fn every_kernel_and_every_variant_has_checks() {
    let kernels: BTreeSet<_> = inventory().iter().map(|check| check.kernel).collect();
    assert_eq!(kernels, TESTED.iter().copied().collect(), "every kernel needs a test here");
    let seen: BTreeSet<_> = plans().iter().flat_map(|p| p.dispatches.clone()).map(|d| d.variant.label).collect();
    let variants: BTreeSet<_> = KERNELS.iter().flat_map(|k| (k.variants)()).map(|v| v.label).collect();
    assert_eq!(seen, variants, "the cases must run every variant of the inventory, and no other");
    // products lack some epilogues there, but none of their forms, weights and loads; attention for GPUs lacks biases and caps
    // with some sizes, but no form, size and load
    let default: BTreeSet<_> = plans().iter().filter(|p| !p.full).map(|p| p.label().to_string()).collect();
    for label in variants.difference(&default) {
        if label.contains(",tile,") || label.contains(",cooperative") && label.starts_with("attention[") {
            assert!(default.contains(&label.replace(",bias", "").replace(",cap", "")), "{label}");
            continue;
        }
        assert!(label.starts_with("matmul[") || label.starts_with("matvec["), "{label}");
        let stem = label.splitn(4, ',').take(3).collect::<Vec<_>>().join(",");
        let stem = stem.trim_end_matches(']');
        assert!([format!("{stem}]"), format!("{stem},bias,add]")].iter().all(|kept| default.contains(kept)), "{label}");
    }
}

#[test]
fn names_are_unique_and_choose() {
    let all = inventory();
    let names: BTreeSet<_> = all.iter().map(|check| check.name.clone()).collect();
    assert_eq!(names.len(), all.len());
    let full = all.iter().position(|check| check.full).unwrap();
    let name = all[full].name.clone();
    assert_eq!(choose(all, false, Some(&name)).len(), 1, "a whole name chooses what only full runs have");
    let gates = choose(inventory(), false, Some("gate["));
    assert!(gates.len() > 20 && gates.iter().all(|check| check.kernel == "gate"));
}

/// A case with inputs of its own.
fn made(fits: impl Fn(&Plan) -> bool) -> Case {
    let all = plans();
    let runs = |plan: &&Plan| !plan.needs().features.contains(wgpu::Features::SUBGROUP) && fits(plan);
    all.iter().find(runs).unwrap().make(&mut Random::new(*SEED))
}

#[test]
fn a_kernel_that_does_not_compile_is_an_error() {
    let right = made(|plan| plan.kernel == "embed");
    let mut case = right.clone();
    case.dispatches[0].variant.label = "embed[broken]".into();
    case.dispatches[0].variant.parts.clear();
    for _ in 0..2 {
        match run(&GPU, &case) {
            Err(Error::Kernel { kernel, message }) => {
                assert_eq!(kernel, "embed[broken]");
                assert!(message.contains("weight4") && message.contains("shaders/embed.wgsl:"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    right.judge(&run(&GPU, &right).unwrap()).unwrap();
}

/// The rig's own test: a kernel that computes the wrong thing, or leaves an output out, does not pass.
#[test]
fn a_wrong_kernel_fails() {
    let norm = made(|plan| plan.kernel == "layer_norm" && plan.shape.starts_with("7 rows of 384"));
    norm.judge(&run(&GPU, &norm).unwrap()).unwrap();
    // another epsilon, and one row less
    let mut wrong = norm.clone();
    wrong.dispatches[0].params[2] = Word::F32(0.01);
    wrong.judge(&run(&GPU, &wrong).unwrap()).unwrap_err();
    let mut wrong = norm.clone();
    wrong.dispatches[0].params[0] = Word::U32(6);
    wrong.judge(&run(&GPU, &wrong).unwrap()).unwrap_err();
    // a product without its last column leaves poison behind, also where the reference computes only some
    for large in [false, true] {
        let fits = |plan: &Plan| plan.kernel == "matmul" && (plan.dispatches.len() == 2) == large;
        let mut wrong = made(|plan| fits(plan) && plan.shape.contains("576") == large);
        wrong.judge(&run(&GPU, &wrong).unwrap()).unwrap();
        let Word::U32(columns) = wrong.dispatches[0].params[1] else { panic!("columns") };
        wrong.dispatches[0].params[1] = Word::U32(columns - 1);
        let fault = wrong.judge(&run(&GPU, &wrong).unwrap()).unwrap_err();
        assert!(fault.error.is_nan() && fault.what.contains("NaN"), "{fault}");
    }
    // one that writes past its buffer meets the guard words
    let mut wrong = made(|plan| plan.kernel == "residual_add");
    wrong.dispatches[0].params[1] = Word::U32(4);
    assert!(matches!(run(&GPU, &wrong), Err(Error::Internal { message, .. }) if message.contains("outside")));
}
