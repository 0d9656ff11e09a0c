//! What is loaded: anything that answers request number n.

use crate::load::Prompt;
use futures_util::{FutureExt, future::BoxFuture};
use std::sync::Arc;
use understudy_core::{Backend, Message, Money, Price, Request, Result, Role, TraceId, request::Sampling};

/// What one answer took besides time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// What it cost, where that is known.
    pub cost: Option<Money>,
    /// Tokens written.
    pub output_tokens: u64,
    /// A mark of the target's own: answered locally, say.
    pub marked: bool,
}

/// Answers request number `n`; what that is, is the target's business.
pub trait Target: Send + Sync {
    /// Asks and waits for the whole answer.
    fn ask(&self, n: u64) -> BoxFuture<'_, Result<Asked>>;
}

/// A backend that is asked texts in turn.
pub struct Texts {
    backend: Arc<dyn Backend>,
    prompts: Vec<Prompt>,
    sampling: Sampling,
    price: Option<Price>,
}

impl Texts {
    /// Asks `backend` the prompts in turn, again from the start after the last. `price` is the backend's, where known.
    ///
    /// # Panics
    /// Without prompts; [`crate::load::read_prompts`] never gives none.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, prompts: Vec<Prompt>, sampling: Sampling, price: Option<Price>) -> Self {
        assert!(!prompts.is_empty(), "there is a prompt to ask");
        Self { backend, prompts, sampling, price }
    }
}

impl Target for Texts {
    fn ask(&self, n: u64) -> BoxFuture<'_, Result<Asked>> {
        async move {
            let length = self.prompts.len() as u64;
            let prompt = &self.prompts[usize::try_from(n % length).expect("below the number of prompts")];
            let system = prompt.system.iter().map(|text| Message { role: Role::System, text: text.clone() });
            let user = Message { role: Role::User, text: prompt.text.clone() };
            let messages = system.chain(std::iter::once(user)).collect();
            let mut request = Request::new(TraceId::from_parts(n, 0), self.backend.name().clone(), messages);
            request.input = Some(prompt.text.clone());
            request.sampling = self.sampling.clone();
            let answer = self.backend.answer(&request).await?;
            Ok(Asked {
                cost: self.price.map(|price| price.cost(&answer.usage)),
                output_tokens: answer.usage.output_tokens,
                marked: false,
            })
        }
        .boxed()
    }
}
