//! What models with a head have in common: they answer from the one text that a request is about, and their head was
//! fitted on vectors of one length.

use understudy_core::{Answer, Confidence, Error, ModelName, Request, Result, Usage};

/// What a model makes of a text.
pub(crate) struct Made {
    pub(crate) text: String,
    pub(crate) label: Option<String>,
    pub(crate) confidence: Option<Confidence>,
    /// Tokens read.
    pub(crate) tokens: usize,
}

/// Answers a request with what `make` makes of its input, or of the last user message when no task rule cut one out.
/// `verb` says in errors what was to be done.
pub(crate) async fn answer(
    name: &ModelName,
    verb: &str,
    request: &Request,
    make: impl AsyncFnOnce(String) -> Result<Made>,
) -> Result<Answer> {
    let text = request.subject().map_err(|e| e.context(format!("{verb} with {name}")))?;
    let made = make(text.to_owned()).await?;
    let usage = Usage { input_tokens: made.tokens as u64, ..Usage::default() };
    let mut answer = Answer::text(name.clone(), made.text, usage);
    answer.label = made.label;
    answer.confidence = made.confidence;
    Ok(answer)
}

/// Refuses a head that was fitted on vectors of another length than `by` gives.
pub(crate) fn fits(what: &str, name: &ModelName, takes: usize, by: &str, gives: usize) -> Result<()> {
    if takes == gives {
        return Ok(());
    }
    Err(Error::data(format!(
        "load {what} {name}: its head takes {takes} dimensions, {by} gives {gives}; fit it again on this one"
    )))
}
