//! Models that are somewhere else: OpenAI-compatible servers over HTTP, recorded answers that stand in for one, and a
//! scripted one for tests. Also the embedded table of list prices.
//!
//! Owns connections, retries, circuit breakers and timeouts. Decides nothing about routing. Secrets appear in no error
//! and no `Debug` output.

pub mod breaker;
pub mod http;
pub mod openai;
pub mod prices;
pub mod recorded;
pub mod scripted;

pub use http::{HttpOptions, Network, ProxyUse, http_client};
pub use openai::{OpenAi, OpenAiConfig, OpenAiEmbedder, Retries, Timeouts};
pub use recorded::{Latency, Recorded};
