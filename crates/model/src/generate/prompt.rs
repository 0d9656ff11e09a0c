//! From messages to tokens, by the chat template in the model file.
//!
//! The template is Jinja as Hugging Face runs it. Where it needs something that only Python has, which loading finds out,
//! llama.cpp's built-in version of the same family's template takes over; the log says so once. Templates that name
//! today's date (in UTC) make the prompt depend on the day.

use jiff::{Timestamp, fmt::strtime::BrokenDownTime};
use llama_cpp_2::{
    model::{LlamaChatMessage, LlamaChatTemplate, LlamaModel},
    token::LlamaToken,
};
use minijinja::{Environment, ErrorKind, Value, context, syntax::SyntaxConfig};
use understudy_core::{Error, Message, Result, Role};

const NAME: &str = "chat";

/// A model's chat template, compiled.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    /// `None` where llama.cpp's own takes over.
    jinja: Option<Environment<'static>>,
    built_in: LlamaChatTemplate,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Takes `given`, else the model file's own template.
    ///
    /// # Errors
    /// `Data` when there is none, or when neither engine can run it.
    pub(super) fn of(model: &LlamaModel, given: Option<&str>) -> Result<Self> {
        let source = match given {
            Some(text) => text.to_owned(),
            None => model.chat_template(None).ok().and_then(|t| t.to_string().ok()).ok_or_else(|| {
                Error::data(
                    "find the chat template: the file has none (tokenizer.chat_template); \
                     use an instruction-tuned model or give a template",
                )
            })?,
        };
        let built_in = LlamaChatTemplate::new(&source)
            .map_err(|_| Error::data("read the chat template: it contains a zero byte"))?;
        let vocab = model.vocab();
        let special = |token: LlamaToken| {
            if token.0 < 0 {
                return String::new();
            }
            String::from_utf8_lossy(&vocab.token_to_piece(token, true, None)).into_owned()
        };
        let mut template = Self { jinja: None, built_in, bos: special(vocab.bos()), eos: special(vocab.eos()) };
        let probe = [Message { role: Role::User, text: "hello".to_owned() }];
        match compile(source).and_then(|jinja| template.run(&jinja, &probe).map(|_| jinja)) {
            Ok(environment) => template.jinja = Some(environment),
            Err(error) => {
                template
                    .by_llama_cpp(model, &probe)
                    .ok_or_else(|| Error::data(format!("run the chat template: {}", reason(&error))))?;
                tracing::warn!(%error, "the chat template does not run, using llama.cpp's own for it");
            }
        }
        Ok(template)
    }

    /// The prompt as text, ending where the model's answer begins.
    ///
    /// # Errors
    /// `Invalid` when the template refuses the messages (roles that do not alternate, say).
    pub(super) fn render(&self, model: &LlamaModel, messages: &[Message]) -> Result<String> {
        let prompt = match &self.jinja {
            Some(environment) => self.run(environment, messages).map_err(|error| reason(&error)),
            None => self.by_llama_cpp(model, messages).ok_or_else(|| "llama.cpp refuses the messages".to_owned()),
        };
        prompt.map_err(|why| {
            Error::invalid(format!("apply the model's chat template: {why}; change the messages"))
                .with_param("messages")
        })
    }

    fn by_llama_cpp(&self, model: &LlamaModel, messages: &[Message]) -> Option<String> {
        let chat: Result<Vec<_>, _> =
            messages.iter().map(|m| LlamaChatMessage::new(m.role.as_str().to_owned(), m.text.clone())).collect();
        model.apply_chat_template(&self.built_in, &chat.ok()?, true).ok()
    }

    fn run(&self, environment: &Environment<'static>, messages: &[Message]) -> Result<String, minijinja::Error> {
        let messages: Vec<Value> = messages.iter().map(|m| turn(m.role.as_str(), &m.text)).collect();
        environment.get_template(NAME)?.render(context! {
            messages,
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a template names the day on which it runs; no decision depends on it")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// A time in C's `strftime` format, in UTC. What is unknown there stays as it stands, as in Python.
fn date(format: &str, at: Timestamp) -> String {
    let lenient = jiff::fmt::strtime::Config::new().lenient(true);
    let written = BrokenDownTime::from(at).to_string_with_config(&lenient, format);
    written.unwrap_or_else(|_| format.to_owned())
}

fn reason(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_owned)
}

fn turn(role: &str, content: &str) -> Value {
    Value::from_pairs([("role", role), ("content", content)])
}

/// Sets the engine up as Hugging Face's `apply_chat_template` does.
fn compile(source: String) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| date(&format, now()));
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

/// The prompt's tokens, with exactly one beginning-of-sequence token where the model wants one: most templates write
/// it themselves, some leave it to the tokeniser.
pub(super) fn tokenise(model: &LlamaModel, prompt: &str) -> Vec<LlamaToken> {
    let vocab = model.vocab();
    let mut tokens = vocab.tokenize(prompt.as_bytes(), false, true);
    if vocab.should_add_bos() && tokens.first() != Some(&vocab.bos()) {
        tokens.insert(0, vocab.bos());
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_may_trim_call_python_methods_and_refuse() {
        let source = "{% for m in messages %}\n    {%- if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}\
                      <{{ m['role'].upper() }}>{{ m.content.strip() }}\n{% endfor %}";
        let environment = compile(source.to_owned()).expect("valid");
        let run = |role: &'static str| {
            environment.get_template(NAME).and_then(|t| t.render(context! { messages => vec![turn(role, " hi ")] }))
        };
        assert_eq!(run("user").expect("allowed"), "<USER>hi\n");
        assert_eq!(run("tool").expect_err("refused").detail(), Some("no tools here"));
    }

    #[test]
    fn templates_may_ask_for_the_date() {
        let environment = compile("{{ strftime_now('%Y-%m-%d') }}".to_owned()).expect("valid");
        let date = environment.get_template(NAME).and_then(|t| t.render(())).expect("a date");
        assert!(date.len() == 10 && date.as_str() > "2025-01-01", "{date}");
        // date -u -d @1709210096
        let at = Timestamp::from_second(1_709_210_096).expect("in range");
        for (format, want) in [
            ("%d %B %Y", "29 February 2024"),
            ("%A, %d %b %Y, %H:%M:%S", "Thursday, 29 Feb 2024, 12:34:56"),
            ("%I:%M %p, %-m/%y", "12:34 PM, 2/24"),
            ("%F %T, 100 %% %é", "2024-02-29 12:34:56, 100 % %é"),
        ] {
            assert_eq!(super::date(format, at), want);
        }
    }
}
