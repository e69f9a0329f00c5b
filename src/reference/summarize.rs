//! Norm, sum and largest elements of groups of rows, in f64.

/// `[rows, groups, 2 + 2 top]`: of each group ‖x‖, its sum, and the elements of largest magnitude (of equal ones first the
/// first), each with its place; 0 at 2^24 where there are no more.
pub fn summarize(x: &[f64], stride: usize, first: usize, groups: usize, columns: usize, top: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for row in x.chunks_exact(stride) {
        for group in row[first..first + groups * columns].chunks_exact(columns) {
            out.extend([group.iter().map(|x| x * x).sum::<f64>().sqrt(), group.iter().sum::<f64>()]);
            let mut places: Vec<usize> = (0..columns).collect();
            places.sort_by(|&a, &b| group[b].abs().total_cmp(&group[a].abs()));
            let nowhere = [0.0, (1 << 24) as f64];
            out.extend((0..top).flat_map(|i| places.get(i).map_or(nowhere, |&place| [group[place], place as f64])));
        }
    }
    out
}
