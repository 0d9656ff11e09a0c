//! A model as judge: every model beside the baseline, each pair of answers shown in both orders.
//!
//! What the judge said is in the journal like every other answer, under the hash of what it was shown: the same pair is
//! never paid for twice, whoever is the baseline then. What its contradictions say about the judge is reported with
//! what it says about the models.

use super::{
    Candidate, Ended, Plan, Progress, Prompting, Runner, Source,
    call::{FAILURES, Gauge, Opening},
    prompt,
    verdict::Tried,
};
use crate::metrics::{
    Metric,
    judge::{self, Judgement, Pair, Preference},
};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Mutex, sync::PoisonError};
use understudy_core::{
    Answer, Error, ErrorKind, Message, ModelName, RecordedAnswer, Request, Result, Role, Seed, TraceId,
    hash::sha256_hex, request::Sampling,
};
use understudy_stats::paired::mcnemar;

/// Longest reply of a judge in tokens: a sentence or two and the verdict.
const REPLY_TOKENS: u32 = 256;
/// Error that all verdicts of a judge share.
const ALPHA: f64 = 0.05;

/// What the judge is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Matches<'a> {
    /// The model that every other is compared with.
    pub baseline: &'a str,
    /// Rows of each model at most.
    pub rows: usize,
    /// Seed of intervals.
    pub seed: Seed,
}

/// Everything a judge said.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    /// The judge.
    pub model: String,
    /// What it is, for people.
    pub what: String,
    /// Whom the models were compared with.
    pub baseline: String,
    /// One for each other model.
    pub pairs: Vec<Preferred>,
    /// Why it was not asked any more.
    pub ended: Ended,
    /// Verdicts that it gave, two for each pair that differs.
    pub asked: usize,
    /// Of those, the ones that an earlier session had paid for.
    pub resumed: usize,
    /// Requests that failed after all retries.
    pub failed: usize,
    /// The first failure.
    pub first_error: Option<String>,
    /// What its verdicts cost, in USD; `None` where no price is known.
    pub cost_usd: Option<f64>,
    /// It is one of the models that it judges.
    pub judges_itself: bool,
}

/// A model beside the baseline in the eyes of the judge.
#[derive(Debug, Clone, Serialize)]
pub struct Preferred {
    /// The model.
    pub name: String,
    /// Pairs with equal answers: ties without asking, in none of the judge's figures.
    pub identical: u64,
    /// Pairs on which one of the two orders was never answered.
    pub missing: u64,
    /// The figures over pairs that differ; `win_rate` above ½ means that this model is preferred to the baseline.
    pub report: judge::Report,
    /// Of the pairs with a winner and with unequal measured quality, the share on which the judge prefers the better.
    pub agrees_with_metric: Option<Metric>,
    /// Exact two-sided sign test over wins and losses.
    pub p: f64,
    /// What this amounts to, at 5 % corrected for the number of models.
    pub verdict: Verdict,
}

/// What a judge's verdicts amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The model is preferred to the baseline.
    Better,
    /// The baseline is preferred.
    Worse,
    /// Neither is shown.
    Undecided,
    /// The judge contradicts itself so often that its verdicts say nothing: agreement not shown to exceed a coin's.
    Unreliable,
}

/// Both orders of a pair: what identifies the two requests.
struct Match<'t> {
    forward: (String, String),
    backward: (String, String),
    quality: (Option<f64>, Option<f64>),
    answers: (&'t str, &'t str),
}

