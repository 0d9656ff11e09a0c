//! What enters the race: first instructions without examples and examples under the first instruction, then the best of
//! both together, then small changes of the best fixed set.

use super::{
    FIXED,
    examples::{Examples, Pool},
    race::{Entrant, FIRST, Reply, State, Stop, Track},
};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use std::ops::Range;
use understudy_core::{Error, Result, Seed};

/// Instructions, and choices of examples, of which all pairs are tried.
const CROSSED: usize = 3;
/// Generations of changed sets.
const GENERATIONS: usize = 3;
/// Share of the requests for the first heat, and for the second where a third may follow.
const SHARES: (f64, f64) = (0.4, 0.35);

/// What is searched, and how far.
pub struct Search<'r> {
    /// How many instructions there are; the first is the one to beat.
    pub instructions: usize,
    /// Numbers of examples to try.
    pub shots: Vec<usize>,
    /// How they may be picked: [`FIXED`], `words`, encoders.
    pub shots_by: Vec<String>,
    /// Fixed sets of each size.
    pub sets: usize,
    /// Where examples come from.
    pub pool: Pool<'r>,
    /// Rows to race on.
    pub rows: usize,
    /// Requests that may be made.
    pub calls: usize,
    /// Seed of the sets.
    pub seed: Seed,
}

/// What came of it.
#[derive(Debug)]
pub struct Found {
    /// Everybody who ran; the first is the prompt to beat: the first instruction without examples.
    pub entrants: Vec<Entrant>,
    /// The best on all rows; 0 when nothing was better than the first.
    pub best: usize,
    /// Requests made.
    pub calls: usize,
    /// Why it ended before the last generation.
    pub stop: Option<Stop>,
}

