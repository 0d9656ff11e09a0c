//! Text to token ids, cut to what the model reads.
//!
//! Padding and truncation that `tokenizer.json` may carry are switched off: the encoder needs no padding, and how much
//! a model reads is the caller's choice. A long text costs no more than its readable beginning, or [`MOST_BYTES`] for each
//! token of that where it has no white space. BERT's own WordPiece is cut by [`Pieces`], tens of times faster than by the
//! `tokenizers` crate and token for token the same.

use crate::windows::{readable, windows};
use crate::wordpiece::Pieces;
use std::ops::Range;
use std::path::Path;
use understudy_core::{Error, Result};

/// Bytes of a text that are looked at for each token that can be read; what follows is cut off, in a word if need be.
const MOST_BYTES: usize = 64;

/// A text as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<u32>,
    /// Windows after the first.
    more: Vec<Vec<u32>>,
    truncated: bool,
}

impl Tokens {
    /// Wraps ids that some other tokeniser made, special tokens included.
    ///
    /// # Errors
    /// `Invalid` when there are none.
    pub fn from_ids(ids: Vec<u32>) -> Result<Self> {
        if ids.is_empty() {
            return Err(Error::invalid("embed a text of no tokens: give at least one"));
        }
        Ok(Self { ids, more: Vec::new(), truncated: false })
    }

    /// The ids of the first window, special tokens included: all that is read, where texts are cut.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The ids of each window, special tokens included; at least one window.
    pub fn windows(&self) -> impl Iterator<Item = &[u32]> {
        std::iter::once(&self.ids).chain(&self.more).map(Vec::as_slice)
    }

    /// As [`Self::windows`].
    #[must_use]
    pub fn into_windows(self) -> Vec<Vec<u32>> {
        std::iter::once(self.ids).chain(self.more).collect()
    }

    /// Number of tokens in all windows, special ones included.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always at least one token")]
    pub fn len(&self) -> usize {
        self.windows().map(<[u32]>::len).sum()
    }

    /// True when the text went on after the last token.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Position of its first token.
    pub first: usize,
    /// Where it stands in the text.
    pub bytes: Range<usize>,
}

/// A whole text as tokens and the words that they are pieces of. Words are what the tokeniser splits a text into before
/// it looks at its vocabulary: for BERT at white space and around punctuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// The ids, special tokens included.
    pub ids: Vec<u32>,
    /// The words, in order.
    pub words: Vec<Word>,
}

/// As many words as are read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The ids, special tokens included.
    pub ids: Vec<u32>,
    /// Position of each word's first token.
    pub firsts: Vec<usize>,
}

impl Words {
    /// Cuts the tokens into windows of at most `max_tokens` (3 or more), each with the special tokens at its ends, one
    /// after the other, no word in two of them. Of a word that is longer than a window the beginning is read.
    #[must_use]
    pub fn windows(&self, max_tokens: usize) -> Vec<Window> {
        let (Some(opening), Some(closing)) = (self.ids.first(), self.ids.last()) else { return Vec::new() };
        let room = max_tokens.max(3) - 2;
        let end = self.ids.len() - 1;
        let mut windows: Vec<Window> = Vec::new();
        for (i, word) in self.words.iter().enumerate() {
            let to = self.words.get(i + 1).map_or(end, |next| next.first).min(word.first + room);
            let pieces = &self.ids[word.first..to.max(word.first)];
            if windows.last().is_none_or(|window| window.ids.len() - 1 + pieces.len() > room) {
                windows.push(Window { ids: vec![*opening], firsts: Vec::new() });
            }
            let window = windows.last_mut().expect("one was just added when there was none");
            window.firsts.push(window.ids.len());
            window.ids.extend(pieces);
        }
        windows.iter_mut().for_each(|window| window.ids.push(*closing));
        windows
    }
}

/// A model's tokeniser with its limit.
pub struct Tokenizer {
    pieces: Pieces,
    /// What stands around every text, where that is the same for all texts (`[CLS]` and `[SEP]`); `None` leaves texts to
    /// the `tokenizers` crate as a whole.
    around: Option<Around>,
    max_tokens: usize,
    most_windows: usize,
    /// Tokens that are made of a text before they are laid out in windows.
    readable: usize,
}

/// The special tokens before and after a text.
struct Around {
    opening: Vec<u32>,
    closing: Vec<u32>,
}

