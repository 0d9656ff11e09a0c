//! Rows of a table by index, and their gradient.

use super::ROWS;
use rayon::prelude::*;

/// Writes row `ids[i]` of `table` to row i of `out`.
///
/// # Panics
/// When the shapes do not agree or an id is outside the table.
pub fn gather_rows(table: &[f32], width: usize, ids: &[u32], out: &mut [f32]) {
    assert_eq!(out.len(), ids.len() * width, "one row for each id");
    out.par_chunks_mut((ROWS * width).max(1)).zip(ids.par_chunks(ROWS)).for_each(|(out, ids)| {
        for (out, id) in out.chunks_exact_mut(width).zip(ids) {
            out.copy_from_slice(&table[*id as usize * width..][..width]);
        }
    });
}

/// Adds row i of `grad` to row `ids[i]` of `table`, in order, on the calling thread: a batch has few rows, and an id
/// that occurs twice is always summed in the same order.
///
/// # Panics
/// When the shapes do not agree or an id is outside the table.
pub fn scatter_add_rows(grad: &[f32], width: usize, ids: &[u32], table: &mut [f32]) {
    assert_eq!(grad.len(), ids.len() * width, "one row for each id");
    for (grad, id) in grad.chunks_exact(width.max(1)).zip(ids) {
        let row = &mut table[*id as usize * width..][..width];
        row.iter_mut().zip(grad).for_each(|(to, x)| *to += x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    #[test]
    fn scattering_is_the_transpose_of_gathering() {
        let (rows, width) = (20, 7);
        let ids: Vec<u32> = (0..150).map(|i| i * i % rows).collect();
        let (table, grad) = (noise(1, rows as usize * width), noise(2, ids.len() * width));
        let mut gathered = vec![0.0; ids.len() * width];
        gather_rows(&table, width, &ids, &mut gathered);
        let want: Vec<f32> = ids.iter().flat_map(|i| table[*i as usize * width..][..width].to_vec()).collect();
        assert!(largest_difference("gather", &gathered, &want) < 1e-9);
        let mut scattered = vec![0.0; table.len()];
        scatter_add_rows(&grad, width, &ids, &mut scattered);
        let mut want = vec![0f64; table.len()];
        for (i, id) in ids.iter().enumerate() {
            for j in 0..width {
                want[*id as usize * width + j] += f64::from(grad[i * width + j]);
            }
        }
        let want: Vec<f32> = want.into_iter().map(|x| x as f32).collect();
        assert!(largest_difference("scatter", &scattered, &want) < 1e-5);
    }
}
