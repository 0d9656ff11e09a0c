//! Few-shot examples: similar to the row and different from each other, by maximal marginal relevance (J. Carbonell and
//! J. Goldstein, 1998).

use super::words::Index;
use understudy_dataset::Row;

/// Weight of similarity to the row against likeness among the examples.
const RELEVANCE: f32 = 0.5;
/// Similar rows that are considered for each example wanted.
const CONSIDERED: usize = 8;

/// Rows that examples are picked from.
pub struct Shots<'r> {
    rows: Vec<&'r Row>,
    index: Index,
}

impl<'r> Shots<'r> {
    /// Takes the rows that say what is right.
    #[must_use]
    pub fn of(train: &'r [Row]) -> Self {
        let rows: Vec<&Row> = train.iter().filter(|row| row.gold().is_some()).collect();
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        Self { index: Index::of(&texts), rows }
    }

    /// `k` examples for a text, the most similar last: right before the question, where it counts most.
    #[must_use]
    pub fn pick(&self, text: &str, k: usize) -> Vec<&'r Row> {
        let candidates = self.index.nearest(text, k * CONSIDERED);
        let mut picked: Vec<usize> = Vec::new();
        while picked.len() < k {
            let worth = |&(at, similarity): &(usize, f32)| {
                let like = picked.iter().map(|&other| self.index.between(at, other)).fold(0.0, f32::max);
                RELEVANCE * similarity - (1.0 - RELEVANCE) * like
            };
            let best = candidates
                .iter()
                .filter(|(at, _)| !picked.contains(at))
                .map(|candidate| (candidate.0, worth(candidate)))
                .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
            match best {
                Some((at, _)) => picked.push(at),
                None => break,
            }
        }
        // Where nothing is similar, the first rows serve.
        for at in 0..self.rows.len() {
            if picked.len() >= k {
                break;
            }
            if !picked.contains(&at) {
                picked.push(at);
            }
        }
        picked.reverse();
        picked.into_iter().map(|at| self.rows[at]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_similar_and_not_twice_the_same() {
        let row = |text: &str| Row { text: text.into(), label: Some("l".into()), ..Row::default() };
        let train = [
            row("my card was lost yesterday"),
            row("my card was lost yesterday evening"),
            row("the lost card was blocked"),
            row("top up by cheque"),
        ];
        let shots = Shots::of(&train);
        let texts: Vec<&str> = shots.pick("my card was lost", 2).iter().map(|r| r.text.as_str()).collect();
        assert_eq!(texts, ["the lost card was blocked", "my card was lost yesterday"]);
        assert_eq!(shots.pick("my card", 9).len(), 4);
        assert_eq!(shots.pick("zzz", 2).len(), 2);
    }
}
