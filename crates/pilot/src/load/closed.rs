//! The closed loop: users who each ask again as soon as they have their answer.

use super::{Asked, Budget, Measured, Offered, Plan, Target};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;
use understudy_core::{Clock, Result};

/// After a failure a user waits this long: a server that refuses must not be hammered in a tight loop.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// While others' answers decide whether there is money left.
const FOR_MONEY: Duration = Duration::from_millis(2);

/// One answer: when its request began and ended, in seconds on the clock.
struct Sample {
    began: f64,
    ended: f64,
    answer: Result<Asked>,
}

/// Measures `users` in a closed loop: requests that began after the warm-up count, also those whose answer came after the
/// end.
pub async fn closed(
    target: &Arc<dyn Target>,
    users: usize,
    plan: &Plan,
    budget: &Arc<Budget>,
    clock: &Arc<dyn Clock>,
) -> Measured {
    let (counting, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..users {
        let (target, budget, clock) = (target.clone(), budget.clone(), clock.clone());
        let (counting, ended, next) = (counting.clone(), ended.clone(), next.clone());
        tasks.spawn(async move {
            let mut seen: Vec<Sample> = Vec::new();
            while !ended.load(Ordering::Relaxed) && !budget.is_spent() {
                if !budget.admit() {
                    tokio::time::sleep(FOR_MONEY).await;
                    continue;
                }
                let counts = counting.load(Ordering::Relaxed);
                let began = clock.monotonic().as_secs_f64();
                let answer = target.ask(next.fetch_add(1, Ordering::Relaxed)).await;
                budget.done(answer.as_ref().ok().and_then(|asked| asked.cost), answer.is_ok());
                if answer.is_err() {
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
                if counts {
                    seen.push(Sample { began, ended: clock.monotonic().as_secs_f64(), answer });
                }
            }
            seen
        });
    }
    pause(plan.warm_up, budget).await;
    counting.store(true, Ordering::Relaxed);
    let started = clock.monotonic().as_secs_f64();
    pause(plan.length, budget).await;
    ended.store(true, Ordering::Relaxed);
    let mut samples: Vec<Sample> = tasks.join_all().await.into_iter().flatten().collect();
    // Answers still under way at the end belong to the measurement, and their time does too.
    let seconds = clock.monotonic().as_secs_f64() - started;
    samples.sort_by(|a, b| a.began.total_cmp(&b.began));
    let mut measured = Measured { seconds, ..Measured::empty(Offered::Users(users)) };
    for sample in samples {
        match sample.answer {
            Ok(asked) => {
                measured.latencies_ms.push((sample.ended - sample.began) * 1e3);
                measured.ended_s.push(sample.ended - started);
                measured.marked += u64::from(asked.marked);
                measured.output_tokens += asked.output_tokens;
            }
            Err(error) => measured.fail(error),
        }
    }
    measured
}

/// Waits, unless the money runs out first.
pub(super) async fn pause(length: Duration, budget: &Budget) {
    const STEP: Duration = Duration::from_millis(20);
    let end = tokio::time::Instant::now() + length;
    while tokio::time::Instant::now() < end && !budget.is_spent() {
        tokio::time::sleep_until(end.min(tokio::time::Instant::now() + STEP)).await;
    }
}
