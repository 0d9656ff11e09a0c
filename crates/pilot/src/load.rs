//! Load: users against latency, queueing and saturation, for any backend.
//!
//! Two ways to load. In a *closed loop* each of N users asks again as soon as there is an answer: it shows how many
//! users a machine carries. In an *open loop* requests arrive by a Poisson process whether or not the earlier ones are
//! answered, and their time counts from the moment they should have been sent, so that a stall is felt by everybody who
//! would have come during it (coordinated omission: G. Tene, 2013). Callers: the command line and the benches, which bring
//! the target, the clock and the seed.

mod budget;
mod closed;
mod measured;
mod open;
mod prompts;
mod scalability;
mod target;

pub use budget::{Budget, Limits};
pub use closed::closed;
pub use measured::{Measured, Offered};
pub use open::open;
pub use prompts::{Prompt, read_prompts};
pub use scalability::{Scalability, saturation_users, scalability};
pub use target::{Asked, Target, Texts};

use std::{sync::Arc, time::Duration};
use understudy_core::{Clock, Error, Result, Seed};

/// Level of every interval here.
pub const LEVEL: f64 = 0.95;
/// Beyond this many users the search ends.
pub const MOST_USERS: usize = 12_800;

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Users in each closed-loop step, ascending.
    pub users: Vec<usize>,
    /// Shares of the highest throughput seen that are offered in open-loop steps.
    pub rates: Vec<f64>,
    /// Requests that begin in this time are not counted.
    pub warm_up: Duration,
    /// Length of a step after that.
    pub length: Duration,
    /// The most users and the highest rate whose 95th percentile stays within this are searched for, in milliseconds.
    pub within_ms: Option<f64>,
    /// Randomness of the arrivals.
    pub seed: Seed,
}

/// What was measured.
#[derive(Debug)]
pub struct Report {
    /// Closed-loop steps, by users.
    pub closed: Vec<Measured>,
    /// Open-loop steps, by rate.
    pub open: Vec<Measured>,
    /// The fit of throughput over users; none with fewer than three steps.
    pub scalability: Option<Scalability>,
    /// Users from which on they mostly wait for each other: highest throughput × time of a lone request.
    pub saturation_users: Option<f64>,
    /// The most users that stayed within the limit, without a failure.
    pub most_users: Option<usize>,
    /// The highest open-loop rate that did, in requests a second.
    pub most_rate: Option<f64>,
    /// Whether the budget ended it early.
    pub out_of_budget: bool,
}

/// Measures by plan: the steps, the search for the most users, then the rates. `step` hears of each step that is done.
///
/// # Errors
/// `Invalid` for a plan without steps, a length of zero or a rate that is not positive; the first answer's error when
/// every request of the first step failed.
pub async fn run(
    target: &Arc<dyn Target>,
    plan: &Plan,
    budget: &Arc<Budget>,
    clock: &Arc<dyn Clock>,
    mut step: impl FnMut(&Measured),
) -> Result<Report> {
    check(plan)?;
    let mut steps: Vec<Measured> = Vec::new();
    for users in &plan.users {
        if budget.is_spent() {
            break;
        }
        let measured = closed(target, *users, plan, budget, clock).await;
        step(&measured);
        if let (true, Some(error)) = (measured.answered() == 0, &measured.first_error) {
            if steps.is_empty() {
                return Err(error.clone());
            }
            steps.push(measured);
            break;
        }
        steps.push(measured);
    }
    let most_users = match plan.within_ms {
        Some(limit) => search(target, plan, budget, clock, limit, &mut steps, &mut step).await,
        None => None,
    };
    steps.sort_by_key(|measured| measured.offered.users());
    let highest = steps.iter().map(Measured::per_second).fold(0.0, f64::max);
    let mut rates = Vec::new();
    for (index, share) in plan.rates.iter().enumerate() {
        if budget.is_spent() || highest <= 0.0 {
            break;
        }
        let seed = plan.seed.derive(&format!("rate {index}"));
        let measured = open(target, share * highest, seed, plan, budget, clock).await;
        step(&measured);
        rates.push(measured);
    }
    let most_rate = plan.within_ms.and_then(|limit| {
        let holding = rates.iter().filter(|measured| measured.holds(limit));
        holding.filter_map(|measured| measured.offered.rate()).reduce(f64::max)
    });
    let sound: Vec<(f64, f64)> = steps
        .iter()
        .filter(|measured| measured.failed() == 0 && measured.answered() > 0)
        .filter_map(|measured| Some((measured.offered.users()? as f64, measured.per_second())))
        .collect();
    Ok(Report {
        scalability: scalability(&sound),
        saturation_users: saturation_users(&steps),
        closed: steps,
        open: rates,
        most_users,
        most_rate,
        out_of_budget: budget.is_spent(),
    })
}

fn check(plan: &Plan) -> Result<()> {
    if plan.users.is_empty() || plan.users.contains(&0) || plan.length.is_zero() {
        return Err(Error::invalid("measure load: it takes at least one step of at least one user, and time"));
    }
    if plan.rates.iter().any(|rate| !rate.is_finite() || *rate <= 0.0) {
        return Err(Error::invalid("measure load: a rate is a share above 0 of the highest throughput"));
    }
    Ok(())
}

/// The most users within the limit: between the last step that holds and the first that does not, halved to 5 %; doubled
/// beyond the last step while it holds.
async fn search(
    target: &Arc<dyn Target>,
    plan: &Plan,
    budget: &Arc<Budget>,
    clock: &Arc<dyn Clock>,
    limit: f64,
    steps: &mut Vec<Measured>,
    step: &mut impl FnMut(&Measured),
) -> Option<usize> {
    let users = |measured: &Measured| measured.offered.users();
    let mut high = steps.iter().filter(|m| !m.holds(limit)).filter_map(users).min();
    let below = |m: &&Measured| high.is_none_or(|high| users(m).is_some_and(|users| users < high));
    let mut low = steps.iter().filter(|m| m.holds(limit)).filter(below).filter_map(users).max()?;
    while low < MOST_USERS && high.is_none_or(|high| high - low > low.div_ceil(20)) && !budget.is_spent() {
        let users = high.map_or(low * 2, |high| low.midpoint(high));
        let measured = closed(target, users, plan, budget, clock).await;
        step(&measured);
        if measured.holds(limit) {
            low = users
        } else {
            high = Some(users)
        }
        steps.push(measured);
    }
    Some(low)
}

#[cfg(test)]
mod tests;
