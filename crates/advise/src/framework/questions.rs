//! The questions, their answers, and which way each answer points: the whole opinion of the framework in one table.
//! Points run from −2 to 2 for small, hybrid and large; a question's weight says how much it matters.

use super::Choice::{self, Hybrid, Large, Small};
use serde::Serialize;

/// Which question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// What a pilot, a certificate or traces showed.
    Measured,
    /// How many kinds of request there are.
    Breadth,
    /// How fast an answer must be.
    Latency,
    /// How many requests come at once.
    Throughput,
    /// Where texts may go.
    Privacy,
    /// What there is to run a model on.
    Infrastructure,
    /// What may be spent.
    Budget,
    /// Labelled examples at hand.
    Labelled,
    /// Languages of the texts.
    Language,
    /// Length of the texts.
    Context,
    /// Text, or other media as well.
    Modality,
    /// Whether depending on one provider is acceptable.
    LockIn,
    /// Whether energy matters.
    Energy,
    /// Who runs it.
    Team,
}

/// One answer to a question.
#[derive(Debug, Clone, Copy)]
pub struct Level {
    /// The answer in words; for questions with a word as answer, that word.
    pub name: &'static str,
    /// Points for small, hybrid, large; from −2 to 2.
    pub points: [i8; 3],
    /// Why.
    pub why: &'static str,
    /// What this answer rules out, whatever the points say.
    pub excludes: &'static [Choice],
}

/// A question with its answers.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Which.
    pub key: Key,
    /// As a person is asked.
    pub ask: &'static str,
    /// How much it matters, from 0 to 10.
    pub weight: f64,
    /// Its answers.
    pub levels: &'static [Level],
}

impl Key {
    /// Every question, in the order in which people are asked.
    pub const ALL: [Key; 14] = [
        Self::Measured,
        Self::Breadth,
        Self::Latency,
        Self::Throughput,
        Self::Privacy,
        Self::Infrastructure,
        Self::Budget,
        Self::Labelled,
        Self::Language,
        Self::Context,
        Self::Modality,
        Self::LockIn,
        Self::Energy,
        Self::Team,
    ];

    /// The name in flags, files and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Breadth => "breadth",
            Self::Latency => "latency_ms",
            Self::Throughput => "throughput_qps",
            Self::Privacy => "privacy",
            Self::Infrastructure => "infrastructure",
            Self::Budget => "budget_usd_month",
            Self::Labelled => "labelled",
            Self::Language => "languages",
            Self::Context => "context_tokens",
            Self::Modality => "modality",
            Self::LockIn => "lock_in",
            Self::Energy => "energy",
            Self::Team => "team",
        }
    }

    /// The question itself.
    #[must_use]
    pub const fn question(self) -> &'static Question {
        &QUESTIONS[self as usize]
    }
}

const fn level(name: &'static str, points: [i8; 3], why: &'static str) -> Level {
    Level { name, points, why, excludes: &[] }
}

const fn hard(name: &'static str, points: [i8; 3], why: &'static str, excludes: &'static [Choice]) -> Level {
    Level { name, points, why, excludes }
}

