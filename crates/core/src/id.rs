//! Names and identifiers. Each is its own type, so that a task is never taken for a model.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a name; cloning is cheap.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }
    };
}

name!(
    /// The name of a model as clients and the configuration write it: `gpt-4o-mini`, `triage-minilm`.
    ModelName
);
name!(
    /// The name of a task in the configuration: a kind of request that one small model can learn.
    TaskName
);

/// Identifies one request and its trace row; sorts by time of arrival. 26 characters in Crockford base 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(ulid::Ulid);

impl TraceId {
    /// Builds an id from the time of arrival (milliseconds since 1970) and 80 random bits.
    #[must_use]
    pub fn from_parts(unix_ms: u64, random: u128) -> Self {
        Self(ulid::Ulid::from_parts(unix_ms, random))
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// `Invalid` when `text` is not 26 characters of Crockford base 32.
    pub fn parse(text: &str) -> crate::Result<Self> {
        ulid::Ulid::from_string(text)
            .map(Self)
            .map_err(|e| crate::Error::invalid(format!("read trace id `{text}`: {e}; ids look like 01JC4V5Q7Z…")))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_sort_by_time_and_survive_text() {
        let (a, b) = (TraceId::from_parts(1, u128::MAX), TraceId::from_parts(2, 0));
        assert!(a < b && a.to_string() < b.to_string());
        assert_eq!(TraceId::parse(&a.to_string()).expect("own text form"), a);
        assert!(TraceId::parse("nope").is_err());
    }
}
