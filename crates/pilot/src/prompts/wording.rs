//! Instructions to try, made without a model: the task's own, shorter ones, a role, a question, and for labels the words
//! that the pool's texts of each label have more often than others.

use crate::run::{Plan, Task, prompt};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use understudy_dataset::Row;

/// Labels above which describing each takes more tokens than it is worth.
const DESCRIBED: usize = 40;
/// Words that describe a label.
const KEYWORDS: usize = 4;
/// Fields that are named to an extraction.
const FIELDS: usize = 40;

/// An instruction under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wording {
    /// What tables call it.
    pub name: String,
    /// What the model is told.
    pub text: String,
}

/// The task's own instruction first, then variants; each text once.
#[must_use]
pub fn variants(plan: &Plan, pool: &[Row]) -> Vec<Wording> {
    let own = prompt::instruction(&Plan { instruction: None, ..plan.clone() });
    let mut all = vec![("own", own)];
    match plan.task {
        Task::Classify => all.extend(of_labels(&plan.labels, pool)),
        Task::Labels => all.push((
            "terse",
            format!("Answer with the JSON list of the labels that apply: {}.", plan.labels.join(", ")),
        )),
        Task::Regress => all.push(("terse", "Answer with one number.".to_owned())),
        Task::Extract => all.extend(of_fields(pool)),
        Task::Summarise => {
            all.push(("terse", "Summarise the text.".to_owned()));
            all.extend(length(pool).map(|n| ("length", format!("Summarise the text in about {n} words."))));
            all.push((
                "role",
                "You are an editor. Say what matters in the user's text, as briefly as you can.".to_owned(),
            ));
        }
        Task::Answer => {
            all.push(("terse", "Answer briefly.".to_owned()));
            all.push((
                "role",
                "You are an expert. Answer the question with a word, a name, a number or a short phrase, and nothing else."
                    .to_owned(),
            ));
        }
        Task::Generate => {
            all.push(("helpful", "You are a helpful assistant.".to_owned()));
            all.extend(length(pool).map(|n| ("length", format!("Answer in about {n} words."))));
        }
    }
    let mut seen = BTreeSet::new();
    all.retain(|(_, text)| seen.insert(text.clone()));
    all.into_iter().map(|(name, text)| Wording { name: name.to_owned(), text }).collect()
}

fn of_labels(labels: &[String], pool: &[Row]) -> Vec<(&'static str, String)> {
    let (inline, lines) = (labels.join(", "), labels.join("\n"));
    let mut all = vec![
        ("terse", format!("Answer with one of: {inline}.")),
        ("bare", "Classify the text.".to_owned()),
        ("question", format!("Which of these describes the text best: {inline}? Answer with its name only.")),
        (
            "role",
            format!(
                "You are a careful annotator. You read a text and decide which category it belongs to. \
                 The categories are:\n{lines}\nReply with the category and nothing else."
            ),
        ),
    ];
    if labels.len() <= DESCRIBED {
        let keywords = keywords(labels, pool);
        if keywords.iter().any(|words| !words.is_empty()) {
            let line = |(label, words): (&String, &Vec<String>)| match words.is_empty() {
                true => format!("- {label}\n"),
                false => format!("- {label}: often {}\n", words.join(", ")),
            };
            let listed: String = labels.iter().zip(&keywords).map(line).collect();
            all.push((
                "described",
                format!("Classify the user's message as one of these labels:\n{listed}Answer with the label."),
            ));
        }
    }
    all
}

