//! Measures of a stream: what the blocks contribute, how much they change it, how alike they leave its tokens, what attention
//! looks at. All of them are plain f64 arithmetic on a trace.

use super::{Kind, Look, Point, Probe, Trace};
use crate::error::{Error, Result};
use crate::model::{Model, Placement, Spec};
use crate::schedule::{Purpose, Watch};

/// What was measured of one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Measures {
    /// The token ids.
    pub ids: Vec<u32>,
    /// Each block's own.
    pub blocks: Vec<BlockMeasures>,
    /// Linear CKA between the streams before and behind blocks, `[blocks + 1, blocks + 1]`: 1 where two are the same up to
    /// rotation and scale. ‖Yᵀ X‖²/(‖Xᵀ X‖·‖Yᵀ Y‖) in Frobenius norms, of centred columns (Kornblith et al. 2019).
    pub cka: Vec<Vec<f64>>,
    /// Attention rollout, `[tokens, tokens]` by output and input: the product over blocks of (A + 1)/2, with A the mean over
    /// heads and rows that sum to 1 (Abnar and Zuidema 2020).
    pub rollout: Vec<Vec<f64>>,
}

/// Of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockMeasures {
    /// What attention adds.
    pub attention: Contribution,
    /// What the FFN adds.
    pub mlp: Contribution,
    /// Block Influence: 1 - mean over tokens of the cosine between the block's input and output (Men et al. 2024).
    pub influence: f64,
    /// Rank residual of the block's output: ‖X - 1 x̄ᵀ‖/‖X‖, with x̄ the mean over tokens and ‖·‖ = √(‖·‖₁·‖·‖∞); 0 where all
    /// tokens are the same (Dong et al. 2021).
    pub rank_residual: f64,
    /// Massive activations of the block's output: elements of magnitude above 100 and above 1,000 times the median magnitude
    /// (Sun et al. 2024), largest first.
    pub massive: Vec<Activation>,
    /// The median magnitude of the block's output, and the largest.
    pub median: f64,
    /// See there.
    pub largest: f64,
    /// Attention sinks: for each head the mean attention that tokens behind the first pay to the first (Xiao et al. 2023);
    /// a head with more than 0.3 is commonly called a sink.
    pub sinks: Vec<f64>,
}

/// What a sublayer adds, as means over tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Contribution {
    /// ‖part‖.
    pub norm: f64,
    /// ‖part‖/‖stream‖, of the stream that it is added to.
    pub ratio: f64,
    /// Cosine of part and stream.
    pub cosine: f64,
}

/// One element of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activation {
    /// Position of the token.
    pub position: usize,
    /// The dimension.
    pub dimension: usize,
    /// Its value.
    pub value: f64,
}

impl Model {
    /// Measures what passes the stream of one text.
    ///
    /// # Errors
    /// As [`Model::trace`].
    pub async fn measure(&self, ids: &[u32]) -> Result<Measures> {
        let mut measuring = Measuring::new(ids.len());
        by_block(self, ids, &Measuring::KINDS, |block, trace| measuring.push(&self.spec, block, &trace)).await?;
        Ok(measuring.finish(ids))
    }

    /// [`Model::measure`], blocking the calling thread.
    pub fn measure_blocking(&self, ids: &[u32]) -> Result<Measures> {
        pollster::block_on(self.measure(ids))
    }
}

impl Spec {
    /// What the last block leaves: normalised, where blocks end with a norm.
    pub fn last_point(&self) -> Point {
        let kind = if self.placement == Placement::Post { Kind::NormalizedResidPost } else { Kind::ResidPost };
        Point::new(self.num_hidden_layers - 1, kind)
    }
}

/// What passes some kinds of points, block by block: the forward runs once, and no more than one block's is on the host.
pub(super) async fn by_block(
    model: &Model,
    ids: &[u32],
    kinds: &[Kind],
    mut see: impl FnMut(usize, Trace) -> Result<()>,
) -> Result<()> {
    let known = Point::of_model(&model.spec);
    let of_block = |block| kinds.iter().map(move |&kind| Point::new(block, kind)).filter(|point| known.contains(point));
    let blocks = 0..model.spec.num_hidden_layers;
    let points: Vec<_> = blocks.clone().flat_map(of_block).collect();
    let watch = Watch { held: true, ..Watch::taps(&points) };
    let probe = Probe::new(model, &Purpose::Trace, watch).await?;
    let held = probe.hold(&[Look::new(ids)])?;
    for block in blocks {
        let tensors = held.read(0, &of_block(block).collect::<Vec<_>>(), 0..ids.len()).await?;
        see(block, Trace { ids: ids.to_vec(), tensors })?;
    }
    Ok(())
}

