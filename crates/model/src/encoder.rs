//! Encoders of the BERT family in this process: text in, one unit-length vector out.
//!
//! Loads a Hugging Face folder (`config.json`, `model.safetensors`, `tokenizer.json`, and where present
//! `1_Pooling/config.json` and `sentence_bert_config.json`) of a BERT (MiniLM, BGE), MPNet or DistilBERT model. A batch
//! is laid end to end without padding. One call runs on the calling thread; [`crate::service`] spreads calls over
//! threads.

pub mod config;
mod layers;
pub mod names;
pub mod packed;
pub mod weights;

use crate::tokens::Tokenizer;
pub use crate::tokens::Tokens;
use config::Config;
use layers::{Body, Buffers};
use std::ops::Range;
use std::path::Path;
use understudy_core::{Error, ModelName, Result};
pub use understudy_kernels::{Dtype, Pooling, instruction_set};
use weights::Weights;

/// File of the tokeniser.
pub const TOKENIZER: &str = "tokenizer.json";

/// How to load an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EncoderOptions {
    /// Number format of the weights and products.
    pub dtype: Dtype,
    /// Tokens to read of each text, special ones included. The model's own limit (`max_seq_length` in
    /// `sentence_bert_config.json`, and its table of positions) applies on top.
    pub max_tokens: usize,
    /// Windows of `max_tokens` in which a longer text is read; 1 cuts it.
    pub windows: usize,
    /// How to pool; `None` takes what `1_Pooling/config.json` says, or the mean when there is no such file.
    pub pooling: Option<Pooling>,
}

impl Default for EncoderOptions {
    /// int8, and as many tokens as the model allows up to 512.
    fn default() -> Self {
        Self { dtype: Dtype::Int8, max_tokens: 512, windows: 1, pooling: None }
    }
}

impl EncoderOptions {
    /// Texts are cut after `max_tokens` and pooled as the model says.
    #[must_use]
    pub fn cut(dtype: Dtype, max_tokens: usize) -> Self {
        Self { dtype, max_tokens, ..Self::default() }
    }
}

/// Tokens that are worked on together: their activations stay in the second-level cache.
const CHUNK_TOKENS: usize = 128;

/// Longest text whose words are read: their states, of which there is one for every two bytes at worst, are kept
/// together.
const MOST_WORD_BYTES: usize = 512 * 1024;

/// A loaded encoder. Cheap to share (`Arc`), never changes.
pub struct Encoder {
    name: ModelName,
    tokenizer: Tokenizer,
    body: Body,
    pooling: Pooling,
    dtype: Dtype,
}

/// Buffers that a thread reuses from call to call.
#[derive(Default)]
pub struct Scratch(Buffers);

impl Encoder {
    /// Loads a model folder; the folder's name becomes the model's.
    ///
    /// # Errors
    /// `NotFound` when the folder or a file is missing, `Data` when a file does not hold what it should: the message
    /// names the file, the tensor and the shape that was expected. `Invalid` when `max_tokens` is below 3.
    pub fn load(dir: &Path, options: &EncoderOptions) -> Result<Self> {
        if options.max_tokens < 3 {
            return Err(Error::invalid("load encoder: set max_tokens to 3 or more (two are special tokens)"));
        }
        let name = dir.file_name().map_or_else(|| "encoder".into(), |name| name.to_string_lossy());
        let config = Config::load(dir)?;
        let max_tokens = options.max_tokens.min(config.max_tokens);
        let file = dir.join(TOKENIZER);
        let tokenizer = Tokenizer::load(&file, max_tokens)?.with_windows(options.windows);
        if tokenizer.vocabulary() > config.vocabulary {
            return Err(Error::data(format!(
                "load encoder {}: its tokeniser knows {} tokens and the model {}; the two files are not of one model",
                file.display(),
                tokenizer.vocabulary(),
                config.vocabulary
            )));
        }
        let bytes = weights::read(dir)?;
        let weights = Weights::parse(dir, &bytes)?;
        Ok(Self {
            name: ModelName::new(name),
            tokenizer,
            body: Body::load(&config, &weights, options.dtype)?,
            pooling: options.pooling.unwrap_or(config.pooling),
            dtype: options.dtype,
        })
    }

