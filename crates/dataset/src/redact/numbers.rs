//! Runs of digits in groups, and the numbers that check digits give away: cards, social security, national numbers.

use super::{FILLER, checks, is_word};

/// Digits side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// First byte.
    pub(super) start: usize,
    /// Behind the last digit.
    pub(super) end: usize,
    /// What stands between the group before and this one, in the same run: the first separator; 0 where a run begins.
    pub(super) joint: u8,
}

impl Group {
    pub(super) fn len(self) -> usize {
        self.end - self.start
    }
}

/// Most digits of a group that anything here is made of.
const LONGEST: usize = 19;

/// Groups of digits that stand together: one or two separators between them (a space, a dash, a full stop, a slash,
/// brackets). A group that touches a letter ends its run and is in none.
pub(super) fn runs(bytes: &[u8]) -> Vec<Vec<Group>> {
    let mut runs: Vec<Vec<Group>> = Vec::new();
    let mut at = 0;
    // Where the last group ended, while its run may go on.
    let mut open: Option<usize> = None;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && bytes[at].is_ascii_digit() {
            at += 1;
        }
        // An `x` behind a number is its extension.
        let touches = |byte: Option<&u8>| byte.is_some_and(|b| is_word(*b) || *b == b'_');
        let extension = matches!(bytes.get(at), Some(b'x' | b'X')) && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if at - start > LONGEST || start > 0 && touches(bytes.get(start - 1)) || touches(bytes.get(at)) && !extension {
            open = None;
            continue;
        }
        let joint = open.and_then(|end| joint(&bytes[end..start]));
        let group = Group { start, end: at, joint: joint.unwrap_or(0) };
        match (joint, runs.last_mut()) {
            (Some(_), Some(run)) => run.push(group),
            _ => runs.push(vec![group]),
        }
        open = (!extension).then_some(at);
    }
    runs
}

/// The separator between two groups; `None` where they do not belong together.
fn joint(between: &[u8]) -> Option<u8> {
    let mut separators = between.iter().copied().filter(|byte| *byte != FILLER);
    let first = separators.next()?;
    let fits = |byte: u8| b" -./()".contains(&byte);
    let count = 1 + separators.clone().count();
    (fits(first) && separators.all(fits) && count <= 3).then_some(first)
}

/// The digits of groups, one after the other.
fn digits(bytes: &[u8], groups: &[Group]) -> Vec<u8> {
    groups.iter().flat_map(|group| &bytes[group.start..group.end]).copied().collect()
}

/// Windows of a run for which `is` holds, the longest at each place, none overlapping.
fn windows(bytes: &[u8], most_groups: usize, is: impl Fn(&[Group], &[u8]) -> bool) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for run in runs(bytes) {
        let mut from = 0;
        while from < run.len() {
            let to = (from + 1..=run.len().min(from + most_groups))
                .rev()
                .find(|&to| is(&run[from..to], &digits(bytes, &run[from..to])));
            if let Some(to) = to {
                found.push((run[from].start, run[to - 1].end));
            }
            from = to.unwrap_or(from + 1);
        }
    }
    found
}

/// Whether one of `words` stands in the 40 bytes before `start`.
fn says(bytes: &[u8], start: usize, words: &[&[u8]]) -> bool {
    let before = bytes[start.saturating_sub(40)..start].to_ascii_lowercase();
    words.iter().any(|word| before.windows(word.len()).any(|w| w == *word))
}

/// Payment cards.
pub(super) fn cards(bytes: &[u8]) -> Vec<(usize, usize)> {
    windows(bytes, 5, |groups, digits| {
        let joined =
            groups[1..].iter().all(|group| matches!(group.joint, b' ' | b'-') && group.joint == groups[1].joint);
        // In groups, a card has three to seven digits in each: a list of small numbers is none.
        let grouped =
            groups.len() == 1 || groups.iter().all(|group| (3..=7).contains(&group.len())) && groups[0].len() == 4;
        let start = groups[0].start;
        let issuer = matches!(digits[0], b'2'..=b'6')
            || digits.starts_with(b"1800")
            || digits.starts_with(b"81")
            || says(bytes, start, &[b"card", b"visa", b"maestro"]);
        // A country code is dialled.
        let issuer = issuer && !bytes[..start].ends_with(b"+");
        (12..=19).contains(&digits.len()) && joined && grouped && issuer && checks::luhn(digits)
    })
}

/// Social security numbers of the United States: three, two and four digits; without separators only where the words
/// before say what it is.
pub(super) fn social_security(bytes: &[u8]) -> Vec<(usize, usize)> {
    let named = |start: usize| says(bytes, start, &[b"ssn", b"social security"]);
    windows(bytes, 3, |groups, digits| {
        let written = match groups {
            [group] => group.len() == 9 && named(group.start),
            [a, b, c] => {
                (a.len(), b.len(), c.len()) == (3, 2, 4)
                    && b.joint == c.joint
                    && (b.joint == b'-' || b.joint == b' ' && named(a.start))
            }
            _ => false,
        };
        // Area 000, 666 and 900 to 999, group 00 and serial 0000 were never given.
        written
            && digits[0] != b'9'
            && !matches!(&digits[..3], b"000" | b"666")
            && &digits[3..5] != b"00"
            && &digits[5..] != b"0000"
    })
}

/// National numbers.
pub(super) fn national(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = windows(bytes, 7, |groups, digits| {
        let joints: Vec<u8> = groups[1..].iter().map(|group| group.joint).collect();
        match digits.len() {
            // One in a hundred numbers of eleven digits fits; a telephone number may.
            11 => (joints == *b"..-" || says(bytes, groups[0].start, &[b"cpf"])) && checks::cpf(digits),
            15 => joints.iter().all(|joint| *joint == b' ') && checks::nir(digits),
            _ => false,
        }
    });
    found.extend(spanish(bytes));
    found
}

/// Eight digits and a letter, or X, Y or Z, seven digits and a letter.
fn spanish(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !is_word(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && (is_word(bytes[at]) || bytes[at] == b'-') {
            at += 1;
        }
        let end = at - bytes[start..at].iter().rev().take_while(|b| **b == b'-').count();
        if !(9..=11).contains(&(end - start)) {
            continue;
        }
        let mut plain: Vec<u8> = bytes[start..end].iter().copied().filter(|b| *b != b'-').collect();
        if plain.len() != 9 {
            continue;
        }
        if let first @ b'X'..=b'Z' = plain[0].to_ascii_uppercase() {
            plain[0] = first - b'X' + b'0';
        }
        let number = plain[..8]
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| plain[..8].iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')));
        if number.is_some_and(|number| plain[8].is_ascii_alphabetic() && checks::dni(number, plain[8])) {
            found.push((start, end));
        }
    }
    found
}
