//! Which of some given texts a model would answer: every text's probability, read off the model token by token.
//!
//! The texts' tokens form a trie. At each place the model's probabilities are shared out among the tokens with which some
//! text goes on (and the end, where one ends); a text's probability is the product along its way, so that all texts
//! together have 1. That is the distribution of writing under a grammar at temperature 1; writing the likeliest token
//! each time would follow the likeliest first token, whatever came of it later. A place with one way on needs no look.
//! Reading goes where the most probability is, and ends when no place that is still open has as much as a whole text.
//!
//! Pure bookkeeping: the engine computes, the logits come in by [`Choices::read`].

use llama_cpp_2::token::LlamaToken;

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
    /// Whether a text ends here.
    is_end: bool,
    /// ln P of the tokens up to here; known as soon as the parent was read.
    ln_p: Option<f64>,
    /// ln P of ending here; known when the node was read.
    ln_end: Option<f64>,
}

/// What the model thinks of the texts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// The likeliest text; the first of equals.
    pub(super) best: usize,
    /// Its probability; that of all texts together is 1.
    pub(super) share: f64,
    /// ln P of each of its tokens.
    pub(super) tokens: Vec<(LlamaToken, f64)>,
}

impl Choices {
    /// Of texts as their tokens.
    pub(super) fn new(texts: &[Vec<LlamaToken>]) -> Self {
        let mut choices = Self { nodes: vec![Node::new(LlamaToken(-1), 0)], ends: Vec::with_capacity(texts.len()) };
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
            choices.nodes[node].is_end = true;
            choices.ends.push(node);
        }
        choices.reach(0, 0.0);
        choices
    }

    /// Notes ln P of a node, and of those after it as long as there is one way on.
    fn reach(&mut self, mut node: usize, ln_p: f64) {
        loop {
            let here = &mut self.nodes[node];
            here.ln_p = Some(ln_p);
            match (&here.children[..], here.is_end) {
                ([], _) => {
                    here.ln_end = Some(ln_p);
                    return;
                }
                ([only], false) => node = *only,
                _ => return,
            }
        }
    }

    /// Whether the model is to be asked what comes after this node.
    pub(super) fn is_open(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        node.ln_p.is_some() && node.ln_end.is_none() && (node.is_end || node.children.len() > 1)
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

    /// The way to the node after which the model is to be read next. `Some` of no nodes means after the prompt itself,
    /// `None` that enough is known.
    pub(super) fn next(&self) -> Option<Vec<usize>> {
        let open = (0..self.nodes.len()).filter(|&node| self.is_open(node)).map(|node| (node, self.reached(node)));
        let (likeliest, highest) = open.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
        let best = (0..self.ends.len()).filter_map(|text| self.ln_p(text)).fold(f64::NEG_INFINITY, f64::max);
        // What is open has no text likelier than itself.
        (best <= highest).then(|| self.path(likeliest))
    }

    fn reached(&self, node: usize) -> f64 {
        self.nodes[node].ln_p.unwrap_or(f64::NEG_INFINITY)
    }

    /// Notes what the model says after `node` (0: after the prompt). `ends` are the tokens that end an answer.
    pub(super) fn read(&mut self, node: usize, logits: &[f32], ends: &[usize]) {
        if !self.is_open(node) {
            return;
        }
        let so_far = self.reached(node);
        let children = self.nodes[node].children.clone();
        let logit = |token: usize| f64::from(logits[token]);
        let ways = children.iter().map(|&child| logit(usize::try_from(self.nodes[child].token.0).unwrap_or(0)));
        let ways: Vec<f64> = ways.collect();
        let ends = if self.nodes[node].is_end { ends } else { &[] };
        let highest = ways.iter().copied().chain(ends.iter().map(|&end| logit(end))).fold(f64::NEG_INFINITY, f64::max);
        let end: f64 = ends.iter().map(|&end| (logit(end) - highest).exp()).sum();
        let norm = (end + ways.iter().map(|way| (way - highest).exp()).sum::<f64>()).ln();
        self.nodes[node].ln_end = Some(so_far + end.ln() - norm);
        for (child, way) in children.into_iter().zip(ways) {
            self.reach(child, so_far + way - highest - norm);
        }
    }

    /// ln P of a text; `None` while it is not known.
    fn ln_p(&self, text: usize) -> Option<f64> {
        self.nodes[self.ends[text]].ln_end
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
        let mut before = 0.0;
        let tokens = self.path(self.ends[best]).into_iter().map(|node| {
            let so_far = self.reached(node);
            (self.nodes[node].token, so_far - std::mem::replace(&mut before, so_far))
        });
        Some(Found { best, share: scores[best].exp(), tokens: tokens.collect() })
    }
}

impl Node {
    fn new(token: LlamaToken, parent: usize) -> Self {
        Self { token, parent, children: Vec::new(), is_end: false, ln_p: None, ln_end: None }
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

    /// ln of the token's probability among those that are allowed.
    fn ln_share(logits: &[f32], token: usize, allowed: &[usize]) -> f64 {
        let norm: f64 = allowed.iter().map(|&token| f64::from(logits[token]).exp()).sum();
        f64::from(logits[token]) - norm.ln()
    }

    /// Every text on its own, token after token.
    fn naive(seed: u64, texts: &[Vec<LlamaToken>], peak: f32) -> Vec<f64> {
        let score = |text: &Vec<LlamaToken>| {
            let mut ln_p = 0.0;
            for at in 0..=text.len() {
                let mut allowed: Vec<usize> = texts
                    .iter()
                    .filter(|other| other.starts_with(&text[..at]))
                    .map(|other| other.get(at).map_or(END, |token| usize::try_from(token.0).unwrap()))
                    .collect();
                allowed.sort_unstable();
                allowed.dedup();
                let token = text.get(at).map_or(END, |token| usize::try_from(token.0).unwrap());
                ln_p += ln_share(&logits(seed, &text[..at], peak), token, &allowed);
            }
            ln_p
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
                reads += usize::from(choices.is_open(node));
                choices.read(node, &logits(seed, &before, peak), &[END]);
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
            prop_assert!((found.share - 1.0 / total).abs() <= 1e-9, "{} for {}", found.share, 1.0 / total);
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
        assert!(sure < 10 && unsure > 20 && unsure <= 1 + 3 + 9 + 27, "{sure} {unsure}");
        // Where there is one way on, nobody is asked.
        assert_eq!(choose(1, &texts[..1], 0.1).1, 0);
    }
}
