//! RotaryEmbedding by `rope`.

use std::collections::HashMap;

use super::case::{Step, VectorCase, fail};
use super::kernels::{Kernels, bytes, tokens};
use super::tensor::{Array, permute, room};
use super::{Computed, first};
use crate::kernels::rope::Rope;
use crate::schedule::{Input, Slot};

/// Heads of tokens, in rows [batch, tokens, heads · size] or as [batch, heads, tokens, size], turned by the angles whose
/// cosines and sines are given: a row for each token, or a table and each token's row in it.
pub fn rotary(case: &VectorCase, kernels: &mut Kernels) -> Step<Computed> {
    let (values, shape) = case.floats(0)?;
    let given = usize::try_from(case.int("num_heads", 0)?).unwrap_or(0);
    let [batch, length, heads, size] = match *shape {
        [batch, heads, length, size] if given == 0 || given == heads => [batch, length, heads, size],
        [batch, length, width] if given > 0 && width % given == 0 => [batch, length, given, width / given],
        _ => return fail(format!("in.0 has shape {shape:?} and num_heads is {given}")),
    };
    let turned = match case.int("rotary_embedding_dim", 0)? {
        0 => size,
        dim => usize::try_from(dim).unwrap_or(0),
    };
    if turned == 0 || turned % 2 != 0 || turned > size {
        return fail(format!("{turned} turned elements of a head of {size}"));
    }
    let pairs = turned / 2;
    let count = batch * length;
    // a token is 16 bytes of the batch, and each pair an angle of two numbers
    room(&[count, 4])?;
    room(&[count, pairs, 2])?;
    let (cos, sin) = (case.floats_like_first(1)?, case.floats_like_first(2)?);
    if cos.1 != sin.1 {
        return fail(format!("in.1 has shape {:?} and in.2 {:?}", cos.1, sin.1));
    }
    let rows: Vec<usize> = match (case.ints(3)?, cos.1) {
        (None, [b, l, p]) if [*b, *l, *p] == [batch, length, pairs] => (0..count).collect(),
        (Some((ids, ids_shape)), [table, p]) if *p == pairs && *ids_shape == [batch, length] => {
            let row = |id: &i64| usize::try_from(*id).ok().filter(|id| id < table);
            match ids.iter().map(row).collect::<Option<_>>() {
                Some(rows) => rows,
                None => return fail(format!("in.3 has a position outside of the {table} rows of in.1")),
            }
        }
        (ids, shape) => {
            let ids = ids.map_or(String::new(), |(_, s)| format!(", in.3 {s:?}"));
            return fail(format!("in.1 has shape {shape:?}{ids}, for {batch}·{length} tokens of {pairs} pairs"));
        }
    };
    let angle = |row: usize| (0..pairs).flat_map(move |p| [row * pairs + p; 2]);
    let angles: Vec<f32> = rows.iter().flat_map(|&row| angle(row)).enumerate().map(pick(cos.0, sin.0)).collect();
    let mut all = tokens(count);
    all.push_angles(0, &angles);
    let heads_last = shape.len() == 3;
    let by_token =
        if heads_last { values.to_vec() } else { permute(values, &[batch, heads, length, size], &[0, 2, 1, 3]) };
    let kernel = Rope {
        interleaved: case.flag("interleaved")?,
        angles: Input::Angles,
        rows: Slot::Scratch(0),
        stride: heads * size,
        first: 0,
        heads,
        head_size: size,
        pairs,
    };
    let contents = HashMap::from([(Slot::Scratch(0), bytes(&by_token))]);
    let out = kernels.run_for(Slot::Scratch(0), &[kernel.dispatch()], &all, contents)?;
    let values = if heads_last { out } else { permute(&out, &[batch, length, heads, size], &[0, 2, 1, 3]) };
    Ok(first(Array { shape: shape.to_vec(), values }))
}

/// Cosine and sine by turns.
fn pick<'a>(cos: &'a [f32], sin: &'a [f32]) -> impl Fn((usize, usize)) -> f32 + 'a {
    |(i, place)| if i % 2 == 0 { cos[place] } else { sin[place] }
}
