//! Personal data in texts: found by shape and checksum, and replaced by typed placeholders such as `<EMAIL_ADDRESS>`.
//!
//! Every detector reads the text once or a fixed number of times: the time is linear, whatever the text holds. There are
//! no patterns that backtrack. What one detector found, the later ones do not see, so findings never overlap. Refuses
//! to look for names of persons, places and organisations: rules find too few of them to promise anything. Callers:
//! the preparation of data sets; a gateway may call it before a text leaves.

mod checks;
mod numbers;
mod phone;
mod written;

use serde::{Deserialize, Serialize};
use std::{borrow::Cow, collections::BTreeMap};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Entity {
    /// A web address with `http://`, `https://`, `ftp://` or `www.`.
    Url,
    /// An e-mail address.
    EmailAddress,
    /// An international bank account number with its check digits.
    Iban,
    /// An IPv4 or IPv6 address.
    IpAddress,
    /// A payment card of 12 to 19 digits with its check digit (Luhn).
    CreditCard,
    /// A social security number of the United States.
    UsSsn,
    /// A personal number with check digits: Brazil's CPF, Spain's DNI and NIE, France's NIR.
    NationalId,
    /// A telephone number.
    PhoneNumber,
}

impl Entity {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [Self; 8] = [
        Self::Url,
        Self::EmailAddress,
        Self::Iban,
        Self::IpAddress,
        Self::CreditCard,
        Self::UsSsn,
        Self::NationalId,
        Self::PhoneNumber,
    ];

    /// The name in placeholders and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Url => "URL",
            Self::EmailAddress => "EMAIL_ADDRESS",
            Self::Iban => "IBAN",
            Self::IpAddress => "IP_ADDRESS",
            Self::CreditCard => "CREDIT_CARD",
            Self::UsSsn => "US_SSN",
            Self::NationalId => "NATIONAL_ID",
            Self::PhoneNumber => "PHONE_NUMBER",
        }
    }
}

/// One finding: bytes `start..end` of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
    /// What it is.
    pub entity: Entity,
}

/// Finds personal data: in the order of the text, without overlaps, at boundaries of characters.
#[must_use]
pub fn find(text: &str) -> Vec<Found> {
    // Nothing of this has neither a digit nor an `@` nor an address.
    if !text.bytes().any(|b| b.is_ascii_digit() || b == b'@' || b == b'/' || b == b'.') {
        return Vec::new();
    }
    let mut masked = Masked::new(text);
    let mut all = Vec::new();
    for entity in Entity::ALL {
        if entity == Entity::Iban {
            // From here on it is about digits: addresses were read as they are written.
            masked.plain();
        }
        let found = match entity {
            Entity::Url => written::urls(masked.text()),
            Entity::EmailAddress => written::emails(masked.text()),
            Entity::Iban => written::ibans(masked.bytes()),
            Entity::IpAddress => written::addresses(masked.bytes()),
            Entity::CreditCard => numbers::cards(masked.bytes()),
            Entity::UsSsn => numbers::social_security(masked.bytes()),
            Entity::NationalId => numbers::national(masked.bytes()),
            Entity::PhoneNumber => phone::phones(masked.bytes()),
        };
        for (start, end) in found {
            masked.hide(start, end);
            all.push(Found { start, end, entity });
        }
    }
    all.sort_unstable_by_key(|found| found.start);
    all
}

/// The text with `<ENTITY>` in the place of every finding, and how many there were of each kind.
#[must_use]
pub fn redact(text: &str) -> (Cow<'_, str>, BTreeMap<Entity, usize>) {
    let found = find(text);
    let mut counts = BTreeMap::new();
    if found.is_empty() {
        return (Cow::Borrowed(text), counts);
    }
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for Found { start, end, entity } in found {
        out.push_str(&text[at..start]);
        out.push('<');
        out.push_str(entity.as_str());
        out.push('>');
        *counts.entry(entity).or_default() += 1;
        at = end;
    }
    out.push_str(&text[at..]);
    (Cow::Owned(out), counts)
}

/// The byte that stands for nothing: it pads a character that was made shorter, so that places stay.
const FILLER: u8 = 1;

/// A copy of the text of the same length, in which findings are blanked out and, on demand, typographic spaces and dashes
/// are plain.
struct Masked(Vec<u8>);

impl Masked {
    fn new(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    fn plain(&mut self) {
        if self.0.is_ascii() {
            return;
        }
        let plain = |c: char| match c {
            '\u{a0}' | '\u{2007}' | '\u{2009}' | '\u{202f}' => Some(b' '),
            '\u{2010}'..='\u{2013}' => Some(b'-'),
            _ => None,
        };
        let places: Vec<(usize, usize, u8)> =
            self.text().char_indices().filter_map(|(at, c)| Some((at, c.len_utf8(), plain(c)?))).collect();
        for (at, length, byte) in places {
            self.0[at..at + length].fill(FILLER);
            self.0[at] = byte;
        }
    }

    fn hide(&mut self, start: usize, end: usize) {
        self.0[start..end].fill(0);
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only whole characters are replaced, by ASCII")
    }
}

/// Whether the byte belongs to a word: an ASCII letter or digit, or a part of another character.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

#[cfg(test)]
mod tests;
