//! Cases of `edit`.

use super::random::{bytes, widen};
use super::{Contents, Inputs, Plan, Size};
use crate::kernels::Reduce;
use crate::kernels::edit::Edit;
use crate::reference;
use crate::schedule::{Batch, Dim, Extent, Operation, RowEdit, Site, Slot};
use crate::stream::{Kind, Point};

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for reduce in Reduce::ALL {
        for (rows, columns, first, stride) in
            [(1, 1, 0, 1), (5, 3, 2, 7), (9, 64, 0, 64), (7, 65, 11, 131), (3, 1000, 0, 1000)]
        {
            plans.push(case(reduce, rows, columns, first, stride));
        }
        // of a prompt of Llama 1B
        plans.push(case(reduce, 512, 2048, 0, 2048).sized(Size::Large));
        plans.push(heads(reduce, 3, 5));
        plans.push(heads(reduce, 2, 70));
    }
    plans
}

/// Two sites of which the second is run; every token has another chain of up to 5 changes, some of them none.
fn case(reduce: Reduce, rows: usize, columns: usize, first: usize, stride: usize) -> Plan {
    let [length, part] = [stride, columns].map(|n| Extent::new(n as u64, Dim::One));
    let kernel = Edit { reduce, values: Slot::Scratch(0), stride: length, part, site: 1, sites: 2 };
    let shape = format!("{rows} rows of {stride}, {columns} from {first}");
    let token_rows = vec![(Slot::Scratch(0), stride)];
    Plan::new("edit", shape, vec![kernel.dispatch()], token_rows, move |random| {
        let site = |values| Site::rows(Point::new(0, Kind::Z), values, stride, first..first + columns);
        let sites = [site(Slot::Stream), site(Slot::Scratch(0))];
        let mut batch = Batch::editing(32, sites.len());
        batch.push((0..rows as u32).map(|i| (0, i, 0)), 0);
        for row in 0..rows {
            for i in 0..(row + 1) % 6 {
                let operation = Operation::ALL[(row + i) % 4];
                // the second half of the columns now and then
                let from = if i % 2 == 1 { columns / 2 } else { 0 };
                let mut vector = random.values(columns - from, 0.0, 1.0);
                if operation == Operation::Project {
                    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
                    vector.iter_mut().for_each(|x| *x /= norm);
                }
                let vector = batch.vector(&vector);
                let alpha = 0.5 + random.uniform();
                let edit = RowEdit { token: row, part: 0, columns: from..columns, operation, alpha, vector };
                batch.edit(&sites, 1, edit);
                batch.edit(&sites, 0, edit_nothing(row));
            }
        }
        let values = random.values(rows * stride, 0.0, 1.0);
        let expected = reference::edit(
            &widen(&values),
            [stride, columns],
            &batch.edits().chains(1),
            batch.edits().changes(),
            &widen(batch.edits().vectors()),
        );
        let contents = Contents::from([(Slot::Scratch(0), bytes(&values))]);
        Inputs::new(batch, contents, vec![(Slot::Scratch(0), expected)])
    })
}

/// A pattern's site: parts of rows, as long as the longest of two sequences has keys.
fn heads(reduce: Reduce, heads: usize, longest: usize) -> Plan {
    let (stride, part) = (Extent::new(heads as u64, Dim::Keys), Extent::new(1, Dim::Keys));
    let values = Slot::Scratch(0);
    let kernel = Edit { reduce, values, stride, part, site: 0, sites: 1 };
    let shape = format!("{heads} parts of {longest}");
    let token_rows = vec![(values, heads * longest)];
    Plan::new("edit", shape, vec![kernel.dispatch()], token_rows, move |random| {
        let point = Point::new(0, Kind::Pattern);
        let sites = [Site { point, values, stride, first: 0, parts: heads, columns: part }];
        let mut batch = Batch::editing(32, 1);
        batch.push((0..3).map(|i| (0, i, 0)), 0);
        batch.push((0..longest as u32).map(|i| (0, i, 0)), 0);
        let rows = 3 + longest;
        for token in 0..rows {
            for part in (token % 2)..heads {
                let (from, to) = (token % longest, longest - token % 2);
                let vector = batch.vector(&random.values(longest, 0.0, 1.0));
                let operation = Operation::ALL[(token + part) % 3];
                let columns = from.min(to)..to;
                batch.edit(&sites, 0, RowEdit { token, part, columns, operation, alpha: 0.5, vector });
            }
        }
        let values_before = random.values(rows * heads * longest, 0.0, 1.0);
        let expected = reference::edit(
            &widen(&values_before),
            [heads * longest, longest],
            &batch.edits().chains(0),
            batch.edits().changes(),
            &widen(batch.edits().vectors()),
        );
        let contents = Contents::from([(values, bytes(&values_before))]);
        Inputs::new(batch, contents, vec![(values, expected)])
    })
}

/// What is in the tables of the other site, so that a kernel that takes that one is noticed.
fn edit_nothing(token: usize) -> RowEdit {
    RowEdit { token, part: 0, columns: 0..1, operation: Operation::Scale, alpha: 3.0, vector: 0 }
}
