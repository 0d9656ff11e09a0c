//! The frozen numbers of a model, from a GGUF file or a folder of safetensors, in one layout: Hugging Face's, in which the
//! halves of a head turn against each other. GGUF files of the `llama` architecture have them interleaved.

use crate::llama::config::LlamaConfig;
use crate::llama::gguf::Gguf;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::Path;
use understudy_core::{Error, Result};

/// A linear layer's numbers.
pub(crate) struct Linear {
    /// Outputs × inputs.
    pub(crate) weight: Vec<f32>,
    /// One for each output.
    pub(crate) bias: Option<Vec<f32>>,
}

/// One layer's numbers.
pub(crate) struct LayerWeights {
    pub(crate) attention_norm: Vec<f32>,
    /// Queries, then keys, then values.
    pub(crate) qkv: Linear,
    pub(crate) attended: Linear,
    pub(crate) feed_norm: Vec<f32>,
    /// Gates, then ups.
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
}

/// All numbers of a model.
pub struct Weights {
    pub(crate) config: LlamaConfig,
    /// Vocabulary × width.
    pub(crate) table: Vec<f32>,
    pub(crate) layers: Vec<LayerWeights>,
    pub(crate) norm: Vec<f32>,
    /// Vocabulary × width, where it is not the table.
    pub(crate) output: Option<Vec<f32>>,
    /// Divisors of the rotary angles; empty for none.
    pub(crate) factors: Vec<f32>,
    /// Rows of queries and keys are interleaved in the file that serves.
    pub(crate) interleaved: bool,
    /// The architecture's name in GGUF.
    pub(crate) family: String,
}

/// Where tensors come from.
trait Source {
    /// The tensor by its two names: in GGUF and in Hugging Face's layout.
    fn tensor(&mut self, gguf: &str, hub: &str, count: usize) -> Result<Option<Vec<f32>>>;
}

impl Source for Gguf {
    fn tensor(&mut self, gguf: &str, _: &str, count: usize) -> Result<Option<Vec<f32>>> {
        self.floats(gguf, count)
    }
}

/// The files of a folder, in memory.
struct Folder(Vec<Vec<u8>>);

impl Source for Folder {
    fn tensor(&mut self, _: &str, hub: &str, count: usize) -> Result<Option<Vec<f32>>> {
        for bytes in &self.0 {
            let file = SafeTensors::deserialize(bytes).map_err(|e| Error::data(format!("read safetensors: {e}")))?;
            let Ok(tensor) = file.tensor(hub) else { continue };
            if tensor.shape().iter().product::<usize>() != count {
                let shape = tensor.shape();
                return Err(Error::data(format!("read tensor {hub}: it has shape {shape:?}, not {count} numbers")));
            }
            let pairs = || tensor.data().as_chunks::<2>().0.iter();
            return Ok(Some(match tensor.dtype() {
                Dtype::F32 => crate::tensors::floats(tensor.data()),
                Dtype::F16 => pairs().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
                Dtype::BF16 => pairs().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
                other => return Err(Error::data(format!("read tensor {hub}: type {other:?} is not supported"))),
            }));
        }
        Ok(None)
    }
}

impl Weights {
    /// Reads a GGUF file of any type that llama.cpp knows. One that holds quantised tensors is written as floats to a
    /// temporary file for the time of the call (4 bytes for each parameter).
    ///
    /// # Errors
    /// `NotFound` when there is no such file; `Data` when it is damaged, its architecture is not supported, or a tensor
    /// is missing.
    pub fn from_gguf(path: &Path) -> Result<Self> {
        let scratch = tempfile::tempdir().map_err(|e| Error::data(format!("make a temporary folder: {e}")))?;
        let mut file = Gguf::open_floats(path, &scratch.path().join("floats.gguf"))?;
        let rows = file.rows("token_embd.weight").unwrap_or(0);
        let config = LlamaConfig::from_gguf(&file, rows)?;
        let family = file.text("general.architecture")?.to_owned();
        let interleaved = family != "qwen2";
        let factors = file.floats("rope_freqs.weight", config.head_width / 2)?.unwrap_or_default();
        read(&mut file, config, interleaved, family, factors).map_err(|e| e.context(format!("read {}", path.display())))
    }

    /// Reads `config.json` and `model*.safetensors` of a folder.
    ///
    /// # Errors
    /// `NotFound` when a file is missing; `Data` when one is damaged, the architecture is not supported, or a tensor is
    /// missing.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let failed = |path: &Path, e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(format!("read {}: there is no such file", path.display())),
            _ => Error::data(format!("read {}: {e}", path.display())),
        };
        let path = folder.join("config.json");
        let json = std::fs::read(&path).map_err(|e| failed(&path, e))?;
        let config = LlamaConfig::from_json(&json)?;
        let family = serde_json::from_slice::<serde_json::Value>(&json).ok();
        let family = family.as_ref().and_then(|json| json["model_type"].as_str()).unwrap_or("llama");
        let family = if family == "qwen2" { "qwen2" } else { "llama" };
        let mut names = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(|e| failed(folder, e))? {
            let path = entry.map_err(|e| failed(folder, e))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with("model") && name.ends_with(".safetensors") {
                names.insert(name, path);
            }
        }
        let files = names.values().map(|path| std::fs::read(path).map_err(|e| failed(path, e)));
        let mut files = Folder(files.collect::<Result<_>>()?);
        let mut weights = read(&mut files, config, false, family.to_owned(), Vec::new())?;
        weights.interleaved = family == "llama";
        Ok(weights)
    }

    /// The model's shape.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }
}

