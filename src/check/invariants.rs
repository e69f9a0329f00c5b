//! What must hold whatever the numbers are, to the bit. Repeats, and that other tokens keep their bits, are part of every
//! case; here is what takes several cases, or other batches than theirs.

use std::collections::{BTreeSet, HashMap};

use super::case::{Case, Plan};
use super::inventory::{Check, Wrong, bits};
use super::plans;
use super::random::Random;
use super::rig::run;
use crate::gpu::Gpu;
use crate::kernels::attention::tile;
use crate::kernels::matmul::Form;
use crate::kernels::rope::Rope;
use crate::kernels::{KERNELS, WeightType};
use crate::schedule::{Batch, Input, Slot, Tile, Word};

pub fn checks() -> Vec<Check> {
    let mut all = Vec::new();
    for kernel in KERNELS {
        all.push(invariant(kernel.name, "a token's change shows in its own row", change_shows));
    }
    // a kernel without rows of tokens has none to change
    all.retain(|check| check.kernel != "pool");
    for weight_type in WeightType::ALL {
        let name = format!("matmul: forms agree bit for bit, {} weights", weight_type.name());
        all.push(Check::new("matmul", name, move |gpu, random| forms_agree(gpu, random, weight_type)));
    }
    all.push(invariant("matvec", "rows do not know of each other", |gpu, random, kernel| {
        rows_alone(gpu, random, kernel, kernel)
    }));
    for form in Form::ALL.into_iter().filter(|form| form.cooperates()) {
        let name = format!("matmul: rows of {} do not know of each other", form.name());
        let label = format!("matmul[{}", form.name());
        let work = move |gpu: &Gpu, random: &mut Random| rows_alone(gpu, random, "matmul", &label);
        all.push(Check { needs: form.needs(), ..Check::new("matmul", name, work) });
    }
    all.push(invariant("attention", "forms agree bit for bit", attention_forms_agree));
    all.push(invariant("attention", "a prompt in chunks has the bits of one in one go", chunks));
    all.push(invariant(
        "attention_split",
        "a sequence has the same bits alone and beside longer ones",
        sequences_alone,
    ));
    all.push(invariant("kv_store", "the bits of rope and a copy", rope_and_copy));
    all
}

