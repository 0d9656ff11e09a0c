//! Rotary positions (Su et al., arXiv 2104.09864): number i and number i + half of a head turn by an angle that grows with
//! the position. The gradient is turned back.

use super::ROWS;
use rayon::prelude::*;

/// Which way to turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Queries and keys.
    Forward,
    /// Their gradients.
    Backward,
}

/// Cosines and sines of every position.
#[derive(Debug, Clone)]
pub struct Rotary {
    half: usize,
    /// For each position: `half` cosines, then `half` sines.
    table: Vec<f32>,
}

impl Rotary {
    /// Angles position · theta^(−2i / head_width) / factors\[i\], for `positions` positions. `factors` has `head_width` / 2
    /// numbers, or none for 1.
    ///
    /// # Panics
    /// When `head_width` is odd or `factors` has another length.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "computed in f64, used in f32")]
    pub fn new(head_width: usize, theta: f64, factors: &[f32], positions: usize) -> Self {
        assert!(head_width.is_multiple_of(2), "numbers turn in pairs");
        let half = head_width / 2;
        assert!(factors.is_empty() || factors.len() == half, "one factor for each pair");
        let speed = |i: usize| {
            theta.powf(-2.0 * i as f64 / head_width as f64) / factors.get(i).map_or(1.0, |factor| f64::from(*factor))
        };
        let speeds: Vec<f64> = (0..half).map(speed).collect();
        let mut table = Vec::with_capacity(positions * head_width);
        for position in 0..positions {
            let angles = speeds.iter().map(|speed| speed * position as f64);
            table.extend(angles.clone().map(|angle| angle.cos() as f32));
            table.extend(angles.map(|angle| angle.sin() as f32));
        }
        Self { half, table }
    }

    /// For each position, half a head's cosines and then its sines.
    #[must_use]
    pub fn table(&self) -> &[f32] {
        &self.table
    }

    /// Positions it knows.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.table.len() / (2 * self.half).max(1)
    }

    /// Turns the first `heads` heads of every row of `width` numbers. `positions` has the position of each row.
    ///
    /// # Panics
    /// When the shapes do not agree or a position is beyond the table.
    pub fn rotate(&self, rows: &mut [f32], width: usize, heads: usize, positions: &[u32], direction: Direction) {
        assert!(rows.len() == positions.len() * width && heads * 2 * self.half <= width, "rows of heads");
        let sign = if direction == Direction::Forward { 1.0 } else { -1.0 };
        rows.par_chunks_mut((ROWS * width).max(1)).zip(positions.par_chunks(ROWS)).for_each(|(rows, positions)| {
            for (row, position) in rows.chunks_exact_mut(width).zip(positions) {
                let angles = &self.table[*position as usize * 2 * self.half..][..2 * self.half];
                let (cosines, sines) = angles.split_at(self.half);
                for head in row[..heads * 2 * self.half].chunks_exact_mut(2 * self.half) {
                    let (first, second) = head.split_at_mut(self.half);
                    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                        let (x, y) = (*a, *b);
                        *a = x * cos - sign * y * sin;
                        *b = y * cos + sign * x * sin;
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{largest_difference, noise};

    #[test]
    fn pairs_turn_by_their_angle_and_back() {
        let (head_width, heads, width, theta) = (8, 3, 40, 10_000.0f64);
        let positions: Vec<u32> = (0..70).chain(0..5).collect();
        let factors = [1.0, 2.0, 1.0, 4.0];
        let rotary = Rotary::new(head_width, theta, &factors, 70);
        assert_eq!(rotary.positions(), 70);
        let start = noise(1, positions.len() * width);
        let mut got = start.clone();
        rotary.rotate(&mut got, width, heads, &positions, Direction::Forward);
        let want: Vec<f32> = (0..start.len())
            .map(|at| {
                let (row, column) = (at / width, at % width);
                if column >= heads * head_width {
                    return start[at];
                }
                let (i, second) = (column % head_width % 4, column % head_width >= 4);
                let angle = f64::from(positions[row]) * theta.powf(-(i as f64) / 4.0) / f64::from(factors[i]);
                let pair = if second { start[at - 4] } else { start[at + 4] };
                let sign = if second { 1.0 } else { -1.0 };
                (f64::from(start[at]) * angle.cos() + sign * f64::from(pair) * angle.sin()) as f32
            })
            .collect();
        assert!(largest_difference("rotary", &got, &want) < 1e-6);
        rotary.rotate(&mut got, width, heads, &positions, Direction::Backward);
        assert!(largest_difference("rotary there and back", &got, &start) < 1e-6);
    }
}