fn read(
    source: &mut impl Source,
    config: LlamaConfig,
    interleaved: bool,
    family: String,
    factors: Vec<f32>,
) -> Result<Weights> {
    let (width, d) = (config.width, config.head_width);
    let need = |found: Option<Vec<f32>>, name: &str| {
        found.ok_or_else(|| Error::data(format!("find tensor {name}: the model has none")))
    };
    let table = source.tensor("token_embd.weight", "model.embed_tokens.weight", config.vocabulary * width)?;
    let table = need(table, "of token embeddings")?;
    let norm = need(source.tensor("output_norm.weight", "model.norm.weight", width)?, "output_norm")?;
    let output = source.tensor("output.weight", "lm_head.weight", config.vocabulary * width)?;
    let mut layers = Vec::with_capacity(config.layers);
    for layer in 0..config.layers {
        let mut one = |gguf: &str, hub: &str, count: usize| {
            let (gguf, hub) = (format!("blk.{layer}.{gguf}"), format!("model.layers.{layer}.{hub}"));
            source.tensor(&gguf, &hub, count).map(|found| (found, gguf))
        };
        let mut linear = |parts: &[(&str, &str, usize, Option<usize>)], inputs: usize| -> Result<Linear> {
            let (mut weight, mut bias) = (Vec::new(), Vec::new());
            for (gguf, hub, outputs, heads) in parts {
                let (found, name) = one(&format!("{gguf}.weight"), &format!("{hub}.weight"), outputs * inputs)?;
                let mut rows = need(found, &name)?;
                let (mut offsets, _) = one(&format!("{gguf}.bias"), &format!("{hub}.bias"), *outputs)?;
                if let Some(heads) = heads.filter(|_| interleaved) {
                    rows = halves(&rows, heads, inputs);
                    offsets = offsets.map(|offsets| halves(&offsets, heads, 1));
                }
                weight.append(&mut rows);
                bias.push(offsets);
            }
            let bias = match bias.iter().filter(|bias| bias.is_some()).count() {
                0 => None,
                // Qwen2 has them for queries, keys and values and for nothing else.
                _ => Some(
                    bias.into_iter()
                        .zip(parts)
                        .flat_map(|(bias, part)| bias.unwrap_or_else(|| vec![0.0; part.2]))
                        .collect(),
                ),
            };
            Ok(Linear { weight, bias })
        };
        let (heads, kv_heads) = (config.heads, config.kv_heads);
        let qkv = linear(
            &[
                ("attn_q", "self_attn.q_proj", heads * d, Some(heads)),
                ("attn_k", "self_attn.k_proj", kv_heads * d, Some(kv_heads)),
                ("attn_v", "self_attn.v_proj", kv_heads * d, None),
            ],
            width,
        )?;
        let attended = linear(&[("attn_output", "self_attn.o_proj", width, None)], heads * d)?;
        let gate_up = linear(
            &[("ffn_gate", "mlp.gate_proj", config.inner, None), ("ffn_up", "mlp.up_proj", config.inner, None)],
            width,
        )?;
        let down = linear(&[("ffn_down", "mlp.down_proj", width, None)], config.inner)?;
        let (attention_norm, name) = one("attn_norm.weight", "input_layernorm.weight", width)?;
        let attention_norm = need(attention_norm, &name)?;
        let (feed_norm, name) = one("ffn_norm.weight", "post_attention_layernorm.weight", width)?;
        let feed_norm = need(feed_norm, &name)?;
        layers.push(LayerWeights { attention_norm, qkv, attended, feed_norm, gate_up, down });
    }
    Ok(Weights { config, table, layers, norm, output, factors, interleaved, family })
}

/// From rows of a head that alternate between its halves to one half after the other.
pub(crate) fn halves(rows: &[f32], heads: usize, width: usize) -> Vec<f32> {
    reorder(rows, heads, width, |half, row| if row < half { 2 * row } else { 2 * (row - half) + 1 })
}

/// The inverse of [`halves`].
pub(crate) fn interleave(rows: &[f32], heads: usize, width: usize) -> Vec<f32> {
    reorder(rows, heads, width, |half, row| row / 2 + if row.is_multiple_of(2) { 0 } else { half })
}

/// Takes row `from(half, i)` of each head as its row i.
fn reorder(rows: &[f32], heads: usize, width: usize, from: impl Fn(usize, usize) -> usize) -> Vec<f32> {
    let per_head = rows.len() / heads / width;
    let mut out = Vec::with_capacity(rows.len());
    for head in rows.chunks_exact(per_head * width) {
        for row in 0..per_head {
            out.extend_from_slice(&head[from(per_head / 2, row) * width..][..width]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaving_and_parting_the_halves_of_heads_are_inverse() {
        let rows: Vec<f32> = (0..2 * 6 * 3).map(|x| x as f32).collect();
        let parted = halves(&rows, 2, 3);
        assert_eq!(interleave(&parted, 2, 3), rows);
        // The second row of the first head comes from its third: the alternation's next even row.
        assert_eq!(parted[3..6], rows[6..9]);
        assert_eq!(parted[9..12], rows[3..6]);
    }
}
