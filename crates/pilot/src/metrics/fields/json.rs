//! Finding the JSON in an answer: alone, in a fenced block, or amid other text.

use serde::Serialize;
use serde_json::Value;

/// How the JSON stood in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Nothing but JSON.
    Bare,
    /// In a block between three backticks.
    Fenced,
    /// Amid other text.
    Embedded,
    /// There is none.
    Missing,
}

/// Openings that are tried amid other text: an answer full of braces that close nowhere must not take forever.
const OPENINGS: usize = 64;

/// The object or list in an answer, and how it stood there. The first that can be read wins, and of the places an
/// answer alone before a fenced block before other text.
#[must_use]
pub fn cut(answer: &str) -> (Option<Value>, Form) {
    if let Some(value) = whole(answer) {
        return (Some(value), Form::Bare);
    }
    // Every second piece between fences is inside; its first line may name the language.
    for block in answer.split("```").skip(1).step_by(2) {
        let body =
            block.split_once('\n').map_or(block, |(first, rest)| if whole(first).is_some() { block } else { rest });
        if let Some(value) = whole(body).or_else(|| whole(block.trim_start_matches(|c: char| c.is_alphanumeric()))) {
            return (Some(value), Form::Fenced);
        }
    }
    let openings = answer.char_indices().filter(|(_, c)| matches!(c, '{' | '[')).take(OPENINGS);
    for (at, _) in openings {
        let first = serde_json::Deserializer::from_str(&answer[at..]).into_iter::<Value>().next();
        if let Some(Ok(value)) = first
            && holds_something(&value)
        {
            return (Some(value), Form::Embedded);
        }
    }
    (None, Form::Missing)
}

fn whole(text: &str) -> Option<Value> {
    serde_json::from_str(text.trim()).ok().filter(|value: &Value| value.is_object() || value.is_array())
}

/// `[1]` in prose is a reference and `{}` a placeholder; a list counts when it holds objects or texts.
fn holds_something(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => items.iter().any(|item| item.is_object() || item.is_string()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_found_wherever_it_stands() {
        let value = json!({ "a": [1, { "b": "}" }] });
        let text = value.to_string();
        for (answer, form) in [
            (format!("  {text}\n"), Form::Bare),
            (format!("Sure!\n```json\n{text}\n```\nDone."), Form::Fenced),
            (format!("```{text}```"), Form::Fenced),
            (format!("As in [1], the answer is {text}, I think {{}}."), Form::Embedded),
        ] {
            assert_eq!(cut(&answer), (Some(value.clone()), form), "{answer}");
        }
        for none in ["", "42", "{\"a\": 1", "{{{{[[[[", "no"] {
            assert_eq!(cut(none), (None, Form::Missing), "{none}");
        }
    }
}
