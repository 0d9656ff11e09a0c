//! Texts without labels beside the few that have one. Labels spread to them along the graph of what is alike: alike to the
//! encoder as it was, and to the encoder that learned from the few (each knows what the other does not). Then they teach
//! the head.

use super::super::{Material, TrainOptions, run::vectors};
use super::texts::Texts;
use crate::terminal::{note, percent};
use std::collections::BTreeSet;
use understudy_adapt::{
    encoder::{Example as Ids, Network, Target},
    matrix::Matrix,
    split::{FOLDS, Place, Use},
    spread::SpreadParams,
};
use understudy_core::{
    Error, Result,
    hash::{sha256_hex, unit_interval},
};
use understudy_dataset::text_hash;
use understudy_model::{artifact::Unlabelled, head::Head, tokens::Tokenizer};
use understudy_stats::paired::difference;

/// Most of them that are used.
const MOST: usize = 20_000;
/// How often an example counts, beside a text whose label was spread to it.
const EXAMPLE_COUNTS: usize = 3;

/// Texts without labels.
pub(super) struct Pool {
    examples: Vec<Ids>,
    /// As [`Texts::before`].
    before: Matrix,
    /// For the manifest.
    pub(super) record: Unlabelled,
}

impl Pool {
    /// Those of `texts` that are not among the labelled, each once; `None` when nothing remains. Which of too many are used
    /// is decided by their content and the seed.
    pub(super) fn new(
        material: &Material,
        options: &TrainOptions,
        tokenizer: &Tokenizer,
        encoder: &Network,
    ) -> Result<Option<Self>> {
        let TrainOptions { unlabelled: texts, seed, .. } = options;
        if texts.is_empty() {
            return Ok(None);
        }
        let labelled: BTreeSet<String> = material.cleaned.examples.iter().map(|e| text_hash(&e.text)).collect();
        let mut seen = BTreeSet::new();
        let mut chosen: Vec<(String, &String)> = texts
            .iter()
            .map(|text| (text_hash(text), text))
            .filter(|(hash, _)| !labelled.contains(hash) && seen.insert(hash.clone()))
            .collect();
        let found = chosen.len();
        if found > MOST {
            let draw = |hash: &str| unit_interval(&format!("{}:{hash}", seed.derive("unlabelled").0));
            chosen.sort_by(|a, b| draw(&a.0).total_cmp(&draw(&b.0)).then_with(|| a.0.cmp(&b.0)));
            chosen.truncate(MOST);
        }
        chosen.sort();
        let aside = texts.len() - found;
        let drawn = if found > MOST { format!(", {MOST} of them drawn") } else { String::new() };
        note(format_args!("  {found} texts without labels{drawn} ({aside} repeat others or have a label in --data)"));
        if chosen.is_empty() {
            return Ok(None);
        }
        let mut examples = Vec::with_capacity(chosen.len());
        let mut lines = String::new();
        for (hash, text) in &chosen {
            let windows = tokenizer.tokenize(text)?.into_windows();
            examples.push(Ids::new(windows, Target::Class(0)));
            lines.push_str(hash);
            lines.push('\n');
        }
        let before = vectors(encoder, &examples)?;
        let record = Unlabelled { texts: examples.len() as u64, hash: sha256_hex(lines.as_bytes()) };
        Ok(Some(Self { examples, before, record }))
    }

    /// Says what the texts did to a training that judges what it has not seen.
    pub(super) fn say(&self, alone: &Head, with: &Head, judged: &Matrix, labels: &[usize]) -> Result<()> {
        let (mut both, mut only_alone, mut only_with) = (0, 0, 0);
        for (row, label) in labels.iter().enumerate() {
            let right = |head: &Head| Ok::<_, Error>(head.predict(judged.row(row))?.index == *label);
            match (right(alone)?, right(with)?) {
                (true, true) => both += 1,
                (true, false) => only_alone += 1,
                (false, true) => only_with += 1,
                (false, false) => {}
            }
        }
        let n = labels.len() as u64;
        if n == 0 {
            return Ok(());
        }
        let gain = difference(both, only_alone, only_with, n, 0.95);
        let share = |right: u64| percent(right as f64 / n as f64);
        note(format_args!(
            "  of {n} examples kept aside, {} are right without these texts and {} with them ({:+.1} points [{:+.1}, {:+.1}])",
            share(both + only_alone),
            share(both + only_with),
            100.0 * gain.estimate,
            100.0 * gain.low,
            100.0 * gain.high
        ));
        Ok(())
    }

    /// What a head learns from under `network`: the vectors, labels and places of the texts and of those that their labels
    /// reach.
    pub(super) fn joined(
        &self,
        texts: &Texts,
        network: &Network,
        classes: usize,
    ) -> Result<(Matrix, Vec<usize>, Vec<Place>)> {
        let (of_texts, of_pool) = (vectors(network, &texts.examples)?, vectors(network, &self.examples)?);
        let after = of_texts.above(&of_pool)?;
        let joined = texts.before.above(&self.before)?.beside(&after)?;
        let shares = SpreadParams::default().check()?.spread(&joined, &texts.labels, classes)?;
        let (mut rows, mut labels, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..EXAMPLE_COUNTS {
            rows.extend(0..texts.labels.len());
            labels.extend(&texts.labels);
            places.extend(&texts.places);
        }
        for (i, shares) in shares.iter().enumerate() {
            let Some(shares) = shares else { continue };
            let likeliest = (0..classes).max_by(|a, b| shares[*a].total_cmp(&shares[*b]));
            rows.push(texts.labels.len() + i);
            labels.push(likeliest.unwrap_or_default());
            places.push(Place { fold: i % FOLDS, held_out_for: Use::Stop });
        }
        Ok((after.select(&rows), labels, places))
    }
}
