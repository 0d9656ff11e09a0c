//! From a prompt to the features of one linear model: its group, its shape, its words, its embedding. Each block has a
//! prior variance of its own, which is how much the model believes beforehand that the block matters.

use super::{Prompt, shape};
use serde::{Deserialize, Serialize};
use understudy_learn::{
    cholesky,
    sparse::{Sparse, add, product},
    tfidf::Tfidf,
};

/// Standard deviations beyond which a feature of the shape is cut off.
const CLIP: f64 = 3.0;
/// Softmax temperature over likenesses when a prompt's group has to be guessed.
const TEMPERATURE: f64 = 0.1;

/// Prior variances of the blocks' weights, in units of the noise; 0 leaves a block out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Priors {
    /// Effect of a group that it shares with no other.
    pub group: f64,
    /// Effect that groups share as far as their texts are alike.
    pub kin: f64,
    /// All features of the shape together.
    pub shape: f64,
    /// A text's words.
    pub words: f64,
    /// A text's embedding.
    pub embedding: f64,
}

/// How prompts become rows. Learnt from texts alone, without outcomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Design {
    priors: Priors,
    /// Known groups, sorted.
    groups: Vec<String>,
    /// What each group's texts look like on average, for prompts of an unknown group: length 1.
    centroids: Vec<Sparse>,
    /// Each group's features, whose products are the prior covariances of the groups' effects.
    effects: Vec<Sparse>,
    /// Mean and standard deviation of each feature of the shape.
    shape: Vec<(f64, f64)>,
    tfidf: Option<Tfidf>,
    /// Mean embedding; empty without embeddings.
    centre: Vec<f32>,
}

/// Places of the hashed words: 2 to this.
const WORD_BITS: u32 = 15;
/// Heaviest words that are kept of a group.
const CENTROID_WORDS: usize = 200;
/// Groups beyond which their likeness is not looked at: its matrix grows with their square.
const MOST_KIN: usize = 500;
/// Places of a group's profile of words: hashed, so that 500 groups are compared in a moment.
const WORD_PROFILE: usize = 4096;

impl Design {
    /// Learns the design from prompts.
    #[must_use]
    pub fn fit(prompts: &[Prompt<'_>], priors: Priors) -> Self {
        let n = prompts.len().max(1) as f64;
        let mut groups: Vec<String> = match priors.group + priors.kin > 0.0 {
            true => prompts.iter().filter_map(|prompt| prompt.group.map(str::to_owned)).collect(),
            false => Vec::new(),
        };
        groups.sort_unstable();
        groups.dedup();
        let shapes: Vec<_> = match priors.shape > 0.0 {
            true => prompts.iter().map(|prompt| shape::features(prompt.text)).collect(),
            false => Vec::new(),
        };
        let standard = |place: usize| {
            let mean = shapes.iter().map(|shape| shape[place]).sum::<f64>() / n;
            let variance = shapes.iter().map(|shape| (shape[place] - mean).powi(2)).sum::<f64>() / n;
            (mean, variance.sqrt())
        };
        let shape = if shapes.is_empty() { Vec::new() } else { (0..shape::NAMES.len()).map(standard).collect() };
        let words = priors.words > 0.0 || !groups.is_empty();
        let tfidf = words.then(|| Tfidf::fit(prompts.iter().map(|prompt| prompt.text), WORD_BITS));
        let width = prompts.first().and_then(|prompt| prompt.embedding).map_or(0, <[f32]>::len);
        let complete = prompts.iter().all(|prompt| prompt.embedding.is_some_and(|e| e.len() == width));
        let mut centre = vec![0.0; if complete && priors.embedding > 0.0 { width } else { 0 }];
        for embedding in prompts.iter().filter_map(|prompt| prompt.embedding) {
            #[expect(clippy::cast_possible_truncation, reason = "embeddings are 32-bit")]
            centre.iter_mut().zip(embedding).for_each(|(sum, x)| *sum += x / n as f32);
        }
        let mut design = Self { priors, groups, centroids: Vec::new(), effects: Vec::new(), shape, tfidf, centre };
        design.centroids = design.centroids(prompts);
        design.effects = design.effects(prompts);
        design
    }

    /// Length of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.groups.len() + self.shape.len() + self.centre.len() + self.tfidf.as_ref().map_or(0, Tfidf::width)
    }

    /// Whether a prompt needs an embedding.
    #[must_use]
    pub fn wants_embedding(&self) -> bool {
        !self.centre.is_empty()
    }