impl Runner<'_> {
    /// Asks `judge` about every model beside the baseline, within what is left of the cost cap.
    ///
    /// # Errors
    /// `Invalid` when the judge cannot be asked or there is nothing to compare; `Data` when the journal cannot be
    /// written; what the judge says when it refuses from the start.
    pub async fn prefer(
        &mut self,
        judge: &Candidate,
        tried: &[Tried<'_>],
        matches: &Matches<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Judged> {
        let Source::Live(backend) = &judge.source else {
            return Err(Error::invalid(format!("judge with `{}`: recorded answers cannot judge", judge.name)));
        };
        let base = tried.iter().find(|t| t.candidate.name == matches.baseline);
        let others: Vec<&Tried<'_>> = tried.iter().filter(|t| t.candidate.name != matches.baseline).collect();
        let Some(base) = base.filter(|_| !others.is_empty()) else {
            return Err(Error::invalid("judge the answers: a judge compares, name at least two models with --model"));
        };
        let key = format!("judge {} {}", judge.name, judge.fingerprint);
        let all: Vec<Vec<Match<'_>>> = others.iter().map(|t| paired(self.plan, t, base, matches.rows)).collect();
        // What was judged before, or twice in this run, is asked once.
        let mut wanted: BTreeMap<&str, &str> = BTreeMap::new();
        let mut resumed = 0;
        let mut order = Vec::new();
        for (hash, prompt) in all.iter().flatten().filter(|m| m.differs()).flat_map(|m| [&m.forward, &m.backward]) {
            if self.journal.get(&key, hash).is_some() {
                resumed += 1;
            } else if wanted.insert(hash, prompt).is_none() {
                order.push((hash.as_str(), prompt.as_str()));
            }
        }
        let total = order.len();
        let clock = self.clock.clone();
        let gauge = Gauge::new(self.plan, self.spent, clock.as_ref(), self.sleep)?;
        let journal = Mutex::new(&mut *self.journal);
        let (gauge_ref, journal_ref, key_ref) = (&gauge, &journal, &key);
        let one = async |hash: &str, prompt: &str| -> Result<Result<Option<()>>> {
            let asked = gauge_ref.ask(judge, backend.as_ref(), &request(judge, prompt), recorded).await;
            Ok(match asked {
                Ok(Some(answer)) => {
                    let mut journal = journal_ref.lock().unwrap_or_else(PoisonError::into_inner);
                    journal.put(key_ref, hash, &answer)?;
                    Ok(Some(()))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            })
        };
        let (mut done, mut failed, mut in_a_row) = (0, 0, 0);
        let (mut first_error, mut ended) = (None, Ended::Done);
        let mut note = |reply: Result<Option<()>>| {
            done += 1;
            match reply {
                Ok(Some(())) => in_a_row = 0,
                Ok(None) => {}
                Err(error) => {
                    failed += 1;
                    in_a_row += 1;
                    first_error.get_or_insert_with(|| error.to_string());
                    let hopeless = in_a_row >= FAILURES || error.kind() == ErrorKind::Refused;
                    if ended == Ended::Done && hopeless {
                        ended = Ended::Failing(error.to_string());
                        gauge_ref.stop();
                    }
                }
            }
            progress(Progress { done, total, spent_usd: gauge_ref.spent().usd() });
        };
        let (mut rest, mut opening) = (order.into_iter(), Opening::default());
        for (hash, prompt) in rest.by_ref().take(Opening::REQUESTS) {
            let reply = one(hash, prompt).await?;
            if let Err(error) = &reply
                && opening.is_hopeless(error)
            {
                return Err(error.clone());
            }
            note(reply);
        }
        let one = &one;
        let replies = stream::iter(rest).map(|(hash, prompt)| async move { one(hash, prompt).await });
        let mut replies = std::pin::pin!(replies.buffer_unordered(judge.concurrency.max(1)));
        while let Some(reply) = replies.next().await {
            note(reply?);
        }
        if gauge.is_capped() && ended == Ended::Done {
            ended = Ended::CostCap;
        }
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.flush()?;
        let said = |(hash, _): &(String, String)| journal.get(&key, hash);
        let mut costs: BTreeMap<&str, Option<f64>> = BTreeMap::new();
        for shown in all.iter().flatten().filter(|m| m.differs()).flat_map(|m| [&m.forward, &m.backward]) {
            if let Some(answer) = said(shown) {
                costs.insert(&shown.0, answer.cost_usd);
            }
        }
        let alpha = ALPHA / others.len() as f64;
        let pairs = others
            .iter()
            .zip(&all)
            .map(|(t, matches_of)| preferred(&t.candidate.name, matches_of, alpha, matches.seed, said))
            .collect();
        let judged = Judged {
            model: judge.name.clone(),
            what: judge.what.clone(),
            baseline: matches.baseline.to_owned(),
            pairs,
            ended,
            asked: costs.len(),
            resumed,
            failed,
            first_error,
            cost_usd: costs.values().copied().sum(),
            judges_itself: tried.iter().any(|t| t.candidate.name == judge.name),
        };
        self.spent = gauge.spent();
        Ok(judged)
    }
}

/// The answers of a model and the baseline to the same rows, with what the judge is shown of them.
fn paired<'t>(plan: &Plan, t: &'t Tried<'_>, base: &'t Tried<'_>, most: usize) -> Vec<Match<'t>> {
    let of: BTreeMap<&str, &RecordedAnswer> = t.answers.asked.iter().map(|a| (a.row.id.as_str(), &a.answer)).collect();
    let bare = t.candidate.prompting == Prompting::Bare && base.candidate.prompting == Prompting::Bare;
    let one = |asked: &'t super::Asked<'_>| {
        let answer = *of.get(asked.row.id.as_str())?;
        let question = prompt::question(plan, asked.row, bare);
        let (a, b) = (answer.reply().unwrap_or_default(), asked.answer.reply().unwrap_or_default());
        let shown = |a, b| {
            let prompt = judge::pairwise_prompt(&Pair { question: &question, reference: asked.row.gold(), a, b });
            (sha256_hex(prompt.as_bytes()), prompt)
        };
        Some(Match {
            forward: shown(a, b),
            backward: shown(b, a),
            quality: (answer.quality, asked.answer.quality),
            answers: (a, b),
        })
    };
    base.answers.asked.iter().filter_map(one).take(most).collect()
}

impl Match<'_> {
    /// Equal answers are a tie whatever a judge says.
    fn differs(&self) -> bool {
        !self.answers.0.split_whitespace().eq(self.answers.1.split_whitespace())
    }
}

fn request(judge: &Candidate, prompt: &str) -> Request {
    let messages = vec![Message { role: Role::User, text: prompt.to_owned() }];
    let mut request = Request::new(TraceId::from_parts(0, 0), ModelName::new(judge.name.clone()), messages);
    request.sampling =
        Sampling { temperature: Some(0.0), max_tokens: Some(REPLY_TOKENS), seed: Some(0), ..Sampling::default() };
    request
}

fn recorded(answer: &Answer) -> RecordedAnswer {
    RecordedAnswer {
        text: Some(answer.text.trim().to_owned()),
        tokens_in: Some(answer.usage.input_tokens),
        tokens_out: Some(answer.usage.output_tokens),
        ..RecordedAnswer::default()
    }
}

fn preferred<'j>(
    name: &str,
    matches: &[Match<'_>],
    alpha: f64,
    seed: Seed,
    said: impl Fn(&(String, String)) -> Option<&'j RecordedAnswer>,
) -> Preferred {
    let (differ, same): (Vec<&Match<'_>>, Vec<&Match<'_>>) = matches.iter().partition(|m| m.differs());
    let mut judgements = Vec::new();
    let (mut agreed, mut comparable) = (0, 0);
    for m in &differ {
        let (Some(forward), Some(backward)) = (said(&m.forward), said(&m.backward)) else { continue };
        let read = |answer: &RecordedAnswer| judge::read_preference(answer.reply().unwrap_or_default());
        let judgement = Judgement { forward: read(forward), backward: read(backward) };
        if let (Some(winner), (Some(a), Some(b))) = (judgement.settled(), m.quality)
            && winner != Preference::Tie
            && (a - b).abs() > 1e-9
        {
            comparable += 1;
            agreed += u64::from((winner == Preference::First) == (a > b));
        }
        judgements.push(judgement);
    }
    let report = judge::report(&judgements, seed.derive("judge").derive(name));
    let p = mcnemar(report.wins, report.losses);
    let verdict = match report.agreement {
        Some(agreement) if agreement.low <= 0.5 => Verdict::Unreliable,
        Some(_) if p < alpha && report.wins > report.losses => Verdict::Better,
        Some(_) if p < alpha => Verdict::Worse,
        _ => Verdict::Undecided,
    };
    Preferred {
        name: name.to_owned(),
        identical: same.len() as u64,
        missing: (differ.len() - judgements.len()) as u64,
        agrees_with_metric: Metric::share(agreed, comparable),
        report,
        p,
        verdict,
    }
}

impl Preferred {
    /// Whether the judge leans to a place: first or second, at 5 %.
    #[must_use]
    pub fn lean(&self) -> Option<Preference> {
        match self.report.first_place {
            Some(m) if m.low > 0.5 => Some(Preference::First),
            Some(m) if m.high < 0.5 => Some(Preference::Second),
            _ => None,
        }
    }

    /// The finding as a sentence.
    #[must_use]
    pub fn sentence(&self, judge: &str, baseline: &str) -> String {
        let (name, r) = (&self.name, &self.report);
        match self.verdict {
            Verdict::Better => format!("{judge} prefers {name} to {baseline}: {} won, {} lost.", r.wins, r.losses),
            Verdict::Worse => format!("{judge} prefers {baseline} to {name}: {} won, {} lost.", r.losses, r.wins),
            Verdict::Undecided if r.pairs == 0 && self.identical > 0 => {
                format!("{name} and {baseline} say the same on all {} rows that were compared.", self.identical)
            }
            Verdict::Undecided => format!(
                "{judge} shows no preference between {name} and {baseline}: {} won, {} lost, {} tied.",
                r.wins, r.losses, r.ties
            ),
            Verdict::Unreliable if r.agreement.is_some_and(|m| m.estimate > 0.75) => format!(
                "{} pairs are too few to know whether {judge} agrees with itself: its verdicts on {name} do not count.",
                r.pairs
            ),
            Verdict::Unreliable => {
                let place = match self.lean() {
                    Some(Preference::First) => ", mostly for the answer shown first",
                    Some(Preference::Second) => ", mostly for the answer shown second",
                    _ => "",
                };
                let bias = r.position_bias.map_or(0.0, |m| m.estimate * 100.0);
                format!(
                    "{judge} says nothing about {name}: on {bias:.0} % of the pairs it votes for a place, not an answer{place}."
                )
            }
        }
    }
}
