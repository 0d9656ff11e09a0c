//! Seeds: randomness arrives from outside, and the same seed gives the same result.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The root of a stream of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// An independent seed for a named part, so that adding a part does not shift the others' randomness.
    #[must_use]
    pub fn derive(self, part: &str) -> Seed {
        let digest = Sha256::new().chain_update(self.0.to_le_bytes()).chain_update(part.as_bytes()).finalize();
        Seed(u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes")))
    }
}
