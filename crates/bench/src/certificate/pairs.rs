//! The pairs of a cheaper and a dearer model in every recorded set, and the signal that tells sure answers from unsure
//! ones.
//!
//! Many sets record none. Where answers are known, the share of other cheap models that give the small model's answer
//! stands in; where only qualities are, the mean regret of the row's group on rows set aside for it. A set has a row in
//! this table or a reason below:
//!
//! - `ocats_banking77`: three labels by large models and none by a small one; the learning stream covers it.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use understudy_core::{LossKind, Outcome, Result, Seed};
use understudy_pilot::{Loss, Scored, scored_from_outcomes};

/// A pair of models in a set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) set: &'static str,
    pub(super) small: &'static str,
    pub(super) large: &'static str,
    pub(super) signal: Signal,
}

/// Where the small model's confidence comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signal {
    /// Recorded with its answer.
    Recorded,
    /// The share of these models that answer alike.
    Agreement(&'static [&'static str]),
    /// One minus the mean regret of the row's group, on [`SET_ASIDE`] rows that are then left out.
    Group,
}

/// Rows that a group's regret is learned from.
const SET_ASIDE: usize = 1500;

impl Signal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Agreement(_) => "agreement",
            Self::Group => "group",
        }
    }
}

const fn pair(set: &'static str, small: &'static str, large: &'static str, signal: Signal) -> Pair {
    Pair { set, small, large, signal }
}

const CSS: Signal = Signal::Agreement(&["flan-t5-large", "flan-t5-base"]);
const COMPLAINTS: Signal = Signal::Agreement(&["gemini-1.5-flash", "gemini-2.0-flash-lite", "gpt-o3-mini"]);
const PRO: Signal = Signal::Agreement(&["Phi-3-mini-4k-instruct", "mathstral-7B", "Meta-Llama-3-8B", "gemma-7b"]);

pub(super) const PAIRS: &[Pair] = &[
    pair("cascades_mmlu_test", "llama3.2-3b", "llama3.1-405b", Signal::Recorded),
    pair("cascades_mmlu_test", "llama3.1-8b", "llama3.1-70b", Signal::Recorded),
    pair("cascades_mmlu_test", "llama3.1-70b", "llama3.1-405b", Signal::Recorded),
    pair("cascades_mmlu_test", "gpt-4o-mini", "gpt-4o", Signal::Recorded),
    pair("cascades_mmlu_test", "qwen2.5-32b-coder-instruct", "qwen2.5-72b-instruct", Signal::Recorded),
    pair("cascades_mmlu_train", "gpt-4o-mini", "gpt-4o", Signal::Recorded),
    pair("cascades_medmcqa_train", "llama3.1-8b", "llama3.1-405b", Signal::Recorded),
    pair("cascades_medmcqa_train", "gpt-4o-mini", "gpt-4o", Signal::Recorded),
    pair("cascades_triviaqa_train", "llama3.1-8b", "llama3.1-405b", Signal::Recorded),
    pair("cascades_triviaqa_train", "llama3.2-3b", "llama3.1-70b", Signal::Recorded),
    pair("cascades_truthfulqa_train", "gpt-4o-mini", "gpt-4o", Signal::Recorded),
    pair("cascades_gsm8k_train", "llama3.1-8b", "llama3.1-405b", Signal::Recorded),
    pair("cascades_gsm8k_train", "gpt-4o-mini", "gpt-4o", Signal::Recorded),
    pair("mot_gsm", "GPT4/cot1", "GPT4/greedy_cot1", Signal::Recorded),
    pair("mot_gsm", "llama2_13B/pot1", "GPT4/cot1", Signal::Recorded),
    pair("mot_tabmwp", "GPT4/pot1", "GPT4/cot2", Signal::Recorded),
    pair("mot_asdiv", "GPT4/cot1", "GPT4/pot2", Signal::Recorded),
    pair("mot_date", "GPT3/pot1", "GPT4/pot1", Signal::Recorded),
    pair("mot_navigate", "GPT4/pot1", "GPT4/cot2", Signal::Recorded),
    pair("mot_crepe", "llama2_13B/pot1_V2", "GPT4/cot2", Signal::Recorded),
    pair("routellm_mmlu_dev", "mixtral-8x7b-instruct", "gpt-4-1106-preview", Signal::Group),
    pair("llmrouter_train", "llama-3.1-8b-instruct", "llama-3.1-nemotron-51b-instruct", Signal::Group),
    pair("mmlu_pro_dev", "Meta-Llama-3_1-8B-Instruct", "Meta-Llama-3_1-70B-Instruct", PRO),
    pair("mmlu_pro_dev", "Meta-Llama-3_1-8B-Instruct", "gemini-1.5-pro-002", PRO),
    pair("medqa_3slm", "mistral7b/zeroshot", "llama31/zeroshot", Signal::Agreement(&["qwen2_7b/zeroshot"])),
    pair("complaints_dev", "gpt_4o_mini", "gpt_4o", COMPLAINTS),
    pair("complaints_dev", "claude_3_5_haiku", "claude_3_5_sonnet", COMPLAINTS),
    pair("css_conv_go_awry", "flan-t5-xl", "flan-ul2", CSS),
    pair("css_discourse", "flan-t5-xl", "flan-ul2", CSS),
    pair("css_emotion", "flan-t5-xl", "flan-ul2", CSS),
    pair("css_flute", "flan-t5-xl", "flan-ul2", CSS),
    pair("css_implicit_hate", "flan-t5-xl", "flan-ul2", CSS),
    pair("css_reddit_humor", "flan-t5-xl", "flan-ul2", CSS),
    pair("css_semeval_stance", "flan-t5-xl", "flan-ul2", CSS),
    pair("css_talklife", "flan-t5-xl", "flan-ul2", CSS),
    pair("css_wiki_politeness", "flan-t5-xl", "flan-ul2", CSS),
];

