use super::*;
use crate::device::Device;
use crate::encoder::{
    Batch, Example, Gradients, HeadShape, Level, LoraParams, Network, NetworkOptions, Noise, Pass, Scope, SecondHead,
    Target,
};
use crate::tests::Ticks;
use std::{ops::ControlFlow, path::Path, time::Duration};
use understudy_core::{ErrorKind, Result, Seed};

fn network(scope: Scope) -> Network {
    let head = HeadShape { outputs: 3, hidden: None, level: Level::UnitVector };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/encoder/bert");
    Network::load(&folder, &NetworkOptions { scope, head, seed: Seed(7) }).unwrap()
}

const FULL: Scope = Scope::Full { words: false, frozen_layers: 0 };

/// Texts of three classes: most words are of the class, some are anybody's.
fn texts(n: u32, seed: u32) -> Vec<Example> {
    let mut state = seed;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let text = |i: u32| {
        let class = i % 3;
        let words = 3 + random(10);
        let word = |_| if random(5) == 0 { 4 + random(24) } else { 4 + class * 8 + random(8) };
        let ids = (0..words).map(word).collect();
        Example::new(vec![ids], Target::Class(class as usize))
    };
    (0..n).map(text).collect()
}

fn params() -> FinetuneParams {
    FinetuneParams { epochs: 4, batch: 16, rate: 2e-3, head_rate: 2e-2, average: 0.9, ..FinetuneParams::default() }
}

/// What a run is cut off by.
type Watch<'a> = &'a mut (dyn FnMut(&Progress) -> ControlFlow<()> + Send);

fn fit(
    params: FinetuneParams,
    scope: Scope,
    threads: usize,
    file: Option<&Path>,
    progress: Watch<'_>,
) -> Result<Finetuned<Network>> {
    fit_on(Device::Cpu, params, scope, threads, file, progress)
}

fn fit_on(
    device: Device,
    params: FinetuneParams,
    scope: Scope,
    threads: usize,
    file: Option<&Path>,
    progress: Watch<'_>,
) -> Result<Finetuned<Network>> {
    let (train, held_out) = (texts(90, 1), texts(30, 2));
    let checkpoints = file.map(|path| Checkpoints { path, every: Duration::from_secs(1) });
    let run = Run { clock: &Ticks::default(), device, threads, progress, checkpoints };
    params.check()?.fit(network(scope), Data { train: &train, held_out: &held_out }, Seed(3), run)
}

