//! Chat completions (`POST /v1/chat/completions`): the client's request read, the upstream's body made of it, answers
//! read and rendered, whole and streamed.

mod request;
mod response;
mod stream;
mod upstream;

pub use request::parse;
pub use response::{Rendering, parse_response, render_response};
pub use stream::{ChunkReader, ChunkWriter, Step, error_event};
pub use upstream::{IncludeUsage, UsageChunk, upstream_body};

/// The name of this format in [`understudy_core::request::WireBody`].
pub const FORMAT: &str = "openai.chat";

#[cfg(test)]
mod tests;
