use super::*;
use crate::encoder::{
    Batch, Gradients, Guide, GuideParams, Guided, HeadShape, Level, NetworkOptions, Pass, Scope, Target,
};
use understudy_core::Seed;
use understudy_kernels::Dtype;
use understudy_model::encoder::{Encoder, EncoderOptions, Scratch, Tokens};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/encoder").join(name)
}

fn network(folder: &Path) -> Network {
    let head = HeadShape { outputs: 3, hidden: None, level: Level::UnitVector };
    let scope = Scope::Full { words: false, frozen_layers: 0 };
    Network::load(folder, &NetworkOptions { scope, head, seed: Seed(7) }).unwrap()
}

fn plain() -> Objective {
    Objective::Classes { smoothing: 0.0, weights: Vec::new() }
}

fn examples() -> Vec<Example> {
    let ids = |n: u32, shift: u32| (0..n).map(|i| 4 + (i * 7 + shift) % 23).collect::<Vec<u32>>();
    let lengths = [9, 20, 5, 14, 3, 11];
    let example = |(i, n): (usize, &u32)| Example::new(vec![ids(*n, *n)], Target::Class(i % 3));
    lengths.iter().enumerate().map(example).collect()
}

fn written(name: &str, kept: &Kept) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, bytes) in files(&fixture(name), kept).unwrap() {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

fn embed(folder: &Path, dtype: Dtype) -> Vec<f32> {
    let encoder = Encoder::load(folder, &EncoderOptions { dtype, ..EncoderOptions::default() }).unwrap();
    let tokens: Vec<Tokens> = examples().iter().map(|e| Tokens::from_ids(e.windows[0].clone()).unwrap()).collect();
    encoder.embed(&tokens, &mut Scratch::default()).concat()
}

fn vectors(network: &Network) -> Vec<f32> {
    network.vectors_of(&Batch::new(&examples()), &mut Pass::default()).to_vec()
}

fn farthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn what_remains_loads_and_serves_and_trains_as_the_same_encoder() {
    for name in ["bert", "distilbert", "mpnet"] {
        let config = Config::load(&fixture(name)).unwrap();
        let units: Vec<usize> = (0..config.inner_width).filter(|i| i % 3 != 0).collect();
        let kept = Kept { layers: vec![1], heads: vec![vec![1]], units: vec![units.clone()] };
        let folder = written(name, &kept);
        let smaller = Config::load(folder.path()).unwrap();
        assert_eq!((smaller.layers, smaller.inner_width), (1, units.len()));
        let (served, trained) = (embed(folder.path(), Dtype::F32), vectors(&network(folder.path())));
        let worst = farthest(&served, &trained);
        println!("{name}: one layer, one head: served against trained {worst:.2e}");
        assert!(worst < 1e-5, "{name}: {worst}");
        assert!(farthest(&served, &embed(folder.path(), Dtype::Int8)) < 0.05);
    }
}

#[test]
fn taking_nothing_out_changes_nothing() {
    let all = Kept { layers: vec![0, 1], heads: Vec::new(), units: Vec::new() };
    let folder = written("bert", &all);
    assert!(farthest(&embed(&fixture("bert"), Dtype::F32), &embed(folder.path(), Dtype::F32)) < 1e-7);
}

#[test]
fn importance_is_the_slope_of_the_loss_along_a_gate() {
    let network = network(&fixture("bert"));
    let example = &examples()[..1];
    let found = network.importance(example, &plain(), 8);
    assert_eq!((found.heads.len(), found.units.len()), (network.layers(), network.layers()));
    let names = Config::load(&fixture("bert")).unwrap().architecture.names();
    // Scaling a unit's outgoing weights is the same as a gate on its output.
    let (layer, unit) = (1, 5);
    let name = format!("{}.{layer}.{}.weight", names.layer, names.outer);
    let index = network.parameters().iter().position(|p| p.names()[0].ends_with(&name)).unwrap();
    let loss = |gate: f32| {
        let mut network = self::network(&fixture("bert"));
        let columns = network.parameters()[index].shape()[1];
        network.values_mut(index).chunks_exact_mut(columns).for_each(|row| row[unit] *= gate);
        network.refresh();
        network.loss(&Batch::new(example), &plain(), &mut Pass::default()).sum
    };
    let slope = (loss(1.05) - loss(0.95)) / 0.1;
    println!("slope along the gate {slope:.3e}, importance {:.3e}", found.units[layer][unit]);
    assert!((slope.abs() - found.units[layer][unit]).abs() < 0.02 * slope.abs() + 1e-6);
}

#[test]
fn the_layer_without_which_the_loss_is_least_goes_first() {
    let mut network = network(&fixture("bert"));
    let examples = examples();
    let (kept, losses) = layers(&mut network, 1, &examples, &plain());
    let alone: Vec<f64> = (0..2).map(|i| network.loss_with_layers(&[i], &examples, &plain())).collect();
    let best = if alone[0] <= alone[1] { 0 } else { 1 };
    assert_eq!((kept, losses.len(), network.layers()), (vec![best], 1, 2));
    assert!((losses[0] - alone[best]).abs() < 1e-12);
}

#[test]
fn the_greatest_stay_and_sizes_that_make_no_sense_are_refused() {
    let importance = [vec![0.1, 0.9, 0.5], vec![0.2, 0.2, 0.1]];
    assert_eq!(most_important(&importance, Some(2)), [vec![1, 2], vec![0, 1]]);
    assert!(most_important(&importance, Some(3)).is_empty() && most_important(&importance, None).is_empty());
    let config = Config::load(&fixture("bert")).unwrap();
    let size = |layers| Size { layers, heads: None, units: None };
    assert!(size(Some(1)).check(&config).is_ok());
    for wrong in [Some(0), Some(2), Some(3), None] {
        assert!(size(wrong).check(&config).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_guided_loss_has_the_gradient_that_is_used() {
    let mut teacher = network(&fixture("bert"));
    for index in 0..teacher.parameters().len() {
        teacher.values_mut(index).iter_mut().enumerate().for_each(|(i, w)| *w += 0.05 * ((i % 7) as f32 - 3.0));
    }
    teacher.refresh();
    let mut student = network(&fixture("bert"));
    let params = GuideParams { labels: 0.4, temperature: 2.0, states: 0.7 };
    let guide = Guide::new(teacher, vec![0, 1], params).unwrap();
    let (examples, mut guided, mut pass) = (examples(), Guided::default(), Pass::default());
    let batch = Batch::new(&examples);
    let mut run = |student: &Network, gradients: &mut Gradients| {
        let guide = (&guide, &mut guided);
        student.guided_loss_and_gradients(&batch, &plain(), guide, None, 1.0, &mut pass, gradients).sum
    };
    let mut gradients = Gradients::new(student.parameters());
    run(&student, &mut gradients);
    gradients.settle();
    let norm = gradients.norm();
    let start: Vec<Vec<f32>> = student.parameters().iter().map(|p| p.values().to_vec()).collect();
    let mut along = |step: f64| {
        for (index, start) in start.iter().enumerate().filter(|(i, _)| !gradients.get(*i).is_empty()) {
            let moved = student.values_mut(index).iter_mut().zip(start.iter().zip(gradients.get(index)));
            #[expect(clippy::cast_possible_truncation, reason = "moved in f64, stored in f32")]
            moved.for_each(|(w, (start, g))| *w = (f64::from(*start) + step * f64::from(*g) / norm) as f32);
        }
        student.refresh();
        run(&student, &mut Gradients::new(student.parameters()))
    };
    let h = 2e-3;
    let slope = (4.0 * (along(h) - along(-h)) / (2.0 * h) - (along(2.0 * h) - along(-2.0 * h)) / (4.0 * h)) / 3.0;
    println!("slope {slope:.6}, norm of the gradient {norm:.6}");
    assert!((slope - norm).abs() < 5e-3 * norm);
}

#[test]
fn heads_that_are_nothing_stay_nothing_while_the_rest_learns() {
    let folder = written("bert", &Kept { layers: vec![0, 1], heads: vec![vec![0], vec![1]], units: Vec::new() });
    let student = network(folder.path());
    let mut gradients = Gradients::new(student.parameters());
    student.loss_and_gradients(&Batch::new(&examples()), &plain(), None, 1.0, &mut Pass::default(), &mut gradients);
    gradients.settle();
    for (index, parameter) in student.parameters().iter().enumerate() {
        if parameter.names()[0].contains("attention") && parameter.shape().len() == 2 {
            let moved = parameter.values().iter().zip(gradients.get(index)).filter(|(w, g)| **w == 0.0 && **g != 0.0);
            assert_eq!(moved.count(), 0, "{:?}", parameter.names());
        }
    }
    assert!(gradients.norm() > 0.0);
}
