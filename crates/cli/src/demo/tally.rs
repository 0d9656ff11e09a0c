//! What the live phase came to: shares, accuracies, latencies, money, and what became of the certificate.

use super::{DemoArgs, data::Item, traffic::Received, world::World};
use crate::{learning::Certification, terminal};
use serde_json::{Value, json};
use understudy_core::{Certificate, Money, Usage};
use understudy_pilot::{Comparison, compare, compare::Judged};
use understudy_stats::{Bound, binomial, quantile};
use understudy_store::{AuditRow, CertificateState, Route, Trace, Withdrawal};

/// Level of all intervals.
const LEVEL: f64 = 0.95;

/// One live request, judged.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) item: Item,
    pub(super) received: Received,
    pub(super) trace: Trace,
    /// What would be right: the data's label, else the large model's.
    pub(super) right: Option<String>,
    pub(super) small: Option<String>,
    pub(super) large: Option<String>,
    /// Whether the client got the small model's answer.
    pub(super) kept: bool,
}

/// What is on record about the live phase.
pub(super) struct Records {
    pub(super) received: Vec<Received>,
    pub(super) traces: Vec<Trace>,
    pub(super) states: Vec<CertificateState>,
    /// Requests under the certificate in the order in which they became final.
    pub(super) evidence: Vec<AuditRow>,
}

pub(super) struct Tally {
    pub(super) rows: Vec<Row>,
    pub(super) certification: Certification,
    pub(super) withdrawal: Option<(usize, Withdrawal)>,
    pub(super) comparison: Option<Comparison>,
    /// Kept answers that the large model would not have given, per request, over all live requests while the
    /// certificate stood.
    pub(super) loss: Option<Bound>,
    pub(super) spent: Money,
    /// Every request to the large model.
    pub(super) baseline: Money,
    pub(super) priced: bool,
    pub(super) evidence: Vec<AuditRow>,
    /// What audits cost, part of `spent`.
    pub(super) audits: Money,
}

/// Latencies of one route in milliseconds.
pub(super) struct Latencies {
    pub(super) n: usize,
    pub(super) ms: [Bound; 3],
}

/// Quantiles that are reported.
pub(super) const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

impl Tally {
    pub(super) fn new(
        live: &[Item],
        records: Records,
        certification: Certification,
        world: &World,
        args: &DemoArgs,
    ) -> Self {
        let Records { received, traces, states, evidence } = records;
        let rows: Vec<Row> = live
            .iter()
            .zip(received)
            .zip(traces)
            .map(|((item, received), trace)| {
                let label = |call: Option<&understudy_store::Call>| call.and_then(|call| call.label.clone());
                let (small, mut large) = (label(trace.small_part()), label(trace.large_part()));
                if world.has_answer_key() {
                    // The stand-in's answer to a request it was not asked is its answer key.
                    large = large.or_else(|| item.label.clone());
                }
                let right = item.label.clone().or_else(|| large.clone());
                let kept = trace.route == Route::Local;
                Row { item: item.clone(), received, trace, right, small, large, kept }
            })
            .collect();
        let withdrawal = states.into_iter().find_map(|state| {
            let withdrawal = state.withdrawn?;
            // The first request that was answered without the certificate.
            let at = rows.iter().position(|row| row.trace.certificate.is_none()).unwrap_or(rows.len());
            Some((at, withdrawal))
        });
        // Only where both answers are known can the two be compared; with a real LLM that is where it was asked.
        let judged: Vec<Judged> = rows
            .iter()
            .filter(|row| row.small.is_some() && row.large.is_some())
            .map(|row| Judged {
                kept: row.kept,
                small_right: row.small == row.right,
                large_right: row.large == row.right,
            })
            .collect();
        let under: Vec<&Row> = rows.iter().filter(|r| r.trace.certificate.is_some() && r.large.is_some()).collect();
        let losses = under.iter().filter(|r| r.kept && r.small != r.large).count() as u64;
        let loss = (!under.is_empty()).then(|| binomial::interval(losses, under.len() as u64, LEVEL));
        let audits = rows.iter().filter_map(|r| r.trace.audit.as_ref()?.cost).sum();
        let baseline = rows.iter().filter_map(|r| Some(world.price?.cost(&large_usage(r, world)))).sum();
        Self {
            comparison: compare(&judged),
            loss,
            spent: rows.iter().filter_map(|r| r.trace.cost()).sum(),
            baseline,
            priced: world.price.is_some() && !args.large.is_empty(),
            audits,
            withdrawal,
            certification,
            evidence,
            rows,
        }
    }

    pub(super) fn certificate(&self) -> Option<&Certificate> {
        self.certification.report.certificate()
    }

    pub(super) fn local_share(&self) -> Bound {
        let kept = self.rows.iter().filter(|r| r.kept).count() as u64;
        binomial::interval(kept, self.rows.len() as u64, LEVEL)
    }

    pub(super) fn saving(&self) -> f64 {
        if self.baseline == Money::ZERO { 0.0 } else { 1.0 - self.spent.usd() / self.baseline.usd() }
    }

    pub(super) fn latencies(&self, route: Route) -> Option<Latencies> {
        let ms: Vec<f64> = self
            .rows
            .iter()
            .filter(|r| r.trace.route == route)
            .map(|r| r.received.latency.as_secs_f64() * 1e3)
            .collect();
        (!ms.is_empty()).then(|| Latencies { n: ms.len(), ms: QUANTILES.map(|q| quantile::quantile(&ms, q, LEVEL)) })
    }

    /// Requests that the large model answered, at once or after the small one.
    fn slow_latencies(&self) -> Option<Latencies> {
        self.latencies(Route::Escalated).or_else(|| self.latencies(Route::Large))
    }

