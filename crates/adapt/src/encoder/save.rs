//! Writes what was trained: an encoder's folder that Hugging Face's libraries (and `model`) read, adapters in PEFT's
//! layout.

use crate::encoder::network::Network;
use crate::tensors::{self, Data, Tensor};
use safetensors::Dtype;
use serde_json::json;
use std::{borrow::Cow, collections::BTreeMap, fs, path::Path};
use understudy_core::{Error, Result};
use understudy_model::encoder::weights::{self, FILE, Weights};

/// Files of the base's folder that belong to the trained encoder too.
const COPIED: [&str; 9] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "added_tokens.json",
];

impl Network {
    /// Writes the encoder, adapters merged, to a folder: the base's files with new weights under the same names. The
    /// head is not part of it ([`Network::head`]).
    ///
    /// # Errors
    /// `Data` when reading the base again or writing fails.
    pub fn save_encoder(&self, folder: &Path) -> Result<()> {
        let failed = |e: std::io::Error| Error::data(format!("write encoder {}: {e}", folder.display()));
        for file in COPIED {
            let (from, to) = (self.folder.join(file), folder.join(file));
            if from.exists() {
                fs::create_dir_all(to.parent().unwrap_or(folder)).map_err(failed)?;
                fs::copy(&from, &to).map_err(failed)?;
            }
        }
        let bytes = weights::read(&self.folder)?;
        let base = Weights::parse(&self.folder, &bytes)?;
        tensors::write(&folder.join(FILE), &self.tensors(&base)?, &[("format", "pt")]).map_err(failed)
    }

    /// What [`Network::save_encoder`] writes, as file contents by path below the folder: what an artifact takes in.
    ///
    /// # Errors
    /// `Data` when reading the base again fails.
    pub fn encoder_files(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = folder_files(&self.folder)?;
        let bytes = weights::read(&self.folder)?;
        let base = Weights::parse(&self.folder, &bytes)?;
        let mut weights = Vec::new();
        tensors::write_to(&mut weights, &self.tensors(&base)?, &[("format", "pt")])
            .map_err(|e| Error::internal(format!("write weights to memory: {e}")))?;
        files.insert(FILE.to_owned(), weights);
        Ok(files)
    }

    /// All tensors of the base's file, with the trained numbers in the place of theirs.
    fn tensors<'a>(&'a self, base: &Weights<'a>) -> Result<Vec<Tensor<'a>>> {
        let mut ours: BTreeMap<String, &[f32]> = BTreeMap::new();
        for (index, parameter) in self.parameters.iter().enumerate().take(self.encoder_parameters()) {
            let values = self.weight(index);
            let part = values.len() / parameter.names.len();
            for (name, values) in parameter.names.iter().zip(values.chunks_exact(part.max(1))) {
                ours.insert(format!("{}{name}", base.prefix()), values);
            }
        }
        let mut names = base.tensors().names();
        names.sort_unstable();
        let mut written = Vec::new();
        for name in names {
            let tensor = base.tensors().tensor(name).map_err(|e| Error::data(format!("read tensor {name}: {e}")))?;
            let new_name = new_name(name);
            let data = match ours.get(new_name.as_ref()) {
                Some(values) => Data::F32(values),
                None => Data::Raw(type_name(tensor.dtype())?, tensor.data()),
            };
            let shape = tensor.shape().to_vec();
            written.push(Tensor { name: new_name.into_owned(), shape, data });
        }
        Ok(written)
    }

    /// Writes the adapters alone, as PEFT reads them: `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// # Errors
    /// `Invalid` when the network has no adapters, `Data` when writing fails.
    pub fn save_adapters(&self, folder: &Path, base: &str) -> Result<()> {
        let failed = |e: std::io::Error| Error::data(format!("write adapter {}: {e}", folder.display()));
        let Some(lora) = &self.lora else {
            return Err(Error::invalid("write adapter: this network was not trained with LoRA"));
        };
        let mut modules: Vec<String> = Vec::new();
        let mut written = Vec::new();
        for index in self.adapters.iter().flat_map(|adapter| [adapter.a, adapter.b]) {
            let parameter = &self.parameters[index];
            let name = &parameter.names[0];
            // Without the layer's number: PEFT compares the ends of names.
            let module = name.rsplit_once(".lora_").map_or("", |(module, _)| module);
            let module = module.splitn(4, '.').nth(3).unwrap_or(module).to_owned();
            if !modules.contains(&module) {
                modules.push(module);
            }
            let name = format!("base_model.model.{name}");
            written.push(Tensor { name, shape: parameter.shape.clone(), data: Data::F32(&parameter.values) });
        }
        let config = json!({
            "peft_type": "LORA", "task_type": "FEATURE_EXTRACTION", "base_model_name_or_path": base,
            "r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": false,
            "target_modules": modules, "inference_mode": true,
        });
        fs::create_dir_all(folder).map_err(failed)?;
        fs::write(folder.join("adapter_config.json"), format!("{config:#}\n")).map_err(failed)?;
        tensors::write(&folder.join("adapter_model.safetensors"), &written, &[("format", "pt")]).map_err(failed)
    }

    /// How many of the parameters are the base's own: adapters and head come after them.
    fn encoder_parameters(&self) -> usize {
        let adapters = self.adapters.iter().flat_map(|adapter| [adapter.a, adapter.b]);
        let head = [self.readout.hidden.map_or(self.readout.output.weight, |hidden| hidden.weight)];
        adapters.chain(head).min().unwrap_or(0)
    }
}

/// The files of an encoder's folder beside its weights, by their path below the folder.
pub(crate) fn folder_files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for file in COPIED {
        let from = folder.join(file);
        if from.exists() {
            let bytes = fs::read(&from).map_err(|e| Error::data(format!("read {}: {e}", from.display())))?;
            files.insert(file.to_owned(), bytes);
        }
    }
    Ok(files)
}

/// Checkpoints from TensorFlow's time call the layer norm's parameters gamma and beta; we write today's names.
fn new_name(name: &str) -> Cow<'_, str> {
    for (old, new) in [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")] {
        if let Some(stem) = name.strip_suffix(old) {
            return Cow::Owned(format!("{stem}{new}"));
        }
    }
    Cow::Borrowed(name)
}

fn type_name(dtype: Dtype) -> Result<&'static str> {
    match dtype {
        Dtype::F32 => Ok("F32"),
        Dtype::F16 => Ok("F16"),
        Dtype::BF16 => Ok("BF16"),
        Dtype::F64 => Ok("F64"),
        Dtype::I64 => Ok("I64"),
        Dtype::I32 => Ok("I32"),
        Dtype::I8 => Ok("I8"),
        Dtype::U8 => Ok("U8"),
        Dtype::BOOL => Ok("BOOL"),
        other => Err(Error::data(format!("write encoder: it has a tensor of type {other:?}, which is not supported"))),
    }
}
