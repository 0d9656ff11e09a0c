//! What a search of prompts says: the table of who raced, the verdict of the test, the same as JSON.

use super::{Material, Outcome, PromptsArgs};
use crate::{
    commands::{pilot::data::cut, shown},
    terminal::{heading, percent, say, table, verdict},
};
use serde_json::{Value, json};
use understudy_pilot::prompts::{
    Prompt,
    examples::Examples,
    race::{Entrant, State, Stop},
    verdict::Measured,
};

/// Prompts that the table shows.
const SHOWN: usize = 12;

/// Everything, for programs.
pub(super) fn result(args: &PromptsArgs, material: &Material, outcome: &Outcome, prompt: &Prompt) -> Value {
    let found = &outcome.found;
    let told = |at: usize, entrant: &Entrant| {
        let measured = outcome.raced[at].as_ref();
        json!({
            "instruction": outcome.wordings[entrant.instruction].name, "shots": entrant.examples.count(),
            "shots_by": entrant.examples.picked(), "set": set(material, entrant), "state": entrant.state,
            "n": entrant.scores.len(), "quality": measured.map(|m| m.quality), "tokens": measured.map(|m| m.tokens),
            "against_start": measured.and_then(|m| m.against.clone()),
        })
    };
    let tested = |index: usize| {
        let measured = outcome.tested.get(index)?.as_ref()?;
        Some(json!({ "quality": measured.quality, "tokens": measured.tokens, "against_start": measured.against }))
    };
    json!({
        "model": args.model, "task": material.task, "verdict": if outcome.better { "better" } else { "keep" },
        "sentence": sentence(outcome), "metric": material.task.main_metric().0,
        "start": { "raced": told(0, &found.entrants[0]), "tested": tested(0) },
        "winner": { "raced": told(found.best, &found.entrants[found.best]),
                    "tested": if found.best == 0 { tested(0) } else { tested(1) } },
        "rows": { "pool": material.pool.len(), "race": material.race.len(), "test": material.test.len() },
        "calls": found.calls, "ended": found.stop, "spent_usd": outcome.spent.usd(), "seed": args.seed,
        "instructions": outcome.wordings,
        "tried": found.entrants.iter().enumerate().map(|(at, e)| told(at, e)).collect::<Vec<_>>(),
        "prompt": shown(&args.out.join("prompt.json")), "hash": prompt.hash(),
    })
}

/// The texts of a fixed set.
fn set(material: &Material, entrant: &Entrant) -> Option<Vec<String>> {
    let Examples::Set(set) = &entrant.examples else { return None };
    Some(set.iter().map(|&at| cut(&material.pool[at].text, 80)).collect())
}

/// Tables and verdict, for people.
pub(super) fn people(args: &PromptsArgs, material: &Material, outcome: &Outcome) {
    let found = &outcome.found;
    let metric = material.task.main_metric().1;
    heading(&format!("Prompts for {}", args.model));
    let mut order: Vec<usize> = (0..found.entrants.len()).filter(|&e| outcome.raced[e].is_some()).collect();
    let of = |e: usize| &found.entrants[e];
    order.sort_by(|&a, &b| {
        let far = of(b).scores.len().cmp(&of(a).scores.len());
        far.then(of(b).mean(usize::MAX).total_cmp(&of(a).mean(usize::MAX))).then(a.cmp(&b))
    });
    let at = order.iter().position(|e| *e == 0).unwrap_or(0);
    let mut listed: Vec<usize> = order.iter().copied().take(SHOWN).collect();
    if at >= SHOWN {
        listed.push(0);
    }
    let header = ["instruction", "shots", "by", metric, "n", "tokens", "change", "p (Holm)"];
    let line = |e: usize, measured: &Measured| {
        let entrant = of(e);
        let name = &outcome.wordings[entrant.instruction].name;
        let mut cells = vec![
            if e == 0 { format!("{name} (start)") } else { name.clone() },
            entrant.examples.count().to_string(),
            entrant.examples.picked().to_owned(),
        ];
        cells.extend(figures(measured));
        cells
    };
    let lines = listed.iter().filter_map(|&e| Some(line(e, outcome.raced[e].as_ref()?)));
    say(table(&header, &[1, 3, 4, 5, 6, 7], lines));
    let raced = order.len();
    let out = found.entrants.iter().filter(|e| matches!(e.state, State::Worse(_))).count();
    let failed = found.entrants.iter().filter(|e| matches!(e.state, State::Failed(_))).count();
    say(format_args!(
        "  {raced} prompts raced, {out} were dropped as worse{}; {} requests. The best of many looks better than it is:",
        if failed > 0 { format!(", {failed} failed") } else { String::new() },
        found.calls
    ));
    let both = [0, found.best];
    let lines = outcome.tested.iter().zip(both).filter_map(|(measured, e)| Some(line(e, measured.as_ref()?)));
    say(format_args!("\n  on {} rows that had no part in the race", material.test.len()));
    say(table(&header, &[1, 3, 4, 5, 6, 7], lines));
    say(format_args!("  {}", verdict(&sentence(outcome), outcome.better)));
    match found.stop {
        Some(Stop::Calls) => say("  the race used up its requests; more --calls may find more"),
        Some(Stop::Time) => say("  the race ended with its time; more --minutes may find more"),
        Some(Stop::Cost) => say("  the race ended with its money; a higher --max-cost-usd goes on"),
        None => {}
    }
    let (task, file) = (args_task(material), shown(&args.out.join("prompt.json")));
    say(format_args!(
        "  {file}: `understudy pilot run --prompt {file} --task {task} …`, or `prompt = \"{file}\"` in a [local.…]"
    ));
}

fn args_task(material: &Material) -> &'static str {
    match material.task {
        understudy_pilot::run::Task::Labels => "classify",
        task => task.as_str(),
    }
}

fn figures(measured: &Measured) -> Vec<String> {
    let q = &measured.quality;
    let points = |x: f64| format!("{:+.1}", 100.0 * x);
    let (change, p) = measured.against.as_ref().map_or_else(
        || (String::new(), String::new()),
        |a| {
            let d = &a.difference;
            let change = format!("{} [{}, {}]", points(d.estimate), points(d.low), points(d.high));
            (change, if a.p_unequal_holm < 0.001 { "< .001".to_owned() } else { format!("{:.3}", a.p_unequal_holm) })
        },
    );
    vec![
        format!("{} [{}, {}]", percent(q.estimate), percent(q.low), percent(q.high)),
        q.n.to_string(),
        format!("{:.0}", measured.tokens),
        change,
        p,
    ]
}

/// The verdict.
fn sentence(outcome: &Outcome) -> String {
    if outcome.found.best == 0 {
        return "keep the prompt: no other did better in the race".to_owned();
    }
    let Some(against) = outcome.tested.get(1).and_then(|m| m.as_ref()?.against.as_ref()) else {
        return "keep the prompt: the winner could not be tested".to_owned();
    };
    let d = &against.difference;
    let by = format!("{:+.1} points [{:+.1}, {:+.1}]", 100.0 * d.estimate, 100.0 * d.low, 100.0 * d.high);
    match outcome.better {
        true => format!("take the new prompt: {by} on the rows that test"),
        false => {
            format!("keep the prompt: the winner of the race is not shown to be better, {by} on the rows that test")
        }
    }
}
