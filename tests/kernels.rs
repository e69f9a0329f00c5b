//! Every variant of every kernel on this machine's adapter: right, token-local, and repeatable to the bit.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use thalweg::check::{Case, Outputs, Random, cases, run};
use thalweg::kernels::{KERNELS, matmul::Form};
use thalweg::schedule::{Slot, Word};
use thalweg::{Error, Gpu, GpuOptions};

static GPU: LazyLock<Gpu> = LazyLock::new(|| {
    let gpu = Gpu::new_blocking(GpuOptions::default()).expect("an adapter");
    println!("on {}: {}", gpu.info().name, gpu.capabilities().summary());
    gpu
});

/// A fresh seed every run; a failure prints it.
fn seed() -> u64 {
    let nanoseconds = |d: std::time::Duration| d.as_nanos() as u64;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, nanoseconds);
    match std::env::var("THALWEG_SEED").ok().and_then(|s| s.parse().ok()) {
        Some(seed) => seed,
        None => now,
    }
}

fn runnable(case: &Case) -> bool {
    let subgroup = case.dispatches.iter().any(|d| d.variant.needs.contains(wgpu::Features::SUBGROUP));
    !subgroup || GPU.capabilities().subgroups.is_some()
}

fn bits(outputs: &Outputs) -> HashMap<Slot, Vec<u32>> {
    outputs.iter().map(|(slot, values)| (*slot, values.iter().map(|v| v.to_bits()).collect())).collect()
}

#[test]
fn every_variant_is_right_and_repeatable() {
    let seed = seed();
    println!("THALWEG_SEED={seed}");
    let mut seen = BTreeSet::new();
    let mut failures = Vec::new();
    for (i, case) in cases(seed).iter().enumerate() {
        seen.insert(case.label().to_string());
        if !runnable(case) {
            continue;
        }
        let outputs = run(&GPU, case).unwrap_or_else(|e| panic!("{} {}: {e}", case.label(), case.shape));
        if let Err(wrong) = case.judge(&outputs) {
            failures.push(wrong);
        }
        // a seventh of the cases again: the same bits
        if i % 7 == 0 && bits(&outputs) != bits(&run(&GPU, case).unwrap()) {
            failures.push(format!("{} {}: two runs differ", case.label(), case.shape));
        }
    }
    assert!(failures.is_empty(), "{} failures with THALWEG_SEED={seed}:\n{}", failures.len(), failures.join("\n"));
    let inventory: BTreeSet<_> = KERNELS.iter().flat_map(|k| (k.variants)()).map(|v| v.label).collect();
    assert_eq!(seen, inventory, "the cases must run every variant of the inventory, and no other");
}

#[test]
fn forms_of_matmul_agree_bit_for_bit() {
    // the cases of one form and of the next are the same shapes with other inputs: give both the same
    let all: Vec<_> = cases(7).into_iter().filter(|c| c.kernel == "matmul").collect();
    let (first, second) = all.split_at(all.len() / Form::ALL.len());
    for (a, b) in first.iter().zip(second) {
        assert_eq!(a.shape, b.shape);
        let mut b = b.clone();
        b.contents = a.contents.clone();
        let (x, y) = (run(&GPU, a).unwrap(), run(&GPU, &b).unwrap());
        assert_eq!(bits(&x), bits(&y), "{} and {} differ at {}", a.label(), b.label(), a.shape);
    }
}

/// Changes one token's inputs and demands that the outputs of other tokens keep their bits, kernel by kernel.
#[test]
fn only_attention_moves_information_between_tokens() {
    let mut random = Random::new(seed());
    let (mut tested, mut moved) = (BTreeSet::new(), false);
    for case in cases(11).iter().filter(|c| runnable(c) && !c.token_rows.is_empty()) {
        let (slot, width) = case.token_rows[0];
        let tokens = case.contents_of(slot).len() / 4 / width;
        if !(3..=1000).contains(&tokens) {
            continue;
        }
        let changed = random.below(tokens);
        let before = run(&GPU, case).unwrap();
        let after = run(&GPU, &case.with_changed_row(slot, width, changed)).unwrap();
        let (out, width) = *case.token_rows.last().unwrap();
        let rows = |outputs: &Outputs| -> Vec<Vec<u32>> {
            bits(outputs)[&out].chunks_exact(width).map(<[u32]>::to_vec).collect()
        };
        let (before, after) = (rows(&before), rows(&after));
        let differ: Vec<_> = (0..tokens).filter(|&t| before[t] != after[t]).collect();
        let of_same_sequence = |t: usize| {
            let sequences = case.batch.sequences();
            sequences.iter().any(|r| r.contains(&t) && r.contains(&changed))
        };
        let kernel = KERNELS.iter().find(|k| k.name == case.kernel).unwrap();
        if kernel.token_local {
            assert!(differ.iter().all(|&t| t == changed), "{} {}: {differ:?}", case.label(), case.shape);
        } else {
            assert_eq!(case.kernel, "attention");
            assert!(differ.iter().all(|&t| of_same_sequence(t)), "{}: {differ:?}", case.shape);
            moved |= differ.iter().any(|&t| t != changed);
        }
        if differ.contains(&changed) {
            tested.insert(case.kernel);
        }
    }
    for kernel in KERNELS.iter().filter(|k| k.token_local) {
        assert!(tested.contains(kernel.name), "{} never showed the change", kernel.name);
    }
    assert!(tested.contains("attention") && moved, "attention moved nothing");
}

#[test]
fn a_kernel_that_does_not_compile_is_an_error() {
    let mut case = cases(3).remove(0);
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
    let case = cases(3).remove(0);
    case.judge(&run(&GPU, &case).unwrap()).unwrap();
}

/// The rig's own test: a kernel that computes the wrong thing, or leaves an output out, does not pass.
#[test]
fn a_wrong_kernel_fails() {
    let all = cases(5);
    let norm =
        all.iter().find(|c| c.kernel == "layer_norm" && runnable(c) && c.shape.contains("7 rows of 384")).unwrap();
    // another epsilon, and one row less
    let mut wrong = norm.clone();
    wrong.dispatches[0].params[2] = Word::F32(0.01);
    wrong.judge(&run(&GPU, &wrong).unwrap()).unwrap_err();
    let mut wrong = norm.clone();
    wrong.dispatches[0].params[0] = Word::U32(6);
    wrong.judge(&run(&GPU, &wrong).unwrap()).unwrap_err();
    // a product without its last column leaves poison behind
    let product = all.iter().find(|c| c.kernel == "matmul" && c.dispatches.len() == 1).unwrap();
    let mut wrong = product.clone();
    wrong.dispatches[0].params[1] = Word::U32(0);
    wrong.judge(&run(&GPU, &wrong).unwrap()).unwrap_err();
    // one that writes past its buffer meets the guard words
    let add = all.iter().find(|c| c.kernel == "residual_add").unwrap();
    let mut wrong = add.clone();
    wrong.dispatches[0].params[1] = Word::U32(4);
    assert!(matches!(run(&GPU, &wrong), Err(Error::Internal { message, .. }) if message.contains("outside")));
}
