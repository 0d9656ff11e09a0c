//! Audits: whether a certificate still holds for the traffic that comes.
//!
//! A certificate speaks about traffic like the calibration traffic, and nothing in it notices when that changes. Two
//! things do. Audits show, for a random share of the kept answers, what the large model would have said. And every
//! request shows whether the small model was sure, which costs nothing and reacts first. So:
//!
//! - *Loss.* Weighted by 1/p, audited losses estimate the loss over all requests without bias. The certificate is
//!   withdrawn when the evidence that it is above ε reaches 1/[`ALPHA_LOSS`].
//! - *Alarm.* The share of requests kept is compared with the calibration's. A change raises an alarm: the traffic is
//!   not what was certified, so the promise has lost its ground. Every kept answer is audited ([`ALARM_AUDITS`]) until
//!   it is settled. Audits make it [`CONFIRMING_ODDS`] times likelier than not that kept answers are lost more often
//!   than at calibration: withdrawn. Otherwise [`patience`] audits either show, by exact bounds at 1 − δ on the traffic
//!   since the alarm, that the loss is within ε there too, and the alarm ends; or they do not, and the certificate is
//!   withdrawn, for without evidence there is none.
//! - *After an alarm* that ended, traffic that changed once is watched more closely ([`AFTER_ALARM_AUDITS`]). The same
//!   modest odds for a loss above ε, or 20 : 1 that kept answers got worse since, are enough to withdraw. The kept share
//!   since the alarm takes the place of the calibration's: when it is left too, the alarm is raised again.
//!
//! On traffic exchangeable with the calibration items a certificate that is right is withdrawn, however long it runs,
//! with probability at most 5 % in all: 2 % by loss, and 3 % by a false alarm, without which nothing else can happen.
//! See `docs/certificates.md`.

use serde::Serialize;
use understudy_core::{Certificate, LossKind};
use understudy_stats::{Bets, binomial};

/// Probability of a withdrawal for a loss that is not above ε.
const ALPHA_LOSS: f64 = 0.02;
/// Probability of a false alarm in each direction, given that the calibration's limits hold.
const ALPHA_ALARM: f64 = 0.01;
/// Probability that a limit of the calibration's kept share is off, for each direction.
const ALPHA_LIMIT: f64 = 0.005;
/// Evidence, to one, that the loss is above ε at which the certificate is withdrawn.
pub const WITHDRAWAL_ODDS: f64 = 1.0 / ALPHA_LOSS;
/// Audit probability while an alarm stands.
pub const ALARM_AUDITS: f64 = 1.0;
/// Audit probability after an alarm that ended.
pub const AFTER_ALARM_AUDITS: f64 = 0.3;
/// Odds at which audits under and after an alarm withdraw the certificate.
pub const CONFIRMING_ODDS: f64 = 3.0;
/// Level at which audits after an alarm that ended show that kept answers got worse than at calibration.
const ALPHA_AFTER: f64 = 0.05;
/// Losses that a loss of ε leads to expect among the audits that end an alarm, beyond those that no loss at all takes.
const MARGIN_OF_PATIENCE: f64 = 6.3;
/// Fewest audits that end an alarm.
const LEAST_PATIENCE: f64 = 500.0;

/// Audits under alarm that decide when nothing else did: enough to show a loss of about half of ε, however small ε is,
/// and 500 at least.
#[must_use]
pub fn patience(epsilon: f64, delta: f64) -> u64 {
    let audits = ((2.0 / delta).ln() + MARGIN_OF_PATIENCE) / epsilon;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive count; saturates")]
    let audits = audits.max(LEAST_PATIENCE).ceil() as u64;
    audits
}

/// One request on which a certificate's gate decided, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Whether the small model's answer was kept.
    pub kept: bool,
    /// Whether the request was drawn for an audit.
    pub audited: bool,
    /// The probability of that draw, as logged; `None` for a request that was not kept.
    pub audit_probability: Option<f64>,
    /// Whether the kept answer was a loss; `None` without an audit, or when it gave no verdict.
    pub loss: Option<bool>,
}

