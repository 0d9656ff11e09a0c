//! Where a replay's scores come from: what was recorded, a router, or a gate, fitted on rows that are not scored.

use super::ReplayArgs;
use crate::clock::SystemClock;
use std::{io::Write, path::Path};
use understudy_core::{Clock, Error, Outcome, Result, Seed};
use understudy_model::encoder::{Encoder, Scratch};
use understudy_pilot::{
    gate,
    replay::{self, Stage},
    router::{self, Choice, Example, Kind},
};
use understudy_route::{
    gate::FittedGate,
    router::{FORMAT, Predictor, Prompt, Reading, Trained},
};

/// Parts of a cross-fit.
const FOLDS: usize = 5;
/// Decisions that are timed.
const TIMED: usize = 500;
/// As many where each embeds its prompt.
const TIMED_EMBEDDING: usize = 100;
/// The encoder of the kinds that need one.
const ENCODER: &str = "minilm";

/// How requests are judged.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Method {
    /// By the confidence or log-probability that was recorded.
    Recorded,
    /// By a router: one kind, or the best by cross-validation.
    Router(Option<Kind>),
    /// By a gate.
    Gate(gate::Kind),
}

impl Method {
    pub(super) fn of(args: &ReplayArgs, outcomes: &[Outcome]) -> Result<Self> {
        let recorded = || outcomes.iter().any(|o| o.models.get(&args.small).is_some_and(|a| a.score().is_some()));
        Ok(match (&args.router, &args.gate) {
            (Some(kind), _) if kind == "auto" => Self::Router(None),
            (Some(kind), _) => Self::Router(Some(Kind::parse(kind)?)),
            (None, Some(kind)) => Self::Gate(gate::Kind::parse(kind)?),
            (None, None) if recorded() => Self::Recorded,
            (None, None) => Self::Router(None),
        })
    }

    pub(super) fn stage(&self) -> Stage {
        match self {
            Self::Router(_) => Stage::Before,
            Self::Recorded | Self::Gate(_) => Stage::After,
        }
    }

    /// The encoder to use, if any.
    pub(super) fn embedder(&self, named: Option<&str>) -> Option<String> {
        match self {
            Self::Router(Some(kind)) if kind.wants_embedding() => Some(named.unwrap_or(ENCODER).to_owned()),
            Self::Router(None) => named.map(str::to_owned),
            _ => None,
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Recorded => "recorded confidence".to_owned(),
            Self::Router(None) => "router".to_owned(),
            Self::Router(Some(kind)) => format!("router {}", kind.as_str()),
            Self::Gate(_) => "gate".to_owned(),
        }
    }
}

/// The outcomes of a replay.
pub(super) struct Data<'a> {
    pub(super) test: &'a [Outcome],
    pub(super) test_vectors: &'a [Vec<f32>],
    /// Rows of their own to fit on; without them, `test` is cross-fitted.
    pub(super) train: Option<&'a [Outcome]>,
    pub(super) train_vectors: &'a [Vec<f32>],
    /// What made the vectors.
    pub(super) encoder: Option<&'a Encoder>,
    pub(super) small: &'a str,
    pub(super) large: &'a str,
    pub(super) seed: Seed,
    /// Whether it depended on the small model's answer which rows were recorded.
    pub(super) selected: bool,
    /// Whose answers a gate may look at besides the small model's.
    pub(super) helpers: gate::Helpers,
}

