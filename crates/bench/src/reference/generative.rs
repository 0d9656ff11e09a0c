//! Ten steps of an adapter's training, for the comparison with PyTorch: adapters before and after as PEFT's files, losses,
//! the gradients of the first step, and what the trained model says.

use super::{Table, read};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{fs, ops::ControlFlow, path::PathBuf, time::Duration};
use understudy_adapt::{
    encoder::Gradients,
    finetune::{Data, Progress, Run},
    llama::{Batch, Example, LlamaLora, LlamaNetwork, LlamaParams, Pass, Weights, fit},
};
use understudy_core::{Clock, Error, Result, Seed, Timestamp};

pub(super) const TABLE: Table = &[("generative_steps", |arguments| steps(&read(arguments)?))];

#[derive(Deserialize)]
struct Job {
    /// The base's folder.
    folder: PathBuf,
    lora: LlamaLora,
    /// As many epochs as steps: each step sees all texts.
    params: LlamaParams,
    /// Token ids, and where the answer begins.
    texts: Vec<(Vec<u32>, usize)>,
    /// Where the adapters are written: `start` and `end`.
    out: PathBuf,
}

/// A clock that stands.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn steps(job: &Job) -> Result<Value> {
    let weights = Weights::from_folder(&job.folder)?;
    let mut network = LlamaNetwork::new(weights, job.lora.clone(), Seed(1), usize::MAX)?;
    network.refresh();
    let examples: Vec<Example> =
        job.texts.iter().map(|(tokens, answer)| Example::new(tokens.clone(), *answer)).collect();
    let save = |network: &LlamaNetwork, part: &str| -> Result<()> {
        let folder = job.out.join(part);
        let failed = |e: std::io::Error| Error::data(format!("write {}: {e}", folder.display()));
        fs::create_dir_all(&folder).map_err(failed)?;
        network
            .peft_files("base")?
            .iter()
            .try_for_each(|(name, bytes)| fs::write(folder.join(name), bytes))
            .map_err(failed)
    };
    save(&network, "start")?;
    let batch = Batch::new(&examples);
    let (mut gradients, mut pass) = (Gradients::new(network.parameters()), Pass::default());
    gradients.clear();
    network.loss_and_gradients(&batch, 1.0 / batch.targets() as f64, &mut pass, &mut gradients);
    let mut first = Map::new();
    for (index, parameter) in network.parameters().iter().enumerate() {
        let grad = gradients.get(index);
        for (name, part) in parameter.names().iter().zip(grad.chunks(grad.len() / parameter.names().len())) {
            first.insert(name.clone(), json!(part));
        }
    }
    let params = job.params.clone().check()?;
    let mut watch = |_: &Progress| ControlFlow::Continue(());
    let run = Run {
        clock: &Still,
        device: understudy_adapt::device::Device::Cpu,
        threads: 2,
        progress: &mut watch,
        checkpoints: None,
    };
    let adapted = fit(&params, network, Data { train: &examples, held_out: &[] }, Seed(1), run)?;
    save(&adapted.network, "end")?;
    let says = adapted.network.log_probabilities(&batch, &mut pass);
    Ok(json!({"losses": adapted.losses, "gradients": first, "log_probabilities": says}))
}
