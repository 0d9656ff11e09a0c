//! What a team says about its work: thirteen questions, each answered with a number, a name from a short list, or not
//! at all. Read from flags or from a TOML file; unknown stays unknown.

use crate::{costs::Costs, framework::Key};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use understudy_core::{Error, Result};

/// What a model is asked to do. It earns no points; it decides which models come into question and what they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Pick one of fixed labels.
    Classify,
    /// Fill in fields.
    Extract,
    /// Shorten.
    Summarise,
    /// Answer questions.
    Answer,
    /// Write freely.
    Generate,
}

/// The answers as they are given. Absent means unknown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Answers {
    /// A use case to start from.
    pub use_case: Option<String>,
    /// What a model is asked to do.
    pub work: Option<Work>,
    /// `narrow`, `several` or `broad`.
    pub breadth: Option<String>,
    /// Longest acceptable time to an answer at the 95th percentile, in milliseconds.
    pub latency_ms: Option<f64>,
    /// Requests per second at the busiest time.
    pub throughput_qps: Option<f64>,
    /// `open`, `region` or `local`.
    pub privacy: Option<String>,
    /// `none`, `edge`, `cpu`, `gpu` or `cluster`.
    pub infrastructure: Option<String>,
    /// Most that may be spent, in USD a month.
    pub budget_usd_month: Option<f64>,
    /// Labelled examples at hand.
    pub labelled: Option<u64>,
    /// Languages of the texts (ISO 639-1).
    pub languages: Option<Vec<String>>,
    /// Longest input in tokens.
    pub context_tokens: Option<u32>,
    /// `text`, or `other` where images or audio matter.
    pub modality: Option<String>,
    /// `fine` or `avoid`.
    pub lock_in: Option<String>,
    /// `matters` or `minor`.
    pub energy: Option<String>,
    /// `none`, `engineers` or `ml`.
    pub team: Option<String>,
    /// Weights of the questions by name, instead of the framework's own; from 0 to 10.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, f64>,
    /// What is known about costs.
    #[serde(default)]
    pub cost: Costs,
}

/// The answers as positions in each question's list of levels; `None` is unknown.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Profile {
    levels: BTreeMap<Key, usize>,
}

impl Profile {
    /// The level that was given for a question.
    #[must_use]
    pub fn level(&self, key: Key) -> Option<usize> {
        self.levels.get(&key).copied()
    }

    /// Whether the question has this level.
    #[must_use]
    pub fn is(&self, key: Key, name: &str) -> bool {
        self.level(key).is_some_and(|level| key.question().levels[level].name == name)
    }

    /// The same with one answer changed.
    #[must_use]
    pub fn with(&self, key: Key, level: usize) -> Self {
        let mut changed = self.clone();
        changed.levels.insert(key, level);
        changed
    }

    /// Sets a level by its name.
    pub(crate) fn set(&mut self, key: Key, name: &str) -> Result<()> {
        let levels = key.question().levels;
        let Some(level) = levels.iter().position(|level| level.name == name) else {
            let names: Vec<&str> = levels.iter().map(|level| level.name).collect();
            return Err(Error::invalid(format!(
                "read the answer to `{}`: `{name}` is none of {}",
                key.name(),
                names.join(", ")
            ))
            .with_param(key.name()));
        };
        self.levels.insert(key, level);
        Ok(())
    }
}

impl Answers {
    /// Reads answers in TOML.
    ///
    /// # Errors
    /// `Invalid`, naming the line and the field, when the text is not TOML or has a field that is no question.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::invalid(format!("read the answers: {}", e.to_string().trim_end())))
    }

    /// These answers where they are given, else `other`'s.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let mut weights = other.weights;
        weights.extend(self.weights);
        Self {
            use_case: self.use_case.or(other.use_case),
            work: self.work.or(other.work),
            breadth: self.breadth.or(other.breadth),
            latency_ms: self.latency_ms.or(other.latency_ms),
            throughput_qps: self.throughput_qps.or(other.throughput_qps),
            privacy: self.privacy.or(other.privacy),
            infrastructure: self.infrastructure.or(other.infrastructure),
            budget_usd_month: self.budget_usd_month.or(other.budget_usd_month),
            labelled: self.labelled.or(other.labelled),
            languages: self.languages.or(other.languages),
            context_tokens: self.context_tokens.or(other.context_tokens),
            modality: self.modality.or(other.modality),
            lock_in: self.lock_in.or(other.lock_in),
            energy: self.energy.or(other.energy),
            team: self.team.or(other.team),
            weights,
            cost: self.cost.or(other.cost),
        }
    }

    /// The levels that these answers stand for. `covered` says whether a small model of the catalogue speaks the
    /// languages. The budget's level needs costs and comes later ([`crate::framework::budget_level`]).
    ///
    /// # Errors
    /// `Invalid`, naming the question, for a word outside its list, a number out of range or an unknown weight.
    pub fn profile(&self, covered: impl Fn(&[String]) -> bool) -> Result<Profile> {
        let mut profile = Profile::default();
        let named = [
            (Key::Breadth, &self.breadth),
            (Key::Privacy, &self.privacy),
            (Key::Infrastructure, &self.infrastructure),
            (Key::Modality, &self.modality),
            (Key::LockIn, &self.lock_in),
            (Key::Energy, &self.energy),
            (Key::Team, &self.team),
        ];
        for (key, answer) in named {
            if let Some(name) = answer {
                profile.set(key, name)?;
            }
        }
        let positive = |key: Key, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(value),
            false => Err(Error::invalid(format!("read the answer to `{}`: {value} is not above 0", key.name()))
                .with_param(key.name())),
        };
        if let Some(ms) = self.latency_ms {
            profile.set(Key::Latency, latency_level(positive(Key::Latency, ms)?))?;
        }
        if let Some(qps) = self.throughput_qps {
            profile.set(Key::Throughput, throughput_level(positive(Key::Throughput, qps)?))?;
        }
        if let Some(usd) = self.budget_usd_month {
            positive(Key::Budget, usd)?;
        }
        if let Some(n) = self.labelled {
            profile.set(Key::Labelled, labelled_level(n))?;
        }
        if let Some(tokens) = self.context_tokens {
            profile.set(Key::Context, context_level(tokens))?;
        }
        if let Some(languages) = self.languages.as_deref().filter(|languages| !languages.is_empty()) {
            if let Some(bad) = languages.iter().find(|l| l.len() != 2 || !l.bytes().all(|b| b.is_ascii_lowercase())) {
                return Err(Error::invalid(format!(
                    "read the answer to `languages`: `{bad}` is no ISO 639-1 code such as en, de, zh"
                ))
                .with_param("languages"));
            }
            let level = match (languages, covered(languages)) {
                ([one], _) if one == "en" => "english",
                (_, true) => "covered",
                (_, false) => "not covered",
            };
            profile.set(Key::Language, level)?;
        }
        for (name, weight) in &self.weights {
            if Key::ALL.iter().all(|key| key.name() != name) {
                return Err(Error::invalid(format!("read the weights: there is no question `{name}`")));
            }
            if !(0.0..=10.0).contains(weight) {
                return Err(Error::invalid(format!("read the weights: `{name}` = {weight} is not from 0 to 10")));
            }
        }
        Ok(profile)
    }
}