    /// The features of a prompt. A group that is not known is guessed from the words: its row is divided among the
    /// groups that it resembles.
    #[must_use]
    pub fn row(&self, prompt: &Prompt<'_>) -> Sparse {
        let mut row = Sparse::new();
        let words = self.tfidf.as_ref().map(|tfidf| tfidf.vector(prompt.text));
        match prompt.group.and_then(|name| self.place(name)) {
            Some(place) => row.extend_from_slice(&self.effects[place]),
            None => {
                let mut mixed = vec![0.0; self.groups.len()];
                let shares = self.guess(words.as_deref().unwrap_or_default());
                self.effects.iter().zip(shares).for_each(|(effect, share)| add(&mut mixed, share, effect));
                mixed.into_iter().enumerate().for_each(|(place, value)| push(&mut row, place, value));
            }
        }
        let mut start = self.groups.len();
        if !self.shape.is_empty() {
            let scale = (self.priors.shape / self.shape.len() as f64).sqrt();
            for (i, (value, (mean, deviation))) in shape::features(prompt.text).iter().zip(&self.shape).enumerate() {
                if *deviation > 0.0 {
                    push(&mut row, start + i, scale * ((value - mean) / deviation).clamp(-CLIP, CLIP));
                }
            }
        }
        start += self.shape.len();
        if let Some(embedding) = prompt.embedding {
            let scale = self.priors.embedding.sqrt();
            for (i, (x, centre)) in embedding.iter().zip(&self.centre).enumerate() {
                push(&mut row, start + i, scale * f64::from(x - centre));
            }
        }
        start += self.centre.len();
        if self.priors.words > 0.0 {
            let scale = self.priors.words.sqrt();
            for (place, value) in words.unwrap_or_default() {
                push(&mut row, start + place as usize, scale * f64::from(value));
            }
        }
        row
    }

    /// Probability of each group, by the likeness of the words to the group's.
    fn guess(&self, words: &[(u32, f32)]) -> Vec<f64> {
        let likeness: Vec<f64> = self.centroids.iter().map(|centroid| product(centroid, words) / TEMPERATURE).collect();
        let highest = likeness.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let odds: Vec<f64> = likeness.iter().map(|likeness| (likeness - highest).exp()).collect();
        let sum: f64 = odds.iter().sum();
        odds.into_iter().map(|odds| odds / sum).collect()
    }

    fn place(&self, group: &str) -> Option<usize> {
        self.groups.binary_search_by(|known| known.as_str().cmp(group)).ok()
    }

