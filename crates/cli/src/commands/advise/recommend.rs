//! `understudy advise`: small, large or both, with reasons, what would change the answer, models and costs.

use super::{
    assumptions::{self, CostFlags, Costing},
    cost::{self, read_answers},
    evidence::{Evidence, EvidenceFlags},
    examples::wrapped,
    forecast, page, questions,
};
use crate::{
    commands::Context,
    report::ReportArg,
    terminal::{self, heading, say, table},
};
use clap::Args;
use serde_json::json;
use std::{io::IsTerminal, path::PathBuf};
use understudy_advise::{
    Advice, Answers, Choice, Forecast, Profile,
    answers::Work,
    cost::{dollars, thousands},
    fit::{self, Candidate},
    framework::{self, Key},
    use_cases,
};
use understudy_core::{Error, Money, Result};

#[derive(Debug, Args)]
pub(super) struct RecommendArgs {
    /// Start from a known use case: support-chat, document-qa, code-copilot, iot, health-records, multilingual, creative,
    /// multi-agent, email-triage, clause-extraction, clinical-summary
    #[arg(long, value_name = "NAME")]
    use_case: Option<String>,
    /// Answers in TOML; flags go first
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What a model is asked to do
    #[arg(long, value_parser = ["classify", "extract", "summarise", "answer", "generate"])]
    work: Option<String>,
    /// How many kinds of request there are
    #[arg(long, value_parser = ["narrow", "several", "broad"])]
    breadth: Option<String>,
    /// Longest acceptable time to an answer, 95th percentile
    #[arg(long, value_name = "MS")]
    latency_ms: Option<f64>,
    /// Requests in the busiest second
    #[arg(long, value_name = "N")]
    throughput_qps: Option<f64>,
    /// Where the texts may go: anywhere, within a region, nowhere
    #[arg(long, value_parser = ["open", "region", "local"])]
    privacy: Option<String>,
    /// What a model can run on
    #[arg(long, value_parser = ["none", "edge", "cpu", "gpu", "cluster"])]
    infrastructure: Option<String>,
    /// Most that may be spent in a month
    #[arg(long, value_name = "USD")]
    budget_usd_month: Option<f64>,
    /// Labelled examples at hand
    #[arg(long, value_name = "N")]
    labelled: Option<u64>,
    /// Languages of the texts: en,de
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    languages: Option<Vec<String>>,
    /// Longest input in tokens
    #[arg(long, value_name = "N")]
    context_tokens: Option<u32>,
    /// Text only, or images and audio as well
    #[arg(long, value_parser = ["text", "other"])]
    modality: Option<String>,
    /// Whether depending on one provider is fine
    #[arg(long, value_parser = ["fine", "avoid"])]
    lock_in: Option<String>,
    /// Whether energy matters
    #[arg(long, value_parser = ["matters", "minor"])]
    energy: Option<String>,
    /// Who would run it
    #[arg(long, value_parser = ["none", "engineers", "ml"])]
    team: Option<String>,
    #[command(flatten)]
    costs: CostFlags,
    #[command(flatten)]
    evidence: EvidenceFlags,
    #[command(flatten)]
    report: ReportArg,
}

impl RecommendArgs {
    fn answers(&self) -> Answers {
        let work = self.work.as_deref().map(|work| match work {
            "classify" => Work::Classify,
            "extract" => Work::Extract,
            "summarise" => Work::Summarise,
            "answer" => Work::Answer,
            _ => Work::Generate,
        });
        Answers {
            use_case: self.use_case.clone(),
            work,
            breadth: self.breadth.clone(),
            latency_ms: self.latency_ms,
            throughput_qps: self.throughput_qps,
            privacy: self.privacy.clone(),
            infrastructure: self.infrastructure.clone(),
            budget_usd_month: self.budget_usd_month,
            labelled: self.labelled,
            languages: self.languages.clone(),
            context_tokens: self.context_tokens,
            modality: self.modality.clone(),
            lock_in: self.lock_in.clone(),
            energy: self.energy.clone(),
            team: self.team.clone(),
            cost: self.costs.costs(),
            ..Answers::default()
        }
    }
}

