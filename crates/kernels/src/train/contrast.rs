//! The supervised contrastive loss (Khosla et al., arXiv 2004.11362, `L_out`): vectors of one class are pulled together
//! and pushed from the others, all of a batch at once, so that no pairs need to be listed.

use super::loss::Loss;

/// The loss of unit-length `vectors` (rows of `width`), one class each: for a vector with others of its class, the mean
/// over them of −ln of its likeness to that one among its likeness to all, likeness being exp(u·v / temperature). Vectors
/// that are alone in their class only push. Writes the gradient of `scale · sum`.
///
/// # Panics
/// When the shapes do not agree or the temperature is not positive.
pub fn supervised_contrast(vectors: &[f32], classes: &[usize], temperature: f64, scale: f64, grad: &mut [f32]) -> Loss {
    let n = classes.len();
    let width = vectors.len() / n.max(1);
    assert!(vectors.len() == n * width && grad.len() == vectors.len(), "a vector for each class");
    assert!(temperature > 0.0, "a positive temperature");
    let row = |i: usize| &vectors[i * width..][..width];
    let mut similar = vec![0f64; n * n];
    for i in 0..n {
        for j in 0..i {
            let dot: f32 = row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum();
            similar[i * n + j] = f64::from(dot) / temperature;
            similar[j * n + i] = similar[i * n + j];
        }
    }
    let mut loss = Loss::default();
    // ∂L/∂(u_i·u_j / τ) as anchor i sees it.
    let mut pull = vec![0f64; n * n];
    for i in 0..n {
        let friends = (0..n).filter(|&j| j != i && classes[j] == classes[i]).count();
        if friends == 0 {
            continue;
        }
        let row = &similar[i * n..][..n];
        let others = || (0..n).filter(|&j| j != i);
        let most = others().map(|j| row[j]).fold(f64::NEG_INFINITY, f64::max);
        let log_sum = others().map(|j| (row[j] - most).exp()).sum::<f64>().ln() + most;
        for j in others() {
            let friend = if classes[j] == classes[i] { 1.0 / friends as f64 } else { 0.0 };
            loss.sum += friend * (log_sum - row[j]);
            pull[i * n + j] = (row[j] - log_sum).exp() - friend;
        }
        loss.weight += 1.0;
    }
    grad.fill(0.0);
    for i in 0..n {
        let grad = &mut grad[i * width..][..width];
        for j in (0..n).filter(|&j| j != i) {
            #[expect(clippy::cast_possible_truncation, reason = "computed in f64, stored in f32")]
            let factor = (scale / temperature * (pull[i * n + j] + pull[j * n + i])) as f32;
            grad.iter_mut().zip(row(j)).for_each(|(g, v)| *g += factor * v);
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    fn unit(seed: u64, n: usize, width: usize) -> Vec<f32> {
        let mut x = noise(seed, n * width);
        for row in x.chunks_exact_mut(width) {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= length);
        }
        x
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let (n, width, classes) = (7, 5, [0, 1, 0, 2, 1, 0, 3]);
        let mut x = unit(1, n, width);
        let mut grad = vec![0.0; x.len()];
        let loss = supervised_contrast(&x, &classes, 0.3, 0.5, &mut grad);
        assert!(loss.sum > 0.0 && (loss.weight - 5.0).abs() < 1e-12);
        let mut unused = grad.clone();
        let mut worst = 0f64;
        for i in 0..x.len() {
            let start = x[i];
            let mut at = |value: f32| {
                x[i] = value;
                0.5 * supervised_contrast(&x, &classes, 0.3, 0.5, &mut unused).sum
            };
            let slope = (at(start + 1e-2) - at(start - 1e-2)) / 2e-2;
            x[i] = start;
            worst = worst.max((slope - f64::from(grad[i])).abs());
        }
        println!("largest difference between slope and gradient {worst:.1e}");
        assert!(worst < 2e-3);
    }

    #[test]
    fn classes_that_lie_together_cost_less_and_vectors_alone_cost_nothing() {
        let (a, b) = (unit(1, 1, 8), unit(2, 1, 8));
        let mut grad = vec![0.0; 32];
        let mut of = |rows: [&[f32]; 4], classes: [usize; 4]| {
            supervised_contrast(&rows.concat(), &classes, 0.1, 1.0, &mut grad).sum
        };
        let (near, far) = (of([&a, &a, &b, &b], [0, 0, 1, 1]), of([&a, &b, &a, &b], [0, 0, 1, 1]));
        assert!(near < far && of([&a, &a, &b, &b], [0, 1, 2, 3]).abs() < 1e-12);
    }
}
