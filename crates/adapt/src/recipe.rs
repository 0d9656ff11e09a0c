//! Jobs for machines with GPUs: the files that TRL, Axolotl or torchtune run, from the settings that training here takes.
//! What comes out of them comes back through `adapt import`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use understudy_core::{Error, Result};

/// What runs the job, and the release whose settings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framework {
    /// Hugging Face's TRL: a Python script.
    Trl,
    /// Axolotl: a configuration.
    Axolotl,
    /// torchtune: a configuration; LoRA on one GPU.
    Torchtune,
}

/// Releases that the files were checked against.
const TRL: [(&str, &str); 3] = [("trl", "1.16.0"), ("peft", "0.21.2"), ("transformers", "5.23.0")];
const AXOLOTL: [(&str, &str); 1] = [("axolotl", "0.19.0")];
const TORCHTUNE: [(&str, &str); 1] = [("torchtune", "0.6.1")];

impl Framework {
    /// The packages that it needs, in the releases that were checked.
    #[must_use]
    pub fn packages(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Trl => &TRL,
            Self::Axolotl => &AXOLOTL,
            Self::Torchtune => &TORCHTUNE,
        }
    }
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Low-rank adapters on all seven linear layers.
    Lora,
    /// All weights.
    Full,
}

/// The settings of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What runs it.
    pub framework: Framework,
    /// What is trained.
    pub method: Method,
    /// Name of the base here.
    pub base: String,
    /// Its name on the model hub, where the job loads it from.
    pub hub: String,
    /// Passes over the data.
    pub epochs: usize,
    /// Highest learning rate.
    pub rate: f64,
    /// Conversations of a step, over all GPUs.
    pub batch: usize,
    /// Conversations that a GPU takes at a time.
    pub per_device: usize,
    /// GPUs.
    pub gpus: usize,
    /// Rank of the adapters; α is twice that.
    pub rank: usize,
    /// Longest conversation.
    pub max_tokens: usize,
    /// Seed of the order and of the adapters.
    pub seed: u64,
}

impl Settings {
    /// The job's own files by name (data and `recipe.json` are the caller's), for `rows` conversations.
    ///
    /// # Errors
    /// `Invalid`, naming the field, when a setting is out of range or the framework cannot do it.
    pub fn files(&self, rows: usize) -> Result<BTreeMap<String, String>> {
        self.check()?;
        let mut values: BTreeMap<&str, String> = BTreeMap::new();
        for package in [&TRL[..], &AXOLOTL, &TORCHTUNE].concat() {
            values.insert(package.0, package.1.to_owned());
        }
        let accumulation = (self.batch / (self.per_device * self.gpus)).max(1);
        let steps = rows.div_ceil(self.batch).max(1) * self.epochs;
        values.extend([
            ("base", self.base.clone()),
            ("hub", quoted(&self.hub)),
            ("epochs", self.epochs.to_string()),
            // Digits and a point: YAML reads 1e-4 as a text.
            ("rate", format!("{:.10}", self.rate).trim_end_matches('0').to_owned()),
            ("per_device", self.per_device.to_string()),
            ("accumulation", accumulation.to_string()),
            ("warmup", steps.div_ceil(20).to_string()),
            ("rank", self.rank.to_string()),
            ("alpha", (2 * self.rank).to_string()),
            ("max_tokens", self.max_tokens.to_string()),
            ("seed", self.seed.to_string()),
        ]);
        let (name, template) = match self.framework {
            Framework::Trl => {
                values.insert("lora", if self.method == Method::Lora { "True" } else { "False" }.to_owned());
                ("train.py", include_str!("recipe/train.py"))
            }
            Framework::Axolotl => {
                let adapter = format!(
                    "adapter: lora\nlora_r: {}\nlora_alpha: {}\nlora_dropout: 0.0\nlora_target_linear: true\n",
                    self.rank,
                    2 * self.rank
                );
                values.insert("adapter", if self.method == Method::Lora { adapter } else { String::new() });
                ("axolotl.yml", include_str!("recipe/axolotl.yml"))
            }
            Framework::Torchtune => {
                let known = torchtune(&self.hub).ok_or_else(|| self.no_builder())?;
                values.insert("component", known.component.to_owned());
                values.insert("type", known.kind.to_owned());
                values.insert("files", quoted_list(known.files));
                values.insert("tokenizer", known.tokenizer.to_owned());
                ("torchtune.yaml", include_str!("recipe/torchtune.yaml"))
            }
        };
        let requirements: String =
            self.framework.packages().iter().map(|(name, version)| format!("{name}=={version}\n")).collect();
        Ok([(name.to_owned(), filled(template, &values)), ("requirements.txt".to_owned(), requirements)].into())
    }

