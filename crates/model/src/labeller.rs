//! A head that decides on each label by itself: a [`Backend`] that answers with a JSON list of those that apply.

use crate::backend::{Made, answer, fits};
use crate::head::Head;
use crate::service::EncoderService;
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Arc;
use understudy_core::{Answer, Backend, Capabilities, Confidence, Error, ModelName, Place, Request, Result};

/// Which labels apply, from a text's vector: the probability of label c is sigmoid((W x + b)_c / T), and it is given from
/// its threshold on.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    head: Head,
    thresholds: Vec<f64>,
}

/// What a labeller makes of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// Positions of the labels that apply, ascending.
    pub chosen: Vec<usize>,
    /// Calibrated probability of each label.
    pub probabilities: Vec<f64>,
    /// The probability that the whole list is right, if labels err independently of one another.
    pub confidence: f64,
}

impl Decision {
    /// Puts thresholds, one a label in [0, 1], on a head.
    ///
    /// # Errors
    /// `Data` when there are more or fewer.
    pub fn new(head: Head, thresholds: Vec<f64>) -> Result<Self> {
        if thresholds.len() != head.labels().len() || !thresholds.iter().all(|t| (0.0..=1.0).contains(t)) {
            return Err(Error::data(format!(
                "use labels' thresholds: there are {} for {} labels, each must lie in [0, 1]",
                thresholds.len(),
                head.labels().len()
            )));
        }
        Ok(Self { head, thresholds })
    }

    /// All labels.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        self.head.labels()
    }

    /// Decides on a text's vector.
    ///
    /// # Errors
    /// As [`Head::scores`].
    pub fn decide(&self, embedding: &[f32]) -> Result<Labelled> {
        let scores = self.head.scores(embedding)?;
        let probabilities: Vec<f64> = scores.into_iter().map(|z| sigmoid(z / self.head.temperature())).collect();
        let given = |(p, threshold): (&f64, &f64)| p >= threshold;
        let chosen: Vec<usize> =
            probabilities.iter().zip(&self.thresholds).enumerate().filter(|(_, x)| given(*x)).map(|(i, _)| i).collect();
        let right = |x: (&f64, &f64)| if given(x) { *x.0 } else { 1.0 - x.0 };
        let confidence = probabilities.iter().zip(&self.thresholds).map(right).product::<f64>().clamp(0.0, 1.0);
        Ok(Labelled { chosen, probabilities, confidence })
    }
}

/// 1 / (1 + e⁻ᶻ).
#[must_use]
pub fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// A labeller in this process.
pub struct Labeller {
    name: ModelName,
    encoder: Arc<EncoderService>,
    decision: Decision,
    capabilities: Capabilities,
}

impl Labeller {
    /// Puts a decision on an encoder.
    ///
    /// # Errors
    /// `Data` when its head was fitted on vectors of another length.
    pub fn new(name: ModelName, encoder: Arc<EncoderService>, decision: Decision) -> Result<Self> {
        fits("labeller", &name, decision.head.dimensions(), "its encoder", encoder.encoder().dimensions())?;
        Ok(Self { name, encoder, decision, capabilities: Capabilities::of_text(Place::Local) })
    }
}

impl Backend for Labeller {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The labels of the request's input, or of the last user message, as a JSON list; `[]` when none applies.
    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        let make = async |text| {
            let embedded = self.encoder.embed_one(text).await?;
            let labelled = self.decision.decide(&embedded.vector)?;
            let labels: Vec<&str> = labelled.chosen.iter().map(|&i| self.decision.labels()[i].as_str()).collect();
            let confidence = Some(Confidence::new(labelled.confidence)?);
            Ok(Made {
                text: serde_json::Value::from(labels).to_string(),
                label: None,
                confidence,
                tokens: embedded.tokens,
            })
        };
        answer(&self.name, "label", request, make).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::service;
    use understudy_core::{Message, Role, TraceId};

    fn decision(dimensions: usize, bias: Vec<f32>, thresholds: Vec<f64>) -> Result<Decision> {
        let labels = (0..bias.len()).map(|i| format!("l{i}")).collect();
        Decision::new(Head::new(labels, vec![0.0; bias.len() * dimensions], bias, 2.0).unwrap(), thresholds)
    }

    #[tokio::test]
    async fn the_answer_lists_the_labels_from_their_thresholds_on() {
        let request = |text: &str| {
            let messages = vec![Message { role: Role::User, text: text.into() }];
            Request::new(TraceId::from_parts(1, 1), "auto".into(), messages)
        };
        let decision = decision(24, vec![4.0, 0.0, -4.0], vec![0.5, 0.4, 0.5]).unwrap();
        let labeller = Labeller::new("tags".into(), service(), decision.clone()).unwrap();
        let answer = labeller.answer(&request("the red fish")).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.label), (r#"["l0","l1"]"#, None));
        let want = sigmoid(2.0) * 0.5 * sigmoid(2.0);
        assert!((answer.confidence.unwrap().get() - want).abs() < 1e-9);
        let none =
            Labeller::new("tags".into(), service(), super::tests::decision(24, vec![-4.0; 2], vec![0.5; 2]).unwrap());
        assert_eq!(none.unwrap().answer(&request("x")).await.unwrap().text, "[]");
    }

    #[test]
    fn thresholds_and_encoders_that_do_not_fit_are_refused() {
        assert!(decision(24, vec![0.0; 2], vec![0.5]).is_err());
        assert!(decision(24, vec![0.0; 2], vec![0.5, 1.5]).is_err());
        assert!(Labeller::new("x".into(), service(), decision(25, vec![0.0; 2], vec![0.5; 2]).unwrap()).is_err());
    }
}
