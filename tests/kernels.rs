//! Every variant of every kernel on this machine's adapter: right, token-local, and repeatable to the bit.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use thalweg::check::{Case, Outputs, Random, cases, run};
use thalweg::kernels::{KERNELS, matmul::Form};
use thalweg::schedule::Slot;
use thalweg::{Gpu, GpuOptions};

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
    let mut tested = BTreeSet::new();
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
            let others = (0..tokens).filter(|&t| t != changed && of_same_sequence(t)).count();
            assert!(others == 0 || differ.len() > 1, "attention moved nothing: {}", case.shape);
        }
        if differ.contains(&changed) {
            tested.insert(case.kernel);
        }
    }
    for kernel in KERNELS.iter().filter(|k| k.token_local) {
        assert!(tested.contains(kernel.name), "{} never showed the change", kernel.name);
    }
    assert!(tested.contains("attention"));
}
