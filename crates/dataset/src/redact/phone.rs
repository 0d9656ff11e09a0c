//! Telephone numbers. They have no check digits: what tells them apart is how they are grouped, a trunk or country
//! prefix, and the words in front of them.

use super::numbers::{Group, runs};

/// Most groups of a number.
const GROUPS: usize = 8;
/// Bytes before a number in which words are looked for.
const BEFORE: usize = 48;

/// What the words in front of a number say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    Phone,
    Other,
    Nothing,
}

/// Telephone numbers, with their extension.
pub(super) fn phones(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for run in runs(bytes) {
        // More digits than any number has, all joined alike: a long code in groups, not several numbers.
        let crowded = run.iter().map(|group| group.len()).sum::<usize>() > 15
            && run[1..].windows(2).all(|pair| pair[0].joint == pair[1].joint);
        let mut from = 0;
        while from < run.len() {
            let most = run.len().min(from + GROUPS);
            if let Some(to) = (from + 1..=most).rev().find(|&to| is_date(bytes, &run[from..to])) {
                from = to;
                continue;
            }
            let start = start(bytes, run[from].start);
            let context = match context(bytes, start) {
                Context::Nothing if crowded => Context::Other,
                context => context,
            };
            let to = (from + 1..=most).rev().find(|&to| {
                let context = if says_phone_behind(bytes, run[to - 1].end) { Context::Phone } else { context };
                is_phone(bytes, start, &run[from..to], context)
            });
            if let Some(to) = to {
                found.push((start, extension(bytes, run[to - 1].end)));
            }
            from = to.unwrap_or(from + 1);
        }
    }
    found
}

/// The place of a `+` or an opening bracket in front.
fn start(bytes: &[u8], first: usize) -> usize {
    let before = &bytes[..first];
    if before.ends_with(b"+(") || before.ends_with(b"(+") {
        first - 2
    } else if before.ends_with(b"+") || before.ends_with(b"(") {
        first - 1
    } else {
        first
    }
}

fn is_phone(bytes: &[u8], start: usize, groups: &[Group], context: Context) -> bool {
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let n: usize = lengths.iter().sum();
    let inside = |at: usize| at > 0 && bytes[at - 1].is_ascii_digit();
    let amount_before = match start.checked_sub(1).map(|at| bytes[at]) {
        Some(b'$' | b'#' | b'=') => true,
        Some(b'.' | b',') => inside(start - 1),
        _ => false,
    };
    if !(7..=15).contains(&n) || amount_before {
        return false;
    }
    let prefix = &bytes[start..groups[0].start];
    if prefix.contains(&b'+') {
        return n >= 8;
    }
    let digit = |at: usize| bytes.get(groups[0].start + at).copied().unwrap_or(0);
    let slash = groups[1..].iter().filter(|group| group.joint == b'/').count();
    // 1.000.000 is an amount.
    let amount = lengths.len() > 1
        && lengths[0] <= 3
        && lengths[1..].iter().all(|length| *length == 3)
        && groups[1..].iter().all(|group| group.joint == b'.');
    if amount || slash > 1 {
        return false;
    }
    let inner = || lengths.iter().all(|length| (2..=4).contains(length));
    match context {
        Context::Phone => lengths.len() == 1 || lengths.iter().all(|length| *length >= 2) || n >= 10 && lengths[0] == 1,
        Context::Other => false,
        Context::Nothing => match lengths.as_slice() {
            // A trunk prefix and nothing else.
            [_] => digit(0) == b'0' && (9..=12).contains(&n) && digit(1) != b'0',
            [3, 4] => groups[1].joint == b'-' && digit(0) > b'1',
            [3, 3, 4] | [1, 3, 3, 4] => n == 10 || digit(0) == b'1',
            [_, _] => n >= 8 && (digit(0) == b'0' || prefix == b"(") && lengths[0] <= 5 && lengths[1] >= 4,
            _ if digit(0) == b'0' && digit(1) == b'0' => (10..=15).contains(&n),
            _ if digit(0) == b'0' || prefix == b"(" => n >= 8 && lengths[1..].iter().all(|length| *length >= 2),
            _ => (8..=12).contains(&n) && inner(),
        },
    }
}

