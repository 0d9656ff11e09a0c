//! Choices of examples: none, similar ones, or a fixed set. Sets are drawn with as even a share of the labels as they
//! allow, and changed in small steps.

use crate::run::Task;
use rand::{Rng, RngExt, seq::SliceRandom};
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_dataset::Row;

/// Share of the shortest rows that sets are drawn from: a long example costs tokens in every prompt.
const SHORTEST: f64 = 0.75;

/// Which examples a prompt shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Examples {
    /// None.
    None,
    /// The most similar ones of the pool.
    Similar {
        /// `words`, or an encoder's name.
        by: String,
        /// How many.
        k: usize,
    },
    /// Always these: positions in the pool, in the order of showing.
    Set(Vec<usize>),
}

impl Examples {
    /// How many are shown.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Similar { k, .. } => *k,
            Self::Set(set) => set.len(),
        }
    }

    /// How they are picked, in a word or two.
    #[must_use]
    pub fn picked(&self) -> &str {
        match self {
            Self::None => "–",
            Self::Similar { by, .. } => by,
            Self::Set(_) => super::FIXED,
        }
    }
}

/// Rows that examples come from.
pub struct Pool<'r> {
    rows: &'r [Row],
    /// Positions of the rows that sets may have, by label where there are labels, ascending.
    by_label: Vec<Vec<usize>>,
}

impl<'r> Pool<'r> {
    /// Takes the rows that say what is right.
    #[must_use]
    pub fn of(rows: &'r [Row], task: Task) -> Self {
        let mut lengths: Vec<usize> = rows.iter().map(bytes).collect();
        lengths.sort_unstable();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let at = (lengths.len() as f64 * SHORTEST) as usize;
        let most = lengths.get(at).copied().unwrap_or(usize::MAX);
        let mut by_label: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, row) in rows.iter().enumerate() {
            let Some(gold) = row.gold() else { continue };
            let label = if task == Task::Classify { gold } else { "" };
            by_label.entry(label).or_default().push(at);
        }
        // A label whose texts are all long keeps them.
        for positions in by_label.values_mut() {
            if positions.iter().any(|&at| bytes(&rows[at]) <= most) {
                positions.retain(|&at| bytes(&rows[at]) <= most);
            }
        }
        Self { rows, by_label: by_label.into_values().collect() }
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &'r [Row] {
        self.rows
    }

    /// A set of `k`, labels in turn, each equally often as far as it goes; fewer where the pool has fewer.
    pub fn draw(&self, k: usize, rng: &mut impl Rng) -> Vec<usize> {
        let mut labels = self.by_label.clone();
        labels.shuffle(rng);
        labels.iter_mut().for_each(|positions| positions.shuffle(rng));
        let mut set = Vec::new();
        while set.len() < k && labels.iter().any(|positions| !positions.is_empty()) {
            for positions in &mut labels {
                if set.len() < k {
                    set.extend(positions.pop());
                }
            }
        }
        set.shuffle(rng);
        set
    }

    /// The set with one example replaced by another of its label, or, once in three times, in another order.
    pub fn changed(&self, set: &[usize], rng: &mut impl Rng) -> Vec<usize> {
        let mut changed = set.to_vec();
        if changed.len() > 1 && rng.random_range(0..3) == 0 {
            changed.shuffle(rng);
            return changed;
        }
        let Some(place) = (!changed.is_empty()).then(|| rng.random_range(0..changed.len())) else { return changed };
        let of_label = self.by_label.iter().find(|positions| positions.contains(&changed[place]));
        let others: Vec<usize> =
            of_label.into_iter().flatten().copied().filter(|position| !set.contains(position)).collect();
        if !others.is_empty() {
            changed[place] = others[rng.random_range(0..others.len())];
        }
        changed
    }
}

fn bytes(row: &Row) -> usize {
    row.text.len() + row.gold().map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;
    use std::collections::BTreeSet;

    #[test]
    fn sets_have_each_label_equally_often_and_change_in_one_place() {
        let rows: Vec<Row> = (0..60)
            .map(|i| Row {
                text: format!("text {i}{}", if i % 10 == 9 { " that goes on and on".repeat(9) } else { String::new() }),
                label: Some(["a", "b", "c"][if i < 40 { 0 } else { 1 + i % 2 }].into()),
                ..Row::default()
            })
            .collect();
        let pool = Pool::of(&rows, Task::Classify);
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        for _ in 0..50 {
            let set = pool.draw(6, &mut rng);
            for label in ["a", "b", "c"] {
                assert_eq!(set.iter().filter(|&&at| rows[at].label.as_deref() == Some(label)).count(), 2);
            }
            assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), 6);
            assert!(set.iter().all(|at| at % 10 != 9), "long examples are left alone: {set:?}");
            let changed = pool.changed(&set, &mut rng);
            let labels = |set: &[usize]| {
                let mut labels: Vec<&str> = set.iter().filter_map(|&at| rows[at].gold()).collect();
                labels.sort_unstable();
                labels.concat()
            };
            assert_eq!(labels(&changed), labels(&set));
            let kept = changed.iter().filter(|at| set.contains(at)).count();
            assert!(kept == 5 || kept == 6, "{set:?} {changed:?}");
        }
        assert_eq!(pool.draw(1000, &mut rng).len(), 54);
        assert!(Pool::of(&[], Task::Extract).draw(3, &mut rng).is_empty());
        assert!(pool.changed(&[], &mut rng).is_empty());
    }
}