impl Data<'_> {
    /// A score for each row to replay, by something that has not seen it; `None` when the recorded one is used.
    pub(super) fn scores(&self, method: &Method, notes: &mut Vec<String>) -> Result<Option<Vec<f64>>> {
        if *method == Method::Recorded {
            return Ok(None);
        }
        let scores = match self.train {
            Some(train) => self.apart(method, train, notes)?,
            None => {
                notes.push(format!("cross-fitted in {FOLDS} parts: each row is scored by a fit to the other parts"));
                let mut each = Vec::new();
                let scores = replay::crossed(self.test.len(), FOLDS, self.seed, |train, test| {
                    self.fold(method, train, test, &mut each)
                })?;
                notes.extend(each.into_iter().enumerate().map(|(i, note)| format!("part {}: {note}", i + 1)));
                scores
            }
        };
        Ok(Some(scores))
    }

    fn apart(&self, method: &Method, train: &[Outcome], notes: &mut Vec<String>) -> Result<Vec<f64>> {
        match method {
            Method::Recorded => Ok(Vec::new()),
            Method::Router(kind) => {
                let train = router::examples(train, self.train_vectors, self.small, self.large)?;
                let test = router::examples(self.test, self.test_vectors, self.small, self.large)?;
                let predictor = chosen(*kind, &train, self.seed, notes)?;
                Ok(predicted(predictor.as_ref(), &test))
            }
            Method::Gate(kind) => {
                let fit = gate::fit(train, self.small, self.large, &self.params(*kind))?;
                notes.push(fit.reason());
                Ok(fit.scores(self.test))
            }
        }
    }

    /// Scores of some of the rows by a fit to others of them.
    pub(super) fn fold(
        &self,
        method: &Method,
        train: &[usize],
        test: &[usize],
        notes: &mut Vec<String>,
    ) -> Result<Vec<f64>> {
        match method {
            Method::Recorded => Ok(vec![0.0; test.len()]),
            Method::Router(kind) => {
                let all = router::examples(self.test, self.test_vectors, self.small, self.large)?;
                let pick = |places: &[usize]| places.iter().map(|&place| all[place]).collect::<Vec<_>>();
                let predictor = chosen(*kind, &pick(train), self.seed, notes)?;
                Ok(predicted(predictor.as_ref(), &pick(test)))
            }
            Method::Gate(kind) => {
                let pick = |places: &[usize]| places.iter().map(|&place| self.test[place].clone()).collect::<Vec<_>>();
                let fit = gate::fit(&pick(train), self.small, self.large, &self.params(*kind))?;
                notes.push(fit.reason());
                Ok(fit.scores(&pick(test)))
            }
        }
    }

    /// Scores of the trivial routers.
    pub(super) fn baselines(&self) -> Result<Vec<(String, Vec<f64>)>> {
        let grouped = self.train.unwrap_or(self.test).iter().any(|outcome| outcome.group.is_some());
        let trivial = Kind::ALL.into_iter().filter(|kind| kind.is_trivial() && (grouped || *kind != Kind::Group));
        trivial
            .map(|kind| {
                let scores = self.scores(&Method::Router(Some(kind)), &mut Vec::new())?;
                Ok((kind.as_str().to_owned(), scores.unwrap_or_default()))
            })
            .collect()
    }

    /// Median and 99th percentile of what one decision takes on one thread, in microseconds; reading the prompt is part
    /// of it.
    pub(super) fn decision_us(&self, method: &Method) -> Result<[f64; 2]> {
        let clock = SystemClock::new();
        let sample: Vec<&Outcome> = self.test.iter().take(TIMED).collect();
        let mut took = match method {
            Method::Recorded => timed(&clock, &sample, |outcome| outcome.models[self.small].score().unwrap_or(0.0)),
            Method::Router(kind) => {
                let vectors = if self.train.is_some() { self.train_vectors } else { self.test_vectors };
                let train = router::examples(self.train.unwrap_or(self.test), vectors, self.small, self.large)?;
                let predictor = router::fit(kind.unwrap_or(Kind::Static), &train, Example::gain)?;
                let test = router::examples(self.test, self.test_vectors, self.small, self.large)?;
                match self.encoder.filter(|_| predictor.wants_embedding()) {
                    None => timed(&clock, &test[..sample.len()], |example| predictor.predict(&example.prompt)),
                    Some(encoder) => {
                        let mut scratch = Scratch::default();
                        timed(&clock, &test[..sample.len().min(TIMED_EMBEDDING)], |example| {
                            let tokens = encoder.tokenize(example.prompt.text).ok();
                            let embedding = tokens.map(|tokens| encoder.embed(&[tokens], &mut scratch).swap_remove(0));
                            predictor.predict(&Prompt { embedding: embedding.as_deref(), ..example.prompt })
                        })
                    }
                }
            }
            Method::Gate(kind) => {
                let fit = gate::fit(self.train.unwrap_or(self.test), self.small, self.large, &self.params(*kind))?;
                timed(&clock, &sample, |outcome| fit.scores(std::slice::from_ref(*outcome))[0])
            }
        };
        took.sort_by(f64::total_cmp);
        let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or(0.0);
        Ok([at(50), at(99)])
    }

    fn params(&self, kind: gate::Kind) -> gate::Params {
        gate::Params { kind, seed: self.seed, helpers: self.helpers.clone(), ..gate::Params::default() }
    }
}

