//! Which tokens lie in which pool of the key–value cache: where a new answer goes, and what is used again. Pure
//! bookkeeping; the engine carries the plans out.
//!
//! Every slot is one llama.cpp sequence with cells of its own, enough for the longest prompt and answer together, so
//! an admitted answer never runs out. A finished answer's tokens stay until the slot is given away.

use llama_cpp_2::token::LlamaToken;
use std::cmp::Reverse;

/// One sequence and its pool of cells.
#[derive(Debug, Default)]
struct Slot {
    /// Tokens whose keys and values are in the cache.
    tokens: Vec<LlamaToken>,
    /// The adapter that computed them: to another one they are of no use.
    adapter: Option<usize>,
    /// Whether an answer is being written in it; else it only keeps its tokens for reuse.
    busy: bool,
    /// When it was last used, in admissions.
    used: u64,
}

/// Where a new answer goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placement {
    /// The slot to use.
    pub(super) slot: usize,
    /// Copy the whole pool of this slot there first.
    pub(super) copy_from: Option<usize>,
    /// How many of the tokens that then lie there are the prompt's; the others are to be removed.
    pub(super) reused: usize,
}

/// All pools of one cache.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// Fewest tokens that a copy must save.
    worth_a_copy: usize,
    clock: u64,
}

impl Slots {
    /// `count` pools of `cells` cells.
    ///
    /// A copy moves a whole pool, used or not: about 20 ms for 2,048 cells of SmolLM2-135M, in which two threads read
    /// a dozen tokens.
    pub(super) fn new(count: usize, cells: usize) -> Self {
        Self { slots: (0..count).map(|_| Slot::default()).collect(), worth_a_copy: (cells / 64).max(1), clock: 0 }
    }

    /// Finds a slot for a prompt and books it. `None`: wait until an answer ends.
    ///
    /// An idle slot whose content is mostly this prompt is continued in place. Otherwise the longest unused slot is
    /// given away, and what another slot has in common with the prompt is copied there, so that the other stays
    /// useful to the next request of its own kind.
    pub(super) fn place(&mut self, prompt: &[LlamaToken], adapter: Option<usize>, reuse: bool) -> Option<Placement> {
        let longest_unused = |not: Option<usize>| {
            (0..self.slots.len())
                .filter(|&i| !self.slots[i].busy && Some(i) != not)
                .min_by_key(|&i| (!self.slots[i].tokens.is_empty(), self.slots[i].used))
        };
        let spare = longest_unused(None)?;

        // At least the prompt's last token is computed: its logits are needed.
        let most = if reuse { prompt.len().saturating_sub(1) } else { 0 };
        let common = |i: usize| match &self.slots[i] {
            slot if slot.adapter == adapter => common(&slot.tokens, &prompt[..most]),
            _ => 0,
        };
        let source = (0..self.slots.len())
            .max_by_key(|&i| (common(i), !self.slots[i].busy, Reverse(self.slots[i].used)))
            .expect("there is a spare one");
        let slot = if self.slots[source].busy || common(source) == 0 {
            spare
        } else if common(source) * 2 >= self.slots[source].tokens.len() {
            source
        } else {
            longest_unused(Some(source)).unwrap_or(source)
        };
        let copied = common(source) >= common(slot) + self.worth_a_copy;
        let reused = common(if copied { source } else { slot });

        self.clock += 1;
        self.slots[slot] = Slot { tokens: prompt[..reused].to_vec(), adapter, busy: true, used: self.clock };
        Some(Placement { slot, copy_from: copied.then_some(source), reused })
    }

    /// Notes that tokens were computed into the slot.
    pub(super) fn extend(&mut self, slot: usize, tokens: &[LlamaToken]) {
        self.slots[slot].tokens.extend_from_slice(tokens);
    }

    /// How many tokens at the beginning of the slot are those of `wanted`, at most all but the last of them.
    pub(super) fn common(&self, slot: usize, wanted: &[LlamaToken]) -> usize {
        let most = wanted.len().saturating_sub(1);
        common(&self.slots[slot].tokens, &wanted[..most])
    }

