use super::*;
use futures_util::{FutureExt, future::BoxFuture};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;
use understudy_core::{Money, Timestamp};

/// Tokio's clock, so that a paused runtime makes time pass at once.
struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// `servers` that each take `ms` for a request; the rest waits in a queue.
struct Queue {
    servers: Semaphore,
    ms: u64,
    cost: Money,
    fail_every: u64,
    asked: AtomicU64,
}

impl Queue {
    fn new(servers: usize, ms: u64) -> Self {
        Self { servers: Semaphore::new(servers), ms, cost: Money::ZERO, fail_every: 0, asked: AtomicU64::new(0) }
    }
}

impl Target for Queue {
    fn ask(&self, _: u64) -> BoxFuture<'_, Result<Asked>> {
        async move {
            let n = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
            let _server = self.servers.acquire().await.expect("never closed");
            tokio::time::sleep(Duration::from_millis(self.ms)).await;
            if self.fail_every > 0 && n.is_multiple_of(self.fail_every) {
                return Err(Error::unavailable("ask: refused"));
            }
            Ok(Asked { cost: Some(self.cost), output_tokens: 3, marked: n.is_multiple_of(2) })
        }
        .boxed()
    }
}

fn plan(users: &[usize], rates: &[f64], within_ms: Option<f64>) -> Plan {
    Plan {
        users: users.to_vec(),
        rates: rates.to_vec(),
        warm_up: Duration::from_secs(1),
        length: Duration::from_secs(10),
        within_ms,
        seed: Seed(1),
    }
}

async fn measure(queue: Queue, plan: &Plan, limits: Limits) -> (Report, Arc<Budget>) {
    let (target, budget) = (Arc::new(queue) as Arc<dyn Target>, Arc::new(Budget::new(limits)));
    let clock: Arc<dyn Clock> = Arc::new(Paused(tokio::time::Instant::now()));
    let report = run(&target, plan, &budget, &clock, |_| ()).await.expect("valid");
    (report, budget)
}

#[tokio::test(start_paused = true)]
async fn a_queue_behaves_as_queueing_theory_says() {
    // Four servers of 10 ms: 400 a second at most; 20 users wait for each other, so that each answer takes 50 ms.
    let (report, _) = measure(Queue::new(4, 10), &plan(&[1, 2, 4, 20], &[], None), Limits::default()).await;
    let per_second: Vec<f64> = report.closed.iter().map(Measured::per_second).collect();
    assert!(
        (85.0..=100.0).contains(&per_second[0]) && (per_second[2] / per_second[0] - 4.0).abs() < 0.2,
        "{per_second:?}"
    );
    assert!((per_second[3] / per_second[2] - 1.0).abs() < 0.1, "{per_second:?}");
    let p50 = report.closed[3].quantile_ms(0.5).expect("answers").estimate;
    assert!((49.9..=56.0).contains(&p50), "{p50}");
    let knee = report.saturation_users.expect("a step of one user");
    assert!((3.5..=5.0).contains(&knee), "{knee}");
}

#[tokio::test(start_paused = true)]
async fn the_most_users_within_a_limit_are_found_between_the_steps() {
    // n users behind four servers of 10 ms take n/4 · 10 ms: 40 users take about 100 ms (timers round up to 11).
    let (report, _) = measure(Queue::new(4, 10), &plan(&[1, 8, 64], &[], Some(100.0)), Limits::default()).await;
    let most = report.most_users.expect("one user holds");
    assert!((34..=41).contains(&most), "{most}");
    assert!(report.closed.windows(2).all(|pair| pair[0].offered.users() <= pair[1].offered.users()));
}

#[tokio::test(start_paused = true)]
async fn an_overload_is_felt_in_the_open_loop() {
    let (report, _) = measure(Queue::new(4, 10), &plan(&[1, 8], &[0.5, 1.5], None), Limits::default()).await;
    let [calm, over] = &report.open[..] else { panic!("two rates") };
    assert!(!calm.is_overloaded() && over.is_overloaded());
    let p95 = |m: &Measured| m.quantile_ms(0.95).expect("answers").estimate;
    // Half as many again as can be served: after 11 seconds the queue is seconds long.
    assert!(p95(calm) < 40.0 && p95(over) > 2000.0, "{} {}", p95(calm), p95(over));
}

/// Stalls once for two seconds, otherwise answers in 1 ms.
struct Stall(tokio::time::Instant);

impl Target for Stall {
    fn ask(&self, _: u64) -> BoxFuture<'_, Result<Asked>> {
        async move {
            let end = self.0 + Duration::from_secs(5);
            if tokio::time::Instant::now() > self.0 + Duration::from_secs(3) {
                tokio::time::sleep_until(end).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(Asked::default())
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_not_hidden_from_those_who_would_have_come() {
    let target: Arc<dyn Target> = Arc::new(Stall(tokio::time::Instant::now()));
    let clock: Arc<dyn Clock> = Arc::new(Paused(tokio::time::Instant::now()));
    let budget = Arc::new(Budget::default());
    let measured = open(&target, 100.0, Seed(2), &plan(&[1], &[], None), &budget, &clock).await;
    let slow = measured.latencies_ms.iter().filter(|ms| **ms > 100.0).count();
    // Two seconds of a hundred arrivals each; a lone closed loop would have seen one slow answer.
    assert!((150..=230).contains(&slow), "{slow} of {}", measured.latencies_ms.len());
}

#[tokio::test(start_paused = true)]
async fn money_and_requests_end_the_measurement() {
    let dear = Queue { cost: Money::from_nanos(1_000), ..Queue::new(4, 10) };
    let limits = Limits { requests: None, money: Some(Money::from_nanos(50_000)) };
    let (report, budget) = measure(dear, &plan(&[4, 8], &[0.5], None), limits).await;
    assert!(report.out_of_budget && budget.money().0 <= Money::from_nanos(50_000));
    assert!(budget.money().0 >= Money::from_nanos(45_000), "{:?}", budget.money());
    let limits = Limits { requests: Some(100), money: None };
    let (report, budget) = measure(Queue::new(4, 10), &plan(&[4, 8], &[0.5], None), limits).await;
    assert_eq!((report.out_of_budget, budget.requests()), (true, 100));
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_and_a_dead_target_is_an_error() {
    let (report, _) =
        measure(Queue { fail_every: 4, ..Queue::new(4, 10) }, &plan(&[4], &[], Some(1e6)), Limits::default()).await;
    let step = &report.closed[0];
    let share = step.failed() as f64 / (step.failed() as f64 + step.answered() as f64);
    assert!((share - 0.25).abs() < 0.02 && step.errors.contains_key("unavailable"), "{share}");
    assert_eq!(report.most_users, None, "a step with failures does not hold");
    let target: Arc<dyn Target> = Arc::new(Queue { fail_every: 1, ..Queue::new(4, 10) });
    let clock: Arc<dyn Clock> = Arc::new(Paused(tokio::time::Instant::now()));
    let dead = run(&target, &plan(&[1], &[], None), &Arc::new(Budget::default()), &clock, |_| ()).await;
    assert!(dead.expect_err("nothing answers").message().contains("refused"));
}
