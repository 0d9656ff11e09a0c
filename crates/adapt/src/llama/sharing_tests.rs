//! Adapters that share one engine of llama.cpp answer as they do alone.

use super::tests::{installed, noise};
use super::*;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};
use understudy_core::{Answer, Backend, Message, Request, Role, Seed, TraceId};
use understudy_model::generate::{FileType, Generator, GeneratorOptions, Importance, quantise};

const QUESTIONS: [&str; 2] = ["What is the capital of France?", "Name three colours."];

/// An adapter of random numbers on the installed model.
fn adapter(base: &Path, seed: u64, file: PathBuf) -> PathBuf {
    let weights = Weights::from_gguf(base).unwrap();
    let mut network = LlamaNetwork::new(weights, LlamaLora::default(), Seed(1), 64).unwrap();
    let mut noise = noise(seed);
    for index in 0..network.parameters().len() {
        if network.parameters()[index].names()[0].contains("lora_B") {
            let n = network.parameters()[index].values().len();
            network.values_mut(index).copy_from_slice(&noise(n, 0.06));
        }
    }
    fs::write(&file, network.gguf_adapter("noise").unwrap()).unwrap();
    file
}

fn options(name: &str, adapter: Option<&Path>) -> GeneratorOptions {
    GeneratorOptions {
        threads: 1,
        context_tokens: 256,
        max_sequences: 4,
        max_batch: 48,
        adapter: adapter.map(Path::to_owned),
        ..GeneratorOptions::new(name.into())
    }
}

/// The first tokens of an answer, each with the likeliest in its place.
type Said = Vec<(Vec<u8>, HashMap<Vec<u8>, f32>)>;

/// The answers to all questions, asked of all generators at once.
fn answers(generators: &[&Generator]) -> Vec<Vec<Said>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let asked: Vec<Request> = QUESTIONS
        .map(|question| {
            let message = Message { role: Role::User, text: question.to_owned() };
            let mut request = Request::new(TraceId::from_parts(1, 1), "any".into(), vec![message]);
            request.sampling.max_tokens = Some(12);
            request.sampling.logprobs = Some(10);
            request
        })
        .into();
    runtime.block_on(async {
        let all = generators.iter().map(|generator| {
            let asked = &asked;
            async move {
                let of = asked.iter().map(|request| generator.answer(request));
                futures_util::future::join_all(of).await.into_iter().map(|answer| answer.unwrap()).collect::<Vec<_>>()
            }
        });
        let all = futures_util::future::join_all(all).await;
        for (generator, answers) in generators.iter().zip(&all) {
            assert!(answers.iter().all(|answer| answer.model == *generator.name()));
        }
        let tokens = |answer: Answer| {
            answer
                .logprobs
                .unwrap()
                .into_iter()
                .map(|token| (token.bytes, token.top.into_iter().collect()))
                .collect::<Said>()
        };
        all.into_iter().map(|answers| answers.into_iter().map(tokens).collect()).collect()
    })
}

/// Largest difference of the log-probability of one of the likeliest tokens, up to the first place where another was drawn.
fn difference(a: &[Vec<Said>], b: &[Vec<Said>]) -> f32 {
    let mut largest = 0.0_f32;
    for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
        for ((token, likely), (other, also)) in a.iter().zip(b) {
            let both = likely.iter().filter_map(|(token, p)| Some((p - also.get(token)?).abs()));
            largest = both.fold(largest, f32::max);
            if token != other {
                break;
            }
        }
    }
    largest
}

#[test]
fn adapters_on_one_engine_answer_as_they_do_alone() {
    let Some(eight_bits) = installed() else {
        println!("skipped: no model; `understudy pull smollm2` installs it");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // With activations of eight bits an adapter's products, which round by the size of the batch, move a log-probability by
    // 0.3 on an engine of its own too.
    let base = folder.path().join("half.gguf");
    quantise(&eight_bits, &base, FileType::F16, &Importance::new()).unwrap();
    let files = [3, 5].map(|seed| adapter(&base, seed, folder.path().join(format!("{seed}.gguf"))));
    let voices = [("base", None), ("a", Some(files[0].as_path())), ("b", Some(&files[1])), ("again", Some(&files[0]))];
    let alone: Vec<Vec<Said>> = voices
        .iter()
        .flat_map(|(name, adapter)| answers(&[&Generator::load(&base, options(name, *adapter)).unwrap()]))
        .collect();
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let apart = difference(&alone[one..=one], &alone[other..=other]);
        println!("voices {one} and {other}: {apart:.2}");
        assert!(apart > 0.5, "voices {one} and {other} are to differ: {apart}");
    }
    let shared = voices.iter().map(|(name, adapter)| options(name, *adapter)).collect();
    let shared = Generator::load_all(&base, shared).unwrap();
    let shared: Vec<&Generator> = shared.iter().collect();
    // Twice: the second time everything could be used again that was computed under the wrong adapter.
    for _ in 0..2 {
        let apart = difference(&answers(&shared), &alone);
        println!("largest difference of a log-probability: {apart:.1e}");
        assert!(apart < 0.05, "{apart}");
    }

    let other = GeneratorOptions { context_tokens: 128, ..options("b", None) };
    let told = Generator::load_all(&base, vec![options("a", None), other]).unwrap_err().to_string();
    assert!(told.contains("`a` and `b`"), "{told}");
    assert!(Generator::load_all(&base, Vec::new()).is_err());
    let missing = folder.path().join("missing.gguf");
    let told = Generator::load_all(&base, vec![options("a", None), options("b", Some(&missing))]).unwrap_err();
    assert!(told.to_string().contains("missing.gguf"), "{told}");
    fs::write(&missing, &fs::read(&files[0]).unwrap()[..1000]).unwrap();
    let told = Generator::load_all(&base, vec![options("a", None), options("b", Some(&missing))]).unwrap_err();
    assert!(told.to_string().contains("missing.gguf"), "{told}");
}
