//! The outside world's JSON: OpenAI chat completions, embeddings, models, errors and server-sent events.
//!
//! A pure codec: bytes in, `core` values out, and back. No HTTP, no clock, no async runtime. What it does not know it
//! leaves as it was: a client's body goes upstream, and an upstream's body goes to the client, byte for byte but for
//! the few fields named here. Every parser takes arbitrary bytes without a panic.

mod json;
pub mod openai;
pub mod sse;
