//! A trained router as it is saved and served.

use super::{Advice, Predictor, Prompt, Router};
use serde::{Deserialize, Serialize};
use understudy_core::{Error, Request, Result, Role};

/// Version of the file's format.
pub const FORMAT: u32 = 2;

/// How an encoder reads prompts for a router: what it was trained with it must be served with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// Tokens of a prompt that are read, special ones included; 3 or more.
    pub tokens: u32,
    /// Number format of the encoder.
    pub precision: Precision,
}

/// Number format of an encoder's weights and products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// 8-bit integers: two to three times as fast, and the vectors hardly differ.
    Int8,
}

impl Reading {
    /// As routers are trained today.
    pub const NEW: Self = Self { tokens: 192, precision: Precision::Int8 };

    /// Of files that do not say.
    const fn unsaid() -> Self {
        Self { tokens: 256, precision: Precision::F32 }
    }

    fn is_unsaid(&self) -> bool {
        *self == Self::unsaid()
    }
}

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
    /// How that encoder reads.
    #[serde(default = "Reading::unsaid", skip_serializing_if = "Reading::is_unsaid")]
    pub reading: Reading,
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
    /// Reads the task's input, else the last message of the user; the group may come as metadata `group`. A router that
    /// reads embeddings sends a request without one to the large model.
    fn advise(&self, request: &Request) -> Advice {
        let text = request.input.as_deref().or_else(|| request.last_text(&Role::User)).unwrap_or_default();
        let group = request.metadata.get("group").map(String::as_str);
        let embedding = request.embedding.as_deref();
        if embedding.is_none() && self.predictor.wants_embedding() {
            return Advice::GoLarge;
        }
        let gain = self.gain(&Prompt { text, group, embedding });
        if gain <= self.limit { Advice::TrySmall } else { Advice::GoLarge }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::request;

    fn trained(limit: f64) -> Trained {
        Trained {
            format: FORMAT,
            kind: "length".into(),
            small: "s".into(),
            large: "l".into(),
            n: 10,
            embedder: None,
            reading: Reading::NEW,
            limit,
            predictor: Predictor::Length { slope: 0.1, intercept: 0.0 },
        }
    }

    #[test]
    fn a_saved_router_advises_as_before() {
        // "hello there" has 11 bytes: a gain of 0.1 · ln 12 = 0.248.
        for (limit, advice) in [(0.2, Advice::GoLarge), (0.3, Advice::TrySmall)] {
            let router = trained(limit);
            let read = Trained::from_json("file", &router.to_json()).expect("own form");
            assert_eq!((read.advise(&request()), &read), (advice, &router));
        }
    }

    #[test]
    fn a_file_that_does_not_say_how_its_encoder_reads_keeps_its_own_way() {
        let mut file: serde_json::Value = serde_json::from_slice(&trained(0.2).to_json()).expect("own form");
        assert!(file["reading"].is_object());
        file.as_object_mut().expect("an object").remove("reading");
        let read = Trained::from_json("file", file.to_string().as_bytes()).expect("an older file");
        assert_eq!(read.reading, Reading { tokens: 256, precision: Precision::F32 });
        assert!(!String::from_utf8(read.to_json()).expect("text").contains("reading"));
    }

    #[test]
    fn a_router_that_reads_embeddings_sends_a_request_without_one_to_the_large_model() {
        use understudy_learn::neighbours::Neighbours;
        let neighbours = Neighbours::new([[1.0, 0.0].as_slice(), [0.0, 1.0].as_slice()], vec![0.9, 0.1]);
        let router = Trained {
            embedder: Some("minilm".into()),
            predictor: Predictor::Knn { neighbours, k: 1, otherwise: 0.0 },
            ..trained(0.5)
        };
        let with = |embedding: Option<Vec<f32>>| router.advise(&Request { embedding, ..request() });
        assert_eq!(with(Some(vec![0.1, 0.9])), Advice::TrySmall);
        assert_eq!(with(Some(vec![0.9, 0.1])), Advice::GoLarge);
        assert_eq!(with(None), Advice::GoLarge, "its guess without one is no reason to try");
    }

    #[test]
    fn a_damaged_file_and_another_format_are_refused_with_the_remedy() {
        let mut other = trained(0.1);
        other.format = FORMAT + 1;
        for json in [other.to_json(), b"{}".to_vec(), b"\xff".to_vec()] {
            let error = Trained::from_json("r.json", &json).expect_err("refused").to_string();
            assert!(error.contains("read router r.json") && error.contains("--save"), "{error}");
        }
    }
}
