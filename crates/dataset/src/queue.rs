//! What to label next: texts about which a model is unsure, and that are unlike one another. Without a model's word, the
//! texts that cover the pool best (greedy k-centre).
//!
//! Texts are compared by their words (TF-IDF), whatever the model reads. Trains nothing that is kept: the classifier on
//! words behind [`uncertainty_by_words`] lives for one call.

use crate::clean::text_hash;
use rayon::prelude::*;
use serde::Serialize;
use understudy_core::{Error, Result, Seed, hash::unit_interval};
use understudy_learn::{
    linear::Linear,
    sparse::{Sparse, product},
    tfidf::Tfidf,
};

/// Places of words.
const BITS: u32 = 14;
/// Penalty of the linear models, as in the search for label errors.
const L2: f64 = 1.0;
/// Labelled texts that are learnt from; more would take minutes.
const MOST_LABELLED: usize = 20_000;
/// Texts among which one is chosen, for each that is asked for; at least [`LEAST_SHORTLIST`].
const SHORTLIST: usize = 10;
const LEAST_SHORTLIST: usize = 500;
/// Texts that are looked at where nothing is known about their uncertainty.
const MOST_COVERED: usize = 20_000;

/// One text to label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pick {
    /// Its place in the pool.
    pub at: usize,
    /// How unsure the model is, from 0 to 1; `None` without a model.
    pub uncertainty: Option<f64>,
    /// Likeness (cosine of words, 0 to 1) to the nearest text that was picked before, or, without a model, to the nearest
    /// that was picked or has a label.
    pub nearest: f64,
}

/// How unsure a classifier on words is about each text of the pool, having learnt the labelled ones: 1 minus the distance
/// of its best two scores, in [0, 1].
///
/// # Errors
/// `Data` with fewer than two labels.
pub fn uncertainty_by_words(labelled: &[(&str, &str)], pool: &[&str], seed: Seed) -> Result<Vec<f64>> {
    let mut labelled: Vec<(&str, &str)> = labelled.to_vec();
    if labelled.len() > MOST_LABELLED {
        let seed = seed.derive("queue").0;
        labelled.sort_by_cached_key(|(text, _)| text_hash(&format!("{seed}:{text}")));
        labelled.truncate(MOST_LABELLED);
    }
    let mut names: Vec<&str> = labelled.iter().map(|(_, label)| *label).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() < 2 {
        let what = format!(
            "find what is uncertain: {} different labels among the labelled rows, and two are needed",
            names.len()
        );
        return Err(Error::data(what));
    }
    let texts = || labelled.iter().map(|(text, _)| *text);
    let words = Tfidf::fit(texts().chain(pool.iter().copied()), BITS);
    let rows: Vec<Sparse> = texts().map(|text| words.vector(text)).collect();
    let fits: Vec<Linear> = names
        .par_iter()
        .map(|name| {
            let targets: Vec<f64> = labelled.iter().map(|(_, label)| f64::from(u8::from(label == name))).collect();
            Linear::fit(&rows, words.width(), &targets, L2)
        })
        .collect();
    let unsure = |text: &&str| {
        let row = words.vector(text);
        margin_uncertainty(fits.iter().map(|fit| fit.predict(&row)))
    };
    Ok(pool.par_iter().map(unsure).collect())
}