impl Around {
    /// Looks at what becomes of a few texts; `None` when the tokens in between are not those of the text alone.
    fn of(inner: &tokenizers::Tokenizer) -> Option<Self> {
        let mut found: Option<Self> = None;
        for probe in ["", "a", "the quick brown fox, 1 é"] {
            let (alone, whole) = (inner.encode_fast(probe, false).ok()?, inner.encode_fast(probe, true).ok()?);
            let (alone, whole, special) = (alone.get_ids(), whole.get_ids(), whole.get_special_tokens_mask());
            let added = whole.len().checked_sub(alone.len())?;
            // Without a text one end cannot be told from the other: that probe only confirms.
            let opening = match &found {
                Some(around) => around.opening.len(),
                None if alone.is_empty() => continue,
                None => special.iter().take_while(|special| **special == 1).count().min(added),
            };
            let (opening, rest) = whole.split_at_checked(opening)?;
            let (middle, closing) = rest.split_at_checked(alone.len())?;
            let (opening, closing) = (opening.to_vec(), closing.to_vec());
            let agrees = found.as_ref().is_none_or(|around| around.opening == opening && around.closing == closing);
            if middle != alone || !agrees {
                return None;
            }
            found = Some(Self { opening, closing });
        }
        found
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; `max_tokens` counts special tokens too.
    ///
    /// # Errors
    /// `Data` when it cannot be read.
    pub fn load(file: &Path, max_tokens: usize) -> Result<Self> {
        let pieces = Pieces::load(file)?;
        let around = if pieces.is_fast() { Around::of(pieces.crates()) } else { None };
        Ok(Self { pieces, around, max_tokens, most_windows: 1, readable: max_tokens })
    }

    /// The same, which reads longer texts in at most so many windows of `max_tokens`, each overlapping the one before it by a
    /// quarter; 1 cuts them.
    #[must_use]
    pub fn with_windows(self, most: usize) -> Self {
        let most_windows = most.max(1);
        Self { most_windows, readable: readable(self.max_tokens, most_windows), ..self }
    }

    /// Largest id it can produce, plus one.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.pieces.vocabulary()
    }

    /// The most tokens of a window.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The most windows of a text.
    #[must_use]
    pub fn most_windows(&self) -> usize {
        self.most_windows
    }

    /// Tokenises the beginning of `text`, as much of it as the windows hold.
    ///
    /// # Errors
    /// `Data` when the tokeniser cannot represent the text.
    pub fn tokenize(&self, text: &str) -> Result<Tokens> {
        let most = text.floor_char_boundary(self.readable.saturating_mul(MOST_BYTES));
        let goes_on = most < text.len();
        let text = &text[..most];
        // Most words of most languages take fewer bytes than this for each token, so one try is the rule.
        let mut bytes = self.readable.saturating_mul(8);
        loop {
            let head = readable_head(text, bytes);
            let mut tokens = match &self.around {
                Some(around) => self.between(around, head)?,
                None => self.by_crate(head)?,
            };
            if tokens.truncated || head.len() == text.len() {
                tokens.truncated |= goes_on;
                return Ok(self.laid_out(tokens));
            }
            bytes = bytes.saturating_mul(2);
        }
    }

    /// Tokenises all of `text`, whatever the limit, and says where its words are.
    ///
    /// # Errors
    /// `Data` when the tokeniser cannot represent the text.
    pub fn words(&self, text: &str) -> Result<Words> {
        let encoding = self.pieces.crates().encode(text, true);
        let encoding = encoding.map_err(|e| Error::data(format!("tokenise a text of {} bytes: {e}", text.len())))?;
        let mut words: Vec<Word> = Vec::new();
        let mut open = None;
        for (first, (id, (from, to))) in encoding.get_word_ids().iter().zip(encoding.get_offsets()).enumerate() {
            match id {
                Some(id) if open == Some(*id) => {
                    if let Some(word) = words.last_mut() {
                        word.bytes.end = *to;
                    }
                }
                Some(_) => words.push(Word { first, bytes: *from..*to }),
                None => {}
            }
            open = *id;
        }
        Ok(Words { ids: encoding.get_ids().to_vec(), words })
    }

