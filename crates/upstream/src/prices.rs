//! List prices of well-known models: a pinned snapshot inside the binary. Prices in the configuration go first.
//!
//! Joined from the LiteLLM table (PyPI litellm 1.109.1), models.dev (commit f3fc6922, 2 July 2026) and pydantic's
//! genai-prices (PyPI 0.2.3), all MIT. Where they disagree the LiteLLM figure holds, being the newest, and the row keeps the
//! others. A test makes the table anew from the first two and prints where they disagree; `cargo xtask prices` renews it
//! from all three. A model that is not in it has no known price; it is never free by omission.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};
use understudy_core::{Error, Money, Price, Result};

/// The table: `provider,model,input,cached_input,output,source,other_input,other_output,third_input,third_output`; USD per
/// million tokens. `other` is models.dev where it differs, `third` is genai-prices where it knows the model. An empty
/// `cached_input` is unknown and billed as fresh input.
const TABLE: &str = include_str!("prices.csv");

/// When and from what the table was made.
pub const SNAPSHOT: &str = "litellm 1.109.1, models.dev f3fc6922 (2026-07-02) and genai-prices 0.2.3";

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPrice {
    /// Who sells it, as models.dev names them: `openai`, `groq`.
    pub provider: &'static str,
    /// The provider's name for it.
    pub model: &'static str,
    /// The price.
    pub price: Price,
    /// Whether the sources disagree about it.
    pub disputed: bool,
    /// Input and output in USD per million tokens by models.dev, where it differs.
    other: (&'static str, &'static str),
    /// The same by genai-prices, where it knows the model.
    third: (&'static str, &'static str),
}

impl ListPrice {
    /// What the sources say that disagree with the price: `models.dev says 2/5, genai-prices 2/5`; empty where they agree.
    #[must_use]
    pub fn dispute(&self) -> String {
        let mut said = Vec::new();
        if !self.other.0.is_empty() || !self.other.1.is_empty() {
            said.push(format!("models.dev says {}/{}", self.other.0, self.other.1));
        }
        if self.differs(self.third) {
            let says = if said.is_empty() { " says" } else { "" };
            said.push(format!("genai-prices{says} {}/{}", self.third.0, self.third.1));
        }
        said.join(", ")
    }

    /// Whether these are figures, and others than the price's. An embedding has no output, and no price for it.
    fn differs(&self, (input, output): (&str, &str)) -> bool {
        let is = |text: &str, price: Money| text.parse().ok().and_then(|usd| Money::from_usd(usd).ok()) == Some(price);
        let embeds = self.price.output_per_million == Money::ZERO;
        !input.is_empty()
            && !(is(input, self.price.input_per_million) && (embeds || is(output, self.price.output_per_million)))
    }
}

/// The price of a model by the provider's name for it, with or without the provider in front (`openai/gpt-4o`).
/// `None` when it is not known, or when several providers sell the name at different prices.
#[must_use]
pub fn price_of(model: &str) -> Option<Price> {
    static BY_NAME: LazyLock<HashMap<String, Option<Price>>> = LazyLock::new(|| {
        let mut names: HashMap<String, Option<Price>> = HashMap::new();
        for row in rows() {
            names.insert(format!("{}/{}", row.provider, row.model), Some(row.price));
        }
        for row in rows() {
            names
                .entry(row.model.to_owned())
                .and_modify(|price| *price = price.filter(|price| *price == row.price))
                .or_insert(Some(row.price));
        }
        names
    });
    BY_NAME.get(model).copied().flatten()
}

/// The row of a model by the name that [`price_of`] takes.
///
/// # Errors
/// `NotFound` with the nearest names when the model is not in the table; `Invalid` with the providers when several sell
/// the name at different prices.
pub fn find(model: &str) -> Result<ListPrice> {
    let named: Vec<ListPrice> = rows()
        .filter(|row| {
            row.model == model
                || model.strip_prefix(row.provider).is_some_and(|m| m.strip_prefix('/') == Some(row.model))
        })
        .collect();
    match named.as_slice() {
        [] => {
            let near = near(model);
            let hint = if near.is_empty() { String::new() } else { format!("; near it: {}", near.join(", ")) };
            Err(Error::not_found(format!(
                "find the price of `{model}`: it is not in the table of {SNAPSHOT}{hint}; a price of your own is given as \
                 IN/OUT in USD per million tokens, such as 1.75/14"
            )))
        }
        [first, rest @ ..] if rest.iter().all(|row| row.price == first.price) => Ok(first.clone()),
        several => {
            let names: Vec<String> = several.iter().map(|row| format!("{}/{}", row.provider, row.model)).collect();
            Err(Error::invalid(format!(
                "find the price of `{model}`: providers sell it at different prices; name one of {}",
                names.join(", ")
            )))
        }
    }
}

/// Up to five names that share the most three-letter pieces with `model`.
fn near(model: &str) -> Vec<String> {
    let pieces = |name: &str| -> BTreeSet<Vec<char>> {
        let letters: Vec<char> = name.to_lowercase().chars().collect();
        letters.windows(3).map(<[char]>::to_vec).collect()
    };
    let wanted = pieces(model);
    let mut scored: Vec<(usize, usize, String)> = rows()
        .filter_map(|row| {
            let name = format!("{}/{}", row.provider, row.model);
            let shared = pieces(&name).intersection(&wanted).count();
            (2 * shared >= wanted.len().max(2)).then_some((shared, row.model.len(), name))
        })
        .collect();
    scored.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    scored.into_iter().take(5).map(|(_, _, name)| name).collect()
}

/// All rows.
pub fn rows() -> impl Iterator<Item = ListPrice> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#')).skip(1);
    lines.map(|line| row(line).expect("the embedded table is well formed: a test reads all of it"))
}

fn row(line: &'static str) -> Option<ListPrice> {
    let mut fields = line.split(',');
    let mut next = || fields.next();
    let (provider, model) = (next()?, next()?);
    let mut usd = || next().map(|text| text.parse().ok().and_then(|usd| Money::from_usd(usd).ok()));
    let (input, cached, output) = (usd()??, usd()?, usd()??);
    let price = Price {
        input_per_million: input,
        cached_input_per_million: cached.unwrap_or(input),
        output_per_million: output,
    };
    let mut text = || fields.next().unwrap_or("");
    let _source = text();
    let (other, third) = ((text(), text()), (text(), text()));
    let row = ListPrice { provider, model, price, disputed: false, other, third };
    Some(ListPrice { disputed: !row.dispute().is_empty(), ..row })
}

#[cfg(test)]
mod tests;
