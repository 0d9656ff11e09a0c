//! Random numbers of the unit tests.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `count` draws from [0, 1).
pub(crate) fn draws(seed: u64, count: usize) -> impl Iterator<Item = f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(move |_| rng.random::<f64>())
}
