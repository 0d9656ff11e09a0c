use super::*;
use std::path::{Path, PathBuf};
use understudy_core::Seed;
use understudy_model::encoder::{Dtype, EncoderOptions, Scratch, Tokens};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/encoder").join(name)
}

fn network(name: &str, scope: Scope, hidden: Option<usize>, level: Level) -> Network {
    let head = HeadShape { outputs: 3, hidden, level };
    Network::load(&fixture(name), &NetworkOptions { scope, head, seed: Seed(7) }).unwrap()
}

const FULL: Scope = Scope::Full { words: true, frozen_layers: 0 };

/// Texts of mixed lengths, one of them in two windows.
fn examples(level: Level, objective: &Objective) -> Vec<Example> {
    let window = |n: u32, shift: u32| (0..n).map(|i| 4 + (i * 7 + shift) % 23).collect::<Vec<u32>>();
    let texts = vec![vec![window(9, 1)], vec![window(20, 2), window(5, 3)], vec![window(1, 4)], vec![window(33, 5)]];
    let text = |(i, windows): (usize, Vec<Vec<u32>>)| {
        let tokens: usize = windows.iter().map(Vec::len).sum();
        let target = match (level, objective) {
            (Level::Tokens, _) => Target::Tokens((0..tokens).map(|t| (t % 4 != 0).then_some((t + i) % 3)).collect()),
            (Level::Vector, Objective::Classes { .. }) if i % 2 == 0 => Target::Shares(vec![0.25, 0.6, 0.15]),
            (_, Objective::Classes { .. } | Objective::Contrast { .. }) => Target::Class(i % 3),
            (_, Objective::Teacher { .. }) => Target::Labels(vec![0.2, 0.5, 0.3]),
            (_, Objective::Labels { .. }) => Target::Labels(vec![1.0, 0.0, (i % 2) as f32]),
            (_, Objective::Values) => Target::Values(vec![0.5, -1.0, i as f32]),
        };
        Example::new(windows, target)
    };
    texts.into_iter().enumerate().map(text).collect()
}

/// Holds the gradient of every trained tensor against the difference of the loss along it.
#[expect(clippy::cast_possible_truncation, reason = "moved in f64, stored in f32")]
fn check_gradients(what: &str, network: &mut Network, objective: &Objective, noise: Option<Noise>) {
    let mut examples = examples(network.level(), objective);
    if network.second_weight().is_some() {
        // Nothing is known of the third text, and nothing holds of the second.
        let held = [Some(vec![0, 3]), Some(Vec::new()), None, Some(vec![1])];
        examples.iter_mut().zip(held).for_each(|(example, held)| example.second = held);
    }
    let batch = Batch::new(&examples);
    examples.iter().for_each(|example| network.accepts(example, objective).unwrap());
    let scale = 1.0 / batch.weight(objective);
    let (mut pass, mut gradients) = (Pass::default(), Gradients::new(network.parameters()));
    network.loss_and_gradients(&batch, objective, noise.as_ref(), scale, &mut pass, &mut gradients);
    gradients.settle();
    let mut worst = (0f64, String::new());
    let mut checked = 0;
    for index in 0..network.parameters().len() {
        let parameter = &network.parameters()[index];
        assert_eq!(parameter.trained(), !gradients.get(index).is_empty(), "{:?}", parameter.names());
        if !parameter.trained() {
            continue;
        }
        let (name, start) = (parameter.names()[0].clone(), parameter.values().to_vec());
        let grad = gradients.get(index).to_vec();
        let norm = grad.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(norm.is_finite(), "{name}");
        // Keys' biases and the like have none: the softmax does not see them.
        if norm < 1e-5 {
            continue;
        }
        let mut along = |step: f64| {
            for (w, (start, g)) in network.values_mut(index).iter_mut().zip(start.iter().zip(&grad)) {
                *w = (f64::from(*start) + step * f64::from(*g) / norm) as f32;
            }
            network.refresh();
            let mut unused = Gradients::new(network.parameters());
            let scale = 1.0 / batch.weight(objective);
            scale * network.loss_and_gradients(&batch, objective, noise.as_ref(), scale, &mut pass, &mut unused).sum
        };
        let h = 4e-3;
        let (one, two) = ((along(h) - along(-h)) / (2.0 * h), (along(2.0 * h) - along(-2.0 * h)) / (4.0 * h));
        // Richardson: the term of the third derivative cancels.
        let slope = (4.0 * one - two) / 3.0;
        network.values_mut(index).copy_from_slice(&start);
        network.refresh();
        let error = (slope - norm).abs() / norm.max(1e-2);
        if error > worst.0 {
            worst = (error, name);
        }
        checked += 1;
    }
    println!("{what}: {checked} tensors, largest relative difference {:.2e} ({})", worst.0, worst.1);
    assert!(checked > 2 && worst.0 < 5e-3, "{what}: {worst:?}");
}