impl Search<'_> {
    /// Searches; `ask` puts an entrant's prompt to the model for rows of that range.
    ///
    /// # Errors
    /// Those of asking; `Invalid` when there are too few rows or requests, or the model does not take the first prompt.
    pub async fn run(&self, ask: impl AsyncFnMut(&Entrant, Range<usize>) -> Result<Reply>) -> Result<Found> {
        if self.rows < FIRST {
            let what = format!("search prompts: {} rows to race on, {FIRST} are needed", self.rows);
            return Err(Error::invalid(format!("{what}; give more --data, or a higher --rows")));
        }
        if self.calls < 2 * self.rows {
            return Err(Error::invalid(format!(
                "search prompts: {} requests do not suffice for two prompts on {} rows; raise --calls, or lower --rows",
                self.calls, self.rows
            ))
            .with_param("calls"));
        }
        let mut track = Track::new(self.calls, self.seed, ask);
        let start = track.enter(Entrant::new(0, Examples::None));
        if !track.ask(start, self.rows).await? {
            let why = match (&track.entrants[start].state, track.stop) {
                (State::Failed(why), _) => why.clone(),
                (_, Some(Stop::Cost)) => "the money is spent before the first prompt is measured".to_owned(),
                _ => "the time is over before the first prompt is measured".to_owned(),
            };
            return Err(Error::invalid(format!("search prompts: the model does not answer the first one: {why}")));
        }
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed.derive("sets").0);
        let choices = self.choices(&mut rng);
        let mut first: Vec<usize> =
            (1..self.instructions).map(|i| track.enter(Entrant::new(i, Examples::None))).collect();
        first.extend(choices.iter().map(|choice| track.enter(Entrant::new(0, choice.clone()))));
        first.push(start);
        let share = |share: f64, of: usize| -> usize {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of requests")]
            let part = (share * of as f64) as usize;
            part
        };
        let left = track.left();
        track.heat(first, (self.rows / 2).max(FIRST), share(SHARES.0, left)).await?;
        // What did well apart is tried together, and changed a little.
        let everybody: Vec<usize> = (0..track.entrants.len()).collect();
        let order = by_progress(&track, &everybody);
        let mut second: Vec<usize> =
            order.iter().copied().filter(|&e| track.entrants[e].state == State::Racing).take(2 * CROSSED).collect();
        for (instruction, examples) in pairs(&track.entrants, &order) {
            second.push(track.enter(Entrant::new(instruction, examples)));
        }
        let has_sets = choices.iter().any(|choice| matches!(choice, Examples::Set(_)));
        let budget = if has_sets { share(SHARES.1, left) } else { track.left() };
        let mut standing = track.heat(second, self.rows, budget).await?;
        for _ in 0..GENERATIONS {
            if track.stop.is_some() || track.left() < 2 * FIRST {
                break;
            }
            let Some(set) = standing.iter().copied().find(|&e| matches!(track.entrants[e].examples, Examples::Set(_)))
            else {
                break;
            };
            let (instruction, set) = (track.entrants[set].instruction, track.entrants[set].examples.clone());
            let Examples::Set(set) = set else { break };
            let leader = standing[0];
            for _ in 0..self.sets {
                let changed = Entrant::new(instruction, Examples::Set(self.pool.changed(&set, &mut rng)));
                if !is_there(&track.entrants, changed.instruction, &changed.examples) {
                    standing.push(track.enter(changed));
                }
            }
            let left = track.left();
            standing = track.heat(standing, self.rows, left).await?;
            if standing.first() == Some(&leader) {
                break;
            }
        }
        // Where requests are left over, those come in that there were too few for.
        let waiting: Vec<usize> =
            (0..track.entrants.len()).filter(|&e| track.entrants[e].state == State::Unaffordable).collect();
        if !waiting.is_empty() && track.stop.is_none() && track.left() >= FIRST {
            for &entrant in &waiting {
                track.entrants[entrant].state = State::Racing;
            }
            standing.extend(waiting);
            let left = track.left();
            track.heat(standing, self.rows, left).await?;
        }
        let mut whole: Vec<usize> =
            (0..track.entrants.len()).filter(|&e| track.entrants[e].scores.len() >= self.rows).collect();
        track.rank(&mut whole, self.rows);
        Ok(Found {
            best: whole.first().copied().unwrap_or(start),
            entrants: track.entrants,
            calls: track.calls,
            stop: track.stop,
        })
    }

    /// Every choice of examples, each once.
    fn choices(&self, rng: &mut ChaCha12Rng) -> Vec<Examples> {
        let mut choices: Vec<Examples> = Vec::new();
        for &k in self.shots.iter().filter(|k| **k > 0) {
            for by in &self.shots_by {
                let drawn = match by.as_str() {
                    FIXED => (0..self.sets).map(|_| Examples::Set(self.pool.draw(k, rng))).collect(),
                    _ => vec![Examples::Similar { by: by.clone(), k }],
                };
                for choice in drawn {
                    if choice.count() > 0 && !choices.contains(&choice) {
                        choices.push(choice);
                    }
                }
            }
        }
        choices
    }
}

/// Those that came farthest first, among them the best.
fn by_progress<A>(track: &Track<A>, field: &[usize]) -> Vec<usize> {
    let of = |entrant: usize| &track.entrants[entrant];
    let mut order: Vec<usize> = field
        .iter()
        .copied()
        .filter(|&e| !of(e).scores.is_empty() && !matches!(of(e).state, State::Failed(_)))
        .collect();
    // Of the first prompt, which has all rows, only as many count as the others had at most.
    let most = order.iter().filter(|e| **e != 0).map(|&e| of(e).scores.len()).max().unwrap_or(0);
    let far = |entrant: usize| of(entrant).scores.len().min(most);
    order.sort_by(|&a, &b| {
        far(b).cmp(&far(a)).then_with(|| of(b).mean(most).total_cmp(&of(a).mean(most))).then(a.cmp(&b))
    });
    order
}

/// The best instructions with the best choices of examples, where nobody has them together yet.
fn pairs(entrants: &[Entrant], order: &[usize]) -> Vec<(usize, Examples)> {
    let alone = order.iter().map(|&e| &entrants[e]).filter(|e| e.examples == Examples::None).take(CROSSED);
    let shown = || order.iter().map(|&e| &entrants[e]).filter(|e| e.examples != Examples::None).take(CROSSED);
    alone
        .flat_map(|own| shown().map(|other| (own.instruction, other.examples.clone())))
        .filter(|(instruction, examples)| !is_there(entrants, *instruction, examples))
        .collect()
}

fn is_there(entrants: &[Entrant], instruction: usize, examples: &Examples) -> bool {
    entrants.iter().any(|e| e.instruction == instruction && e.examples == *examples)
}
