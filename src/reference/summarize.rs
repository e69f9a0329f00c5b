//! Norm, mean and largest element of groups of rows, in f64.

/// `[rows, groups, 4]`: of each group ‖x‖, its mean, the element of largest magnitude (the first of equals) and its place.
pub fn summarize(x: &[f64], stride: usize, first: usize, groups: usize, columns: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for row in x.chunks_exact(stride) {
        for group in row[first..first + groups * columns].chunks_exact(columns) {
            let norm = group.iter().map(|x| x * x).sum::<f64>().sqrt();
            let mut place = 0;
            for (i, x) in group.iter().enumerate() {
                if x.abs() > group[place].abs() {
                    place = i;
                }
            }
            out.extend([norm, group.iter().sum::<f64>() / columns as f64, group[place], place as f64]);
        }
    }
    out
}
