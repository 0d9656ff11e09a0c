//! The adapter as files: in PEFT's layout, and as llama.cpp reads it.

use crate::llama::gguf_write::{self, Floats, Value};
use crate::llama::lora::LlamaTarget;
use crate::llama::network::LlamaNetwork;
use crate::llama::weights::interleave;
use crate::tensors::{self, Data, Tensor};
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use understudy_core::{Error, Result};

/// One adapter's halves.
struct Pair<'a> {
    layer: usize,
    target: LlamaTarget,
    a: &'a [f32],
    b: &'a [f32],
    inputs: usize,
    outputs: usize,
}

impl LlamaNetwork {
    fn pairs(&self) -> Vec<Pair<'_>> {
        let mut pairs = Vec::new();
        let rank = self.lora().rank;
        let mut parameters = self.parameters().iter();
        // Each A parameter holds those of all its parts, whose B follow it.
        while let Some(a) = parameters.next() {
            let inputs = a.shape()[1];
            for (name, half) in a.names().iter().zip(a.values().chunks_exact(rank * inputs)) {
                let b = parameters.next().expect("every A has its B behind it");
                let target = LlamaTarget::ALL.into_iter().find(|target| name.contains(target.names().1));
                let target = target.expect("parameters are named after their targets");
                let (layer, outputs) = (a.depth() - 1, b.shape()[0]);
                pairs.push(Pair { layer, target, a: half, b: b.values(), inputs, outputs });
            }
        }
        pairs
    }

    /// `adapter_config.json` and `adapter_model.safetensors`, as PEFT reads them, by name. `base` names the model.
    ///
    /// # Errors
    /// `Internal` when memory does not suffice.
    pub fn peft_files(&self, base: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        let rank = self.lora().rank;
        let mut written = Vec::new();
        for pair in self.pairs() {
            let stem = format!("base_model.model.model.layers.{}.{}", pair.layer, pair.target.names().1);
            let tensor = |end: &str, shape: [usize; 2], values| Tensor {
                name: format!("{stem}.{end}.weight"),
                shape: shape.to_vec(),
                data: Data::F32(values),
            };
            written.push(tensor("lora_A", [rank, pair.inputs], pair.a));
            written.push(tensor("lora_B", [pair.outputs, rank], pair.b));
        }
        let mut targets = self.lora().targets.clone();
        targets.sort_unstable();
        let modules: Vec<&str> =
            targets.iter().map(|t| t.names().1.rsplit_once('.').map_or("", |(_, name)| name)).collect();
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base,
            "r": rank, "lora_alpha": self.lora().alpha, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": false,
            "target_modules": modules, "inference_mode": true,
        });
        let mut weights = Vec::new();
        tensors::write_to(&mut weights, &written, &[("format", "pt")])
            .map_err(|e| Error::internal(format!("write the adapter: {e}")))?;
        Ok([
            ("adapter_config.json".to_owned(), format!("{config:#}\n").into_bytes()),
            ("adapter_model.safetensors".to_owned(), weights),
        ]
        .into())
    }

    /// The adapter as a GGUF file for llama.cpp.
    ///
    /// # Errors
    /// `Internal` when memory does not suffice.
    #[expect(clippy::cast_possible_truncation, reason = "the format has f32")]
    pub fn gguf_adapter(&self, name: &str) -> Result<Vec<u8>> {
        let config = self.config();
        let (mut written, mut numbers) = (Vec::new(), Vec::new());
        let rank = self.lora().rank;
        for pair in self.pairs() {
            let stem = format!("blk.{}.{}.weight", pair.layer, pair.target.names().0);
            let heads = match pair.target {
                LlamaTarget::Query => config.heads,
                LlamaTarget::Key => config.kv_heads,
                _ => 0,
            };
            let b = if self.interleaved && heads > 0 {
                Cow::Owned(interleave(pair.b, heads, rank))
            } else {
                Cow::Borrowed(pair.b)
            };
            let mut add = |end: &str, shape: [usize; 2], values: Cow<'_, [f32]>| {
                let (name, shape) = (format!("{stem}.{end}"), shape.to_vec());
                written.push(gguf_write::Tensor { name, shape, floats: Floats::F32 });
                numbers.push(values.into_owned());
            };
            add("lora_a", [pair.inputs, rank], Cow::Borrowed(pair.a));
            add("lora_b", [rank, pair.outputs], b);
        }
        let values = [
            ("general.type", Value::Text("adapter")),
            ("general.architecture", Value::Text(&self.family)),
            ("general.name", Value::Text(name)),
            ("adapter.type", Value::Text("lora")),
            ("adapter.lora.alpha", Value::F32(self.lora().alpha as f32)),
        ];
        let mut bytes = Vec::new();
        gguf_write::write_to(&mut bytes, &values, &written, |i| Cow::Borrowed(numbers[i].as_slice()))
            .map_err(|e| Error::internal(format!("write the adapter: {e}")))?;
        Ok(bytes)
    }
}
