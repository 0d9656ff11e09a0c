//! What has letters in it: web and e-mail addresses, bank accounts, IP addresses.

use super::{checks, is_word};

/// Web addresses. A full stop, a bracket or a quote at the end belongs to the sentence.
pub(super) fn urls(text: &str) -> Vec<(usize, usize)> {
    const STARTS: [&[u8]; 4] = [b"http://", b"https://", b"ftp://", b"www."];
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let starts =
            |start: &&&[u8]| bytes.len() - at > start.len() && bytes[at..at + start.len()].eq_ignore_ascii_case(start);
        let head = match bytes[at] {
            b'h' | b'H' | b'f' | b'F' | b'w' | b'W' if at == 0 || !is_word(bytes[at - 1]) => STARTS.iter().find(starts),
            _ => None,
        };
        let Some(head) = head else {
            at += 1;
            continue;
        };
        let from = at + head.len();
        let ends = |c: char| c.is_whitespace() || c.is_control() || "<>\"`{}|\\^“”„‘’«»".contains(c);
        let mut end = text[from..].find(ends).map_or(text.len(), |length| from + length);
        let last = text[from..end].trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '\'', '*', '…']);
        end = from + last.len();
        // A domain has a letter or digit first; `http://` alone is nobody's address.
        if end > from && is_word(bytes[from]) | (bytes[from] == b'[') {
            found.push((at, end));
        }
        at = end.max(from);
    }
    found
}

/// E-mail addresses: something before the `@`, a domain with a full stop in it behind.
pub(super) fn emails(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut least = 0;
    for (at, _) in text.match_indices('@') {
        if at < least {
            continue;
        }
        let local = |c: char| c.is_alphanumeric() || "._%+-'".contains(c);
        let before = &text[least..at];
        let start = least + before.trim_end_matches(local).len();
        // A quote or a full stop before the address is not a part of it.
        let start = start + (text[start..at].len() - text[start..at].trim_start_matches(['.', '\'', '-']).len());
        let after = &text[at + 1..];
        let length = after.find(|c: char| !(c.is_alphanumeric() || c == '.' || c == '-')).unwrap_or(after.len());
        let domain = after[..length].trim_end_matches(['.', '-']);
        let top = domain.rsplit_once('.').filter(|(name, _)| !name.is_empty() && !name.starts_with('.'));
        let is_domain = top.is_some_and(|(_, top)| top.chars().count() > 1 && top.chars().any(char::is_alphabetic));
        if start < at && is_domain {
            least = at + 1 + domain.len();
            found.push((start, least));
        } else {
            least = at + 1;
        }
    }
    found
}

/// Bank accounts: country, check digits and account, whole or in groups of four.
pub(super) fn ibans(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + 15 <= bytes.len() {
        let begins = (at == 0 || !is_word(bytes[at - 1]))
            && bytes[at].is_ascii_alphabetic()
            && bytes[at + 1].is_ascii_alphabetic()
            && bytes[at + 2].is_ascii_digit()
            && bytes[at + 3].is_ascii_digit();
        let end = begins.then(|| iban_end(bytes, at)).flatten();
        if let Some(end) = end {
            found.push((at, end));
        }
        at = end.unwrap_or(at + 1);
    }
    found
}

fn iban_end(bytes: &[u8], start: usize) -> Option<usize> {
    let country = [bytes[start].to_ascii_uppercase(), bytes[start + 1].to_ascii_uppercase()];
    let length = checks::iban_length(country)?;
    let mut upper = Vec::with_capacity(length);
    let mut end = start;
    while upper.len() < length {
        match bytes.get(end)? {
            byte if byte.is_ascii_alphanumeric() => upper.push(byte.to_ascii_uppercase()),
            b' ' | b'-' | &super::FILLER
                if bytes.get(end - 1).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b' ' || *b == b'-') => {}
            _ => return None,
        }
        end += 1;
    }
    let whole = bytes.get(end).is_none_or(|byte| !is_word(*byte));
    (whole && checks::iban(&upper)).then_some(end)
}

/// IPv4 and IPv6 addresses.
pub(super) fn addresses(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    let part = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
    while at < bytes.len() {
        if !part(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && part(bytes[at]) {
            at += 1;
        }
        if start > 0 && is_word(bytes[start - 1]) || bytes.get(at).is_some_and(|byte| is_word(*byte)) {
            continue;
        }
        // The full stop or colon of a sentence is no part of the address; `address:1.2.3.4` leaves a colon in front.
        let trimmed = bytes[start..at].trim_ascii();
        let front = trimmed.iter().take_while(|b| **b == b'.' || **b == b':').count();
        let front = if trimmed.starts_with(b"::") && trimmed.get(2) != Some(&b':') { 0 } else { front };
        let back = trimmed[front..].iter().rev().take_while(|b| **b == b'.' || **b == b':').count();
        let (from, to) = (start + front, at - back);
        if let Some(length) = address(&bytes[from..to]) {
            found.push((from, from + length));
        }
    }
    found
}

/// The length of the address at the start of a run; a port may follow.
fn address(run: &[u8]) -> Option<usize> {
    if run.len() < 6 || run.len() > 51 {
        return None;
    }
    let text = std::str::from_utf8(run).ok()?;
    if let Some((host, port)) = text.split_once(':')
        && host.contains('.')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return host.parse::<std::net::Ipv4Addr>().ok().map(|_| host.len());
    }
    if text.contains(':') {
        // `12::30` is something else; an address that identifies somebody has more than two groups.
        let groups = text.split(':').filter(|group| !group.is_empty()).count();
        let parsed = text.parse::<std::net::Ipv6Addr>().is_ok();
        return (parsed && groups > 2 && text.bytes().any(|b| b.is_ascii_digit())).then_some(text.len());
    }
    text.parse::<std::net::Ipv4Addr>().ok().map(|_| text.len())
}