    /// The object that `--json` prints.
    pub(super) fn summary(&self) -> Value {
        let p95 = |latencies: Option<Latencies>| latencies.map(|l| l.ms[1].estimate);
        let accuracy = |of: fn(&Comparison) -> Bound| self.comparison.as_ref().map(|c| of(c).estimate);
        json!({
            "local_share": self.local_share().estimate,
            "accuracy_small": accuracy(|c| c.small),
            "accuracy_large": accuracy(|c| c.large),
            "accuracy_together": accuracy(|c| c.together),
            "certified": self.certificate().is_some(),
            "withdrawn": self.withdrawal.is_some(),
            "withdrawn_reason": self.withdrawal.as_ref().map(|(_, w)| w.reason.clone()),
            "epsilon": self.certificate().map(|c| c.epsilon),
            "bound": self.certificate().map(|c| c.bound),
            "threshold": self.certificate().map(|c| c.threshold),
            "measured_loss": self.loss.map(|l| l.estimate),
            "measured_loss_low": self.loss.map(|l| l.low),
            "measured_loss_high": self.loss.map(|l| l.high),
            "p95_local_ms": p95(self.latencies(Route::Local)),
            "p95_large_ms": p95(self.slow_latencies()),
            "saving": if self.priced { Some(self.saving()) } else { None },
            "n_live": self.rows.len(),
        })
    }

    pub(super) fn print(&self, world: &World, args: &DemoArgs) {
        terminal::heading("Result");
        let bound =
            |b: Bound| format!("{:>6}   [{:.1}, {:.1}]", terminal::percent(b.estimate), b.low * 100.0, b.high * 100.0);
        let n = self.rows.len();
        let kept = self.rows.iter().filter(|r| r.kept).count();
        terminal::say(format_args!("  answered locally      {}   {kept} of {n}", bound(self.local_share())));
        if let Some(c) = &self.comparison {
            terminal::say(format_args!("  accuracy, small alone {}   n = {}", bound(c.small), c.n));
            let key = if world.has_answer_key() { "   (it is the answer key)" } else { "" };
            terminal::say(format_args!("  accuracy, large alone {}{key}", bound(c.large)));
            terminal::say(format_args!("  accuracy, together    {}", bound(c.together)));
        }
        terminal::say("");
        let routes = [("local", Route::Local), ("escalated", Route::Escalated), ("large", Route::Large)];
        let rows = routes.into_iter().filter_map(|(name, route)| {
            let l = self.latencies(route)?;
            let mut row = vec![name.to_owned(), l.n.to_string()];
            row.extend(l.ms.iter().map(|b| format!("{:.1}", b.estimate)));
            Some(row)
        });
        terminal::say(terminal::table(&["LATENCY, ms", "n", "p50", "p95", "p99"], &[1, 2, 3, 4], rows));
        terminal::say("");
        if self.priced {
            terminal::say(format_args!(
                "  cost                  {} instead of {}: {} saved, audits ({}) included",
                usd(self.spent),
                usd(self.baseline),
                terminal::percent(self.saving()),
                usd(self.audits)
            ));
            if world.has_answer_key() {
                terminal::say("                        list prices; tokens estimated from the length of the texts");
            }
        } else {
            terminal::say(format_args!("  cost                  unknown: no price is known for {}", args.large));
        }
        self.print_certificate(args);
    }

    fn print_certificate(&self, args: &DemoArgs) {
        let Some(certificate) = self.certificate() else {
            terminal::say(format_args!("  certificate           {}", terminal::verdict("none", false)));
            return;
        };
        terminal::say(format_args!(
            "  certificate           loss ≤ {} per request, {} confidence, from {} requests",
            terminal::percent(certificate.epsilon),
            terminal::percent(1.0 - certificate.delta),
            certificate.n
        ));
        if let Some(loss) = self.loss {
            let holds = loss.estimate <= args.epsilon;
            let under = self.rows.iter().filter(|r| r.trace.certificate.is_some()).count();
            terminal::say(format_args!(
                "  measured afterwards   {}   [{:.2}, {:.2}] on {under} requests it had not seen: {}",
                format_args!("{:.2} %", loss.estimate * 100.0),
                loss.low * 100.0,
                loss.high * 100.0,
                terminal::verdict(if holds { "the certificate holds" } else { "above what was certified" }, holds)
            ));
        }
        match &self.withdrawal {
            Some((at, withdrawal)) => {
                terminal::say(format_args!(
                    "  {}   at request {at} of {}; the large model answers since",
                    terminal::verdict("certificate withdrawn", false),
                    self.rows.len()
                ));
                terminal::say(format_args!("  why                   {}", withdrawal.reason));
            }
            None => {
                let audited = self.rows.iter().filter(|r| r.trace.audited).count();
                let wrong = self.rows.iter().filter(|r| r.trace.audited && r.trace.agreed == Some(false)).count();
                terminal::say(format_args!(
                    "  audits                {audited} local answers checked by {}, {wrong} disagreed; nothing speaks against the certificate",
                    args.large
                ));
            }
        }
    }
}

/// Dollars with four significant decimals: the demo's amounts are small.
fn usd(money: Money) -> String {
    format!("${:.4}", money.usd())
}

/// What the large model would have used for a request, or did use.
pub(super) fn large_usage(row: &Row, world: &World) -> Usage {
    match row.trace.large_part() {
        Some(call) if call.error.is_none() => call.usage,
        _ => {
            let prompt = super::traffic::message(&row.item.text).len() + world.system.len();
            Usage::estimate(prompt, row.right.as_ref().map_or(4, String::len))
        }
    }
}
