//! Which small models satisfy the hard constraints, and how fast they are on a machine of a kind.
//!
//! Speeds are interpolated from measurements on two cores (`docs/BENCHMARKS.md`, generation and users): an encoder by
//! tokens a second, a generative model by parameters. They say what is worth trying; `understudy pilot load` measures.

use crate::answers::{Answers, Work};
use serde::Serialize;

/// What a small model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Turns text into labels.
    Encoder,
    /// Writes text.
    Generative,
}

/// A small model that can be had; the catalogue's entries in the terms of this crate.
#[derive(Debug, Clone, PartialEq)]
pub struct SmallModel {
    /// Its name for `understudy pull`.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Parameters, above 0.
    pub parameters: u64,
    /// Bytes on the disk, where known.
    pub bytes: Option<u64>,
    /// Longest input in tokens.
    pub context: Option<u32>,
    /// Languages it was made for (ISO 639-1); empty where its makers name none.
    pub languages: Vec<String>,
    /// Its licence.
    pub licence: String,
    /// One line about it.
    pub about: String,
}

/// Tokens a second on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// Tokens read, over all requests together.
    pub read: f64,
    /// Tokens written for one request alone; infinite for an encoder, which writes none.
    pub write_alone: f64,
    /// Tokens written, over requests that are batched.
    pub write_together: f64,
}

impl Speed {
    /// Seconds to one answer on an idle machine.
    #[must_use]
    pub fn seconds(&self, input_tokens: u64, output_tokens: u64) -> f64 {
        input_tokens as f64 / self.read + output_tokens as f64 / self.write_alone
    }

    /// Requests a second on a busy machine.
    #[must_use]
    pub fn requests_per_s(&self, input_tokens: u64, output_tokens: u64) -> f64 {
        1.0 / (input_tokens.max(1) as f64 / self.read + output_tokens as f64 / self.write_together)
    }
}

/// A kind of machine: how fast beside two cores, and how much memory a model may take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machine {
    /// Name in answers and flags.
    pub name: &'static str,
    /// Speed beside the two cores of the measurements. Assumed, not measured, except for 1.
    pub factor: f64,
    /// Memory for a model, in bytes.
    pub memory: u64,
    /// Rent or depreciation in USD a month. Assumed.
    pub usd_month: f64,
    /// Power in watts where it is paid on top of the rent. Assumed.
    pub watts: f64,
}

/// Machines by the answer to `infrastructure`.
pub const MACHINES: [Machine; 4] = [
    Machine { name: "edge", factor: 0.5, memory: 2_000_000_000, usd_month: 5.0, watts: 10.0 },
    Machine { name: "cpu", factor: 1.0, memory: 8_000_000_000, usd_month: 50.0, watts: 0.0 },
    Machine { name: "gpu", factor: 50.0, memory: 20_000_000_000, usd_month: 600.0, watts: 0.0 },
    Machine { name: "cluster", factor: 50.0, memory: 64_000_000_000, usd_month: 600.0, watts: 0.0 },
];

/// The machine of an answer; two cores where it is unknown or none.
#[must_use]
pub fn machine(infrastructure: Option<&str>) -> Machine {
    MACHINES.into_iter().find(|machine| Some(machine.name) == infrastructure).unwrap_or(MACHINES[1])
}

/// A model's speed on a machine.
#[must_use]
pub fn speed(model: &SmallModel, machine: Machine) -> Speed {
    let billions = model.parameters.max(1) as f64 / 1e9;
    if model.kind == Kind::Encoder {
        // MiniLM in int8 on two cores: 1,300 requests/s of 16 tokens; larger ones in proportion to their layers, which
        // grow a little faster than their parameters.
        let read = 20_800.0 * (0.0227 / billions).powf(1.3) * machine.factor;
        return Speed { read, write_alone: f64::INFINITY, write_together: f64::INFINITY };
    }
    // Power laws through 0.135B (Q8_0), 0.5B and 1.5B (Q4_K_M): 792, 263, 109 read; 132, 47, 29 written alone;
    // 293, 90, 37 written eight at a time.
    Speed {
        read: 150.0 * billions.powf(-0.82) * machine.factor,
        write_alone: 36.0 * billions.powf(-0.63) * machine.factor,
        write_together: 50.0 * billions.powf(-0.88) * machine.factor,
    }
}

/// A model that satisfies the hard constraints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Its name for `understudy pull`.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Parameters.
    pub parameters: u64,
    /// Longest input in tokens.
    pub context: Option<u32>,
    /// Its licence.
    pub licence: String,
    /// One line about it.
    pub about: String,
    /// Estimated time to one answer on an idle machine, in milliseconds.
    pub answer_ms: f64,
    /// Its speed on the machine.
    pub speed: Speed,
    /// What to mind: an input longer than it reads, languages that its makers do not name.
    pub mind: Option<String>,
}

/// Whether some model was made for all of these languages.
#[must_use]
pub fn covered(models: &[SmallModel], languages: &[String]) -> bool {
    models.iter().any(|model| speaks(model, languages))
}

fn speaks(model: &SmallModel, languages: &[String]) -> bool {
    languages.iter().all(|language| model.languages.contains(language))
}

