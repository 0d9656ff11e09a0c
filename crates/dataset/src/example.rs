//! Examples: a text and its label, which is what a classifier learns from.

use understudy_core::{Error, Outcome, Result};

/// A text with its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Unique within the dataset; the line number when the file has no ids.
    pub id: String,
    /// What is classified.
    pub text: String,
    /// Its label.
    pub label: String,
}

/// Whose labels to learn from recorded outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Teacher {
    /// The gold labels.
    Gold,
    /// The answers of this model.
    Model(String),
}

/// Examples from recorded outcomes: the prompt, and the label that `teacher` gave it. Outcomes without one are left
/// out.
///
/// # Errors
/// `Data` when no outcome has such a label.
pub fn from_outcomes(outcomes: &[Outcome], teacher: &Teacher) -> Result<Vec<Example>> {
    let label = |outcome: &Outcome| match teacher {
        Teacher::Gold => outcome.label.clone(),
        Teacher::Model(model) => outcome.models.get(model).and_then(|answer| answer.answer.clone()),
    };
    let example = |outcome: &Outcome| {
        let label = label(outcome).filter(|label| !label.trim().is_empty())?;
        Some(Example { id: outcome.id.clone(), text: outcome.prompt.clone(), label })
    };
    let examples: Vec<Example> = outcomes.iter().filter_map(example).collect();
    if examples.is_empty() {
        let whose = match teacher {
            Teacher::Gold => "a gold label".to_owned(),
            Teacher::Model(model) => format!("an answer of `{model}`"),
        };
        return Err(Error::data(format!("read outcomes: none of {} has {whose}", outcomes.len())));
    }
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_teach_gold_labels_or_a_models_answers() {
        let line = r#"{"id":"1","prompt":"p","label":"g","models":{"m":{"answer":"a"}}}"#;
        let outcomes = understudy_core::outcome::read("f", line.as_bytes()).unwrap();
        let label = |teacher| from_outcomes(&outcomes, &teacher).map(|e| e[0].label.clone());
        assert_eq!(label(Teacher::Gold).unwrap(), "g");
        assert_eq!(label(Teacher::Model("m".into())).unwrap(), "a");
        assert!(label(Teacher::Model("n".into())).unwrap_err().to_string().contains("`n`"));
    }
}
