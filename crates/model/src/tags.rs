//! Tags that mark spans of words: `O` outside, `B-field` where a span begins, `I-field` where it goes on.

use understudy_core::{Error, Result};

/// The tags a model knows, in the order of its scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    names: Vec<String>,
    kinds: Vec<Kind>,
    fields: Vec<String>,
}

/// What a tag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Outside,
    Begin(usize),
    Inside(usize),
}

/// Words that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Position of the field.
    pub field: usize,
    /// First word.
    pub from: usize,
    /// The word after the last.
    pub to: usize,
}

/// The likeliest sequence of tags.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// One for each word.
    pub tags: Vec<usize>,
    /// Its probability among all sequences that make sense.
    pub probability: f64,
}

impl Tags {
    /// The tags of some fields: `O`, then `B-` and `I-` of each.
    #[must_use]
    pub fn of_fields(fields: &[String]) -> Self {
        let (mut names, mut kinds) = (vec!["O".to_owned()], vec![Kind::Outside]);
        for (i, field) in fields.iter().enumerate() {
            names.extend([format!("B-{field}"), format!("I-{field}")]);
            kinds.extend([Kind::Begin(i), Kind::Inside(i)]);
        }
        Self { names, kinds, fields: fields.to_vec() }
    }

    /// Reads tags by their names.
    ///
    /// # Errors
    /// `Data` when there is no `O`, or a name is neither that nor begins with `B-` or `I-`, or a field lacks one of
    /// the two.
    pub fn parse(names: &[String]) -> Result<Self> {
        let mut fields: Vec<String> = Vec::new();
        let mut kinds = Vec::new();
        for name in names {
            if name == "O" {
                kinds.push(Kind::Outside);
                continue;
            }
            let known = name.strip_prefix("B-").or_else(|| name.strip_prefix("I-"));
            let field = known
                .filter(|field| !field.is_empty())
                .ok_or_else(|| Error::data(format!("read tag `{name}`: it is neither O nor B-field nor I-field")))?;
            let at = fields.iter().position(|known| known == field).unwrap_or_else(|| {
                fields.push(field.to_owned());
                fields.len() - 1
            });
            kinds.push(if name.starts_with("B-") { Kind::Begin(at) } else { Kind::Inside(at) });
        }
        let has = |kind: Kind| kinds.contains(&kind);
        let whole = has(Kind::Outside) && (0..fields.len()).all(|i| has(Kind::Begin(i)) && has(Kind::Inside(i)));
        if !whole {
            return Err(Error::data("read tags: they need O, and B- and I- of every field"));
        }
        Ok(Self { names: names.to_vec(), kinds, fields })
    }

    /// Names of the tags, in the order of the scores.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Names of the fields.
    #[must_use]
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The tag of each of `words` words under spans that do not overlap; of those that do, the earlier ones in the list
    /// win.
    #[must_use]
    pub fn of_spans(&self, spans: &[Span], words: usize) -> Vec<usize> {
        let at = |kind: Kind| self.kinds.iter().position(|k| *k == kind).expect("every field has both tags");
        let outside = at(Kind::Outside);
        let mut tags = vec![outside; words];
        for span in spans.iter().filter(|span| span.from < span.to && span.to <= words) {
            if tags[span.from..span.to].iter().all(|tag| *tag == outside) {
                tags[span.from..span.to].fill(at(Kind::Inside(span.field)));
                tags[span.from] = at(Kind::Begin(span.field));
            }
        }
        tags
    }

