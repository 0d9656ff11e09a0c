//! A task: a kind of request that one small model can learn, and what may happen to it.

use crate::{ModelName, TaskName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far a small model may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The large model answers; traffic is recorded.
    Observe,
    /// The large model answers; the small one runs too, and its answer is recorded.
    Shadow,
    /// The small model answers what its certificate allows.
    Live,
}

impl Mode {
    /// The name in configuration, traces and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Shadow => "shadow",
            Self::Live => "live",
        }
    }
}

/// Whether texts may leave this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Privacy {
    /// They may go to the large model.
    #[default]
    Any,
    /// They stay here: no remote model is asked, in any mode, not even for an audit.
    LocalOnly,
}

/// Which requests belong to a task. Every condition that is given must hold; a rule without conditions matches only
/// requests that name the task (`auto:<task>`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MatchRule {
    /// The model name the client wrote is one of these.
    pub models: Vec<String>,
    /// The system prompt contains this text.
    pub system_contains: Option<String>,
    /// Headers (lower-case names) with these values.
    pub headers: BTreeMap<String, String>,
    /// Metadata entries with these values.
    pub metadata: BTreeMap<String, String>,
}

/// Which part of the conversation is the text to classify or extract from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InputRule {
    /// Take the text after the first occurrence of this marker in the last user message.
    pub after: Option<String>,
    /// … and before the next occurrence of this one.
    pub before: Option<String>,
}

impl InputRule {
    /// Cuts the text out of `message`. `None` when a marker is missing: the application changed its prompt, and the
    /// small model must not guess.
    #[must_use]
    pub fn cut<'a>(&self, message: &'a str) -> Option<&'a str> {
        let rest = match &self.after {
            Some(marker) => &message[message.find(marker.as_str())? + marker.len()..],
            None => message,
        };
        let text = match &self.before {
            Some(marker) => &rest[..rest.find(marker.as_str())?],
            None => rest,
        };
        Some(text.trim())
    }
}

/// The form in which the application expects a classification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OutputForm {
    /// The bare label.
    #[default]
    Label,
    /// A text in which `{label}` and `{confidence}` are replaced; the label is escaped for JSON strings.
    Template(String),
}

/// Placeholder of the label in an output template.
const LABEL: &str = "{label}";
/// Placeholder of the confidence in an output template.
const CONFIDENCE: &str = "{confidence}";

impl OutputForm {
    /// Renders a label as the application expects it.
    #[must_use]
    pub fn render(&self, label: &str, confidence: f64) -> String {
        match self {
            Self::Label => label.to_owned(),
            Self::Template(template) => {
                let quoted = serde_json::Value::from(label).to_string();
                let escaped = &quoted[1..quoted.len() - 1];
                // The label goes in last: a label that contains "{confidence}" stays as it is.
                template.replace(CONFIDENCE, &format!("{confidence:.4}")).replace(LABEL, escaped)
            }
        }
    }

    /// Exactly the answers that mean one of the labels, in their order, for models that can be held to them. `None`
    /// without labels, or where the answer states a confidence, which such a model does not have.
    #[must_use]
    pub fn texts(&self, labels: &[String]) -> Option<Vec<String>> {
        let stated = |template: &String| template.contains(CONFIDENCE);
        if labels.is_empty() || matches!(self, Self::Template(template) if stated(template)) {
            return None;
        }
        Some(labels.iter().map(|label| self.render(label, 0.0)).collect())
    }

    /// Reads the label out of a large model's answer: the inverse of [`OutputForm::render`], lenient in white space,
    /// letter case, quotes and a closing full stop. `None` when no label of the task is meant.
    #[must_use]
    pub fn read<'l>(&self, answer: &str, labels: &'l [String]) -> Option<&'l str> {
        let wanted = match self {
            Self::Label => answer,
            Self::Template(template) => {
                let squeeze = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
                let (answer, template) = (squeeze(answer), squeeze(template));
                let (head, tail) = template.split_once(LABEL)?;
                let head = head.rsplit(CONFIDENCE).next().unwrap_or(head);
                let tail = tail.split(CONFIDENCE).next().unwrap_or(tail);
                let from = answer.find(head)? + head.len();
                let to = if tail.is_empty() { answer.len() } else { from + answer[from..].find(tail)? };
                return find_label(&answer[from..to], labels, squeeze);
            }
        };
        find_label(wanted, labels, |s| s.trim().to_owned())
    }
}