/// The words of each label's texts that tell it most from the others: by the frequency in its texts minus that in the
/// others', among words that two of its texts have.
fn keywords(labels: &[String], pool: &[Row]) -> Vec<Vec<String>> {
    let mut texts = vec![0u32; labels.len()];
    let mut counts: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for row in pool {
        let Some(label) = row.gold().and_then(|gold| labels.iter().position(|label| label == gold)) else { continue };
        texts[label] += 1;
        let words: BTreeSet<String> = row
            .text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.chars().count() > 1)
            .map(str::to_lowercase)
            .collect();
        for word in words {
            counts.entry(word).or_insert_with(|| vec![0; labels.len()])[label] += 1;
        }
    }
    let all: u32 = texts.iter().sum();
    let telling = |label: usize| {
        let mut words: Vec<(f64, &String)> = counts
            .iter()
            .filter(|(_, of)| of[label] >= 2)
            .map(|(word, of)| {
                let others: u32 = of.iter().sum::<u32>() - of[label];
                let rate = |k: u32, n: u32| f64::from(k) / f64::from(n.max(1));
                (rate(of[label], texts[label]) - rate(others, all - texts[label]), word)
            })
            .filter(|(telling, _)| *telling > 0.0)
            .collect();
        words.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        words.into_iter().take(KEYWORDS).map(|(_, word)| word.clone()).collect()
    };
    (0..labels.len()).map(telling).collect()
}

fn of_fields(pool: &[Row]) -> Vec<(&'static str, String)> {
    let mut fields: BTreeMap<String, usize> = BTreeMap::new();
    for row in pool {
        if let Some(Ok(serde_json::Value::Object(object))) = row.gold().map(serde_json::from_str) {
            object.keys().for_each(|key| *fields.entry(key.clone()).or_default() += 1);
        }
    }
    let mut fields: Vec<(String, usize)> = fields.into_iter().collect();
    fields.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let names: Vec<&str> = fields.iter().take(FIELDS).map(|(name, _)| name.as_str()).collect();
    let mut all = vec![("terse", "Return the facts of the text as JSON.".to_owned())];
    if !names.is_empty() {
        let names = names.join(", ");
        all.push((
            "fields",
            format!("Extract these fields from the user's text as one JSON object: {names}. Leave out what the text does not say."),
        ));
        all.push((
            "role",
            format!(
                "You fill in forms. The form has the fields {names}. Copy what the text says into the fields, word for word, \
                 and write the JSON object of the filled fields, nothing else."
            ),
        ));
    }
    all
}

/// The middle number of words of the right answers.
fn length(pool: &[Row]) -> Option<usize> {
    let mut lengths: Vec<usize> =
        pool.iter().filter_map(|row| Some(row.gold()?.split_whitespace().count())).filter(|n| *n > 0).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(task: Task, labels: &[&str]) -> Plan {
        Plan {
            task,
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            range: None,
            out_of_scope: None,
            instruction: Some("of no concern".into()),
            shots: 0,
            shots_by: "words".into(),
            max_tokens: 1,
            max_cost_usd: None,
            per_minute: None,
            stop_early: None,
            sampled: None,
        }
    }

    #[test]
    fn labels_are_described_by_the_words_of_their_texts_and_no_text_comes_twice() {
        let row = |text: &str, label: &str| Row { text: text.into(), label: Some(label.into()), ..Row::default() };
        let pool = [
            row("how many cards are there", "number"),
            row("how many days", "number"),
            row("who was the first there", "person"),
            row("who are they", "person"),
        ];
        let all = variants(&plan(Task::Classify, &["number", "person"]), &pool);
        assert_eq!(all[0].name, "own");
        let described = all.iter().find(|w| w.name == "described").expect("few labels");
        assert!(described.text.contains("- number: often how, many") && described.text.contains("- person: often who"));
        assert_eq!(all.iter().map(|w| &w.text).collect::<BTreeSet<_>>().len(), all.len());
        for task in [Task::Labels, Task::Extract, Task::Summarise, Task::Answer, Task::Generate] {
            assert!(variants(&plan(task, &["a", "b"]), &[]).len() > 1, "{task:?}");
        }
    }

    #[test]
    fn an_extraction_is_told_the_fields_that_answers_have() {
        let row = Row { text: "t".into(), references: vec![r#"{"city":"Bern","day":1}"#.into()], ..Row::default() };
        let all = variants(&plan(Task::Extract, &[]), &[row]);
        assert!(all.iter().any(|w| w.text.contains("city, day")), "{all:?}");
    }
}
