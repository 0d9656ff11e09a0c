//! The whole network against finite differences, and runs against their resumptions.

use super::*;
use crate::device::Device;
use crate::encoder::Gradients;
use crate::finetune::{Checkpoints, Data, Ended, Finetuned, Progress, Run};
use crate::llama::weights::{LayerWeights, Linear};
use crate::tests::Ticks;
use std::{ops::ControlFlow, path::Path, time::Duration};
use understudy_core::{ErrorKind, Result, Seed};

/// A stream of reproducible numbers in [−1, 1).
pub(super) fn noise(seed: u64) -> impl FnMut(usize, f32) -> Vec<f32> {
    let mut state = seed | 1;
    move |n, reach| {
        (0..n)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * reach
            })
            .collect()
    }
}

fn config() -> LlamaConfig {
    LlamaConfig {
        vocabulary: 50,
        width: 24,
        layers: 2,
        heads: 6,
        kv_heads: 2,
        head_width: 4,
        inner: 40,
        epsilon: 1e-5,
        theta: 1e4,
        positions: 64,
    }
}

/// A small model with all parts that a family may have.
pub(super) fn weights(biased: bool) -> Weights {
    let (c, mut noise) = (config(), noise(3));
    let mut linear = |outputs: usize, inputs: usize, biased: bool| Linear {
        weight: noise(outputs * inputs, 1.5 / (inputs as f32).sqrt()),
        bias: biased.then(|| noise(outputs, 0.5)),
    };
    let layers = (0..c.layers)
        .map(|_| LayerWeights {
            attention_norm: vec![1.1; c.width],
            qkv: linear(c.qkv(), c.width, biased),
            attended: linear(c.width, c.heads * c.head_width, false),
            feed_norm: vec![0.9; c.width],
            gate_up: linear(2 * c.inner, c.width, false),
            down: linear(c.width, c.inner, false),
        })
        .collect();
    let output = biased.then(|| linear(c.vocabulary, c.width, false).weight);
    let table = linear(c.vocabulary, c.width, false).weight;
    let (norm, factors) = (vec![1.2; c.width], if biased { vec![1.0, 3.0] } else { Vec::new() });
    Weights { config: c, table, layers, norm, output, factors, interleaved: true, family: "llama".into() }
}

pub(super) fn network(biased: bool, lora: LlamaLora) -> LlamaNetwork {
    LlamaNetwork::new(weights(biased), lora, Seed(7), 64).unwrap()
}

pub(super) fn small() -> LlamaLora {
    LlamaLora { rank: 3, alpha: 6.0, ..LlamaLora::default() }
}

/// Answers that repeat the prompt, each token raised by one.
pub(super) fn examples(n: usize) -> Vec<Example> {
    let mut state = 5u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    (0..n)
        .map(|_| {
            let prompt: Vec<u32> = (0..2 + random(4)).map(|_| 2 + random(20)).collect();
            let mut tokens = prompt.clone();
            tokens.push(1);
            let answer = tokens.len();
            tokens.extend(prompt.iter().map(|t| t + 1));
            tokens.push(0);
            Example::new(tokens, answer)
        })
        .collect()
}

