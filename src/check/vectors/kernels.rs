//! The engine's kernels as the operators call them: the variants that this adapter's models run, in the rig.

use std::collections::HashMap;

use super::case::{Step, skip};
use super::tensor::resize_rows;
use crate::check::rig::{Contents, Outputs, POISON, run_dispatches};
use crate::gpu::Gpu;
use crate::kernels::activation::Activation;
use crate::kernels::gate::Gate;
use crate::kernels::matmul::{Form, MatMul, Output, Product};
use crate::kernels::residual_add::ResidualAdd;
use crate::kernels::softmax::Softmax;
use crate::kernels::{Reduce, Rows, WeightType};
use crate::schedule::{Batch, Dim, Dispatch, Extent, Slot};

/// The most runs of a case; each is a submission of its own.
const MAX_RUNS: usize = 4096;

/// The most arithmetic of one dispatch: what a slow GPU does before systems take it for hung.
const MAX_FLOPS: f64 = 3e10;

/// Runs dispatches on an adapter, and remembers which variants they were.
pub struct Kernels<'a> {
    pub gpu: &'a Gpu,
    /// The variants' labels, in the order of their first use.
    pub labels: Vec<String>,
    runs: usize,
}

impl<'a> Kernels<'a> {
    pub fn new(gpu: &'a Gpu) -> Self {
        Kernels { gpu, labels: Vec::new(), runs: 0 }
    }

    /// How rows are summed on this adapter.
    pub fn reduce(&self) -> Reduce {
        Reduce::choose(self.gpu.capabilities())
    }

    /// Who sums rows of norms on this adapter.
    pub fn sums(&self) -> Rows {
        Rows::choose(self.gpu.capabilities())
    }

    /// Runs dispatches one after another, with guard words around every buffer.
    pub fn run(&mut self, dispatches: &[Dispatch], batch: &Batch, contents: &Contents) -> Step<Outputs> {
        self.runs += 1;
        if self.runs > MAX_RUNS {
            return skip(format!("it takes more than {MAX_RUNS} runs of kernels"));
        }
        let dims = batch.dims();
        for dispatch in dispatches {
            let flops = dispatch.work.flops * f64::from(dims.get(dispatch.work.dim));
            if flops > MAX_FLOPS {
                return skip(format!("{} would take {flops:.0e} operations at once", dispatch.variant.label));
            }
            if !self.labels.contains(&dispatch.variant.label) {
                self.labels.push(dispatch.variant.label.clone());
            }
        }
        let during = || "a test vector".into();
        Ok(pollster::block_on(run_dispatches(self.gpu, dispatches, batch, contents, 1, &during))?)
    }

    /// The same where one output is wanted.
    pub fn run_for(
        &mut self,
        output: Slot,
        dispatches: &[Dispatch],
        batch: &Batch,
        contents: Contents,
    ) -> Step<Vec<f32>> {
        Ok(self.run(dispatches, batch, &contents)?.remove(&output).unwrap_or_default())
    }

    /// `rows` [m, k] times the transpose of `weight` [n, k], stored as that float type: [m, n].
    pub fn matmul(
        &mut self,
        rows: &[f32],
        weight: &[f32],
        [m, k, n]: [usize; 3],
        weight_type: WeightType,
    ) -> Step<Vec<f32>> {
        let weight = resize_rows(weight, k, weight_type.stride(k));
        let stored = match weight_type {
            WeightType::F16 => weight.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
            WeightType::Bf16 => weight.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
            _ => bytes(&weight),
        };
        let form = Form::choose(self.gpu.capabilities());
        let product = Product {
            weight_type,
            input: Slot::Scratch(0),
            rows: Extent::new(m as u64, Dim::One),
            weight: Slot::Weight(0),
            columns: n,
            depth: k,
            bias: None,
            activation: Activation::None,
            output: Output::Store(Slot::Scratch(1)),
            out_columns: n,
            out_first: 0,
        };
        let contents = HashMap::from([
            (Slot::Scratch(0), bytes(rows)),
            (Slot::Weight(0), stored),
            (Slot::Scratch(1), poison(m * n)),
        ]);
        self.run_for(Slot::Scratch(1), &[MatMul { form, product }.dispatch()], &Batch::new(1), contents)
    }

    /// The sums of two lists of the same length.
    pub fn add(&mut self, one: &[f32], other: &[f32]) -> Step<Vec<f32>> {
        let add = ResidualAdd { term: Slot::Scratch(0), columns: one.len() };
        let contents = HashMap::from([(Slot::Stream, bytes(one)), (Slot::Scratch(0), bytes(other))]);
        self.run_for(Slot::Stream, &[add.dispatch()], &tokens(1), contents)
    }

    /// activation(`values`) · `factors`.
    pub fn gate(&mut self, activation: Activation, values: &[f32], factors: &[f32]) -> Step<Vec<f32>> {
        let gate = Gate { activation, gate_up: Slot::Scratch(0), output: Slot::Scratch(1), columns: values.len() };
        let contents = HashMap::from([
            (Slot::Scratch(0), bytes(&[values, factors].concat())),
            (Slot::Scratch(1), poison(values.len())),
        ]);
        self.run_for(Slot::Scratch(1), &[gate.dispatch()], &tokens(1), contents)
    }

    /// The softmax of each row.
    pub fn softmax(&mut self, values: &[f32], columns: usize) -> Step<Vec<f32>> {
        let one = |n: usize| Extent::new(n as u64, Dim::One);
        let softmax = Softmax {
            reduce: self.reduce(),
            values: Slot::Scratch(0),
            rows: one(values.len() / columns),
            columns: one(columns),
        };
        let contents = HashMap::from([(Slot::Scratch(0), bytes(values))]);
        self.run_for(Slot::Scratch(0), &[softmax.dispatch()], &Batch::new(1), contents)
    }
}

/// A batch of one sequence of so many tokens.
pub fn tokens(count: usize) -> Batch {
    let mut batch = Batch::new(32);
    batch.push((0..count as u32).map(|i| (0, i, 0)), 0);
    batch
}

/// As the device has them.
pub fn bytes(values: &[f32]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

/// An output before it is written.
pub fn poison(elements: usize) -> Vec<u8> {
    POISON.to_le_bytes().repeat(elements)
}
