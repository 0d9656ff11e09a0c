//! `understudy adapt quantize` of a generative model: llama.cpp's types beside each other.

use super::{IMPORTANCE_ROWS, MAX_TOKENS, QuantizeArgs, ROWS};
use crate::{
    clock::SystemClock,
    commands::{Context, pilot::data::understood, shown},
    scratch, terminal,
    training::{
        shrink::{Shrinking, Shrunk, Tried, Writing},
        whole::{Judges, Reading, Whole},
    },
};
use serde_json::json;
use understudy_adapt::artifact::Existing;
use understudy_core::{Clock, Error, ModelName, Result};
use understudy_dataset::{self as dataset, Fields};
use understudy_model::generate::FileType;

/// Divergence that may be caused when nobody says otherwise, in nats a token.
const DIVERGENCE: f64 = 0.02;
/// Types that are tried when nobody says otherwise: one or two for each number of bits.
const USUAL: [FileType; 12] = [
    FileType::Q8_0,
    FileType::Q6_K,
    FileType::Q5_K_M,
    FileType::Q4_K_M,
    FileType::Q4_K_S,
    FileType::Q4_0,
    FileType::IQ4_XS,
    FileType::Q3_K_M,
    FileType::IQ3_XXS,
    FileType::Q2_K,
    FileType::IQ2_M,
    FileType::IQ2_XXS,
];

/// Runs it.
pub(super) async fn run(args: QuantizeArgs, context: &Context) -> Result<()> {
    let candidates = candidates(&args.candidates)?;
    let fields = Fields {
        text: args.text.clone(),
        label: args.label.clone(),
        reference: args.answer.clone(),
        ..Fields::default()
    };
    let data = dataset::read(&args.data, &fields)?;
    terminal::note(format_args!("  {}", understood(&data)));
    let (models_dir, bar) = (context.models_dir.clone(), terminal::progress(0, "reading the model"));
    let inner = bar.clone();
    let (model, max_tokens) = (args.model.clone(), args.max_tokens.unwrap_or(MAX_TOKENS) as usize);
    let reading = Reading { system: args.system.clone(), max_tokens };
    let shrinking = Shrinking {
        candidates,
        judges: args.rows.unwrap_or(ROWS),
        importance_rows: args.importance_rows.unwrap_or(IMPORTANCE_ROWS),
        threads: args.threads.unwrap_or(0),
    };
    let shrunk = scratch::work("measure the model", move || {
        let whole = Whole::open(&model, &models_dir, max_tokens)?;
        let rows = Judges::read(&data.rows, &whole, &reading)?;
        Shrunk::measure(whole, rows, &shrinking, &inner)
    })
    .await;
    bar.finish_and_clear();
    let shrunk = shrunk?;
    show(&shrunk);
    let picked = pick(&shrunk.tried, &args);
    let refused: Vec<_> =
        shrunk.refused.iter().map(|(to, why)| json!({"candidate": to.to_string(), "why": why})).collect();
    let mut result = json!({
        "n": shrunk.judged, "too_long": shrunk.too_long, "importance_rows": shrunk.importance_rows, "f16": shrunk.half,
        "candidates": shrunk.tried, "refused": refused,
    });
    match &picked {
        Ok(picked) => {
            let name = shrunk.tried[*picked].candidate.to_string();
            terminal::say(format_args!("  picked: {name}"));
            result["picked"] = json!(name);
        }
        Err(error) => super::none_picked(error, &mut result),
    }
    let Some(out) = args.out.clone() else { return crate::commands::finish(context, &result) };
    let picked = picked?;
    let name = ModelName::new(super::super::name_of(args.name.as_deref(), &out, "quantised"));
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let artifact = scratch::work("write the model", move || {
        shrunk.write(picked, Writing { dir: &out, name, existing, created: SystemClock::new().now() })
    })
    .await?;
    terminal::say(format_args!("  {}   hash {}", shown(artifact.dir()), &artifact.hash()[..16]));
    result["artifact"] = json!(artifact.dir());
    result["hash"] = json!(artifact.hash());
    result["quantised"] = json!(artifact.manifest().quantised);
    crate::commands::finish(context, &result)
}

