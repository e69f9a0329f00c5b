//! Embedding sum in f64.

/// `out[t] = words[id] · scale + positions[position] + types[type]`; tables are `[rows, columns]`, absent ones empty.
pub fn embed(
    tokens: &[[u32; 4]],
    words: &[f64],
    positions: &[f64],
    types: &[f64],
    columns: usize,
    scale: f64,
) -> Vec<f64> {
    let mut out = Vec::new();
    for &[id, position, kind, _] in tokens {
        for c in 0..columns {
            let mut sum = words[id as usize * columns + c] * scale;
            if !positions.is_empty() {
                sum += positions[position as usize * columns + c];
            }
            if !types.is_empty() {
                sum += types[kind as usize * columns + c];
            }
            out.push(sum);
        }
    }
    out
}
