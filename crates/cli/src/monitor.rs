//! The watch over certificates: feeds what the store learns from live requests and their audits to the judge, and
//! acts on its verdict. More audits while an alarm stands; withdrawal when the evidence says so.
//!
//! State lives in the store: after a restart the recorded sequence is judged again from its beginning.

use crate::compose::Composer;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use understudy_core::{Clock, Result};
use understudy_operate::audit::{Monitor, Observation, Verdict};
use understudy_store::{Store, Withdrawal};

/// How often new evidence is looked for when no audit arrives: kept shares change without audits, too.
const INTERVAL: Duration = Duration::from_millis(200);
/// Shortest time between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// What the watch needs.
pub(crate) struct Watch {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) composer: Arc<Composer>,
    /// Told when what is served has to be composed anew.
    pub(crate) changed: Arc<Notify>,
}

/// One certificate under watch.
struct Watched {
    monitor: Monitor,
    cursor: u64,
    /// Least audit probability that the monitor asked for last.
    floor: f64,
}

impl Watch {
    /// Watches until `stop`. A fault is logged and the next look tries again.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut audits = self.store.subscribe();
        let mut watched = BTreeMap::new();
        loop {
            if let Err(error) = self.look(&mut watched).await {
                tracing::error!(%error, "failed to watch over the certificates");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                _ = audits.changed() => tokio::time::sleep(PAUSE).await,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    async fn look(&self, watched: &mut BTreeMap<String, Watched>) -> Result<()> {
        let states = self.store.certificates(None).await?;
        let valid: Vec<_> = states.into_iter().filter(|s| s.withdrawn.is_none() && s.intact).collect();
        watched.retain(|id, _| valid.iter().any(|state| state.certificate.id == *id));
        for state in valid {
            let certificate = state.certificate;
            let entry = watched.entry(certificate.id.clone()).or_insert_with(|| Watched {
                monitor: Monitor::new(&certificate),
                cursor: 0,
                floor: 0.0,
            });
            let news = self.store.audit_sequence(&certificate.id, entry.cursor).await?;
            let Some(last) = news.rows.last() else { continue };
            entry.cursor = last.seq;
            for row in &news.rows {
                entry.monitor.push(&Observation {
                    kept: row.kept,
                    audited: row.audited,
                    audit_probability: row.audit_probability,
                    loss: row.loss,
                });
            }
            match entry.monitor.verdict() {
                Verdict::Valid(_) => {}
                Verdict::Alarm { reason, .. } => {
                    tracing::debug!(task = %certificate.task, certificate = certificate.id, reason, "alarm");
                }
                Verdict::Withdraw { reason, evidence } => {
                    tracing::warn!(task = %certificate.task, certificate = certificate.id, reason, "certificate withdrawn");
                    let evidence = serde_json::to_value(&evidence).unwrap_or_default();
                    let withdrawal = Withdrawal { reason, evidence, at: self.clock.now() };
                    self.store.withdraw(&certificate.id, withdrawal).await?;
                    self.changed.notify_one();
                    continue;
                }
            }
            let floor = entry.monitor.audit_probability(0.0);
            if floor.to_bits() != entry.floor.to_bits() {
                tracing::warn!(task = %certificate.task, certificate = certificate.id, floor, "traffic has changed: audits are more frequent");
                entry.floor = floor;
                self.composer.audit_at_least(&certificate.id, floor);
                self.changed.notify_one();
            }
        }
        Ok(())
    }
}