    fn laid_out(&self, Tokens { ids, truncated, .. }: Tokens) -> Tokens {
        let mut windows = windows(ids, self.max_tokens, self.most_windows).into_iter();
        Tokens { ids: windows.next().unwrap_or_default(), more: windows.collect(), truncated }
    }

    /// The fast way.
    fn between(&self, around: &Around, head: &str) -> Result<Tokens> {
        let mut ids = Vec::with_capacity(self.readable.min(head.len() / 2) + 8);
        ids.extend_from_slice(&around.opening);
        self.pieces.ids(head, &mut ids)?;
        let closing = around.closing.len().min(self.readable);
        let truncated = ids.len() + around.closing.len() > self.readable;
        if truncated {
            ids.truncate(self.readable - closing);
        }
        ids.extend_from_slice(&around.closing[around.closing.len() - closing..]);
        Ok(Tokens { ids, more: Vec::new(), truncated })
    }

    /// The way of the `tokenizers` crate. Cuts out of the middle: what the tokeniser puts at the end (`[SEP]`) stays at
    /// the end.
    fn by_crate(&self, head: &str) -> Result<Tokens> {
        let encoding = self.pieces.crates().encode_fast(head, true);
        let encoding = encoding.map_err(|e| Error::data(format!("tokenise a text of {} bytes: {e}", head.len())))?;
        let ids = encoding.get_ids();
        if ids.len() <= self.readable {
            return Tokens::from_ids(ids.to_vec());
        }
        let closing = encoding.get_special_tokens_mask().iter().rev().take_while(|special| **special == 1).count();
        let closing = closing.min(self.readable);
        let mut kept = ids[..self.readable - closing].to_vec();
        kept.extend_from_slice(&ids[ids.len() - closing..]);
        Ok(Tokens { ids: kept, more: Vec::new(), truncated: true })
    }
}

