//! What a model learned from, as far as it must be known again: nothing is judged on it later.

use std::{collections::BTreeSet, path::Path};
use understudy_core::{Error, Result};

/// Texts that had a part in a training: the first eight bytes of each one's hash ([`crate::text_hash`],
/// [`crate::Row::content_hash`]). A strange text is taken for one of a million of them with a chance of 5e-14.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned(BTreeSet<u64>);

impl Learned {
    /// Its file in an artifact's folder.
    pub const FILE: &'static str = "learned.bin";

    /// Texts by their hashes.
    #[must_use]
    pub fn of(hashes: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self(hashes.into_iter().filter_map(|hash| short(hash.as_ref())).collect())
    }

    /// True when the text of this hash had a part.
    #[must_use]
    pub fn has(&self, hash: &str) -> bool {
        short(hash).is_some_and(|hash| self.0.contains(&hash))
    }

    /// With what another training saw.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Ascending, eight bytes each, the most significant first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|hash| hash.to_be_bytes()).collect()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// `Data` when it is not that.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (hashes, rest) = bytes.as_chunks::<8>();
        let hashes: Vec<u64> = hashes.iter().map(|hash| u64::from_be_bytes(*hash)).collect();
        if !rest.is_empty() || !hashes.is_sorted_by(|a, b| a < b) {
            return Err(Error::data("read what the model learned from: it is no list of hashes"));
        }
        Ok(Self(hashes.into_iter().collect()))
    }

    /// What the artifact in a folder learned from; `None` where it does not say.
    ///
    /// # Errors
    /// `Data` when the file cannot be read.
    pub fn beside(dir: &Path) -> Result<Option<Self>> {
        let file = dir.join(Self::FILE);
        match std::fs::read(&file) {
            Ok(bytes) => Self::from_bytes(&bytes).map(Some).map_err(|e| e.context(file.display().to_string())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::data(format!("read {}: {e}", file.display()))),
        }
    }

    /// The same for what is to be judged: where nothing is said of what taught it, any row might have.
    ///
    /// # Errors
    /// As [`Self::beside`], and `Data` where it does not say.
    pub fn of_artifact(dir: &Path) -> Result<Self> {
        Self::beside(dir)?.ok_or_else(|| {
            Error::data(format!(
                "judge {}: it does not say which texts it learned from ({} is missing: an earlier release made it); train \
                 it anew",
                dir.display(),
                Self::FILE
            ))
        })
    }

    /// True when nothing had a part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn short(hash: &str) -> Option<u64> {
    u64::from_str_radix(hash.get(..16)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text_hash;

    #[test]
    fn what_was_learned_is_known_again_however_it_is_spaced() {
        let learned = Learned::of([text_hash("one text"), text_hash("another")]).and(Learned::of([text_hash("third")]));
        let read = Learned::from_bytes(&learned.to_bytes()).unwrap();
        assert_eq!(read, learned);
        for (text, known) in [("One  text", true), ("third", true), ("a stranger", false)] {
            assert_eq!(read.has(&text_hash(text)), known, "{text}");
        }
        assert!(Learned::from_bytes(&[0; 9]).is_err() && Learned::from_bytes(&[0; 16]).is_err());
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(Learned::beside(tmp.path()).unwrap(), None);
        assert!(Learned::of_artifact(tmp.path()).unwrap_err().to_string().contains("train it anew"));
        std::fs::write(tmp.path().join(Learned::FILE), [1; 3]).unwrap();
        assert!(Learned::beside(tmp.path()).unwrap_err().to_string().contains(Learned::FILE));
    }
}
