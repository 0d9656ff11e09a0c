//! The questions on a terminal. Enter skips one: what is not known is said so.

use crate::terminal::{say, verdict};
use std::io::Write;
use understudy_advise::{
    Answers,
    framework::{Key, Level},
};
use understudy_core::{Error, Result};

/// Asks until each answer can be read.
pub(super) fn ask() -> Result<Answers> {
    say(verdict(
        "Thirteen questions. Enter skips one; a choice may be named by its number or its beginning. \
         `understudy advise --help` shows them as flags.",
        true,
    ));
    let mut text = String::new();
    for key in Key::ALL.into_iter().filter(|key| *key != Key::Measured) {
        loop {
            let Some(line) = read(&prompt(key))? else { return Answers::parse(&text) };
            if line.is_empty() {
                break;
            }
            let added = format!("{text}{} = {}\n", key.name(), value(key, &line));
            match Answers::parse(&added).and_then(|answers| answers.profile(|_| true).map(|_| ())) {
                Ok(()) => {
                    text = added;
                    break;
                }
                Err(error) => say(format_args!("  failed to {error}")),
            }
        }
    }
    Answers::parse(&text)
}

/// The question and the form of its answer.
fn prompt(key: Key) -> String {
    let question = key.question();
    let form = match key {
        Key::Latency => "milliseconds".to_owned(),
        Key::Throughput => "requests a second".to_owned(),
        Key::Budget => "USD".to_owned(),
        Key::Labelled | Key::Context => "a number".to_owned(),
        Key::Language => "codes such as en,de".to_owned(),
        _ => {
            let named = |(i, level): (usize, &Level)| format!("{} {}", i + 1, level.name);
            question.levels.iter().enumerate().map(named).collect::<Vec<_>>().join(" | ")
        }
    };
    format!("{} [{form}] ", question.ask)
}

/// The answer as TOML.
fn value(key: Key, line: &str) -> String {
    let quoted = |text: &str| toml::Value::String(text.trim().to_owned()).to_string();
    match key {
        Key::Latency | Key::Throughput | Key::Budget | Key::Labelled | Key::Context => line.replace(['_', ','], ""),
        Key::Language => format!("[{}]", line.split(',').map(quoted).collect::<Vec<_>>().join(", ")),
        _ => quoted(chosen(key.question().levels, line)),
    }
}

/// The level that a person means by its number or by a beginning that no other has; else what was typed.
fn chosen<'a>(levels: &'a [Level], line: &'a str) -> &'a str {
    if let Some(level) = line.parse::<usize>().ok().and_then(|n| levels.get(n.checked_sub(1)?)) {
        return level.name;
    }
    let mut beginning = levels.iter().filter(|level| level.name.starts_with(&line.to_lowercase()));
    match (beginning.next(), beginning.next()) {
        (Some(level), None) => level.name,
        _ => line,
    }
}

/// A line without the spaces around it; none at the end of the input.
fn read(prompt: &str) -> Result<Option<String>> {
    let failed = |e: std::io::Error| Error::unavailable(format!("ask on the terminal: {e}"));
    let mut out = std::io::stdout().lock();
    write!(out, "{prompt}").and_then(|()| out.flush()).map_err(failed)?;
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line).map_err(failed)?;
    Ok((read > 0).then(|| line.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_types_is_read_as_the_question_means_it() {
        let typed = [
            (Key::Breadth, "narrow"),
            (Key::Latency, "1,500"),
            (Key::Budget, "2_000"),
            (Key::Language, "en, de"),
            (Key::Labelled, "300"),
        ];
        let text: String =
            typed.iter().map(|(key, line)| format!("{} = {}\n", key.name(), value(*key, line))).collect();
        let answers = Answers::parse(&text).expect("valid");
        assert_eq!(answers.languages, Some(vec!["en".to_owned(), "de".to_owned()]));
        assert_eq!((answers.labelled, answers.breadth.as_deref()), (Some(300), Some("narrow")));
        assert!(answers.profile(|_| true).is_ok());
        let breadth = |line| value(Key::Breadth, line);
        assert_eq!(
            (breadth("1"), breadth("Nar"), breadth("0")),
            (r#""narrow""#.into(), breadth("narrow"), r#""0""#.into())
        );
        assert!(Answers::parse(&format!("team = {}", value(Key::Team, "a\"b"))).is_ok(), "quotes are escaped");
    }
}
