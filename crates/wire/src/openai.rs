//! OpenAI's HTTP API, the lingua franca of model servers, and the one call of ours beside it (`feedback`).

pub mod chat;
pub mod embeddings;
pub mod error;
pub mod feedback;
pub mod models;
