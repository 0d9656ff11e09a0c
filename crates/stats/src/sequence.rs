//! Testing a fixed sequence of hypotheses: each at the full level, in an order fixed beforehand, until the first fails.
//!
//! The chance that any false hypothesis is rejected is at most the level: a mistake needs the first false hypothesis
//! of the sequence to be rejected (Angelopoulos et al., *Learn then Test*, 2021, section 3; Bauer, 1991).

/// Index of the last hypothesis in the unbroken run of rejections from the first on. `None` when the first one stands.
///
/// `rejects` is called in order and not beyond the first that returns false.
pub fn last_rejected(count: usize, mut rejects: impl FnMut(usize) -> bool) -> Option<usize> {
    (0..count).take_while(|&index| rejects(index)).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_behind_the_first_failure_counts() {
        assert_eq!(last_rejected(5, |i| i != 2), Some(1));
        assert_eq!(last_rejected(5, |_| true), Some(4));
        assert_eq!(last_rejected(5, |_| false), None);
        assert_eq!(last_rejected(0, |_| true), None);
    }
}
