//! List prices of well-known models: a pinned snapshot inside the binary. Prices in the configuration go first.
//!
//! Joined from the LiteLLM table (PyPI litellm 1.109.1) and models.dev (commit f3fc6922, 2 July 2026), both MIT. Where
//! they disagree the LiteLLM figure holds, being the newer, and the row keeps the other figure. A test makes the table
//! anew from the two sources and prints where they disagree. A model that is not in it has no known price; it is never free by omission.

use std::{collections::HashMap, sync::LazyLock};
use understudy_core::{Money, Price};

/// The table: `provider,model,input,cached_input,output,source,other_input,other_output`; USD per million tokens. An
/// empty `cached_input` is unknown and billed as fresh input.
const TABLE: &str = include_str!("prices.csv");

/// When and from what the table was made.
pub const SNAPSHOT: &str = "litellm 1.109.1 and models.dev f3fc6922 (2026-07-02)";

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPrice {
    /// Who sells it, as models.dev names them: `openai`, `groq`.
    pub provider: &'static str,
    /// The provider's name for it.
    pub model: &'static str,
    /// The price.
    pub price: Price,
    /// Whether the two sources disagree about it.
    pub disputed: bool,
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
    let disputed = fields.nth(1).is_some_and(|other| !other.is_empty());
    Some(ListPrice { provider, model, price, disputed })
}

#[cfg(test)]
mod tests;