/// The end of an extension behind a number, such as `x204` or ` ext. 12`.
fn extension(bytes: &[u8], end: usize) -> usize {
    let rest = &bytes[end..bytes.len().min(end + 16)];
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let rest = rest[spaces..].to_ascii_lowercase();
    let word = [&b"extension"[..], b"ext.", b"ext", b"x"].into_iter().find(|word| rest.starts_with(word));
    let Some(word) = word else { return end };
    let rest = &rest[word.len()..];
    let gap = rest.iter().take_while(|byte| **byte == b' ').count();
    let digits = rest[gap..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if (1..=6).contains(&digits) { end + spaces + word.len() + gap + digits } else { end }
}

/// Year, month and day in one of the usual orders.
fn is_date(bytes: &[u8], groups: &[Group]) -> bool {
    let [a, b, c] = groups else { return false };
    let value = |group: &Group| bytes[group.start..group.end].iter().fold(0_u32, |n, d| n * 10 + u32::from(d - b'0'));
    let year = |group: &Group| group.len() == 4 && (1800..=2199).contains(&value(group));
    let short = |group: &Group, most: u32| group.len() <= 2 && (1..=most).contains(&value(group));
    let days = |x: &Group, y: &Group| short(x, 31) && short(y, 12) || short(x, 12) && short(y, 31);
    b.joint == c.joint && (year(a) && days(b, c) || year(c) && days(a, b))
}

/// What the nearest telling word before `start` says.
fn context(bytes: &[u8], start: usize) -> Context {
    const PHONE: [&[u8]; 16] = [
        b"phone",
        b"tel",
        b"mobile",
        b"cell",
        b"call",
        b"fax",
        b"whatsapp",
        b"sms",
        b"dial",
        b"ring",
        b"hotline",
        b"handy",
        b"contact",
        b"reach",
        b"rufnummer",
        b"movil",
    ];
    const OTHER: [&[u8]; 20] = [
        b"order",
        b"account",
        b"invoice",
        b"ticket",
        b"tracking",
        b"reference",
        b"ref",
        b"booking",
        b"zip",
        b"postal",
        b"postcode",
        b"card",
        b"licence",
        b"license",
        b"passport",
        b"iban",
        b"version",
        b"isbn",
        b"apt",
        b"suite",
    ];
    let before = bytes[start.saturating_sub(BEFORE)..start].to_ascii_lowercase();
    // What a line says is about that line; a heading such as `Phone:` may stand on the one before.
    let line = before.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let telling = |word: &[u8], same_line: bool| {
        if PHONE.iter().any(|telling| word.starts_with(telling)) || word.ends_with(b"phone") {
            Some(Context::Phone)
        } else if same_line && OTHER.contains(&word) {
            Some(Context::Other)
        } else {
            None
        }
    };
    let words = |part: &[u8], same_line: bool| {
        let words = part.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty());
        words.rev().find_map(|word| telling(word, same_line))
    };
    words(&before[line..], true).or_else(|| words(&before[..line], false)).unwrap_or(Context::Nothing)
}

/// Whether `office`, `fax` or the like follows: cards and signatures name a number behind it.
fn says_phone_behind(bytes: &[u8], end: usize) -> bool {
    let rest = &bytes[end..bytes.len().min(end + 12)];
    let gap = rest.iter().take_while(|byte| matches!(byte, b' ' | b'-' | b'(')).count();
    let word = rest[gap..].to_ascii_lowercase();
    (1..=3).contains(&gap) && [&b"office"[..], b"fax", b"mobile", b"cell", b"phone"].iter().any(|w| word.starts_with(w))
}
