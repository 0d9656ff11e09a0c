//! A model whose answers are known: recorded outcomes behind the same seam as a live one, with a latency of choice.

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use std::{collections::HashMap, f64::consts::TAU, time::Duration};
use understudy_core::{
    Answer, AnswerStream, Backend, Capabilities, Error, Event, ModelName, Outcome, Request, Result, Role, Seed,
    TokenLogprob, Usage,
    hash::{sha256_hex, unit_interval},
};

/// How long an answer takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Latency {
    /// No time.
    None,
    /// Always the same.
    Fixed(Duration),
    /// What the record says; no time where it says nothing.
    Recorded,
    /// Log-normal, which is how latencies of LLM APIs look. Drawn from the seed and the prompt: the same prompt always
    /// takes the same time.
    LogNormal {
        /// Half of the answers are faster.
        median: Duration,
        /// Standard deviation of the logarithm; 0.5 puts the 95th percentile at 2.3 medians.
        sigma: f64,
        /// Which draw.
        seed: Seed,
    },
}

#[derive(Debug)]
struct Reply {
    text: String,
    latency_ms: Option<f64>,
    tokens_in: Option<u64>,
    tokens_out: Option<u64>,
    token_logprobs: Option<Vec<f64>>,
}

/// Answers from a record. A prompt that is not in it is an error.
#[derive(Debug)]
pub struct Recorded {
    name: ModelName,
    capabilities: Capabilities,
    latency: Latency,
    replies: Vec<Reply>,
    /// By hash of (system prompt, user text).
    by_conversation: HashMap<String, usize>,
    /// By hash of the user text alone.
    by_text: HashMap<String, usize>,
}

impl Recorded {
    /// A model `name` that answers what `recorded_as` answered in `outcomes`. Where a prompt appears twice, the first
    /// answer holds.
    ///
    /// # Errors
    /// `NotFound` when the record has no answer of `recorded_as`, naming the models it has. `Invalid` when the spread
    /// of the latency is not a number from 0 to 5.
    pub fn new(
        name: ModelName,
        recorded_as: &str,
        outcomes: Vec<Outcome>,
        latency: Latency,
        capabilities: Capabilities,
    ) -> Result<Self> {
        if let Latency::LogNormal { sigma, .. } = latency
            && !(0.0..=5.0).contains(&sigma)
        {
            return Err(Error::invalid(format!("set up model `{name}`: latency sigma {sigma} is not from 0 to 5")));
        }
        let mut known = std::collections::BTreeSet::new();
        let mut model = Self {
            name,
            capabilities,
            latency,
            replies: Vec::new(),
            by_conversation: HashMap::new(),
            by_text: HashMap::new(),
        };
        for mut outcome in outcomes {
            let Some(answer) = outcome.models.remove(recorded_as) else {
                known.extend(outcome.models.into_keys());
                continue;
            };
            let Some(text) = answer.reply().map(str::to_owned) else { continue };
            let index = model.replies.len();
            model.replies.push(Reply {
                text,
                latency_ms: answer.latency_ms,
                tokens_in: answer.tokens_in,
                tokens_out: answer.tokens_out,
                token_logprobs: answer.token_logprobs,
            });
            let system = outcome.system.as_deref().unwrap_or("");
            model.by_conversation.entry(conversation_key(system, &outcome.prompt)).or_insert(index);
            model.by_text.entry(text_key(&outcome.prompt)).or_insert(index);
        }
        if model.replies.is_empty() {
            let known: Vec<String> = known.into_iter().collect();
            return Err(Error::not_found(format!(
                "set up model `{}`: the record has no answers of `{recorded_as}`; it has {}",
                model.name,
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )));
        }
        Ok(model)
    }

    /// Number of answers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.replies.len()
    }

    /// Always false: a record without answers is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// The answer and the time it takes. The whole conversation is looked up first, then the user's text, then the
    /// text that the task cut out of it.
    fn find(&self, request: &Request) -> Result<(Answer, Duration)> {
        let user = request.last_text(&Role::User).unwrap_or("");
        let index = self
            .by_conversation
            .get(&conversation_key(&request.system_text(), user))
            .or_else(|| self.by_text.get(&text_key(user)))
            .or_else(|| self.by_text.get(&text_key(request.input.as_deref()?)));
        let Some(reply) = index.map(|&index| &self.replies[index]) else {
            let start: String = user.chars().take(60).collect();
            return Err(Error::not_found(format!("ask `{}`: its record has no answer to \"{start}…\"", self.name)));
        };
        let estimate = Usage::estimate(request.text_bytes(), reply.text.len());
        let usage = Usage {
            input_tokens: reply.tokens_in.unwrap_or(estimate.input_tokens),
            output_tokens: reply.tokens_out.unwrap_or(estimate.output_tokens),
            cached_input_tokens: 0,
            estimated: reply.tokens_in.is_none() || reply.tokens_out.is_none(),
        };
        let latency = self.latency.of(user, reply.latency_ms);
        let mut answer = Answer::text(self.name.clone(), reply.text.clone(), usage);
        if request.sampling.logprobs.is_some() {
            answer.logprobs = reply.token_logprobs.as_deref().map(logprobs);
        }
        Ok((answer, latency))
    }
}

impl Latency {
    /// The time for this prompt.
    fn of(self, prompt: &str, recorded_ms: Option<f64>) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Fixed(time) => time,
            Self::Recorded => {
                recorded_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()).unwrap_or(Duration::ZERO)
            }
            Self::LogNormal { median, sigma, seed } => {
                // Box–Muller on two uniform numbers that depend on seed and prompt only; 1 − u is never 0.
                let u = |part: &str| unit_interval(&format!("{} {part} {prompt}", seed.0));
                let normal = (-2.0 * (1.0 - u("radius")).ln()).sqrt() * (TAU * u("angle")).cos();
                Duration::try_from_secs_f64(median.as_secs_f64() * (sigma * normal).exp()).unwrap_or(median)
            }
        }
    }
}

