//! What a device computes beside what the kernels compute: states, losses and the gradient of every parameter, on small
//! models of every architecture with dropout, and a whole run.

use crate::device::Device;
use crate::encoder::tests::fixture;
use crate::encoder::{
    Batch, Example, Gradients, HeadShape, Level, LoraParams, LoraTarget, Network, NetworkOptions, Noise, Objective,
    Pass, Scope, Target,
};
use understudy_core::Seed;

fn examples() -> Vec<Example> {
    let window = |n: u32, shift: u32| (0..n).map(|i| 4 + (i * 7 + shift) % 23).collect::<Vec<u32>>();
    let texts = [vec![window(9, 1)], vec![window(20, 2), window(5, 3)], vec![window(1, 4)], vec![window(33, 5)]];
    texts.into_iter().enumerate().map(|(i, windows)| Example::new(windows, Target::Class(i % 3))).collect()
}

fn network(name: &str, scope: &Scope) -> Network {
    let head = HeadShape { outputs: 3, hidden: None, level: Level::UnitVector };
    let mut network =
        Network::load(&fixture(name), &NetworkOptions { scope: scope.clone(), head, seed: Seed(7) }).unwrap();
    // Adapters begin at zero: what is above them would hide a mistake.
    for index in 0..network.parameters().len() {
        if network.parameters()[index].names()[0].contains("lora_B") {
            let values = network.values_mut(index).iter_mut().enumerate();
            values.for_each(|(i, x)| *x = ((i * 37 % 19) as f32 - 9.0) * 0.01);
        }
    }
    network.refresh();
    network
}

/// Largest difference, relative to the largest number.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(1e-12_f32, |m, x| m.max(x.abs()));
    a.iter().zip(b).fold(0.0_f32, |m, (x, y)| m.max((x - y).abs())) / largest
}

#[test]
fn a_device_computes_what_the_kernels_compute() {
    use LoraTarget::{Down, Key, Output, Query, Up, Value};
    let full = |words, frozen_layers| Scope::Full { words, frozen_layers };
    let lora = Scope::Lora(LoraParams { rank: 3, alpha: 6.0, targets: vec![Query, Key, Value, Output, Up, Down] });
    let noise = Noise { seed: 5, step: 3, pass: 1, hidden: 0.2, attention: 0.1, head: 0.1 };
    let objective = Objective::Classes { smoothing: 0.1, weights: Vec::new() };
    let examples = examples();
    let batch = Batch::new(&examples);
    for name in ["bert", "distilbert", "mpnet"] {
        for (what, scope) in [("full", full(true, 0)), ("without words", full(false, 0)), ("lora", lora.clone())] {
            for noise in [None, Some(&noise)] {
                let mut network = network(name, &scope);
                let mut device = Pass::on(Device::Candle).unwrap();
                let mut worst = (0.0_f32, String::new());
                // The second time after a step: the device must have noticed.
                for _ in 0..2 {
                    let (mut here, mut pass) = (Gradients::new(network.parameters()), Pass::default());
                    let mut there = Gradients::new(network.parameters());
                    let one = network.loss_and_gradients(&batch, &objective, noise, 0.25, &mut pass, &mut here);
                    let other = network.loss_and_gradients(&batch, &objective, noise, 0.25, &mut device, &mut there);
                    assert!(device.trouble().is_none());
                    assert!((one.sum - other.sum).abs() < 1e-5 * one.sum.abs(), "{name} {what}: {one:?} {other:?}");
                    here.settle();
                    there.settle();
                    for (index, parameter) in network.parameters().iter().enumerate() {
                        if parameter.trained() {
                            let found = apart(here.get(index), there.get(index));
                            // The softmax does not see what all keys have in common: that gradient is rounding.
                            let rounding = here.get(index).iter().all(|x| x.abs() < 1e-7);
                            if found > worst.0 && !rounding {
                                worst = (found, parameter.names()[0].clone());
                            }
                        }
                    }
                    for index in 0..network.parameters().len() {
                        if network.parameters()[index].trained() {
                            let step: Vec<f32> = here.get(index).to_vec();
                            network.values_mut(index).iter_mut().zip(step).for_each(|(x, g)| *x -= g);
                        }
                    }
                    network.refresh();
                }
                println!("{name}, {what}, dropout {}: {:.1e} in {}", noise.is_some(), worst.0, worst.1);
                assert!(worst.0 < 2e-4, "{name} {what}: {worst:?}");
            }
        }
    }
}
