//! The same stream under a certificate: nothing is kept before one stands.
//!
//! At 200, 400, 800, … requests a student fitted on the first half is judged on the second half, which it has not
//! learnt from. The k-th attempt may be wrong with probability δ/2ᵏ, so that all together may with δ. Once a
//! certificate stands, that student answers from its threshold on, unchanged to the end.

use understudy_adapt::online::{
    CheckedOnlineParams, Online,
    forecast::{Recording, Step, Stream, Tally},
};
use understudy_core::{Error, LossKind, Result, Seed, Timestamp, hash::sha256_hex};
use understudy_pilot::{Grid, Item, Terms, certify};

/// Requests before the first attempt.
const FIRST: usize = 200;

/// Certified streams, one for each order.
pub(super) struct Certified {
    pub(super) tallies: Vec<Tally>,
    /// Requests until the certificate, where one was issued.
    pub(super) issued_after: Vec<Option<usize>>,
}

/// Checks ε and δ before anything is run.
pub(super) fn check(epsilon: f64, delta: f64) -> Result<()> {
    for (name, value) in [("epsilon", epsilon), ("delta", delta)] {
        if !(value > 0.0 && value < 1.0) {
            return Err(Error::invalid(format!("run stream: --{name} must lie between 0 and 1")).with_param(name));
        }
    }
    Ok(())
}

/// Runs every order.
pub(super) fn run(
    recording: &Recording,
    params: CheckedOnlineParams,
    orders: u64,
    seed: Seed,
    terms: (f64, f64),
    mut done: impl FnMut(),
) -> Result<Certified> {
    let mut out = Certified { tallies: Vec::new(), issued_after: Vec::new() };
    for order in 0..orders {
        let seed = seed.derive(&format!("order {order}"));
        let (stream, issued) = one(recording, params, &recording.order(seed), seed, terms)?;
        out.tallies.push(Tally::new(&stream.steps));
        out.issued_after.push(issued);
        (0..recording.requests.len()).for_each(|_| done());
    }
    Ok(out)
}

fn one(
    recording: &Recording,
    params: CheckedOnlineParams,
    order: &[usize],
    seed: Seed,
    (epsilon, delta): (f64, f64),
) -> Result<(Stream, Option<usize>)> {
    let at = |position: usize| &recording.requests[order[position]];
    let mut student = Online::new(params, at(0).embedding.len(), seed);
    let (mut learnt, mut end, mut attempt) = (0, FIRST, 1);
    let mut certificate = None;
    while end <= order.len() && certificate.is_none() {
        for position in learnt..end / 2 {
            // Everything is asked; what the student would have done does not matter yet.
            student.observe(&at(position).embedding)?;
            let request = at(position);
            student.learn(&request.large, recording.names.get(&request.large).map(Vec::as_slice))?;
        }
        learnt = end / 2;
        let items: Vec<Item> = (end / 2..end)
            .map(|position| {
                let said = student.predict(&at(position).embedding);
                Item {
                    id: position.to_string(),
                    confidence: said.map(|(_, agreement)| agreement),
                    loss_if_kept: said.is_some_and(|(answer, _)| answer != at(position).large),
                }
            })
            .collect();
        let terms = Terms {
            task: "stream".into(),
            small: "student".into(),
            small_hash: sha256_hex(b"student"),
            large: "large".into(),
            epsilon,
            delta: delta / 2f64.powi(attempt),
            loss: LossKind::Disagreement,
            issued: Timestamp(0),
        };
        if items.iter().any(|item| item.confidence.is_some()) {
            certificate = certify(&items, &terms, &Grid::default())?.certificate().map(|c| (end, c.threshold.get()));
        }
        end *= 2;
        attempt += 1;
    }
    let step = |position: usize| {
        let request = at(position);
        let kept = certificate
            .filter(|(issued, _)| position >= *issued)
            .and_then(|(_, threshold)| student.predict(&request.embedding).filter(|said| said.1 >= threshold));
        match kept {
            Some((answer, _)) => request.kept(answer),
            None => request.asked(),
        }
    };
    let steps: Vec<Step> = (0..order.len()).map(step).collect();
    Ok((Stream { steps, audits: student.audits() }, certificate.map(|(issued, _)| issued)))
}