/// In the order of [`Key::ALL`].
static QUESTIONS: [Question; 14] = [
    Question {
        key: Key::Measured,
        ask: "What did a pilot show?",
        weight: 6.0,
        levels: &[
            level("nearly all", [2, 2, -1], "the small model was certified for nearly all of this traffic"),
            level(
                "a good part",
                [-1, 2, 0],
                "the small model was certified for a good part of this traffic, not for all",
            ),
            level("a little", [-2, 0, 1], "the small model was certified for little of this traffic"),
            hard(
                "certified, keeps nothing",
                [-2, -2, 2],
                "a threshold is certified, but no answer of this traffic was sure enough to be kept at it",
                &[Small],
            ),
            hard(
                "not certified",
                [-2, -2, 2],
                "the evidence does not certify the small model on this traffic",
                &[Small],
            ),
        ],
    },
    Question {
        key: Key::Breadth,
        ask: "How many kinds of request are there?",
        weight: 3.0,
        levels: &[
            level("narrow", [2, 2, -1], "one narrow task with fixed labels or fields is what small models learn well"),
            level(
                "several",
                [0, 2, 0],
                "several related tasks: the routine ones for a small model, the rest for a large one",
            ),
            level("broad", [-2, 0, 2], "open-ended requests need the knowledge and reasoning of a large model"),
        ],
    },
    Question {
        key: Key::Latency,
        ask: "How fast must 95 % of the answers be?",
        weight: 3.0,
        levels: &[
            hard("under 100 ms", [2, 0, -2], "no model over the network answers in under 100 ms", &[Large]),
            hard("100 to 200 ms", [2, 1, -2], "a model over the network rarely answers in under 200 ms", &[Large]),
            level("200 ms to 1 s", [1, 1, -1], "a small model leaves time to spare, a large one is at the limit"),
            level("1 s or more", [0, 0, 1], "there is time to ask a large model"),
        ],
    },
    Question {
        key: Key::Throughput,
        ask: "How many requests come in the busiest second?",
        weight: 2.0,
        levels: &[
            level("up to 10/s", [0, 0, 1], "little traffic: paying per request costs less than running machines"),
            level("10 to 100/s", [1, 1, 0], "enough traffic to keep a machine busy"),
            level("100/s or more", [2, 1, -2], "at this rate provider limits and prices per token bite"),
        ],
    },
    Question {
        key: Key::Privacy,
        ask: "Where may the texts go?",
        weight: 3.0,
        levels: &[
            level("open", [0, 0, 1], "texts may go to a provider"),
            level("region", [1, 0, -1], "texts must stay in a region: fewer providers, more contracts"),
            hard("local", [2, 1, 0], "texts must not leave the house", &[Large, Hybrid]),
        ],
    },
    Question {
        key: Key::Infrastructure,
        ask: "What can a model run on?",
        weight: 2.0,
        levels: &[
            hard("none", [-2, -2, 2], "nothing to run a model on", &[Small, Hybrid]),
            level("edge", [2, 0, -2], "devices at the edge: small models only, often without a network"),
            level("cpu", [1, 2, 0], "ordinary servers run small models well"),
            level("gpu", [2, 2, 0], "one GPU runs a small model of several billion parameters fast"),
            level("cluster", [1, 1, 1], "a cluster runs either"),
        ],
    },
    Question {
        key: Key::Budget,
        ask: "How much may it cost in a month?",
        weight: 3.0,
        levels: &[
            level("covers every option", [0, 0, 1], "the budget covers every option"),
            hard(
                "too little for the large one",
                [2, 2, -2],
                "the large model alone costs more than the budget",
                &[Large],
            ),
            hard("only the small one", [2, -2, -2], "only the small model alone fits the budget", &[Large, Hybrid]),
            hard(
                "only the large one",
                [-2, -2, 2],
                "machines and work for a small model cost more than the budget",
                &[Small, Hybrid],
            ),
            hard("too little for any", [0, 0, 0], "no option fits the budget", &[Small, Hybrid, Large]),
        ],
    },
    Question {
        key: Key::Labelled,
        ask: "How many labelled examples are at hand?",
        weight: 2.0,
        levels: &[
            level(
                "none",
                [-2, 1, 1],
                "without labels, start by observing: the large model's answers become the labels",
            ),
            level("under 300", [-1, 1, 1], "too few labels to train and to certify; observed answers add to them"),
            level("300 to 2,000", [1, 2, 0], "enough labels to train a small model and to certify part of the traffic"),
            level("2,000 or more", [2, 2, -1], "plenty of labels to train and to certify"),
        ],
    },
    Question {
        key: Key::Language,
        ask: "Which languages are the texts in?",
        weight: 2.0,
        levels: &[
            level("english", [1, 1, 0], "small models are at their best in English"),
            level("covered", [0, 1, 0], "small models exist for these languages and are weaker in them"),
            level("not covered", [-2, -1, 2], "no small model of the catalogue was made for all of these languages"),
        ],
    },
    Question {
        key: Key::Context,
        ask: "How many tokens has the longest input?",
        weight: 2.0,
        levels: &[
            level("up to 512 tokens", [2, 1, 0], "the shortest models read it whole"),
            level("up to 8K tokens", [0, 1, 0], "generative small models read it whole, encoders only its head"),
            level("up to 128K tokens", [-1, 0, 1], "small models that read so much are slow on ordinary machines"),
            hard("beyond 128K tokens", [-2, -1, 2], "no small model of the catalogue reads so much", &[Small]),
        ],
    },
    Question {
        key: Key::Modality,
        ask: "Is it text only?",
        weight: 3.0,
        levels: &[
            level("text", [1, 1, 0], "text only: every model of the catalogue takes it"),
            hard("other", [-2, -1, 2], "images or audio: the small models here take text only", &[Small]),
        ],
    },
    Question {
        key: Key::LockIn,
        ask: "Is it acceptable to depend on one provider?",
        weight: 1.0,
        levels: &[
            level("fine", [0, 0, 1], "depending on a provider is acceptable"),
            level("avoid", [2, 1, -2], "a model of your own cannot be withdrawn, repriced or changed by others"),
        ],
    },
    Question {
        key: Key::Energy,
        ask: "Does energy matter?",
        weight: 1.0,
        levels: &[
            level("matters", [2, 1, -2], "a small model takes a fraction of the energy of a large one"),
            level("minor", [0, 0, 0], "energy does not decide"),
        ],
    },
    Question {
        key: Key::Team,
        ask: "Who would run it?",
        weight: 2.0,
        levels: &[
            level("none", [-2, -1, 2], "nobody to look after a model"),
            level("engineers", [0, 1, 1], "engineers can run a gateway that trains and certifies by command"),
            level("ml", [1, 2, 0], "people who know models get more out of a small one"),
        ],
    },
];