fn go_on(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_network_learns_and_the_best_weights_are_kept() {
    // The encoder's numbers are random: what is frozen of it is of little use, and one class in three is right by chance.
    let lora = Scope::Lora(LoraParams { rank: 4, ..LoraParams::default() });
    for (scope, least) in [(FULL, 0.9), (lora, 0.7), (Scope::Head, 0.5)] {
        let mut losses = Vec::new();
        let mut watch = |progress: &Progress| {
            losses.push(progress.loss);
            ControlFlow::Continue(())
        };
        let params = FinetuneParams { epochs: 20, patience: 0, ..params() };
        let done = fit(params.clone(), scope.clone(), 2, None, &mut watch).unwrap();
        let best = done.history.iter().find(|record| record.step == done.kept_step).unwrap().held_out.unwrap();
        println!("{scope:?}: accuracy {:?} at step {} of {}", best.accuracy, done.kept_step, done.steps);
        let (first, last) = (done.history[0].loss, done.history[done.history.len() - 1].loss);
        assert!(last < first && best.accuracy.unwrap() > least && losses.len() == 120);
        let accuracies = done.history.iter().filter_map(|record| record.held_out?.accuracy);
        assert!(accuracies.fold(0.0, f64::max) <= best.accuracy.unwrap());
        assert_eq!((done.ended, done.steps), (Ended::Finished, 120));
        let again = encoders::evaluation(done.network, &params, &texts(30, 2));
        assert!((again.loss - best.loss).abs() < 1e-6, "the kept weights are those that were evaluated");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for scope in [FULL, Scope::Lora(LoraParams::default())] {
        let hash = |threads| fit(params(), scope.clone(), threads, None, &mut go_on).unwrap().network.hash();
        let (one, two, three) = (hash(1), hash(2), hash(3));
        assert_eq!(one, two);
        assert_eq!(one, three);
    }
}

#[test]
fn a_run_cut_off_after_any_step_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for scope in [FULL, Scope::Lora(LoraParams::default())] {
        let whole = fit(params(), scope.clone(), 2, None, &mut go_on).unwrap();
        assert_eq!(whole.steps, 24);
        // The first step, the middle of an epoch, around its end (with and without a better evaluation), the last but one.
        for cut in [1, 3, 5, 6, 7, 12, 18, 23] {
            // Killed: the file is what the last write left, some steps before the end of the process.
            let (file, copy) = (folder.path().join("a"), folder.path().join("b"));
            let mut watch = |progress: &Progress| {
                if progress.step == cut {
                    std::fs::copy(&file, &copy).unwrap();
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            };
            let part = fit(params(), scope.clone(), 2, Some(&file), &mut watch).unwrap();
            assert_eq!((part.ended, part.steps), (Ended::Interrupted, cut));
            // Interrupted: the end of the run wrote the file.
            for file in [&copy, &file] {
                let rest = fit(params(), scope.clone(), 1, Some(file), &mut go_on).unwrap();
                assert_eq!(rest.network.hash(), whole.network.hash(), "cut after step {cut}");
                assert_eq!((rest.history, rest.kept_step), (whole.history.clone(), whole.kept_step));
                std::fs::remove_file(file).unwrap();
            }
        }
    }
}

#[test]
fn a_second_head_and_shares_resume_to_the_same_bits_and_teach_what_holds() {
    let folder = tempfile::tempdir().unwrap();
    let taught = |n: u32, seed: u32| -> Vec<Example> {
        let mut examples = texts(n, seed);
        for (i, example) in examples.iter_mut().enumerate() {
            let Target::Class(class) = example.target else { continue };
            // The reasons of a class have its word, and one that every other text has.
            let column = u32::try_from(class).unwrap();
            example.second = (i % 7 != 0).then(|| if i % 2 == 0 { vec![column, 3] } else { vec![column] });
            if i % 5 == 0 {
                let mut shares = vec![0.1; 3];
                shares[class] = 0.8;
                example.target = Target::Shares(shares);
            }
        }
        examples
    };
    let (train, held_out) = (taught(90, 1), texts(30, 2));
    let train_for = |epochs: usize, weight: f64, file: Option<&Path>, progress: Watch<'_>| {
        let mut network = network(FULL);
        network.add_second(&SecondHead { shares: vec![0.33, 0.33, 0.33, 0.5], weight }).unwrap();
        let checkpoints = file.map(|path| Checkpoints { path, every: Duration::from_secs(1) });
        let run = Run { clock: &Ticks::default(), device: Device::Cpu, threads: 2, progress, checkpoints };
        let params = FinetuneParams { epochs, ..params() };
        params.check()?.fit(network, Data { train: &train, held_out: &held_out }, Seed(3), run)
    };
    let fit = |weight, file: Option<&Path>, progress: Watch<'_>| train_for(4, weight, file, progress);
    let whole = fit(0.3, None, &mut go_on).unwrap();
    assert!(fit(0.1, None, &mut go_on).unwrap().network.hash() != whole.network.hash(), "the weight counts");
    for cut in [3, 7, 13] {
        let file = folder.path().join("a");
        let mut watch = |p: &Progress| if p.step == cut { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        fit(0.3, Some(&file), &mut watch).unwrap();
        let other = fit(0.1, Some(&file), &mut go_on).err().unwrap();
        assert!(other.message().contains("other data, parameters"), "{other}");
        let rest = fit(0.3, Some(&file), &mut go_on).unwrap();
        assert_eq!((rest.network.hash(), rest.history), (whole.network.hash(), whole.history.clone()), "after {cut}");
        std::fs::remove_file(&file).unwrap();
    }
    let test = taught(60, 5);
    let mut pass = Pass::default();
    let learned = train_for(20, 1.0, None, &mut go_on).unwrap();
    let said = learned.network.second_outputs_of(&Batch::new(&test), &mut pass);
    let right = said.chunks_exact(4).zip(&test).filter(|(row, example)| {
        let class = match &example.target {
            Target::Class(class) => *class,
            Target::Shares(shares) => shares.iter().position(|p| *p > 0.5).unwrap(),
            _ => unreachable!("texts have classes"),
        };
        (0..3).all(|column| row[column] <= row[class])
    });
    let right = right.count();
    println!("the second head finds the class's word in {right} of 60");
    assert!(right > 45);
}

#[test]
fn a_checkpoint_of_another_run_or_a_damaged_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run");
    fit(FinetuneParams { epochs: 1, ..params() }, FULL, 1, Some(&file), &mut go_on).unwrap();
    let other = fit(FinetuneParams { epochs: 2, ..params() }, FULL, 1, Some(&file), &mut go_on).err().unwrap();
    assert!(other.kind() == ErrorKind::Invalid && other.message().contains("other data, parameters"), "{other}");
    std::fs::write(&file, b"no").unwrap();
    let damaged = fit(params(), FULL, 1, Some(&file), &mut go_on).err().unwrap();
    assert!(damaged.kind() == ErrorKind::Data && damaged.message().contains("delete it"), "{damaged}");
}

#[test]
fn a_batch_in_several_passes_learns_what_it_learns_in_one() {
    let weights = |pass_tokens| {
        let params = FinetuneParams { pass_tokens, dropout: 0.0, head_dropout: 0.0, epochs: 1, ..params() };
        let network = fit(params, FULL, 2, None, &mut go_on).unwrap().network;
        network.parameters().iter().flat_map(|p| p.values().to_vec()).collect::<Vec<f32>>()
    };
    let (one, many) = (weights(100_000), weights(20));
    let worst = one.iter().zip(&many).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("passes of 20 tokens: weights differ by {worst:.2e}");
    assert!(worst < 2e-4);
}

#[test]
fn numbers_that_leave_the_finite_end_the_run_with_a_clear_error() {
    let params = FinetuneParams { rate: 1e30, clip: 0.0, warmup: 0.0, ..params() };
    let error = fit(params, FULL, 1, None, &mut go_on).err().unwrap();
    assert!(error.kind() == ErrorKind::Invalid && error.message().contains("lower the learning rate"), "{error}");
}

#[test]
fn time_patience_and_the_caller_end_a_run() {
    let timed = fit(FinetuneParams { seconds: 20.0, ..params() }, FULL, 1, None, &mut go_on).unwrap();
    assert!(timed.ended == Ended::Time && timed.steps < 24);
    let stuck = FinetuneParams { rate: 1e-12, head_rate: 1e-12, average: 0.0, epochs: 50, patience: 2, ..params() };
    let early = fit(stuck, FULL, 1, None, &mut go_on).unwrap();
    assert!(early.ended == Ended::Early && early.history.len() < 20, "{}", early.history.len());
    assert_eq!(early.samples, 90 * early.history.len() as u64);
    // An epoch has six steps, the last of ten examples.
    let mut stop = |p: &Progress| if p.step == 8 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let cut = fit(params(), FULL, 1, None, &mut stop).unwrap();
    assert_eq!((cut.ended, cut.samples), (Ended::Interrupted, 90 + 2 * 16));
}

#[test]
fn wrong_parameters_and_examples_are_named() {
    let error = FinetuneParams { layer_decay: 0.0, ..params() }.check().err().unwrap();
    assert_eq!(error.param(), Some("layer_decay"));
    for (example, says) in [
        (Example::new(vec![vec![1; 60]], Target::Class(0)), "60 tokens in a row"),
        (Example::new(vec![vec![999]], Target::Class(0)), "vocabulary"),
        (Example::new(vec![], Target::Class(0)), "no tokens"),
        (Example::new(vec![vec![1]], Target::Class(3)), "does not fit 3 outputs"),
    ] {
        let train = [texts(2, 1), vec![example]].concat();
        let run =
            Run { clock: &Ticks::default(), device: Device::Cpu, threads: 1, progress: &mut go_on, checkpoints: None };
        let data = Data { train: &train, held_out: &[] };
        let error = params().check().unwrap().fit(network(FULL), data, Seed(0), run).err().unwrap();
        assert!(error.message().contains(says) && error.message().contains("example 3"), "{error}");
    }
}

#[cfg(feature = "candle")]
#[test]
fn a_run_on_a_device_is_the_run_here_but_for_rounding_and_goes_on_where_it_was_cut() {
    let lora = Scope::Lora(LoraParams { rank: 4, ..LoraParams::default() });
    for scope in [FULL, lora] {
        let here = fit(params(), scope.clone(), 2, None, &mut go_on).unwrap();
        let there = fit_on(Device::Candle, params(), scope.clone(), 2, None, &mut go_on).unwrap();
        let apart = here.losses.iter().zip(&there.losses).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{scope:?}: largest difference of a loss {apart:.1e} in {} steps", here.steps);
        assert!(apart < 1e-3 && here.steps == there.steps && here.kept_step == there.kept_step);

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("checkpoint");
        let mut cut = |progress: &Progress| match progress.step {
            7 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let ended = fit_on(Device::Candle, params(), scope.clone(), 2, Some(&file), &mut cut).unwrap();
        assert_eq!((ended.ended, ended.steps), (Ended::Interrupted, 7));
        // The CPU does not go on from what a device has begun.
        let told = fit(params(), scope.clone(), 2, Some(&file), &mut go_on).map(drop).unwrap_err();
        assert_eq!(told.kind(), ErrorKind::Invalid);
        let resumed = fit_on(Device::Candle, params(), scope, 2, Some(&file), &mut go_on).unwrap();
        assert_eq!((resumed.losses, resumed.network.hash()), (there.losses, there.network.hash()));
    }
}

/// Where layers are computed that fails at its third pass.
struct Broken(u32);

impl crate::encoder::Layers for Broken {
    fn encode(&mut self, network: &Network, batch: &Batch<'_>, _: Option<&Noise>, states: &mut Vec<f32>) {
        self.0 += 1;
        states.resize(batch.ids.len() * network.width(), if self.0 < 3 { 0.1 } else { f32::NAN });
    }

    fn backward(&mut self, network: &Network, _: &[f32], gradients: &mut Gradients) {
        (0..network.parameters().len())
            .filter(|i| network.parameters()[*i].trained())
            .for_each(|i| gradients.sum(i).fill(0.0));
    }

    fn trouble(&mut self) -> Option<understudy_core::Error> {
        (self.0 >= 3).then(|| understudy_core::Error::internal("compute on `it`: out of memory"))
    }
}

#[test]
fn a_device_that_fails_ends_the_run_and_says_why() {
    let (params, train) = (params(), texts(90, 1));
    let pass = Pass { elsewhere: Some(Box::new(Broken(0))), ..Pass::default() };
    let data = Data { train: &train, held_out: &train[..3] };
    let run =
        Run { clock: &Ticks::default(), device: Device::Cpu, threads: 1, progress: &mut go_on, checkpoints: None };
    let told = super::encoders::fit_through(pass, network(FULL), &params, data, run).map(drop).unwrap_err();
    assert!(told.to_string().contains("out of memory"), "{told}");
    // While it is evaluated too.
    let pass = Pass { elsewhere: Some(Box::new(Broken(0))), ..Pass::default() };
    let few = Data { train: &train[..20], held_out: &train[..3] };
    let run =
        Run { clock: &Ticks::default(), device: Device::Cpu, threads: 1, progress: &mut go_on, checkpoints: None };
    let told = super::encoders::fit_through(pass, network(FULL), &params, few, run).map(drop).unwrap_err();
    assert!(told.to_string().contains("out of memory"), "{told}");
}
