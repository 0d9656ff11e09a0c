//! `--models a,b,c`: each request goes to the model of the greatest predicted quality minus price and time.

use super::{ReplayArgs, embed, routing_encoder};
use crate::{
    commands::Context,
    compose,
    terminal::{self, percent, say, table},
};
use serde_json::{Value, json};
use understudy_core::{Error, Outcome, Result, Seed};
use understudy_pilot::{
    replay::{self, Mean, Portfolio, Side},
    router::{self, Kind},
};
use understudy_route::policy::Trade;

/// Parts of the cross-fit.
const FOLDS: usize = 5;

/// Runs the replay of a policy over `--models`.
pub(super) async fn run(args: &ReplayArgs, context: &Context) -> Result<()> {
    let Some(file) = &args.outcomes else { return Err(Error::invalid("replay: --models needs --outcomes FILE")) };
    let mut outcomes = compose::read_outcomes(file)?;
    for model in &args.models {
        if !outcomes.iter().any(|outcome| outcome.models.contains_key(model)) {
            return Err(Error::not_found(format!("find model `{model}` in {}", file.display())));
        }
    }
    let judged = |outcome: &Outcome, model: &String| outcome.models.get(model).is_some_and(|a| a.quality.is_some());
    outcomes.retain(|outcome| args.models.iter().all(|model| judged(outcome, model)));
    let kind = match args.router.as_deref() {
        None | Some("auto") => Kind::Static,
        Some(kind) => Kind::parse(kind)?,
    };
    let vectors = match kind.wants_embedding() {
        true => {
            let encoder = routing_encoder(args.embedder.as_deref().unwrap_or("minilm"), context)?;
            embed(&encoder, &outcomes).await?
        }
        false => Vec::new(),
    };
    let bar = terminal::progress(args.models.len() as u64, "predicting qualities");
    let predicted = predict(args, &outcomes, &vectors, kind, &bar);
    bar.finish_and_clear();
    let sides: Vec<Vec<Side>> = outcomes.iter().map(|outcome| sides(outcome, &args.models)).collect();
    let trade = Trade { lambda: args.lambda, mu: args.mu };
    let portfolio = replay::portfolio(&sides, &predicted?, trade, (args.resamples, Seed(args.seed)))?;
    show(args, &portfolio);
    if context.json { terminal::json(&object(args, &portfolio)) } else { Ok(()) }
}

/// Predicted quality of each model on each row, by predictors that have not seen the row.
fn predict(
    args: &ReplayArgs,
    outcomes: &[Outcome],
    vectors: &[Vec<f32>],
    kind: Kind,
    bar: &indicatif::ProgressBar,
) -> Result<Vec<Vec<f64>>> {
    let mut predicted = vec![Vec::with_capacity(args.models.len()); outcomes.len()];
    for model in &args.models {
        let examples = router::examples(outcomes, vectors, model, model)?;
        let column = replay::crossed(outcomes.len(), FOLDS, Seed(args.seed), |train, test| {
            let train: Vec<_> = train.iter().map(|&place| examples[place]).collect();
            let predictor = router::fit(kind, &train, |example| example.large)?;
            Ok(test.iter().map(|&place| predictor.predict(&examples[place].prompt)).collect())
        })?;
        predicted.iter_mut().zip(column).for_each(|(row, value)| row.push(value));
        bar.inc(1);
    }
    Ok(predicted)
}

fn sides(outcome: &Outcome, models: &[String]) -> Vec<Side> {
    let side = |model: &String| {
        let answer = &outcome.models[model];
        Side { quality: answer.quality.unwrap_or(0.0), cost_usd: answer.cost_usd, latency_ms: answer.latency_ms }
    };
    models.iter().map(side).collect()
}

fn show(args: &ReplayArgs, portfolio: &Portfolio) {
    let best = portfolio.alone.iter().map(|mean| mean.quality.estimate).fold(f64::NEG_INFINITY, f64::max);
    let difference = 100.0 * (portfolio.policy.quality.estimate - best);
    say(terminal::verdict(
        &format!("the policy is {difference:+.1} points from the best single model, on {} requests", portfolio.n),
        difference >= 0.0,
    ));
    let row = |name: String, mean: &Mean, share: Option<f64>| {
        let quality = mean.quality;
        vec![
            name,
            format!("{:.4}", quality.estimate),
            format!("{:.4}–{:.4}", quality.low, quality.high),
            mean.cost_usd.map_or("unknown".to_owned(), |cost| format!("{:.3}", 1000.0 * cost)),
            mean.latency_ms.map_or("unknown".to_owned(), |ms| format!("{ms:.0}")),
            share.map_or(String::new(), percent),
        ]
    };
    let mut rows = vec![row("policy".into(), &portfolio.policy, None)];
    for ((name, mean), share) in args.models.iter().zip(&portfolio.alone).zip(&portfolio.shares) {
        rows.push(row(name.clone(), mean, Some(*share)));
    }
    rows.push(row("oracle".into(), &portfolio.oracle, None));
    let header = ["", "quality", "95 %", "USD per 1,000", "ms", "share"];
    say(table(&header, &[1, 2, 3, 4, 5], rows));
    say(format_args!("quality − {} · USD − {} · seconds decides", args.lambda, args.mu));
}

fn object(args: &ReplayArgs, portfolio: &Portfolio) -> Value {
    let mean = |mean: &Mean| {
        json!({
            "quality": mean.quality.estimate,
            "interval": [mean.quality.low, mean.quality.high],
            "cost_usd": mean.cost_usd,
            "latency_ms": mean.latency_ms,
        })
    };
    let each = args.models.iter().zip(&portfolio.alone).zip(&portfolio.shares).map(|((name, alone), share)| {
        let mut object = mean(alone);
        object["share"] = json!(share);
        (name.clone(), object)
    });
    json!({
        "n": portfolio.n,
        "lambda": args.lambda,
        "mu": args.mu,
        "policy": mean(&portfolio.policy),
        "models": each.collect::<serde_json::Map<String, Value>>(),
        "oracle": mean(&portfolio.oracle),
    })
}
