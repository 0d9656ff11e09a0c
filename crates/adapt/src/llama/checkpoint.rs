//! The whole state of a run in one file, replaced in one step: a run that was killed at any moment finds the last whole
//! one and goes on to the same final numbers.

use crate::llama::batch::Example;
use crate::llama::network::LlamaNetwork;
use crate::llama::params::LlamaParams;
use crate::llama::run::{Best, State};
use crate::tensors::{self, Data, Tensor, floats};
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use std::{fs, path::Path};
use understudy_core::{Error, Result, Seed, hash::hex};

/// What must be the same for a checkpoint to be of this run: parameters, seed, examples, base, starting adapters.
pub(super) fn fingerprint(
    params: &LlamaParams,
    network: &LlamaNetwork,
    parts: [&[Example]; 2],
    seed: Seed,
) -> Result<String> {
    let mut hash = Sha256::new();
    let json = serde_json::to_vec(&(params, network.lora()))
        .map_err(|e| Error::internal(format!("write training parameters: {e}")))?;
    hash.update(&json);
    hash.update(seed.0.to_le_bytes());
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        for example in part {
            hash.update([example.tokens.len() as u64, example.answer as u64].map(u64::to_le_bytes).concat());
            example.tokens.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
    }
    hash.update(network.base_hash());
    for parameter in network.parameters() {
        let bytes: Vec<u8> = parameter.values().iter().flat_map(|x| x.to_le_bytes()).collect();
        hash.update(&bytes);
    }
    Ok(hex(&hash.finalize()))
}

/// Writes the state beside `path`, syncs it and moves it there.
pub(super) fn write(path: &Path, network: &LlamaNetwork, state: &State, fingerprint: &str) -> Result<()> {
    let failed = |e: std::io::Error| Error::data(format!("write checkpoint {}: {e}", path.display()));
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let json = |value: serde_json::Result<String>| value.map_err(|e| Error::internal(format!("write checkpoint: {e}")));
    let bits: Vec<u64> = state.losses.iter().map(|loss| loss.to_bits()).collect();
    let meta = [
        ("fingerprint", fingerprint.to_owned()),
        ("step", state.step.to_string()),
        ("elapsed_ms", state.elapsed_ms.to_string()),
        ("since_best", state.since_best.to_string()),
        ("best_step", state.best.as_ref().map_or(String::new(), |best| best.step.to_string())),
        ("loss_bits", json(serde_json::to_string(&bits))?),
        ("records", json(serde_json::to_string(&state.records))?),
    ];
    let meta: Vec<(&str, &str)> = meta.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut all = Vec::new();
    let mut add = |kind: &str, index: usize, values| {
        let values: &[f32] = values;
        all.push(Tensor { name: format!("{kind}.{index}"), shape: vec![values.len()], data: Data::F32(values) });
    };
    for (index, parameter) in network.parameters().iter().enumerate() {
        add("weight", index, parameter.values());
        add("first", index, &state.moments[index].first);
        add("second", index, &state.moments[index].second);
        if let Some(best) = &state.best {
            add("best", index, &best.weights[index]);
        }
    }
    let temporary = tempfile::Builder::new().prefix(".checkpoint-").tempfile_in(folder).map_err(failed)?;
    tensors::write(temporary.path(), &all, &meta).map_err(failed)?;
    temporary.persist(path).map_err(|e| failed(e.error))?;
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Reads a checkpoint into `network` and `state`; leaves them as they are when there is none.
pub(super) fn read(path: &Path, network: &mut LlamaNetwork, state: &mut State, fingerprint: &str) -> Result<()> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::data(format!("read checkpoint {}: {e}", path.display()))),
    };
    let damaged =
        |what: String| Error::data(format!("read checkpoint {}: {what}; delete it to start over", path.display()));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let meta = header.metadata().clone().unwrap_or_default();
    let field = |name: &str| meta.get(name).ok_or_else(|| damaged(format!("it has no `{name}`")));
    if field("fingerprint")? != fingerprint {
        return Err(Error::invalid(format!(
            "resume from checkpoint {}: it is of a run with other data, parameters, seed or base; delete it or name another",
            path.display()
        )));
    }
    let number =
        |name: &str| -> Result<u64> { field(name)?.parse().map_err(|_| damaged(format!("`{name}` is no number"))) };
    let tensor = |kind: &str, index: usize, n: usize| -> Result<Vec<f32>> {
        let name = format!("{kind}.{index}");
        let values = file.tensor(&name).map(|t| floats(t.data())).map_err(|e| damaged(format!("{name}: {e}")))?;
        if values.len() == n { Ok(values) } else { Err(damaged(format!("{name} has {} numbers", values.len()))) }
    };
    state.step = number("step")?;
    state.elapsed_ms = number("elapsed_ms")?;
    state.since_best =
        usize::try_from(number("since_best")?).map_err(|_| damaged("`since_best` is too large".into()))?;
    let bits: Vec<u64> = serde_json::from_str(field("loss_bits")?).map_err(|e| damaged(e.to_string()))?;
    state.losses = bits.into_iter().map(f64::from_bits).collect();
    state.records = serde_json::from_str(field("records")?).map_err(|e| damaged(e.to_string()))?;
    let best_step: Option<u64> = field("best_step")?.parse().ok();
    let mut best = Vec::new();
    for index in 0..network.parameters().len() {
        let n = network.parameters()[index].values().len();
        network.values_mut(index).copy_from_slice(&tensor("weight", index, n)?);
        state.moments[index].first = tensor("first", index, n)?;
        state.moments[index].second = tensor("second", index, n)?;
        if best_step.is_some() {
            best.push(tensor("best", index, n)?);
        }
    }
    state.best = match best_step {
        None => None,
        Some(step) => {
            let evaluation = state.records.iter().find(|record| record.step == step).and_then(|record| record.held_out);
            let evaluation = evaluation.ok_or_else(|| damaged(format!("step {step} was never evaluated")))?;
            Some(Best { step, evaluation, weights: best })
        }
    };
    Ok(())
}
