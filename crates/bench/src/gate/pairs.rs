//! Recorded sets and the natural pairs in them: a small and a large model of one family, or of one price list.

use super::missing;
use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};
use understudy_core::{Error, Outcome, Result, outcome};

/// Set, small model, large model.
pub(super) const PAIRS: &[(&str, &str, &str)] = &[
    ("cascades_mmlu", "llama3.1-8b", "llama3.1-405b"),
    ("cascades_mmlu", "llama3.1-8b", "llama3.1-70b"),
    ("cascades_mmlu", "llama3.2-3b", "llama3.1-70b"),
    ("cascades_mmlu", "gpt-4o-mini", "gpt-4o"),
    ("cascades_medmcqa", "llama3.1-8b", "llama3.1-405b"),
    ("cascades_medmcqa", "llama3.1-8b", "llama3.1-70b"),
    ("cascades_medmcqa", "llama3.2-3b", "llama3.1-70b"),
    ("cascades_medmcqa", "gpt-4o-mini", "gpt-4o"),
    ("cascades_triviaqa", "llama3.1-8b", "llama3.1-405b"),
    ("cascades_triviaqa", "llama3.1-8b", "llama3.1-70b"),
    ("cascades_triviaqa", "llama3.2-3b", "llama3.1-70b"),
    ("cascades_triviaqa", "gpt-4o-mini", "gpt-4o"),
    ("cascades_truthfulqa", "llama3.1-8b", "llama3.1-405b"),
    ("cascades_truthfulqa", "llama3.1-8b", "llama3.1-70b"),
    ("cascades_truthfulqa", "llama3.2-3b", "llama3.1-70b"),
    ("cascades_truthfulqa", "gpt-4o-mini", "gpt-4o"),
    ("cascades_gsm8k", "llama3.1-8b", "llama3.1-405b"),
    ("cascades_gsm8k", "llama3.1-8b", "llama3.1-70b"),
    ("cascades_gsm8k", "llama3.2-3b", "llama3.1-70b"),
    ("cascades_gsm8k", "gpt-4o-mini", "gpt-4o"),
    ("mot_date", "GPT3/cot1", "GPT4/cot1"),
    ("mot_date", "GPT3/cot2", "GPT4/cot2"),
    ("mot_date", "GPT3/pot1", "GPT4/pot1"),
    ("mot_date", "llama2_13B/cot2", "GPT4/cot2"),
    ("mot_date", "llama2_13B/pot2", "GPT4/pot2"),
    ("mot_gsm", "llama2_13B/pot1", "GPT4/pot1"),
    ("mot_gsm", "llama2_13B/pot2", "GPT4/cot1"),
    ("mot_crepe", "llama2_13B/pot1_V2", "GPT4/pot1"),
    ("mot_crepe", "llama2_13B/pot2_V2", "GPT4/pot2"),
    ("medqa_3slm", "mistral7b/zeroshot", "llama31/zeroshot"),
    ("medqa_3slm", "mistral7b/fewshot", "llama31/fewshot"),
    ("medqa_3slm", "qwen2_7b/zeroshot", "llama31/zeroshot"),
    ("medqa_3slm", "qwen2_7b/fewshot", "llama31/fewshot"),
    ("mmlu_pro", "Meta-Llama-3_1-8B-Instruct", "Meta-Llama-3_1-70B-Instruct"),
    ("mmlu_pro", "Meta-Llama-3_1-8B-Instruct", "gemini-1.5-pro-002"),
    ("mmlu_pro", "Mistral-7B-Instruct-v0.2", "Meta-Llama-3_1-70B-Instruct"),
    ("mmlu_pro", "Phi-3-mini-4k-instruct", "gemini-1.5-pro-002"),
    ("mmlu_pro", "gemini-1.5-flash-002", "gemini-1.5-pro-002"),
];

/// Outcomes to fit on and, where the set has them, others to judge.
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) train: Vec<Outcome>,
    pub(super) test: Option<Vec<Outcome>>,
}

impl Set {
    pub(super) fn read(data: &Path, name: &'static str) -> Result<Self> {
        let recorded = |file: &str| data.join("outcomes/recorded").join(format!("{file}.jsonl.zst"));
        let read = |file: &str| {
            let path = recorded(file);
            outcome::read(&path.display().to_string(), unpacked(&path)?)
        };
        let (train, test) = match name {
            "mmlu_pro" => (with_texts(data, read("mmlu_pro_dev")?)?, None),
            "cascades_mmlu" => (read("cascades_mmlu_train")?, Some(read("cascades_mmlu_test")?)),
            cascades if cascades.starts_with("cascades_") => (read(&format!("{cascades}_train"))?, None),
            other => (read(other)?, None),
        };
        Ok(Self { name, train, test })
    }
}

fn unpacked(path: &Path) -> Result<BufReader<impl Read + use<>>> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| missing(&name, &e))?;
    Ok(BufReader::new(zstd::Decoder::new(file).map_err(|e| missing(&name, &e))?))
}

/// Adds the full texts of six models, which are in a file of their own.
fn with_texts(data: &Path, mut outcomes: Vec<Outcome>) -> Result<Vec<Outcome>> {
    #[derive(serde::Deserialize)]
    struct Line {
        question_id: u64,
        texts: HashMap<String, String>,
    }
    let path = data.join("outcomes/mmlu_pro/texts_6_models_dev.jsonl.zst");
    let name = path.display().to_string();
    let mut texts = HashMap::new();
    for line in unpacked(&path)?.lines() {
        let line = line.map_err(|e| missing(&name, &e))?;
        let line: Line = serde_json::from_str(&line).map_err(|e| Error::data(format!("read {name}: {e}")))?;
        texts.insert(format!("mmlu_pro-{}", line.question_id), line.texts);
    }
    for outcome in &mut outcomes {
        let Some(texts) = texts.get_mut(&outcome.id) else { continue };
        for (model, answer) in &mut outcome.models {
            answer.text = texts.remove(model);
        }
    }
    Ok(outcomes)
}
