//! Models that need no training worth the name: neighbours in words, and label names in an embedding.

use super::words::Index;
use futures_util::{FutureExt, future::BoxFuture};
use std::{collections::BTreeMap, sync::Arc};
use understudy_core::{
    Answer, Backend, Capabilities, Confidence, Embedder, Error, ModelName, Place, Request, Result, Usage,
};
use understudy_dataset::Row;

/// Neighbours that vote.
const NEIGHBOURS: usize = 10;
/// Sharpness of the softmax over cosines to label names; what sentence encoders are trained with.
const SHARPNESS: f64 = 20.0;

/// The label of the most similar training rows by TF-IDF, each vote weighted by its similarity. The floor that every
/// other model must beat.
pub struct Neighbours {
    name: ModelName,
    index: Index,
    labels: Vec<String>,
    capabilities: Capabilities,
}

impl Neighbours {
    /// Takes the labelled rows.
    ///
    /// # Errors
    /// `Data` when no row has a label.
    pub fn new(name: ModelName, train: &[Row]) -> Result<Self> {
        let rows: Vec<&Row> = train.iter().filter(|row| row.gold().is_some()).collect();
        if rows.is_empty() {
            return Err(Error::data(format!("set up `{name}`: the training rows have no labels")));
        }
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        let labels = rows.iter().filter_map(|row| row.gold().map(str::to_owned)).collect();
        Ok(Self { name, index: Index::of(&texts), labels, capabilities: Capabilities::of_text(Place::Local) })
    }

    fn classify(&self, text: &str) -> (String, f64) {
        let mut votes: BTreeMap<&str, f64> = BTreeMap::new();
        for (at, similarity) in self.index.nearest(text, NEIGHBOURS) {
            *votes.entry(&self.labels[at]).or_default() += f64::from(similarity).powi(2);
        }
        let total: f64 = votes.values().sum();
        let best = votes.into_iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(a.0)));
        best.map_or_else(|| (self.labels[0].clone(), 0.0), |(label, votes)| (label.to_owned(), votes / total))
    }
}

impl Backend for Neighbours {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        async move {
            let (label, confidence) = self.classify(request.subject().map_err(|e| e.context("classify"))?);
            labelled(&self.name, label, confidence, Usage::default())
        }
        .boxed()
    }
}

/// The label whose name is closest to the text in an embedding: no training at all. Its confidence is a softmax over
/// cosines and not calibrated.
pub struct LabelNames {
    name: ModelName,
    embedder: Arc<dyn Embedder>,
    labels: Vec<String>,
    vectors: Vec<Vec<f32>>,
    capabilities: Capabilities,
}

impl LabelNames {
    /// Embeds the names of the labels; `card_arrival` reads as `card arrival`.
    ///
    /// # Errors
    /// What the embedder fails with.
    pub async fn new(name: ModelName, embedder: Arc<dyn Embedder>, labels: Vec<String>) -> Result<Self> {
        let texts = labels.iter().map(|label| label.replace(['_', '-', '/'], " ")).collect();
        let vectors = embedder.embed(texts).await?.vectors;
        Ok(Self { name, embedder, labels, vectors, capabilities: Capabilities::of_text(Place::Local) })
    }
}

impl Backend for LabelNames {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        async move {
            let embedded =
                self.embedder.embed(vec![request.subject().map_err(|e| e.context("classify"))?.to_owned()]).await?;
            let vector = embedded.vectors.first().ok_or_else(|| Error::internal("embed a text: nothing came back"))?;
            let cosine = |other: &Vec<f32>| -> f64 {
                other.iter().zip(vector).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let cosines: Vec<f64> = self.vectors.iter().map(cosine).collect();
            let best = (0..cosines.len()).max_by(|&a, &b| cosines[a].total_cmp(&cosines[b]).then(b.cmp(&a)));
            let best = best.ok_or_else(|| Error::invalid("classify by label names: there are no labels"))?;
            let sum: f64 = cosines.iter().map(|c| (SHARPNESS * (c - cosines[best])).exp()).sum();
            let usage = Usage { input_tokens: embedded.tokens, ..Usage::default() };
            labelled(&self.name, self.labels[best].clone(), 1.0 / sum, usage)
        }
        .boxed()
    }
}

fn labelled(name: &ModelName, label: String, confidence: f64, usage: Usage) -> Result<Answer> {
    let mut answer = Answer::text(name.clone(), label.clone(), usage);
    answer.label = Some(label);
    answer.confidence = Some(Confidence::new(confidence.clamp(0.0, 1.0))?);
    Ok(answer)
}
