//! The whole state of a run in one file, replaced in one step: a run that was killed at any moment finds the last whole
//! one and goes on to the same final numbers.

use crate::finetune::learner::{Learner, Tunable};
use crate::finetune::optimiser::Optimiser;
use crate::finetune::progress::Data;
use crate::finetune::run::{Best, State};
use crate::tensors::{self, Data as Numbers, Tensor, floats};
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use std::{fs, path::Path};
use understudy_core::{Error, Result, Seed, hash::hex};

/// What must be the same for a checkpoint to be of this run: parameters, seed, examples, starting weights.
pub(super) fn fingerprint<L: Learner>(learner: &L, data: &Data<'_, L::Example>, seed: Seed) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(learner.fingerprint()?);
    hash.update(seed.0.to_le_bytes());
    for part in [data.train, data.held_out] {
        hash.update((part.len() as u64).to_le_bytes());
        part.iter().for_each(|example| L::describe(example, &mut hash));
    }
    Ok(hex(&hash.finalize()))
}

/// Writes the state beside `path`, syncs it and moves it there.
pub(super) fn write(path: &Path, network: &impl Tunable, state: &State, fingerprint: &str) -> Result<()> {
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
        ("step", state.optimiser.step.to_string()),
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
        all.push(Tensor { name: format!("{kind}.{index}"), shape: vec![values.len()], data: Numbers::F32(values) });
    };
    for (index, parameter) in network.parameters().iter().enumerate().filter(|(_, p)| p.trained()) {
        add("weight", index, parameter.values());
        add("first", index, &state.optimiser.moments[index].first);
        add("second", index, &state.optimiser.moments[index].second);
        if let Some(average) = state.optimiser.averages.get(index) {
            add("average", index, average);
        }
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
pub(super) fn read(path: &Path, network: &mut impl Tunable, state: &mut State, fingerprint: &str) -> Result<()> {
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
    let Optimiser { step, moments, averages, .. } = &mut state.optimiser;
    *step = number("step")?;
    state.elapsed_ms = number("elapsed_ms")?;
    state.since_best =
        usize::try_from(number("since_best")?).map_err(|_| damaged("`since_best` is too large".into()))?;
    let bits: Vec<u64> = serde_json::from_str(field("loss_bits")?).map_err(|e| damaged(e.to_string()))?;
    state.losses = bits.into_iter().map(f64::from_bits).collect();
    state.records = serde_json::from_str(field("records")?).map_err(|e| damaged(e.to_string()))?;
    let best_step = field("best_step")?.parse().ok();
    let mut best = vec![Vec::new(); network.parameters().len()];
    for index in 0..network.parameters().len() {
        let n = network.parameters()[index].values().len();
        if !network.parameters()[index].trained() {
            continue;
        }
        network.values_mut(index).copy_from_slice(&tensor("weight", index, n)?);
        moments[index].first = tensor("first", index, n)?;
        moments[index].second = tensor("second", index, n)?;
        if let Some(average) = averages.get_mut(index) {
            *average = tensor("average", index, n)?;
        }
        if best_step.is_some() {
            best[index] = tensor("best", index, n)?;
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
