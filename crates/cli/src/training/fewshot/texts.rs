//! The few examples, as the encoder reads them, and the names of their labels.

use super::super::{Material, run::vectors};
use crate::terminal::{note, percent};
use understudy_adapt::{
    encoder::{Example as Ids, Network, Target},
    matrix::Matrix,
    split::{FOLDS, Place, Use},
};
use understudy_core::Result;
use understudy_model::tokens::Tokenizer;

/// What the names of labels have to put right, of what chance leaves open, to count as examples.
const NAMES_SAY: f64 = 0.25;

/// Examples as the network sees them.
pub(super) struct Texts {
    pub(super) examples: Vec<Ids>,
    pub(super) labels: Vec<usize>,
    pub(super) places: Vec<Place>,
    /// What the encoder made of them before it learned anything: a row of length 1 each.
    pub(super) before: Matrix,
}

impl Texts {
    /// The examples to learn from.
    pub(super) fn new(material: &Material, tokenizer: &Tokenizer, encoder: &Network) -> Result<Self> {
        let (split, labels) = (&material.split, material.labels(&material.split.learn));
        let mut examples = Vec::with_capacity(labels.len());
        for (&i, &label) in split.learn.iter().zip(&labels) {
            let windows = tokenizer.tokenize(&material.cleaned.examples[i].text)?.into_windows();
            examples.push(Ids::new(windows, Target::Class(label)));
        }
        let before = vectors(encoder, &examples)?;
        Ok(Self { examples, labels, places: split.places.clone(), before })
    }

    /// Adds the labels' names as one more example of each, where the encoder as it is finds texts near the names of their
    /// labels. `card_arrival` says as much as a text does; `c17` says nothing.
    pub(super) fn add_names(&mut self, classes: &[String], tokenizer: &Tokenizer, encoder: &Network) -> Result<()> {
        let mut names = Vec::with_capacity(classes.len());
        for (label, class) in classes.iter().enumerate() {
            let windows = tokenizer.tokenize(&readable(class))?.into_windows();
            names.push(Ids::new(windows, Target::Class(label)));
        }
        let of_names = vectors(encoder, &names)?;
        let nearest = |text: &[f32]| {
            let likeness = |name: usize| of_names.row(name).iter().zip(text).map(|(a, b)| a * b).sum::<f32>();
            (0..classes.len()).max_by(|a, b| likeness(*a).total_cmp(&likeness(*b)))
        };
        let texts = self.before.rows();
        let hits = (0..texts).filter(|&i| nearest(self.before.row(i)) == Some(self.labels[i])).count();
        let (share, chance) = (hits as f64 / texts.max(1) as f64, 1.0 / classes.len().max(1) as f64);
        if share - chance < NAMES_SAY * (1.0 - chance) {
            return Ok(());
        }
        let right = percent(share);
        note(format_args!("  the names of the labels count as examples: they alone put {right} of the texts right"));
        for (label, name) in names.into_iter().enumerate() {
            self.examples.push(name);
            self.labels.push(label);
            // Names help to learn; what the model is judged by are texts.
            self.places.push(Place { fold: 1 + label % (FOLDS - 1), held_out_for: Use::Stop });
        }
        self.before = self.before.above(&of_names)?;
        Ok(())
    }

    /// Those that `aside` does not choose, and those that it does.
    pub(super) fn apart(&self, aside: impl Fn(&Place) -> bool) -> (Self, Self) {
        let pick = |of: bool| {
            let chosen: Vec<usize> = (0..self.labels.len()).filter(|&i| aside(&self.places[i]) == of).collect();
            Self {
                examples: chosen.iter().map(|&i| self.examples[i].clone()).collect(),
                labels: chosen.iter().map(|&i| self.labels[i]).collect(),
                places: chosen.iter().map(|&i| self.places[i]).collect(),
                before: self.before.select(&chosen),
            }
        };
        (pick(false), pick(true))
    }
}

/// A label as words: `card_arrival`, `Refund-notShowing` become `card arrival`, `refund not showing`.
fn readable(label: &str) -> String {
    let mut text = String::with_capacity(label.len() + 4);
    let mut before = ' ';
    for c in label.chars() {
        if !c.is_alphanumeric() {
            text.push(' ');
        } else {
            if c.is_uppercase() && before.is_lowercase() {
                text.push(' ');
            }
            text.extend(c.to_lowercase());
        }
        before = c;
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_words() {
        for (label, words) in [
            ("card_arrival", "card arrival"),
            ("Refund-notShowing", "refund not showing"),
            ("reverted_card_payment?", "reverted card payment"),
            ("HUM:desc", "hum desc"),
            ("ÄnderungAdresse", "änderung adresse"),
            ("??", ""),
        ] {
            assert_eq!(readable(label), words);
        }
    }
}
