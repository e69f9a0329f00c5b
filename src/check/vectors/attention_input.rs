//! What an Attention case asks for: sizes, heads by token, what each query sees, and the bias that is added to its scores.

use super::case::{Step, Stop, VectorCase, fail, skip};
use super::tensor::{Data, broadcast_strides, gather, permute, resize_rows, room};
use crate::files::Dtype;
use crate::kernels::attention::Mask;

/// Scores of hidden keys in the kernels, which may assume that nothing is infinite.
pub const HIDDEN: f32 = -1e30;

/// No score of a key that is seen is as low, whatever was added to that of a hidden one.
pub const LOWEST: f32 = HIDDEN / 2.0;

/// Heads of tokens, each lengthened by zeros to a size that queries, keys and values share: [batch, tokens, heads, size].
pub struct Heads {
    pub values: Vec<f32>,
    pub tokens: usize,
    pub heads: usize,
    /// Elements before zeros were appended.
    pub own_size: usize,
}

/// An Attention case, checked.
pub struct Problem {
    pub batch: usize,
    pub q: Heads,
    /// Keys and values that come with the case.
    pub k: Heads,
    pub v: Heads,
    /// Those of before; both or none.
    pub past: Option<(Heads, Heads)>,
    /// What all heads are lengthened to.
    pub size: usize,
    pub scale: f32,
    pub cap: Option<f32>,
    pub mask: Mask,
    /// Of each sequence, the position of its first query among the keys.
    pub offsets: Vec<i64>,
    /// Of each sequence, keys that are no padding.
    pub lengths: Vec<usize>,
    /// f32 [batch, heads, queries, keys]; -∞ hides a key.
    pub bias: Option<Vec<f32>>,
    /// Whether tensors are [batch, heads, tokens, size], rather than [batch, tokens, heads · size].
    pub heads_first: bool,
    /// What out.3 holds, where it is expected.
    pub scores: Option<Scores>,
}

/// What `qk_matmul_output` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// q · k · scale.
    Raw,
    /// After the soft cap.
    Capped,
    /// With all biases.
    Biased,
    /// After the softmax.
    Pattern,
}

impl Problem {
    /// Reads and checks a case.
    pub fn of(case: &VectorCase) -> Step<Self> {
        let (_, shape) = case.floats(0)?;
        let heads_first = match shape.len() {
            3 => false,
            4 => true,
            rank => return fail(format!("in.0 has {rank} dimensions, expected 3 or 4")),
        };
        let count = |name: &str| Ok::<_, Stop>(usize::try_from(case.int(name, 0)?).unwrap_or(0));
        let (q_heads, kv_heads) = (count("q_num_heads")?, count("kv_num_heads")?);
        let mut q = split(case, 0, heads_first, q_heads)?;
        let mut k = split(case, 1, heads_first, kv_heads)?;
        let mut v = split(case, 2, heads_first, kv_heads)?;
        let batch = shape[0];
        for (i, other) in [(1, &k), (2, &v)] {
            let own = case.input(i)?.shape[0];
            if own != batch {
                return fail(format!("in.{i} has a batch of {own}, expected {batch}"));
            }
            if (other.heads, other.tokens) != (k.heads, k.tokens) {
                return fail(format!("keys are {}·{} and values {}·{}", k.tokens, k.heads, v.tokens, v.heads));
            }
        }
        if q.own_size != k.own_size || q.heads % k.heads != 0 {
            let (qs, ks) = (q.own_size, k.own_size);
            return fail(format!("{} heads of {qs} for queries, {} of {ks} for keys", q.heads, k.heads));
        }
        let mut past = past(case, batch, &k, &v)?;
        let size = q.own_size.max(v.own_size);
        for heads in [&mut q, &mut k, &mut v].into_iter().chain(past.iter_mut().flat_map(|(k, v)| [k, v])) {
            room(&[batch, heads.tokens, heads.heads, size])?;
            heads.values = resize_rows(&heads.values, heads.own_size, size);
        }
        let before = past.as_ref().map_or(0, |(k, _)| k.tokens);
        let keys = before + k.tokens;
        let lengths = lengths(case, batch, keys, past.is_some())?;
        let padded = case.inputs.contains_key(&6);
        let mask = mask(case)?;
        let offset = |length: &usize| match padded {
            // positions matter to nobody
            _ if mask == Mask::NONE => 0,
            true => *length as i64 - q.tokens as i64,
            false => before as i64,
        };
        let scale = case.float("scale")?.unwrap_or(1.0 / (q.own_size as f32).sqrt());
        Ok(Problem {
            batch,
            size,
            scale,
            cap: match case.float("softcap")?.unwrap_or(0.0) {
                0.0 => None,
                cap if cap > 0.0 => Some(cap),
                cap => return fail(format!("softcap {cap}")),
            },
            mask,
            offsets: lengths.iter().map(offset).collect(),
            lengths,
            bias: bias(case, [batch, q.heads, q.tokens, keys])?,
            heads_first,
            scores: scores(case)?,
            q,
            k,
            v,
            past,
        })
    }

