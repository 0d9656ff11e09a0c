//! From token bytes to text that may be shown: UTF-8 is held back until a character is complete, and text is held
//! back while it may still turn out to be the beginning of a stop sequence.

/// What a push brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Go on.
    More,
    /// A stop sequence was met; the answer is over.
    Stopped,
}

/// Collects one answer.
#[derive(Debug, Default)]
pub(super) struct Emitter {
    stops: Vec<String>,
    /// Bytes at the end that do not form a character yet.
    partial: Vec<u8>,
    /// Characters that may still become a stop sequence.
    held: String,
    /// All text released so far.
    text: String,
    /// How much of `text` was taken by [`Emitter::take_delta`].
    taken: usize,
}

impl Emitter {
    /// Empty stop sequences never match and are ignored.
    pub(super) fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().filter(|s| !s.is_empty()).cloned().collect(), ..Self::default() }
    }

    /// Adds the bytes of one token.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Progress {
        self.partial.extend_from_slice(bytes);
        let complete = decode(&mut self.partial, &mut self.held);
        if complete == 0 {
            return Progress::More;
        }
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.text.push_str(&self.held[..at]);
            self.held.clear();
            self.partial.clear();
            return Progress::Stopped;
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let release = self.held.len() - keep;
        self.text.extend(self.held.drain(..release));
        Progress::More
    }

    /// Ends the answer without a stop sequence: what was held back is part of it after all. A character that never
    /// became complete turns into U+FFFD.
    pub(super) fn finish(&mut self) {
        self.text.push_str(&self.held);
        self.held.clear();
        if !self.partial.is_empty() {
            self.text.push_str(&String::from_utf8_lossy(&self.partial));
            self.partial.clear();
        }
    }

    /// Text released since the last call.
    pub(super) fn take_delta(&mut self) -> &str {
        let from = std::mem::replace(&mut self.taken, self.text.len());
        &self.text[from..]
    }

    /// All text released so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// Moves all complete characters from `bytes` to `text`, invalid bytes as U+FFFD; returns how many bytes it moved.
fn decode(bytes: &mut Vec<u8>, text: &mut String) -> usize {
    let mut done = 0;
    loop {
        match std::str::from_utf8(&bytes[done..]) {
            Ok(valid) => {
                text.push_str(valid);
                done = bytes.len();
                break;
            }
            Err(error) => {
                let valid = done + error.valid_up_to();
                text.push_str(std::str::from_utf8(&bytes[done..valid]).expect("checked up to here"));
                done = valid;
                match error.error_len() {
                    Some(bad) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        done += bad;
                    }
                    None => break,
                }
            }
        }
    }
    bytes.drain(..done);
    done
}

/// Length in bytes of the longest end of `text` that is a proper beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices().map(|(at, _)| at).rev().find(|&at| text.ends_with(&stop[..at])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, String, Progress) {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let mut emitter = Emitter::new(&stops);
        let mut deltas = Vec::new();
        let mut end = Progress::More;
        for piece in pieces {
            end = emitter.push(piece);
            deltas.push(emitter.take_delta().to_owned());
            if end == Progress::Stopped {
                break;
            }
        }
        if end == Progress::More {
            emitter.finish();
            deltas.push(emitter.take_delta().to_owned());
        }
        (deltas, emitter.text().to_owned(), end)
    }

    #[test]
    fn a_character_split_over_tokens_appears_once_it_is_complete() {
        let (deltas, text, _) = run(&[], &[b"a\xE2", b"\x82", b"\xAC!"]);
        assert_eq!(deltas, ["a", "", "€!", ""]);
        assert_eq!(text, "a€!");
    }

    #[test]
    fn bytes_that_are_no_text_become_replacement_characters() {
        let (_, text, _) = run(&[], &[b"a\xFFb", b"\xE2"]);
        assert_eq!(text, "a\u{FFFD}b\u{FFFD}");
    }

    #[test]
    fn no_part_of_a_stop_sequence_is_released() {
        let (deltas, text, end) = run(&["</end>"], &[b"hi </", b"en", b"d> more"]);
        assert_eq!(deltas, ["hi ", "", ""]);
        assert_eq!((text.as_str(), end), ("hi ", Progress::Stopped));
    }

    #[test]
    fn text_that_only_looked_like_a_stop_sequence_is_released() {
        let (_, text, end) = run(&["</end>"], &[b"a </e", b"m> b</"]);
        assert_eq!((text.as_str(), end), ("a </em> b</", Progress::More));
    }

    #[test]
    fn the_earliest_of_several_stop_sequences_counts() {
        let (_, text, _) = run(&["later", "now", ""], &[b"x now later"]);
        assert_eq!(text, "x ");
    }

    #[test]
    fn overlap_finds_the_longest_beginning() {
        assert_eq!(overlap("aab", "abc"), 2);
        assert_eq!(overlap("aaa", "aab"), 2);
        assert_eq!(overlap("xyz", "abc"), 0);
        assert_eq!(overlap("…é", "éa"), "é".len());
    }

    proptest::proptest! {
        /// However the tokens fall, the text is the whole text up to the first stop sequence.
        #[test]
        fn cutting_into_tokens_does_not_change_the_answer(text in "[abé€]{0,40}", cuts in proptest::collection::vec(0usize..60, 0..12), stop in "[abé]{1,3}") {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|c| *c < bytes.len()).collect();
            cuts.sort_unstable();
            let mut emitter = Emitter::new(std::slice::from_ref(&stop));
            let (mut from, mut stopped) = (0, false);
            for to in cuts.into_iter().chain([bytes.len()]) {
                if emitter.push(&bytes[from..to]) == Progress::Stopped {
                    stopped = true;
                    break;
                }
                from = to;
            }
            if !stopped {
                emitter.finish();
            }
            let want = text.find(&stop).map_or(text.as_str(), |at| &text[..at]);
            proptest::prop_assert_eq!(emitter.text(), want);
        }
    }
}
