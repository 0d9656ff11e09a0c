//! `adapt data --queue N`: which texts to label next.

use super::{DataArgs, SHOWN};
use crate::{
    clock::SystemClock,
    commands::{Context, pilot::data::cut},
    compose::Composer,
    terminal::{heading, say, table},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};
use understudy_core::{Error, Result, Seed};
use understudy_dataset::{
    Dataset, Row,
    prepare::Redaction,
    queue::{self, Pick},
    redact::redact,
    text_hash, write,
};
use understudy_model::artifact::Artifact;

/// Where the texts to label are written.
pub(super) const FILE: &str = "queue.jsonl";

/// A text to label, as it stands in [`FILE`].
#[derive(Debug, Clone, Serialize)]
pub(super) struct Queued {
    rank: usize,
    id: String,
    text: String,
    uncertainty: Option<f64>,
    nearest: f64,
    reason: String,
}

/// Picks what to label next of `pool`, and writes it where there is a folder. Texts that have a label already or belong
/// to an evaluation set are not asked for.
pub(super) async fn pick(
    args: &DataArgs,
    redaction: Redaction,
    labelled: &[&Row],
    pool: Vec<Row>,
    against: &[Dataset],
    context: &Context,
) -> Result<(Vec<Queued>, Option<PathBuf>)> {
    let n = args.queue.unwrap_or(0);
    let known = labelled.iter().map(|row| text_hash(&row.text));
    let measured = against.iter().flat_map(|set| &set.rows).map(|row| match redaction {
        Redaction::Replace => text_hash(&redact(&row.text).0),
        Redaction::Keep => text_hash(&row.text),
    });
    let mut seen: BTreeSet<String> = known.chain(measured).collect();
    let mut pool = pool;
    if redaction == Redaction::Replace {
        pool.iter_mut().for_each(|row| row.text = redact(&row.text).0.into_owned());
    }
    pool.retain(|row| seen.insert(text_hash(&row.text)));
    if pool.is_empty() {
        return Err(Error::invalid(
            "pick what to label next: every text has a label; --pool FILE names texts without one",
        )
        .with_param("queue"));
    }
    let texts: Vec<&str> = pool.iter().map(|row| row.text.as_str()).collect();
    let labels: Vec<(&str, &str)> =
        labelled.iter().filter_map(|row| Some((row.text.as_str(), row.label.as_deref()?))).collect();
    let seed = Seed(args.seed);
    let picks = match args.model.as_str() {
        "words" if labels.is_empty() => {
            let known: Vec<&str> = labelled.iter().map(|row| row.text.as_str()).collect();
            queue::by_cover(&texts, &known, n, seed)
        }
        "words" => queue::by_uncertainty(&texts, &queue::uncertainty_by_words(&labels, &texts, seed)?, n),
        folder => queue::by_uncertainty(&texts, &by_model(Path::new(folder), &texts, context, seed).await?, n),
    };
    let queued: Vec<Queued> = picks.iter().enumerate().map(|(at, pick)| queued(at + 1, pick, &pool[pick.at])).collect();
    let Some(dir) = &args.out else { return Ok((queued, None)) };
    let file = dir.join(FILE);
    write::write_file(&file, |out| {
        queued.iter().try_for_each(|row| {
            serde_json::to_writer(&mut *out, row)?;
            out.write_all(b"\n")
        })
    })?;
    Ok((queued, Some(file)))
}

fn queued(rank: usize, pick: &Pick, row: &Row) -> Queued {
    let unlike = format!("its likeness to what was picked before is {:.2} of 1", pick.nearest);
    let reason = match pick.uncertainty {
        Some(unsure) => format!("the model wavers between two labels ({unsure:.2} of 1); {unlike}"),
        None => format!("it covers what nothing labelled or picked does; {unlike}"),
    };
    let (id, text) = (row.id.clone(), row.text.clone());
    Queued { rank, id, text, uncertainty: pick.uncertainty, nearest: pick.nearest, reason }
}

/// How unsure a trained model is about each text.
async fn by_model(folder: &Path, texts: &[&str], context: &Context, seed: Seed) -> Result<Vec<f64>> {
    let artifact = Artifact::read(folder)?;
    let composer = Composer::new(Arc::new(SystemClock::new()), seed)?;
    let classifier = composer.classifier(&artifact, &context.models_dir, 0)?;
    let classifier = &classifier;
    stream::iter(texts)
        .map(|text| async move {
            let said = classifier.classify((*text).to_owned()).await?;
            Ok::<_, Error>(queue::margin_uncertainty(said.probabilities.iter().copied()))
        })
        .buffered(64)
        .try_collect()
        .await
}

/// Shows the first picks.
pub(super) fn show(queued: &[Queued]) {
    heading("To label next");
    let row = |q: &Queued| {
        let unsure = q.uncertainty.map_or("–".to_owned(), |u| format!("{u:.2}"));
        vec![q.rank.to_string(), unsure, format!("{:.2}", q.nearest), cut(&q.text, 80)]
    };
    say(table(&["", "unsure", "nearest", "text"], &[0, 1, 2], queued.iter().take(SHOWN).map(row)));
}