/// Measures that are taken block by block.
pub(super) struct Measuring {
    blocks: Vec<BlockMeasures>,
    rollout: Vec<Vec<f64>>,
    /// X Xᵀ of the stream before each block, and behind the last one that was pushed.
    grams: Vec<Vec<f64>>,
}

impl Measuring {
    /// What a block's trace must have, as far as the model has it: its input and output, what sublayers add and what that is
    /// added to, and the pattern.
    pub const KINDS: [Kind; 8] = [
        Kind::ResidPre,
        Kind::Pattern,
        Kind::AttnSkip,
        Kind::AttnOut,
        Kind::MlpSkip,
        Kind::MlpOut,
        Kind::ResidPost,
        Kind::NormalizedResidPost,
    ];

    /// Of a text of that many tokens.
    pub fn new(tokens: usize) -> Self {
        Measuring { blocks: Vec::new(), rollout: identity(tokens), grams: Vec::new() }
    }

    /// Takes the next block's measures.
    ///
    /// # Errors
    /// [`Error::Input`] naming a point that the trace does not have.
    pub fn push(&mut self, spec: &Spec, block: usize, trace: &Trace) -> Result<()> {
        let seen = |kind: Kind| {
            let point = Point::new(block, kind);
            let tensor = trace.tensors.get(&point).map(|tensor| &tensor.data[..]);
            tensor.ok_or_else(|| Error::Input(format!("the trace has no {point}")))
        };
        let (d, tokens) = (spec.hidden_size, trace.ids.len());
        let (input, output, pattern) = (seen(Kind::ResidPre)?, seen(spec.last_point().kind)?, seen(Kind::Pattern)?);
        let (median, largest) = magnitudes(output);
        self.blocks.push(BlockMeasures {
            attention: contribution(seen(Kind::AttnOut)?, seen(Kind::AttnSkip)?, d),
            mlp: contribution(seen(Kind::MlpOut)?, seen(Kind::MlpSkip)?, d),
            influence: 1.0 - mean(rows(input, d).zip(rows(output, d)).map(|(x, y)| cosine(x, y))),
            rank_residual: rank_residual(output, d),
            massive: massive(output, d, median),
            median,
            largest,
            sinks: pattern.chunks_exact(tokens * tokens).map(|head| sink(head, tokens)).collect(),
        });
        self.rollout = product(&half_attention(pattern, tokens), &self.rollout);
        if self.grams.is_empty() {
            self.grams.push(centred_gram(input, d));
        }
        self.grams.push(centred_gram(output, d));
        Ok(())
    }

    /// All of them.
    pub fn finish(self, ids: &[u32]) -> Measures {
        let Measuring { blocks, rollout, grams } = self;
        let cka = grams.iter().map(|x| grams.iter().map(|y| alignment(x, y)).collect()).collect();
        Measures { ids: ids.to_vec(), blocks, cka, rollout }
    }
}

/// Rank residual of a stream `[tokens, d]`: see [`BlockMeasures::rank_residual`]. 0 for zeros.
pub fn rank_residual(stream: &[f32], d: usize) -> f64 {
    let tokens = (stream.len() / d) as f64;
    let mut mean = vec![0.0; d];
    for row in rows(stream, d) {
        mean.iter_mut().zip(row).for_each(|(mean, &x)| *mean += f64::from(x) / tokens);
    }
    // √(largest sum of a column · largest sum of a row), of magnitudes
    let norm = |value: &dyn Fn(f32, usize) -> f64| {
        let mut columns = vec![0.0f64; d];
        let mut largest = 0f64;
        for row in rows(stream, d) {
            let mut sum = 0.0;
            for (i, &x) in row.iter().enumerate() {
                let magnitude = value(x, i).abs();
                columns[i] += magnitude;
                sum += magnitude;
            }
            largest = largest.max(sum);
        }
        (largest * columns.into_iter().fold(0.0, f64::max)).sqrt()
    };
    let whole = norm(&|x, _| f64::from(x));
    if whole == 0.0 { 0.0 } else { norm(&|x, i| f64::from(x) - mean[i]) / whole }
}

fn rows(values: &[f32], d: usize) -> std::slice::ChunksExact<'_, f32> {
    values.chunks_exact(d)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

