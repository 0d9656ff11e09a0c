//! Which tokens lie in which sequence of the key–value cache: prefix reuse, eviction, and the promise that an
//! admitted answer never runs out of cells. Pure bookkeeping; the engine carries the plans out.

use llama_cpp_2::token::LlamaToken;

/// One sequence of the cache.
#[derive(Debug, Default)]
struct Slot {
    /// Tokens whose keys and values are in the cache.
    tokens: Vec<LlamaToken>,
    /// Cells promised to the answer that uses it; 0 when it is idle and only keeps its tokens for reuse.
    promised: usize,
    /// When it was last used, in admissions.
    used: u64,
}

impl Slot {
    fn busy(&self) -> bool {
        self.promised > 0
    }

    fn cells(&self) -> usize {
        self.promised.max(self.tokens.len())
    }
}

/// Where a new answer goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placement {
    /// The slot to use.
    pub(super) slot: usize,
    /// How many tokens of the prompt are there already, or will be after the copy.
    pub(super) reused: usize,
    /// Copy the reused tokens from this slot first.
    pub(super) copy_from: Option<usize>,
    /// Slots to clear first (the target itself, when its content is not reused).
    pub(super) clear: Vec<usize>,
}

/// All sequences of one cache.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    cells: usize,
    clock: u64,
}

impl Slots {
    /// `count` sequences that share `cells` cells.
    pub(super) fn new(count: usize, cells: usize) -> Self {
        Self { slots: (0..count).map(|_| Slot::default()).collect(), cells, clock: 0 }
    }

    /// Finds room for a prompt that needs `promised` cells in all, and books it. `None`: wait until an answer ends.
    ///
    /// Cells that two sequences share are counted twice, so the count is never too low.
    pub(super) fn place(&mut self, prompt: &[LlamaToken], promised: usize, reuse: bool) -> Option<Placement> {
        let held: usize = self.slots.iter().filter(|s| s.busy()).map(Slot::cells).sum();
        if held + promised > self.cells {
            return None;
        }
        let oldest_idle = |slots: &[Slot], not: Option<usize>| {
            (0..slots.len())
                .filter(|&i| !slots[i].busy() && Some(i) != not)
                .min_by_key(|&i| (!slots[i].tokens.is_empty(), slots[i].used))
        };
        let spare = oldest_idle(&self.slots, None)?;

        // At least the prompt's last token is computed: its logits are needed.
        let most = if reuse { prompt.len().saturating_sub(1) } else { 0 };
        let common = |slot: &Slot| slot.tokens.iter().zip(&prompt[..most]).take_while(|(a, b)| a == b).count();
        let (source, reused) =
            (0..self.slots.len()).map(|i| (i, common(&self.slots[i]))).max_by_key(|&(_, n)| n).unwrap_or((spare, 0));
        let source = (reused > 0).then_some(source);

        // An idle slot whose content is mostly this prompt is continued in place; from any other the common part is
        // copied, so that it stays useful to the next request of its own kind.
        let slot = match source {
            Some(i) if !self.slots[i].busy() => {
                let other = oldest_idle(&self.slots, Some(i));
                match other {
                    Some(other) if reused * 2 < self.slots[i].tokens.len() => other,
                    _ => i,
                }
            }
            _ => spare,
        };
        let copy_from = source.filter(|&s| s != slot);
        let mut clear = Vec::new();
        if source != Some(slot) && !self.slots[slot].tokens.is_empty() {
            self.slots[slot].tokens.clear();
            clear.push(slot);
        }
        if source == Some(slot) {
            self.slots[slot].tokens.truncate(reused);
        } else {
            self.slots[slot].tokens = prompt[..reused].to_vec();
        }
        self.clock += 1;
        self.slots[slot].promised = promised.max(1);
        self.slots[slot].used = self.clock;

        // Evict kept prefixes, the longest unused first, until the promise holds. The source goes last: its cells are
        // shared with the new slot, and the copy is made before anything is cleared.
        while self.slots.iter().map(Slot::cells).sum::<usize>() > self.cells {
            let victim = (0..self.slots.len())
                .filter(|&i| !self.slots[i].busy() && !self.slots[i].tokens.is_empty())
                .min_by_key(|&i| (Some(i) == copy_from, self.slots[i].used))
                .expect("busy slots alone fit, as checked above");
            self.slots[victim].tokens.clear();
            clear.push(victim);
        }
        Some(Placement { slot, reused, copy_from, clear })
    }

    /// Notes that tokens were computed into the slot.
    pub(super) fn extend(&mut self, slot: usize, tokens: &[LlamaToken]) {
        self.slots[slot].tokens.extend_from_slice(tokens);
    }

    /// Notes that only the first `len` tokens of the slot are left.
    pub(super) fn cut(&mut self, slot: usize, len: usize) {
        self.slots[slot].tokens.truncate(len);
    }

    /// Number of tokens in the slot: the position of the next one.
    pub(super) fn len(&self, slot: usize) -> usize {
        self.slots[slot].tokens.len()
    }

