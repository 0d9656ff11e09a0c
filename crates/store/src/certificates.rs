//! Certificates and their withdrawal. A row whose content no longer matches its id is no certificate.

use crate::{Store, fault::unreadable, row::int, writer::Job};
use rusqlite::{OptionalExtension, named_params};
use std::future::Future;
use understudy_core::{Certificate, Confidence, Error, LossKind, Per, Result, TaskName, Timestamp};

/// Why a certificate no longer holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Withdrawal {
    /// In words.
    pub reason: String,
    /// The numbers behind it.
    pub evidence: serde_json::Value,
    /// Since when.
    pub at: Timestamp,
}

/// A certificate and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CertificateState {
    /// The certificate.
    pub certificate: Certificate,
    /// Its withdrawal, if it was withdrawn.
    pub withdrawn: Option<Withdrawal>,
    /// Whether the stored content still matches its id.
    pub intact: bool,
}

const STATE: &str = "SELECT id, task, small, small_hash, large, epsilon, delta, loss, n, losses, threshold, kept, \
     bound, data_hash, issued, reason, evidence, at FROM certificate LEFT JOIN withdrawal ON certificate = id";

impl Store {
    /// Stores a certificate. The same one again changes nothing.
    ///
    /// # Errors
    /// `Data` when its id does not match its content, `Invalid` when no audit could watch over it, else as [`Store::record`].
    pub fn put_certificate(&self, certificate: Certificate) -> impl Future<Output = Result<()>> + Send + use<> {
        self.enqueue(Job::change(move |connection, _| {
            if !certificate.is_intact() {
                return Err(Error::data(format!(
                    "store certificate {}: its content does not match its id; certify again",
                    certificate.id
                ))
                .into());
            }
            certificate.monitored()?;
            let sql = "INSERT INTO certificate (id, task, small, small_hash, large, epsilon, delta, loss, n, losses, \
                 threshold, kept, bound, data_hash, issued) VALUES (:id, :task, :small, :small_hash, :large, \
                 :epsilon, :delta, :loss, :n, :losses, :threshold, :kept, :bound, :data_hash, :issued) \
                 ON CONFLICT (id) DO NOTHING";
            connection.prepare_cached(sql)?.execute(named_params! {
                ":id": certificate.id,
                ":task": certificate.task.as_str(),
                ":small": certificate.small.as_str(),
                ":small_hash": certificate.small_hash,
                ":large": certificate.large.as_str(),
                ":epsilon": certificate.epsilon,
                ":delta": certificate.delta,
                ":loss": loss_name(certificate.loss),
                ":n": int(certificate.n),
                ":losses": int(certificate.losses),
                ":threshold": certificate.threshold.get(),
                ":kept": certificate.kept,
                ":bound": certificate.bound,
                ":data_hash": certificate.data_hash,
                ":issued": certificate.issued.0,
            })?;
            Ok(())
        }))
    }

    /// The certificate in force for this artifact on this task: the one issued last, unless it was withdrawn. A
    /// withdrawal brings no older certificate back: what it superseded rests on older evidence still.
    ///
    /// A stored certificate that was altered is refused with an error event.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn certificate(&self, task: &TaskName, small_hash: &str) -> Result<Option<Certificate>> {
        let (task, small_hash) = (task.to_string(), small_hash.to_owned());
        let newest = self
            .read("read a certificate", move |connection| {
                let sql = format!(
                    "{STATE} WHERE task = ?1 AND small_hash = ?2 ORDER BY issued DESC, certificate.seq DESC LIMIT 1"
                );
                connection.prepare_cached(&sql)?.query_row((task, small_hash), state).optional()
            })
            .await?;
        let Some(CertificateState { certificate, withdrawn, intact }) = newest else { return Ok(None) };
        if !intact {
            tracing::error!(
                certificate = certificate.id,
                task = certificate.task.as_str(),
                "a stored certificate was altered and is refused; certify again"
            );
        }
        Ok((intact && withdrawn.is_none()).then_some(certificate))
    }

    /// Every certificate of `task` (`None`: of all tasks), newest first, with what became of it.
    ///
    /// # Errors
    /// `Unavailable` or `Data` when the file cannot be read.
    pub async fn certificates(&self, task: Option<&TaskName>) -> Result<Vec<CertificateState>> {
        let task = task.map(ToString::to_string);
        self.read("list certificates", move |connection| {
            let sql = format!("{STATE} WHERE ?1 IS NULL OR task = ?1 ORDER BY issued DESC, certificate.seq DESC");
            connection.prepare_cached(&sql)?.query_map([task], state)?.collect()
        })
        .await
    }

    /// Withdraws a certificate, for good. Of several withdrawals the first stands.
    ///
    /// # Errors
    /// `NotFound` without such a certificate, else as [`Store::record`].
    pub fn withdraw(&self, id: &str, withdrawal: Withdrawal) -> impl Future<Output = Result<()>> + Send + use<> {
        let id = id.to_owned();
        self.enqueue(Job::change(move |connection, _| {
            if !connection.prepare_cached("SELECT 1 FROM certificate WHERE id = ?1")?.exists([&id])? {
                return Err(Error::not_found(format!("withdraw certificate {id}: there is no such certificate")).into());
            }
            let sql = "INSERT INTO withdrawal (certificate, reason, evidence, at) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (certificate) DO NOTHING";
            let Withdrawal { reason, evidence, at } = withdrawal;
            connection.prepare_cached(sql)?.execute((id, reason, evidence.to_string(), at.0))?;
            Ok(())
        }))
    }
}

fn loss_name(loss: LossKind) -> &'static str {
    match loss {
        LossKind::Regret => "regret",
        LossKind::Disagreement => "disagreement",
        LossKind::GradedRegret => "graded_regret",
        LossKind::Difference => "difference",
    }
}

fn state(row: &rusqlite::Row<'_>) -> rusqlite::Result<CertificateState> {
    let count = |column| row.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0));
    let loss = match row.get_ref(7)?.as_str()? {
        "regret" => LossKind::Regret,
        "disagreement" => LossKind::Disagreement,
        other => return Err(unreadable(7, format!("unknown loss `{other}`"))),
    };
    let certificate = Certificate {
        id: row.get(0)?,
        task: row.get_ref(1)?.as_str()?.into(),
        small: row.get_ref(2)?.as_str()?.into(),
        small_hash: row.get(3)?,
        large: row.get_ref(4)?.as_str()?.into(),
        epsilon: row.get(5)?,
        delta: row.get(6)?,
        loss,
        per: Per::Request,
        loss_sum: None,
        n: count(8)?,
        losses: count(9)?,
        threshold: Confidence::new(row.get(10)?).map_err(|e| unreadable(10, e))?,
        kept: row.get(11)?,
        bound: row.get(12)?,
        data_hash: row.get(13)?,
        issued: Timestamp(row.get(14)?),
    };
    let withdrawn = match row.get::<_, Option<String>>(15)? {
        Some(reason) => Some(Withdrawal {
            reason,
            evidence: serde_json::from_str(row.get_ref(16)?.as_str()?).map_err(|e| unreadable(16, e))?,
            at: Timestamp(row.get(17)?),
        }),
        None => None,
    };
    Ok(CertificateState { intact: certificate.is_intact(), certificate, withdrawn })
}
