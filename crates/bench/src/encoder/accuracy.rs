//! What int8 costs: Banking77 with heads fitted on f32 and on int8 embeddings of the same texts.

use std::{
    path::{Path, PathBuf},
    thread,
};
use understudy_adapt::{
    head::{HeadParams, Labelled},
    matrix::Matrix,
    split::split,
};
use understudy_core::{Result, Seed};
use understudy_dataset::{Example, Fields, clean};
use understudy_model::encoder::{Encoder, Scratch};
use understudy_stats::{Bound, paired};

/// Accuracy of both, and the paired difference f32 − int8 on the same test texts.
pub(super) struct Loss {
    pub(super) accuracy_f32: f64,
    pub(super) accuracy_int8: f64,
    pub(super) loss: Bound,
    pub(super) n: usize,
}

/// Measures it with the f32 and the int8 encoder; `None` when the data set is not there.
pub(super) fn int8_loss(data: Option<&Path>, encoders: [Encoder; 2]) -> Result<Option<Loss>> {
    let data = data
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")), Path::to_path_buf);
    let folder = data.join("classification/banking77");
    if !folder.join("train.jsonl").exists() {
        return Ok(None);
    }
    let train = clean(read(&folder.join("train.jsonl"))?).examples;
    let test = read(&folder.join("test.jsonl"))?;
    let right = encoders.iter().map(|encoder| right(encoder, &train, &test)).collect::<Result<Vec<_>>>()?;
    let count = |wanted: (bool, bool)| right[0].iter().zip(&right[1]).filter(|(a, b)| (**a, **b) == wanted).count();
    let (both, only_f32, only_int8) = (count((true, true)), count((true, false)), count((false, true)));
    let n = test.len();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand texts")]
    let share = |k: usize| k as f64 / n as f64;
    Ok(Some(Loss {
        accuracy_f32: share(both + only_f32),
        accuracy_int8: share(both + only_int8),
        loss: paired::difference(both as u64, only_int8 as u64, only_f32 as u64, n as u64, 0.95),
        n,
    }))
}

fn read(file: &Path) -> Result<Vec<Example>> {
    understudy_dataset::read(file, &Fields::default())?.examples()
}

/// Fits a head on the embeddings of `train` and says which texts of `test` it gets right.
fn right(encoder: &Encoder, train: &[Example], test: &[Example]) -> Result<Vec<bool>> {
    let parts = split(train, 0.0, Seed(1))?;
    let class = |example: &Example| parts.classes.binary_search(&example.label).ok();
    let embeddings = Matrix::from_rows(&embed(encoder, parts.learn.iter().map(|&i| &train[i]))?)?;
    let labels: Vec<usize> =
        parts.learn.iter().map(|&i| class(&train[i]).expect("the classes are those of the training texts")).collect();
    let params = HeadParams::default().check()?;
    let labelled =
        Labelled { embeddings: &embeddings, labels: &labels, places: &parts.places, classes: &parts.classes };
    let head = params.fit(labelled)?.head;
    let vectors = embed(encoder, test.iter())?;
    let hit = |(vector, example): (&Vec<f32>, &Example)| Ok(Some(head.predict(vector)?.index) == class(example));
    vectors.iter().zip(test).map(hit).collect()
}

/// Embeds on all cores, in order.
pub(crate) fn embed<'e>(encoder: &Encoder, examples: impl Iterator<Item = &'e Example>) -> Result<Vec<Vec<f32>>> {
    let tokens = examples.map(|example| encoder.tokenize(&example.text)).collect::<Result<Vec<_>>>()?;
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let parts = tokens.chunks(tokens.len().div_ceil(threads).max(1));
    let vectors = thread::scope(|scope| {
        let workers: Vec<_> = parts.map(|part| scope.spawn(|| encoder.embed(part, &mut Scratch::default()))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("embedding does not panic")).collect()
    });
    Ok(vectors)
}