/// The figures behind a verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evidence {
    /// Requests on which the gate decided.
    pub requests: u64,
    /// Of them kept.
    pub kept: u64,
    /// Kept answers whose audit gave a verdict.
    pub audited: u64,
    /// Kept answers whose audit gave none: the large model failed or gave no label. They count neither way.
    pub unjudged: u64,
    /// Losses among them.
    pub losses: u64,
    /// Unbiased estimate of the loss per request; `None` before the first request.
    pub loss_estimate: Option<f64>,
    /// Largest evidence, to one, that the loss is above ε.
    pub loss_odds: f64,
    /// Largest evidence, to one, that the kept share left the calibration's limits.
    pub change_odds: f64,
    /// Evidence now, to one, that kept answers are lost more often than at calibration.
    pub worse_odds: f64,
    /// The request at which the standing alarm began.
    pub alarm_since: Option<u64>,
}

/// What to do about a certificate.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing speaks against it.
    Valid(Evidence),
    /// The traffic has changed; audits decide. Use [`Monitor::audit_probability`].
    Alarm {
        /// A sentence for a person.
        reason: String,
        /// The figures.
        evidence: Evidence,
    },
    /// It no longer holds.
    Withdraw {
        /// A sentence for a person.
        reason: String,
        /// The figures.
        evidence: Evidence,
    },
}

/// Judges a certificate by all that is recorded about it.
#[must_use]
pub fn judge(certificate: &Certificate, observations: impl IntoIterator<Item = Observation>) -> Verdict {
    let mut monitor = Monitor::new(certificate);
    observations.into_iter().for_each(|observation| monitor.push(&observation));
    monitor.verdict()
}

/// Watches one certificate. Equal observations give equal states: after a restart, push the recorded ones again.
#[derive(Debug, Clone)]
pub struct Monitor {
    large: String,
    loss_kind: LossKind,
    epsilon: f64,
    delta: f64,
    calibration_loss: f64,
    loss: Bets,
    fewer: Option<Bets>,
    more: Option<Bets>,
    worse: Bets,
    /// Audit probability of the latest kept request: what the next stake may know.
    rate: f64,
    requests: u64,
    kept: u64,
    audited: u64,
    unjudged: u64,
    losses: u64,
    weighted: f64,
    alarm: Alarm,
    /// The kept share that live traffic is held against, and the first request of it.
    expected: Expected,
    /// The latest alarm.
    change: Change,
    withdrawn: Option<Cause>,
}

/// A kept share that traffic is expected to have.
#[derive(Debug, Clone, Copy)]
struct Expected {
    share: f64,
    /// Requests and kept ones before.
    from: (u64, u64),
    /// Whether it is the calibration's; otherwise that of the traffic since an alarm.
    calibration: bool,
}

/// What an alarm was raised by.
#[derive(Debug, Clone, Copy)]
struct Change {
    /// Requests and kept ones by then.
    at: (u64, u64),
    expected: Expected,
    odds: f64,
}

#[derive(Debug, Clone, Copy)]
enum Alarm {
    None,
    Standing {
        /// The request that raised it.
        since: u64,
        /// Audits since.
        audits: u64,
        /// Losses among them.
        losses: u64,
    },
    /// Audits showed that the loss is within ε on the changed traffic.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Loss,
    Worse,
    Unsupported,
}

impl Monitor {
    /// Starts without observations.
    ///
    /// # Panics
    /// When the certificate's ε is outside (0, 1); a certificate that was issued has no such ε.
    #[must_use]
    pub fn new(certificate: &Certificate) -> Self {
        let n = certificate.n.max(1);
        #[expect(clippy::cast_possible_truncation, reason = "a share of n is at most n")]
        let kept = ((certificate.kept * n as f64).round() as u64).min(n);
        let [fewer, more] = limits(kept, n);
        let expected = Expected { share: certificate.kept, from: (0, 0), calibration: true };
        let calibration_loss = certificate.losses as f64 / kept.max(1) as f64;
        // One loss and one item more: a calibration without losses is not proof that there are none.
        let usual = (certificate.losses + 1) as f64 / (kept + 2) as f64;
        Self {
            large: certificate.large.as_str().to_owned(),
            loss_kind: certificate.loss,
            epsilon: certificate.epsilon,
            delta: certificate.delta,
            calibration_loss,
            loss: Bets::against(certificate.epsilon),
            fewer,
            more,
            worse: Bets::against(usual.min(0.5)),
            rate: 0.0,
            requests: 0,
            kept: 0,
            audited: 0,
            unjudged: 0,
            losses: 0,
            weighted: 0.0,
            alarm: Alarm::None,
            expected,
            change: Change { at: (0, 0), expected, odds: 1.0 },
            withdrawn: None,
        }
    }

