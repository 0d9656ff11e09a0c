//! Which examples come in which step. There is no padding, so texts of all lengths go together and every epoch is a plain
//! shuffle; a batch with many tokens passes through the network in parts.

use crate::encoder::{Example, Target};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use understudy_core::Seed;

/// The order of the examples in an epoch: a function of seed and epoch, so that a resumed run finds its place.
pub(super) fn order(n: usize, seed: Seed, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed.derive(&format!("order {epoch}")).0));
    order
}

/// The order of an epoch in which examples of a class come in groups of `together` (or what is left of a class, which
/// joins its last group): any stretch of it has classes with several examples.
pub(super) fn grouped(examples: &[Example], together: usize, seed: Seed, epoch: usize) -> Vec<usize> {
    let mut by_class: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in order(examples.len(), seed, epoch) {
        if let Target::Class(class) = examples[i].target {
            by_class.entry(class).or_default().push(i);
        }
    }
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for members in by_class.into_values() {
        let mut chunks: Vec<Vec<usize>> = members.chunks(together).map(<[usize]>::to_vec).collect();
        if chunks.len() > 1 && chunks.last().is_some_and(|last| last.len() < 2) {
            let left = chunks.pop().unwrap_or_default();
            chunks.last_mut().expect("there was more than one").extend(left);
        }
        groups.extend(chunks);
    }
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed.derive(&format!("groups {epoch}")).0));
    groups.concat()
}

/// Cuts a batch into passes of at most `most` tokens, each with at least one example.
pub(super) fn passes<'e, E>(batch: &[&'e E], tokens: impl Fn(&E) -> usize, most: usize) -> Vec<Vec<&'e E>> {
    let mut passes: Vec<Vec<&E>> = Vec::new();
    let mut used = 0;
    for example in batch {
        let n = tokens(example);
        if passes.is_empty() || used + n > most {
            passes.push(Vec::new());
            used = 0;
        }
        used += n;
        passes.last_mut().expect("one was just added when there was none").push(example);
    }
    passes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_every_example_once_in_an_order_of_its_own() {
        let (a, b) = (order(100, Seed(1), 0), order(100, Seed(1), 1));
        assert_ne!(a, b);
        assert_eq!(a, order(100, Seed(1), 0));
        assert_ne!(a, order(100, Seed(2), 0));
        let mut sorted = a;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }

    #[test]
    fn groups_have_every_example_once_and_none_is_alone_that_need_not_be() {
        let example = |class: usize| Example::new(vec![vec![1]], Target::Class(class));
        let examples: Vec<Example> = [0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 3].into_iter().map(example).collect();
        let order = grouped(&examples, 2, Seed(1), 0);
        let class = |i: usize| [0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 3][i];
        for (at, &i) in order.iter().enumerate() {
            let beside = [at.checked_sub(1), Some(at + 1)].into_iter().flatten().filter_map(|at| order.get(at));
            assert!(class(i) == 2 || beside.into_iter().any(|&j| class(j) == class(i)), "{order:?}");
        }
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..11) && order != grouped(&examples, 2, Seed(1), 1));
    }

    #[test]
    fn passes_hold_all_examples_in_order_within_the_limit() {
        let example = |n: usize| Example::new(vec![vec![1; n]], Target::Class(n));
        let examples: Vec<Example> = [5, 5, 30, 1, 9, 10, 1].into_iter().map(example).collect();
        let batch: Vec<&Example> = examples.iter().collect();
        let sizes: Vec<Vec<usize>> =
            passes(&batch, Example::tokens, 10).iter().map(|pass| pass.iter().map(|e| e.tokens()).collect()).collect();
        assert_eq!(sizes, [vec![5, 5], vec![30], vec![1, 9], vec![10], vec![1]]);
    }
}
