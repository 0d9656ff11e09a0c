//! Fitting one kind of router.

use super::Kind;
use understudy_core::{Error, Outcome, Result};
use understudy_learn::{groups::Groups, linear::Linear, neighbours::Neighbours, sparse::Sparse};
use understudy_route::router::{Design, Predictor, Priors, Prompt};

/// One request with known outcomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Example<'a> {
    /// The request.
    pub prompt: Prompt<'a>,
    /// Quality of the small model, in [0, 1].
    pub small: f64,
    /// Quality of the large model, in [0, 1].
    pub large: f64,
}

impl Example<'_> {
    /// What asking the large model gains.
    #[must_use]
    pub fn gain(&self) -> f64 {
        self.large - self.small
    }
}

/// Examples from outcomes; `embeddings` has one vector for each outcome, or none at all.
///
/// # Errors
/// `Data` when an outcome has no quality for one of the models; `Invalid` when embeddings are missing.
pub fn examples<'a>(
    outcomes: &'a [Outcome],
    embeddings: &'a [Vec<f32>],
    small: &str,
    large: &str,
) -> Result<Vec<Example<'a>>> {
    if !embeddings.is_empty() && embeddings.len() != outcomes.len() {
        return Err(Error::invalid("train a router: give an embedding for each outcome, or none"));
    }
    let quality = |outcome: &Outcome, model: &str| {
        outcome
            .models
            .get(model)
            .and_then(|answer| answer.quality)
            .ok_or_else(|| Error::data(format!("train a router: row `{}` has no quality of `{model}`", outcome.id)))
    };
    let example = |(place, outcome): (usize, &'a Outcome)| {
        Ok(Example {
            prompt: prompt(outcome, embeddings.get(place)),
            small: quality(outcome, small)?,
            large: quality(outcome, large)?,
        })
    };
    outcomes.iter().enumerate().map(example).collect()
}

fn prompt<'a>(outcome: &'a Outcome, embedding: Option<&'a Vec<f32>>) -> Prompt<'a> {
    Prompt { text: &outcome.prompt, group: outcome.group.as_deref(), embedding: embedding.map(Vec::as_slice) }
}

/// Prior variances in units of the noise: what each block explains of one row is a few per mille, so everything is
/// shrunk hard. Where groups are recorded, words beside them add noise, not knowledge: they only say which groups are
/// alike. Chosen on pairs of models in `cascades_mmlu`, `mmlu_pro` and `llmrouter` (`docs/BENCHMARKS.md`), and flat around
/// these values.
pub(super) const fn priors(kind: Kind, grouped: bool) -> Priors {
    let none = Priors { group: 0.0, kin: 0.0, shape: 0.0, words: 0.0, embedding: 0.0 };
    let groups = Priors { group: 0.005, kin: 0.005, shape: 0.004, ..none };
    match (kind, grouped) {
        (Kind::Length | Kind::Group | Kind::Knn, _) => none,
        (Kind::Tfidf, _) => Priors { words: 0.05, ..none },
        (Kind::Linear, _) => Priors { shape: 0.008, embedding: 0.05, ..none },
        (Kind::Static, true) => groups,
        (Kind::Static, false) => Priors { shape: 0.008, words: 0.02, ..none },
        (Kind::Stack, true) => Priors { embedding: 0.003, ..groups },
        (Kind::Stack, false) => Priors { shape: 0.008, words: 0.02, embedding: 0.01, ..none },
    }
}

/// Neighbours that kNN averages over.
const NEAR: usize = 50;

