//! Training a linear model of words.

use super::{Material, Product, TrainOptions, Trained, finish, heavy};
use crate::clock::SystemClock;
use std::{path::Path, time::Duration};
use understudy_adapt::words::{self, LabelledTexts, WordsParams};
use understudy_core::{Clock, ModelName, Result, hash::sha256_hex};
use understudy_dataset::Example;
use understudy_model::{
    artifact::{BaseModel, Body, Dtype, Pooling},
    head::Columns,
    words::FILE,
};

/// Name of the base of models that have none.
const NO_BASE: &str = "words";
/// Largest number of tokens that a manifest can hold; words are cut by bytes.
const ALL_TOKENS: u32 = u32::MAX;

/// As [`super::train`].
pub(super) async fn train(examples: Vec<Example>, options: TrainOptions, dir: &Path) -> Result<Trained> {
    let dir = dir.to_owned();
    heavy("fit words", move || {
        let clock = SystemClock::new();
        let material = Material::new(examples, &options)?;
        let params = WordsParams::default().check()?;
        let (texts, labels) = (material.texts(&material.split.learn), material.labels(&material.split.learn));
        let data = LabelledTexts {
            texts: &texts,
            labels: &labels,
            places: &material.split.places,
            classes: &material.split.classes,
        };
        let shares = material.shares(&material.split.learn, &options.taught);
        let model = params.fit_to_shares(data, &shares, options.seed)?;
        let columns = Columns::new(&model.fitted.head);
        let test = material.texts(&material.split.test);
        let probabilities: Vec<Vec<f64>> = test.iter().map(|text| columns.sparse(&model.ngrams.vector(text))).collect();
        let file = words::encode(&model.ngrams)?;
        let product = Product {
            base: BaseModel { name: ModelName::from(NO_BASE), hash: sha256_hex(&file) },
            body: Body::Words,
            method: "words",
            unlabelled: None,
            windows: 1,
            files: [(FILE.to_owned(), file)].into(),
            dtype: Dtype::F32,
            max_tokens: ALL_TOKENS,
            pooling: Pooling::Mean,
            fitted: model.fitted,
            unseen: model.unseen,
        };
        let took = (Duration::ZERO, clock.monotonic());
        finish(material, options, product, &probabilities, &dir, took)
    })
    .await
}
