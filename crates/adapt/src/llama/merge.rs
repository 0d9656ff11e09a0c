//! A model with its adapters folded in, as files that need no base: GGUF for llama.cpp, safetensors for Hugging Face's
//! libraries. Of a matrix W with an adapter, W + scale · B · A is written; one tensor at a time is in memory beside the
//! network.

use crate::artifact::{Content, put_folder};
use crate::llama::config::LlamaConfig;
use crate::llama::dense::Dense;
use crate::llama::gguf::Gguf;
use crate::llama::gguf_write::{self, Floats, Value};
use crate::llama::lora::LlamaTarget;
use crate::llama::network::LlamaNetwork;
use crate::llama::weights::interleave;
use crate::tensors;
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use understudy_core::{Error, Result};
use understudy_model::generate::FileType;

/// How the numbers of matrices are written; vectors are always F32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// 32 bits: exactly what was trained.
    F32,
    /// 16 bits, with 11 of precision.
    F16,
}

impl Numbers {
    fn floats(self) -> Floats {
        match self {
            Self::F32 => Floats::F32,
            Self::F16 => Floats::F16,
        }
    }

    /// What a GGUF file of such numbers calls itself.
    #[must_use]
    pub fn file_type(self) -> FileType {
        match self {
            Self::F32 => FileType::F32,
            Self::F16 => FileType::F16,
        }
    }
}

/// Where a tensor's numbers are.
#[derive(Clone, Copy)]
enum From<'a> {
    Plain(&'a [f32]),
    /// A part of a layer, and its heads where GGUF files interleave their rows.
    Weight(&'a Dense, usize, usize, Option<usize>),
}

/// A tensor of the merged model.
struct Tensor<'a> {
    gguf: String,
    hub: String,
    /// Slowest first.
    shape: Vec<usize>,
    from: From<'a>,
    /// Heads whose rows GGUF files interleave (of a bias; weights have theirs in `from`).
    heads: Option<usize>,
}