fn find_label<'l>(text: &str, labels: &'l [String], normal: impl Fn(&str) -> String) -> Option<&'l str> {
    let bare = text.trim().trim_end_matches('.').trim_matches(|c| matches!(c, '"' | '\'' | '`' | '*'));
    let meant = |wanted: &str| {
        let wanted = normal(wanted).to_lowercase();
        labels.iter().find(|label| normal(label).to_lowercase() == wanted).map(String::as_str)
    };
    // A label may itself end in a quote or a full stop, so the text as it stands goes first.
    meant(text).or_else(|| meant(bare))
}

/// Everything the configuration says about a task, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSpec {
    /// Its name.
    pub name: TaskName,
    /// Which requests belong to it.
    pub rule: MatchRule,
    /// How far the small model may go.
    pub mode: Mode,
    /// The model that answers when no small one may; `None` for a local-only task.
    pub large: Option<ModelName>,
    /// The small model: the name of an artifact, a catalogue model or a served model.
    pub small: Option<ModelName>,
    /// Labels of a classification task; empty for free text.
    pub labels: Vec<String>,
    /// Which part of the conversation is the text.
    pub input: InputRule,
    /// The form of the answer.
    pub output: OutputForm,
    /// Whether texts may leave this machine.
    pub privacy: Privacy,
    /// Probability with which a kept-local request also goes to the large model, in [0, 1].
    pub audit: f64,
    /// Largest allowed expected loss per request, in (0, 1).
    pub epsilon: f64,
    /// Probability with which a certificate may be wrong, in (0, 1).
    pub delta: f64,
    /// Languages of the task (ISO 639-1); empty means any.
    pub languages: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<String> {
        ["spam", "ham", "a \"b\""].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_text_between_the_markers_is_cut_out() {
        let rule = InputRule { after: Some("<mail>".into()), before: Some("</mail>".into()) };
        assert_eq!(rule.cut("Classify:\n<mail>\nhi </mail> thanks"), Some("hi"));
        assert_eq!(rule.cut("no markers"), None);
        assert_eq!(InputRule::default().cut(" all "), Some("all"));
    }

    #[test]
    fn the_texts_are_the_rendered_labels_where_no_confidence_is_stated() {
        let texts = |form: OutputForm| form.texts(&labels());
        assert_eq!(texts(OutputForm::Label), Some(labels().to_vec()));
        let braces = texts(OutputForm::Template("{\"is\":\"{label}\"}".into())).expect("labels");
        assert!(braces.iter().all(|text| text.starts_with("{\"is\":\"") && text.ends_with("\"}")));
        assert_eq!(texts(OutputForm::Template("{label} {confidence}".into())), None);
        assert_eq!(OutputForm::Label.texts(&[]), None);
    }

    #[test]
    fn what_render_writes_read_understands() {
        let forms = [
            OutputForm::Label,
            OutputForm::Template(r#"{"label": "{label}", "score": {confidence}}"#.into()),
            OutputForm::Template("The class is {label}".into()),
        ];
        for form in forms {
            for label in labels() {
                if label.contains('"') && form != OutputForm::Label {
                    continue;
                }
                let text = form.render(&label, 0.5);
                assert_eq!(form.read(&text, &labels()), Some(label.as_str()), "{text}");
            }
        }
    }

    #[test]
    fn a_chatty_large_model_is_understood_and_an_invented_class_is_not() {
        let form = OutputForm::Label;
        assert_eq!(form.read(" **Spam**. \n", &labels()), Some("spam"));
        assert_eq!(form.read("phishing", &labels()), None);
        let json = OutputForm::Template(r#"{"label":"{label}"}"#.into());
        assert_eq!(json.read("{ \"label\" :\n\"ham\" }", &labels()), Some("ham"));
    }
}
