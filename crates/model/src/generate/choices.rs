//! Which of some given texts a model would answer: every text's probability, read off the model token by token.
//!
//! The texts' tokens form a trie. A text's probability is the product of its tokens' probabilities after the prompt, and
//! where another text goes on from it also that of ending there. Reading goes where the most probability is, and ends
//! when what is left cannot matter: of 77 labels of four or more tokens each mostly a dozen places are looked at. Writing
//! the likeliest token under a grammar instead would follow the likeliest first token, whatever came of it later.
//!
//! Pure bookkeeping: the engine computes, the caller's logits come in by [`Choices::read`].

use llama_cpp_2::token::LlamaToken;

/// Probability that may stay unread, as a share of what the texts have so far.
const REST: f64 = 1e-3;

/// The texts' trie and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Choices {
    nodes: Vec<Node>,
    /// Last node of each text.
    ends: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Node {
    token: LlamaToken,
    parent: usize,
    children: Vec<usize>,
    /// ln P of the tokens up to here; known as soon as the parent was read.
    ln_p: Option<f64>,
    /// ln P of ending here, for a text that another one continues; known when the node was read.
    ln_end: Option<f64>,
    read: bool,
}

/// What the model thinks of the texts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// The likeliest text; the first of equals.
    pub(super) best: usize,
    /// Its share of the probability of all texts.
    pub(super) share: f64,
    /// ln P of each of its tokens.
    pub(super) tokens: Vec<(LlamaToken, f64)>,
}

impl Choices {
    /// Of texts as their tokens.
    pub(super) fn new(texts: &[Vec<LlamaToken>]) -> Self {
        let mut choices = Self { nodes: vec![Node::new(LlamaToken(-1), 0)], ends: Vec::with_capacity(texts.len()) };
        choices.nodes[0].ln_p = Some(0.0);
        for text in texts {
            let mut node = 0;
            for &token in text {
                let known = choices.nodes[node].children.iter().find(|&&child| choices.nodes[child].token == token);
                node = known.copied().unwrap_or_else(|| {
                    choices.nodes.push(Node::new(token, node));
                    let new = choices.nodes.len() - 1;
                    choices.nodes[node].children.push(new);
                    new
                });
            }
            choices.ends.push(node);
        }
        choices
    }

    /// Most tokens of a text.
    pub(super) fn longest(&self) -> usize {
        self.ends.iter().map(|&end| self.path(end).len()).max().unwrap_or(0)
    }

    /// The nodes from the first token to `node`.
    fn path(&self, mut node: usize) -> Vec<usize> {
        let mut path = Vec::new();
        while node != 0 {
            path.push(node);
            node = self.nodes[node].parent;
        }
        path.reverse();
        path
    }

    pub(super) fn token(&self, node: usize) -> LlamaToken {
        self.nodes[node].token
    }

    /// The nodes after which the model is to be read next: a way through the trie from its first token. `Some` of no
    /// nodes means after the prompt itself, `None` that enough is known.
    pub(super) fn next(&self) -> Option<Vec<usize>> {
        let open = || self.nodes.iter().enumerate().filter(|(_, node)| !node.read && !node.children.is_empty());
        let open = || open().filter_map(|(at, node)| Some((at, node.ln_p?)));
        let (likeliest, highest) = open().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
        let known: Vec<f64> = (0..self.ends.len()).filter_map(|text| self.ln_p(text)).collect();
        let best = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if best > highest {
            let rest: f64 = open().map(|(_, ln_p)| (ln_p - best).exp()).sum();
            if rest <= REST * known.iter().map(|ln_p| (ln_p - best).exp()).sum::<f64>() {
                return None;
            }
        }
        let mut path = self.path(likeliest);
        let mut last = likeliest;
        // Where there is one way only, the model reads on in the same step.
        while let [only] = self.nodes[last].children[..]
            && !self.nodes[only].children.is_empty()
        {
            path.push(only);
            last = only;
        }
        Some(path)
    }