fn latency_level(ms: f64) -> &'static str {
    match ms {
        ms if ms < 100.0 => "under 100 ms",
        ms if ms < 200.0 => "100 to 200 ms",
        ms if ms < 1000.0 => "200 ms to 1 s",
        _ => "1 s or more",
    }
}

fn throughput_level(qps: f64) -> &'static str {
    match qps {
        qps if qps <= 10.0 => "up to 10/s",
        qps if qps < 100.0 => "10 to 100/s",
        _ => "100/s or more",
    }
}

fn labelled_level(n: u64) -> &'static str {
    match n {
        0 => "none",
        1..300 => "under 300",
        300..2000 => "300 to 2,000",
        _ => "2,000 or more",
    }
}

fn context_level(tokens: u32) -> &'static str {
    match tokens {
        0..=512 => "up to 512 tokens",
        513..=8_192 => "up to 8K tokens",
        8_193..=131_072 => "up to 128K tokens",
        _ => "beyond 128K tokens",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_come_from_toml_and_flags_go_first() {
        let file =
            Answers::parse("breadth = \"narrow\"\nlatency_ms = 150\nlanguages = [\"en\"]\n[weights]\nteam = 4\n")
                .expect("valid");
        let flags = Answers { latency_ms: Some(900.0), ..Answers::default() };
        let merged = flags.or(file);
        assert_eq!((merged.latency_ms, merged.breadth.as_deref()), (Some(900.0), Some("narrow")));
        let profile = merged.profile(|_| true).expect("valid");
        assert!(profile.is(Key::Latency, "200 ms to 1 s") && profile.is(Key::Language, "english"));
        assert_eq!(profile.level(Key::Privacy), None);
    }

    #[test]
    fn a_wrong_answer_is_named_with_what_would_be_right() {
        let error = Answers::parse("breadth = \"narrow\"\nlatncy_ms = 3\n").expect_err("a misspelt field");
        assert!(error.message().contains("latncy_ms") && error.message().contains("line 2"), "{error}");
        for (text, says) in [
            ("breadth = \"wide\"", "narrow, several, broad"),
            ("latency_ms = -1", "not above 0"),
            ("latency_ms = nan", "not above 0"),
            ("languages = [\"English\"]", "ISO 639-1"),
            ("[weights]\nspeed = 1", "no question `speed`"),
            ("[weights]\nteam = -1", "not from 0 to 10"),
        ] {
            let error = Answers::parse(text).and_then(|a| a.profile(|_| true)).expect_err("invalid");
            assert!(error.message().contains(says), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in ".{0,200}") {
            drop(Answers::parse(&text).and_then(|a| a.profile(|_| true)));
        }

        #[test]
        fn no_value_breaks_the_reader(
            key in proptest::sample::select(Key::ALL.map(Key::name).to_vec()),
            value in prop_oneof![
                any::<f64>().prop_map(|x| format!("{x:e}")), any::<i64>().prop_map(|x| x.to_string()),
                "[a-z]{0,8}".prop_map(|s| format!("\"{s}\"")), Just("[\"en\", \"xx\"]".to_owned()),
            ],
        ) {
            drop(Answers::parse(&format!("{key} = {value}")).and_then(|a| a.profile(|_| false)));
        }

        #[test]
        fn what_is_written_reads_back(ms in proptest::option::of(0.1f64..1e6), n in proptest::option::of(0u64..1 << 40)) {
            let answers = Answers { latency_ms: ms, labelled: n, ..Answers::default() };
            let text = toml::to_string(&answers).expect("plain data");
            prop_assert_eq!(Answers::parse(&text).expect("own form"), answers);
        }
    }
}