    /// Ends the answer in the slot; its tokens stay until their cells are needed.
    pub(super) fn release(&mut self, slot: usize) {
        self.slots[slot].promised = 0;
    }

    /// Ends the answer in the slot and forgets its tokens.
    pub(super) fn clear(&mut self, slot: usize) {
        self.slots[slot].promised = 0;
        self.slots[slot].tokens.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: std::ops::Range<i32>) -> Vec<LlamaToken> {
        ids.map(LlamaToken).collect()
    }

    /// Runs a prompt to its end and leaves it as a kept prefix.
    fn keep(slots: &mut Slots, prompt: &[LlamaToken]) -> Placement {
        let placement = slots.place(prompt, prompt.len() + 2, true).expect("room");
        slots.extend(placement.slot, &prompt[placement.reused..]);
        slots.release(placement.slot);
        placement
    }

    #[test]
    fn a_longer_conversation_continues_in_place() {
        let mut slots = Slots::new(2, 100);
        assert_eq!(keep(&mut slots, &tokens(0..10)).reused, 0);
        let next = slots.place(&tokens(0..15), 20, true).expect("room");
        assert_eq!(next, Placement { slot: 0, reused: 10, copy_from: None, clear: vec![] });
    }

    #[test]
    fn a_common_beginning_is_copied_and_its_owner_kept() {
        let mut slots = Slots::new(2, 100);
        keep(&mut slots, &tokens(0..20));
        let mut other = tokens(0..5);
        other.extend(tokens(50..60));
        let next = slots.place(&other, 20, true).expect("room");
        assert_eq!(next, Placement { slot: 1, reused: 5, copy_from: Some(0), clear: vec![] });
        assert_eq!(slots.len(0), 20);
    }

    #[test]
    fn the_last_token_of_a_prompt_is_always_computed() {
        let mut slots = Slots::new(1, 100);
        keep(&mut slots, &tokens(0..10));
        assert_eq!(slots.place(&tokens(0..10), 12, true).expect("room").reused, 9);
    }

    #[test]
    fn a_busy_answer_lends_its_prefix() {
        let mut slots = Slots::new(2, 100);
        let first = slots.place(&tokens(0..10), 20, true).expect("room");
        slots.extend(first.slot, &tokens(0..10));
        let second = slots.place(&tokens(0..12), 20, true).expect("room");
        assert_eq!(second, Placement { slot: 1, reused: 10, copy_from: Some(0), clear: vec![] });
    }

    #[test]
    fn the_longest_unused_prefix_is_evicted_first() {
        let mut slots = Slots::new(3, 60);
        keep(&mut slots, &tokens(0..20));
        keep(&mut slots, &tokens(100..120));
        let next = slots.place(&tokens(200..220), 30, true).expect("room");
        assert_eq!(next, Placement { slot: 2, reused: 0, copy_from: None, clear: vec![0] });
        assert_eq!((slots.len(0), slots.len(1)), (0, 20));
    }

    #[test]
    fn promises_are_never_broken() {
        let mut slots = Slots::new(3, 50);
        assert!(slots.place(&tokens(0..10), 30, true).is_some());
        assert_eq!(slots.place(&tokens(20..30), 30, true), None);
        assert!(slots.place(&tokens(20..30), 20, true).is_some());
        assert_eq!(slots.place(&tokens(40..41), 1, true), None);
        slots.release(0);
        assert!(slots.place(&tokens(20..40), 30, true).is_some());
    }

    #[test]
    fn reuse_can_be_switched_off() {
        let mut slots = Slots::new(1, 100);
        keep(&mut slots, &tokens(0..10));
        let next = slots.place(&tokens(0..15), 20, false).expect("room");
        assert_eq!(next, Placement { slot: 0, reused: 0, copy_from: None, clear: vec![0] });
    }

    proptest::proptest! {
        /// Whatever comes and goes: the cells in use never exceed the cache, and reused tokens are the prompt's.
        #[test]
        fn cells_stay_within_the_cache(steps in proptest::collection::vec((0u8..4, 1usize..30, 0i32..3, 0usize..4), 1..60)) {
            let mut slots = Slots::new(4, 80);
            for (kind, len, family, slot) in steps {
                if kind == 0 {
                    slots.release(slot);
                } else {
                    let len = i32::try_from(len).expect("small");
                    let prompt = tokens(family * 7..family * 7 + len);
                    let promised = prompt.len() + 5;
                    if let Some(p) = slots.place(&prompt, promised, true) {
                        proptest::prop_assert!(p.reused < prompt.len());
                        proptest::prop_assert_eq!(&slots.slots[p.slot].tokens[..], &prompt[..p.reused]);
                        slots.extend(p.slot, &prompt[p.reused..]);
                    }
                }
                proptest::prop_assert!(slots.slots.iter().map(Slot::cells).sum::<usize>() <= 80);
            }
        }
    }
}
