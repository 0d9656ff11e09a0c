//! Known words and pieces of words, read from an artifact: what a linear classifier without an encoder sees of a text.

use safetensors::{Dtype as TensorType, SafeTensors};
use serde::Deserialize;
use std::path::Path;
use understudy_core::{Error, Result};
use understudy_learn::ngrams::{MOST_BYTES, NgramParams, Ngrams};

/// File of the artifact's folder.
pub const FILE: &str = "words.safetensors";
/// Key of the file's description.
pub const ABOUT: &str = "understudy";

/// The known terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    ngrams: Ngrams,
}

#[derive(Deserialize)]
struct About {
    params: NgramParams,
    words: usize,
}

impl Words {
    /// Reads `dir`'s [`FILE`].
    ///
    /// # Errors
    /// `Data` when it cannot be read or is not of the expected form.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let bytes = std::fs::read(&path).map_err(|e| Error::data(format!("read {}: {e}", path.display())))?;
        Self::from_bytes(&bytes, &path.display().to_string())
    }

    /// Reads what `adapt` wrote; `name` is for messages.
    ///
    /// # Errors
    /// `Data` when it is not of the expected form.
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self> {
        let wrong = |what: String| Error::data(format!("read {name}: {what}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| wrong(e.to_string()))?;
        let about = header.metadata().as_ref().and_then(|about| about.get(ABOUT));
        let about = about.ok_or_else(|| wrong(format!("it has no description `{ABOUT}`")))?;
        let about: About = serde_json::from_str(about).map_err(|e| wrong(e.to_string()))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| wrong(e.to_string()))?;
        let tensor = |name: &str, dtype: TensorType| {
            let tensor = tensors.tensor(name).map_err(|_| wrong(format!("it has no tensor `{name}`")))?;
            let fits = tensor.dtype() == dtype && tensor.shape().len() == 1;
            fits.then_some(tensor).ok_or_else(|| wrong(format!("`{name}` is not one row of {dtype:?}")))
        };
        let terms = tensor("terms", TensorType::U64)?;
        let idf = tensor("idf", TensorType::F32)?;
        let terms: Vec<u64> = terms.data().as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
        let idf: Vec<f32> = idf.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let ngrams = Ngrams::from_parts(about.params, terms, idf, about.words);
        Ok(Self { ngrams: ngrams.ok_or_else(|| wrong("its parts do not fit one another".into()))? })
    }

    /// The terms.
    #[must_use]
    pub fn ngrams(&self) -> &Ngrams {
        &self.ngrams
    }

    /// Whether a text goes on after what is read of it.
    #[must_use]
    pub fn truncates(text: &str) -> bool {
        text.len() > MOST_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Words::from_bytes(&bytes, "x").is_err());
        }
    }
}