fn candidates(named: &[String]) -> Result<Vec<FileType>> {
    match named {
        [] => Ok(USUAL.to_vec()),
        [all] if all == "all" => Ok(FileType::all().collect()),
        named => named
            .iter()
            .map(|name| {
                FileType::named(name).ok_or_else(|| {
                    let known: Vec<String> = FileType::all().map(|to| to.to_string()).collect();
                    let what = format!("try `{name}`: a generative model's types are {} and `all`", known.join(", "));
                    Error::invalid(what).with_param("candidates")
                })
            })
            .collect(),
    }
}

/// The smallest that keeps within all limits; with a limit of size alone, the one that is most like 16 bits.
fn pick(tried: &[Tried], args: &QuantizeArgs) -> Result<usize> {
    let limits = [args.at_most_mb, args.at_most_loss, args.at_most_kl];
    let kl = args.at_most_kl.or_else(|| limits.iter().all(Option::is_none).then_some(DIVERGENCE));
    let within = |limit: Option<f64>, x: f64| limit.is_none_or(|limit| x <= limit);
    let fits = |t: &Tried| {
        within(args.at_most_mb, t.mb)
            && within(args.at_most_loss, 100.0 * t.fidelity.loss.estimate)
            && within(kl, t.fidelity.kl.estimate)
    };
    let fitting = tried.iter().enumerate().filter(|(_, t)| fits(t));
    let best = if kl.is_none() && args.at_most_loss.is_none() {
        fitting.min_by(|(_, a), (_, b)| a.fidelity.kl.estimate.total_cmp(&b.fidelity.kl.estimate))
    } else {
        fitting.min_by_key(|(_, t)| t.bytes)
    };
    best.map(|(index, _)| index).ok_or_else(|| {
        let told = [
            args.at_most_mb.map(|mb| format!("{mb} MB")),
            args.at_most_loss.map(|loss| format!("{loss} points lost")),
            kl.map(|kl| format!("{kl} nats a token")),
        ];
        let told: Vec<String> = told.into_iter().flatten().collect();
        Error::invalid(format!(
            "pick a candidate: none keeps within {}; allow more, or try more types",
            told.join(" and ")
        ))
    })
}

fn show(shrunk: &Shrunk) {
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    let rows = shrunk.tried.iter().map(|t| {
        let f = &t.fidelity;
        vec![
            t.candidate.to_string(),
            format!("{:.1}", t.mb),
            format!("{:.0}", t.speed.prompt_tokens_per_s),
            format!("{:.0}", t.speed.tokens_per_s),
            format!("{:.3} [{:.3}, {:.3}]", f.perplexity.estimate, f.perplexity.low, f.perplexity.high),
            percent(f.accuracy.estimate),
            format!("{:.1} [{:.1}, {:.1}]", 100.0 * f.loss.estimate, 100.0 * f.loss.low, 100.0 * f.loss.high),
            format!("{:.5} [{:.5}, {:.5}]", f.kl.estimate, f.kl.low, f.kl.high),
            percent(f.flips.estimate),
        ]
    });
    let header = ["weights", "MB", "read/s", "write/s", "perplexity", "exact", "loss", "KL", "flips"];
    terminal::say(terminal::table(&header, &[1, 2, 3, 4, 5, 6, 7, 8], rows));
    terminal::note(format_args!(
        "  n = {}; exact: answers that are the right one; loss against F16 in points; KL in nats a token; flips: other answers \
         than F16's; tokens a second read and written, one text at a time",
        shrunk.judged
    ));
    terminal::note(format_args!(
        "  {} rows of prompts weighed the columns; F16 against the trained numbers: mean KL {:.1e} over {} tokens",
        shrunk.importance_rows, shrunk.half.mean_kl, shrunk.half.n
    ));
    for (to, why) in &shrunk.refused {
        terminal::note(format_args!("  {to}: {why}"));
    }
}
