//! A process that is killed while it trains, again and again, ends with the same weights as one that is left alone.

use std::{
    ops::ControlFlow,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use understudy_adapt::{
    encoder::{Example, HeadShape, Level, Network, NetworkOptions, Scope, Target},
    finetune::{Checkpoints, Data, FinetuneParams, Run},
};
use understudy_core::{Clock, Seed, Timestamp};

/// Names the child's checkpoint; a process that finds it in its environment is the child.
const CHILD: &str = "UNDERSTUDY_TEST_RESUME";

struct Wall(Instant);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Trains to the end and returns the hash of the weights.
#[expect(clippy::disallowed_methods, reason = "the clock of a test")]
fn train(checkpoint: &Path, pause: Duration) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/encoder/bert");
    let head = HeadShape { outputs: 2, hidden: None, level: Level::UnitVector };
    let scope = Scope::Full { words: false, frozen_layers: 0 };
    let network = Network::load(&folder, &NetworkOptions { scope, head, seed: Seed(1) });
    let network = network.expect("the folder holds an encoder");
    let text = |i: u32| {
        Example::new(vec![(0..5 + i % 7).map(|j| 4 + (i * i + 3 * j) % 24).collect()], Target::Class((i % 2) as usize))
    };
    let examples: Vec<Example> = (0..64).map(text).collect();
    let (held_out, learn) = examples.split_at(16);
    let params = FinetuneParams { epochs: 10, batch: 8, average: 0.9, patience: 0, ..FinetuneParams::default() };
    let mut progress = |_: &_| {
        std::thread::sleep(pause);
        ControlFlow::Continue(())
    };
    let checkpoints = Some(Checkpoints { path: checkpoint, every: Duration::ZERO });
    let run = Run {
        clock: &Wall(Instant::now()),
        device: understudy_adapt::device::Device::Cpu,
        threads: 1,
        progress: &mut progress,
        checkpoints,
    };
    let data = Data { train: learn, held_out };
    let params = params.check().expect("the parameters are in their ranges");
    params.fit(network, data, Seed(1), run).expect("training ends well").network.hash()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test that starts itself as another process")]
fn a_killed_process_resumes_to_the_hash_of_an_undisturbed_one() {
    if let Ok(checkpoint) = std::env::var(CHILD) {
        train(Path::new(&checkpoint), Duration::from_millis(5));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let whole = train(&folder.path().join("whole"), Duration::ZERO);
    let file = folder.path().join("killed");
    let mut kills = 0;
    // Delays that share no divisor with a step's length: the kills fall into steps, evaluations and writes.
    for delay in (0..400u64).map(|i| 60 + (i * 37) % 150) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_killed_process_resumes_to_the_hash_of_an_undisturbed_one"])
            .env(CHILD, &file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        // What was killed while it wrote leaves its unfinished file beside the whole one.
        assert!(!file.exists() || std::fs::metadata(&file).unwrap().len() > 0);
    }
    let resumed = train(&file, Duration::ZERO);
    println!("killed {kills} times");
    assert!(kills > 2);
    assert_eq!(resumed, whole);
}
