//! Fitting a gate: cross-validated scores decide between committee and raw signal, scale the members and calibrate.

use super::{
    Kind, Params,
    area::{area, difference},
    committee::{Train, learners},
    table::{Judged, Raw, Row, Table, moments},
};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use understudy_core::{Confidence, Error, Outcome, Result, Seed};
use understudy_learn::isotonic::Isotonic;
use understudy_route::gate::{
    FittedGate,
    fitted::{Column, GateFile, Learner, Member, Presence},
    signals::Signal,
};

/// Fewest rows from which a gate is fitted.
const FEWEST: usize = 40;
/// Weight of the raw signal beside the committee's where other models' answers were recorded. Where only the small
/// model's own answer was, the weight is the chance that the raw signal is the better of the two, up to …
const DRAWN_WITH_HELPERS: f64 = 0.1;
/// … this.
const DRAWN_MOST: f64 = 0.95;

/// Score of what the gate refuses to judge: above all others.
pub const REFUSED: f64 = 1e6;

/// What a fitted gate rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The committee, drawn towards the raw signal.
    Committee,
    /// The raw signal alone: the committee was clearly worse in cross-validation, or was not asked for.
    Raw,
}

/// A fitted gate and how it came about.
#[derive(Debug, Clone)]
pub struct Fit {
    /// The gate.
    pub gate: FittedGate,
    /// What it rests on.
    pub choice: Choice,
    /// The best raw signal on the training rows.
    pub raw: Raw,
    /// Its name.
    pub raw_name: String,
    /// Average performance gap recovered by the committee less that by the raw signal, in cross-validation, and the
    /// standard error; `None` when the large model was not better there.
    pub advantage: Option<(f64, f64)>,
    /// Rows.
    pub n: usize,
}

impl Fit {
    /// Scores of outcomes in `replay`'s sense (the higher, the more reason to ask the large model), one for each
    /// outcome; where the gate refuses to judge, the highest.
    #[must_use]
    pub fn scores(&self, outcomes: &[Outcome]) -> Vec<f64> {
        outcomes.iter().map(|outcome| self.score(outcome)).collect()
    }

    /// The score of one outcome: the standardised one before calibration, so that scores of several fits to parts of
    /// the same data can be compared.
    #[must_use]
    pub fn score(&self, outcome: &Outcome) -> f64 {
        let file = self.gate.file();
        let score = Row::new(outcome, &file.small, &file.helpers).and_then(|row| self.gate.score(row.evidence()));
        score.map_or(REFUSED, |score| -score)
    }

    /// The gate's confidence in keeping the small model's answer; `None` where it refuses to judge.
    #[must_use]
    pub fn confidence(&self, outcome: &Outcome) -> Option<Confidence> {
        let file = self.gate.file();
        self.gate.judge(Row::new(outcome, &file.small, &file.helpers)?.evidence())
    }
}

/// Fits a gate for a pair of models on recorded outcomes.
///
/// # Errors
/// `NotFound` when a model is not in the outcomes, `Data` when there are too few rows or nothing was recorded that
/// could be a signal, `Invalid` when the parameters make no sense.
pub fn fit(outcomes: &[Outcome], small: &str, large: &str, params: &Params) -> Result<Fit> {
    if params.folds < 2 {
        return Err(Error::invalid("fit a gate: use at least 2 folds"));
    }
    let helpers = params.helpers.choose(outcomes, small, large)?;
    let table = Table::new(outcomes, small, large, helpers)?;
    let rows: Vec<usize> = (0..table.len()).collect();
    fit_rows(&table, &rows, (small, large), params)
}

