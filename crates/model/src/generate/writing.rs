//! One answer in the making: its tokens are drawn one after the other, or it is chosen among texts.

use super::{
    choices::Choices,
    engine::Job,
    sample::Logprobs,
    text::{Emitter, Progress},
};
use llama_cpp_2::{model::LlamaModel, token::LlamaToken};
use understudy_core::{Answer, Confidence, Error, Event, FinishReason, Result, TokenLogprob, Usage, request::Delivery};

/// Texts to choose among.
#[derive(Debug)]
pub(super) struct Candidates {
    pub(super) texts: Vec<String>,
    pub(super) choices: Choices,
}

/// An answer in the making.
pub(super) struct Writing {
    pub(super) job: Job,
    pub(super) slot: usize,
    pub(super) reused: usize,
    /// The drawn token that is not in the cache yet; `None` while the prompt is being read.
    pub(super) next: Option<LlamaToken>,
    pub(super) drawn: usize,
    pub(super) emitter: Emitter,
    pub(super) logprobs: Vec<TokenLogprob>,
    /// Where in the current batch its logits will be.
    pub(super) output: Option<i32>,
    /// How many tokens of it the current batch holds.
    pub(super) batched: usize,
    /// Where the candidates are read, when the answer is one of several texts.
    pub(super) reading: Option<Reading>,
}

/// A way through the candidates that is being read.
pub(super) struct Reading {
    /// Its places, 0 being the end of the prompt.
    pub(super) nodes: Vec<usize>,
    /// The prompt and the tokens of those places.
    pub(super) tokens: Vec<LlamaToken>,
    /// Which places the current batch reads, and where in it their logits will be.
    pub(super) outputs: Vec<(usize, i32)>,
}

impl Reading {
    pub(super) fn new(prompt: &[LlamaToken], path: Vec<usize>, choices: &Choices) -> Self {
        let tokens = prompt.iter().copied().chain(path.iter().map(|&node| choices.token(node))).collect();
        Self { nodes: std::iter::once(0).chain(path).collect(), tokens, outputs: Vec::new() }
    }
}

impl Writing {
    /// The tokens that are to be in the cache before anything can be drawn or chosen.
    pub(super) fn wanted(&self) -> &[LlamaToken] {
        self.reading.as_ref().map_or(&self.job.prompt, |reading| &reading.tokens)
    }

    /// Ends an answer that is one of several texts.
    pub(super) fn send_choice(&mut self, model: &LlamaModel) {
        let Some(candidates) = &self.job.choices else { return };
        let Some(found) = candidates.choices.found() else {
            let _ = self.job.reply.send(Err(Error::internal("choose a text: the model's output has no finite number")));
            return;
        };
        let usage = Usage {
            input_tokens: self.job.prompt.len() as u64,
            cached_input_tokens: self.reused as u64,
            output_tokens: found.tokens.len() as u64,
            estimated: false,
        };
        let mut answer = Answer::text(self.job.name.clone(), candidates.texts[found.best].clone(), usage);
        answer.confidence = Confidence::new(found.share.clamp(0.0, 1.0)).ok();
        let vocab = model.vocab();
        #[expect(clippy::cast_possible_truncation, reason = "log-probabilities are reported in f32")]
        let described = found.tokens.iter().map(|&(token, logprob)| TokenLogprob {
            bytes: vocab.token_to_piece(token, false, None),
            logprob: logprob.min(0.0) as f32,
            top: Vec::new(),
        });
        answer.logprobs = self.job.sampler.wants_logprobs().then(|| described.collect());
        if self.job.delivery == Delivery::Stream {
            let _ = self.job.reply.send(Ok(Event::Delta { text: answer.text.clone(), wire: None }));
        }
        let _ = self.job.reply.send(Ok(Event::End(Box::new(answer))));
    }

    /// Draws the next token; the reason when it was the last.
    pub(super) fn draw(&mut self, model: &LlamaModel, logits: &[f32]) -> Result<Option<FinishReason>> {
        let token = self.job.sampler.sample(logits)?;
        self.drawn += 1;
        let id = LlamaToken(i32::try_from(token).expect("a vocabulary's size is an i32"));
        let vocab = model.vocab();
        if vocab.is_eog(id) {
            self.emitter.finish();
            return Ok(Some(FinishReason::Stop));
        }
        let bytes = vocab.token_to_piece(id, false, None);
        if let Some(found) = self.job.sampler.logprobs(logits, token) {
            self.logprobs.push(describe(model, &bytes, &found));
        }
        if self.emitter.push(&bytes) == Progress::Stopped {
            self.cut_logprobs();
            return Ok(Some(FinishReason::Stop));
        }
        if self.drawn >= self.job.max_tokens {
            self.emitter.finish();
            return Ok(Some(FinishReason::Length));
        }
        self.next = Some(id);
        Ok(None)
    }

    /// Drops the log-probabilities of tokens that begin after the end of the text, in the stop sequence.
    fn cut_logprobs(&mut self) {
        let (mut at, end) = (0, self.emitter.text().len());
        let keep = self.logprobs.iter().take_while(|t| {
            let begins = at;
            at += t.bytes.len();
            begins < end
        });
        let keep = keep.count();
        self.logprobs.truncate(keep);
    }

    /// Sends new text to a streaming client; false when it left.
    pub(super) fn send_delta(&mut self) -> bool {
        if self.job.delivery == Delivery::Whole {
            return true;
        }
        let text = self.emitter.take_delta();
        if text.is_empty() {
            return true;
        }
        // A client that left is noticed before the next step.
        let _ = self.job.reply.send(Ok(Event::Delta { text: text.to_owned(), wire: None }));
        true
    }

    pub(super) fn send_end(&mut self, finish: FinishReason) {
        let usage = Usage {
            input_tokens: self.job.prompt.len() as u64,
            cached_input_tokens: self.reused as u64,
            output_tokens: self.drawn as u64,
            estimated: false,
        };
        let mut answer = Answer::text(self.job.name.clone(), self.emitter.text(), usage);
        answer.finish = finish;
        answer.logprobs = self.job.sampler.wants_logprobs().then(|| std::mem::take(&mut self.logprobs));
        let _ = self.job.reply.send(Ok(Event::End(Box::new(answer))));
    }
}

fn describe(model: &LlamaModel, bytes: &[u8], found: &Logprobs) -> TokenLogprob {
    let vocab = model.vocab();
    // Control tokens print as nothing in a text; as alternatives they are named.
    let piece = |token: usize| vocab.token_to_piece(LlamaToken(i32::try_from(token).unwrap_or(0)), true, None);
    TokenLogprob {
        bytes: bytes.to_vec(),
        logprob: found.logprob,
        top: found.top.iter().map(|&(token, logprob)| (piece(token), logprob)).collect(),
    }
}
