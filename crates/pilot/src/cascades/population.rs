//! Rows in which every model answered: confidence, price, and whether a loss follows from handing its answer over.

use crate::{compare::pairs::is_binary, items::RIGHT};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use understudy_core::{Error, Outcome, Result, hash};
use understudy_route::stages::{Ladder, Rung};

/// What one model's answer to one request means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cell {
    pub(super) confidence: Option<f64>,
    pub(super) cost_usd: f64,
    /// Wrong where the large model is right.
    pub(super) loss: bool,
}

/// Requests and models with everything that a cascade of them needs.
#[derive(Debug, Clone)]
pub struct Population {
    /// Cheaper models, the cheapest first.
    pub(super) models: Vec<String>,
    pub(super) large: String,
    /// One row for each request, one cell for each model; the large model's comes last.
    pub(super) cells: Vec<Vec<Cell>>,
    ids: Vec<String>,
}

/// Mean loss and price over rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Tally {
    pub(super) losses: u64,
    pub(super) cost_usd: f64,
}

impl Population {
    /// From recorded outcomes: the named models, or all that have a price and a confidence. Models that cost as much
    /// as the large one are left out; rows in which one of the models did not answer are, too.
    ///
    /// # Errors
    /// `NotFound` when a named model is not in the outcomes; `Data` when prices, qualities or cheaper models are
    /// missing, or a quality is neither 0 nor 1.
    pub fn new(outcomes: &[Outcome], models: Option<&[String]>, large: &str) -> Result<Self> {
        let known: BTreeSet<&str> = outcomes.iter().flat_map(|o| o.models.keys().map(String::as_str)).collect();
        let named = models.iter().flat_map(|names| names.iter().map(String::as_str));
        if let Some(unknown) = named.chain([large]).find(|name| !known.contains(name)) {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::not_found(format!("find model `{unknown}` in the outcomes: they have {known}")));
        }
        let price = |name: &str| {
            let prices: Vec<f64> = outcomes.iter().filter_map(|o| o.models.get(name)?.cost_usd).collect();
            (!prices.is_empty()).then(|| prices.iter().sum::<f64>() / prices.len() as f64)
        };
        let Some(most) = price(large) else {
            return Err(Error::data(format!("price cascades: the outcomes hold no `cost_usd` of `{large}`")));
        };
        let judged = |name: &str| outcomes.iter().any(|o| o.models.get(name).is_some_and(|a| a.score().is_some()));
        let mut priced: Vec<(f64, &str)> = known
            .iter()
            .filter(|&&name| name != large && models.is_none_or(|names| names.iter().any(|n| n == name)))
            .filter(|name| judged(name))
            .filter_map(|&name| Some((price(name)?, name)))
            .filter(|(price, _)| *price < most)
            .collect();
        priced.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
        let models: Vec<String> = priced.into_iter().map(|(_, name)| name.to_owned()).collect();
        if models.is_empty() {
            return Err(Error::data(format!(
                "search cascades: no model is cheaper than `{large}` and has a recorded price and confidence"
            )));
        }
        let mut population = Self { models, large: large.to_owned(), cells: Vec::new(), ids: Vec::new() };
        for outcome in outcomes {
            population.check(outcome)?;
            if let Some(cells) = population.row(outcome) {
                population.cells.push(cells);
                population.ids.push(outcome.id.clone());
            }
        }
        if population.cells.is_empty() {
            let models = population.models.join(", ");
            return Err(Error::data(format!(
                "search cascades: no row holds quality and price of {models} and `{large}`; name fewer with --models"
            )));
        }
        Ok(population)
    }

    /// Losses of cascades are counted: an answer is right or wrong.
    fn check(&self, outcome: &Outcome) -> Result<()> {
        let graded = |name: &&String| {
            let quality = outcome.models.get(*name).and_then(|answer| answer.quality);
            quality.is_some_and(|q| !is_binary(q))
        };
        match self.models.iter().chain([&self.large]).find(graded) {
            None => Ok(()),
            Some(name) => Err(Error::data(format!(
                "search cascades: the quality of `{name}` in row `{}` is neither 0 nor 1, and losses are counted; \
                 `pilot certify` certifies a pair of models by graded qualities",
                outcome.id
            ))),
        }
    }

    fn row(&self, outcome: &Outcome) -> Option<Vec<Cell>> {
        let large_right = outcome.models.get(&self.large)?.quality? >= RIGHT;
        let names = self.models.iter().chain([&self.large]);
        names
            .map(|name| {
                let answer = outcome.models.get(name)?;
                Some(Cell {
                    confidence: answer.score().filter(|c| (0.0..=1.0).contains(c)),
                    cost_usd: answer.cost_usd?,
                    loss: large_right && answer.quality? < RIGHT,
                })
            })
            .collect()
    }

    /// Requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The models below the large one, the cheapest first.
    #[must_use]
    pub fn models(&self) -> &[String] {
        &self.models
    }

    /// The large model.
    #[must_use]
    pub fn large(&self) -> &str {
        &self.large
    }

    /// Mean price of always asking the large model.
    #[must_use]
    pub fn cost_large(&self) -> f64 {
        let last = self.models.len();
        self.cells.iter().map(|row| row[last].cost_usd).sum::<f64>() / self.cells.len() as f64
    }

    /// SHA-256 over the ids.
    pub(super) fn hash(&self, rows: &[usize]) -> String {
        let mut hasher = Sha256::new();
        for &row in rows {
            hasher.update(self.ids[row].as_bytes());
            hasher.update([0]);
        }
        hash::hex(&hasher.finalize())
    }

    /// What a cascade loses and costs on some rows.
    pub(super) fn tally(&self, ladder: &Ladder<usize>, rows: &[usize]) -> Tally {
        let mut tally = Tally::default();
        for &row in rows {
            let cells = &self.cells[row];
            let reached = ladder.walk(|&model| cells[model].confidence);
            tally.losses += u64::from(cells[*ladder.model(reached)].loss);
            tally.cost_usd += (0..=reached).map(|rung| cells[*ladder.model(rung)].cost_usd).sum::<f64>();
        }
        tally
    }

    /// The ladder with names.
    #[must_use]
    pub fn named(&self, ladder: &Ladder<usize>) -> Ladder<String> {
        let name = |model: usize| self.models.get(model).unwrap_or(&self.large).clone();
        let rungs = ladder.rungs.iter().map(|r| Rung { model: name(r.model), threshold: r.threshold }).collect();
        Ladder { rungs, last: name(ladder.last) }
    }
}
