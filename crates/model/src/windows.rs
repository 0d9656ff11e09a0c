//! Long texts: cut, or read in windows that overlap by a quarter. The vector of a text is the mean of its windows' vectors.

/// Tokens that the windows of a text hold together, special ones counted once: what is read of a long text.
#[must_use]
pub(crate) fn readable(max_tokens: usize, most: usize) -> usize {
    let room = max_tokens.saturating_sub(2);
    max_tokens.saturating_add(most.saturating_sub(1).saturating_mul(step(room)))
}

/// Cuts the ids of a text, one special token at either end included, into at most `most` windows of at most `max_tokens`
/// (3 or more), each with the same opening and closing token.
#[must_use]
pub(crate) fn windows(ids: Vec<u32>, max_tokens: usize, most: usize) -> Vec<Vec<u32>> {
    if ids.len() <= max_tokens || max_tokens < 3 {
        return vec![ids];
    }
    let (opening, closing) = (ids[0], ids[ids.len() - 1]);
    let inner = &ids[1..ids.len() - 1];
    let room = max_tokens - 2;
    let mut found = Vec::new();
    let mut from = 0;
    loop {
        let to = (from + room).min(inner.len());
        found.push([&[opening], &inner[from..to], &[closing]].concat());
        if to == inner.len() || found.len() == most.max(1) {
            return found;
        }
        from += step(room);
    }
}

/// From one window's beginning to the next one's.
fn step(room: usize) -> usize {
    (room - room / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_text_overlap_and_keep_the_special_tokens() {
        let ids: Vec<u32> = std::iter::once(101).chain(0..50).chain([102]).collect();
        assert_eq!(windows(ids.clone(), 64, 9), std::slice::from_ref(&ids));
        let cut = windows(ids.clone(), 12, 1);
        assert_eq!(cut, [[101, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 102].to_vec()]);
        let all = windows(ids.clone(), 12, 100);
        assert!(all.iter().all(|w| w.len() <= 12 && w[0] == 101 && w[w.len() - 1] == 102));
        let mut seen: Vec<u32> = all.iter().flat_map(|w| w[1..w.len() - 1].to_vec()).collect();
        assert!(seen.len() > 50);
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.into_iter().eq(0..50));
        assert_eq!(windows(ids, 12, 2).len(), 2);
    }

    #[test]
    fn what_is_readable_fills_the_windows() {
        for (max_tokens, most) in [(12, 1), (12, 3), (3, 5), (256, 8)] {
            let n = readable(max_tokens, most);
            let all = windows((0..u32::try_from(n).unwrap()).collect(), max_tokens, most);
            assert_eq!((all.len(), all.last().map(Vec::len)), (most, Some(max_tokens)));
        }
    }
}