/// The largest difference of two networks' log-probabilities.
pub(super) fn largest_difference(one: &LlamaNetwork, other: &LlamaNetwork, batch: &Batch) -> f64 {
    let [a, b] = [one, other].map(|network| network.log_probabilities(batch, &mut Pass::default()));
    assert_eq!(a.len(), b.len());
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn every_adapters_gradient_matches_differences_of_the_loss() {
    let mut all = examples(5);
    // Two answers count as a whole, one of them a third of the other.
    all[1] = all[1].clone().counting(3.0);
    all[3] = all[3].clone().counting(1.0);
    let whole: f64 = all.iter().map(|e| f64::from(e.weight) * e.answer_tokens() as f64).sum();
    let batch = Batch::new(&all);
    for biased in [false, true] {
        let mut network = network(biased, small());
        let mut noise = noise(11);
        for index in 0..network.parameters().len() {
            // B starts at zero, where A has no gradient.
            let n = network.parameters()[index].values().len();
            network.values_mut(index).copy_from_slice(&noise(n, 0.4));
        }
        network.refresh();
        let (mut pass, mut gradients) = (Pass::default(), Gradients::new(network.parameters()));
        gradients.clear();
        let loss = network.loss_and_gradients(&batch, 1.0, &mut pass, &mut gradients);
        gradients.settle();
        assert!((loss.sum - network.loss(&batch, &mut pass).0.sum).abs() < 1e-4);
        assert!((loss.weight - whole).abs() < 1e-5 && (whole - batch.targets() as f64).abs() > 1.0);
        for index in 0..network.parameters().len() {
            let start = network.parameters()[index].values().to_vec();
            let direction = noise(start.len(), 1.0);
            let [up, down] = [1e-3f32, -1e-3].map(|h| {
                let moved = start.iter().zip(&direction).map(|(x, d)| x + h * d);
                network.values_mut(index).copy_from_slice(&moved.collect::<Vec<_>>());
                network.refresh();
                network.loss(&batch, &mut pass).0.sum
            });
            network.values_mut(index).copy_from_slice(&start);
            network.refresh();
            let slope = (up - down) / 2e-3;
            let got: f64 =
                gradients.get(index).iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let names = network.parameters()[index].names().join(", ");
            let size = gradients.get(index).iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            println!("{names}: {got:.5} against {slope:.5} (norm {size:.3})");
            assert!((got - slope).abs() < 2e-3 * size.max(1.0), "{names}");
            assert!(size > 1e-3, "{names} gets a gradient");
        }
    }
}

#[test]
fn texts_in_one_batch_do_not_see_each_other() {
    let (network, all) = (network(true, small()), examples(4));
    let mut pass = Pass::default();
    let together = network.log_probabilities(&Batch::new(&all), &mut pass);
    let alone: Vec<f64> =
        all.iter().flat_map(|example| network.log_probabilities(&Batch::new([example]), &mut pass)).collect();
    let worst = together.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("together and alone: largest difference {worst:.2e}");
    assert!(worst < 1e-5);
}

/// What a run is cut off by.
type Watch<'a> = &'a mut (dyn FnMut(&Progress) -> ControlFlow<()> + Send);

fn train(
    threads: usize,
    checkpoint: Option<&Path>,
    epochs: usize,
    watch: Watch<'_>,
) -> Result<Finetuned<LlamaNetwork>> {
    let all = examples(60);
    let params = LlamaParams { epochs, batch: 8, pass_tokens: 40, rate: 1e-2, ..LlamaParams::default() }.check()?;
    let clock = Ticks::default();
    let checkpoints = checkpoint.map(|path| Checkpoints { path, every: Duration::from_secs(5) });
    let run = Run { clock: &clock, device: Device::Cpu, threads, progress: watch, checkpoints };
    let data = Data { train: &all[..50], held_out: &all[50..] };
    fit(&params, network(false, small()), data, Seed(1), run)
}

fn numbers(adapted: &Finetuned<LlamaNetwork>) -> Vec<u32> {
    adapted.network.parameters().iter().flat_map(|p| p.values().iter().map(|x| x.to_bits())).collect()
}

#[test]
fn a_killed_run_resumes_to_the_same_numbers_on_any_number_of_threads() {
    let whole = train(1, None, 3, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((whole.ended, whole.steps, whole.samples), (Ended::Finished, 21, 150));
    assert!(whole.losses[20] < 0.85 * whole.losses[0], "{:?}", whole.losses);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.checkpoint");
    for stop in [4, 9, 16] {
        let mut watch =
            |now: &Progress| if now.step == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let cut = train(3, Some(&path), 3, &mut watch).unwrap();
        assert_eq!((cut.ended, cut.steps), (Ended::Interrupted, stop));
    }
    let resumed = train(2, Some(&path), 3, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(numbers(&resumed), numbers(&whole));
    assert_eq!((resumed.losses, resumed.kept_step), (whole.losses, whole.kept_step));
    let Err(other) = train(1, Some(&path), 2, &mut |_| ControlFlow::Continue(())) else {
        panic!("a checkpoint of other parameters is refused");
    };
    assert_eq!(other.kind(), ErrorKind::Invalid);
}

#[test]
fn an_adapter_is_written_as_peft_and_as_gguf() {
    let lora = LlamaLora { targets: vec![LlamaTarget::Value, LlamaTarget::Query, LlamaTarget::Down], ..small() };
    let mut network = network(false, lora);
    for index in 0..network.parameters().len() {
        let n = network.parameters()[index].values().len();
        network.values_mut(index).copy_from_slice(&noise(index as u64 + 1)(n, 1.0));
    }
    let files = network.peft_files("base").unwrap();
    let read = safetensors::SafeTensors::deserialize(&files["adapter_model.safetensors"]).unwrap();
    assert_eq!(read.names().len(), 2 * 3 * 2);
    let name = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight";
    let b = read.tensor(name).unwrap();
    assert_eq!(b.shape(), [24, 3]);
    let settings: serde_json::Value = serde_json::from_slice(&files["adapter_config.json"]).unwrap();
    assert_eq!(settings["target_modules"], serde_json::json!(["q_proj", "v_proj", "down_proj"]));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.gguf");
    std::fs::write(&path, network.gguf_adapter("test").unwrap()).unwrap();
    let mut gguf = gguf::Gguf::open(&path).unwrap();
    assert_eq!(gguf.text("adapter.type").unwrap(), "lora");
    assert!((gguf.number("adapter.lora.alpha").unwrap() - 6.0).abs() < 1e-9);
    let turned = gguf.floats("blk.1.attn_q.weight.lora_b", 72).unwrap().unwrap();
    assert_eq!(weights::halves(&turned, 6, 3), crate::tensors::floats(b.data()));
    let down = gguf.floats("blk.0.ffn_down.weight.lora_a", 120).unwrap().unwrap();
    let same = read.tensor("base_model.model.model.layers.0.mlp.down_proj.lora_A.weight").unwrap();
    assert_eq!(down, crate::tensors::floats(same.data()));
}

#[test]
fn a_damaged_gguf_file_is_an_error_wherever_it_is_cut_or_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let bytes = network(false, LlamaLora { targets: vec![LlamaTarget::Value], ..small() }).gguf_adapter("x").unwrap();
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        gguf::Gguf::open(&path).and_then(|mut file| file.floats("blk.1.attn_v.weight.lora_b", 24))
    };
    assert!(read(&bytes).unwrap().is_some());
    for cut in (0..bytes.len()).step_by(37) {
        let cut = read(&bytes[..cut]);
        assert!(cut.is_err() || cut.is_ok_and(|found| found.is_none()));
    }
    for at in 0..400 {
        let mut changed = bytes.clone();
        changed[at] ^= 0xff;
        // Whatever it is now, it is read or refused.
        drop(read(&changed));
    }
    assert!(Weights::from_gguf(&path).is_err(), "an adapter is no model");
}

#[test]
fn a_model_that_serves_something_else_is_refused() {
    let (network, all) = (network(false, small()), examples(3));
    let mut pass = Pass::default();
    let mut logits = |example: &Example| -> Result<Vec<f32>> {
        let rows = network.log_probabilities(&Batch::new([example]), &mut pass);
        #[expect(clippy::cast_possible_truncation, reason = "logits are served as f32")]
        let logits = rows.iter().map(|x| (*x + 3.0) as f32).collect();
        Ok(logits)
    };
    let same = Agreement::measure(&network, &all, &mut logits).unwrap();
    assert!(same.mean_kl.abs() < 1e-9 && same.flips < 1e-9 && same.n > 9, "{same:?}");
    same.check(1e-3, "it").unwrap();
    let other = Agreement::measure(&network, &all, |example| {
        logits(example).map(|mut rows| {
            rows.iter_mut().step_by(7).for_each(|x| *x += 1.0);
            rows
        })
    })
    .unwrap();
    assert!(other.mean_kl > 1e-2 && other.check(1e-3, "it").is_err(), "{other:?}");
    assert!(Agreement { mean_kl: f64::NAN, ..same }.check(1.0, "it").is_err());
}

/// The installed SmolLM2, from the folder where `understudy pull smollm2` puts it.
pub(super) fn installed() -> Option<std::path::PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "tests find installed models as the command line does")]
    let folder = std::env::var("UNDERSTUDY_MODELS")
        .map(std::path::PathBuf::from)
        .or_else(|_| std::env::var("HOME").map(|home| Path::new(&home).join(".understudy/models")));
    understudy_model::installed::find(&folder.ok()?, "smollm2").ok()??.gguf().ok()
}