    /// Takes the next request.
    pub fn push(&mut self, observation: &Observation) {
        let Observation { kept, audited, audit_probability, loss } = *observation;
        let judged = if kept && audited { loss } else { None };
        let probability = audit_probability.filter(|p| *p > 0.0 && *p <= 1.0);
        self.requests += 1;
        self.kept += u64::from(kept);
        self.unjudged += u64::from(kept && audited && loss.is_none());
        let weighted = match (judged, probability) {
            (Some(true), Some(p)) => 1.0 / p,
            _ => 0.0,
        };
        self.weighted += weighted;
        self.loss.push(weighted, self.rate);
        if kept {
            self.rate = probability.unwrap_or(0.0);
        }
        let indicator = |holds: bool| f64::from(u8::from(holds));
        for (bets, x) in [(&mut self.fewer, indicator(!kept)), (&mut self.more, indicator(kept))] {
            if let Some(bets) = bets {
                bets.push(x, 1.0);
            }
        }
        if let Some(lost) = judged {
            self.audited += 1;
            self.losses += u64::from(lost);
            self.worse.push(indicator(lost), 1.0);
            if let Alarm::Standing { audits, losses, .. } = &mut self.alarm {
                *audits += 1;
                *losses += u64::from(lost);
            }
        }
        self.decide();
    }

    fn decide(&mut self) {
        if self.withdrawn.is_some() {
            return;
        }
        let changed = |bets: &Option<Bets>| bets.as_ref().is_some_and(|bets| bets.rejects(ALPHA_ALARM));
        if !matches!(self.alarm, Alarm::Standing { .. }) && (changed(&self.fewer) || changed(&self.more)) {
            self.change = Change { at: (self.requests, self.kept), expected: self.expected, odds: self.change_odds() };
            self.alarm = Alarm::Standing { since: self.requests, audits: 0, losses: 0 };
        }
        let likely = |bets: &Bets| bets.ln_evidence() >= CONFIRMING_ODDS.ln();
        self.withdrawn = match self.alarm {
            _ if self.loss.rejects(ALPHA_LOSS) => Some(Cause::Loss),
            Alarm::Standing { .. } if likely(&self.worse) => Some(Cause::Worse),
            Alarm::Standing { audits, losses, .. } if audits >= patience(self.epsilon, self.delta) => {
                if self.supports(audits, losses) {
                    self.end_alarm();
                    None
                } else {
                    Some(Cause::Unsupported)
                }
            }
            Alarm::Ended if likely(&self.loss) => Some(Cause::Loss),
            Alarm::Ended if self.worse.rejects(ALPHA_AFTER) => Some(Cause::Worse),
            _ => None,
        };
    }

    /// Requests since the alarm, and kept ones among them.
    fn since_change(&self) -> (u64, u64) {
        let (requests, kept) = self.change.at;
        (self.requests - requests, self.kept - kept)
    }

    /// Whether audits of the answers kept since the alarm show, at 1 − δ, a loss per request of at most ε on the traffic
    /// since then. Loss per request = loss per kept answer × share kept; each limit takes half of δ.
    fn supports(&self, audits: u64, losses: u64) -> bool {
        let (requests, kept) = self.since_change();
        let side = self.delta / 2.0;
        let allowed = self.epsilon / binomial::upper(kept, requests, 1.0 - side);
        allowed >= 1.0 || binomial::cdf(losses, audits, allowed) <= side
    }

    /// The traffic since the alarm is what traffic is held against from now on.
    fn end_alarm(&mut self) {
        self.alarm = Alarm::Ended;
        self.worse = Bets::against(self.worse.mean());
        let (requests, kept) = self.since_change();
        [self.fewer, self.more] = limits(kept, requests);
        let share = kept as f64 / requests.max(1) as f64;
        self.expected = Expected { share, from: (self.requests, self.kept), calibration: false };
    }

    fn change_odds(&self) -> f64 {
        let peak = |bets: &Option<Bets>| bets.as_ref().map_or(1.0, |bets| bets.ln_peak().exp());
        finite(peak(&self.fewer).max(peak(&self.more)))
    }

    /// The audit probability to use for the next request where `configured` is the task's own. It depends on what was
    /// recorded before and on nothing in the request at hand, as the evidence requires.
    #[must_use]
    pub fn audit_probability(&self, configured: f64) -> f64 {
        match self.alarm {
            Alarm::Standing { .. } => configured.max(ALARM_AUDITS),
            Alarm::Ended => configured.max(AFTER_ALARM_AUDITS),
            Alarm::None => configured,
        }
    }

