//! Dropout without a state: whether a number is dropped is a function of seed, step, layer, site and place, so that the
//! backward pass repeats the forward pass's choice, and a resumed run that of the run that was cut off.

/// Which numbers of one activation are dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    keys: [u32; 2],
    /// Numbers whose hash is below this are dropped.
    threshold: u32,
    /// What the others are multiplied with, so that the expectation stays.
    scale: f32,
}

impl Dropout {
    /// Drops about a share of `rate`; `None` when the rate is 0. `place` names the activation: step, layer, site.
    ///
    /// # Panics
    /// When `rate` is not in [0, 1).
    #[must_use]
    pub fn new(rate: f32, seed: u64, place: [u64; 3]) -> Option<Self> {
        assert!((0.0..1.0).contains(&rate), "a share below 1");
        let mut key = seed;
        for part in place {
            key = split_mix(key ^ split_mix(part));
        }
        let halves = [key >> 32, key & 0xffff_ffff];
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "halves of 64 bits; rate is in [0, 1)"
        )]
        let (keys, threshold) = (halves.map(|half| half as u32), (f64::from(rate) * 2f64.powi(32)) as u32);
        (threshold > 0).then_some(Self { keys, threshold, scale: 1.0 / (1.0 - rate) })
    }

    /// What the number at `index` is multiplied with: 0 or 1 / (1 − rate).
    #[inline(always)]
    #[must_use]
    pub fn factor(&self, index: u32) -> f32 {
        if hash(self.keys, index) < self.threshold { 0.0 } else { self.scale }
    }

    /// Applies it to numbers that lie from `first` on in the activation. The same call on a gradient is the backward
    /// pass.
    #[inline(always)]
    pub fn apply(&self, x: &mut [f32], first: usize) {
        #[expect(clippy::cast_possible_truncation, reason = "an activation has fewer than 2³² numbers")]
        let first = first as u32;
        for (i, x) in (0u32..).zip(x) {
            *x *= self.factor(first.wrapping_add(i));
        }
    }
}

/// The finaliser of SplitMix64 (Steele et al. 2014).
fn split_mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A keyed hash of 32 bits: C. Wellons' lowbias32 with a key before each multiplication. Only shifts, products and xors
/// of 32 bits, so that a loop over indices becomes vector instructions.
#[inline(always)]
fn hash(keys: [u32; 2], index: u32) -> u32 {
    let x = index ^ keys[0];
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = x.wrapping_add(keys[1]);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_the_expectation_stays_and_places_are_independent() {
        let n = 200_000;
        let masks: Vec<Vec<f32>> = [[1, 0, 0], [2, 0, 0], [1, 1, 0], [1, 0, 1]]
            .iter()
            .map(|place| {
                let dropout = Dropout::new(0.1, 7, *place).unwrap();
                let mut x = vec![1.0; n];
                dropout.apply(&mut x[..77], 0);
                dropout.apply(&mut x[77..], 77);
                let whole: Vec<f32> = (0..n as u32).map(|i| dropout.factor(i)).collect();
                assert!(x == whole, "the place decides, not the call");
                x
            })
            .collect();
        for (i, a) in masks.iter().enumerate() {
            let dropped = a.iter().filter(|x| **x < 0.5).count() as f64 / n as f64;
            let mean = a.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
            // Four standard deviations of a share of 0.1 among 200,000: 0.0027.
            assert!((dropped - 0.1).abs() < 0.0027 && (mean - 1.0).abs() < 0.003, "{dropped} {mean}");
            for b in &masks[..i] {
                let both = a.iter().zip(b).filter(|(a, b)| **a < 0.5 && **b < 0.5).count() as f64 / n as f64;
                assert!((both - 0.01).abs() < 0.0009, "{both}");
            }
            // Neighbours, and the same place in rows of 384, are independent too.
            for lag in [1, 2, 32, 384] {
                let both = a.iter().zip(&a[lag..]).filter(|(a, b)| **a < 0.5 && **b < 0.5).count() as f64 / n as f64;
                assert!((both - 0.01).abs() < 0.0009, "lag {lag}: {both}");
            }
        }
        assert!(Dropout::new(0.0, 7, [0; 3]).is_none());
    }
}
