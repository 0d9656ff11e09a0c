//! What to ask: prompts from a text file (one a line) or from JSON lines, recorded outcomes and chat transcripts among
//! them.

use serde_json::Value;
use std::io::BufRead;
use understudy_core::{Error, Result};

/// One text to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Instructions, where the file has some.
    pub system: Option<String>,
    /// The user's text.
    pub text: String,
}

/// Names under which JSON lines carry the text.
const FIELDS: [&str; 5] = ["prompt", "text", "input", "question", "sentence"];

/// Reads prompts: JSON objects with `prompt`, `text`, `input`, `question` or `sentence`, or with `messages`; every other
/// line is a text. Empty lines are skipped.
///
/// # Errors
/// `Data`, naming `name` and the line, for a JSON object without a text, a file without a line, or a failing reader.
pub fn read_prompts(name: &str, reader: impl BufRead) -> Result<Vec<Prompt>> {
    let mut prompts = Vec::new();
    for (index, line) in reader.lines().enumerate() {
        let at = |what: String| Error::data(format!("read prompts {name}: line {}: {what}", index + 1));
        let line = line.map_err(|e| at(e.to_string()))?;
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let object = line.starts_with('{').then(|| serde_json::from_str::<Value>(line));
        prompts.push(match object {
            Some(Ok(value)) => prompt(&value).ok_or_else(|| {
                at(format!(
                    "a JSON object without a text in {} or `messages`",
                    FIELDS.map(|f| format!("`{f}`")).join(", ")
                ))
            })?,
            Some(Err(error)) => return Err(at(format!("it begins like a JSON object: {error}"))),
            None => Prompt { system: None, text: line.to_owned() },
        });
    }
    if prompts.is_empty() {
        return Err(Error::data(format!("read prompts {name}: the file has no texts")));
    }
    Ok(prompts)
}

fn prompt(value: &Value) -> Option<Prompt> {
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    if let Some(messages) = value.get("messages").and_then(Value::as_array) {
        let of = |role: &str| {
            messages
                .iter()
                .rev()
                .find(|m| m.get("role").and_then(Value::as_str) == Some(role))
                .and_then(|m| text(m, "content"))
        };
        return Some(Prompt { system: of("system"), text: of("user")? });
    }
    let found = FIELDS.iter().find_map(|field| text(value, field)).filter(|text| !text.is_empty())?;
    Some(Prompt { system: text(value, "system"), text: found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn texts_outcomes_and_transcripts_are_read() {
        let mut file = String::from("plain text\n\n");
        for line in [
            r#"{"id":"1","system":"Be brief.","prompt":"Why?","models":{}}"#,
            r#"{"messages":[{"role":"system","content":"S"},{"role":"user","content":"U"},{"role":"assistant","content":"A"}]}"#,
            r#"{"text":"banking","label":"x"}"#,
        ] {
            writeln!(file, "{line}").expect("a string");
        }
        let prompts = read_prompts("f", file.as_bytes()).expect("valid");
        let texts: Vec<&str> = prompts.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(texts, ["plain text", "Why?", "U", "banking"]);
        assert_eq!((prompts[1].system.as_deref(), prompts[2].system.as_deref()), (Some("Be brief."), Some("S")));
    }

    #[test]
    fn faults_name_the_line() {
        for (bad, says) in [("ok\n{\"a\":1}", "line 2"), ("{\"text\":", "line 1"), ("\n\n", "no texts")] {
            let error = read_prompts("f", bad.as_bytes()).expect_err("invalid");
            assert!(error.message().contains(says), "{error}");
        }
    }
}