type Work = fn(&Gpu, &mut Random, &'static str) -> Result<f64, Wrong>;

fn invariant(kernel: &'static str, what: &str, work: Work) -> Check {
    Check::new(kernel, format!("{kernel}: {what}"), move |gpu, random| work(gpu, random, kernel))
}

/// The cases of a kernel that this device can run and the default set has.
fn plans_of(gpu: &Gpu, kernel: &str) -> Vec<Plan> {
    let runs = |plan: &Plan| plan.kernel == kernel && !plan.full && gpu.capabilities().offers(plan.needs());
    plans().into_iter().filter(runs).collect()
}

/// What differs, or nothing was found to test.
fn outcome(tested: bool, differs: Option<String>) -> Result<f64, Wrong> {
    match (tested, differs) {
        (_, Some(what)) => Err(Wrong::bits(what)),
        (false, None) => Err(Wrong::bits("no case fits".into())),
        (true, None) => Ok(0.0),
    }
}

/// Tokens of a case whose rows can be changed, where there are some and not too many.
pub(super) fn changeable(case: &Case) -> Option<usize> {
    let (slot, width) = *case.token_rows.first()?;
    let tokens = case.contents_of(slot).len() / 4 / width;
    ((3..=1000).contains(&tokens) && case.sampled.is_empty()).then_some(tokens)
}

/// The tokens whose outputs change with the inputs of one of them.
pub(super) fn moved(
    gpu: &Gpu,
    case: &Case,
    before: &HashMap<Slot, Vec<u32>>,
    changed: usize,
) -> Result<Vec<usize>, Wrong> {
    let (Some(&(slot, width)), Some(&(out, out_width))) = (case.token_rows.first(), case.token_rows.last()) else {
        return Ok(Vec::new());
    };
    let after = bits(run(gpu, &case.with_changed_row(slot, width, changed))?);
    let rows = before[&out].chunks_exact(out_width).zip(after[&out].chunks_exact(out_width));
    Ok(rows.enumerate().filter(|(_, (a, b))| a != b).map(|(token, _)| token).collect())
}

/// Without this, that others keep their bits would say nothing. Of attention, others must change too.
fn change_shows(gpu: &Gpu, random: &mut Random, kernel: &'static str) -> Result<f64, Wrong> {
    let local = KERNELS.iter().any(|k| k.name == kernel && k.token_local) || kernel == "attention_split";
    for plan in plans_of(gpu, kernel) {
        let case = plan.make(random);
        let Some(tokens) = changeable(&case) else { continue };
        let (before, first) = (bits(run(gpu, &case)?), random.below(tokens));
        // not every row is one that others read
        for changed in (first..tokens).chain(0..first) {
            let moved = moved(gpu, &case, &before, changed)?;
            if moved.contains(&changed) && (local || moved.len() > 1) {
                return Ok(0.0);
            }
        }
    }
    outcome(false, None)
}

/// Every form of every product with the inputs of the first, and the plainest where it computes the same.
fn forms_agree(gpu: &Gpu, random: &mut Random, weight_type: WeightType) -> Result<f64, Wrong> {
    let all = plans_of(gpu, "matmul");
    let stem = |plan: &Plan| plan.label().split(',').skip(1).collect::<Vec<_>>().join(",");
    let of = |form: Form| {
        let label = format!("matmul[{},{}", form.name(), weight_type.name());
        all.iter().filter(|plan| plan.label().starts_with(&label)).collect::<Vec<_>>()
    };
    let firsts = of(Form::Register);
    // a form lacks the cases that another one takes in its place; the others are in the same order
    let others = Form::on(gpu.capabilities()).filter(|other| !other.cooperates() && *other != Form::Register);
    let mut others: Vec<_> = others.map(|form| of(form).into_iter().peekable()).collect();
    for first in &firsts {
        let case = first.make(random);
        let plainly = bits(run(gpu, &case)?);
        for other in &mut others {
            let same = |plan: &&Plan| (&first.shape, stem(first)) == (&plan.shape, stem(plan));
            let Some(other) = other.next_if(same) else { continue };
            let second = Case { dispatches: other.dispatches.clone(), ..case.clone() };
            if plainly != bits(run(gpu, &second)?) {
                let what = format!("{} and {} differ at {}", case.label(), second.label(), case.shape);
                return outcome(true, Some(what));
            }
        }
    }
    let all_met = others.iter_mut().all(|other| other.next().is_none());
    outcome(!firsts.is_empty() && all_met, None)
}

/// Every form of attention with the inputs of the first, where both have such a case.
fn attention_forms_agree(gpu: &Gpu, random: &mut Random, kernel: &'static str) -> Result<f64, Wrong> {
    let stem = |plan: &Plan| {
        ["subgroup,", "registers,", "tile,"].iter().fold(plan.label().to_string(), |label, tag| label.replace(tag, ""))
    };
    let all = plans_of(gpu, kernel);
    let (firsts, others): (Vec<_>, Vec<_>) =
        all.iter().filter(|plan| plan.needs().matrix == 0).partition(|plan| stem(plan) == plan.label());
    let mut alike: HashMap<_, Vec<&Plan>> = HashMap::new();
    others.iter().for_each(|plan| alike.entry((plan.shape.clone(), stem(plan))).or_default().push(plan));
    let mut met = BTreeSet::new();
    for first in firsts {
        // one of each label is enough: models are run with every form too
        let Some(others) = alike.get(&(first.shape.clone(), stem(first))) else { continue };
        let others: Vec<_> = others.iter().filter(|other| !met.contains(other.label())).collect();
        if others.is_empty() {
            continue;
        }
        let case = first.make(random);
        let plainly = bits(run(gpu, &case)?);
        for other in others {
            let second = Case { dispatches: other.dispatches.clone(), ..case.clone() };
            if plainly != bits(run(gpu, &second)?) {
                let what = format!("{} and {} differ at {}", case.label(), second.label(), case.shape);
                return outcome(true, Some(what));
            }
            met.insert(other.label());
        }
    }
    outcome(others.iter().all(|other| met.contains(other.label())), None)
}

/// A row has the same bits alone, among the first few, and among all; once with each variant whose label begins like that.
fn rows_alone(gpu: &Gpu, random: &mut Random, kernel: &'static str, label: &str) -> Result<f64, Wrong> {
    let mut tested = BTreeSet::new();
    for plan in plans_of(gpu, kernel) {
        if !plan.label().starts_with(label) || plan.label().contains("bias") || tested.contains(plan.label()) {
            continue;
        }
        let case = plan.make(random);
        let [(input, depth), (output, columns)] = case.token_rows[..] else { continue };
        let rows = case.contents_of(input).len() / 4 / depth;
        if !(2..=80).contains(&rows) || !case.sampled.is_empty() {
            continue;
        }
        tested.insert(plan.label().to_string());
        let all = &bits(run(gpu, &case)?)[&output];
        for range in [0..1, rows - 1..rows, 0..2, rows / 2..rows] {
            let mut some = case.clone();
            some.batch = Batch::new(1);
            some.batch.push(range.clone().map(|i| (0, i as u32, 0)), 0);
            for (slot, width) in &case.token_rows {
                let kept = case.contents_of(*slot)[4 * width * range.start..4 * width * range.end].to_vec();
                some.contents.insert(*slot, kept);
            }
            if bits(run(gpu, &some)?)[&output] != all[columns * range.start..columns * range.end] {
                return outcome(true, Some(format!("{} {}: rows {range:?}", case.label(), case.shape)));
            }
        }
    }
    outcome(tested.len() > 10, None)
}

/// Keys are taken in groups counted from a sequence's first: cutting a prompt anywhere changes no bit.
fn chunks(gpu: &Gpu, random: &mut Random, kernel: &'static str) -> Result<f64, Wrong> {
    let mut tested = false;
    for plan in plans_of(gpu, kernel).iter().filter(|plan| plan.shape.ends_with("[(0, 150)]")) {
        let case = plan.make(random);
        let whole = &bits(run(gpu, &case)?)[&Slot::Scratch(1)];
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
                chunk.batch = Batch::new(tile(8));
                chunk.batch.push_cached(&vec![0; cut[1] - cut[0]], cut[0] as u32, &pages, None, &[]);
                for slot in [Slot::Scratch(0), Slot::Scratch(1)] {
                    chunk.contents.insert(slot, part(slot, cut[0], cut[1]));
                }
                chunks.extend(&bits(run(gpu, &chunk)?)[&Slot::Scratch(1)]);
            }
            if chunks != *whole {
                return outcome(true, Some(format!("{} {} in chunks at {cuts:?}", case.label(), case.shape)));
            }
            tested = true;
        }
    }
    outcome(tested, None)
}

