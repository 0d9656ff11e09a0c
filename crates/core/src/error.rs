//! One error for the whole product, and the one table that says what each kind means to a client, a shell, a metric
//! and the cascade.

use std::fmt;

/// Shorthand used throughout the workspace.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the terms of who has to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The caller's request or configuration is wrong; sending it again will not help.
    Invalid,
    /// The caller may not do this: a key is missing or wrong.
    Denied,
    /// An upstream refuses the key or the account that we present: no caller's fault, and trying again will not help.
    Refused,
    /// The named thing (model, task, trace, file) does not exist.
    NotFound,
    /// Too much work at the moment, here or at an upstream; try again later.
    Overloaded,
    /// The time allowed for the work has passed.
    Deadline,
    /// A part that is needed (upstream, model, certificate) cannot serve now.
    Unavailable,
    /// Stored or delivered data is damaged or not in the expected form.
    Data,
    /// The caller left before the answer was ready.
    Cancelled,
    /// A fault of ours.
    Internal,
}

/// Whether another model may be asked after this error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escalation {
    /// The next model in the plan may still answer.
    Allowed,
    /// Every model would fail alike, or nobody waits for an answer.
    Pointless,
}

impl ErrorKind {
    /// Every kind, for tables and tests.
    pub const ALL: [ErrorKind; 10] = [
        Self::Invalid,
        Self::Denied,
        Self::Refused,
        Self::NotFound,
        Self::Overloaded,
        Self::Deadline,
        Self::Unavailable,
        Self::Data,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The row of the table: HTTP status, process exit code (after sysexits.h), metric label, may escalate.
    const fn row(self) -> (u16, u8, &'static str, Escalation) {
        use Escalation::{Allowed, Pointless};
        match self {
            Self::Invalid => (400, 64, "invalid", Pointless),
            Self::Denied => (401, 77, "denied", Pointless),
            Self::Refused => (503, 77, "refused", Allowed),
            Self::NotFound => (404, 66, "not_found", Pointless),
            Self::Overloaded => (429, 75, "overloaded", Allowed),
            Self::Deadline => (504, 75, "deadline", Pointless),
            Self::Unavailable => (503, 69, "unavailable", Allowed),
            Self::Data => (502, 65, "data", Allowed),
            Self::Cancelled => (499, 130, "cancelled", Pointless),
            Self::Internal => (500, 70, "internal", Allowed),
        }
    }

    /// HTTP status code that a client sees.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        self.row().0
    }

    /// Exit code of the process when a command ends with this error.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        self.row().1
    }

    /// Stable label for metrics, traces and `--json`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.row().2
    }

    /// Whether the cascade may ask the next model.
    #[must_use]
    pub const fn escalation(self) -> Escalation {
        self.row().3
    }
}

/// What failed and what to do about it.
///
/// The message is a lowercase fragment that completes "failed to …" and says what to do:
/// `read dataset tickets.jsonl: line 42 has no label`. It never contains a secret.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    param: Option<String>,
    status: Option<u16>,
    retry_after_s: Option<u64>,
    wire: Option<bytes::Bytes>,
}

impl Error {
    /// An error of `kind` with a message that completes "failed to …".
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, status: None, retry_after_s: None, wire: None }
    }

    /// The caller's mistake.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Something named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// A part that is needed cannot serve now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// Damaged or unexpected data.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// A fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Names the request or configuration field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Keeps the status and the body of an upstream's own error, so that a drop-in client sees what it would have
    /// seen without us.
    #[must_use]
    pub fn with_upstream(mut self, status: u16, wire: Option<bytes::Bytes>) -> Self {
        self.status = Some(status);
        self.wire = wire;
        self
    }

    /// Seconds after which a retry makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Puts what was being done before the message: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The kind, which decides status, exit code and escalation.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message, without "failed to".
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The field at fault, if one is known.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// HTTP status: the upstream's own when the error is theirs, else the kind's.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        self.status.unwrap_or_else(|| self.kind.http_status())
    }

    /// The upstream's error body, to be passed on as it came.
    #[must_use]
    pub fn wire(&self) -> Option<&bytes::Bytes> {
        self.wire.as_ref()
    }

    /// Seconds after which a retry makes sense, if known.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        self.retry_after_s
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_statuses_are_errors() {
        let labels: std::collections::BTreeSet<_> = ErrorKind::ALL.iter().map(|k| k.label()).collect();
        assert_eq!(labels.len(), ErrorKind::ALL.len());
        assert!(ErrorKind::ALL.iter().all(|k| (400..600).contains(&k.http_status()) && k.exit_code() != 0));
    }

    #[test]
    fn an_upstreams_own_status_wins_over_the_kinds() {
        let e = Error::unavailable("ask gpt-4o").with_upstream(529, None);
        assert_eq!((e.http_status(), e.kind()), (529, ErrorKind::Unavailable));
    }
}