    /// The verdict by what was pushed so far. A withdrawal is final.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let evidence = self.evidence();
        let because = |monitor: &Self, more: String| format!("{}; {more}", monitor.change_reason());
        let reason = match (self.withdrawn, &self.alarm) {
            (None, Alarm::Standing { .. }) => {
                return Verdict::Alarm { reason: self.change_reason(), evidence };
            }
            (None, Alarm::None | Alarm::Ended) => return Verdict::Valid(evidence),
            (Some(Cause::Loss), _) => self.loss_reason(&evidence),
            (Some(Cause::Worse), _) => because(self, self.worse_reason(&evidence)),
            (Some(Cause::Unsupported), _) => because(self, self.unsupported_reason(&evidence)),
        };
        Verdict::Withdraw { reason, evidence }
    }

    /// The figures so far.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        Evidence {
            requests: self.requests,
            kept: self.kept,
            audited: self.audited,
            unjudged: self.unjudged,
            losses: self.losses,
            loss_estimate: (self.requests > 0).then(|| self.weighted / self.requests as f64),
            loss_odds: finite(self.loss.ln_peak().exp()),
            change_odds: self.change_odds(),
            worse_odds: finite(self.worse.ln_evidence().exp()),
            alarm_since: match self.alarm {
                Alarm::Standing { since, .. } => Some(since),
                Alarm::None | Alarm::Ended => None,
            },
        }
    }

    fn loss_reason(&self, evidence: &Evidence) -> String {
        format!(
            "{} of {} audited answers {}; over all {} requests that is a loss of about {} where at most {} was \
             certified; odds {} that it is above",
            evidence.losses,
            evidence.audited,
            self.lost(),
            evidence.requests,
            percent(evidence.loss_estimate.unwrap_or(0.0)),
            percent(self.epsilon),
            odds(evidence.loss_odds)
        )
    }

    fn change_reason(&self) -> String {
        let Change { at: (requests, kept), expected, odds: found } = self.change;
        let (requests_before, kept_before) = expected.from;
        format!(
            "the traffic has changed: by request {requests} the small model was sure of {}, at {} of {}; evidence {}",
            percent((kept - kept_before) as f64 / (requests - requests_before).max(1) as f64),
            if expected.calibration { "calibration" } else { "the end of the last alarm" },
            percent(expected.share),
            odds(found)
        )
    }

    fn worse_reason(&self, evidence: &Evidence) -> String {
        format!(
            "and {} of {} audited answers ({}) {}, at calibration {}; odds {} that it got worse",
            evidence.losses,
            evidence.audited,
            percent(evidence.losses as f64 / evidence.audited.max(1) as f64),
            self.lost(),
            percent(self.calibration_loss),
            odds(evidence.worse_odds)
        )
    }

    fn unsupported_reason(&self, evidence: &Evidence) -> String {
        format!(
            "and {} audits since then did not show a loss of at most {}: {} of {} audited answers {}",
            patience(self.epsilon, self.delta),
            percent(self.epsilon),
            evidence.losses,
            evidence.audited,
            self.lost()
        )
    }

    fn lost(&self) -> String {
        match self.loss_kind {
            LossKind::Disagreement => format!("disagreed with {}", self.large),
            LossKind::Regret => format!("were wrong where {} was right", self.large),
            LossKind::GradedRegret | LossKind::Difference => format!("fell short of {}", self.large),
        }
    }
}

/// Bets that fewer, and that more, are kept than the limits of a share of `kept` in `n`; none where there is no limit.
fn limits(kept: u64, n: u64) -> [Option<Bets>; 2] {
    let most = |k: u64| binomial::upper(k, n.max(1), 1.0 - ALPHA_LIMIT);
    [most(n - kept), most(kept)].map(|mean| (mean > 0.0 && mean < 1.0).then(|| Bets::against(mean)))
}

/// Evidence beyond what a number holds is the largest number: JSON knows no infinity.
fn finite(value: f64) -> f64 {
    value.min(f64::MAX)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn odds(value: f64) -> String {
    match value {
        v if v >= 1e6 => "more than 1,000,000 : 1".to_owned(),
        v if v >= 10.0 => format!("{v:.0} : 1"),
        v => format!("{v:.1} : 1"),
    }
}

#[cfg(test)]
mod tests;