    /// The name of the folder it came from.
    #[must_use]
    pub fn name(&self) -> &ModelName {
        &self.name
    }

    /// Length of an embedding.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.body.width()
    }

    /// The most tokens of a window; the most it reads of a text where that is cut.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    /// The most windows in which it reads a text.
    #[must_use]
    pub fn windows(&self) -> usize {
        self.tokenizer.most_windows()
    }

    /// Number format of its weights.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// How token vectors become an embedding.
    #[must_use]
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Tokenises the beginning of `text`, as much of it as the model reads.
    ///
    /// # Errors
    /// `Data` when the tokeniser cannot represent the text.
    pub fn tokenize(&self, text: &str) -> Result<Tokens> {
        self.tokenizer.tokenize(text)
    }

    /// Embeds a batch: one unit-length vector per text, in order. The result for a text does not depend on its
    /// neighbours in the batch beyond rounding.
    ///
    /// # Panics
    /// When tokens come from another model's tokeniser and are outside this one's vocabulary, or there are more of them
    /// than the model has positions.
    #[must_use]
    pub fn embed(&self, batch: &[Tokens], scratch: &mut Scratch) -> Vec<Vec<f32>> {
        let mut vectors = Vec::with_capacity(batch.len());
        let mut rest = batch;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(chunk_len(rest.iter().map(Tokens::len)));
            vectors.extend(self.body.embed(chunk, self.pooling, &mut scratch.0));
            rest = after;
        }
        vectors
    }
}

impl Encoder {
    /// Reads a whole text of up to 512 KiB in windows of as many tokens as the model reads, and says for each word what
    /// state its first token is in.
    ///
    /// # Errors
    /// `Invalid` when the text is longer, `Data` when the tokeniser cannot represent it.
    pub fn read_words(&self, text: &str, scratch: &mut Scratch) -> Result<WordStates> {
        self.read_words_while(text, scratch, || true)
    }

    /// The same, which ends with `Unavailable` between two windows once the words are not wanted any more.
    pub(crate) fn read_words_while(
        &self,
        text: &str,
        scratch: &mut Scratch,
        wanted: impl Fn() -> bool,
    ) -> Result<WordStates> {
        if text.len() > MOST_WORD_BYTES {
            let why = format!("the text has {} bytes, the limit is {MOST_WORD_BYTES}; divide it", text.len());
            return Err(Error::invalid(format!("read the words of a text: {why}")));
        }
        let words = self.tokenizer.words(text)?;
        let width = self.dimensions();
        let (mut states, mut tokens) = (Vec::with_capacity(words.words.len() * width), 0);
        for window in words.windows(self.max_tokens()) {
            if !wanted() {
                return Err(Error::unavailable("read the words of a text: nobody waits for them any more"));
            }
            tokens += window.ids.len();
            let rows = self.body.states(&[&window.ids], &mut scratch.0);
            window.firsts.iter().for_each(|first| states.extend_from_slice(&rows[first * width..][..width]));
        }
        Ok(WordStates { states, words: words.words.into_iter().map(|word| word.bytes).collect(), tokens })
    }
}

/// The words of a text as an encoder sees them.
#[derive(Debug, Clone, PartialEq)]
pub struct WordStates {
    /// A row for each word.
    pub states: Vec<f32>,
    /// Where each word stands in the text, in bytes.
    pub words: Vec<Range<usize>>,
    /// Tokens read, special ones included.
    pub tokens: usize,
}

/// How many of the first texts go together, given their lengths: at least one, and no more than a chunk's tokens.
pub(crate) fn chunk_len(lengths: impl Iterator<Item = usize>) -> usize {
    let mut tokens = 0;
    let fits = lengths.take_while(|length| {
        tokens += length;
        tokens <= CHUNK_TOKENS
    });
    fits.count().max(1)
}

#[cfg(test)]
mod tests;
