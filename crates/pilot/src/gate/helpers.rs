//! Which other models' answers a gate may look at: only such as cost little beside the large model.

use std::collections::BTreeSet;
use understudy_core::{Error, Outcome, Result};

/// Share of the rows that a helper must have answered.
const COVERAGE: f64 = 0.95;
/// Largest mean price of a helper, as a share of the large model's.
const PRICE: f64 = 0.5;
/// Largest size of a helper whose price is unknown, as a multiple of the small model's.
const SIZE: f64 = 1.25;

/// Which other models' answers the gate looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Helpers {
    /// Models that cost at most half of the large one. Where prices are not recorded: other runs of the small model
    /// (`family/run`), or models of at most its size, read from the names (`…-8B-…`).
    Auto,
    /// These.
    Named(Vec<String>),
}

impl Helpers {
    /// The helpers' names, sorted.
    ///
    /// # Errors
    /// `NotFound` when a named model is not in the outcomes; `Invalid` when it is one of the two models themselves.
    pub fn choose(&self, outcomes: &[Outcome], small: &str, large: &str) -> Result<Vec<String>> {
        match self {
            Self::Named(names) => {
                for name in names {
                    if name == small || name == large {
                        return Err(Error::invalid(format!("use `{name}` as a helper: it is one of the two models")));
                    }
                    if !outcomes.iter().any(|outcome| outcome.models.contains_key(name)) {
                        return Err(Error::not_found(format!("find helper `{name}` in the outcomes")));
                    }
                }
                Ok(names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect())
            }
            Self::Auto => {
                let names: BTreeSet<&String> = outcomes.iter().flat_map(|outcome| outcome.models.keys()).collect();
                let others = names.into_iter().filter(|name| *name != small && *name != large);
                Ok(others.filter(|name| fits(outcomes, small, large, name)).cloned().collect())
            }
        }
    }
}

fn fits(outcomes: &[Outcome], small: &str, large: &str, helper: &str) -> bool {
    // Only rows of the pair count: elsewhere a helper may be missing.
    let rows = || outcomes.iter().filter(|o| o.models.contains_key(small) && o.models.contains_key(large));
    let answered = rows().filter(|outcome| outcome.models.contains_key(helper)).count();
    if (answered as f64) < COVERAGE * rows().count() as f64 || answered == 0 {
        return false;
    }
    let price = |model: &str| {
        let prices: Vec<f64> = rows().filter_map(|outcome| outcome.models.get(model)?.cost_usd).collect();
        (!prices.is_empty()).then(|| prices.iter().sum::<f64>() / prices.len() as f64)
    };
    if let Some(most) = price(large) {
        return price(helper).is_some_and(|price| price <= PRICE * most);
    }
    if let Some((family, _)) = small.split_once('/') {
        return helper.split_once('/').is_some_and(|(other, _)| other == family);
    }
    let known = billions(helper).zip(billions(small));
    known.is_some_and(|(helper, small)| helper <= SIZE * small)
}

/// Billions of parameters that a name states: `Mixtral-8x7B` has 56.
fn billions(name: &str) -> Option<f64> {
    name.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').find_map(|part| {
        let number = part.strip_suffix(['b', 'B'])?;
        let (times, number) = number.split_once('x').unwrap_or(("1", number));
        Some(times.parse::<f64>().ok()? * number.parse::<f64>().ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_core::RecordedAnswer;

    fn outcome(id: usize, prices: &[(&str, Option<f64>)]) -> Outcome {
        let answer = |cost_usd| RecordedAnswer { quality: Some(1.0), cost_usd, ..RecordedAnswer::default() };
        let models = prices.iter().map(|(name, price)| ((*name).to_owned(), answer(*price))).collect();
        Outcome { id: id.to_string(), models, ..Outcome::default() }
    }

    #[test]
    fn a_helper_costs_at_most_half_of_the_large_model() {
        let prices = [("s", Some(0.1)), ("l", Some(1.0)), ("cheap", Some(0.5)), ("dear", Some(0.6)), ("free?", None)];
        let chosen = Helpers::Auto.choose(&[outcome(0, &prices)], "s", "l").expect("known");
        assert_eq!(chosen, ["cheap"]);
    }

    #[test]
    fn without_prices_names_decide() {
        let runs = ["mini/cot", "mini/pot", "big/cot", "other/cot"].map(|name| (name, None));
        assert_eq!(Helpers::Auto.choose(&[outcome(0, &runs)], "mini/cot", "big/cot").expect("known"), ["mini/pot"]);
        let sized = ["Llama-8B-it", "Llama-70B", "Yi-6b", "Mixtral-8x7B", "flash"].map(|name| (name, None));
        assert_eq!(Helpers::Auto.choose(&[outcome(0, &sized)], "Llama-8B-it", "Llama-70B").expect("known"), ["Yi-6b"]);
        assert_eq!(billions("Mixtral-8x7B-v0.1"), Some(56.0));
    }

    #[test]
    fn a_named_helper_must_exist_and_be_a_third_model() {
        let outcomes = [outcome(0, &[("s", None), ("l", None)])];
        let named = |name: &str| Helpers::Named(vec![name.to_owned()]).choose(&outcomes, "s", "l");
        assert!(named("x").is_err() && named("l").is_err());
    }
}
