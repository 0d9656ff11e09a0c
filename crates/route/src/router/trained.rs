//! A trained router as it is saved and served.

use super::{Advice, Predictor, Prompt, Router};
use serde::{Deserialize, Serialize};
use understudy_core::{Error, Request, Result, Role};

/// Version of the file's format.
pub const FORMAT: u32 = 1;

/// A predictor of the gain of asking the large model, with the gain from which it is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// Kind of router, as `pilot replay --router` names it.
    pub kind: String,
    /// The small model's name in the training outcomes.
    pub small: String,
    /// The large model's name there.
    pub large: String,
    /// Training rows.
    pub n: usize,
    /// Catalogue name of the encoder whose embeddings it needs; `None` for one that reads the text alone.
    pub embedder: Option<String>,
    /// Largest predicted gain that is given up: above it the large model is asked at once.
    pub limit: f64,
    /// Predicts the gain in quality.
    pub predictor: Predictor,
}

impl Trained {
    /// Reads a router from its JSON.
    ///
    /// # Errors
    /// `Data` when the text is no router or of another format.
    pub fn from_json(name: &str, json: &[u8]) -> Result<Self> {
        let remedy = "train it again with `understudy pilot replay --router auto --save FILE`";
        let trained: Self =
            serde_json::from_slice(json).map_err(|e| Error::data(format!("read router {name}: {e}; {remedy}")))?;
        if trained.format != FORMAT {
            return Err(Error::data(format!(
                "read router {name}: its format is {}, this version reads {FORMAT}; {remedy}",
                trained.format
            )));
        }
        Ok(trained)
    }

    /// The router's JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a router is plain data")
    }

    /// Predicted gain in quality of asking the large model.
    #[must_use]
    pub fn gain(&self, prompt: &Prompt<'_>) -> f64 {
        self.predictor.predict(prompt)
    }
}

impl Router for Trained {
    /// Reads the task's input, else the last message of the user; the group may come as metadata `group`.
    fn advise(&self, request: &Request) -> Advice {
        let text = request.input.as_deref().or_else(|| request.last_text(&Role::User)).unwrap_or_default();
        let group = request.metadata.get("group").map(String::as_str);
        let gain = self.gain(&Prompt { text, group, embedding: request.embedding.as_deref() });
        if gain <= self.limit { Advice::TrySmall } else { Advice::GoLarge }
    }

    fn embedder(&self) -> Option<&str> {
        self.embedder.as_deref()
    }
}