/// 0 where either is zeros.
fn cosine(x: &[f32], y: &[f32]) -> f64 {
    let norms = (dot(x, x) * dot(y, y)).sqrt();
    if norms == 0.0 { 0.0 } else { dot(x, y) / norms }
}

fn contribution(part: &[f32], stream: &[f32], d: usize) -> Contribution {
    let norm = |row: &[f32]| dot(row, row).sqrt();
    let pairs = || rows(part, d).zip(rows(stream, d));
    Contribution {
        norm: mean(rows(part, d).map(norm)),
        ratio: mean(pairs().map(|(part, stream)| norm(part) / norm(stream).max(f64::MIN_POSITIVE))),
        cosine: mean(pairs().map(|(part, stream)| cosine(part, stream))),
    }
}

/// The median magnitude, and the largest.
fn magnitudes(stream: &[f32]) -> (f64, f64) {
    let mut all: Vec<f32> = stream.iter().map(|x| x.abs()).collect();
    all.sort_by(f32::total_cmp);
    let at = |i: usize| all.get(i).copied().map_or(0.0, f64::from);
    (at(all.len() / 2), at(all.len().saturating_sub(1)))
}

fn massive(stream: &[f32], d: usize, median: f64) -> Vec<Activation> {
    let is = |x: f64| x.abs() > 100.0 && x.abs() > 1000.0 * median;
    let all = stream.iter().enumerate().map(|(i, &x)| (i, f64::from(x))).filter(|(_, x)| is(*x));
    let mut found: Vec<_> = all.map(|(i, value)| Activation { position: i / d, dimension: i % d, value }).collect();
    found.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()));
    found
}

/// The mean attention that tokens behind the first pay to the first; 0 for a single token.
fn sink(head: &[f32], tokens: usize) -> f64 {
    mean(head.chunks_exact(tokens).skip(1).map(|row| f64::from(row[0])))
}