#[test]
fn llama_cpp_says_what_the_network_says_with_the_same_adapter() {
    use understudy_core::{Message, Role};
    use understudy_model::generate::{ChatTokens, FileType, Importance, Scorer, quantise};
    let Some(path) = installed() else {
        println!("skipped: no model; `understudy pull smollm2` installs it");
        return;
    };
    let chat = ChatTokens::load(&path).unwrap();
    let turn = |text: &str| Message { role: Role::User, text: text.to_owned() };
    let pairs = [("What is the capital of France?", "Paris, of course."), ("Say <|im_end|> twice.", "{\"a\": [1, 2]}")];
    let examples = pairs.map(|(question, answer)| {
        let prompt = chat.prompt(&[turn(question)]).unwrap();
        let answer_at = prompt.len();
        Example::new(prompt.into_iter().chain(chat.answer(answer)).collect(), answer_at)
    });
    // The end of the turn is learned, and words that look like it are not it.
    let end = *examples[0].tokens.last().unwrap();
    assert_eq!(examples[1].tokens[examples[1].answer..].iter().filter(|token| **token == end).count(), 1);

    let mut network =
        LlamaNetwork::new(Weights::from_gguf(&path).unwrap(), LlamaLora::default(), Seed(1), 128).unwrap();
    let mut noise = noise(5);
    for index in 0..network.parameters().len() {
        if network.parameters()[index].names()[0].contains("lora_B") {
            let n = network.parameters()[index].values().len();
            network.values_mut(index).copy_from_slice(&noise(n, 0.02));
        }
    }
    network.refresh();
    let folder = tempfile::tempdir().unwrap();
    let (adapter, half) = (folder.path().join("adapter.gguf"), folder.path().join("half.gguf"));
    std::fs::write(&adapter, network.gguf_adapter("noise").unwrap()).unwrap();
    quantise(&path, &half, FileType::F16, &Importance::new()).unwrap();
    let compare = |base: &Path, adapter: Option<&Path>| {
        let mut scorer = Scorer::load(base, adapter, 1).unwrap();
        let found = Agreement::measure(&network, &examples, |e| scorer.logits(&e.tokens, e.answer)).unwrap();
        println!("{}: {found:?}", base.display());
        found
    };
    compare(&half, Some(&adapter)).check(1e-3, "llama.cpp at 16 bits").unwrap();
    assert!(compare(&path, Some(&adapter)).mean_kl < 0.1, "8 bits cost something");
    // Folded in, it needs no base; at 32 bits nothing is lost, and reading it back gives the network's own numbers.
    for numbers in [Numbers::F16, Numbers::F32] {
        let merged = folder.path().join("merged.gguf");
        network.write_gguf(&path, "noise", numbers, &merged).unwrap();
        assert_eq!(understudy_model::generate::file_type(&merged).unwrap(), Some(numbers.file_type()));
        assert_eq!(ChatTokens::load(&merged).unwrap().answer("É 1 <|im_end|>"), chat.answer("É 1 <|im_end|>"));
        compare(&merged, None).check(1e-3, "the merged model").unwrap();
        if numbers == Numbers::F32 {
            let read = Weights::from_gguf(&merged).unwrap();
            let read = LlamaNetwork::new(read, LlamaLora { rank: 1, ..LlamaLora::default() }, Seed(1), 128).unwrap();
            let difference = largest_difference(&network, &read, &Batch::new(&examples));
            println!("merged at 32 bits, read back: {difference:.1e}");
            assert!(difference < 1e-3);
        }
    }
    // Out as safetensors and in again: the same file to the last bit.
    let (hub, again) = (folder.path().join("hub"), folder.path().join("again.gguf"));
    network.write_folder(&hub).unwrap();
    let read = LlamaNetwork::new(Weights::from_folder(&hub).unwrap(), LlamaLora::default(), Seed(1), 128).unwrap();
    read.write_gguf(&path, "noise", Numbers::F32, &again).unwrap();
    assert!(std::fs::read(&again).unwrap() == std::fs::read(folder.path().join("merged.gguf")).unwrap());
    // The comparison can fail: without the adapter it is another model.
    assert!(compare(&half, None).check(1e-3, "the base").is_err());
}
