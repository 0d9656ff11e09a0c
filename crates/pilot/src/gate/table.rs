//! Recorded outcomes as numbers: every signal of every row, and what both models were worth there.

use understudy_core::{Error, Outcome, Result};
use understudy_route::gate::{
    fitted::{Column, Presence},
    signals::{Evidence, Reader, Said, Signal},
};

/// Rows that lack a signal, from which on the lack is itself a column.
const WORTH_A_COLUMN: usize = 5;

/// Every signal of every row.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) helpers: Vec<String>,
    pub(super) signals: Vec<Signal>,
    pub(super) values: Vec<Vec<Option<f64>>>,
    /// Quality of the small and of the large model.
    pub(super) small: Vec<f64>,
    pub(super) large: Vec<f64>,
    /// Place of each row in the outcomes.
    pub(super) places: Vec<usize>,
}

/// A signal that could be a score just as it was recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Raw {
    /// The signal.
    pub signal: Signal,
    /// 1, or −1 where less is better.
    pub sign: f64,
}

/// One answer with what it is worth, for gates of models that are not in recorded outcomes: a classifier's head, say,
/// with margin and distance.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// The small model's answer.
    pub said: Said<'a>,
    /// Its quality, in [0, 1].
    pub small: f64,
    /// The quality of the large model's answer, in [0, 1].
    pub large: f64,
}

/// What was said about one outcome, ready to be judged.
pub(super) struct Row<'a> {
    prompt: &'a str,
    said: Said<'a>,
    helpers: Vec<Option<Said<'a>>>,
}

impl<'a> Row<'a> {
    pub(super) fn new(outcome: &'a Outcome, small: &str, helpers: &[String]) -> Option<Self> {
        let said = |name: &str| outcome.models.get(name).map(Said::recorded);
        let helpers = helpers.iter().map(|name| said(name)).collect();
        Some(Self { prompt: &outcome.prompt, said: said(small)?, helpers })
    }

    pub(super) fn evidence(&self) -> Evidence<'_> {
        Evidence { prompt: self.prompt, said: self.said, helpers: &self.helpers }
    }
}

impl Table {
    /// Rows in which both models have a quality.
    pub(super) fn new(outcomes: &[Outcome], small: &str, large: &str, helpers: Vec<String>) -> Result<Self> {
        let rows = outcomes.iter().enumerate().filter_map(|(place, outcome)| {
            let quality = |name: &str| outcome.models.get(name)?.quality;
            let (of_small, of_large) = (quality(small)?, quality(large)?);
            Some((place, Row::new(outcome, small, &helpers)?, of_small, of_large))
        });
        let table = Self::of(rows, &helpers)?;
        if table.values.is_empty() {
            let known: std::collections::BTreeSet<&String> = outcomes.iter().flat_map(|o| o.models.keys()).collect();
            let known = known.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(Error::not_found(format!(
                "fit a gate for `{small}` and `{large}`: no row has a quality for both; the outcomes have {known}"
            )));
        }
        Ok(table)
    }