    /// Tokens of `past`.
    pub fn before(&self) -> usize {
        self.past.as_ref().map_or(0, |(k, _)| k.tokens)
    }

    /// Keys of a sequence, past, new and padding.
    pub fn keys(&self) -> usize {
        self.before() + self.k.tokens
    }

    /// Whether a query of a sequence may see a key, but for the bias.
    pub fn sees(&self, sequence: usize, query: usize, key: usize) -> bool {
        let at = self.offsets[sequence] + query as i64;
        let (key_at, Mask { before, after }) = (key as i64, self.mask);
        key < self.lengths[sequence] && key_at + i64::from(before) >= at && key_at <= at + i64::from(after)
    }
}

/// An input's heads by token.
fn split(case: &VectorCase, position: usize, heads_first: bool, given: usize) -> Step<Heads> {
    let (values, shape) = case.floats_like_first(position)?;
    match *shape {
        [batch, heads, tokens, own_size] if heads_first && (given == 0 || given == heads) => {
            let values = permute(values, &[batch, heads, tokens, own_size], &[0, 2, 1, 3]);
            Ok(Heads { values, tokens, heads, own_size })
        }
        [_, tokens, width] if !heads_first && given > 0 && width % given == 0 => {
            Ok(Heads { values: values.to_vec(), tokens, heads: given, own_size: width / given })
        }
        _ => fail(format!("in.{position} has shape {shape:?}, and its number of heads is given as {given}")),
    }
}

/// Keys and values of before, which fit those of now.
fn past(case: &VectorCase, batch: usize, k: &Heads, v: &Heads) -> Step<Option<(Heads, Heads)>> {
    let (has_k, has_v) = (case.inputs.contains_key(&4), case.inputs.contains_key(&5));
    if has_k != has_v {
        return fail("of in.4 and in.5, past keys and values, one is missing");
    }
    // an empty past is none
    if !has_k || case.input(4)?.shape.get(2) == Some(&0) && case.input(5)?.shape.get(2) == Some(&0) {
        return Ok(None);
    }
    if case.inputs.contains_key(&6) {
        return fail("in.6, lengths of an outer cache, stands beside past keys and values");
    }
    let read = |position, now: &Heads| {
        let (_, shape) = case.floats_like_first(position)?;
        let fits = matches!(*shape, [b, h, _, s] if (b, h, s) == (batch, now.heads, now.own_size));
        if !fits {
            let (heads, size) = (now.heads, now.own_size);
            return fail(format!("in.{position} has shape {shape:?}, expected [{batch}, {heads}, past, {size}]"));
        }
        split(case, position, true, 0)
    };
    let (past_k, past_v) = (read(4, k)?, read(5, v)?);
    if past_k.tokens != past_v.tokens {
        return fail(format!("{} past keys and {} past values", past_k.tokens, past_v.tokens));
    }
    Ok(Some((past_k, past_v)))
}

