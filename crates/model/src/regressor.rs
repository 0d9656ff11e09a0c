//! A head with one output that is a number: a [`Backend`] that answers with it.

use crate::backend::{Made, answer, fits};
use crate::head::Head;
use crate::service::EncoderService;
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Arc;
use understudy_core::{Answer, Backend, Capabilities, Error, ModelName, Place, Request, Result};

/// A regressor in this process.
pub struct Regressor {
    name: ModelName,
    encoder: Arc<EncoderService>,
    head: Head,
    capabilities: Capabilities,
}

impl Regressor {
    /// Puts a head on an encoder.
    ///
    /// # Errors
    /// `Data` when the head has not one output, or was fitted on vectors of another length.
    pub fn new(name: ModelName, encoder: Arc<EncoderService>, head: Head) -> Result<Self> {
        fits("regressor", &name, head.dimensions(), "its encoder", encoder.encoder().dimensions())?;
        let outputs = head.labels().len();
        if outputs != 1 {
            return Err(Error::data(format!("load regressor {name}: its head has {outputs} outputs instead of one")));
        }
        Ok(Self { name, encoder, head, capabilities: Capabilities::of_text(Place::Local) })
    }
}

/// The number that a head with one output gives for a text's vector.
///
/// # Errors
/// As [`Head::scores`]; `Data` when the head has no output.
pub fn value(head: &Head, embedding: &[f32]) -> Result<f64> {
    head.scores(embedding)?.first().copied().ok_or_else(|| Error::data("predict a number: the head has no output"))
}

/// A number as an answer: JSON, with the digits that 32 bits hold.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the weights that made it have 32 bits")]
pub fn written(value: f64) -> String {
    format!("{}", value as f32)
}

impl Backend for Regressor {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The number for the request's input, or for the last user message.
    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        let make = async |text| {
            let embedded = self.encoder.embed_one(text).await?;
            let text = written(value(&self.head, &embedded.vector)?);
            Ok(Made { text, label: None, confidence: None, tokens: embedded.tokens })
        };
        answer(&self.name, "predict", request, make).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::service;
    use understudy_core::{Message, Role, TraceId};

    #[tokio::test]
    async fn the_answer_is_the_number_and_heads_that_do_not_fit_are_refused() {
        let head = |outputs: usize, width: usize| {
            let labels = (0..outputs).map(|i| format!("l{i}")).collect();
            Head::new(labels, vec![0.0; outputs * width], vec![2.5; outputs], 1.0).unwrap()
        };
        let messages = vec![Message { role: Role::User, text: "the red fish".into() }];
        let request = Request::new(TraceId::from_parts(1, 1), "auto".into(), messages);
        let regressor = Regressor::new("stars".into(), service(), head(1, 24)).unwrap();
        let answer = regressor.answer(&request).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.label, answer.confidence), ("2.5", None, None));
        assert!(Regressor::new("x".into(), service(), head(2, 24)).is_err());
        assert!(Regressor::new("x".into(), service(), head(1, 25)).is_err());
        assert_eq!((written(0.1), written(-3.0)), ("0.1".to_owned(), "-3".to_owned()));
    }
}