/// A kind made ready for a set of prompts: everything that does not depend on outcomes, computed once.
pub(super) struct Prepared<'a> {
    kind: Kind,
    prompts: Vec<Prompt<'a>>,
    design: Option<(Design, Vec<Sparse>)>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(kind: Kind, examples: &[Example<'a>]) -> Self {
        let prompts: Vec<Prompt<'a>> = examples.iter().map(|example| example.prompt).collect();
        let design = matches!(kind, Kind::Tfidf | Kind::Linear | Kind::Static | Kind::Stack).then(|| {
            let grouped = prompts.iter().any(|prompt| prompt.group.is_some());
            let design = Design::fit(&prompts, priors(kind, grouped));
            let rows = prompts.iter().map(|prompt| design.row(prompt)).collect();
            (design, rows)
        });
        Self { kind, prompts, design }
    }

    /// Fits to the targets of some of the prompts.
    pub(super) fn fit(&self, places: &[usize], targets: &[f64]) -> Fitted<'_, 'a> {
        let values: Vec<f64> = places.iter().map(|&place| targets[place]).collect();
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let learnt = match (&self.design, self.kind) {
            (Some((design, rows)), _) => {
                let rows: Vec<Sparse> = places.iter().map(|&place| rows[place].clone()).collect();
                Learnt::Linear(Linear::fit(&rows, design.width(), &values, variance(&values)))
            }
            (None, Kind::Group) => {
                let groups: Vec<Option<&str>> = places.iter().map(|&place| self.prompts[place].group).collect();
                Learnt::Whole(Predictor::Group(Groups::fit(&groups, &values)))
            }
            (None, Kind::Knn) => {
                let vectors: Vec<&[f32]> = places.iter().filter_map(|&place| self.prompts[place].embedding).collect();
                match vectors.len() == values.len() && !vectors.is_empty() {
                    true => {
                        let neighbours = Neighbours::new(vectors, values);
                        Learnt::Whole(Predictor::Knn { neighbours, k: NEAR, otherwise: mean })
                    }
                    false => Learnt::Whole(Predictor::Length { slope: 0.0, intercept: mean }),
                }
            }
            (None, _) => {
                let lengths: Vec<Sparse> = places
                    .iter()
                    .map(|&place| {
                        #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough")]
                        let length = (1.0 + self.prompts[place].text.len() as f64).ln() as f32;
                        vec![(0, length)]
                    })
                    .collect();
                let line = Linear::fit(&lengths, 1, &values, 1e-3);
                Learnt::Whole(Predictor::Length { slope: line.weights[0], intercept: line.intercept })
            }
        };
        Fitted { of: self, learnt }
    }
}

/// What was learnt from outcomes, still beside the prepared prompts.
pub(super) struct Fitted<'p, 'a> {
    of: &'p Prepared<'a>,
    learnt: Learnt,
}

enum Learnt {
    Linear(Linear),
    Whole(Predictor),
}

impl Fitted<'_, '_> {
    /// The prediction for one of the prepared prompts.
    pub(super) fn predict(&self, place: usize) -> f64 {
        match (&self.learnt, &self.of.design) {
            (Learnt::Linear(weights), Some((_, rows))) => weights.predict(&rows[place]),
            (Learnt::Linear(weights), None) => weights.intercept,
            (Learnt::Whole(predictor), _) => predictor.predict(&self.of.prompts[place]),
        }
    }

    pub(super) fn predictor(self) -> Predictor {
        match (self.learnt, &self.of.design) {
            (Learnt::Linear(weights), Some((design, _))) => Predictor::Linear { design: design.clone(), weights },
            (Learnt::Linear(weights), None) => Predictor::Length { slope: 0.0, intercept: weights.intercept },
            (Learnt::Whole(predictor), _) => predictor,
        }
    }
}

/// Fits one kind to all examples. `target` says what is predicted: the gain, or one model's quality.
///
/// # Errors
/// `Invalid` when there are fewer than two examples, or the kind needs embeddings that are not there.
pub fn fit<'a>(kind: Kind, examples: &[Example<'a>], target: impl Fn(&Example<'a>) -> f64) -> Result<Predictor> {
    check(kind, examples)?;
    let places: Vec<usize> = (0..examples.len()).collect();
    let targets: Vec<f64> = examples.iter().map(target).collect();
    Ok(Prepared::new(kind, examples).fit(&places, &targets).predictor())
}

/// Noise of the targets, in which the priors are expressed.
fn variance(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len().max(1) as f64).max(1e-9)
}

pub(super) fn check(kind: Kind, examples: &[Example<'_>]) -> Result<()> {
    if examples.len() < 2 {
        return Err(Error::invalid("train a router: it takes at least two rows with both qualities"));
    }
    if kind.wants_embedding() && examples.iter().any(|example| example.prompt.embedding.is_none()) {
        return Err(Error::invalid(format!(
            "train a router of kind `{}`: it reads embeddings; give an encoder, or use `static`",
            kind.as_str()
        )));
    }
    Ok(())
}