    /// The commands that run the job, one a line.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let mut all = vec!["python -m venv venv && . venv/bin/activate".to_owned()];
        all.push("pip install -r requirements.txt".to_owned());
        match self.framework {
            Framework::Trl if self.gpus > 1 => {
                all.push(format!("accelerate launch --num_processes {} train.py", self.gpus))
            }
            Framework::Trl => all.push("python train.py".to_owned()),
            Framework::Axolotl if self.gpus > 1 => {
                all.push(format!("axolotl train axolotl.yml --num-processes {}", self.gpus));
            }
            Framework::Axolotl => all.push("axolotl train axolotl.yml".to_owned()),
            Framework::Torchtune => {
                all.push("pip install torch torchao".to_owned());
                all.push(format!("tune download {} --output-dir base", self.hub));
                all.push("tune validate torchtune.yaml".to_owned());
                all.push("tune run lora_finetune_single_device --config torchtune.yaml".to_owned());
            }
        }
        all
    }

    /// Where the framework leaves what it trained, below the job's folder.
    #[must_use]
    pub fn result(&self) -> String {
        match self.framework {
            Framework::Trl | Framework::Axolotl => "out".to_owned(),
            // It counts epochs from 0.
            Framework::Torchtune => format!("out/epoch_{}", self.epochs.saturating_sub(1)),
        }
    }

    fn no_builder(&self) -> Error {
        Error::invalid(format!(
            "write a torchtune job for {}: torchtune has no builder for it (it has Llama 3.2 1B and 3B, Qwen2.5 0.5B, 1.5B, \
             3B and 7B, as instructed models); --framework trl or axolotl take any",
            self.hub
        ))
        .with_param("framework")
    }

    fn check(&self) -> Result<()> {
        let wrong =
            |field: &str, what: &str| Err(Error::invalid(format!("write a job: `{field}` {what}")).with_param(field));
        if !(self.rate.is_finite() && self.rate >= 1e-9 && self.rate <= 1.0) {
            return wrong("rate", "must be between 1e-9 and 1");
        }
        for (field, value) in [
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("per_device", self.per_device),
            ("gpus", self.gpus),
            ("rank", self.rank),
        ] {
            if value == 0 || value > 100_000 {
                return wrong(field, "must be 1 to 100,000");
            }
        }
        if !self.batch.is_multiple_of(self.per_device * self.gpus) {
            return wrong("batch", "must be a multiple of --per-device times --gpus");
        }
        if self.framework == Framework::Torchtune && (self.method == Method::Full || self.gpus > 1) {
            return wrong(
                "framework",
                "torchtune is written for LoRA on one GPU; --framework trl or axolotl do the others",
            );
        }
        if self.hub.is_empty() || self.hub.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return wrong("hub", "must be a name on the model hub, such as Qwen/Qwen2.5-0.5B-Instruct");
        }
        Ok(())
    }
}

/// What torchtune calls a model.
struct Torchtune {
    component: &'static str,
    kind: &'static str,
    files: &'static [&'static str],
    tokenizer: &'static str,
}

const QWEN: &str = "  _component_: torchtune.models.qwen2_5.qwen2_5_tokenizer
  path: base/vocab.json
  merges_file: base/merges.txt
