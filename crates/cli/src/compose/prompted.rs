//! A generative model that is always asked with one prompt: instruction and examples of the file that `adapt prompts`
//! wrote. What clients say as instructions is left out, since the prompt was measured without it.

use crate::config::{Config, Local};
use futures_util::{FutureExt, future::BoxFuture};
use std::sync::Arc;
use understudy_core::{
    Answer, Backend, Error, Message, ModelName, Request, Result, Role,
    backend::{AnswerStream, Capabilities},
    request::OutputFormat,
};
use understudy_pilot::{
    prompts::{Prompt, WORDS},
    run::{Task, shots::Picker},
};

impl Config {
    /// The prompt that a model is asked with, where the configuration names one.
    ///
    /// # Errors
    /// `NotFound` when the file is missing, `Invalid` when it is no prompt.
    pub(crate) fn prompt_of(&self, local: &Local) -> Result<Option<Prompt>> {
        local.prompt.as_ref().map(|file| Prompt::read(&self.base.join(file))).transpose()
    }
}

/// The model, asked with this prompt if there is one.
///
/// # Errors
/// `Invalid` when an encoder picks the prompt's examples: none is at hand here.
pub(super) fn asked_as(model: Arc<dyn Backend>, prompt: Option<Prompt>) -> Result<Arc<dyn Backend>> {
    let Some(prompt) = prompt else { return Ok(model) };
    let Some(picker) = prompt.picker() else {
        return Err(Error::invalid(format!(
            "serve `{}` with its prompt: `{}` picks the examples, and only {WORDS} and fixed examples are served; search \
             with --shots-by fixed,{WORDS}",
            model.name(),
            prompt.shots_by
        )));
    };
    Ok(Arc::new(Prompted { model, prompt, picker }))
}

struct Prompted {
    model: Arc<dyn Backend>,
    prompt: Prompt,
    picker: Picker,
}

impl Prompted {
    /// The request as the prompt was measured.
    fn asked(&self, request: &Request) -> Result<Request> {
        let mut asked = request.clone();
        let text = request.subject()?;
        asked.messages = self.prompt.opening(&self.picker, text);
        match &request.input {
            Some(text) => asked.messages.push(Message { role: Role::User, text: text.clone() }),
            None => asked.messages.extend(request.messages.iter().filter(|m| m.role != Role::System).cloned()),
        }
        if asked.format == OutputFormat::Text {
            asked.format = match self.prompt.task {
                Task::Classify => OutputFormat::OneOf(self.prompt.labels.clone()),
                Task::Extract => OutputFormat::JsonObject,
                _ => OutputFormat::Text,
            };
        }
        Ok(asked)
    }
}

impl Backend for Prompted {
    fn name(&self) -> &ModelName {
        self.model.name()
    }

    fn capabilities(&self) -> &Capabilities {
        self.model.capabilities()
    }

    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        async move { self.model.answer(&self.asked(request)?).await }.boxed()
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<AnswerStream>> {
        async move { self.model.stream(&self.asked(request)?).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_core::{Place, TraceId};
    use understudy_pilot::prompts::{Example, FIXED};
    use understudy_upstream::scripted::{Play, Scripted};

    fn prompt(shots_by: &str) -> Prompt {
        let example = |text: &str, answer: &str| Example { text: text.into(), answer: answer.into() };
        let examples = vec![example("free money", "spam"), example("lunch?", "ham")];
        let labels = vec!["ham".to_owned(), "spam".to_owned()];
        Prompt::new(Task::Classify, labels, "Ham or spam?".into(), (2, shots_by.into()), examples).unwrap()
    }

    #[test]
    fn the_prompt_stands_before_the_text_and_the_clients_instructions_are_left_out() {
        let model: Arc<dyn Backend> = Arc::new(Scripted::new("m", Place::Local, |_, _| Play::text(&"m".into(), "ham")));
        let prompt_ = prompt(FIXED);
        let prompted = Prompted { picker: prompt_.picker().unwrap(), prompt: prompt_, model: model.clone() };
        let message = |role: Role, text: &str| Message { role, text: text.to_owned() };
        let messages = vec![message(Role::System, "Be kind."), message(Role::User, "Subject: win now")];
        let mut request = Request::new(TraceId::from_parts(0, 0), "m".into(), messages);
        let texts = |request: &Request| -> Vec<String> {
            prompted.asked(request).unwrap().messages.into_iter().map(|m| m.text).collect()
        };
        let opening = ["Ham or spam?", "free money", "spam", "lunch?", "ham"];
        assert_eq!(texts(&request), [&opening[..], &["Subject: win now"]].concat());
        let format = prompted.asked(&request).unwrap().format;
        assert_eq!(format, OutputFormat::OneOf(vec!["ham".into(), "spam".into()]));
        // A task cut the text out.
        request.input = Some("win now".into());
        request.format = OutputFormat::OneOf(vec!["label: ham".into()]);
        assert_eq!(texts(&request), [&opening[..], &["win now"]].concat());
        assert_eq!(prompted.asked(&request).unwrap().format, request.format);
        request.input = None;
        request.messages.clear();
        assert!(prompted.asked(&request).is_err());
        let refused = asked_as(model, Some(prompt("minilm"))).err().map(|e| e.to_string());
        assert!(refused.is_some_and(|e| e.contains("--shots-by")));
    }
}