/// Keys of each sequence that are no padding.
fn lengths(case: &VectorCase, batch: usize, keys: usize, has_past: bool) -> Step<Vec<usize>> {
    let Some((given, shape)) = case.ints(6)?.filter(|_| !has_past) else { return Ok(vec![keys; batch]) };
    if *shape != [batch] {
        return fail(format!("in.6 has shape {shape:?}, expected [{batch}]"));
    }
    let length = |n: &i64| usize::try_from(*n).ok().filter(|n| *n <= keys);
    match given.iter().map(length).collect() {
        Some(lengths) => Ok(lengths),
        None => fail(format!("in.6 has a length that is not within {keys} keys")),
    }
}

/// What is_causal and the windows leave visible.
fn mask(case: &VectorCase) -> Step<Mask> {
    let side = |name: &str| match case.int(name, -1)? {
        -1 => Ok(Mask::NONE.before),
        n if n >= 0 => Ok(u32::try_from(n).unwrap_or(u32::MAX).min(Mask::NONE.before)),
        n => fail(format!("{name} {n}")),
    };
    let (before, after) = (side("left_window_size")?, side("right_window_size")?);
    Ok(Mask { before, after: if case.flag("is_causal")? { 0 } else { after } })
}

fn scores(case: &VectorCase) -> Step<Option<Scores>> {
    let dtype = case.dtype()?;
    match (case.int("softmax_precision", 1)?, dtype) {
        (1, _) | (10, Dtype::F16) | (16, Dtype::Bf16) => {}
        (11, _) => return skip("softmax_precision 11: f64, and the kernels' softmax is f32"),
        (other, _) => return skip(format!("softmax_precision {other} for {dtype}: the kernels' softmax is f32")),
    }
    let mode = match case.int("qk_matmul_output_mode", 0)? {
        0 => Scores::Raw,
        1 => Scores::Capped,
        2 => Scores::Biased,
        3 => Scores::Pattern,
        other => return fail(format!("qk_matmul_output_mode {other}")),
    };
    Ok(case.outputs.contains_key(&3).then_some(mode))
}

/// in.3 for every score: what a float mask adds, -∞ where a boolean one hides. A mask of fewer columns hides the others.
fn bias(case: &VectorCase, to: [usize; 4]) -> Step<Option<Vec<f32>>> {
    let Some(tensor) = case.inputs.get(&3) else { return Ok(None) };
    let values = match &tensor.data {
        Data::Bools(values) => values.iter().map(|&seen| if seen { 0.0 } else { f32::NEG_INFINITY }).collect(),
        Data::Floats(values) if tensor.dtype == case.dtype()? => values.clone(),
        _ => return fail(format!("in.3 is {}, expected BOOL or {}", tensor.dtype, case.dtype()?)),
    };
    if let Some(odd) = values.iter().find(|x| x.is_nan() || **x == f32::INFINITY) {
        return skip(format!("in.3 has {odd}: kernels assume finite numbers"));
    }
    room(&to)?;
    let mut shape = tensor.shape.clone();
    let Some(columns) = shape.last_mut() else { return fail("in.3 is a scalar") };
    let (own, keys) = (*columns, to[3]);
    if own == 0 || own > keys {
        return fail(format!("in.3 has {own} columns for {keys} keys"));
    }
    *columns = keys;
    room(&shape)?;
    let hidden = || std::iter::repeat_n(f32::NEG_INFINITY, keys - own);
    let rows: Vec<f32> = values.chunks_exact(own).flat_map(|row| row.iter().copied().chain(hidden())).collect();
    let Some(strides) = broadcast_strides(&shape, &to) else {
        return fail(format!("in.3 has shape {:?}, which cannot be broadcast to {to:?}", tensor.shape));
    };
    Ok(Some(gather(&rows, &to, &strides)))
}