fn identity(n: usize) -> Vec<Vec<f64>> {
    (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect()
}

/// (A + 1)/2 with A the mean over heads of `[heads, tokens, tokens]`.
fn half_attention(pattern: &[f32], tokens: usize) -> Vec<Vec<f64>> {
    let heads = pattern.len() / (tokens * tokens);
    let mut all = identity(tokens);
    for head in pattern.chunks_exact(tokens * tokens) {
        for (row, weights) in all.iter_mut().zip(head.chunks_exact(tokens)) {
            row.iter_mut().zip(weights).for_each(|(x, &weight)| *x += f64::from(weight) / heads as f64);
        }
    }
    for row in &mut all {
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
    all
}

fn product(a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let times = |row: &Vec<f64>| {
        let mut out = vec![0.0; row.len()];
        for (x, other) in row.iter().zip(b) {
            out.iter_mut().zip(other).for_each(|(out, y)| *out += x * y);
        }
        out
    };
    a.iter().map(times).collect()
}

/// X Xᵀ of a stream whose columns have mean 0.
fn centred_gram(stream: &[f32], d: usize) -> Vec<f64> {
    let tokens = stream.len() / d;
    let mut centred: Vec<f64> = stream.iter().copied().map(f64::from).collect();
    for column in 0..d {
        let mean = centred.iter().skip(column).step_by(d).sum::<f64>() / tokens as f64;
        centred.iter_mut().skip(column).step_by(d).for_each(|x| *x -= mean);
    }
    let row = |i: usize| &centred[i * d..(i + 1) * d];
    let entry = |i: usize, j: usize| row(i).iter().zip(row(j)).map(|(x, y)| x * y).sum();
    (0..tokens * tokens).map(|at| entry(at / tokens, at % tokens)).collect()
}

/// ⟨K, L⟩/(‖K‖·‖L‖) of two Gram matrices, which is linear CKA; 0 where all tokens of one are the same.
fn alignment(k: &[f64], l: &[f64]) -> f64 {
    let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let norms = (inner(k, k) * inner(l, l)).sqrt();
    if norms == 0.0 { 0.0 } else { inner(k, l) / norms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Tensor;

    #[test]
    fn rank_residuals() {
        assert_eq!(rank_residual(&[1.0, -2.0, 1.0, -2.0], 2), 0.0);
        assert_eq!(rank_residual(&[0.0; 4], 2), 0.0);
        // X = [[1, 0], [0, 1]]: norm √(1·1); X - mean = ±0.5 everywhere: √(1·1)
        assert!((rank_residual(&[1.0, 0.0, 0.0, 1.0], 2) - 1.0).abs() < 1e-12);
        // X = [[3, 1], [1, 1]]: √(4·4) = 4; X - [2, 1] = [[1, 0], [-1, 0]]: √(2·1)
        assert!((rank_residual(&[3.0, 1.0, 1.0, 1.0], 2) - 2f64.sqrt() / 4.0).abs() < 1e-12);
    }

    #[test]
    fn contributions_are_means_over_tokens() {
        // token 0: part (3, 4) on stream (0, 2); token 1: part (0, 1) on stream (0, -1)
        let found = contribution(&[3.0, 4.0, 0.0, 1.0], &[0.0, 2.0, 0.0, -1.0], 2);
        assert!((found.norm - 3.0).abs() < 1e-12);
        assert!((found.ratio - (2.5 + 1.0) / 2.0).abs() < 1e-12);
        assert!((found.cosine - (0.8 - 1.0) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn streams_that_are_turned_and_scaled_are_aligned() {
        let stream = [1.0f32, 2.0, -0.5, 0.25, 3.0, -1.0];
        let turned: Vec<f32> = stream.chunks(2).flat_map(|x| [-3.0 * x[1] + 7.0, 3.0 * x[0]]).collect();
        let other = [1.0f32, 0.0, 0.0, 1.0, 0.0, 0.0];
        let gram = |x: &[f32]| centred_gram(x, 2);
        assert!((alignment(&gram(&stream), &gram(&turned)) - 1.0).abs() < 1e-6);
        assert!(alignment(&gram(&stream), &gram(&other)) < 0.9);
        assert_eq!(alignment(&gram(&stream), &gram(&[5.0; 6])), 0.0);
    }

    #[test]
    fn attention_flows_back_to_inputs() {
        // one head of two tokens: the second looks at the first with 0.6
        let pattern = [1.0f32, 0.0, 0.6, 0.4];
        assert!((sink(&pattern, 2) - 0.6).abs() < 1e-6);
        assert_eq!(sink(&[1.0], 1), 0.0);
        let half = half_attention(&pattern, 2);
        let expected = [[1.0, 0.0], [0.3, 0.7]];
        let twice = product(&half, &half);
        for (i, row) in expected.iter().enumerate() {
            assert!(row.iter().zip(&half[i]).all(|(a, b)| (a - b).abs() < 1e-6));
            assert!((twice[i].iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        assert!((twice[1][0] - (0.3 + 0.7 * 0.3)).abs() < 1e-6);
    }

    #[test]
    fn massive_activations_are_large_in_both_ways() {
        let mut stream = vec![0.05f32; 12];
        (stream[5], stream[10], stream[2]) = (-300.0, 120.0, 99.0);
        let (median, largest) = magnitudes(&stream);
        assert!((median - 0.05).abs() < 1e-6 && largest == 300.0);
        let found = massive(&stream, 4, median);
        let places: Vec<_> = found.iter().map(|a| (a.position, a.dimension, a.value)).collect();
        assert_eq!(places, [(1, 1, -300.0), (2, 2, 120.0)]);
        assert!(massive(&stream, 4, 0.5).is_empty());
    }

    #[test]
    fn a_trace_without_its_points_is_refused() {
        let spec = Spec { num_hidden_layers: 1, hidden_size: 2, num_attention_heads: 1, ..Spec::neutral() };
        let mut trace = Trace { ids: vec![1, 2], tensors: Default::default() };
        let tensor = Tensor { shape: vec![2, 2], data: vec![1.0, 0.0, 0.0, 2.0] };
        let kinds = [Kind::ResidPre, Kind::NormalizedResidPost, Kind::Pattern, Kind::AttnOut, Kind::AttnSkip];
        for kind in kinds.into_iter().chain([Kind::MlpOut, Kind::MlpSkip]) {
            assert!(Measuring::new(2).push(&spec, 0, &trace).is_err(), "before {kind:?}");
            trace.tensors.insert(Point::new(0, kind), tensor.clone());
        }
        let mut measuring = Measuring::new(2);
        measuring.push(&spec, 0, &trace).unwrap();
        let measures = measuring.finish(&trace.ids);
        // what a block leaves as it was has no influence
        assert!(measures.blocks[0].influence.abs() < 1e-12);
        assert!(measures.cka[0].iter().all(|x| (x - 1.0).abs() < 1e-12));
    }
}
