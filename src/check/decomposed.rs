//! Pieces for the stream's instruments: what a model's parts sum to, and edits that change nothing.

use std::collections::HashMap;

use super::case::relative_error;
use super::forward::Model;
use super::inventory::Wrong;
use super::pieces::{batch, ids, run, upload};
use super::random::Random;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::schedule::{Choices, Operation, Program, Purpose, RowEdit, Watch, record};
use crate::stream::{Kind, Parts, Point, Tensor, Trace};

/// Allowed ‖Σ parts - stream‖/‖stream‖ at every block.
pub(super) const PARTS: f64 = 1e-4;

/// The parts of every block's output sum to it.
pub(super) fn parts(gpu: &Gpu, random: &mut Random, model: &Model) -> Result<f64, Wrong> {
    let mut taps = Parts::points(&model.spec);
    let ends: Vec<_> = Point::of_model(&model.spec)
        .into_iter()
        .filter(|p| matches!(p.kind, Kind::ResidPost | Kind::NormalizedResidPost | Kind::FinalNormalized))
        .collect();
    taps.extend(&ends);
    let trace = traced(gpu, model, &ids(random, 23), &taps)?;
    let vectors: HashMap<_, _> = Parts::vectors(&model.tensors).into_iter().map(|s| (s, model.vector_of(s))).collect();
    let mut worst = 0f64;
    let mut seen = Vec::new();
    let mut compare = |point: Point, parts: &Parts| {
        let sum: Vec<f32> = parts.sum().into_iter().map(|x| x as f32).collect();
        let stream: Vec<f64> = trace.tensors[&point].data.iter().copied().map(f64::from).collect();
        let error = relative_error(&sum, &stream);
        seen.push(point);
        if error > worst || error.is_nan() {
            worst = error;
        }
        if error <= PARTS { Ok(()) } else { Err(Error::Input(format!("the parts of {point} are off by {error:.2e}"))) }
    };
    let last = Parts::of(&model.spec, &model.tensors, &vectors, &trace, &mut compare);
    let last = last.map_err(|error| Wrong::bits(error.to_string()))?;
    if model.spec.final_norm {
        compare(Point::new(0, Kind::FinalNormalized), &last).map_err(|error| Wrong::bits(error.to_string()))?;
    }
    seen.sort();
    let mut ends = ends;
    ends.sort();
    if seen != ends {
        return Err(Wrong::bits(format!("parts were seen at {} points, not at {}", seen.len(), ends.len())));
    }
    Ok(worst)
}

/// Every editable point is set to what it is, one run beside another that is not edited: no bit changes.
pub(super) fn edits(gpu: &Gpu, random: &mut Random, model: &Model) -> Result<f64, Wrong> {
    // where patterns are edited, z is summed in another order
    let rows = |point: &Point| point.kind.is_editable() && point.kind != Kind::Pattern;
    let points: Vec<_> = Point::of_model(&model.spec).into_iter().filter(rows).collect();
    let ids = ids(random, 19);
    let plain = traced(gpu, model, &ids, &points)?;
    let weights = upload(gpu, model)?;
    let watch = Watch { edits: points.clone(), ..Watch::taps(&points) };
    let choices = Choices::of(gpu.capabilities());
    let recording = record(&model.spec, &model.tensors, &Purpose::Trace, choices, &watch);
    let program = Program::new(gpu, recording, weights)?;
    let mut batch = batch(model, &program, &[ids.clone(), ids.clone()]);
    let sites = program.recording().sites.clone();
    for (number, site) in sites.iter().enumerate() {
        let data = &plain.tensors[&site.point].data;
        let first = batch.vector(data);
        for token in 0..ids.len() {
            let width = site.columns.times as usize;
            let vector = first + (token * width) as u32;
            let (columns, operation) = (0..width, Operation::Set);
            batch.edit(&sites, number, RowEdit { token, part: 0, columns, operation, alpha: 1.0, vector });
        }
    }
    let outcome = run(&program, &batch)?;
    for (capture, data) in program.recording().captures.iter().zip(&outcome.captures) {
        for (point, columns) in &capture.points {
            let rows = data.chunks_exact(capture.columns).map(|row| &row[columns.clone()]);
            let found: Vec<u32> = rows.flatten().map(|x| x.to_bits()).collect();
            let expected: Vec<u32> = plain.tensors[point].data.iter().map(|x| x.to_bits()).collect();
            if found != [&expected[..], &expected].concat() {
                return Err(Wrong::bits(format!("{point} is another when it is set to what it is")));
            }
        }
    }
    Ok(0.0)
}

fn traced(gpu: &Gpu, model: &Model, ids: &[u32], points: &[Point]) -> Result<Trace> {
    let weights = upload(gpu, model)?;
    let choices = Choices::of(gpu.capabilities());
    let recording = record(&model.spec, &model.tensors, &Purpose::Trace, choices, &Watch::taps(points));
    let program = Program::new(gpu, recording, weights)?;
    let outcome = run(&program, &batch(model, &program, &[ids.to_vec()]))?;
    let mut trace = Trace { ids: ids.to_vec(), tensors: Default::default() };
    for (capture, data) in program.recording().captures.iter().zip(&outcome.captures) {
        for (point, columns) in &capture.points {
            let data = data.chunks_exact(capture.columns).flat_map(|row| &row[columns.clone()]).copied().collect();
            trace.tensors.insert(*point, Tensor { shape: point.shape(&model.spec, ids.len()), data });
        }
    }
    Ok(trace)
}