/// Runs `understudy advise`.
pub(super) async fn run(args: RecommendArgs, context: &Context) -> Result<()> {
    args.report.check()?;
    let flags = args.answers();
    let evidence = Evidence::gather(&args.evidence, context).await?;
    let asked = args.file.is_some() || flags != Answers::default() || evidence.is_some() || context.json;
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let answers = match !asked && terminal {
        true => questions::ask()?,
        false => flags.or(read_answers(args.file.as_ref())?),
    };
    let case = answers.use_case.as_deref().map(use_cases::find).transpose()?;
    let answers = match case {
        Some(case) => answers.or(case.answers.clone()),
        None => answers,
    };
    let models = assumptions::small_models();
    let mut profile = answers.profile(|languages| fit::covered(&models, languages))?;
    let mut assumed = assumptions::assume(&answers, case, &models)?;
    if let Some(evidence) = &evidence {
        evidence.apply(&mut assumed);
    }
    let forecast = match &evidence {
        Some(evidence) => measured(evidence, assumed.requests_per_month, &mut profile)?,
        None => None,
    };
    let (input, output) = (assumed.usage.input_tokens, assumed.usage.output_tokens);
    let costing = Costing::new(assumed)?;
    if let Some(usd) = answers.budget_usd_month {
        let cost = |choice| Some(costing.month(choice));
        let (small, hybrid, large) = (cost(Choice::Small), cost(Choice::Hybrid), cost(Choice::Large));
        let level = framework::budget_level(Money::from_usd(usd)?, small, hybrid, large);
        framework::set(&mut profile, Key::Budget, level)?;
    }
    let candidates = fit::candidates(&models, &answers, input, output);
    let advice = framework::advise(&profile, &answers);
    show(&advice, &candidates, &costing, evidence.as_ref(), forecast.as_ref());
    if !context.json && !args.report.is_wanted() {
        return Ok(());
    }
    let mut object = serde_json::to_value(&advice).map_err(|e| Error::internal(format!("write JSON: {e}")))?;
    let more = json!({
        "answers": answers, "models": candidates.iter().take(5).collect::<Vec<_>>(), "cost": costing.json(),
        "evidence": evidence.as_ref().map(Evidence::json), "forecast": forecast, "next": next(&advice),
    });
    if let (Some(object), serde_json::Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    let advised =
        page::Advised { advice: &advice, candidates: &candidates, costing: &costing, forecast: forecast.as_ref() };
    args.report.write(|| page::page(&advised), &object)?;
    crate::commands::finish(context, &object)
}

/// What the evidence says about the measured question.
fn measured(evidence: &Evidence, requests: u64, profile: &mut Profile) -> Result<Option<Forecast>> {
    let forecast = evidence.forecast(requests)?;
    if !evidence.rows.is_empty() {
        let level = framework::measured_level(forecast.as_ref().map(|f| f.kept.estimate));
        framework::set(profile, Key::Measured, level)?;
    }
    Ok(forecast)
}

fn show(
    advice: &Advice,
    candidates: &[Candidate],
    costing: &Costing,
    evidence: Option<&Evidence>,
    forecast: Option<&Forecast>,
) {
    let line = match advice.verdict {
        Some(Choice::Small) => "small: a small model of your own answers everything",
        Some(Choice::Hybrid) => "hybrid: a small model answers what it is certified for, a large one the rest",
        Some(Choice::Large) => "large: a large model answers everything",
        None => "nothing fits: the constraints rule out small, hybrid and large alike",
    };
    // Without an answer there is no advice, only where everybody can begin.
    let open = advice.verdict.is_some() && advice.reasons.is_empty() && advice.excluded.is_empty();
    let line = match open {
        true => "undecided: nothing that was said speaks for one or the other; observing commits to nothing",
        false => line,
    };
    say(terminal::verdict(line, advice.verdict.is_some() && !open));
    let scores = Choice::ALL.map(|c| format!("{} {:+.0}", c.as_str(), advice.scores[c as usize])).join(", ");
    let margin = advice.margin.map_or_else(String::new, |m| format!("; {m:.0} points ahead of the next"));
    say(format_args!("points: {scores}{margin}"));
    if let Some(line) = advice.verdict.and_then(|verdict| in_money(verdict, costing)) {
        say(line);
    }
    if !advice.excluded.is_empty() {
        heading("Ruled out");
        for e in &advice.excluded {
            say(format_args!("  {:<7} {} ({})", e.choice.as_str(), e.why, e.question));
        }
    }
    if !advice.reasons.is_empty() {
        heading("Reasons");
        let rows = advice.reasons.iter().map(|r| {
            let points = r.points.map(|p| format!("{p:+.0}"));
            vec![
                r.question.to_owned(),
                r.answer.to_owned(),
                points[0].clone(),
                points[1].clone(),
                points[2].clone(),
                r.why.to_owned(),
            ]
        });
        say(table(&["question", "answer", "small", "hybrid", "large", "why"], &[2, 3, 4], rows));
    }
    if let Some(evidence) = evidence {
        heading("Measured");
        say(format_args!("  {}", evidence.source));
        say(format_args!("  threshold: {}", evidence.threshold_from));
        if let Some(f) = forecast {
            forecast::say_forecast(f);
        }
    }
    say_flips(advice);
    if !advice.unknown.is_empty() {
        heading("Not known");
        for line in wrapped(&advice.unknown.join(", "), 100) {
            say(format_args!("  {line}"));
        }
        say("  An unknown answer earns no points and rules out nothing.");
    }
    if !candidates.is_empty() && advice.verdict != Some(Choice::Large) {
        heading("Small models that satisfy the constraints");
        let rows = candidates.iter().take(5).map(|c| {
            vec![
                c.name.clone(),
                format!("{:.0}M", c.parameters as f64 / 1e6),
                format!("{:.0} ms", c.answer_ms),
                c.licence.clone(),
                c.mind.clone().unwrap_or_else(|| c.about.clone()),
            ]
        });
        say(table(&["model", "size", "an answer", "licence", ""], &[1, 2], rows));
        say("  Times are interpolated from measurements on two cores; `understudy pilot load` measures yours.");
    }
    cost::show(costing);
    heading("Assumptions");
    costing.say_assumptions();
    heading("Next");
    for step in next(advice) {
        say(format_args!("  {step}"));
    }
}

/// What the verdict costs beside the large model alone, and from where on it pays.
pub(super) fn in_money(verdict: Choice, costing: &Costing) -> Option<String> {
    let pays = costing.break_even.iter().find(|b| b.choice == verdict)?.requests_per_month;
    let here = costing.assumptions.requests_per_month;
    let spread = |choice| costing.choices.iter().find(|o| o.choice == choice).map(|o| o.month_spread);
    let (ours, large) = (spread(verdict)?, spread(Choice::Large)?);
    let volume = thousands(here);
    let (ours, theirs) = (dollars(ours), dollars(large));
    Some(match pays {
        Some(from) if from <= here => {
            format!("money: {ours} a month against {theirs} for the large model, all in, at {volume} requests")
        }
        Some(from) => format!(
            "money: at {volume} requests a month it costs more than the large model alone ({ours} against {theirs}, all \
             in); it pays from {} on",
            thousands(from)
        ),
        None => format!(
            "money: it costs more than the large model alone at any volume ({ours} against {theirs} at {volume})"
        ),
    })
}

/// One line for each question whose answer alone would change the verdict.
fn say_flips(advice: &Advice) {
    heading("What would change this");
    if advice.flips.is_empty() {
        say("  No single answer.");
    }
    for question in Key::ALL.map(Key::name) {
        let flips: Vec<_> = advice.flips.iter().filter(|flip| flip.question == question).collect();
        let Some(first) = flips.first() else { continue };
        let to: Vec<String> = flips
            .iter()
            .map(|flip| format!("{} → {}", flip.to, flip.verdict.map_or("nothing fits", Choice::as_str)))
            .collect();
        let now = first.from.unwrap_or("not known");
        say(format_args!("  {question:<17} {now:<22} {}", to.join(" · ")));
    }
}

/// What to do with the verdict.
pub(super) fn next(advice: &Advice) -> Vec<&'static str> {
    match advice.verdict {
        Some(Choice::Hybrid) => vec![
            "understudy init                         observe: record what the large model answers",
            "understudy adapt finetune --task NAME   train a small model on it",
            "understudy pilot certify --task NAME    how much of the traffic it may answer",
            "understudy advise --task NAME           this page, from measurements",
        ],
        Some(Choice::Small) => vec![
            "understudy pull MODEL                   one of the models above",
            "understudy pilot certify --outcomes …   whether it is good enough, before it answers",
        ],
        Some(Choice::Large) => {
            vec!["understudy init                         observe: record what the large model answers, then ask again"]
        }
        None => vec!["relax one of the answers under \"What would change this\""],
    }
}