    /// Answers that were judged elsewhere, without helpers.
    pub(super) fn judged(judged: &[Judged<'_>]) -> Result<Self> {
        let row = |said| Row { prompt: "", said, helpers: Vec::new() };
        let rows = judged.iter().enumerate().map(|(place, one)| (place, row(one.said), one.small, one.large));
        Self::of(rows, &[])
    }

    fn of<'a>(rows: impl Iterator<Item = (usize, Row<'a>, f64, f64)>, helpers: &[String]) -> Result<Self> {
        let count = u16::try_from(helpers.len()).map_err(|_| Error::invalid("fit a gate: use fewer helpers"))?;
        let mut table = Self {
            helpers: helpers.to_vec(),
            signals: Signal::all(count).collect(),
            values: Vec::new(),
            small: Vec::new(),
            large: Vec::new(),
            places: Vec::new(),
        };
        for (place, row, small, large) in rows {
            let reader = Reader::new(row.evidence());
            table.values.push(table.signals.iter().map(|&signal| reader.value(signal)).collect());
            table.small.push(small);
            table.large.push(large);
            table.places.push(place);
        }
        Ok(table)
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// What asking the large model adds, row by row.
    pub(super) fn gains(&self, rows: &[usize]) -> Vec<f64> {
        rows.iter().map(|&row| self.large[row] - self.small[row]).collect()
    }

    /// Columns for learners, from these rows: what never varies or is nearly never there is left out.
    pub(super) fn columns(&self, rows: &[usize]) -> Vec<Column> {
        let mut columns = Vec::new();
        for (index, &signal) in self.signals.iter().enumerate() {
            let known: Vec<f64> = rows.iter().filter_map(|&row| self.values[row][index]).collect();
            let missing = rows.len() - known.len();
            if known.len() < WORTH_A_COLUMN {
                continue;
            }
            let (mean, deviation) = moments(&known);
            let varies = deviation > 1e-9;
            if varies {
                let presence = if missing == 0 { Presence::Always } else { Presence::Sometimes };
                columns.push(Column { signal, presence, mean, scale: deviation });
            }
            if missing >= WORTH_A_COLUMN {
                let share = missing as f64 / rows.len() as f64;
                let scale = (share * (1.0 - share)).sqrt();
                columns.push(Column { signal, presence: Presence::Missing, mean: share, scale });
            }
        }
        columns
    }

    /// The learners' input for some rows. A value that should always be there but is not counts as the mean: only
    /// `route` refuses it.
    pub(super) fn input(&self, columns: &[Column], rows: &[usize]) -> Vec<Vec<f64>> {
        let place = |column: &Column| self.signals.iter().position(|signal| *signal == column.signal);
        let places: Vec<usize> = columns.iter().map(|c| place(c).expect("columns are made of the signals")).collect();
        let read = |row: usize| {
            let values = columns.iter().zip(&places).map(|(column, &place)| {
                let value = self.values[row][place];
                let value = match column.presence {
                    Presence::Missing => f64::from(u8::from(value.is_none())),
                    Presence::Always | Presence::Sometimes => value.unwrap_or(column.mean),
                };
                understudy_route::gate::fitted::standardised(column, value)
            });
            values.collect()
        };
        rows.iter().map(|&row| read(row)).collect()
    }

    /// Signals that could be a score as they are and vary on these rows.
    pub(super) fn raws(&self, rows: &[usize]) -> Vec<Raw> {
        let candidates = self.signals.iter().filter_map(|&signal| {
            let sign = match signal {
                Signal::Confidence
                | Signal::Doubt
                | Signal::Margin
                | Signal::TokenMean
                | Signal::TokenLowest
                | Signal::Agreement(_)
                | Signal::AgreementShare => 1.0,
                Signal::Length | Signal::Distance => -1.0,
                _ => return None,
            };
            Some(Raw { signal, sign })
        });
        let varies = |raw: &Raw| {
            let scores = self.raw_scores(*raw, rows);
            scores.iter().any(|score| (score - scores[0]).abs() > 1e-12)
        };
        candidates.filter(varies).collect()
    }

    /// A raw signal as a score; where it is missing, lower than all others.
    pub(super) fn raw_scores(&self, raw: Raw, rows: &[usize]) -> Vec<f64> {
        let index = self.signals.iter().position(|signal| *signal == raw.signal).expect("one of the table's signals");
        let scores: Vec<Option<f64>> =
            rows.iter().map(|&row| self.values[row][index].map(|value| raw.sign * value)).collect();
        let lowest = scores.iter().flatten().copied().fold(f64::INFINITY, f64::min);
        let lowest = if lowest.is_finite() { lowest } else { 0.0 };
        scores.into_iter().map(|score| score.unwrap_or(lowest - 1.0)).collect()
    }
}

/// Mean and standard deviation.
pub(super) fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}
