//! Known use cases as starting points: typical answers and token counts for eleven common jobs. Data, not code:
//! `use_cases.toml`.

use crate::answers::Answers;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::LazyLock};
use understudy_core::{Error, Result};

/// A common job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UseCase {
    /// One line about it.
    pub about: String,
    /// Typical tokens of one request: in, out.
    pub tokens: [u64; 2],
    /// What usually comes out; a test holds the framework to it.
    expect: String,
    /// What teams with this job usually answer.
    pub answers: Answers,
}

static USE_CASES: LazyLock<BTreeMap<String, UseCase>> =
    LazyLock::new(|| toml::from_str(include_str!("use_cases.toml")).expect("a test reads the embedded use cases"));

/// Every use case by name.
#[must_use]
pub fn all() -> &'static BTreeMap<String, UseCase> {
    &USE_CASES
}

/// The use case called `name`; hyphens count as underscores.
///
/// # Errors
/// `NotFound`, with all the names.
pub fn find(name: &str) -> Result<&'static UseCase> {
    USE_CASES.get(&name.replace('-', "_")).ok_or_else(|| {
        let names: Vec<String> = USE_CASES.keys().map(|name| name.replace('_', "-")).collect();
        Error::not_found(format!("find use case `{name}`: there are {}", names.join(", "))).with_param("use-case")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fit::{self, tests::catalogue},
        framework,
    };

    #[test]
    fn every_use_case_gets_the_verdict_that_it_is_known_for() {
        assert_eq!(all().len(), 11);
        for (name, case) in all() {
            let profile =
                case.answers.profile(|languages| fit::covered(&catalogue(), languages)).expect("valid answers");
            let advice = framework::advise(&profile, &case.answers);
            assert_eq!(advice.verdict.map(framework::Choice::as_str), Some(case.expect.as_str()), "{name}: {advice:?}");
        }
    }

    #[test]
    fn every_use_case_for_a_small_model_has_one_in_the_catalogue() {
        for (name, case) in all().iter().filter(|(_, case)| case.expect != "large") {
            let found = fit::candidates(&catalogue(), &case.answers, case.tokens[0], case.tokens[1]);
            assert!(!found.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_wrong_name_gets_the_list() {
        assert!(find("support-chat").is_ok());
        assert!(find("chat").expect_err("no such case").message().contains("support-chat"));
    }
}
