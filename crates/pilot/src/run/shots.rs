//! Few-shot examples: similar to the row and different from each other, by maximal marginal relevance (J. Carbonell and
//! J. Goldstein, 1998). Similar are texts that share words, or texts whose embeddings are close.

use super::words::Index;
use std::collections::BTreeMap;
use understudy_core::{Embedder, Error, Result};
use understudy_dataset::{Row, text_hash};

/// Weight of similarity to the row against likeness among the examples.
const RELEVANCE: f32 = 0.5;
/// Similar rows that are considered for each example wanted.
const CONSIDERED: usize = 8;
/// Texts that are embedded at a time.
const BATCH: usize = 64;

/// What similarity is.
enum Likeness {
    /// None: the examples as they stand.
    Order,
    /// Cosine of TF-IDF.
    Words(Index),
    /// Cosine of embeddings: of the examples, and of the texts that will be asked about.
    Embeddings { examples: Vec<Vec<f32>>, asked: BTreeMap<String, Vec<f32>> },
}

/// Picks among examples that are known by their positions.
pub struct Picker {
    examples: usize,
    likeness: Likeness,
}

impl Picker {
    /// Always the first ones, in their order.
    #[must_use]
    pub fn in_order(examples: usize) -> Self {
        Self { examples, likeness: Likeness::Order }
    }

    /// Those that share words with the text.
    #[must_use]
    pub fn by_words(examples: &[&str]) -> Self {
        Self { examples: examples.len(), likeness: Likeness::Words(Index::of(examples)) }
    }

    /// Positions of `k` examples for a text, the most similar last: right before the question, where it counts most.
    #[must_use]
    pub fn pick(&self, text: &str, k: usize) -> Vec<usize> {
        self.pick_without(text, k, &[])
    }

    /// The same, never one of these.
    fn pick_without(&self, text: &str, k: usize, never: &[usize]) -> Vec<usize> {
        if let Likeness::Order = self.likeness {
            return (0..self.examples).filter(|at| !never.contains(at)).take(k).collect();
        }
        let mut candidates = self.nearest(text, k * CONSIDERED + never.len());
        candidates.retain(|(at, _)| !never.contains(at));
        let mut picked: Vec<usize> = Vec::new();
        while picked.len() < k {
            let worth = |&(at, similarity): &(usize, f32)| {
                let like = picked.iter().map(|&other| self.between(at, other)).fold(0.0, f32::max);
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
        // Where nothing is similar, the first ones serve.
        for at in 0..self.examples {
            if picked.len() >= k {
                break;
            }
            if !picked.contains(&at) && !never.contains(&at) {
                picked.push(at);
            }
        }
        picked.reverse();
        picked
    }

    /// The `k` most similar examples, most similar first: (position, cosine).
    fn nearest(&self, text: &str, k: usize) -> Vec<(usize, f32)> {
        match &self.likeness {
            Likeness::Order => Vec::new(),
            Likeness::Words(index) => index.nearest(text, k),
            Likeness::Embeddings { examples, asked } => {
                let Some(query) = asked.get(text) else { return Vec::new() };
                let mut near: Vec<(usize, f32)> =
                    examples.iter().enumerate().map(|(at, example)| (at, product(query, example))).collect();
                near.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                near.truncate(k);
                near
            }
        }
    }

    fn between(&self, a: usize, b: usize) -> f32 {
        match &self.likeness {
            Likeness::Order => 0.0,
            Likeness::Words(index) => index.between(a, b),
            Likeness::Embeddings { examples, .. } => product(&examples[a], &examples[b]),
        }
    }
}

/// Rows that examples are picked from.
pub struct Shots<'r> {
    rows: Vec<&'r Row>,
    /// Positions of the rows by what they ask.
    asking: BTreeMap<String, Vec<usize>>,
    picker: Picker,
}

impl<'r> Shots<'r> {
    /// Takes the rows that say what is right; similar are texts that share words.
    #[must_use]
    pub fn of(train: &'r [Row]) -> Self {
        let rows = usable(train);
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        let picker = Picker::by_words(&texts);
        Self::new(rows, picker)
    }

