//! Where more users stop helping: the universal scalability law, and the point where the two asymptotes meet.

use super::Measured;

/// The universal scalability law X(N) = λN / (1 + σ(N − 1) + κN(N − 1)) (N. Gunther, *Guerrilla Capacity Planning*, 2007,
/// chapter 4), fitted to throughput over users.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scalability {
    /// Throughput of one user, a second.
    pub lambda: f64,
    /// Contention: the part that only one may do at a time, ≥ 0.
    pub sigma: f64,
    /// Coherence: what users cost each other in pairs, ≥ 0.
    pub kappa: f64,
    /// Users at the highest throughput; none when throughput never falls.
    pub peak_users: Option<f64>,
    /// Share of the variance of throughput that the fit explains.
    pub r_squared: f64,
    /// Steps that it rests on.
    pub n: usize,
}

impl Scalability {
    /// Throughput of so many users by the fitted law, a second.
    #[must_use]
    pub fn per_second(&self, users: f64) -> f64 {
        self.lambda * users / (1.0 + self.sigma * (users - 1.0) + self.kappa * users * (users - 1.0))
    }
}

/// Fits the law by least squares on N / X(N), which is linear in its terms, weighted by X² so that errors are relative;
/// terms that come out negative are left out. `None` with fewer than three steps or throughputs that are not positive.
#[must_use]
pub fn scalability(points: &[(f64, f64)]) -> Option<Scalability> {
    if points.len() < 3 || points.iter().any(|(n, x)| *n < 1.0 || *x <= 0.0 || !x.is_finite()) {
        return None;
    }
    // Four candidates: with and without each of the two terms; the best that has no negative one.
    let best = [[true, true], [true, false], [false, true], [false, false]]
        .into_iter()
        .filter_map(|terms| fit(points, terms))
        .filter(|(c, _)| c[0] > 0.0 && c[1] >= 0.0 && c[2] >= 0.0)
        .min_by(|a, b| a.1.total_cmp(&b.1))?;
    let [base, contention, coherence] = best.0;
    let (lambda, sigma, kappa) = (1.0 / base, contention / base, coherence / base);
    let mut fit = Scalability {
        lambda,
        sigma,
        kappa,
        // With a contention of one or more the first user is the best.
        peak_users: (kappa > 0.0 || sigma > 1.0)
            .then(|| ((1.0 - sigma).max(0.0) / kappa.max(f64::MIN_POSITIVE)).sqrt().max(1.0)),
        r_squared: 1.0,
        n: points.len(),
    };
    let mean = points.iter().map(|p| p.1).sum::<f64>() / points.len() as f64;
    let total: f64 = points.iter().map(|p| (p.1 - mean).powi(2)).sum();
    let rest: f64 = points.iter().map(|p| (p.1 - fit.per_second(p.0)).powi(2)).sum();
    if total > 0.0 {
        fit.r_squared = 1.0 - rest / total;
    }
    Some(fit)
}

/// Weighted least squares of N/X on 1, N − 1 and N(N − 1), the last two where `terms` says so: coefficients and the rest.
fn fit(points: &[(f64, f64)], terms: [bool; 2]) -> Option<([f64; 3], f64)> {
    let used: Vec<usize> = [Some(0), terms[0].then_some(1), terms[1].then_some(2)].into_iter().flatten().collect();
    let row = |n: f64| [1.0, n - 1.0, n * (n - 1.0)];
    let size = used.len();
    let mut matrix = vec![vec![0.0; size + 1]; size];
    for &(n, x) in points {
        // y = N/X has an error of y · δX/X: weight 1/y² makes it relative.
        let (terms, y) = (row(n), n / x);
        let weight = 1.0 / (y * y);
        for (i, a) in used.iter().enumerate() {
            for (j, b) in used.iter().enumerate() {
                matrix[i][j] += weight * terms[*a] * terms[*b];
            }
            matrix[i][size] += weight * terms[*a] * y;
        }
    }
    let solution = solve(matrix)?;
    let mut coefficients = [0.0; 3];
    for (place, value) in used.into_iter().zip(solution) {
        coefficients[place] = value;
    }
    let rest = points
        .iter()
        .map(|&(n, x)| {
            let y: f64 = row(n).iter().zip(coefficients).map(|(a, b)| a * b).sum();
            (y * x / n - 1.0).powi(2)
        })
        .sum();
    Some((coefficients, rest))
}

/// Gaussian elimination with pivots; `None` when singular.
fn solve(mut m: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let size = m.len();
    for column in 0..size {
        let pivot = (column..size).max_by(|a, b| m[*a][column].abs().total_cmp(&m[*b][column].abs()))?;
        if m[pivot][column].abs() < 1e-300 {
            return None;
        }
        m.swap(column, pivot);
        for row in 0..size {
            if row != column {
                let factor = m[row][column] / m[column][column];
                let above = m[column].clone();
                for (x, y) in m[row].iter_mut().zip(above).skip(column) {
                    *x -= factor * y;
                }
            }
        }
    }
    Some((0..size).map(|i| m[i][size] / m[i][i]).collect())
}

/// Users from which on they mostly wait for each other: N* = X_max · R_1, where the line of a lone user meets the highest
/// throughput (Denning and Buzen, *Computing Surveys* 10, 1978). None without a step of one user.
#[must_use]
pub fn saturation_users(steps: &[Measured]) -> Option<f64> {
    let alone = steps.iter().find(|m| m.offered.users() == Some(1) && m.answered() > 0)?;
    let finite: Vec<f64> = alone.latencies_ms.iter().copied().filter(|ms| ms.is_finite()).collect();
    let mean_s = finite.iter().sum::<f64>() / finite.len() as f64 / 1e3;
    let highest = steps.iter().filter(|m| m.offered.users().is_some()).map(Measured::per_second).fold(0.0, f64::max);
    Some(highest * mean_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law(lambda: f64, sigma: f64, kappa: f64) -> Vec<(f64, f64)> {
        [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
            .map(|n| (n, lambda * n / (1.0 + sigma * (n - 1.0) + kappa * n * (n - 1.0))))
            .to_vec()
    }

    #[test]
    fn the_law_is_found_again_in_its_own_points() {
        let found = scalability(&law(995.6, 0.0267, 0.000_769)).expect("seven steps");
        assert!((found.lambda / 995.6 - 1.0).abs() < 1e-9 && (found.sigma / 0.0267 - 1.0).abs() < 1e-9, "{found:?}");
        assert!((found.kappa / 0.000_769 - 1.0).abs() < 1e-9 && found.r_squared > 0.999_999);
        // Gunther's example: the peak lies near 35 users.
        assert!((found.peak_users.expect("it falls") - 35.6).abs() < 0.1, "{found:?}");
    }

    #[test]
    fn throughput_that_never_falls_has_no_peak() {
        let found = scalability(&law(100.0, 0.5, 0.0)).expect("seven steps");
        assert!(found.kappa < 1e-9 && (found.sigma - 0.5).abs() < 1e-6, "{found:?}");
        // Better than linear: both terms would be negative and are left out.
        let linear = scalability(&[(1.0, 10.0), (2.0, 21.0), (4.0, 44.0)]).expect("three steps");
        assert_eq!((linear.peak_users, linear.sigma.abs() < 1e-12), (None, true));
        assert!(scalability(&[(1.0, 10.0), (2.0, 20.0)]).is_none());
    }
}
