//! Content hashes: SHA-256 in lowercase hex.

use sha2::{Digest, Sha256};

/// SHA-256 of `bytes` as 64 lowercase hex digits.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lowercase hex of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// A number in [0, 1) that depends only on `text`: the base of splits that never move a row when others come or go.
#[must_use]
pub fn unit_interval(text: &str) -> f64 {
    let digest = Sha256::digest(text.as_bytes());
    let bits = u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_text_has_the_known_digest() {
        assert_eq!(&sha256_hex(b"")[..16], "e3b0c44298fc1c14");
        assert!((0.0..1.0).contains(&unit_interval("a")));
    }
}
