//! When a text belongs to none of the labels: the threshold below which a classifier says so.
//!
//! The rule (`model::artifact::OutOfScope`): when no label in scope has a probability of at least the threshold, the
//! text is out of scope. Where there are examples of texts out of scope, their label is a class of its own, which takes
//! probability from the others; the rule then sees both what is known to be outside and what is like nothing known.
//!
//! The threshold is chosen on held-out items of training, judged by models that had not seen them, never on test items:
//! the largest one that costs no more than an allowed share of the texts in scope. Of those that are answered rightly
//! without any threshold, at most that share becomes a rejection.

use crate::cross_fit::Unseen;
use understudy_core::{Error, Result};
use understudy_model::{artifact::OutOfScope, head::softmax};

/// Share of the texts in scope that a threshold may cost unless somebody says otherwise.
pub const ALLOWANCE: f64 = 0.01;

/// A chosen rule and what it does on the items that chose it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// The rule.
    pub rule: OutOfScope,
    /// Held-out items in scope.
    pub inside: usize,
    /// Of those, answered rightly under the rule.
    pub inside_right: usize,
    /// Held-out items out of scope.
    pub outside: usize,
    /// Of those, told.
    pub outside_told: usize,
}

/// Chooses the threshold for rejecting with `label`, which may cost `allowance` of the items in scope.
///
/// # Errors
/// `Invalid` when the allowance is not in [0, 1) or no held-out item is in scope.
pub fn choose(unseen: &Unseen, temperature: f64, classes: &[String], label: &str, allowance: f64) -> Result<Rejection> {
    if !(0.0..1.0).contains(&allowance) {
        return Err(Error::invalid(format!("choose the rejection threshold: {allowance} is not a share of the texts")));
    }
    let outside = classes.iter().position(|class| class == label);
    // Each item: the best probability in scope, and whether that answer would be right.
    let judged: Vec<(f64, bool, bool)> = unseen
        .logits
        .iter()
        .zip(&unseen.labels)
        .map(|(logits, &truth)| {
            let mut probabilities = logits.clone();
            softmax(&mut probabilities, temperature);
            let inside = probabilities.iter().enumerate().filter(|(class, _)| Some(*class) != outside);
            let best = inside.max_by(|(_, a), (_, b)| a.total_cmp(b));
            let (class, p) = best.map_or((usize::MAX, 0.0), |(class, p)| (class, *p));
            (p, class == truth, Some(truth) == outside)
        })
        .collect();
    let inside = judged.iter().filter(|(_, _, is_outside)| !is_outside).count();
    if inside == 0 {
        return Err(Error::invalid("choose the rejection threshold: no text that was held out is in scope"));
    }
    let mut right: Vec<f64> = judged.iter().filter(|(_, right, _)| *right).map(|(p, _, _)| *p).collect();
    right.sort_unstable_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a number of items")]
    let may_go = (allowance * inside as f64).floor() as usize;
    // The first one that must stay is answered at its own probability. Where all may go, so may everything.
    let threshold = right.get(may_go).copied().unwrap_or(1.0);
    let told = |(p, _, is_outside): &&(f64, bool, bool)| *is_outside && *p < threshold;
    Ok(Rejection {
        rule: OutOfScope { label: label.to_owned(), threshold },
        inside,
        inside_right: judged.iter().filter(|(p, right, _)| *right && *p >= threshold).count(),
        outside: judged.len() - inside,
        outside_told: judged.iter().filter(told).count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("l{i}")).collect()
    }

    /// Two classes in scope and l2 outside; each item by the log-odds of its first class.
    fn unseen(items: &[(f64, usize)]) -> Unseen {
        let logits = items.iter().map(|(odds, _)| vec![*odds, 0.0, 0.0]).collect();
        Unseen { logits, labels: items.iter().map(|(_, label)| *label).collect(), items: (0..items.len()).collect() }
    }

    #[test]
    fn no_more_than_the_allowance_is_lost_and_as_many_as_possible_are_told() {
        // 100 texts in scope from sure to unsure, 10 outside, all rather unsure.
        let mut items: Vec<(f64, usize)> = (0..100).map(|i| (0.05 + f64::from(i) / 10.0, 0)).collect();
        items.extend((0..10).map(|i| (0.01 + f64::from(i) / 10.0, 2)));
        let unseen = unseen(&items);
        for (allowance, lost) in [(0.0, 0), (0.05, 5), (0.051, 5), (0.99, 99)] {
            let chosen = choose(&unseen, 1.0, &names(3), "l2", allowance).unwrap();
            assert_eq!((chosen.inside, chosen.inside_right, chosen.outside), (100, 100 - lost, 10));
            // What is outside interleaves with what is inside: one more than was lost is told.
            assert_eq!(chosen.outside_told, (lost + 1).min(10));
        }
    }

    #[test]
    fn a_label_that_is_no_class_needs_no_examples() {
        let items: Vec<(f64, usize)> = (0..50).map(|i| (1.0 + f64::from(i), 0)).collect();
        let chosen = choose(&unseen(&items), 1.0, &names(3), "elsewhere", 0.1).unwrap();
        assert_eq!((chosen.outside, chosen.inside_right, chosen.rule.label.as_str()), (0, 45, "elsewhere"));
        assert!(choose(&Unseen::default(), 1.0, &names(3), "elsewhere", 0.1).is_err());
        assert!(choose(&unseen(&items), 1.0, &names(3), "elsewhere", 1.0).is_err());
    }

    #[test]
    fn the_rule_that_serves_decides_as_the_choice_did() {
        let items: Vec<(f64, usize)> = (0..80).map(|i| (f64::from(i) / 9.0 - 2.0, [0, 1, 2][i as usize % 3])).collect();
        let unseen = unseen(&items);
        let names = names(3);
        let chosen = choose(&unseen, 1.3, &names, "l2", 0.1).unwrap();
        let told = unseen.logits.iter().zip(&unseen.labels).filter(|(logits, label)| {
            let mut p = (*logits).clone();
            softmax(&mut p, 1.3);
            **label == 2 && chosen.rule.apply(&names, &p).0 == "l2"
        });
        assert_eq!(told.count(), chosen.outside_told);
    }
}
