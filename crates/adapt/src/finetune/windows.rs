//! Long texts: cut, or read in windows.

use serde::{Deserialize, Serialize};

/// What becomes of a text that is longer than the encoder reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongTexts {
    /// Its beginning is read.
    Cut,
    /// It is read in windows that overlap by a quarter; the text's vector is the mean of theirs.
    Windows {
        /// Most windows of a text: the first ones.
        most: usize,
    },
}

/// Cuts the ids of a whole text, special tokens at both ends included, into windows of at most `max_tokens`, each with
/// the same opening and closing token.
#[must_use]
pub fn windows(ids: &[u32], max_tokens: usize, long: LongTexts) -> Vec<Vec<u32>> {
    if ids.len() <= max_tokens || max_tokens < 3 {
        return vec![ids[..ids.len().min(max_tokens.max(1))].to_vec()];
    }
    let (opening, closing) = (ids[0], ids[ids.len() - 1]);
    let inner = &ids[1..ids.len() - 1];
    let room = max_tokens - 2;
    let most = match long {
        LongTexts::Cut => 1,
        LongTexts::Windows { most } => most.max(1),
    };
    let step = (room - room / 4).max(1);
    let mut found = Vec::new();
    let mut from = 0;
    loop {
        let to = (from + room).min(inner.len());
        found.push([&[opening], &inner[from..to], &[closing]].concat());
        if to == inner.len() || found.len() == most {
            return found;
        }
        from += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_text_overlap_and_keep_the_special_tokens() {
        let ids: Vec<u32> = std::iter::once(101).chain(0..50).chain([102]).collect();
        assert_eq!(windows(&ids, 64, LongTexts::Cut), std::slice::from_ref(&ids));
        let cut = windows(&ids, 12, LongTexts::Cut);
        assert_eq!(cut, [[101, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 102].to_vec()]);
        let all = windows(&ids, 12, LongTexts::Windows { most: 100 });
        assert!(all.iter().all(|w| w.len() <= 12 && w[0] == 101 && w[w.len() - 1] == 102));
        let mut seen: Vec<u32> = all.iter().flat_map(|w| w[1..w.len() - 1].to_vec()).collect();
        assert!(seen.len() > 50);
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.into_iter().eq(0..50));
        assert_eq!(windows(&ids, 12, LongTexts::Windows { most: 2 }).len(), 2);
    }
}
