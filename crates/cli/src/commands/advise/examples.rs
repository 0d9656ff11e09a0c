//! `understudy advise examples`: the field's published cost examples, computed by the code of `advise cost`.

use crate::{
    commands::Context,
    terminal::{self, say, table},
};
use serde_json::json;
use understudy_advise::{
    cost::dollars,
    examples::{Example, Figure, examples},
};
use understudy_core::{Money, Result};

/// Runs `understudy advise examples`.
pub(super) fn run(context: &Context) -> Result<()> {
    let all = examples()?;
    let agree = all.iter().filter(|example| example.agrees).count();
    say(terminal::verdict(&format!("{agree} of {} published figures reproduced", all.len()), agree == all.len()));
    say("The others are flagged with the reason. Every figure is computed by the code of `advise cost`.\n");
    let rows = all.iter().map(|example| {
        vec![
            example.name.clone(),
            example.published.map_or_else(|| "none".to_owned(), |figure| shown(example, figure)),
            shown(example, example.computed),
            if example.agrees { "agrees" } else { "FLAGGED" }.to_owned(),
        ]
    });
    say(table(&["example", "published", "computed", ""], &[1, 2], rows));
    for example in &all {
        say(format_args!("\n  {}: {}", example.name, example.about));
        for line in wrapped(&example.reason, 100) {
            say(format_args!("    {line}"));
        }
    }
    if context.json { terminal::json(&json!({ "examples": all })) } else { Ok(()) }
}

fn shown(example: &Example, figure: Figure) -> String {
    let one = |value: f64| match example.unit {
        "ratio" => format!("{value:.2}×"),
        "share" => terminal::percent(value),
        _ => Money::from_usd(value).map_or_else(|_| value.to_string(), dollars),
    };
    match figure {
        Figure::One(value) => one(value),
        Figure::Range([low, high]) => format!("{} to {}", one(low), one(high)),
    }
}

/// A text in lines of at most `width` characters, broken at spaces.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
