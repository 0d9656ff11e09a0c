//! A head on what it sees of a text: a [`Backend`] that answers with a label and how sure it is.

use crate::artifact::OutOfScope;
use crate::backend::{Made, answer, fits};
use crate::head::{Columns, Head, likeliest};
use crate::service::EncoderService;
use crate::table::TokenTable;
use crate::words::Words;
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Arc;
use understudy_core::{Answer, Backend, Capabilities, Confidence, Error, ModelName, Place, Request, Result};

/// A classifier in this process. Several may share one encoder service.
pub struct Classifier {
    name: ModelName,
    body: Body,
    labels: Vec<String>,
    out_of_scope: Option<OutOfScope>,
    capabilities: Capabilities,
}

/// What is seen of a text, with the head on it.
enum Body {
    /// The embedding of an encoder.
    Encoder(Arc<EncoderService>, Head),
    /// Words and pieces of words.
    Words(Words, Columns),
    /// Sums of token vectors.
    Table(Box<TokenTable>, Columns),
}

/// What a classifier makes of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    /// The likeliest label, or the one for texts out of scope.
    pub label: String,
    /// The probability that it is right: the label's, or what the labels in scope leave.
    pub confidence: Confidence,
    /// Calibrated probability of each label, in the head's order.
    pub probabilities: Vec<f64>,
    /// Tokens read; of a model of words, known terms.
    pub tokens: usize,
    /// True when the text went on after what was read.
    pub truncated: bool,
}

impl Classifier {
    /// Puts a head on an encoder.
    ///
    /// # Errors
    /// `Data` when the head was fitted on vectors of another length.
    pub fn new(name: ModelName, encoder: Arc<EncoderService>, head: Head) -> Result<Self> {
        fits("classifier", &name, head.dimensions(), "its encoder", encoder.encoder().dimensions())?;
        Ok(Self::with(name, head.labels().to_vec(), Body::Encoder(encoder, head)))
    }

    /// Puts a head on words.
    ///
    /// # Errors
    /// `Data` when the head was fitted on another list of words.
    pub fn of_words(name: ModelName, words: Words, head: &Head) -> Result<Self> {
        fits("classifier", &name, head.dimensions(), "its list of words", words.ngrams().width())?;
        Ok(Self::with(name, head.labels().to_vec(), Body::Words(words, Columns::new(head))))
    }

    /// Puts a head on a token table.
    ///
    /// # Errors
    /// `Data` when the head was fitted on vectors of another length.
    pub fn of_table(name: ModelName, table: TokenTable, head: &Head) -> Result<Self> {
        fits("classifier", &name, head.dimensions(), "its table", table.width())?;
        Ok(Self::with(name, head.labels().to_vec(), Body::Table(Box::new(table), Columns::new(head))))
    }

    fn with(name: ModelName, labels: Vec<String>, body: Body) -> Self {
        let capabilities = Capabilities::of_text(Place::Local);
        Self { name, body, labels, out_of_scope: None, capabilities }
    }

    /// Answers `rule`'s label for texts that belong to none of the others.
    #[must_use]
    pub fn with_out_of_scope(mut self, rule: Option<OutOfScope>) -> Self {
        self.out_of_scope = rule;
        self
    }

    /// Its labels, in the order of the probabilities.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Classifies one text.
    ///
    /// # Errors
    /// What [`EncoderService::embed_one`] and [`Head::predict`] fail with.
    pub async fn classify(&self, text: String) -> Result<Classified> {
        match &self.body {
            Body::Encoder(encoder, head) => {
                let embedded = encoder.embed_one(text).await?;
                let prediction = head.predict(&embedded.vector)?;
                self.judged(prediction.probabilities, embedded.tokens, embedded.truncated)
            }
            // Microseconds for a text of some length: not worth a thread of its own.
            Body::Words(..) | Body::Table(..) => self.classify_now(&text),
        }
    }

    /// Classifies one text on the calling thread.
    ///
    /// # Errors
    /// `Invalid` when the model has an encoder, whose work waits for a worker; what tokenising fails with.
    pub fn classify_now(&self, text: &str) -> Result<Classified> {
        match &self.body {
            Body::Encoder(..) => Err(Error::invalid(format!("classify with {} at once: it has an encoder", self.name))),
            Body::Words(words, head) => {
                let row = words.ngrams().vector(text);
                self.judged(head.sparse(&row), row.len(), Words::truncates(text))
            }
            Body::Table(table, head) => {
                let embedded = table.embed(text)?;
                self.judged(head.dense(&embedded.vector), embedded.tokens, embedded.truncated)
            }
        }
    }

    fn judged(&self, probabilities: Vec<f64>, tokens: usize, truncated: bool) -> Result<Classified> {
        let (label, confidence) = match &self.out_of_scope {
            Some(rule) => rule.apply(&self.labels, &probabilities),
            None => {
                let index = likeliest(&probabilities);
                (self.labels[index].as_str(), probabilities[index])
            }
        };
        Ok(Classified {
            label: label.to_owned(),
            // A sum of rounded probabilities may exceed 1 by an ulp.
            confidence: Confidence::new(confidence.clamp(0.0, 1.0))?,
            probabilities,
            tokens,
            truncated,
        })
    }
}

impl Backend for Classifier {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The label of the request's input, or of the last user message when no task rule cut one out. The text is the
    /// bare label: the task's output form is applied by the caller.
    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        let make = async |text| {
            let Classified { label, confidence, tokens, .. } = self.classify(text).await?;
            Ok(Made { text: label.clone(), label: Some(label), confidence: Some(confidence), tokens })
        };
        answer(&self.name, "classify", request, make).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::service;
    use understudy_core::{ErrorKind, Message, Role, TraceId};

    fn head(dimensions: usize) -> Head {
        let mut weights = vec![0.0; 2 * dimensions];
        weights[dimensions] = 3.0;
        Head::new(vec!["ham".into(), "spam".into()], weights, vec![0.0, 0.5], 1.0).unwrap()
    }

    fn request(role: Role, text: &str) -> Request {
        let messages = vec![Message { role, text: text.into() }];
        Request::new(TraceId::from_parts(1, 1), "auto".into(), messages)
    }

    #[tokio::test]
    async fn the_answer_is_the_heads_label_for_the_input_with_its_confidence_and_tokens() {
        let service = service();
        let classifier = Classifier::new("triage".into(), Arc::clone(&service), head(24)).unwrap();
        let mut request = request(Role::User, "something else entirely");
        request.input = Some("the red fish".into());
        let answer = classifier.answer(&request).await.unwrap();
        let embedded = service.embed_one("the red fish".into()).await.unwrap();
        let head = head(24);
        let want = head.predict(&embedded.vector).unwrap();
        assert_eq!(answer.label.as_deref(), Some(want.label));
        assert_eq!((answer.text.as_str(), answer.usage.input_tokens), (want.label, 5));
        assert!((answer.confidence.unwrap().get() - want.confidence).abs() < 1e-9);
        assert_eq!(classifier.capabilities().place, Place::Local);

        request.input = None;
        request.messages[0].text = "the red fish".into();
        assert_eq!(classifier.answer(&request).await.unwrap().label, answer.label);
    }

    #[tokio::test]
    async fn a_request_without_user_message_and_a_head_of_another_encoder_are_refused() {
        let classifier = Classifier::new("triage".into(), service(), head(24)).unwrap();
        let error = classifier.answer(&request(Role::System, "be brief")).await.unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::Invalid, Some("messages")));
        let error = Classifier::new("triage".into(), service(), head(25)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}
