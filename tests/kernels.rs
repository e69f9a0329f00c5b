//! Every variant of every kernel on this machine's adapter: right, token-local, and repeatable to the bit.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use thalweg::check::{Case, Outputs, Random, cases, run};
use thalweg::kernels::{KERNELS, attention, matmul::Form, rope::Rope};
use thalweg::schedule::{Batch, Input, Slot, Tile, Word};
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

/// Every case, made once: the references take longer than the kernels.
static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let seed = seed();
    println!("THALWEG_SEED={seed}");
    cases(seed)
});

fn runnable(case: &Case) -> bool {
    let subgroup = case.dispatches.iter().any(|d| d.variant.needs.contains(wgpu::Features::SUBGROUP));
    !subgroup || GPU.capabilities().subgroups.is_some()
}

fn bits(outputs: &Outputs) -> HashMap<Slot, Vec<u32>> {
    outputs.iter().map(|(slot, values)| (*slot, values.iter().map(|v| v.to_bits()).collect())).collect()
}

#[test]
fn every_variant_is_right_and_repeatable() {
    let mut seen = BTreeSet::new();
    let mut failures = Vec::new();
    for (i, case) in CASES.iter().enumerate() {
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
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    let inventory: BTreeSet<_> = KERNELS.iter().flat_map(|k| (k.variants)()).map(|v| v.label).collect();
    assert_eq!(seen, inventory, "the cases must run every variant of the inventory, and no other");
}

#[test]
fn forms_of_matmul_agree_bit_for_bit() {
    // the cases of one form and of the next are the same shapes with other inputs: give both the same
    let all: Vec<_> = CASES.iter().filter(|c| c.kernel == "matmul").cloned().collect();
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
    for case in CASES.iter().filter(|c| runnable(c) && !c.token_rows.is_empty()) {
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
            assert!(["attention", "attention_split"].contains(&case.kernel), "{}", case.kernel);
            // of a sequence in a cache, another query's row changes nothing: its keys are there already
            assert!(differ.iter().all(|&t| t == changed || of_same_sequence(t)), "{}: {differ:?}", case.shape);
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

/// Keys are taken in groups counted from a sequence's first: cutting a prompt anywhere changes no bit.
#[test]
fn a_prompt_in_chunks_has_the_bits_of_one_in_one_go() {
    let mut tested = 0;
    for case in CASES.iter().filter(|c| c.kernel == "attention" && c.shape.ends_with("[(0, 150)]")) {
        let whole = &bits(&run(&GPU, case).unwrap())[&Slot::Scratch(1)];
        let pages: Vec<u32> = bytemuck::pod_collect_to_vec(case.contents_of(Slot::Input(Input::Pages)));
        let part = |slot, from: usize, to: usize| {
            let all = case.contents_of(slot);
            all[all.len() / 150 * from..all.len() / 150 * to].to_vec()
        };
        // within a page and at its end, within a group of 8 and at its end, one token, several tiles
        for cuts in [&[0, 1, 7, 8, 61, 66, 150][..], &[0, 64, 128, 149, 150], &[0, 75, 150]] {
            let mut chunks: Vec<u32> = Vec::new();
            for cut in cuts.windows(2) {
                let mut chunk = case.clone();
                chunk.batch = Batch::new(attention::tile(8));
                chunk.batch.push_cached(&vec![0; cut[1] - cut[0]], cut[0] as u32, &pages, None, &[]);
                for slot in [Slot::Scratch(0), Slot::Scratch(1)] {
                    chunk.contents.insert(slot, part(slot, cut[0], cut[1]));
                }
                chunks.extend(&bits(&run(&GPU, &chunk).unwrap())[&Slot::Scratch(1)]);
            }
            assert!(chunks == *whole, "{} {} in chunks at {cuts:?} differs", case.label(), case.shape);
            tested += 1;
        }
    }
    assert!(tested > 0);
}

/// The fused store does what rope and a copy do, to the bit.
#[test]
fn kv_store_has_the_bits_of_rope_and_a_copy() {
    let mut turned = 0;
    for case in CASES.iter().filter(|c| c.kernel == "kv_store") {
        let outputs = bits(&run(&GPU, case).unwrap());
        let [.., heads, kv_heads, head_size, pairs, _] = case.dispatches[0].params[..] else { panic!("parameters") };
        let number = |word| if let Word::U32(n) = word { n as usize } else { panic!("{word:?}") };
        let [heads, kv_heads, head_size, pairs] = [heads, kv_heads, head_size, pairs].map(number);
        let (q, kv) = (heads * head_size, 2 * kv_heads * head_size);
        let rows = Slot::Scratch(0);
        let mut plain: Vec<u32> = bytemuck::pod_collect_to_vec(case.contents_of(rows));
        if pairs > 0 {
            let rope = Rope {
                interleaved: false,
                angles: Input::Angles,
                rows,
                stride: q + kv,
                first: 0,
                heads: heads + kv_heads,
                head_size,
                pairs,
            };
            let mut rope_case = case.clone();
            rope_case.dispatches = vec![rope.dispatch()];
            plain = bits(&run(&GPU, &rope_case).unwrap())[&rows].clone();
            turned += 1;
        }
        let tokens: Vec<[u32; 4]> = bytemuck::pod_collect_to_vec(case.contents_of(Slot::Input(Input::Tokens)));
        for (i, (token, plain)) in tokens.iter().zip(plain.chunks_exact(q + kv)).enumerate() {
            let at = i * (q + kv);
            assert!(outputs[&rows][at..at + q] == plain[..q], "{}: queries of {i}", case.shape);
            let stored = &outputs[&Slot::Cache(0)][token[3] as usize * kv..][..kv];
            assert!(*stored == plain[q..], "{}: keys and values of {i}", case.shape);
        }
    }
    assert!(turned > 0);
}

/// A row of `matvec` has the same bits alone, among the first few, and among all.
#[test]
fn rows_of_matvec_do_not_know_of_each_other() {
    let mut tested = BTreeSet::new();
    for case in CASES.iter().filter(|c| c.kernel == "matvec") {
        let [(input, depth), (output, columns)] = case.token_rows[..] else { panic!("{}", case.shape) };
        let rows = case.contents_of(input).len() / 4 / depth;
        // once with each form, weight, load and activation
        if !(2..=16).contains(&rows) || case.label().contains("bias") || !tested.insert(case.label().to_string()) {
            continue;
        }
        let all = &bits(&run(&GPU, case).unwrap())[&output];
        for range in [0..1, rows - 1..rows, 0..2, rows / 2..rows] {
            let mut some = case.clone();
            some.batch = Batch::new(1);
            some.batch.push(range.clone().map(|i| (0, i as u32, 0)), 0);
            for (slot, width) in &case.token_rows {
                let kept = case.contents_of(*slot)[4 * width * range.start..4 * width * range.end].to_vec();
                some.contents.insert(*slot, kept);
            }
            let out = &bits(&run(&GPU, &some).unwrap())[&output];
            assert!(*out == all[columns * range.start..columns * range.end], "{} {range:?}", case.shape);
        }
    }
    assert!(tested.iter().any(|label| label.contains("columns")) && tested.iter().any(|label| label.contains("depth")));
}

/// A decode step's splits are counted from a sequence's first key: it has the same bits alone and beside longer ones.
#[test]
fn decode_attention_does_not_know_of_other_sequences() {
    let (mut tested, mut shorter) = (BTreeSet::new(), 0);
    for case in CASES.iter().filter(|c| c.kernel == "attention_split" && runnable(c)) {
        // once with each head size, load and reduction
        if case.label().contains("cap") || (case.shape.contains("(270, 1)") && !tested.insert(case.label())) {
            continue;
        }
        let z = Slot::Scratch(1);
        let together = &bits(&run(&GPU, case).unwrap())[&z];
        let tiles: Vec<Tile> = bytemuck::pod_collect_to_vec(case.contents_of(Slot::Input(Input::Tiles)));
        let pages: Vec<u32> = bytemuck::pod_collect_to_vec(case.contents_of(Slot::Input(Input::Pages)));
        let step = |tile: &&Tile| tile.position + 1 == tile.length;
        for tile in tiles.iter().filter(step) {
            let mut alone = case.clone();
            alone.batch = Batch::new(1);
            alone.batch.push_cached(&[0], tile.position, &pages[tile.keys as usize..], None, &[]);
            for (slot, width) in &case.token_rows {
                let at = 4 * tile.row as usize * width;
                alone.contents.insert(*slot, case.contents_of(*slot)[at..at + 4 * width].to_vec());
            }
            let out = &bits(&run(&GPU, &alone).unwrap())[&z];
            let at = tile.row as usize * out.len();
            assert!(*out == together[at..at + out.len()], "{} {}: row {}", case.label(), case.shape, tile.row);
            shorter += usize::from(alone.batch.dims().splits < case.batch.dims().splits);
        }
    }
    assert!(shorter > 10, "no sequence stood beside a longer one");
}

#[test]
fn a_kernel_that_does_not_compile_is_an_error() {
    let mut case = CASES[0].clone();
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
    let case = CASES[0].clone();
    case.judge(&run(&GPU, &case).unwrap()).unwrap();
}

/// The rig's own test: a kernel that computes the wrong thing, or leaves an output out, does not pass.
#[test]
fn a_wrong_kernel_fails() {
    let all = &*CASES;
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
