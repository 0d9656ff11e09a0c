//! Whose turn it is among adapters that share a context.

/// Steps in a row for one adapter while another has work. Changing it makes llama.cpp plan its buffers anew; a turn of several
/// steps makes little of that and still lets nobody wait long.
const STEPS: usize = 8;
/// Tokens after which a turn ends before that: a step that reads a long prompt takes as long as many that write.
const TOKENS: usize = 256;

/// Round robin over the adapters that have work.
#[derive(Debug, Default)]
pub(super) struct Turns {
    current: Option<usize>,
    /// Steps of its turn that are behind, and their tokens.
    steps: usize,
    tokens: usize,
}

impl Turns {
    /// The adapter of the next step, given that of each answer with work; `None` when there is no work.
    pub(super) fn next(&mut self, wanted: impl Iterator<Item = Option<usize>> + Clone) -> Option<Option<usize>> {
        let after = wanted.clone().filter(|adapter| *adapter > self.current).min();
        let next = after.or_else(|| wanted.clone().min())?;
        let stays = wanted.clone().any(|adapter| adapter == self.current);
        // Alone it has no turn to end.
        let alone = next == self.current;
        if alone || !stays || self.steps >= STEPS || self.tokens >= TOKENS {
            *self = Self { current: next, steps: usize::from(!alone), tokens: 0 };
        } else {
            self.steps += 1;
        }
        Some(self.current)
    }

    /// What the step computes.
    pub(super) fn spend(&mut self, tokens: usize) {
        self.tokens += tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_goes_on_and_nobody_is_nobody() {
        let mut turns = Turns::default();
        assert_eq!(turns.next([].into_iter()), None);
        for _ in 0..3 * STEPS {
            assert_eq!(turns.next([Some(1); 3].into_iter()), Some(Some(1)));
        }
        assert_eq!(turns.next([None].into_iter()), Some(None));
    }

    #[test]
    fn every_adapter_gets_its_steps_in_turn() {
        let mut turns = Turns::default();
        let wanted = [Some(2), None, Some(0), Some(2)];
        let order: Vec<_> = (0..6 * STEPS).map(|_| turns.next(wanted.into_iter()).expect("work")).collect();
        let turn: Vec<_> = order.chunks(STEPS).map(|turn| (turn[0], turn.iter().all(|a| *a == turn[0]))).collect();
        let round = [(Some(0), true), (Some(2), true), (None, true)];
        // Whoever is first, they follow each other.
        let start = round.iter().position(|(adapter, _)| *adapter == turn[0].0).expect("one of them");
        for (i, turn) in turn.iter().enumerate() {
            assert_eq!(*turn, round[(start + i) % 3], "{order:?}");
        }
    }

    #[test]
    fn a_newcomer_waits_one_turn_at_most() {
        let mut turns = Turns::default();
        for _ in 0..100 {
            turns.next([Some(0)].into_iter());
        }
        let waits = (0..).take_while(|_| turns.next([Some(0), Some(1)].into_iter()) == Some(Some(0))).count();
        assert!(waits <= STEPS, "{waits}");
        // A turn ends early when its work does.
        assert_eq!(turns.next([Some(0)].into_iter()), Some(Some(0)));
    }

    #[test]
    fn a_step_that_reads_a_long_prompt_ends_the_turn() {
        let mut turns = Turns::default();
        let wanted = [Some(0), Some(1)];
        let mut order = Vec::new();
        for tokens in [TOKENS, 1, TOKENS - 1, TOKENS, TOKENS] {
            let adapter = turns.next(wanted.into_iter()).flatten().expect("work");
            turns.spend(tokens);
            order.push(adapter);
        }
        assert_eq!(order, [0, 1, 1, 0, 1]);
    }
}
