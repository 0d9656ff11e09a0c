//! Steps of `adapt`'s training, for the comparison with PyTorch: losses and gradients of the first step as JSON, weights
//! as the files that training writes. Also how long steps take and the memory they need, in a process of their own.

use super::{Table, read};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{path::PathBuf, time::Instant};
use understudy_adapt::{
    encoder::{
        Batch, Example, Gradients, HeadShape, Level, Network, NetworkOptions, Noise, Objective, Pass, Scope, Target,
    },
    finetune::FinetuneParams,
};
use understudy_core::{Error, Result, Seed};

pub(super) const TABLE: Table = &[("training_steps", |arguments| steps(&read(arguments)?))];

#[derive(Deserialize)]
struct Job {
    /// The base's folder.
    folder: PathBuf,
    scope: Scope,
    level: Level,
    params: FinetuneParams,
    /// Texts of each step: token ids and class.
    batches: Vec<Vec<(Vec<u32>, usize)>>,
    outputs: usize,
    /// The head's weights (outputs × width) and biases; none to start from the seed's.
    head: Option<(Vec<f32>, Vec<f32>)>,
    /// Where the encoder and the adapters are written.
    out: Option<PathBuf>,
    /// Whether to return the gradients of the first step.
    #[serde(default)]
    gradients: bool,
    #[serde(default = "two")]
    threads: usize,
}

fn two() -> usize {
    2
}

fn steps(job: &Job) -> Result<Value> {
    // Threads of its own, as in a real run.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(job.threads).build();
    let pool = pool.map_err(|e| Error::internal(format!("start the training threads: {e}")))?;
    pool.install(|| run(job))
}

fn run(job: &Job) -> Result<Value> {
    let head = HeadShape { outputs: job.outputs, hidden: None, level: job.level };
    let mut network = Network::load(&job.folder, &NetworkOptions { scope: job.scope.clone(), head, seed: Seed(1) })?;
    if let Some((weights, bias)) = &job.head {
        network.set_head(weights, bias)?;
    }
    let params = job.params.clone().check()?;
    let params = params.params();
    let mut optimiser = params.optimiser(&network);
    let (mut gradients, mut pass) = (Gradients::new(network.parameters()), Pass::default());
    let (mut losses, mut norms, mut ms, mut first) = (Vec::new(), Vec::new(), Vec::new(), Map::new());
    for (step, texts) in job.batches.iter().enumerate() {
        let example = |(ids, class): &(Vec<u32>, usize)| Example::new(vec![ids.clone()], Target::Class(*class));
        let examples: Vec<Example> = texts.iter().map(example).collect();
        examples.iter().try_for_each(|example| network.accepts(example, &params.objective))?;
        let start = Instant::now();
        let batch = Batch::new(&examples);
        gradients.clear();
        let (hidden, head) = (params.dropout, params.head_dropout);
        let noise = Noise { seed: 1, step: step as u64, pass: 0, hidden, attention: hidden, head };
        let scale = 1.0 / batch.weight(&params.objective);
        let loss =
            network.loss_and_gradients(&batch, &params.objective, Some(&noise), scale, &mut pass, &mut gradients);
        losses.push(loss.sum * scale);
        if step == 0 && job.gradients {
            for (index, parameter) in network.parameters().iter().enumerate().filter(|(_, p)| p.trained()) {
                let grad = gradients.get(index);
                for (name, part) in parameter.names().iter().zip(grad.chunks(grad.len() / parameter.names().len())) {
                    first.insert(name.clone(), json!(part));
                }
            }
        }
        norms.push(optimiser.update(&mut network, &mut gradients, 1.0)?);
        ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    if let Some(out) = &job.out {
        network.save_encoder(out)?;
        if matches!(job.scope, Scope::Lora(_)) {
            network.save_adapters(&out.join("adapter"), "base")?;
        }
    }
    let (weights, bias) = network.head();
    Ok(json!({
        "losses": losses, "norms": norms, "gradients": first, "head": [weights, bias], "ms": ms,
        "peak_mb": peak_mb(),
    }))
}

/// The most memory this process ever held, where the system tells.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<f64>().ok().map(|kb| kb / 1024.0)
}

/// The parameters of a step as PyTorch's `AdamW` takes it: no dropout, one rate.
pub(crate) fn plain(rate: f64) -> FinetuneParams {
    FinetuneParams {
        objective: Objective::Classes { smoothing: 0.0, weights: Vec::new() },
        rate,
        head_rate: rate,
        layer_decay: 1.0,
        dropout: 0.0,
        head_dropout: 0.0,
        ..FinetuneParams::default()
    }
}
