//! Answers that are numbers.
//!
//! What an answer is worth, its closeness, is 1 − |error| ÷ (greatest − least right number of the data), at least 0: the mean
//! is the mean absolute error on a scale on which more is better, as for all other tasks.

use super::{Asked, Plan, Task, figures::Figures};
use crate::metrics::Metric;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use understudy_core::Seed;
use understudy_dataset::Row;
use understudy_stats::{Bound, binomial, bootstrap, values};

/// The number that an answer is, or the only one that stands in it; `None` where it has none, or several.
#[must_use]
pub fn number_in(reply: &str) -> Option<f64> {
    let finite = |text: &str| text.parse::<f64>().ok().filter(|x| x.is_finite());
    if let Some(number) = finite(reply.trim()) {
        return Some(number);
    }
    let within = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+');
    let mut found = reply.split(|c: char| !within(c)).filter_map(|part| finite(part.trim_end_matches('.')));
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// The least and the greatest right number of rows; `None` where there is none, or numbers are not the task.
#[must_use]
pub fn range(rows: &[Row], task: Task) -> Option<(f64, f64)> {
    let numbers = rows.iter().filter(|_| task == Task::Regress).filter_map(|row| number_in(row.gold()?));
    numbers.fold(None, |range, x| Some(range.map_or((x, x), |(low, high): (f64, f64)| (low.min(x), high.max(x)))))
}

/// What an answer is worth; `None` where the right one is no number.
pub(super) fn closeness((low, high): (f64, f64), gold: &str, reply: &str) -> Option<f64> {
    let right = number_in(gold)?;
    Some(number_in(reply).map_or(0.0, |given| (1.0 - (given - right).abs() / (high - low)).max(0.0)))
}

/// The figures. Errors are those of the answers that are numbers; `answered` is their share.
pub(super) fn measure(plan: &Plan, judged: &[&Asked<'_>], replies: &[&str], seed: Seed, figures: &mut Figures) {
    let (mut right, mut given, mut worth) = (Vec::new(), Vec::new(), Vec::new());
    for (asked, reply) in judged.iter().zip(replies) {
        let gold = asked.row.gold().unwrap_or_default();
        worth.extend(plan.range.and_then(|range| closeness(range, gold, reply)));
        if let (Some(gold), Some(reply)) = (number_in(gold), number_in(reply)) {
            right.push(gold);
            given.push(reply);
        }
    }
    let n = worth.len();
    if n == 0 {
        return;
    }
    let mut rng = ChaCha12Rng::seed_from_u64(seed.derive("numbers").0);
    let mean = |drawn: &[usize]| drawn.iter().map(|&i| worth[i]).sum::<f64>() / drawn.len() as f64;
    let closeness = bootstrap::percentile(n, bootstrap::RESAMPLES, 0.95, &mut rng, mean);
    let report = values::report(&right, &given, &mut rng);
    let of =
        |n: usize, bound: Bound| Metric { estimate: bound.estimate, low: bound.low, high: bound.high, n: n as u64 };
    figures.put("closeness", closeness.map(|bound| of(n, bound)));
    figures.put("answered", Some(of(n, binomial::interval(right.len() as u64, n as u64, 0.95))));
    if let Some(report) = report {
        let answered = right.len();
        figures.put("mae", Some(of(answered, report.mae)));
        figures.put("rmse", Some(of(answered, report.rmse)));
        figures.put("r2", report.r2.map(|bound| of(answered, bound)));
        figures.put("spearman", report.spearman.map(|bound| of(answered, bound)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_where_it_is_the_only_one() {
        for (reply, number) in [
            ("3.5", Some(3.5)),
            (" -2e1 ", Some(-20.0)),
            ("The rating is 4.", Some(4.0)),
            ("about -1.25 points", Some(-1.25)),
            ("4 of 5", None),
            ("none", None),
            ("", None),
            ("inf", None),
            ("NaN", None),
            ("1.2.3", None),
        ] {
            assert_eq!(number_in(reply), number, "{reply}");
        }
    }

    #[test]
    fn closeness_is_the_error_on_the_scale_of_the_right_numbers() {
        assert_eq!(closeness((1.0, 5.0), "4", "3"), Some(0.75));
        assert_eq!(closeness((1.0, 5.0), "4", "40"), Some(0.0));
        assert_eq!(closeness((1.0, 5.0), "4", "good"), Some(0.0));
        assert_eq!(closeness((1.0, 5.0), "good", "4"), None);
    }
}