    /// Notes that the slot ends after `len` tokens.
    pub(super) fn cut(&mut self, slot: usize, len: usize) {
        self.slots[slot].tokens.truncate(len);
    }

    /// Number of tokens in the slot: the position of the next one.
    pub(super) fn len(&self, slot: usize) -> usize {
        self.slots[slot].tokens.len()
    }

    /// Notes that the slot is empty.
    pub(super) fn clear(&mut self, slot: usize) {
        self.slots[slot].tokens.clear();
    }

    /// Ends the answer in the slot; its tokens stay until the slot is given away.
    pub(super) fn release(&mut self, slot: usize) {
        self.slots[slot].busy = false;
    }
}

/// How many tokens two sequences have in common at their beginning.
fn common(a: &[LlamaToken], b: &[LlamaToken]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: std::ops::Range<i32>) -> Vec<LlamaToken> {
        ids.map(LlamaToken).collect()
    }

    /// Reads a prompt and leaves it as a kept prefix.
    fn keep(slots: &mut Slots, prompt: &[LlamaToken]) -> Placement {
        let placement = slots.place(prompt, None, true).expect("room");
        slots.extend(placement.slot, &prompt[placement.reused..]);
        slots.release(placement.slot);
        placement
    }

    #[test]
    fn a_longer_conversation_continues_in_place() {
        let mut slots = Slots::new(2, 64);
        assert_eq!(keep(&mut slots, &tokens(0..10)).reused, 0);
        let next = slots.place(&tokens(0..15), None, true).expect("room");
        assert_eq!(next, Placement { slot: 0, copy_from: None, reused: 10 });
    }

    #[test]
    fn a_common_beginning_is_copied_and_its_owner_kept() {
        let mut slots = Slots::new(2, 64);
        keep(&mut slots, &tokens(0..20));
        let mut other = tokens(0..5);
        other.extend(tokens(50..60));
        let next = slots.place(&other, None, true).expect("room");
        assert_eq!(next, Placement { slot: 1, copy_from: Some(0), reused: 5 });
        assert_eq!(slots.len(0), 20);
    }

    #[test]
    fn a_copy_that_saves_little_is_not_made() {
        let mut slots = Slots::new(2, 640);
        keep(&mut slots, &tokens(0..30));
        let mut other = tokens(0..9);
        other.extend(tokens(50..60));
        assert_eq!(keep(&mut slots, &other), Placement { slot: 1, copy_from: None, reused: 0 });
        // Slot 1 has nine tokens by itself; one more from slot 0 is not worth it.
        let mut third = tokens(0..10);
        third.extend(tokens(70..80));
        assert_eq!(slots.place(&third, None, true).expect("room"), Placement { slot: 1, copy_from: None, reused: 9 });
    }

    #[test]
    fn the_last_token_of_a_prompt_is_always_computed() {
        let mut slots = Slots::new(1, 64);
        keep(&mut slots, &tokens(0..10));
        assert_eq!(slots.place(&tokens(0..10), None, true).expect("room").reused, 9);
    }

    #[test]
    fn a_busy_answer_lends_its_prefix() {
        let mut slots = Slots::new(2, 64);
        let first = slots.place(&tokens(0..10), None, true).expect("room");
        slots.extend(first.slot, &tokens(0..10));
        let second = slots.place(&tokens(0..12), None, true).expect("room");
        assert_eq!(second, Placement { slot: 1, copy_from: Some(0), reused: 10 });
    }

    #[test]
    fn the_longest_unused_slot_is_given_away_first() {
        let mut slots = Slots::new(3, 64);
        for start in [0, 100, 200, 0] {
            keep(&mut slots, &tokens(start..start + 20));
        }
        let next = slots.place(&tokens(300..320), None, true).expect("room");
        assert_eq!(next, Placement { slot: 1, copy_from: None, reused: 0 });
        assert_eq!((slots.len(0), slots.len(2)), (20, 20));
    }

    #[test]
    fn a_prompt_waits_while_every_slot_is_busy() {
        let mut slots = Slots::new(2, 64);
        assert!(slots.place(&tokens(0..10), None, true).is_some());
        assert!(slots.place(&tokens(20..30), None, true).is_some());
        assert_eq!(slots.place(&tokens(40..41), None, true), None);
        slots.release(0);
        assert_eq!(slots.place(&tokens(40..41), None, true).expect("room").slot, 0);
    }

    #[test]
    fn reuse_can_be_switched_off() {
        let mut slots = Slots::new(1, 64);
        keep(&mut slots, &tokens(0..10));
        let next = slots.place(&tokens(0..15), None, false).expect("room");
        assert_eq!(next, Placement { slot: 0, copy_from: None, reused: 0 });
    }

    #[test]
    fn what_one_adapter_computed_is_of_no_use_to_another() {
        let mut slots = Slots::new(3, 64);
        let mut read = |adapter: Option<usize>| {
            let placement = slots.place(&tokens(0..20), adapter, true).expect("room");
            slots.extend(placement.slot, &tokens(0..20)[placement.reused..]);
            slots.release(placement.slot);
            (placement.slot, placement.copy_from, placement.reused)
        };
        assert_eq!([None, Some(0), Some(1)].map(&mut read), [(0, None, 0), (1, None, 0), (2, None, 0)]);
        assert_eq!([Some(1), Some(0), None].map(&mut read), [(2, None, 19), (1, None, 19), (0, None, 19)]);
        // Its place is taken by another: the tokens are read anew.
        assert_eq!(read(Some(2)), (2, None, 0));
        assert_eq!(read(Some(2)), (2, None, 19));
    }

    proptest::proptest! {
        /// Whatever comes and goes: an answer is never displaced, reused tokens are the prompt's, and they were where
        /// the placement says, computed by the same adapter.
        #[test]
        fn placements_hold_what_they_say(
            cells in proptest::sample::select(vec![64usize, 320]),
            steps in proptest::collection::vec(
                (0u8..4, 1usize..30, 0i32..3, 0usize..4, proptest::option::of(0usize..2)), 1..60),
        ) {
            let mut slots = Slots::new(4, cells);
            for (kind, len, family, slot, adapter) in steps {
                if kind == 0 {
                    slots.release(slot);
                    continue;
                }
                let len = i32::try_from(len).expect("small");
                let prompt = tokens(family * 7..family * 7 + len);
                let before: Vec<(Vec<LlamaToken>, Option<usize>, bool)> =
                    slots.slots.iter().map(|s| (s.tokens.clone(), s.adapter, s.busy)).collect();
                let Some(p) = slots.place(&prompt, adapter, true) else {
                    proptest::prop_assert!(before.iter().all(|(_, _, busy)| *busy));
                    continue;
                };
                proptest::prop_assert!(!before[p.slot].2 && p.copy_from != Some(p.slot));
                proptest::prop_assert!(p.reused < prompt.len());
                let (there, by, _) = &before[p.copy_from.unwrap_or(p.slot)];
                proptest::prop_assert!(there.starts_with(&prompt[..p.reused]));
                proptest::prop_assert!(p.reused == 0 || *by == adapter);
                proptest::prop_assert_eq!(&slots.slots[p.slot].tokens[..], &prompt[..p.reused]);
                proptest::prop_assert_eq!(slots.slots[p.slot].adapter, adapter);
                for (i, (tokens, by, busy)) in before.iter().enumerate().filter(|(i, _)| *i != p.slot) {
                    let now = &slots.slots[i];
                    proptest::prop_assert_eq!((&now.tokens, &now.adapter, &now.busy), (tokens, by, busy));
                }
                slots.extend(p.slot, &prompt[p.reused..]);
            }
        }
    }
}