/// Fits a gate for answers that were judged elsewhere.
///
/// # Errors
/// As [`fit`].
pub fn fit_judged(judged: &[Judged<'_>], small: &str, large: &str, params: &Params) -> Result<Fit> {
    let table = Table::judged(judged)?;
    let rows: Vec<usize> = (0..table.len()).collect();
    fit_rows(&table, &rows, (small, large), params)
}

/// Fits on some rows of a table.
pub(super) fn fit_rows(table: &Table, rows: &[usize], names: (&str, &str), params: &Params) -> Result<Fit> {
    if rows.len() < FEWEST.max(2 * params.folds) {
        let n = rows.len();
        return Err(Error::data(format!("fit a gate for `{}`: {n} rows are too few; record {FEWEST}", names.0)));
    }
    let gains = table.gains(rows);
    let raw = best_raw(table, rows, &gains).ok_or_else(|| {
        Error::data(format!("fit a gate for `{}`: nothing was recorded that could be a signal", names.0))
    })?;
    let (columns, raw_column) = columns_with(table, rows, raw);
    let input = table.input(&columns, rows);
    let raw_unseen: Vec<f64> = input.iter().map(|row| raw.sign * row[raw_column]).collect();
    let raw_member = |column: usize, weight: f64| {
        Seat::new("raw signal", Learner::Raw { column, sign: raw.sign }, raw_unseen.clone(), weight)
    };
    let unseen = cross_validated(table, rows, params);
    let mut committee: Vec<Seat> = if params.kind == Kind::Raw {
        Vec::new()
    } else {
        let fitted = learners(&train(table, rows, &input, params.seed), params.kind);
        let share = 1.0 / fitted.len() as f64;
        let seats = fitted.into_iter().zip(unseen);
        seats.filter_map(|((name, learner), unseen)| Seat::new(name, learner, unseen, share)).collect()
    };
    let raw_scores = table.raw_scores(raw, rows);
    let drawn = match table.helpers.is_empty() {
        true => chance_below(difference(&says(&committee, rows.len()), &raw_scores, &gains)).min(DRAWN_MOST),
        false => DRAWN_WITH_HELPERS,
    };
    // Averaging shrinks the spread: the raw signal's weight is measured against the average's.
    let spread = moments(&says(&committee, rows.len())).1;
    if spread > 1e-9 {
        committee.extend(raw_member(raw_column, drawn * spread / (1.0 - drawn)));
    }
    let (mean, error) = difference(&says(&committee, rows.len()), &raw_scores, &gains);
    let choice = if committee.is_empty() || mean < -error { Choice::Raw } else { Choice::Committee };
    let (columns, seats, helpers) = match choice {
        Choice::Committee => (columns, committee, table.helpers.clone()),
        // Only its own column, which must be there: an answer without the signal is not kept.
        Choice::Raw => {
            let column = Column { presence: Presence::Always, ..columns[raw_column].clone() };
            let helped = matches!(raw.signal, Signal::Agreement(_) | Signal::AgreementShare);
            let helpers = if helped { table.helpers.clone() } else { Vec::new() };
            (vec![column], raw_member(0, 1.0).into_iter().collect(), helpers)
        }
    };
    let scores = says(&seats, rows.len());
    let members = seats.into_iter().map(|seat| seat.member).collect();
    // What is calibrated is the chance that keeping loses nothing.
    let calibration = Isotonic::fit(scores.iter().zip(&gains).map(|(&score, gain)| (score, 1.0 - gain.max(0.0), 1.0)));
    let gate = FittedGate::checked(GateFile {
        version: GateFile::version(),
        small: names.0.to_owned(),
        large: names.1.to_owned(),
        helpers,
        n: rows.len() as u64,
        columns,
        members,
        calibration,
    })?;
    let gap = gains.iter().sum::<f64>() / gains.len() as f64;
    Ok(Fit {
        gate,
        choice,
        raw,
        raw_name: raw.signal.name(&table.helpers),
        advantage: (gap > 0.0 && params.kind != Kind::Raw).then(|| (mean / gap, error / gap)),
        n: rows.len(),
    })
}

/// Chance that a difference is really below 0, of an estimate and its standard error: the logistic curve that is
/// nearest to the normal one.
fn chance_below((mean, error): (f64, f64)) -> f64 {
    1.0 / (1.0 + (1.702 * (mean / error.max(1e-12)).clamp(-9.0, 9.0)).exp())
}

/// The raw signal with the largest area on these rows; ties go to the first. Preferring plain signals within one
/// standard error was tried and lost (docs/BENCHMARKS.md).
fn best_raw(table: &Table, rows: &[usize], gains: &[f64]) -> Option<Raw> {
    let mut best: Option<(f64, Raw)> = None;
    for raw in table.raws(rows) {
        let area = area(&table.raw_scores(raw, rows), gains);
        if best.is_none_or(|(most, _)| area > most) {
            best = Some((area, raw));
        }
    }
    best.map(|(_, raw)| raw)
}

/// The learners' columns and the place of the raw signal among them.
fn columns_with(table: &Table, rows: &[usize], raw: Raw) -> (Vec<Column>, usize) {
    let mut columns = table.columns(rows);
    let place = columns.iter().position(|c| c.signal == raw.signal && c.presence != Presence::Missing);
    let place = place.unwrap_or_else(|| {
        // It varies only in being there, or hardly is: no column for learners, but still a score.
        let (mean, deviation) = moments(&table.raw_scores(raw, rows));
        columns.push(Column {
            signal: raw.signal,
            presence: Presence::Sometimes,
            mean: raw.sign * mean,
            scale: deviation.max(1e-9),
        });
        columns.len() - 1
    });
    (columns, place)
}

/// Each member's scores of rows that it was not fitted on.
fn cross_validated(table: &Table, rows: &[usize], params: &Params) -> Vec<Vec<f64>> {
    if params.kind == Kind::Raw {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(params.seed.derive("gate folds").0));
    let mut unseen: Vec<Vec<f64>> = Vec::new();
    for fold in 0..params.folds {
        let held = |position: usize| position % params.folds == fold;
        let pick = |keep: bool| -> Vec<usize> {
            order.iter().enumerate().filter(|(p, _)| held(*p) == keep).map(|(_, &index)| index).collect()
        };
        let (test, fit) = (pick(true), pick(false));
        let fit_rows: Vec<usize> = fit.iter().map(|&index| rows[index]).collect();
        let test_rows: Vec<usize> = test.iter().map(|&index| rows[index]).collect();
        let columns = table.columns(&fit_rows);
        let input = table.input(&columns, &fit_rows);
        let test_input = table.input(&columns, &test_rows);
        for (place, (name, learner)) in
            learners(&train(table, &fit_rows, &input, params.seed), params.kind).into_iter().enumerate()
        {
            if unseen.len() <= place {
                unseen.push(vec![0.0; rows.len()]);
            }
            let bare = Member { name: name.to_owned(), learner, mean: 0.0, scale: 1.0, weight: 1.0 };
            for (row, &index) in test_input.iter().zip(&test) {
                unseen[place][index] = bare.score(row);
            }
        }
    }
    unseen
}

fn train<'a>(table: &'a Table, rows: &[usize], input: &'a [Vec<f64>], seed: Seed) -> Train<'a> {
    Train {
        rows: input,
        small: rows.iter().map(|&row| table.small[row]).collect(),
        large: rows.iter().map(|&row| table.large[row]).collect(),
        seed: seed.derive("gate trees").0,
    }
}

/// A member with its scores of rows that it was not fitted on.
struct Seat {
    member: Member,
    unseen: Vec<f64>,
}

impl Seat {
    /// `None` for one that says the same about everything.
    fn new(name: &str, learner: Learner, unseen: Vec<f64>, weight: f64) -> Option<Self> {
        let (mean, scale) = moments(&unseen);
        (scale > 1e-9).then(|| Self { member: Member { name: name.to_owned(), learner, mean, scale, weight }, unseen })
    }
}

/// The committee's score of each row.
fn says(seats: &[Seat], n: usize) -> Vec<f64> {
    let say = |i: usize| {
        let one = |Seat { member, unseen }: &Seat| member.weight * (unseen[i] - member.mean) / member.scale;
        seats.iter().map(one).sum()
    };
    (0..n).map(say).collect()
}
