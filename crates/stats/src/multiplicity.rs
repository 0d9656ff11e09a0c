//! Many tests at once: p-values raised so that they can be compared with the level as if each were alone.

/// Holm's step-down adjustment: the chance of any false rejection is at most the level, whatever the dependence
/// (S. Holm, 1979). In the order given.
#[must_use]
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut adjusted = vec![0.0; p.len()];
    let mut most = 0.0_f64;
    for (rank, &i) in ascending(p).iter().enumerate() {
        most = most.max((p.len() - rank) as f64 * p[i]).min(1.0);
        adjusted[i] = most;
    }
    adjusted
}

/// Benjamini and Hochberg's adjustment: among the rejections, the expected share of false ones is at most the level,
/// for independent or positively dependent tests (1995; Benjamini and Yekutieli, 2001). In the order given.
#[must_use]
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut adjusted = vec![0.0; p.len()];
    let mut least = 1.0_f64;
    for (rank, &i) in ascending(p).iter().enumerate().rev() {
        least = least.min(p.len() as f64 / (rank + 1) as f64 * p[i]);
        adjusted[i] = least;
    }
    adjusted
}

fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn textbook_values_come_out_in_the_order_given() {
        let p = [0.04, 0.01, 0.03, 0.005];
        let close = |found: Vec<f64>, expected: [f64; 4]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{found:?}");
        };
        close(holm(&p), [0.06, 0.03, 0.06, 0.02]);
        close(benjamini_hochberg(&p), [0.04, 0.02, 0.04, 0.02]);
        assert!(holm(&[]).is_empty() && benjamini_hochberg(&[]).is_empty());
    }
}
