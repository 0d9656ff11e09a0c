//! What a person and a program get to see of a forecast.

use super::{Forecast, StreamArgs, Way};
use crate::{
    terminal,
    terminal::{percent, say, table},
};
use serde_json::{Value, json};
use understudy_adapt::online::forecast::Tally;
use understudy_stats::{Bound, mean::mean};

/// Stretches of the learning curve, and the length of its longest bar.
const STRETCHES: usize = 10;
const BAR: f64 = 40.0;
/// Level of the intervals over orders.
const LEVEL: f64 = 0.95;

/// A figure over the orders.
pub(super) fn over(tallies: &[Tally], figure: impl Fn(&Tally) -> Option<f64>) -> Option<(Bound, f64, f64)> {
    let values: Vec<f64> = tallies.iter().filter_map(figure).collect();
    if values.is_empty() {
        return None;
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some((mean(&values, LEVEL), least, most))
}

/// The stretches of the stream: from, to, the figures of each order.
pub(super) fn stretches(way: &Way) -> Vec<(usize, usize, Vec<Tally>)> {
    let n = way.streams.first().map_or(0, |stream| stream.steps.len());
    let edge = |k: usize| n * k / STRETCHES;
    let stretch = |k: usize| {
        let (from, to) = (edge(k), edge(k + 1));
        (from, to, way.streams.iter().map(|stream| Tally::new(&stream.steps[from..to])).collect())
    };
    (0..STRETCHES).filter(|&k| edge(k) < edge(k + 1)).map(stretch).collect()
}

/// Shows a forecast to a person.
pub(super) fn show(forecast: &Forecast, args: &StreamArgs) {
    let tallies = forecast.student.tallies();
    let calls = over(&tallies, |t| Some(t.calls)).map_or(1.0, |(bound, ..)| bound.estimate);
    say(terminal::verdict(
        &format!("forecast: {} of the calls to {} saved while learning", percent(1.0 - calls), args.large),
        calls < 0.5,
    ));
    say(format!(
        "{} requests, {} different answers, from nothing, in {} random orders; it learns only from what it asks",
        forecast.n, forecast.classes, args.orders
    ));
    if forecast.left_out > 0 {
        say(format!("{} rows without an answer of {} are left out", forecast.left_out, args.large));
    }
    terminal::heading("Calls to the large model as the stream goes on");
    for (from, to, orders) in stretches(&forecast.student) {
        let mean = |of: &dyn Fn(&Tally) -> Option<f64>| over(&orders, of).map(|(bound, ..)| bound.estimate);
        let calls = mean(&|t| Some(t.calls)).unwrap_or(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the longest bar")]
        let bar = "█".repeat((calls * BAR).round() as usize);
        let rest = match mean(&|t| t.loss()) {
            Some(loss) => {
                format!(
                    "kept answers agree {}, accuracy lost {:+.1} points",
                    optional(mean(&|t| t.agreement)),
                    100.0 * loss
                )
            }
            None => format!("kept answers agree {}", optional(mean(&|t| t.agreement))),
        };
        say(format!("  {:>6}–{to:<6} {bar:<40} {:>7}  {rest}", from + 1, percent(calls)));
    }
    terminal::heading("Beside other ways, mean over orders ± half of the 95 % interval (worst order)");
    let mut rows = vec![row("student", &tallies)];
    rows.extend(forecast.baselines.iter().map(|way| row(&way.name, &way.tallies())));
    let certified =
        format!("certified: disagreement ≤ {} at {} confidence", percent(args.epsilon), percent(1.0 - args.delta));
    rows.push(row(&certified, &forecast.certified.tallies));
    say(table(
        &["", "calls", "agreement of kept", "answered otherwise", "accuracy", "accuracy lost"],
        &[1, 2, 3, 4, 5],
        rows,
    ));
    if let Some((large, ..)) = over(&tallies, |t| t.accuracy_large) {
        say(format!("accuracy of {} on all requests: {:.2} %", args.large, 100.0 * large.estimate));
    }
    let issued: Vec<String> = forecast
        .certified
        .issued_after
        .iter()
        .map(|issued| issued.map_or_else(|| "never".to_owned(), |n| n.to_string()))
        .collect();
    say(format!("certificates issued after this many requests, by order: {}", issued.join(", ")));
    say("The student's line carries no certificate: it forecasts a learning phase. Live traffic needs a certificate.");
}

fn row(name: &str, tallies: &[Tally]) -> Vec<String> {
    let figure = |figure: &dyn Fn(&Tally) -> Option<f64>, worst: bool| match over(tallies, figure) {
        None => "–".to_owned(),
        Some((bound, _, most)) => {
            let worst = if worst { format!(" ({:.2})", 100.0 * most) } else { String::new() };
            let half = if bound.high.is_finite() {
                format!(" ± {:.2}", 50.0 * (bound.high - bound.low))
            } else {
                String::new()
            };
            format!("{:.2}{half}{worst} %", 100.0 * bound.estimate)
        }
    };
    vec![
        name.to_owned(),
        figure(&|t| Some(t.calls), true),
        figure(&|t| t.agreement, false),
        figure(&|t| Some(t.disagreement), false),
        figure(&|t| t.accuracy, false),
        figure(&|t| t.loss(), true),
    ]
}

fn optional(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), percent)
}