    /// The spans of a sequence that makes sense.
    #[must_use]
    pub fn spans(&self, tags: &[usize]) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut open = false;
        for (at, tag) in tags.iter().enumerate() {
            match self.kinds[*tag] {
                Kind::Outside => open = false,
                Kind::Inside(_) if open => {
                    if let Some(span) = spans.last_mut() {
                        span.to = at + 1;
                    }
                }
                Kind::Begin(field) | Kind::Inside(field) => {
                    spans.push(Span { field, from: at, to: at + 1 });
                    open = true;
                }
            }
        }
        spans
    }

    /// Whether `to` may follow `from` (nothing at the beginning): a span must begin before it goes on.
    fn may_follow(&self, from: Option<usize>, to: usize) -> bool {
        match self.kinds[to] {
            Kind::Outside | Kind::Begin(_) => true,
            Kind::Inside(field) => {
                let from = from.map(|from| self.kinds[from]);
                from == Some(Kind::Begin(field)) || from == Some(Kind::Inside(field))
            }
        }
    }

    /// The likeliest sequence among those that make sense, words' scores (rows of one for each tag) being divided by
    /// `temperature` (Viterbi; the probability by the forward algorithm).
    ///
    /// # Panics
    /// When the scores are not whole rows.
    #[must_use]
    pub fn best(&self, scores: &[f32], temperature: f64) -> Best {
        let n = self.kinds.len();
        assert!(scores.len().is_multiple_of(n), "a score for each tag");
        let before: Vec<Vec<usize>> =
            (0..n).map(|to| (0..n).filter(|from| self.may_follow(Some(*from), to)).collect()).collect();
        let (mut best, mut sum): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        let mut came_from: Vec<Vec<usize>> = Vec::new();
        for row in scores.chunks_exact(n) {
            let score = |tag: usize| f64::from(row[tag]) / temperature;
            if best.is_empty() {
                best = (0..n).map(|to| if self.may_follow(None, to) { score(to) } else { f64::NEG_INFINITY }).collect();
                sum.clone_from(&best);
                came_from.push(Vec::new());
                continue;
            }
            let likeliest = |to: usize| {
                let from = before[to].iter().copied().max_by(|a, b| best[*a].total_cmp(&best[*b]).then(b.cmp(a)));
                from.expect("O may precede or the field's own tags do")
            };
            let from: Vec<usize> = (0..n).map(likeliest).collect();
            let new_best = (0..n).map(|to| best[from[to]] + score(to)).collect();
            let new_sum = (0..n).map(|to| log_sum(before[to].iter().map(|from| sum[*from])) + score(to)).collect();
            (best, sum) = (new_best, new_sum);
            came_from.push(from);
        }
        let Some(last) = (0..best.len()).max_by(|a, b| best[*a].total_cmp(&best[*b]).then(b.cmp(a))) else {
            return Best { tags: Vec::new(), probability: 1.0 };
        };
        let probability = (best[last] - log_sum(sum.iter().copied())).exp().clamp(0.0, 1.0);
        let mut tags = vec![last];
        for from in came_from.iter().skip(1).rev() {
            tags.push(from[tags[tags.len() - 1]]);
        }
        tags.reverse();
        Best { tags, probability }
    }
}

fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY { most } else { most + values.map(|v| (v - most).exp()).sum::<f64>().ln() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tags() -> Tags {
        Tags::of_fields(&["city".into(), "date".into()])
    }

    #[test]
    fn spans_become_tags_and_tags_spans() {
        let spans =
            [Span { field: 1, from: 1, to: 3 }, Span { field: 1, from: 3, to: 4 }, Span { field: 0, from: 2, to: 5 }];
        let tags = tags();
        let of = tags.of_spans(&spans, 6);
        let names: Vec<&str> = of.iter().map(|tag| tags.names()[*tag].as_str()).collect();
        assert_eq!(names, ["O", "B-date", "I-date", "B-date", "O", "O"]);
        assert_eq!(tags.spans(&of), spans[..2]);
        assert_eq!(Tags::parse(tags.names()).unwrap(), tags);
    }

    #[test]
    fn names_that_are_no_tags_are_refused() {
        for wrong in [&["B-a", "I-a"][..], &["O", "B-a"], &["O", "a"], &["O", "B-", "I-"]] {
            let names: Vec<String> = wrong.iter().map(|name| (*name).to_owned()).collect();
            assert!(Tags::parse(&names).is_err(), "{wrong:?}");
        }
    }

    /// Every sequence, one after the other.
    fn naive(tags: &Tags, scores: &[f32], temperature: f64) -> (Vec<usize>, f64) {
        let n = tags.names().len();
        let words = scores.len() / n;
        let (mut best, mut total) = ((Vec::new(), f64::NEG_INFINITY), 0.0);
        for code in 0..n.pow(u32::try_from(words).unwrap()) {
            let sequence: Vec<usize> = (0..words).map(|i| code / n.pow(u32::try_from(i).unwrap()) % n).collect();
            let fits = (0..words).all(|i| tags.may_follow(i.checked_sub(1).map(|i| sequence[i]), sequence[i]));
            if fits {
                let score: f64 =
                    sequence.iter().enumerate().map(|(i, t)| f64::from(scores[i * n + t]) / temperature).sum();
                total += score.exp();
                if score > best.1 {
                    best = (sequence, score);
                }
            }
        }
        (best.0, best.1.exp() / total)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_best_sequence_is_that_of_trying_all(scores in proptest::collection::vec(-3f32..3.0, 20), t in 0.5f64..2.0) {
            let best = tags().best(&scores, t);
            let (want, p) = naive(&tags(), &scores, t);
            prop_assert_eq!(best.tags, want);
            prop_assert!((best.probability - p).abs() < 1e-9);
        }
    }

    #[test]
    fn no_words_have_no_tags() {
        assert_eq!(tags().best(&[], 1.0), Best { tags: Vec::new(), probability: 1.0 });
    }
}