impl Pair {
    /// The population: rows that both models answered, with the signal as confidence.
    pub(super) fn items(&self, outcomes: &[Outcome], seed: u64) -> Result<(Vec<Scored>, LossKind)> {
        let mut rows: Vec<Outcome> = outcomes
            .iter()
            .filter(|o| o.models.contains_key(self.small) && o.models.contains_key(self.large))
            .cloned()
            .collect();
        match self.signal {
            Signal::Recorded => {}
            Signal::Agreement(others) => rows.iter_mut().for_each(|row| agree(row, self.small, others)),
            Signal::Group => rows = self.by_group(rows, seed),
        }
        scored_from_outcomes(&rows, self.small, self.large, Loss::Auto)
    }

    /// Rows that were not set aside, with the regret of their group on those that were.
    fn by_group(&self, mut rows: Vec<Outcome>, seed: u64) -> Vec<Outcome> {
        rows.shuffle(&mut ChaCha8Rng::seed_from_u64(Seed(seed).derive("groups").0));
        let mut rest = rows.split_off(SET_ASIDE.min(rows.len() / 2));
        let regret = |row: &Outcome| {
            let quality = |name: &str| row.models.get(name).and_then(|answer| answer.quality).unwrap_or(0.0);
            (quality(self.large) - quality(self.small)).max(0.0)
        };
        let overall = rows.iter().map(regret).sum::<f64>() / rows.len().max(1) as f64;
        // Means are drawn towards the overall one by as many imagined rows.
        const IMAGINED: f64 = 5.0;
        let mut groups: BTreeMap<Option<String>, (f64, f64)> = BTreeMap::new();
        for row in &rows {
            let group = groups.entry(row.group.clone()).or_insert((IMAGINED * overall, IMAGINED));
            group.0 += regret(row);
            group.1 += 1.0;
        }
        for row in &mut rest {
            let expected = groups.get(&row.group).map_or(overall, |(sum, weight)| sum / weight);
            if let Some(answer) = row.models.get_mut(self.small) {
                answer.confidence = Some(1.0 - expected.clamp(0.0, 1.0));
            }
        }
        rest
    }
}

/// The small model's confidence: the share of models, itself among them, that give its answer.
fn agree(row: &mut Outcome, small: &str, others: &[&str]) {
    let Some(own) = row.models.get(small).and_then(|answer| answer.answer.clone()) else { return };
    let alike = |name: &&&str| row.models.get(**name).and_then(|answer| answer.answer.as_ref()) == Some(&own);
    let share = (1 + others.iter().filter(alike).count()) as f64 / (1 + others.len()) as f64;
    if let Some(answer) = row.models.get_mut(small) {
        answer.confidence = Some(share);
    }
}
