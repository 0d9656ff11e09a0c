//! Does the model that serves say what the model that was trained says? Divergence of the two distributions before every
//! token of held-out answers.

use crate::llama::batch::{Batch, Example};
use crate::llama::network::LlamaNetwork;
use crate::llama::pass::Pass;
use crate::logits::{likeliest, log_sum};
use serde::{Deserialize, Serialize};
use understudy_core::{Error, Result};

/// How far the served distributions are from the trained ones.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Agreement {
    /// Mean Kullback–Leibler divergence of the served distribution from the trained one, in nats a token.
    pub mean_kl: f64,
    /// The largest of a token.
    pub max_kl: f64,
    /// Largest difference of the log-probability of a token of the answers.
    pub max_logprob_difference: f64,
    /// Share of tokens where the likeliest token is another one.
    pub flips: f64,
    /// Tokens compared.
    pub n: u64,
}

impl Agreement {
    /// Compares a trained network with what serves. `served` gives, for an example, the scores (logits) before each token
    /// of its answer, in rows of the vocabulary.
    ///
    /// # Errors
    /// Whatever `served` reports; `Internal` when its rows are others.
    pub fn measure(
        network: &LlamaNetwork,
        examples: &[Example],
        mut served: impl FnMut(&Example) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let (mut this, mut pass) = (Self::default(), Pass::default());
        let vocabulary = network.config().vocabulary;
        for example in examples {
            let trained = network.log_probabilities(&Batch::new([example]), &mut pass);
            let logits = served(example)?;
            if logits.len() != trained.len() {
                return Err(Error::internal("compare with the served model: it gives other rows"));
            }
            let targets = &example.tokens[example.answer..];
            let rows = trained.chunks_exact(vocabulary).zip(logits.chunks_exact(vocabulary));
            for ((p, logits), target) in rows.zip(targets) {
                let norm = log_sum(logits);
                let q = |i: usize| f64::from(logits[i]) - norm;
                let kl: f64 = p.iter().enumerate().map(|(i, p)| p.exp() * (p - q(i))).sum();
                let (target, count) = (*target as usize, this.n as f64);
                this.mean_kl = (this.mean_kl * count + kl) / (count + 1.0);
                this.max_kl = this.max_kl.max(kl);
                this.max_logprob_difference = this.max_logprob_difference.max((p[target] - q(target)).abs());
                let flip = f64::from(u8::from(likeliest(p) != likeliest(logits)));
                this.flips = (this.flips * count + flip) / (count + 1.0);
                this.n += 1;
            }
        }
        Ok(this)
    }

    /// Refuses a model that differs more than `limit` nats a token.
    ///
    /// # Errors
    /// `Internal`, with both figures.
    pub fn check(&self, limit: f64, what: &str) -> Result<()> {
        // NaN is a difference too.
        if self.mean_kl <= limit {
            return Ok(());
        }
        Err(Error::internal(format!(
            "accept the trained model: {what} says something else than what was trained (mean KL {:.2e} over {} tokens, \
             allowed {limit:.0e}); nothing was written",
            self.mean_kl, self.n
        )))
    }
}
