//! Feedback on an answer (`POST /v1/feedback`). Ours: OpenAI has no such call.

use crate::json;
use bytes::Bytes;
use understudy_core::{Result, TraceId};

/// What a person says about an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// The answer's trace, from the `x-understudy-trace` header.
    pub trace: TraceId,
    /// The judgement.
    pub verdict: Verdict,
    /// Free text.
    pub comment: Option<String>,
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This would have been the right label.
    Label(String),
    /// The answer was right.
    Correct,
    /// The answer was wrong.
    Wrong,
}

/// Reads `{"trace_id": …, "label": … | "correct": true|false, "comment": …}`.
///
/// # Errors
/// `Invalid`, naming the field.
pub fn parse(body: &Bytes) -> Result<Feedback> {
    let map = json::object(body)?;
    let trace = TraceId::parse(json::required_string(&map, "trace_id", "trace_id")?)
        .map_err(|e| json::refused("trace_id", e.message()))?;
    let verdict = match (json::string(&map, "label", "label")?, json::boolean(&map, "correct")?) {
        (Some(label), None) if !label.trim().is_empty() => Verdict::Label(label.to_owned()),
        (Some(_), None) => return Err(json::refused("label", "it is empty")),
        (None, Some(true)) => Verdict::Correct,
        (None, Some(false)) => Verdict::Wrong,
        _ => return Err(json::refused("label", "send either `label` or `correct`")),
    };
    Ok(Feedback { trace, verdict, comment: json::string(&map, "comment", "comment")?.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Result<Feedback> {
        parse(&Bytes::from(format!(r#"{{"trace_id":"{}"{rest}}}"#, TraceId::from_parts(1, 2))))
    }

    #[test]
    fn a_label_or_a_judgement_is_needed_and_not_both() {
        let feedback = read(r#","label":"spam","comment":"c""#).expect("valid");
        assert_eq!((feedback.verdict, feedback.comment.as_deref()), (Verdict::Label("spam".into()), Some("c")));
        assert_eq!(read(r#","correct":false"#).expect("valid").verdict, Verdict::Wrong);
        for bad in ["", r#","label":"a","correct":true"#, r#","label":3"#, r#","correct":"yes""#, r#","label":" ""#] {
            assert!(read(bad).expect_err("invalid").param().is_some(), "{bad}");
        }
        assert_eq!(parse(&Bytes::from(r#"{"trace_id":"x","correct":true}"#)).expect_err("x").param(), Some("trace_id"));
    }
}
