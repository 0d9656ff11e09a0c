//! A head that tags words: a [`Backend`] that answers with a JSON object of what it found in a text, `{field: [text …]}`.

use crate::backend::{Made, answer, fits};
use crate::head::Head;
use crate::service::{EncoderService, WordStates};
use crate::tags::Tags;
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::{Map, Value};
use std::ops::Range;
use std::sync::Arc;
use understudy_core::{Answer, Backend, Capabilities, Confidence, ModelName, Place, Request, Result};
use understudy_kernels::{Activation, Dtype, Linear, LinearScratch};

/// An extractor in this process.
pub struct Extractor {
    name: ModelName,
    encoder: Arc<EncoderService>,
    tagger: Tagger,
    capabilities: Capabilities,
}

/// The head of an extractor: from the states of words to spans.
pub struct Tagger {
    tags: Tags,
    head: Linear,
    temperature: f64,
}

/// What was found in a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Extracted {
    /// Field and place (bytes) of each span, in the order of the text.
    pub spans: Vec<(String, Range<usize>)>,
    /// The probability that all of it is right.
    pub confidence: f64,
}

impl Tagger {
    /// Takes an artifact's head, whose labels are tags.
    ///
    /// # Errors
    /// `Data` when its labels are no tags.
    pub fn new(head: &Head) -> Result<Self> {
        let tags = Tags::parse(head.labels())?;
        let linear = Linear::new(head.weights(), head.bias(), Dtype::F32);
        Ok(Self { tags, head: linear, temperature: head.temperature() })
    }

    /// Its tags.
    #[must_use]
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// Scores of each word for each tag.
    #[must_use]
    pub fn scores(&self, states: &[f32]) -> Vec<f32> {
        let mut scores = vec![0.0; states.len() / self.head.inputs().max(1) * self.head.outputs()];
        self.head.forward(states, Activation::Identity, &mut scores, &mut LinearScratch::default());
        scores
    }

    /// Finds the spans of a text whose words have these states.
    #[must_use]
    pub fn extract(&self, words: &WordStates) -> Extracted {
        let best = self.tags.best(&self.scores(&words.states), self.temperature);
        let place = |span: crate::tags::Span| {
            let bytes = words.words[span.from].start..words.words[span.to - 1].end;
            (self.tags.fields()[span.field].clone(), bytes)
        };
        Extracted { spans: self.tags.spans(&best.tags).into_iter().map(place).collect(), confidence: best.probability }
    }
}

impl Extracted {
    /// The object `{field: [text …]}`; fields in the order of their first span.
    #[must_use]
    pub fn json(&self, text: &str) -> Value {
        let mut object = Map::new();
        for (field, bytes) in &self.spans {
            let values = object.entry(field.clone()).or_insert_with(|| Value::Array(Vec::new()));
            if let (Value::Array(values), Some(found)) = (values, text.get(bytes.clone())) {
                values.push(found.into());
            }
        }
        Value::Object(object)
    }
}

impl Extractor {
    /// Puts a tagging head on an encoder.
    ///
    /// # Errors
    /// `Data` when the head was fitted on vectors of another length, or its labels are no tags.
    pub fn new(name: ModelName, encoder: Arc<EncoderService>, head: &Head) -> Result<Self> {
        fits("extractor", &name, head.dimensions(), "its encoder", encoder.encoder().dimensions())?;
        let capabilities = Capabilities::of_text(Place::Local);
        Ok(Self { name, encoder, tagger: Tagger::new(head)?, capabilities })
    }

    /// Finds the spans of a text.
    ///
    /// # Errors
    /// What [`EncoderService::read_words`] fails with.
    pub async fn extract(&self, text: String) -> Result<(Extracted, usize)> {
        let words = self.encoder.read_words(text).await?;
        Ok((self.tagger.extract(&words), words.tokens))
    }
}

impl Backend for Extractor {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// A JSON object of the request's input, or of the last user message when no task rule cut one out.
    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        let make = async |text: String| {
            let (extracted, tokens) = self.extract(text.clone()).await?;
            let confidence = Some(Confidence::new(extracted.confidence)?);
            Ok(Made { text: extracted.json(&text).to_string(), label: None, confidence, tokens })
        };
        answer(&self.name, "extract", request, make).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::service;
    use understudy_core::{Message, Role, TraceId};

    fn head(dimensions: usize, begin: f32) -> Head {
        let labels = ["O", "B-thing", "I-thing"].map(str::to_owned).to_vec();
        Head::new(labels, vec![0.0; 3 * dimensions], vec![0.0, begin, -9.0], 1.0).unwrap()
    }

    #[tokio::test]
    async fn the_answer_is_an_object_of_the_texts_own_words() {
        let extractor = Extractor::new("slots".into(), service(), &head(24, 5.0)).unwrap();
        let messages = vec![Message { role: Role::User, text: "the Red fish, swims".into() }];
        let request = Request::new(TraceId::from_parts(1, 1), "slots".into(), messages);
        let answer = extractor.answer(&request).await.unwrap();
        assert_eq!(answer.text, r#"{"thing":["the","Red","fish",",","swims"]}"#);
        assert!(answer.confidence.unwrap().get() > 0.9 && answer.usage.input_tokens >= 7);
        let nothing = Extractor::new("slots".into(), service(), &head(24, -5.0)).unwrap();
        assert_eq!(nothing.answer(&request).await.unwrap().text, "{}");
    }

    #[tokio::test]
    async fn a_text_longer_than_the_encoder_reads_is_read_to_its_end() {
        let text = "red fish swims ".repeat(400);
        let (found, tokens) =
            Extractor::new("slots".into(), service(), &head(24, 5.0)).unwrap().extract(text.clone()).await.unwrap();
        assert_eq!(found.spans.len(), 1200);
        assert!(tokens > 1200 && found.spans.last().unwrap().1.end == text.trim_end().len());
        let (empty, _) =
            Extractor::new("s".into(), service(), &head(24, 5.0)).unwrap().extract(String::new()).await.unwrap();
        assert!(empty.spans.is_empty());
    }

    #[test]
    fn a_head_of_labels_or_of_another_encoder_is_refused() {
        let labels = Head::new(vec!["ham".into(), "spam".into()], vec![0.0; 48], vec![0.0; 2], 1.0).unwrap();
        assert!(Extractor::new("x".into(), service(), &labels).is_err());
        assert!(Extractor::new("x".into(), service(), &head(25, 0.0)).is_err());
    }
}
