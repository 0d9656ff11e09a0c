//! Reads adapters in PEFT's layout, ours or anybody's, onto the model that they are of.

use crate::llama::lora::{LlamaLora, LlamaTarget};
use crate::llama::network::LlamaNetwork;
use crate::llama::weights::Weights;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use understudy_core::{Error, Result, Seed};

/// What `adapter_config.json` says, as far as it changes the numbers.
#[derive(Deserialize)]
struct Config {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    lora_bias: bool,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    init_lora_weights: serde_json::Value,
    #[serde(default)]
    alora_invocation_tokens: Option<serde_json::Value>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, serde_json::Value>,
}

/// Initialisations by name that leave the base as it is.
const PLAIN_STARTS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// An adapter as its file has it.
struct Found {
    shape: [usize; 2],
    values: Vec<f32>,
}

impl LlamaNetwork {
    /// A model with the adapter of `adapter_config.json` and `adapter_model.safetensors`, whose contents are given.
    ///
    /// # Errors
    /// `Data`, naming what is at fault, when the adapter is of another kind than plain LoRA on linear layers, or of a model
    /// of another shape.
    pub fn from_peft(weights: Weights, config: &[u8], tensors: &[u8], positions: usize) -> Result<Self> {
        let lora = read_config(config)?;
        let mut found = read_tensors(tensors)?;
        let stems: BTreeSet<&str> = found.keys().filter_map(|name| name.split(".lora_").next()).collect();
        let targets = LlamaTarget::ALL.into_iter().filter(|t| stems.iter().any(|stem| stem.ends_with(t.names().1)));
        let lora = LlamaLora { targets: targets.collect(), ..lora };
        if lora.targets.is_empty() {
            return Err(Error::data("read the adapter: it has no layer of a model of the Llama family"));
        }
        let rank = lora.rank;
        let mut network = Self::new(weights, lora, Seed(0), positions)?;
        for index in 0..network.parameters.len() {
            let parameter = &mut network.parameters[index];
            let size = parameter.values.len() / parameter.names.len();
            for (name, to) in parameter.names.iter().zip(parameter.values.chunks_exact_mut(size)) {
                // An adapter that leaves some layers alone adds nothing there.
                let Some(adapter) = found.remove(name) else {
                    to.fill(0.0);
                    continue;
                };
                let inner = if name.contains("lora_A") { adapter.shape[0] } else { adapter.shape[1] };
                if adapter.values.len() != size || inner != rank {
                    return Err(Error::data(format!(
                        "read the adapter: {name} has shape {:?}, which fits neither rank {rank} nor this base",
                        adapter.shape
                    )));
                }
                to.copy_from_slice(&adapter.values);
            }
        }
        if let Some(name) = found.keys().next() {
            return Err(Error::data(format!("read the adapter: the base has no place for {name}")));
        }
        network.refresh();
        Ok(network)
    }
}

fn read_config(bytes: &[u8]) -> Result<LlamaLora> {
    let wrong = |what: String| Error::data(format!("read adapter_config.json: {what}"));
    let config: Config = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
    let refused = [
        (config.peft_type != "LORA", "peft_type other than LORA"),
        (config.use_dora, "use_dora"),
        (config.fan_in_fan_out, "fan_in_fan_out"),
        (config.lora_bias || config.bias.is_some_and(|bias| bias != "none"), "a trained bias"),
        (config.modules_to_save.is_some_and(|modules| !modules.is_empty()), "modules_to_save"),
        (!config.rank_pattern.is_empty() || !config.alpha_pattern.is_empty(), "rank_pattern or alpha_pattern"),
    ];
    if let Some((_, what)) = refused.iter().find(|(is, _)| *is) {
        return Err(wrong(format!("{what} is not supported; merge the adapter into its base where it was trained")));
    }
    // An adapter that works only behind some tokens has no plain or merged form.
    if config.alora_invocation_tokens.is_some() {
        return Err(wrong("alora_invocation_tokens is not supported; train it as plain LoRA, without them".into()));
    }
    // Others than these begin with changed base weights: the adapter is no difference to the base as it is published.
    if let Some(start) = config.init_lora_weights.as_str().filter(|start| !PLAIN_STARTS.contains(start)) {
        return Err(wrong(format!(
            "init_lora_weights `{start}` changed the base that it was trained on; save it as plain LoRA with PEFT's \
             `path_initial_model_for_weight_conversion`, or merge it there and import the merged model"
        )));
    }
    // Rank-stabilised adapters count α / √rank times.
    let alpha = if config.use_rslora { config.lora_alpha * (config.r as f64).sqrt() } else { config.lora_alpha };
    let lora = LlamaLora { rank: config.r, alpha, targets: LlamaTarget::ALL.to_vec() };
    lora.check().map_err(|e| wrong(e.to_string()))?;
    Ok(lora)
}

/// Tensors by the names that the network gives its parameters.
fn read_tensors(bytes: &[u8]) -> Result<BTreeMap<String, Found>> {
    let wrong = |what: String| Error::data(format!("read adapter_model.safetensors: {what}"));
    let file = SafeTensors::deserialize(bytes).map_err(|e| wrong(e.to_string()))?;
    let mut found = BTreeMap::new();
    for (name, tensor) in file.iter() {
        let known = name.strip_prefix("base_model.model.").filter(|name| name.contains(".lora_"));
        let known = known.ok_or_else(|| wrong(format!("tensor {name} is no adapter of a linear layer")))?;
        let pairs = || tensor.data().as_chunks::<2>().0.iter();
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => crate::tensors::floats(tensor.data()),
            Dtype::F16 => pairs().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => pairs().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
            other => return Err(wrong(format!("tensor {name} is of type {other:?}"))),
        };
        if values.iter().any(|x| !x.is_finite()) {
            return Err(wrong(format!("tensor {name} has numbers that are not finite")));
        }
        let shape = <[usize; 2]>::try_from(tensor.shape());
        let shape = shape.map_err(|_| wrong(format!("tensor {name} has shape {:?}", tensor.shape())))?;
        // Some writers leave the adapter's name in.
        found.insert(known.replace(".default.", "."), Found { shape, values });
    }
    Ok(found)
}