/// 1 minus the distance of the best two scores or probabilities, held to [0, 1].
pub fn margin_uncertainty(scores: impl IntoIterator<Item = f64>) -> f64 {
    let (mut first, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for score in scores {
        if score > first {
            (first, second) = (score, first);
        } else if score > second {
            second = score;
        }
    }
    let margin = first - second;
    if margin.is_finite() { (1.0 - margin).clamp(0.0, 1.0) } else { 0.0 }
}

/// Picks `n` texts of the pool: of the most uncertain ones, in turn the one that is uncertain and unlike those picked
/// before. Equal texts are picked once.
///
/// # Panics
/// When there is not one uncertainty for each text.
#[must_use]
pub fn by_uncertainty(pool: &[&str], uncertainty: &[f64], n: usize) -> Vec<Pick> {
    assert_eq!(pool.len(), uncertainty.len(), "an uncertainty for each text");
    let mut order: Vec<usize> = (0..pool.len()).collect();
    order.sort_by(|&a, &b| uncertainty[b].total_cmp(&uncertainty[a]).then(a.cmp(&b)));
    order.truncate((SHORTLIST * n).max(LEAST_SHORTLIST));
    let words = Tfidf::fit(pool.iter().copied(), BITS);
    let rows: Vec<Sparse> = order.iter().map(|&at| words.vector(pool[at])).collect();
    greedy(&rows, vec![0.0; rows.len()], n, |at| uncertainty[order[at]])
        .into_iter()
        .map(|(at, nearest)| Pick { at: order[at], uncertainty: Some(uncertainty[order[at]]), nearest })
        .collect()
}

/// Picks `n` texts of the pool that cover it: in turn the one that is least like every text that was picked or has a
/// label. Of a large pool a part is looked at, drawn by content.
#[must_use]
pub fn by_cover(pool: &[&str], labelled: &[&str], n: usize, seed: Seed) -> Vec<Pick> {
    let part = |texts: &[&str], most: usize| -> Vec<usize> {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        let seed = seed.derive("cover").0;
        order.sort_by_cached_key(|&at| text_hash(&format!("{seed}:{}", texts[at])));
        order.truncate(most);
        order
    };
    let order = part(pool, MOST_COVERED);
    let words = Tfidf::fit(pool.iter().chain(labelled).copied(), BITS);
    let rows: Vec<Sparse> = order.iter().map(|&at| words.vector(pool[at])).collect();
    let known: Vec<Sparse> = part(labelled, 2_000).into_iter().map(|at| words.vector(labelled[at])).collect();
    let nearest = rows.par_iter().map(|row| known.iter().map(|k| product(row, k)).fold(0.0, f64::max)).collect();
    // A text without a word that another has says little about the pool.
    let weight = |at: usize| if rows[at].is_empty() { 0.0 } else { 1.0 };
    greedy(&rows, nearest, n, weight)
        .into_iter()
        .map(|(at, nearest)| Pick { at: order[at], uncertainty: None, nearest })
        .collect()
}

/// In turn the row with the largest weight times distance to those picked before; with its likeness to the nearest then.
fn greedy(rows: &[Sparse], mut nearest: Vec<f64>, n: usize, weight: impl Fn(usize) -> f64) -> Vec<(usize, f64)> {
    let mut picked = Vec::new();
    let mut left: Vec<usize> = (0..rows.len()).collect();
    while picked.len() < n {
        let score = |at: usize| weight(at) * (1.0 - nearest[at]).max(0.0);
        let best = left.iter().enumerate().max_by(|(_, a), (_, b)| score(**a).total_cmp(&score(**b)).then(b.cmp(a)));
        let Some((place, &at)) = best.filter(|(_, at)| picked.is_empty() || nearest[**at] < 1.0 - 1e-6) else { break };
        left.swap_remove(place);
        picked.push((at, nearest[at]));
        for &other in &left {
            nearest[other] = nearest[other].max(product(&rows[at], &rows[other]));
        }
    }
    picked
}

/// Draws `n` texts at random, by content: what the other ways are measured against.
#[must_use]
pub fn at_random(pool: &[&str], n: usize, seed: Seed) -> Vec<usize> {
    let seed = seed.derive("random").0;
    let mut order: Vec<usize> = (0..pool.len()).collect();
    order.sort_by(|&a, &b| {
        let place = |at: usize| unit_interval(&format!("{seed}:{}", pool[at]));
        place(a).total_cmp(&place(b)).then(a.cmp(&b))
    });
    order.truncate(n);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: [&str; 6] = [
        "my card was lost in the shop",
        "my card was lost in a shop",
        "the transfer is late again",
        "card or transfer who knows",
        "transfer or card who knows",
        "the transfer is late now",
    ];

    #[test]
    fn what_is_uncertain_and_unlike_the_others_comes_first() {
        let labelled = [
            ("card was lost", "card"),
            ("a lost card", "card"),
            ("transfer is late", "transfer"),
            ("late transfer", "transfer"),
        ];
        let unsure = uncertainty_by_words(&labelled, &POOL, Seed(1)).unwrap();
        assert!(unsure[3] > unsure[0] && unsure[4] > unsure[2], "{unsure:?}");
        let picks: Vec<usize> = by_uncertainty(&POOL, &unsure, 3).iter().map(|pick| pick.at).collect();
        assert!(picks.contains(&3) != picks.contains(&4), "one of two with the same words is enough: {picks:?}");
        assert!(uncertainty_by_words(&labelled[..2], &POOL, Seed(1)).is_err());
    }

    #[test]
    fn without_a_model_the_picks_cover_the_pool() {
        let picks: Vec<usize> = by_cover(&POOL, &[], 3, Seed(3)).iter().map(|pick| pick.at / 2).collect();
        let mut topics = picks.clone();
        topics.sort_unstable();
        topics.dedup();
        assert!(topics.len() >= 2, "{picks:?}");
        let known = by_cover(&POOL, &POOL[..2], 1, Seed(3));
        assert!(known[0].at > 1, "what has a label is covered");
        assert_eq!(by_cover(&POOL, &[], 99, Seed(3)).len(), 4, "equal words are picked once");
    }

    #[test]
    fn margins_are_of_the_best_two() {
        assert!((margin_uncertainty([0.2, 0.7, 0.1]) - 0.5).abs() < 1e-12);
        assert!(margin_uncertainty([0.9]).abs() < 1e-12 && margin_uncertainty([]).abs() < 1e-12);
    }
}