    /// The factor of the covariance `group · I + kin · likeness`: with it as features, a penalty on squared weights is
    /// the prior in which groups of alike texts have alike effects.
    fn effects(&self, prompts: &[Prompt<'_>]) -> Vec<Sparse> {
        let n = self.groups.len();
        let profiles = match self.priors.kin > 0.0 && n <= MOST_KIN {
            true => self.profiles(prompts),
            false => vec![Vec::new(); n],
        };
        let mut covariance = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let like: f64 = profiles[i].iter().zip(&profiles[j]).map(|(a, b)| f64::from(a * b)).sum();
                // What a group shares with nobody is its own.
                let own = if i == j { self.priors.group + self.priors.kin * (1.0 - like) } else { 0.0 };
                covariance[i * n + j] = own + self.priors.kin * like;
            }
        }
        let lower = cholesky::factor(covariance, n);
        let effect = |i: usize| {
            let mut row = Sparse::new();
            (0..=i).for_each(|j| push(&mut row, j, lower[i * n + j]));
            row.retain(|(_, value)| value.abs() > 0.0);
            row
        };
        (0..n).map(effect).collect()
    }

    /// What sets each group's texts apart from the others': the mean embedding, or else the mean words, less the mean
    /// over groups; length 1.
    fn profiles(&self, prompts: &[Prompt<'_>]) -> Vec<Vec<f32>> {
        let width = prompts.first().and_then(|prompt| prompt.embedding).map_or(0, <[f32]>::len);
        let embedded = width > 0 && prompts.iter().all(|prompt| prompt.embedding.is_some_and(|e| e.len() == width));
        let width = if embedded { width } else { WORD_PROFILE };
        let mut sums = vec![(0.0_f32, vec![0.0_f32; width]); self.groups.len()];
        for prompt in prompts {
            let Some(place) = prompt.group.and_then(|name| self.place(name)) else { continue };
            let (count, sum) = &mut sums[place];
            *count += 1.0;
            match (prompt.embedding, &self.tfidf) {
                (Some(embedding), _) if embedded => sum.iter_mut().zip(embedding).for_each(|(sum, x)| *sum += x),
                (_, Some(tfidf)) => {
                    tfidf.vector(prompt.text).into_iter().for_each(|(word, x)| sum[word as usize % width] += x);
                }
                (_, None) => {}
            }
        }
        let mut means: Vec<Vec<f32>> = sums
            .into_iter()
            .map(|(count, mut sum)| {
                sum.iter_mut().for_each(|sum| *sum /= count.max(1.0));
                sum
            })
            .collect();
        let groups = means.len().max(1) as f64;
        for place in 0..width {
            let mean = means.iter().map(|mean| f64::from(mean[place])).sum::<f64>() / groups;
            #[expect(clippy::cast_possible_truncation, reason = "profiles are 32-bit")]
            means.iter_mut().for_each(|group| group[place] -= mean as f32);
        }
        for mean in &mut means {
            let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
            if length > 1e-6 {
                mean.iter_mut().for_each(|x| *x /= length);
            }
        }
        means
    }

    fn centroids(&self, prompts: &[Prompt<'_>]) -> Vec<Sparse> {
        let Some(tfidf) = self.tfidf.as_ref().filter(|_| !self.groups.is_empty()) else { return Vec::new() };
        let mut sums = vec![std::collections::BTreeMap::<u32, f32>::new(); self.groups.len()];
        for prompt in prompts {
            if let Some(place) = prompt.group.and_then(|name| self.place(name)) {
                for (word, value) in tfidf.vector(prompt.text) {
                    *sums[place].entry(word).or_default() += value;
                }
            }
        }
        let heaviest = |sum: std::collections::BTreeMap<u32, f32>| {
            let mut words: Sparse = sum.into_iter().collect();
            words.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            words.truncate(CENTROID_WORDS);
            words.sort_by_key(|(place, _)| *place);
            let length = words.iter().map(|(_, value)| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            words.iter_mut().for_each(|(_, value)| *value /= length);
            words
        };
        sums.into_iter().map(heaviest).collect()
    }
}

fn push(row: &mut Sparse, place: usize, value: f64) {
    #[expect(clippy::cast_possible_truncation, reason = "a row has fewer than 2³² places; seven digits are enough")]
    row.push((place as u32, value as f32));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt<'a>(text: &'a str, group: Option<&'a str>) -> Prompt<'a> {
        Prompt { text, group, embedding: None }
    }

    #[test]
    fn an_unknown_group_is_guessed_from_the_words() {
        let texts =
            ["the heart pumps blood", "blood flows in the heart", "the court heard the case", "a case in court"];
        let groups = ["medicine", "medicine", "law", "law"];
        let prompts: Vec<Prompt<'_>> = texts.iter().zip(groups).map(|(t, g)| prompt(t, Some(g))).collect();
        let priors = Priors { group: 1.0, kin: 0.0, shape: 0.0, words: 0.0, embedding: 0.0 };
        let design = Design::fit(&prompts, priors);
        assert_eq!(design.row(&prompts[0]), vec![(1, 1.0)]);
        for group in [None, Some("never seen")] {
            let guessed = design.row(&prompt("what does the heart do with blood", group));
            assert!(guessed[1].1 > 0.6 && (guessed[0].1 + guessed[1].1 - 1.0).abs() < 1e-6, "{guessed:?}");
        }
    }

    #[test]
    fn a_missing_block_leaves_its_places_out() {
        let with: Vec<f32> = vec![0.5, -0.5];
        let embedded = |text| Prompt { text, group: None, embedding: Some(&with) };
        let all = Priors { group: 1.0, kin: 0.0, shape: 1.0, words: 1.0, embedding: 1.0 };
        let design = Design::fit(&[embedded("a b"), embedded("c?")], all);
        assert!(design.wants_embedding());
        assert_eq!(design.width(), shape::NAMES.len() + 2 + (1 << WORD_BITS));
        let bare = Design::fit(&[prompt("a b", None), prompt("c", None)], all);
        assert!(!bare.wants_embedding());
        assert!(
            bare.row(&prompt("a", None))
                .iter()
                .all(|(place, value)| { (*place as usize) < bare.width() && value.is_finite() })
        );
    }
}