/// About `bytes` of the beginning of `text`, ending at white space so that no word is cut: the tokens of the head are
/// the first tokens of the whole.
fn readable_head(text: &str, bytes: usize) -> &str {
    let mut limit = bytes;
    while limit < text.len() {
        let end = text.floor_char_boundary(limit);
        match text[..end].rfind(char::is_whitespace) {
            // A space in the first half only: the second half is one word, which only its end can tell.
            Some(space) if space > end / 2 => return &text[..space],
            _ => limit *= 2,
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(max_tokens: usize) -> Tokenizer {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encoder/bert/tokenizer.json");
        Tokenizer::load(Path::new(file), max_tokens).unwrap()
    }

    #[test]
    fn a_long_text_gives_the_first_tokens_of_the_whole_and_keeps_its_closing_token() {
        let words = ["red", "fish", "unseenword", "blue,", "x", "\n\n\t", "the"];
        let text: String = (0..5000).map(|i| format!("{} ", words[i * i % words.len()])).collect();
        let whole = tokenizer(usize::MAX / 16).tokenize(&text).unwrap();
        assert!(!whole.truncated());
        for max in [3, 8, 64, 300] {
            let cut = tokenizer(max).tokenize(&text).unwrap();
            assert!(cut.truncated() && cut.len() == max);
            assert_eq!(cut.ids()[..max - 1], whole.ids()[..max - 1]);
            assert_eq!(cut.ids().last(), whole.ids().last());
        }
    }

    #[test]
    fn a_short_text_is_whole_even_when_the_file_asks_for_padding() {
        let tokens = tokenizer(16).tokenize("red fish").unwrap();
        assert_eq!((tokens.len(), tokens.truncated()), (4, false));
    }

    /// Both ways on one text.
    fn both(tokenizer: &Tokenizer, text: &str) -> [Tokens; 2] {
        let around = tokenizer.around.as_ref().expect("a plain BERT tokeniser");
        [tokenizer.between(around, text).unwrap(), tokenizer.by_crate(text).unwrap()]
    }

    #[test]
    fn the_fast_way_gives_the_tokens_of_the_crate() {
        let odd = [
            "",
            " ",
            "red",
            "\u{0}\u{fffd}",
            "red\u{200b}fish",
            "e\u{301}té Été",
            "日本語 red 魚",
            "[SEP]",
            "red [SEP] fish [CLS]",
            "a[MASK]b",
            "don’t “quote” — dash…",
            "👩‍👩‍👧 fish",
            "İstanbul ı",
            "ﬁsh ﬂat",
            "\u{202e}red",
            "\u{feff}red\r\n\tfish\u{a0}fish",
            "ΣΑΣ straße ǅ",
            "ไทย हिन्दी العربية",
            "x\u{1d7d8}y",
            "##red",
        ];
        for max in [3, 4, 8, 64] {
            let tokenizer = tokenizer(max);
            for text in odd {
                let [fast, crates] = both(&tokenizer, text);
                assert_eq!(fast, crates, "{text:?} to {max}");
            }
        }
    }

    /// Recorded prompts of all kinds (exams, chats, formulas), as the installed MiniLM reads them.
    #[test]
    fn the_fast_way_gives_the_tokens_of_the_crate_on_real_texts() {
        #[expect(clippy::disallowed_methods, reason = "tests find installed models and data by the environment")]
        let from = |name: &str| std::env::var(name).unwrap_or_default();
        let file = Path::new(&from("HOME")).join(".understudy/models/minilm/tokenizer.json");
        let data = from("UNDERSTUDY_DATA");
        let data = if data.is_empty() { concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data") } else { &data };
        let folder = Path::new(data).join("outcomes/recorded");
        if !file.exists() || !folder.exists() {
            println!("skipped: needs an installed minilm and the recorded outcomes");
            return;
        }
        let tokenizer = Tokenizer::load(&file, 256).unwrap();
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|e| e == "zst")).collect();
        files.sort();
        let (mut texts, mut cut, mut foreign) = (0, 0, 0);
        for file in files {
            let raw = zstd::decode_all(std::fs::File::open(&file).unwrap()).unwrap();
            let prompts = raw.split(|byte| *byte == b'\n').step_by(5).filter_map(|line| {
                let row: serde_json::Value = serde_json::from_slice(line).ok()?;
                Some(row["prompt"].as_str()?.to_owned())
            });
            for text in prompts {
                let [fast, crates] = both(&tokenizer, &text);
                assert_eq!(fast, crates, "{text:?}");
                texts += 1;
                cut += usize::from(fast.truncated);
                foreign += usize::from(!text.is_ascii());
            }
        }
        println!("{texts} prompts: {cut} longer than 256 tokens, {foreign} with characters outside ASCII");
        assert!(texts > 1000 && cut > 0 && foreign > 0);
    }

    #[test]
    fn words_know_their_places_and_windows_hold_each_once() {
        let text = "The réd fish, unseenword swims";
        let words = tokenizer(64).words(text).unwrap();
        let found: Vec<&str> = words.words.iter().map(|word| &text[word.bytes.clone()]).collect();
        assert_eq!(found, ["The", "réd", "fish", ",", "unseenword", "swims"]);
        assert_eq!(words.ids, tokenizer(64).tokenize(text).unwrap().ids());
        for max in [3, 4, 5, 64] {
            let windows = words.windows(max);
            assert_eq!(windows.iter().map(|w| w.firsts.len()).sum::<usize>(), 6);
            for window in &windows {
                assert!(window.ids.len() <= max && window.firsts.iter().all(|f| *f > 0 && *f < window.ids.len() - 1));
                assert_eq!((window.ids[0], window.ids.last()), (words.ids[0], words.ids.last()));
            }
        }
        assert_eq!(words.windows(64)[0].ids, words.ids);
        assert!(tokenizer(64).words("").unwrap().windows(64).is_empty());
    }

    #[test]
    fn a_long_text_without_white_space_costs_its_beginning() {
        let tokenizer = tokenizer(8);
        let (one, text) = ("魚", "魚".repeat(1 << 20));
        let cut = tokenizer.tokenize(&text).unwrap();
        assert!(cut.truncated());
        assert_eq!(cut, tokenizer.tokenize(&one.repeat(400)).unwrap());
        // One word to the tokeniser, which ends after all that is looked at.
        let cut = tokenizer.tokenize(&"a".repeat(8 * MOST_BYTES + 1)).unwrap();
        assert_eq!((cut.truncated(), cut.ids()), (true, tokenizer.tokenize(&"a".repeat(400)).unwrap().ids()));
    }

    #[test]
    fn the_head_never_cuts_a_word() {
        assert_eq!(readable_head("aa bb cc dd", 7), "aa bb");
        assert_eq!(readable_head("a bbbbbbbbbbbbbb", 4), "a bbbbbbbbbbbbbb");
        assert_eq!(readable_head("short", 100), "short");
    }
}
