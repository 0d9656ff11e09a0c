//! Prompts and the reading of answers.

use super::{Candidate, Plan, Prompting, Task};
use std::fmt::Write;
use understudy_core::{
    Answer, Message, ModelName, RecordedAnswer, Request, Role, TraceId,
    request::{OutputFormat, Sampling},
};
use understudy_dataset::Row;

/// The request for one row, with `shots` as examples before it.
#[must_use]
pub fn request(plan: &Plan, candidate: &Candidate, row: &Row, shots: &[&Row]) -> Request {
    let message = |role: Role, text: &str| Message { role, text: text.to_owned() };
    let mut messages = Vec::new();
    if candidate.prompting != Prompting::Bare {
        let own = row.system.as_deref().filter(|_| plan.task == Task::Generate);
        let system = match (&plan.instruction, own) {
            (Some(instruction), _) => instruction.clone(),
            (None, Some(own)) => own.to_owned(),
            (None, None) => instruction(plan),
        };
        messages = opening(&system, shots.iter().map(|shot| (shot.text.as_str(), shot.gold().unwrap_or_default())));
    }
    if row.messages.len() > 1 {
        messages.extend(row.messages.iter().cloned());
    } else {
        messages.push(message(Role::User, &row.text));
    }
    let model = ModelName::new(candidate.name.clone());
    let mut request = Request::new(TraceId::from_parts(0, 0), model, messages);
    request.input = Some(row.text.clone());
    let constrained = candidate.prompting == Prompting::Constrained;
    request.format = match plan.task {
        Task::Classify if constrained => OutputFormat::OneOf(plan.labels.clone()),
        Task::Extract if constrained => OutputFormat::JsonObject,
        _ => OutputFormat::Text,
    };
    request.sampling = Sampling {
        temperature: Some(plan.sampled.map_or(0.0, |sampled| sampled.temperature)),
        max_tokens: Some(plan.max_tokens),
        seed: Some(plan.sampled.map_or(0, |sampled| sampled.seed)),
        logprobs: (constrained && plan.task == Task::Classify).then_some(0),
        ..Sampling::default()
    };
    request
}

/// What stands before the text itself: the instruction, and examples as turns of a conversation.
pub fn opening<'s>(system: &str, shots: impl Iterator<Item = (&'s str, &'s str)>) -> Vec<Message> {
    let message = |role: Role, text: &str| Message { role, text: text.to_owned() };
    let mut messages = Vec::new();
    if !system.is_empty() {
        messages.push(message(Role::System, system));
    }
    for (text, answer) in shots {
        messages.push(message(Role::User, text));
        messages.push(message(Role::Assistant, answer));
    }
    messages
}

/// What was asked about a row, as a judge is told: the instructions (unless models got the bare text) and the row.
#[must_use]
pub fn question(plan: &Plan, row: &Row, bare: bool) -> String {
    let own = row.system.as_deref().filter(|_| plan.task == Task::Generate);
    let told = match (&plan.instruction, own) {
        _ if bare && plan.task != Task::Classify => String::new(),
        (Some(instruction), _) => instruction.clone(),
        (None, Some(own)) => own.to_owned(),
        (None, None) => instruction(plan),
    };
    let mut text = told.trim().to_owned();
    if !text.is_empty() {
        text.push_str("\n\n");
    }
    match row.messages.as_slice() {
        [] | [_] => text.push_str(&row.text),
        turns => {
            for turn in turns {
                let _ = writeln!(text, "{}: {}", turn.role.as_str(), turn.text);
            }
        }
    }
    text
}

/// What a model is told to do, where the user says nothing.
#[must_use]
pub fn instruction(plan: &Plan) -> String {
    match plan.task {
        Task::Classify => {
            let mut text =
                "Classify the user's message. Answer with exactly one of these labels and nothing else:\n".to_owned();
            for label in &plan.labels {
                let _ = writeln!(text, "- {label}");
            }
            text
        }
        Task::Labels => {
            let mut text =
                "Which of these labels apply to the user's message? Answer with a JSON list of them and nothing \
                            else; the list may be empty:\n"
                    .to_owned();
            for label in &plan.labels {
                let _ = writeln!(text, "- {label}");
            }
            text
        }
        Task::Regress => {
            let (low, high) = plan.range.unwrap_or((0.0, 1.0));
            format!(
                "Answer with one number and nothing else. In texts like the user's it lies between {low} and {high}."
            )
        }
        Task::Extract => {
            "Extract the facts of the user's text as one JSON object and write nothing else. Leave out what \
                          the text does not say."
                .to_owned()
        }
        Task::Summarise => {
            "Summarise the user's text in one or two sentences. Use only what it says. Write nothing but \
                            the summary."
                .to_owned()
        }
        Task::Answer => "Answer the question in as few words as possible. Write nothing but the answer.".to_owned(),
        Task::Generate => String::new(),
    }
}

/// What a model answered, in the task's vocabulary; the quality is not judged here.
#[must_use]
pub fn recorded(plan: &Plan, answer: &Answer) -> RecordedAnswer {
    let text = answer.text.trim().to_owned();
    let label = match (plan.task, &answer.label) {
        (Task::Classify, Some(label)) => Some(label.clone()),
        (Task::Classify, None) => label_in(&text, &plan.labels),
        _ => None,
    };
    let logprobs = answer.logprobs.as_ref().filter(|tokens| !tokens.is_empty());
    RecordedAnswer {
        confidence: answer.confidence.map(understudy_core::Confidence::get),
        logconf: logprobs.map(|tokens| tokens.iter().map(|t| f64::from(t.logprob)).sum()),
        token_logprobs: understudy_route::gate::served::token_logprobs(answer),
        tokens_in: Some(answer.usage.input_tokens),
        tokens_out: Some(answer.usage.output_tokens),
        text: (label.as_ref() != Some(&text)).then_some(text),
        answer: label,
        ..RecordedAnswer::default()
    }
}

/// The label that a free answer means: the answer itself, whatever its case and punctuation, or the only label that
/// occurs in it as a word. Everything else is an invented label.
#[must_use]
pub fn label_in(text: &str, labels: &[String]) -> Option<String> {
    let plain = |text: &str| {
        let text: String = text.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    if let Some(label) = labels.iter().find(|label| *label == text) {
        return Some(label.clone());
    }
    let said = plain(text);
    if let Some(label) = labels.iter().find(|label| plain(label) == said) {
        return Some(label.clone());
    }
    let padded = format!(" {said} ");
    let inside = |label: &&String| padded.contains(&format!(" {} ", plain(label)));
    let found: Vec<&String> = labels.iter().filter(inside).collect();
    // A label inside a longer one that also occurs does not count: `card` in `card arrival`.
    let is_part = |label: &String| {
        found.iter().any(|other| plain(other).len() > plain(label).len() && plain(other).contains(&plain(label)))
    };
    let mut whole = found.iter().filter(|label| !is_part(label));
    match (whole.next(), whole.next()) {
        (Some(only), None) => Some((*only).clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_from_talkative_answers_and_invented_ones_are_not_guessed() {
        let labels: Vec<String> = ["card", "card_arrival", "top_up", "say \"hi\""].map(String::from).to_vec();
        for (text, meant) in [
            ("card_arrival", Some("card_arrival")),
            ("Card arrival.", Some("card_arrival")),
            ("The label is: card_arrival", Some("card_arrival")),
            ("top_up or card", None),
            ("cards", None),
            ("", None),
        ] {
            assert_eq!(label_in(text, &labels).as_deref(), meant, "{text}");
        }
    }
}
