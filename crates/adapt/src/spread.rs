//! Labels for texts that have none, from those of their neighbours: label spreading (Zhou et al., "Learning with local and
//! global consistency", NIPS 2003) on the graph of nearest neighbours, with the mass of all classes made equal (class mass
//! normalisation, Zhu et al., ICML 2003).
//!
//! A few labelled examples say where a class is; the texts without labels say what shape it has.

use crate::matrix::Matrix;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use understudy_core::{Error, Result};
use understudy_kernels::train::{Mat, ProductOptions, Right, product};

/// Rows whose likeness to all others is held in memory together.
const BLOCK: usize = 256;
/// No share moves by more than this when spreading ends.
const SETTLED: f32 = 1e-6;

/// How to spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpreadParams {
    /// Neighbours that each text is joined with.
    pub neighbours: usize,
    /// An edge weighs exp((cosine − 1) / temperature).
    pub temperature: f32,
    /// Share that a text takes from its neighbours in each step, in (0, 1); the rest it keeps of its own label.
    pub reach: f32,
    /// Most steps.
    pub steps: usize,
}

impl Default for SpreadParams {
    fn default() -> Self {
        Self { neighbours: 10, temperature: 0.05, reach: 0.95, steps: 100 }
    }
}

/// What the labels say about one text: the share of each class, of sum 1; `None` when no labelled text reaches it.
pub type Shares = Option<Vec<f32>>;

impl SpreadParams {
    /// Checks the parameters.
    ///
    /// # Errors
    /// `Invalid`, naming the field at fault.
    pub fn check(self) -> Result<CheckedSpreadParams> {
        let checks = [
            ("neighbours", self.neighbours > 0, "it must be at least 1"),
            ("temperature", self.temperature.is_finite() && self.temperature > 0.0, "it must be a positive number"),
            ("reach", self.reach > 0.0 && self.reach < 1.0, "it must be in (0, 1)"),
            ("steps", self.steps > 0, "it must be at least 1"),
        ];
        match checks.iter().find(|(_, right, _)| !right) {
            None => Ok(CheckedSpreadParams(self)),
            Some((field, _, what)) => {
                Err(Error::invalid(format!("use spreading parameter `{field}`: {what}")).with_param(*field))
            }
        }
    }
}

/// Parameters that can be used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckedSpreadParams(SpreadParams);

impl CheckedSpreadParams {
    /// Spreads the labels of the first rows of `vectors` (rows of length 1) over the rows that follow; one answer for each
    /// of those.
    ///
    /// # Errors
    /// `Invalid` when there are more labels than rows, or a label is not below `classes`.
    pub fn spread(&self, vectors: &Matrix, labels: &[usize], classes: usize) -> Result<Vec<Shares>> {
        if labels.len() > vectors.rows() || labels.iter().any(|label| *label >= classes) {
            return Err(Error::invalid("spread labels: labels, vectors and classes do not fit together"));
        }
        let edges = self.edges(vectors);
        let (n, reach) = (vectors.rows(), self.0.reach);
        let mut now = vec![0.0f32; n * classes];
        for (row, label) in labels.iter().enumerate() {
            now[row * classes + label] = 1.0;
        }
        let mut next = now.clone();
        for _ in 0..self.0.steps {
            let moved = next.par_chunks_exact_mut(classes).enumerate().map(|(row, to)| {
                to.fill(0.0);
                for &(other, weight) in &edges[row] {
                    let from = &now[other as usize * classes..][..classes];
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += reach * weight * from);
                }
                if let Some(label) = labels.get(row) {
                    to[*label] += 1.0 - reach;
                }
                let before = &now[row * classes..][..classes];
                to.iter().zip(before).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
            });
            let moved = moved.reduce(|| 0.0, f32::max);
            std::mem::swap(&mut now, &mut next);
            if moved < SETTLED {
                break;
            }
        }
        let mut mass = vec![0.0f64; classes];
        for row in now.chunks_exact(classes) {
            mass.iter_mut().zip(row).for_each(|(mass, share)| *mass += f64::from(*share));
        }
        let shares = now[labels.len() * classes..].chunks_exact(classes).map(|row| balanced(row, &mass));
        Ok(shares.collect())
    }

    /// The neighbours of each row in both directions, and the weight of each edge: w / √(degree · degree).
    fn edges(&self, vectors: &Matrix) -> Vec<Vec<(u32, f32)>> {
        let (n, k) = (vectors.rows(), self.0.neighbours);
        let width = vectors.columns();
        let mut edges: Vec<Vec<(u32, f32)>> = vec![Vec::new(); n];
        let mut alike = Vec::new();
        for (block, rows) in vectors.values().chunks(BLOCK * width).enumerate() {
            let some = rows.len() / width;
            alike.clear();
            alike.resize(some * n, 0.0f32);
            let all = Right::Plain(Mat::new(vectors.values(), n, width).t());
            product(Mat::new(rows, some, width), all, ProductOptions::default(), &mut alike);
            let near: Vec<Vec<(u32, f32)>> =
                alike.par_chunks_exact(n).enumerate().map(|(i, alike)| nearest(alike, block * BLOCK + i, k)).collect();
            for (i, near) in near.into_iter().enumerate() {
                let row = block * BLOCK + i;
                for (other, cosine) in near {
                    let weight = ((cosine - 1.0) / self.0.temperature).exp();
                    edges[row].push((other, weight));
                    edges[other as usize].push((narrow(row), weight));
                }
            }
        }
        // An edge that both ends chose is there twice, with weights that differ by rounding at most.
        edges.par_iter_mut().for_each(|edges| {
            edges.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
            edges.dedup_by_key(|edge| edge.0);
        });
        let degree: Vec<f32> = edges.iter().map(|edges| edges.iter().map(|(_, w)| w).sum::<f32>()).collect();
        let root = |row: usize| degree[row].max(f32::MIN_POSITIVE).sqrt();
        edges.par_iter_mut().enumerate().for_each(|(row, edges)| {
            edges.iter_mut().for_each(|(other, weight)| *weight /= root(row) * root(*other as usize));
        });
        edges
    }
}

