//! Limited-memory BFGS for smooth convex functions (Nocedal & Wright, *Numerical Optimization*, 2006, algorithm 7.5),
//! with a backtracking line search.

use std::collections::VecDeque;

/// Pairs of steps and gradient changes that are remembered.
const MEMORY: usize = 10;
/// Sufficient decrease of the line search (Armijo).
const DECREASE: f64 = 1e-4;

/// Relative decrease below which a step only follows the rounding of 32-bit sums.
const RESOLUTION: f64 = 1e-10;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest absolute entry of the gradient at which the point counts as the minimum.
    pub tolerance: f64,
    /// Most steps.
    pub max_iterations: usize,
}

/// Moves `x` to the minimum of `f`, which returns the value and fills in the gradient. Returns the number of steps.
pub fn minimise(x: &mut [f64], limits: Limits, mut f: impl FnMut(&[f64], &mut [f64]) -> f64) -> usize {
    let mut gradient = vec![0.0; x.len()];
    let mut value = f(x, &mut gradient);
    let mut memory: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    let (mut next, mut next_gradient) = (x.to_vec(), gradient.clone());
    for iteration in 0..limits.max_iterations {
        if gradient.iter().all(|g| g.abs() <= limits.tolerance) {
            return iteration;
        }
        let mut direction = descent(&gradient, &memory);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            // Rounding has spoilt the memory: start again along the gradient.
            memory.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = dot(&direction, &gradient);
        }
        let mut step = if memory.is_empty() { 1.0 / (-slope).sqrt() } else { 1.0 };
        let before = value;
        let decreased = (0..20).any(|_| {
            for ((next, x), d) in next.iter_mut().zip(&*x).zip(&direction) {
                *next = x + step * d;
            }
            let next_value = f(&next, &mut next_gradient);
            if next_value <= value + DECREASE * step * slope {
                value = next_value;
                return true;
            }
            // Minimum of the parabola through value, slope and the new value, kept within reason.
            let parabola = -slope * step * step / (2.0 * (next_value - value - step * slope));
            step = parabola.clamp(0.1 * step, 0.5 * step);
            false
        });
        if !decreased {
            // Below the resolution of the function: nothing better can be found.
            return iteration;
        }
        let s: Vec<f64> = next.iter().zip(&*x).map(|(n, x)| n - x).collect();
        let y: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(n, g)| n - g).collect();
        let curvature = dot(&s, &y);
        if curvature > 1e-12 * dot(&y, &y).sqrt() * dot(&s, &s).sqrt() {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back(Pair { s, y, curvature });
        }
        x.copy_from_slice(&next);
        if before - value <= RESOLUTION * before.abs() {
            return iteration + 1;
        }
        gradient.copy_from_slice(&next_gradient);
    }
    limits.max_iterations
}

struct Pair {
    s: Vec<f64>,
    y: Vec<f64>,
    curvature: f64,
}

/// Minus the gradient times the approximate inverse Hessian (two-loop recursion).
fn descent(gradient: &[f64], memory: &VecDeque<Pair>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut factors = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let factor = dot(&pair.s, &q) / pair.curvature;
        add(&mut q, -factor, &pair.y);
        factors.push(factor);
    }
    if let Some(last) = memory.back() {
        let scale = last.curvature / dot(&last.y, &last.y);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for (pair, factor) in memory.iter().zip(factors.iter().rev()) {
        let correction = factor - dot(&pair.y, &q) / pair.curvature;
        add(&mut q, correction, &pair.s);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, x: &[f64]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_minimum_of_an_ill_conditioned_quadratic() {
        let scales = [1.0, 10.0, 100.0, 1000.0];
        let mut x = vec![3.0, -2.0, 1.0, 5.0];
        let steps = minimise(&mut x, Limits { tolerance: 1e-10, max_iterations: 200 }, |x, g| {
            for i in 0..4 {
                g[i] = scales[i] * (x[i] - 1.0);
            }
            (0..4).map(|i| 0.5 * scales[i] * (x[i] - 1.0).powi(2)).sum()
        });
        assert!(steps < 60, "{steps} steps");
        assert!(x.iter().all(|x| (x - 1.0).abs() < 1e-8), "{x:?}");
    }
}