    /// Notes what the model says after `node` (0: after the prompt). `ends` are the tokens that end an answer.
    pub(super) fn read(&mut self, node: usize, logits: &[f32], ends: &[usize]) {
        let Some(so_far) = self.nodes[node].ln_p else { return };
        if std::mem::replace(&mut self.nodes[node].read, true) {
            return;
        }
        let highest = f64::from(super::sample::argmax(logits).1);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - highest).exp()).filter(|p| p.is_finite()).sum();
        let norm = highest + sum.ln();
        let ln_p = |token: usize| f64::from(logits[token]) - norm;
        for at in 0..self.nodes[node].children.len() {
            let child = self.nodes[node].children[at];
            let token = usize::try_from(self.nodes[child].token.0).expect("tokens of a text are not negative");
            self.nodes[child].ln_p = Some(so_far + ln_p(token));
        }
        let end: f64 = ends.iter().map(|&token| ln_p(token).exp()).sum();
        self.nodes[node].ln_end = Some(so_far + end.ln());
    }

    /// ln P of a text; `None` while it is not known.
    fn ln_p(&self, text: usize) -> Option<f64> {
        let node = &self.nodes[self.ends[text]];
        if node.children.is_empty() { node.ln_p } else { node.ln_end }
    }

    /// What came of it, after [`Choices::next`] had nothing more to ask. Texts that are still unknown count as
    /// impossible.
    pub(super) fn found(&self) -> Option<Found> {
        let scores: Vec<f64> = (0..self.ends.len()).map(|text| self.ln_p(text).unwrap_or(f64::NEG_INFINITY)).collect();
        // Texts of the same tokens are one text.
        let first = |text: &usize| !self.ends[..*text].contains(&self.ends[*text]);
        let best = (0..scores.len()).filter(first).reduce(|a, b| if scores[b] > scores[a] { b } else { a })?;
        if !scores[best].is_finite() {
            return None;
        }
        let total: f64 = (0..scores.len()).filter(first).map(|text| (scores[text] - scores[best]).exp()).sum();
        let mut before = 0.0;
        let tokens = self.path(self.ends[best]).into_iter().map(|node| {
            let so_far = self.nodes[node].ln_p.unwrap_or(f64::NEG_INFINITY);
            (self.nodes[node].token, so_far - std::mem::replace(&mut before, so_far))
        });
        Some(Found { best, share: 1.0 / total, tokens: tokens.collect() })
    }
}

impl Node {
    fn new(token: LlamaToken, parent: usize) -> Self {
        Self { token, parent, children: Vec::new(), ln_p: None, ln_end: None, read: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VOCABULARY: usize = 6;
    /// Ends an answer.
    const END: usize = 5;

    /// Logits of a made-up model after some tokens.
    fn logits(seed: u64, before: &[LlamaToken], peak: f32) -> Vec<f32> {
        let mut state = before.iter().fold(seed, |state, token| {
            (state ^ token.0.cast_unsigned().wrapping_add(1) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
        });
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..VOCABULARY).map(|_| peak * next()).collect()
    }

    fn ln_softmax(logits: &[f32], token: usize) -> f64 {
        let norm: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        f64::from(logits[token]) - norm.ln()
    }

    /// Every text on its own, token after token.
    fn naive(seed: u64, texts: &[Vec<LlamaToken>], peak: f32) -> Vec<f64> {
        let score = |text: &Vec<LlamaToken>| {
            let goes_on = texts.iter().any(|other| other.len() > text.len() && other.starts_with(text));
            let mut ln_p = 0.0;
            for (at, token) in text.iter().enumerate() {
                ln_p += ln_softmax(&logits(seed, &text[..at], peak), usize::try_from(token.0).unwrap());
            }
            if goes_on { ln_p + ln_softmax(&logits(seed, text, peak), END) } else { ln_p }
        };
        texts.iter().map(score).collect()
    }

    fn choose(seed: u64, texts: &[Vec<LlamaToken>], peak: f32) -> (Found, usize) {
        let mut choices = Choices::new(texts);
        let mut reads = 0;
        while let Some(path) = choices.next() {
            let mut before = Vec::new();
            for node in std::iter::once(0).chain(path) {
                if node > 0 {
                    before.push(choices.token(node));
                }
                choices.read(node, &logits(seed, &before, peak), &[END]);
                reads += 1;
            }
        }
        (choices.found().expect("finite"), reads)
    }

    proptest! {
        #[test]
        fn the_choice_and_its_share_are_those_of_scoring_every_text_on_its_own(
            seed in any::<u64>(),
            texts in proptest::collection::vec(proptest::collection::vec(0i32..5, 1..6), 1..30),
            peak in proptest::sample::select(vec![0.5f32, 4.0, 20.0]),
        ) {
            let texts: Vec<Vec<LlamaToken>> =
                texts.into_iter().map(|text| text.into_iter().map(LlamaToken).collect()).collect();
            let scores = naive(seed, &texts, peak);
            let (found, _) = choose(seed, &texts, peak);
            let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!((scores[found.best] - best).abs() < 1e-9, "{scores:?} {found:?}");
            let mut seen: Vec<&Vec<LlamaToken>> = Vec::new();
            let mut total = 0.0;
            for (text, score) in texts.iter().zip(&scores).filter(|(_, s)| s.is_finite()) {
                if !seen.contains(&text) {
                    seen.push(text);
                    total += (score - best).exp();
                }
            }
            prop_assert!((found.share - 1.0 / total).abs() <= 1.01 * REST, "{} for {}", found.share, 1.0 / total);
            let tokens: Vec<LlamaToken> = found.tokens.iter().map(|(token, _)| *token).collect();
            prop_assert_eq!(&tokens, &texts[found.best]);
        }
    }

    #[test]
    fn a_sure_model_is_asked_in_few_places() {
        // 3 · 3 · 3 · 3 texts of which the model has one in mind at every step.
        let texts: Vec<Vec<LlamaToken>> =
            (0..81).map(|n| (0..4).map(|digit| LlamaToken(n / 3i32.pow(digit) % 3)).collect()).collect();
        let (_, sure) = choose(1, &texts, 60.0);
        let (_, unsure) = choose(1, &texts, 0.1);
        assert!(sure < 10 && unsure == 1 + 3 + 9 + 27, "{sure} {unsure}");
    }
}