/// The forecast as one object.
pub(super) fn object(forecast: &Forecast, args: &StreamArgs) -> Value {
    let student = &forecast.student;
    let curve: Vec<Value> = stretches(student)
        .into_iter()
        .map(|(from, to, orders)| {
            let mean = |of: &dyn Fn(&Tally) -> Option<f64>| over(&orders, of).map(|(bound, ..)| bound.estimate);
            json!({ "from": from, "to": to, "calls": mean(&|t| Some(t.calls)), "agreement": mean(&|t| t.agreement),
                "accuracy": mean(&|t| t.accuracy), "accuracy_large": mean(&|t| t.accuracy_large),
                "over_orders": figures(&orders) })
        })
        .collect();
    let audits = student.streams.iter().fold((0, 0, 0.0), |sum, stream| {
        let a = stream.audits;
        (sum.0 + a.n, sum.1 + a.disagreements, sum.2 + a.expected)
    });
    let mut object = figures(&student.tallies());
    object["n"] = json!(forecast.n);
    object["left_out"] = json!(forecast.left_out);
    object["classes"] = json!(forecast.classes);
    object["orders"] = json!(args.orders);
    object["seed"] = json!(args.seed);
    object["large"] = json!(args.large);
    object["base"] = json!(args.base);
    object["budget"] = json!(args.budget);
    object["least_agreement"] = json!(args.least_agreement);
    object["audits"] = json!({ "n": audits.0, "disagreements": audits.1, "expected": audits.2 });
    object["curve"] = json!(curve);
    object["baselines"] = forecast
        .baselines
        .iter()
        .map(|way| {
            let mut object = figures(&way.tallies());
            object["name"] = json!(way.name);
            object
        })
        .collect();
    let mut certified = figures(&forecast.certified.tallies);
    certified["epsilon"] = json!(args.epsilon);
    certified["delta"] = json!(args.delta);
    certified["issued_after"] = json!(forecast.certified.issued_after);
    object["certified"] = certified;
    // A forecast of the learning phase: nothing here is certified for live traffic.
    object["certificate"] = Value::Null;
    object
}

fn figures(tallies: &[Tally]) -> Value {
    let figure = |figure: &dyn Fn(&Tally) -> Option<f64>| {
        over(tallies, figure).map(|(bound, least, most)| {
            let end = |x: f64| x.is_finite().then_some(x);
            json!({ "mean": bound.estimate, "low": end(bound.low), "high": end(bound.high), "least": least, "most": most })
        })
    };
    json!({
        "calls": figure(&|t| Some(t.calls)),
        "agreement": figure(&|t| t.agreement),
        "disagreement": figure(&|t| Some(t.disagreement)),
        "accuracy": figure(&|t| t.accuracy),
        "accuracy_large": figure(&|t| t.accuracy_large),
        "accuracy_lost": figure(&|t| t.loss()),
    })
}
