//! From one vector per token to one per sequence.

/// How a sequence's token vectors become its embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The mean over all tokens, the special ones included (Sentence-BERT).
    Mean,
    /// The first token's vector (`[CLS]`; BGE).
    Cls,
}

/// Pools one sequence of `width`-long token vectors.
///
/// # Panics
/// When `tokens` is empty or not whole rows.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a sequence has a few thousand tokens at most")]
pub fn pool(tokens: &[f32], width: usize, pooling: Pooling) -> Vec<f32> {
    assert!(!tokens.is_empty() && tokens.len().is_multiple_of(width), "whole rows, at least one");
    match pooling {
        Pooling::Cls => tokens[..width].to_vec(),
        Pooling::Mean => {
            let mut sum = vec![0f32; width];
            for token in tokens.chunks_exact(width) {
                for (sum, x) in sum.iter_mut().zip(token) {
                    *sum += x;
                }
            }
            let scale = 1.0 / (tokens.len() / width) as f32;
            sum.iter_mut().for_each(|x| *x *= scale);
            sum
        }
    }
}

/// Scales `x` to unit length; a zero vector stays zero.
pub fn l2_normalize(x: &mut [f32]) {
    let length = x.iter().map(|x| x * x).sum::<f32>().sqrt();
    // The floor is PyTorch's (`normalize`, eps = 1e-12).
    let scale = 1.0 / length.max(1e-12);
    x.iter_mut().for_each(|x| *x *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::largest_difference;

    #[test]
    fn pooling_takes_the_mean_or_the_first_and_normalising_gives_unit_length() {
        let tokens = [1.0, 2.0, 3.0, 6.0];
        assert!(largest_difference("mean", &pool(&tokens, 2, Pooling::Mean), &[2.0, 4.0]) < 1e-7);
        assert!(largest_difference("cls", &pool(&tokens, 2, Pooling::Cls), &[1.0, 2.0]) < 1e-7);
        let mut x = [3.0, 4.0];
        l2_normalize(&mut x);
        assert!(largest_difference("unit length", &x, &[0.6, 0.8]) < 1e-7);
        let mut zero = [0.0; 3];
        l2_normalize(&mut zero);
        assert!(zero.iter().all(|x| x.abs() < 1e-9));
    }
}