fn plain() -> Objective {
    Objective::Classes { smoothing: 0.1, weights: vec![1.0, 2.0, 0.5] }
}

const NOISE: Noise = Noise { seed: 3, step: 5, pass: 0, hidden: 0.2, attention: 0.2, head: 0.2 };

#[test]
fn every_tensor_of_every_architecture_has_the_gradient_of_the_loss() {
    for name in ["bert", "distilbert", "mpnet"] {
        for noise in [None, Some(NOISE)] {
            let mut network = network(name, FULL, None, Level::UnitVector);
            check_gradients(&format!("{name}, noise {}", noise.is_some()), &mut network, &plain(), noise);
        }
    }
}

#[test]
fn every_objective_and_level_has_the_gradient_of_its_loss() {
    let teacher = Objective::Teacher { temperature: 2.0 };
    let labels = Objective::Labels { weights: vec![1.0, 2.0, 0.5] };
    for (objective, level) in [
        (plain(), Level::Vector),
        (plain(), Level::Tokens),
        (teacher, Level::UnitVector),
        (Objective::Contrast { temperature: 0.2, together: 2 }, Level::UnitVector),
        (labels, Level::Vector),
        (Objective::Values, Level::Vector),
    ] {
        let mut network = network("bert", FULL, Some(5), level);
        check_gradients(&format!("{objective:?} {level:?}"), &mut network, &objective, Some(NOISE));
    }
}

#[test]
fn adapters_have_the_gradient_of_the_loss_and_nothing_else_is_trained() {
    use LoraTarget::{Down, Key, Output, Query, Up, Value};
    for targets in [vec![Query, Value], vec![Query, Key, Value, Output, Up, Down]] {
        let params = LoraParams { rank: 3, alpha: 6.0, targets };
        let mut network = network("mpnet", Scope::Lora(params), None, Level::UnitVector);
        // B starts at zero, where A has no gradient.
        for index in 0..network.parameters().len() {
            if network.parameters()[index].names()[0].contains("lora_B") {
                let n = network.parameters()[index].values().len();
                network
                    .values_mut(index)
                    .iter_mut()
                    .zip(0..n)
                    .for_each(|(b, i)| *b = ((i * 7) % 11) as f32 / 50.0 - 0.1);
            }
        }
        network.refresh();
        check_gradients("lora", &mut network, &plain(), Some(NOISE));
        let trained = network.parameters().iter().filter(|p| p.trained()).map(|p| &p.names()[0]);
        assert!(trained.clone().all(|name| name.contains("lora_") || name.starts_with("classifier")));
    }
}

#[test]
fn a_second_head_has_the_gradient_of_its_loss_and_is_not_saved() {
    let head = SecondHead { shares: vec![0.2, 0.5, 0.7, 0.1], weight: 0.6 };
    for (scope, hidden, level) in [
        (FULL, None, Level::UnitVector),
        (FULL, Some(5), Level::Vector),
        (Scope::Lora(LoraParams { rank: 3, ..LoraParams::default() }), None, Level::UnitVector),
    ] {
        let mut network = network("bert", scope, hidden, level);
        network.add_second(&head).unwrap();
        assert!(network.add_second(&head).is_err());
        // Weights start at zero, where the encoder gets no gradient.
        for index in 0..network.parameters().len() {
            if ["second.weight", "lora_B"].iter().any(|part| network.parameters()[index].names()[0].contains(part)) {
                network
                    .values_mut(index)
                    .iter_mut()
                    .zip(0u32..)
                    .for_each(|(x, i)| *x = ((i * 7) % 11) as f32 / 20.0 - 0.25);
            }
        }
        network.refresh();
        check_gradients(&format!("second head, {level:?}"), &mut network, &plain(), Some(NOISE));
        let files = network.encoder_files().unwrap();
        let weights = &files["model.safetensors"];
        assert!(!weights.windows(6).any(|bytes| bytes == b"second"));
    }
}