/// Recorded log-probabilities; which bytes each token had was not recorded.
#[expect(clippy::cast_possible_truncation, reason = "a log-probability")]
fn logprobs(tokens: &[f64]) -> Vec<TokenLogprob> {
    tokens.iter().map(|&p| TokenLogprob { bytes: Vec::new(), logprob: p as f32, top: Vec::new() }).collect()
}

fn conversation_key(system: &str, user: &str) -> String {
    sha256_hex(format!("{}\0{}", system.trim(), user.trim()).as_bytes())
}

fn text_key(text: &str) -> String {
    sha256_hex(text.trim().as_bytes())
}

impl Backend for Recorded {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        async move {
            let (answer, latency) = self.find(request)?;
            tokio::time::sleep(latency).await;
            Ok(answer)
        }
        .boxed()
    }

    /// Word by word: the first after half of the latency, the others evenly over the rest.
    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<AnswerStream>> {
        async move {
            let (answer, latency) = self.find(request)?;
            tokio::time::sleep(latency / 2).await;
            let words: Vec<String> = answer.text.split_inclusive(char::is_whitespace).map(str::to_owned).collect();
            let pause = latency / 2 / u32::try_from(words.len()).unwrap_or(u32::MAX).max(1);
            let deltas = stream::iter(words).then(move |text| async move {
                tokio::time::sleep(pause).await;
                Ok(Event::Delta { text, wire: None })
            });
            let end = stream::iter([Ok(Event::End(Box::new(answer)))]);
            Ok(deltas.chain(end).boxed())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_core::{ErrorKind, Message, Place, RecordedAnswer, TraceId};

    fn capabilities() -> Capabilities {
        Capabilities::of_text(Place::Remote)
    }

    fn outcome(system: Option<&str>, prompt: &str, text: &str) -> Outcome {
        let answer = RecordedAnswer {
            text: Some(text.into()),
            latency_ms: Some(2.0),
            tokens_in: Some(9),
            ..RecordedAnswer::default()
        };
        Outcome {
            system: system.map(str::to_owned),
            prompt: prompt.into(),
            models: [("gpt".to_owned(), answer)].into(),
            ..Outcome::default()
        }
    }

    fn request(system: &str, user: &str) -> Request {
        let message = |role, text: &str| Message { role, text: text.into() };
        let messages = vec![message(Role::System, system), message(Role::User, user)];
        Request::new(TraceId::from_parts(0, 0), "m".into(), messages)
    }

    fn model(latency: Latency) -> Recorded {
        let outcomes = vec![outcome(Some("s1"), "p", "one"), outcome(Some("s2"), "p", "two words here")];
        Recorded::new("m".into(), "gpt", outcomes, latency, capabilities()).expect("a record")
    }

    #[tokio::test]
    async fn the_conversation_decides_then_the_text_then_the_tasks_input() {
        let model = model(Latency::Recorded);
        for (system, user, expected) in [("s2", "p", "two words here"), ("s1", " p\n", "one"), ("other", "p", "one")] {
            let answer = model.answer(&request(system, user)).await.expect("known");
            assert_eq!(answer.text, expected);
            assert_eq!((answer.usage.input_tokens, answer.usage.estimated), (9, true));
        }
        let wrapped = Request { input: Some("p".into()), ..request("", "Classify: p") };
        assert_eq!(model.answer(&wrapped).await.expect("known").text, "one");
        let error = model.answer(&request("", "new prompt")).await.expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("new prompt"), "{error}");
    }

    #[tokio::test]
    async fn a_stream_brings_the_words_in_order_and_ends() {
        let model = model(Latency::Fixed(Duration::from_millis(4)));
        let events: Vec<Event> =
            model.stream(&request("s2", "p")).await.expect("known").map(|e| e.expect("no error")).collect().await;
        let text: String =
            events.iter().map(|e| if let Event::Delta { text, .. } = e { text.as_str() } else { "" }).collect();
        assert_eq!((events.len(), text.as_str()), (4, "two words here"));
        assert!(matches!(events.last(), Some(Event::End(answer)) if answer.text == text));
    }

    #[test]
    fn a_model_that_is_not_in_the_record_is_refused_with_those_that_are() {
        let outcomes = vec![outcome(None, "p", "a")];
        let error =
            Recorded::new("m".into(), "gpd", outcomes, Latency::None, capabilities()).expect_err("a misspelt name");
        assert!(error.message().contains("it has gpt"), "{error}");
    }

    #[test]
    fn log_normal_latencies_repeat_and_have_their_median() {
        let latency = Latency::LogNormal { median: Duration::from_millis(800), sigma: 0.5, seed: Seed(1) };
        let mut drawn: Vec<Duration> = (0..2000).map(|i| latency.of(&format!("prompt {i}"), None)).collect();
        assert_eq!(drawn[7], latency.of("prompt 7", None));
        drawn.sort_unstable();
        let (median, p95) = (drawn[1000].as_secs_f64(), drawn[1900].as_secs_f64());
        // 2,000 draws: the median's standard error is 0.8 × 0.5 × 1.2533 / √2000 ≈ 11 ms; e^(1.645 × 0.5) = 2.28.
        assert!((median - 0.8).abs() < 0.05, "{median}");
        assert!((p95 / median - 2.28).abs() < 0.25, "{p95}");
    }
}