impl LlamaNetwork {
    fn merged(&self) -> Vec<Tensor<'_>> {
        let c = &self.config;
        let mut all = Vec::new();
        let plain = |gguf: &str, hub: &str, shape: Vec<usize>, values| Tensor {
            gguf: gguf.to_owned(),
            hub: hub.to_owned(),
            shape,
            from: From::Plain(values),
            heads: None,
        };
        all.push(plain(
            "token_embd.weight",
            "model.embed_tokens.weight",
            vec![c.vocabulary, c.width],
            self.table.as_slice(),
        ));
        all.push(plain("output_norm.weight", "model.norm.weight", vec![c.width], &self.norm));
        if let Some(output) = &self.output {
            all.push(plain("output.weight", "lm_head.weight", vec![c.vocabulary, c.width], output));
        }
        let (q, kv) = (c.heads * c.head_width, c.kv_heads * c.head_width);
        for (i, layer) in self.layers.iter().enumerate() {
            let names = |gguf: &str, hub: &str| (format!("blk.{i}.{gguf}"), format!("model.layers.{i}.{hub}"));
            for (gguf, hub, values) in [
                ("attn_norm.weight", "input_layernorm.weight", &layer.attention_norm),
                ("ffn_norm.weight", "post_attention_layernorm.weight", &layer.feed_norm),
            ] {
                let (gguf, hub) = names(gguf, hub);
                all.push(plain(&gguf, &hub, vec![c.width], values));
            }
            let parts = [
                (LlamaTarget::Query, &layer.qkv, 0, q, Some(c.heads)),
                (LlamaTarget::Key, &layer.qkv, q, kv, Some(c.kv_heads)),
                (LlamaTarget::Value, &layer.qkv, q + kv, kv, None),
                (LlamaTarget::Output, &layer.attended, 0, c.width, None),
                (LlamaTarget::Gate, &layer.gate_up, 0, c.inner, None),
                (LlamaTarget::Up, &layer.gate_up, c.inner, c.inner, None),
                (LlamaTarget::Down, &layer.down, 0, c.width, None),
            ];
            for (target, dense, first, outputs, heads) in parts {
                let (gguf, hub) = names(target.names().0, target.names().1);
                all.push(Tensor {
                    gguf: format!("{gguf}.weight"),
                    hub: format!("{hub}.weight"),
                    shape: vec![outputs, dense.inputs],
                    from: From::Weight(dense, first, outputs, heads),
                    heads: None,
                });
                if let Some(offsets) = dense.offsets(first, outputs) {
                    let from = From::Plain(offsets);
                    let (gguf, hub) = (format!("{gguf}.bias"), format!("{hub}.bias"));
                    all.push(Tensor { gguf, hub, shape: vec![outputs], from, heads });
                }
            }
        }
        all
    }

    /// A tensor's numbers as Hugging Face's layout has them.
    fn numbers<'a>(&'a self, tensor: &Tensor<'a>) -> Cow<'a, [f32]> {
        match tensor.from {
            From::Plain(values) => Cow::Borrowed(values),
            From::Weight(dense, first, outputs, _) => dense.merged(&self.parameters, first, outputs),
        }
    }

    /// … and as GGUF files of the family have them.
    fn served_numbers<'a>(&'a self, tensor: &Tensor<'a>) -> Cow<'a, [f32]> {
        let numbers = self.numbers(tensor);
        let (heads, width) = match tensor.from {
            From::Plain(_) => (tensor.heads, 1),
            From::Weight(dense, _, _, heads) => (heads, dense.inputs),
        };
        match heads.filter(|_| self.interleaved) {
            Some(heads) => Cow::Owned(interleave(&numbers, heads, width)),
            None => numbers,
        }
    }

    /// Writes the model with its adapters folded in as a GGUF file. Tokeniser, template and everything else that is no
    /// tensor come from `like`: the base's own file.
    ///
    /// # Errors
    /// `NotFound` or `Data` when `like` cannot be read or is of another shape; `Data` when writing fails.
    pub fn write_gguf(&self, like: &Path, name: &str, numbers: Numbers, to: &Path) -> Result<()> {
        let mut base = Gguf::open(like)?;
        let mut config = LlamaConfig::from_gguf(&base, self.config.vocabulary)?;
        // How long texts may be is the base's to say.
        config.positions = self.config.positions;
        if config != self.config
            || base.text("general.architecture")? != self.family
            || base.rows("token_embd.weight") != Some(self.config.vocabulary)
        {
            return Err(Error::data(format!(
                "write {}: the model is of another shape than {}, whose tokeniser it should have",
                to.display(),
                like.display()
            )));
        }
        // What is written anew, and what says how the other file lies on its disk or was quantised.
        let own = ["general.name", "general.file_type", "general.quantization_version", "general.alignment"];
        let other = |key: &str| own.contains(&key) || key.starts_with("split.") || key.starts_with("quantize.");
        let kept = base.raw_values(|key| !other(key))?;
        let mut values: Vec<(&str, Value<'_>)> =
            kept.iter().map(|(key, bytes)| (key.as_str(), Value::Raw(bytes))).collect();
        values.push(("general.name", Value::Text(name)));
        values.push(("general.file_type", Value::U32(numbers.file_type().code())));
        let mut all = self.merged();
        if !self.factors.is_empty() {
            let name = "rope_freqs.weight".to_owned();
            let shape = vec![self.factors.len()];
            all.push(Tensor { hub: String::new(), gguf: name, shape, from: From::Plain(&self.factors), heads: None });
        }
        let heads: Vec<gguf_write::Tensor> = all
            .iter()
            .map(|tensor| gguf_write::Tensor {
                name: tensor.gguf.clone(),
                shape: tensor.shape.iter().rev().copied().collect(),
                floats: if tensor.shape.len() == 1 { Floats::F32 } else { numbers.floats() },
            })
            .collect();
        let failed = |e: std::io::Error| Error::data(format!("write {}: {e}", to.display()));
        let file = File::create(to).map_err(failed)?;
        let mut buffer = BufWriter::with_capacity(1 << 20, &file);
        gguf_write::write_to(&mut buffer, &values, &heads, |i| self.served_numbers(&all[i])).map_err(failed)?;
        buffer.flush().map_err(failed)?;
        drop(buffer);
        file.sync_all().map_err(failed)
    }

    /// Writes `config.json` and `model.safetensors` (F32) of the model with its adapters folded in, as `transformers`
    /// loads them. The tokeniser is no part of it. A model that the folder holds is replaced with all its files; what may
    /// happen to it is as of [`crate::artifact::write`].
    ///
    /// # Errors
    /// `Invalid` when the model has what that layout cannot say, or the folder is not empty and holds no model of that
    /// layout; `Data` when writing fails.
    pub fn write_folder(&self, folder: &Path) -> Result<()> {
        self.write_folder_with(folder, &BTreeMap::new())
    }

    /// The same with further files by name: those of the tokeniser ([`crate::llama::tokenizer_files`]).
    ///
    /// # Errors
    /// As [`LlamaNetwork::write_folder`].
    pub fn write_folder_with(&self, folder: &Path, further: &BTreeMap<String, Vec<u8>>) -> Result<()> {
        let c = &self.config;
        if !self.factors.is_empty() {
            return Err(Error::invalid("write safetensors: the model scales its rotary angles; write GGUF instead"));
        }
        let qwen = self.family == "qwen2";
        if !qwen && self.layers.iter().any(|layer| layer.qkv.offsets(0, 1).is_some()) {
            return Err(Error::invalid("write safetensors: a model of this family with biases; write GGUF instead"));
        }
        let config = json!({
            "architectures": [if qwen { "Qwen2ForCausalLM" } else { "LlamaForCausalLM" }],
            "model_type": if qwen { "qwen2" } else { "llama" },
            "vocab_size": c.vocabulary, "hidden_size": c.width, "num_hidden_layers": c.layers,
            "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads, "head_dim": c.head_width,
            "intermediate_size": c.inner, "rms_norm_eps": c.epsilon, "rope_theta": c.theta,
            "max_position_embeddings": c.positions, "hidden_act": "silu",
            "tie_word_embeddings": self.output.is_none(), "torch_dtype": "float32",
        });
        let (config, all) = (format!("{config:#}\n"), self.merged());
        let written: Vec<tensors::Tensor<'_>> = all
            .iter()
            .map(|tensor| tensors::Tensor {
                name: tensor.hub.clone(),
                shape: tensor.shape.clone(),
                data: tensors::Data::Later(Box::new(|| self.numbers(tensor))),
            })
            .collect();
        let weights = |mut to: &mut dyn Write| tensors::write_to(&mut to, &written, &[("format", "pt")]);
        let own = [(CONFIG, Content::Bytes(config.as_bytes())), ("model.safetensors", Content::Made(&weights))];
        let further = further.iter().map(|(file, bytes)| (file.as_str(), Content::Bytes(bytes)));
        put_folder(folder, holds_model(folder)?, further.chain(own))
    }
}

/// What tells a folder in Hugging Face's layout, beside weights.
const CONFIG: &str = "config.json";

/// True when the folder holds a model in Hugging Face's layout, false when it is empty or missing; an error when it holds
/// anything else.
fn holds_model(folder: &Path) -> Result<bool> {
    let failed = |e: std::io::Error| Error::data(format!("write {}: {e}", folder.display()));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>().map_err(failed)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(failed(e)),
    };
    if entries.is_empty() {
        return Ok(false);
    }
    let weights = |path: &Path| path.extension().is_some_and(|end| end == "safetensors");
    if folder.join(CONFIG).exists() && entries.iter().any(|entry| weights(&entry.path())) {
        return Ok(true);
    }
    Err(Error::invalid(format!(
        "write {}: the folder is not empty and holds no model ({CONFIG} and safetensors); choose another one",
        folder.display()
    )))
}