#[test]
fn a_target_that_no_second_head_can_learn_is_refused() {
    let mut network = network("bert", FULL, None, Level::UnitVector);
    let mut example = Example::new(vec![vec![5, 6]], Target::Class(0));
    example.second = Some(vec![3]);
    assert!(network.accepts(&example, &plain()).is_err());
    network.add_second(&SecondHead { shares: vec![0.5; 3], weight: 1.0 }).unwrap();
    assert!(network.accepts(&example, &plain()).is_err());
    example.second = Some(vec![2]);
    network.accepts(&example, &plain()).unwrap();
    example.target = Target::Shares(vec![0.5, 0.2, 0.2]);
    assert!(network.accepts(&example, &plain()).is_err(), "shares that are no distribution");
}

#[test]
fn frozen_layers_change_no_gradient_above_them() {
    let objective = plain();
    let examples = examples(Level::UnitVector, &objective);
    let batch = Batch::new(&examples);
    let gradients = |scope| {
        let network = network("bert", scope, None, Level::UnitVector);
        let mut gradients = Gradients::new(network.parameters());
        network.loss_and_gradients(&batch, &objective, None, 1.0, &mut Pass::default(), &mut gradients);
        gradients.settle();
        gradients
    };
    let whole = gradients(FULL);
    for frozen_layers in [0, 1, 2] {
        let part = gradients(Scope::Full { words: false, frozen_layers });
        let network = network("bert", Scope::Full { words: false, frozen_layers }, None, Level::UnitVector);
        let mut trained = 0;
        for (index, parameter) in network.parameters().iter().enumerate() {
            assert_eq!(parameter.trained(), part.wanted(index));
            if part.wanted(index) {
                trained += 1;
                assert_eq!(part.get(index), whole.get(index), "{:?}", parameter.names());
            }
        }
        assert!(trained >= 2 && !part.wanted(0));
    }
}

#[test]
fn the_trained_encoder_reads_back_as_the_one_that_serves() {
    for (name, scope) in [("bert", FULL), ("mpnet", FULL), ("distilbert", Scope::Lora(LoraParams::default()))] {
        let mut network = network(name, scope, None, Level::UnitVector);
        for index in 0..network.parameters().len() {
            if network.parameters()[index].trained() {
                network
                    .values_mut(index)
                    .iter_mut()
                    .zip(0u32..)
                    .for_each(|(x, i)| *x += ((i % 13) as f32 - 6.0) / 100.0);
            }
        }
        network.refresh();
        let folder = tempfile::tempdir().unwrap();
        network.save_encoder(folder.path()).unwrap();
        for (path, bytes) in network.encoder_files().unwrap() {
            assert!(std::fs::read(folder.path().join(&path)).unwrap() == bytes, "{path}");
        }
        let options = EncoderOptions { dtype: Dtype::F32, max_tokens: 512, windows: 1, pooling: None };
        let served = understudy_model::encoder::Encoder::load(folder.path(), &options).unwrap();
        let before = understudy_model::encoder::Encoder::load(&fixture(name), &options).unwrap();
        let example = Example::new(vec![vec![5, 9, 4, 17, 20]], Target::Class(0));
        let mut pass = Pass::default();
        let ours = network.vectors_of(&Batch::new([&example]), &mut pass);
        let embed = |encoder: &understudy_model::encoder::Encoder| {
            encoder.embed(&[Tokens::from_ids(example.windows[0].clone()).unwrap()], &mut Scratch::default()).remove(0)
        };
        let difference = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let (same, moved) = (difference(ours, &embed(&served)), difference(ours, &embed(&before)));
        println!("{name}: served differs by {same:.2e}, the base by {moved:.2e}");
        assert!(same < 1e-5 && moved > 1e-3);
    }
}