";
const LLAMA: &str = "  _component_: torchtune.models.llama3.llama3_tokenizer
  path: base/original/tokenizer.model
";
const ONE: &[&str] = &["model.safetensors"];
const TWO: &[&str] = &["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
const FOUR: &[&str] = &[
    "model-00001-of-00004.safetensors",
    "model-00002-of-00004.safetensors",
    "model-00003-of-00004.safetensors",
    "model-00004-of-00004.safetensors",
];

fn torchtune(hub: &str) -> Option<Torchtune> {
    let (component, kind, files, tokenizer) = match hub {
        "Qwen/Qwen2.5-0.5B-Instruct" => ("torchtune.models.qwen2_5.lora_qwen2_5_0_5b", "QWEN2", ONE, QWEN),
        "Qwen/Qwen2.5-1.5B-Instruct" => ("torchtune.models.qwen2_5.lora_qwen2_5_1_5b_instruct", "QWEN2", ONE, QWEN),
        "Qwen/Qwen2.5-3B-Instruct" => ("torchtune.models.qwen2_5.lora_qwen2_5_3b", "QWEN2", TWO, QWEN),
        "Qwen/Qwen2.5-7B-Instruct" => ("torchtune.models.qwen2_5.lora_qwen2_5_7b_instruct", "QWEN2", FOUR, QWEN),
        "meta-llama/Llama-3.2-1B-Instruct" => ("torchtune.models.llama3_2.lora_llama3_2_1b", "LLAMA3_2", ONE, LLAMA),
        "meta-llama/Llama-3.2-3B-Instruct" => ("torchtune.models.llama3_2.lora_llama3_2_3b", "LLAMA3_2", TWO, LLAMA),
        _ => return None,
    };
    Some(Torchtune { component, kind, files, tokenizer })
}

/// A text as JSON, which Python and YAML read too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn quoted_list(texts: &[&str]) -> String {
    serde_json::Value::from(texts.to_vec()).to_string()
}

/// The template with the values in their places.
fn filled(template: &str, values: &BTreeMap<&str, String>) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(framework: Framework) -> Settings {
        Settings {
            framework,
            method: Method::Lora,
            base: "qwen".into(),
            hub: "Qwen/Qwen2.5-0.5B-Instruct".into(),
            epochs: 2,
            rate: 1e-4,
            batch: 16,
            per_device: 4,
            gpus: 1,
            rank: 16,
            max_tokens: 512,
            seed: 7,
        }
    }

    #[test]
    fn every_place_of_every_template_is_filled() {
        for framework in [Framework::Trl, Framework::Axolotl, Framework::Torchtune] {
            let files = settings(framework).files(1_000).unwrap();
            for (name, text) in &files {
                assert!(!text.contains("{{") && !text.contains("}}"), "{name}: {text}");
            }
            assert!(files["requirements.txt"].contains("=="));
            let job = files.values().find(|text| text.contains("Written by")).unwrap();
            assert!(
                job.contains("0.0001") && job.contains("qwen") && job.contains(": 7") | job.contains("=7"),
                "{job}"
            );
        }
        let full = Settings { method: Method::Full, ..settings(Framework::Axolotl) };
        assert!(!full.files(10).unwrap()["axolotl.yml"].contains("lora"));
    }

    #[test]
    fn what_a_framework_cannot_do_is_refused() {
        let told = |settings: Settings| settings.files(10).unwrap_err().to_string();
        assert!(told(Settings { hub: "a/b".into(), ..settings(Framework::Torchtune) }).contains("no builder"));
        assert!(told(Settings { gpus: 2, per_device: 2, ..settings(Framework::Torchtune) }).contains("one GPU"));
        assert!(told(Settings { per_device: 3, ..settings(Framework::Trl) }).contains("multiple"));
        assert!(told(Settings { rate: f64::NAN, ..settings(Framework::Trl) }).contains("rate"));
        assert!(told(Settings { hub: "a b".into(), ..settings(Framework::Trl) }).contains("hub"));
    }
}
