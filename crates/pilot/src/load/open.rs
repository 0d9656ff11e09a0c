//! The open loop: requests arrive by a Poisson process, whether or not the earlier ones are answered.

use super::{Asked, Budget, Measured, Offered, Plan, Target};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use understudy_core::{Clock, Result, Seed};

/// More requests open than this, and the step is given up: the queue only grows.
const MOST_OPEN: usize = 10_000;
/// How long the answers still under way are waited for, in lengths of the step.
const DRAIN: u32 = 2;

/// Offers `rate` requests a second. A request's time runs from the moment at which it should have been sent.
pub async fn open(
    target: &Arc<dyn Target>,
    rate: f64,
    seed: Seed,
    plan: &Plan,
    budget: &Arc<Budget>,
    clock: &Arc<dyn Clock>,
) -> Measured {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.0);
    let begin = tokio::time::Instant::now();
    let zero = clock.monotonic().as_secs_f64();
    let (warm_up, end) = (plan.warm_up.as_secs_f64(), (plan.warm_up + plan.length).as_secs_f64());
    let mut tasks: JoinSet<(usize, f64, Result<Asked>)> = JoinSet::new();
    let mut due_s: Vec<f64> = Vec::new();
    let mut measured = Measured { seconds: plan.length.as_secs_f64(), ..Measured::empty(Offered::Rate(rate)) };
    let mut done: Vec<(usize, f64, Result<Asked>)> = Vec::new();
    let (mut due, mut given_up) = (0.0, false);
    loop {
        due += -(1.0 - rng.random::<f64>()).ln() / rate;
        if due >= end || budget.is_spent() {
            break;
        }
        tokio::time::sleep_until(begin + Duration::from_secs_f64(due)).await;
        while let Some(finished) = tasks.try_join_next() {
            done.extend(finished.ok());
        }
        if tasks.len() >= MOST_OPEN {
            given_up = true;
            break;
        }
        if !budget.admit() {
            continue;
        }
        let (target, budget, clock, index) = (target.clone(), budget.clone(), clock.clone(), due_s.len());
        due_s.push(due);
        tasks.spawn(async move {
            let answer = target.ask(index as u64).await;
            budget.done(answer.as_ref().ok().and_then(|asked| asked.cost), answer.is_ok());
            (index, clock.monotonic().as_secs_f64() - zero, answer)
        });
    }
    // A step that was given up has its answer already: the queue only grows.
    let drain = if given_up { Duration::ZERO } else { plan.length * DRAIN };
    let deadline = tokio::time::Instant::now() + drain;
    while let Ok(Some(finished)) = tokio::time::timeout_at(deadline, tasks.join_next()).await {
        done.extend(finished.ok());
    }
    tasks.abort_all();
    let mut ends: Vec<Option<(f64, Result<Asked>)>> = due_s.iter().map(|_| None).collect();
    for (index, ended, answer) in done {
        ends[index] = Some((ended, answer));
    }
    for (due, end) in due_s.into_iter().zip(ends).filter(|(due, _)| *due >= warm_up) {
        match end {
            Some((ended, Ok(asked))) => {
                measured.latencies_ms.push((ended - due) * 1e3);
                measured.ended_s.push(ended - warm_up);
                measured.marked += u64::from(asked.marked);
                measured.output_tokens += asked.output_tokens;
            }
            Some((_, Err(error))) => measured.fail(error),
            None => {
                measured.latencies_ms.push(f64::INFINITY);
                measured.ended_s.push(f64::INFINITY);
            }
        }
    }
    measured
}