    fn new(rows: Vec<&'r Row>, picker: Picker) -> Self {
        let mut asking: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, row) in rows.iter().enumerate() {
            asking.entry(text_hash(&row.text)).or_default().push(at);
        }
        Self { rows, asking, picker }
    }

    /// These rows in this order, whatever the text.
    #[must_use]
    pub fn fixed(rows: Vec<&'r Row>) -> Self {
        let picker = Picker::in_order(rows.len());
        Self::new(rows, picker)
    }

    /// As [`Shots::of`] with an encoder: similar are texts with close embeddings. `asked` are the texts that examples will be
    /// picked for; `progress` hears how many texts are embedded.
    ///
    /// # Errors
    /// Those of the encoder; `Internal` when it gives another number of vectors than texts.
    pub async fn embedded(
        train: &'r [Row],
        asked: &[&str],
        embedder: &dyn Embedder,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        let rows = usable(train);
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).chain(asked.iter().copied()).collect();
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH) {
            vectors.extend(embedder.embed(batch.iter().map(|text| (*text).to_owned()).collect()).await?.vectors);
            progress(vectors.len());
        }
        if vectors.len() != texts.len() {
            return Err(Error::internal("pick examples: the encoder gave another number of vectors than texts"));
        }
        let of_asked = vectors.split_off(rows.len());
        let asked = asked.iter().map(|text| (*text).to_owned()).zip(of_asked).collect();
        let picker = Picker { examples: rows.len(), likeness: Likeness::Embeddings { examples: vectors, asked } };
        Ok(Self::new(rows, picker))
    }

    /// `k` examples for a text, the most similar last. Never the text itself: it would show what is asked for.
    #[must_use]
    pub fn pick(&self, text: &str, k: usize) -> Vec<&'r Row> {
        let same = self.asking.get(&text_hash(text)).map_or(&[][..], Vec::as_slice);
        self.picker.pick_without(text, k, same).into_iter().map(|at| self.rows[at]).collect()
    }
}

fn usable(train: &[Row]) -> Vec<&Row> {
    train.iter().filter(|row| row.gold().is_some()).collect()
}

/// Cosine of two unit vectors.
fn product(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, future::BoxFuture};
    use understudy_core::{ModelName, backend::Embeddings};

    fn row(text: &str) -> Row {
        Row { text: text.into(), label: Some("l".into()), ..Row::default() }
    }

    #[test]
    fn examples_are_similar_and_not_twice_the_same() {
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
        let others = shots.pick("My card  was lost yesterday", 9);
        assert!(
            others.len() == 3 && others.iter().all(|r| r.text != train[0].text),
            "an example never is the question"
        );
        let fixed = Shots::fixed(train.iter().collect());
        assert_eq!(fixed.pick("top up by cheque", 4).len(), 3);
    }

    /// A text is an angle in degrees.
    struct Angles(ModelName);

    impl Embedder for Angles {
        fn name(&self) -> &ModelName {
            &self.0
        }

        fn dimensions(&self) -> usize {
            2
        }

        fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Embeddings>> {
            let angle = |text: &String| text.parse::<f32>().expect("a number").to_radians();
            let vectors = texts.iter().map(|text| vec![angle(text).cos(), angle(text).sin()]).collect();
            async move { Ok(Embeddings { vectors, tokens: 0 }) }.boxed()
        }
    }

    #[test]
    fn close_embeddings_are_similar_and_two_on_the_same_side_are_one_too_many() {
        let train = ["10", "11", "12", "-14", "90"].map(row);
        let angles = Angles("angles".into());
        let shots = Shots::embedded(&train, &["0"], &angles, &mut |_| {}).now_or_never().expect("at once");
        let texts: Vec<&str> = shots.expect("as many vectors").pick("0", 2).iter().map(|r| r.text.as_str()).collect();
        assert_eq!(texts, ["-14", "10"], "12 is closer than -14, but says the same as 10");
    }
}
