//! Conversations as the token ids that a model file is served with: its own template and tokeniser. What training reads,
//! so that it learns from exactly the prompts that will be asked.

use super::{
    backend,
    prompt::{self, ChatTemplate},
};
use llama_cpp_2::{
    model::{LlamaModel, params::LlamaModelParams},
    token::LlamaToken,
};
use std::path::Path;
use understudy_core::{Error, Message, Result, Role};

/// A text that no template changes and no conversation holds.
const MARK: &str = "understudy-answer-mark";

/// A model file's template and tokeniser, without its weights.
#[derive(Debug)]
pub struct ChatTokens {
    model: LlamaModel,
    template: ChatTemplate,
    end: LlamaToken,
}

impl ChatTokens {
    /// Reads them from a GGUF file.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `Data` when llama.cpp cannot read it or it has no usable template.
    pub fn load(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::not_found(format!("read {}: there is no such file", path.display())));
        }
        let what = format!("read the tokeniser of {}", path.display());
        let params = LlamaModelParams::default().with_vocab_only(true);
        let model = LlamaModel::load_from_file(backend(), path, &params)
            .map_err(|e| Error::data(format!("{what}: llama.cpp cannot read it ({e})")))?;
        let template = ChatTemplate::of(&model, None).map_err(|e| e.context(&what))?;
        let end = end(&model, &template);
        Ok(Self { model, template, end })
    }

    /// The prompt of a conversation, ending where the answer begins.
    ///
    /// # Errors
    /// `Invalid` when the template refuses the messages.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let text = self.template.render(&self.model, messages)?;
        Ok(prompt::tokenise(&self.model, &text).into_iter().map(id).collect())
    }

    /// An answer with the token that ends it. Words that look like control tokens stay words.
    #[must_use]
    pub fn answer(&self, text: &str) -> Vec<u32> {
        let tokens = self.model.vocab().tokenize(text.as_bytes(), false, false);
        tokens.into_iter().chain([self.end]).map(id).collect()
    }
}

fn id(token: LlamaToken) -> u32 {
    u32::try_from(token.0).unwrap_or(0)
}

/// The token by which the template ends an answer; the vocabulary's own where the template has none.
fn end(model: &LlamaModel, template: &ChatTemplate) -> LlamaToken {
    let vocab = model.vocab();
    let turn = |role, text: &str| Message { role, text: text.to_owned() };
    let after = template
        .render(model, &[turn(Role::User, "hello"), turn(Role::Assistant, MARK), turn(Role::User, "hello")])
        .ok()
        .and_then(|text| text.split_once(MARK).map(|(_, after)| after.to_owned()));
    let found = after
        .and_then(|after| vocab.tokenize(after.as_bytes(), false, true).into_iter().find(|token| vocab.is_eog(*token)));
    found.unwrap_or_else(|| if vocab.eot().0 >= 0 { vocab.eot() } else { vocab.eos() })
}