/// A decode step's splits are counted from a sequence's first key.
fn sequences_alone(gpu: &Gpu, random: &mut Random, kernel: &'static str) -> Result<f64, Wrong> {
    let (mut tested, mut shorter) = (BTreeSet::new(), 0);
    for plan in plans_of(gpu, kernel) {
        // once with each head size, load and reduction, and all those of many sequences
        let seen = plan.shape.contains("(270, 1)") && !tested.insert(plan.label().to_string());
        if plan.label().contains("cap") || seen {
            continue;
        }
        let case = plan.make(random);
        let z = Slot::Scratch(1);
        let together = &bits(run(gpu, &case)?)[&z];
        let tiles: Vec<Tile> = bytemuck::pod_collect_to_vec(case.contents_of(Slot::Input(Input::Tiles)));
        let pages: Vec<u32> = bytemuck::pod_collect_to_vec(case.contents_of(Slot::Input(Input::Pages)));
        for tile in tiles.iter().filter(|tile| tile.position + 1 == tile.length) {
            let mut alone = case.clone();
            alone.batch = Batch::new(1);
            alone.batch.push_cached(&[0], tile.position, &pages[tile.keys as usize..], None, &[]);
            for (slot, width) in &case.token_rows {
                let at = 4 * tile.row as usize * width;
                alone.contents.insert(*slot, case.contents_of(*slot)[at..at + 4 * width].to_vec());
            }
            let out = &bits(run(gpu, &alone)?)[&z];
            let at = tile.row as usize * out.len();
            if *out != together[at..at + out.len()] {
                return outcome(true, Some(format!("{} {}: row {}", case.label(), case.shape, tile.row)));
            }
            shorter += usize::from(alone.batch.dims().splits < case.batch.dims().splits);
        }
    }
    outcome(shorter > 10, None)
}

/// The fused store does what rope and a copy do.
fn rope_and_copy(gpu: &Gpu, random: &mut Random, kernel: &'static str) -> Result<f64, Wrong> {
    let mut turned = false;
    for plan in plans_of(gpu, kernel) {
        let case = plan.make(random);
        let outputs = bits(run(gpu, &case)?);
        let numbers: Vec<usize> = case.dispatches[0]
            .params
            .iter()
            .filter_map(|word| if let Word::U32(n) = word { Some(*n as usize) } else { None })
            .collect();
        let [.., heads, kv_heads, head_size, pairs, _] = numbers[..] else { return outcome(false, None) };
        let (q, kv) = (heads * head_size, 2 * kv_heads * head_size);
        let rows = Slot::Scratch(0);
        let mut plain: Vec<u32> = bytemuck::pod_collect_to_vec(case.contents_of(rows));
        if pairs > 0 {
            let (angles, stride, first) = (Input::Angles, q + kv, 0);
            let rope =
                Rope { interleaved: false, angles, rows, stride, first, heads: heads + kv_heads, head_size, pairs };
            let rope_case = Case { dispatches: vec![rope.dispatch()], ..case.clone() };
            plain = bits(run(gpu, &rope_case)?)[&rows].clone();
            turned = true;
        }
        let tokens: Vec<[u32; 4]> = bytemuck::pod_collect_to_vec(case.contents_of(Slot::Input(Input::Tokens)));
        for (i, (token, plain)) in tokens.iter().zip(plain.chunks_exact(q + kv)).enumerate() {
            let at = i * (q + kv);
            let stored = &outputs[&Slot::Cache(0)][token[3] as usize * kv..][..kv];
            if outputs[&rows][at..at + q] != plain[..q] || *stored != plain[q..] {
                return outcome(true, Some(format!("{}: token {i}", case.shape)));
            }
        }
    }
    outcome(turned, None)
}