/// The models that satisfy the answers' hard constraints, best first: for labels the small encoders,
/// for texts the largest generative models that are fast enough.
#[must_use]
pub fn candidates(models: &[SmallModel], answers: &Answers, input_tokens: u64, output_tokens: u64) -> Vec<Candidate> {
    let machine = machine(answers.infrastructure.as_deref());
    let labels = answers.work == Some(Work::Classify);
    let output_tokens = if labels { 0 } else { output_tokens };
    if answers.modality.as_deref() == Some("other") {
        return Vec::new();
    }
    let mut found: Vec<Candidate> = models
        .iter()
        .filter(|model| (model.kind == Kind::Encoder) == labels)
        .filter_map(|model| candidate(model, answers, machine, input_tokens, output_tokens))
        .collect();
    if labels {
        found.sort_by_key(|c| c.parameters);
    } else {
        found.sort_by_key(|c| std::cmp::Reverse(c.parameters));
    }
    found
}

fn candidate(model: &SmallModel, answers: &Answers, machine: Machine, input: u64, output: u64) -> Option<Candidate> {
    let mut mind = Vec::new();
    // Eight bits a parameter and room for the work, where the files' size is not known.
    let bytes = model.bytes.unwrap_or(model.parameters).saturating_mul(5) / 4;
    if bytes > machine.memory {
        return None;
    }
    if let Some(languages) = &answers.languages
        && !speaks(model, languages)
    {
        if !model.languages.is_empty() {
            return None;
        }
        mind.push("its makers name no languages: try yours".to_owned());
    }
    if let (Some(longest), Some(context)) = (answers.context_tokens, model.context)
        && longest > context
    {
        if model.kind == Kind::Generative {
            return None;
        }
        mind.push(format!("reads the first {context} tokens"));
    }
    let speed = speed(model, machine);
    let read = model.context.map_or(input, |context| input.min(u64::from(context)));
    let answer_ms = 1000.0 * speed.seconds(read, output);
    if answers.latency_ms.is_some_and(|most| answer_ms > most) {
        return None;
    }
    Some(Candidate {
        name: model.name.clone(),
        kind: model.kind,
        parameters: model.parameters,
        context: model.context,
        licence: model.licence.clone(),
        about: model.about.clone(),
        answer_ms,
        speed,
        mind: (!mind.is_empty()).then(|| mind.join("; ")),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The models of the catalogue that ships, read without the crate that owns it (which links llama.cpp).
    pub(crate) fn catalogue() -> Vec<SmallModel> {
        let text = include_str!("../../model/src/catalogue.toml");
        let table: toml::Table = toml::from_str(text).expect("the catalogue is TOML");
        let models = table["model"].as_array().expect("a list of models");
        let text = |model: &toml::Value, key: &str| model[key].as_str().expect("a text").to_owned();
        let number = |model: &toml::Value, key: &str| model.get(key).and_then(toml::Value::as_integer);
        models
            .iter()
            .filter(|model| model["kind"].as_str() != Some("dataset"))
            .map(|model| SmallModel {
                name: text(model, "name"),
                kind: if model["kind"].as_str() == Some("encoder") { Kind::Encoder } else { Kind::Generative },
                parameters: number(model, "parameters").expect("given").unsigned_abs(),
                bytes: None,
                context: number(model, "context").and_then(|n| u32::try_from(n).ok()),
                languages: model["languages"]
                    .as_array()
                    .map_or(Vec::new(), |list| list.iter().filter_map(|l| l.as_str().map(str::to_owned)).collect()),
                licence: text(model, "licence"),
                about: text(model, "about"),
            })
            .collect()
    }

    fn find(name: &str) -> SmallModel {
        catalogue().into_iter().find(|model| model.name == name).expect("in the catalogue")
    }

    fn names(toml: &str) -> Vec<String> {
        let answers = Answers::parse(toml).expect("valid");
        candidates(&catalogue(), &answers, 300, 100).into_iter().map(|c| c.name).collect()
    }

    #[test]
    fn speeds_are_near_what_was_measured() {
        for (name, read, alone, together) in
            [("smollm2", 792.0, 132.0, 293.0), ("qwen2.5-0.5b", 263.0, 47.0, 90.0), ("qwen2.5-1.5b", 109.0, 29.0, 37.0)]
        {
            let speed = speed(&find(name), MACHINES[1]);
            for (ours, measured) in [(speed.read, read), (speed.write_alone, alone), (speed.write_together, together)] {
                assert!((ours / measured - 1.0).abs() < 0.25, "{name}: {ours} for {measured}");
            }
        }
        let minilm = speed(&find("minilm"), MACHINES[1]);
        assert!((minilm.requests_per_s(16, 0) / 1300.0 - 1.0).abs() < 0.05);
    }

    #[test]
    fn only_models_that_satisfy_the_constraints_are_named() {
        assert_eq!(names("work = \"classify\"")[0], "minilm");
        assert!(names("modality = \"other\"").is_empty());
        let edge = names("infrastructure = \"edge\"");
        assert!(!edge.is_empty() && !edge.iter().any(|n| n.contains("8b")), "{edge:?}");
        let german = names("languages = [\"de\"]");
        assert!(german.contains(&"llama3.2-1b".to_owned()) && !german.iter().any(|n| n.starts_with("smollm2")));
        let long = names("context_tokens = 100000");
        assert!(!long.is_empty() && long.iter().all(|n| find(n).context >= Some(100_000)));
        let fast = names("latency_ms = 1000");
        assert!(fast.iter().all(|n| !n.contains("8b")), "{fast:?}");
    }
}