fn timed<T>(clock: &SystemClock, items: &[T], mut decide: impl FnMut(&T) -> f64) -> Vec<f64> {
    items
        .iter()
        .map(|item| {
            let start = clock.monotonic();
            std::hint::black_box(decide(item));
            (clock.monotonic() - start).as_secs_f64() * 1e6
        })
        .collect()
}

/// The router of a kind, or the best one; `None` when nothing is better than chance.
fn chosen(kind: Option<Kind>, train: &[Example<'_>], seed: Seed, notes: &mut Vec<String>) -> Result<Option<Predictor>> {
    match kind {
        Some(kind) => Ok(Some(router::fit(kind, train, Example::gain)?)),
        None => {
            let selection = router::select(&Kind::ALL, train, seed)?;
            notes.push(selection.reason());
            Ok(selection.predictor)
        }
    }
}

/// Predicted gains; without a predictor all requests are alike.
fn predicted(predictor: Option<&Predictor>, test: &[Example<'_>]) -> Vec<f64> {
    test.iter().map(|example| predictor.map_or(0.0, |predictor| predictor.predict(&example.prompt))).collect()
}

/// A router of the method, fitted to all training rows, for a file.
pub(super) fn train_router(method: &Method, data: &Data<'_>, limit: f64, embedder: Option<String>) -> Result<Trained> {
    let Method::Router(kind) = method else {
        return Err(Error::invalid("save a router: the scores of this replay come from no router; give --router"));
    };
    let (rows, vectors) = match data.train {
        Some(train) => (train, data.train_vectors),
        None => (data.test, data.test_vectors),
    };
    let examples = router::examples(rows, vectors, data.small, data.large)?;
    let (kind, predictor) = match kind {
        Some(kind) => (*kind, router::fit(*kind, &examples, Example::gain)?),
        None => {
            let selection = router::select(&Kind::ALL, &examples, data.seed)?;
            let reason = selection.reason();
            match (selection.choice, selection.predictor) {
                (Choice::Router(kind) | Choice::Trivial(kind), Some(predictor)) => (kind, predictor),
                _ => return Err(Error::invalid(format!("save a router: {reason}"))),
            }
        }
    };
    let embedder = embedder.filter(|_| predictor.wants_embedding());
    Ok(Trained {
        format: FORMAT,
        kind: kind.as_str().to_owned(),
        small: data.small.to_owned(),
        large: data.large.to_owned(),
        n: examples.len(),
        embedder,
        reading: Reading::NEW,
        limit,
        predictor,
    })
}

/// A gate of the method, fitted to all training rows, for a file.
pub(super) fn fit_gate(method: &Method, data: &Data<'_>) -> Result<FittedGate> {
    let Method::Gate(kind) = method else {
        return Err(Error::invalid("save a gate: the scores of this replay come from no gate; give --gate"));
    };
    Ok(gate::fit(data.train.unwrap_or(data.test), data.small, data.large, &data.params(*kind))?.gate)
}

/// Writes a file whole or not at all.
pub(super) fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| Error::invalid(format!("write {}: {e}", file.display()));
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    temporary.write_all(bytes).and_then(|()| temporary.as_file().sync_all()).map_err(failed)?;
    temporary.persist(file).map_err(|e| failed(e.error))?;
    Ok(())
}
