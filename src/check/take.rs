//! Cases of `take`.

use std::ops::Range;

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Size};
use crate::kernels::take::Take;
use crate::reference;
use crate::schedule::{Batch, Dim, Extent, Slot};

const LENGTHS: &[usize] = &[5, 4, 17, 9];

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for tokens in [None, Some(0..1), Some(1..4), Some(0..4), Some(3..4)] {
        for (stride, columns) in [(1, 0..1), (7, 2..5), (96, 32..64), (70, 1..70)] {
            plans.push(rows(tokens.clone(), stride, columns, LENGTHS));
        }
        // two heads of a pattern, whose rows are as long as the longest sequence
        plans.push(pattern(tokens, 3, 1..3));
    }
    // keys of a head, of two prompts of GPT-2
    plans.push(rows(None, 2304, 768..832, &[128, 96]).sized(Size::Large));
    plans.push(rows(Some(40..90), 2304, 768..832, &[128, 96]).sized(Size::Large));
    plans
}

fn rows(tokens: Option<Range<usize>>, stride: usize, columns: Range<usize>, lengths: &'static [usize]) -> Plan {
    let fixed = |n: usize| Extent::new(n as u64, Dim::One);
    let (values, taken) = (Slot::Scratch(0), Slot::Scratch(1));
    let (of, rows) = (tokens.clone(), Extent::new(1, Dim::Tokens));
    let take = Take {
        values,
        rows,
        stride: fixed(stride),
        first: fixed(columns.start),
        columns: fixed(columns.len()),
        tokens,
        taken,
    };
    case(take, stride, columns, of, lengths)
}

fn pattern(tokens: Option<Range<usize>>, heads: usize, own: Range<usize>) -> Plan {
    let keys = |n: usize| Extent::new(n as u64, Dim::Keys);
    let longest = LENGTHS.iter().copied().max().unwrap_or(0);
    let (values, taken) = (Slot::Scratch(0), Slot::Scratch(1));
    let (of, rows) = (tokens.clone(), Extent::new(1, Dim::Tokens));
    let take =
        Take { values, rows, stride: keys(heads), first: keys(own.start), columns: keys(own.len()), tokens, taken };
    case(take, heads * longest, own.start * longest..own.end * longest, of, LENGTHS)
}

fn case(
    take: Take,
    stride: usize,
    columns: Range<usize>,
    tokens: Option<Range<usize>>,
    lengths: &'static [usize],
) -> Plan {
    let (values, taken) = (take.values, take.taken);
    let what = tokens.as_ref().map_or("all tokens".to_string(), |tokens| format!("tokens {tokens:?}"));
    let shape = format!("{what} of sequences of {lengths:?}, {columns:?} of {stride}");
    // a token's own row, where every token has one
    let token_rows = match tokens {
        None => vec![(values, stride), (taken, columns.len())],
        Some(_) => Vec::new(),
    };
    Plan::new("take", shape, vec![take.dispatch()], token_rows, move |random| {
        let mut batch = Batch::new(32);
        let (mut all, mut wanted) = (0, Vec::new());
        for &length in lengths {
            batch.push((0..length as u32).map(|i| (0, i, 0)), 0);
            wanted.extend(tokens.clone().unwrap_or(0..length).map(|token| all + token));
            all += length;
        }
        let x = random.values(all * stride, 0.0, 1.0);
        let expected = reference::take(&widen(&x), stride, columns.clone(), wanted);
        let contents = Contents::from([(values, bytes(&x)), (taken, POISON.to_le_bytes().repeat(expected.len()))]);
        Inputs::new(batch, contents, vec![(taken, expected)])
    })
}