/// The `k` rows most alike to `row`, other than itself; of equals, the first.
fn nearest(alike: &[f32], row: usize, k: usize) -> Vec<(u32, f32)> {
    let mut others: Vec<(u32, f32)> =
        alike.iter().enumerate().filter(|(other, _)| *other != row).map(|(other, x)| (narrow(other), *x)).collect();
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if others.len() > k {
        others.select_nth_unstable_by(k - 1, order);
        others.truncate(k);
    }
    others
}

/// Shares of classes that all have the same mass.
#[expect(clippy::cast_possible_truncation, reason = "shares of 1")]
fn balanced(row: &[f32], mass: &[f64]) -> Shares {
    let scaled: Vec<f64> =
        row.iter().zip(mass).map(|(share, mass)| if *mass > 0.0 { f64::from(*share) / mass } else { 0.0 }).collect();
    let sum: f64 = scaled.iter().sum();
    (sum > 0.0 && sum.is_finite()).then(|| scaled.iter().map(|x| (x / sum) as f32).collect())
}

#[expect(clippy::cast_possible_truncation, reason = "rows of a few hundred megabytes at most")]
fn narrow(row: usize) -> u32 {
    row as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn unit(rows: &[Vec<f32>]) -> Matrix {
        let scaled = |row: &Vec<f32>| {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter().map(|x| x / length).collect()
        };
        Matrix::from_rows(&rows.iter().map(scaled).collect::<Vec<Vec<f32>>>()).unwrap()
    }

    /// Points on two arcs of a sphere that run beside each other, one of them labelled at one end each.
    fn arcs(n: usize) -> Matrix {
        let point = |arc: usize, i: usize| {
            let t = i as f32 / n as f32 * 2.5;
            vec![t.cos(), t.sin(), if arc == 0 { 0.35 } else { -0.35 }]
        };
        let mut rows = vec![point(0, 0), point(1, n - 1)];
        rows.extend((1..n).map(|i| point(0, i)));
        rows.extend((0..n - 1).map(|i| point(1, i)));
        unit(&rows)
    }

    #[test]
    fn labels_follow_the_shape_of_the_classes_where_the_nearest_labelled_point_is_wrong() {
        let (n, vectors) = (60, arcs(60));
        let params = SpreadParams { neighbours: 2, temperature: 0.05, ..SpreadParams::default() };
        let params = SpreadParams { steps: 20_000, reach: 0.999, ..params };
        let shares = params.check().unwrap().spread(&vectors, &[0, 1], 2).unwrap();
        let right = |i: usize| usize::from(i >= n - 1);
        let given = |shares: &Shares| shares.as_ref().map(|s| usize::from(s[1] > s[0]));
        assert!(shares.iter().enumerate().all(|(i, s)| given(s) == Some(right(i))));
        let alike = |a: usize, b: usize| vectors.row(a).iter().zip(vectors.row(b)).map(|(a, b)| a * b).sum::<f32>();
        let by_nearest = (0..shares.len()).filter(|&i| usize::from(alike(i + 2, 1) > alike(i + 2, 0)) == right(i));
        assert!(by_nearest.count() < shares.len() * 3 / 4);
    }

    #[test]
    fn equals_the_solution_of_the_linear_system() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let rows: Vec<Vec<f32>> = (0..40).map(|_| (0..5).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
        let (vectors, labels, classes) = (unit(&rows), [0, 1, 2, 0, 1, 2], 3);
        let params = SpreadParams { neighbours: 4, temperature: 0.3, steps: 10_000, ..SpreadParams::default() };
        let shares = params.check().unwrap().spread(&vectors, &labels, classes).unwrap();
        // Densely and naively: F = (I − reach · S)⁻¹ Y, by Gaussian elimination.
        let n = rows.len();
        let cosine = |i: usize, j: usize| -> f64 {
            vectors.row(i).iter().zip(vectors.row(j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let near: Vec<Vec<usize>> = (0..n)
            .map(|i| {
                let mut order: Vec<usize> = (0..n).filter(|j| *j != i).collect();
                order.sort_by(|a, b| cosine(i, *b).total_cmp(&cosine(i, *a)));
                order.truncate(4);
                order
            })
            .collect();
        let weight = |i: usize, j: usize| {
            let joined = near[i].contains(&j) || near[j].contains(&i);
            if joined { ((cosine(i, j) - 1.0) / 0.3).exp() } else { 0.0 }
        };
        let w: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| weight(i, j)).collect()).collect();
        let degree: Vec<f64> = w.iter().map(|row| row.iter().sum()).collect();
        let reach = f64::from(params.reach);
        let mut system: Vec<Vec<f64>> = (0..n)
            .map(|i| {
                let left =
                    (0..n).map(|j| f64::from(u8::from(i == j)) - reach * w[i][j] / (degree[i] * degree[j]).sqrt());
                let right = (0..classes).map(|c| if labels.get(i) == Some(&c) { 1.0 - reach } else { 0.0 });
                left.chain(right).collect()
            })
            .collect();
        for i in 0..n {
            let pivot = system[i][i];
            system[i].iter_mut().for_each(|x| *x /= pivot);
            let row = system[i].clone();
            for (_, other) in system.iter_mut().enumerate().filter(|(j, _)| *j != i) {
                let factor = other[i];
                other.iter_mut().zip(&row).for_each(|(x, y)| *x -= factor * y);
            }
        }
        let mass: Vec<f64> = (0..classes).map(|c| system.iter().map(|row| row[n + c]).sum()).collect();
        for (got, row) in shares.iter().zip(&system[labels.len()..]) {
            let scaled: Vec<f64> = (0..classes).map(|c| row[n + c] / mass[c]).collect();
            let sum: f64 = scaled.iter().sum();
            for (c, share) in got.as_ref().unwrap().iter().enumerate() {
                assert!((f64::from(*share) - scaled[c] / sum).abs() < 1e-3, "{share} {}", scaled[c] / sum);
            }
        }
    }

    #[test]
    fn what_no_label_reaches_gets_none() {
        let far = unit(&[vec![1.0, 0.0], vec![0.9, 0.1], vec![-1.0, 0.01], vec![-1.0, 0.02]]);
        let params = SpreadParams { neighbours: 1, ..SpreadParams::default() }.check().unwrap();
        let shares = params.spread(&far, &[1], 2).unwrap();
        assert_eq!(shares[0], Some(vec![0.0, 1.0]));
        assert_eq!(shares[1..], [None, None]);
        assert!(params.spread(&far, &[2], 2).is_err() && params.spread(&far, &[0; 5], 2).is_err());
        assert_eq!(params.spread(&far, &[0, 0, 0, 0], 2).unwrap(), []);
    }
}
