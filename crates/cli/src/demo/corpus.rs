//! The demo's e-mails: the SpamAssassin public corpus as its package delivers it, one raw message a file in a folder
//! for each group, made into subject, plain text and date. Knows nothing of the demo's phases.

use mail_parser::{DateTime, HeaderValue, Message, MessageParser};
use std::{fs, path::Path};
use understudy_core::{Error, Result};

/// Folder names with the label of what they hold.
const GROUPS: [(&str, &str); 5] =
    [("easy-ham-1", "ham"), ("easy-ham-2", "ham"), ("hard-ham-1", "ham"), ("spam-1", "spam"), ("spam-2", "spam")];
/// Longest body, in characters: what a triage prompt would quote.
const BODY_CHARS: usize = 6000;
/// Years in which the corpus was collected. Spam lies about its date; a receiving server does not.
const YEARS: std::ops::RangeInclusive<u16> = 2001..=2006;
/// Seconds of a week: how far a sender's clock may be off.
const WEEK_S: i64 = 7 * 24 * 3600;

/// One e-mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mail {
    /// Group and file name without its ending: `spam-1/00001.7848dde101aa985090474a91ec93fcf0`.
    pub(super) id: String,
    /// `ham` or `spam`.
    pub(super) label: String,
    /// When it was sent, `2002-08-22T18:26:25` by the sender's clock; see [`sent`].
    pub(super) date: String,
    /// The decoded subject.
    pub(super) subject: String,
    /// The text, at most 6,000 characters; HTML as plain text.
    pub(super) body: String,
}

/// Reads the corpus in `dir`, ordered by date. Messages without any text are left out.
///
/// # Errors
/// `NotFound` when a group's folder is missing, `Data` when a file cannot be read.
pub(super) fn read(dir: &Path) -> Result<Vec<Mail>> {
    let mut mails = Vec::new();
    for (group, label) in GROUPS {
        let failed = |path: &Path, e: std::io::Error| Error::data(format!("read {}: {e}", path.display()));
        let folder = dir.join(group);
        let entries = fs::read_dir(&folder).map_err(|e| {
            Error::not_found(format!(
                "read the e-mails: {}: {e}; `understudy pull spamassassin --force` installs them again",
                folder.display()
            ))
        })?;
        let mut files = Vec::new();
        for entry in entries {
            files.push(entry.map_err(|e| failed(&folder, e))?.path());
        }
        files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
        files.sort();
        for file in files {
            let raw = fs::read(&file).map_err(|e| failed(&file, e))?;
            mails.extend(parse(id(group, &file), label, &raw));
        }
    }
    if mails.is_empty() {
        return Err(Error::data(format!("read the e-mails: {} holds none", dir.display())));
    }
    mails.sort_by(|a, b| (&a.date, &a.id).cmp(&(&b.date, &b.id)));
    Ok(mails)
}

fn id(group: &str, file: &Path) -> String {
    let name = file.file_stem().map(|name| name.to_string_lossy().into_owned());
    format!("{group}/{}", name.unwrap_or_default())
}

/// One raw message. `None` when it holds neither subject nor text.
fn parse(id: String, label: &str, raw: &[u8]) -> Option<Mail> {
    let (envelope, message) = split_envelope(raw);
    let parsed = MessageParser::default().parse(message)?;
    let subject = squeeze(parsed.subject().unwrap_or_default());
    let body = text(&parsed);
    if subject.is_empty() && body.is_empty() {
        return None;
    }
    let date = sent(envelope, &parsed)
        .map(|d| format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", d.year, d.month, d.day, d.hour, d.minute, d.second));
    Some(Mail {
        id,
        label: label.to_owned(),
        date: date.unwrap_or_else(|| "2002-01-01T00:00:00".to_owned()),
        subject,
        body,
    })
}

/// Mailboxes put a line `From sender  Thu Aug 22 12:36:23 2002` before a message. It is not part of it.
fn split_envelope(raw: &[u8]) -> (Option<&str>, &[u8]) {
    if !raw.starts_with(b"From ") {
        return (None, raw);
    }
    let end = raw.iter().position(|byte| *byte == b'\n').map_or(raw.len(), |at| at + 1);
    (std::str::from_utf8(&raw[..end]).ok(), &raw[end..])
}

/// When it was sent, if the receiving side bears it out to within a week, else when it was received: by the mailbox,
/// else by the last server that says so.
fn sent(envelope: Option<&str>, message: &Message<'_>) -> Option<DateTime> {
    let by_servers = message.headers().iter().filter_map(|header| match header.value() {
        HeaderValue::Received(received) => received.date,
        _ => None,
    });
    let sane = |date: &DateTime| YEARS.contains(&date.year) && date.is_valid();
    let claimed = message.date().copied().filter(sane);
    let received = envelope.and_then(envelope_date).into_iter().chain(by_servers).find(sane);
    match (claimed, received) {
        (Some(claimed), Some(received)) if (claimed.to_timestamp() - received.to_timestamp()).abs() > WEEK_S => {
            Some(received)
        }
        (claimed, received) => claimed.or(received),
    }
}

/// The date of a mailbox line, `Thu Aug 22 12:36:23 2002` at its end. It may name a time zone; the day is what counts.
fn envelope_date(line: &str) -> Option<DateTime> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let month = words.iter().position(|word| MONTHS.contains(word))?;
    let number = |word: Option<&&str>| word.and_then(|word| word.parse::<u16>().ok());
    let day = number(words.get(month + 1))?;
    let mut time = words.get(month + 2)?.split(':').map(|part| part.parse::<u8>().ok());
    let year = words[month + 2..].iter().find_map(|word| number(Some(word)).filter(|year| *year > 1900))?;
    Some(DateTime {
        year,
        month: u8::try_from(MONTHS.iter().position(|name| name == &words[month])? + 1).ok()?,
        day: u8::try_from(day).ok()?,
        hour: time.next()??,
        minute: time.next()??,
        second: time.next().flatten().unwrap_or(0),
        tz_before_gmt: false,
        tz_hour: 0,
        tz_minute: 0,
    })
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The first text part; HTML is made plain. Long runs of white space become one.
fn text(message: &Message<'_>) -> String {
    let parts = (0..message.text_body_count()).filter_map(|part| message.body_text(part));
    let mut body = String::new();
    for part in parts {
        body.push_str(&part);
        body.push('\n');
        if body.len() > 4 * BODY_CHARS {
            break;
        }
    }
    if body.trim().is_empty() {
        // Tables without a closed cell, comments without an end: the parser gives up where a browser does not.
        body = message.html_bodies().filter_map(|part| part.text_contents()).map(strip_tags).collect();
    }
    let mut lines = String::new();
    for line in body.lines().map(squeeze) {
        // At most one empty line in a row.
        if !(line.is_empty() && (lines.is_empty() || lines.ends_with("\n\n"))) {
            lines.push_str(&line);
            lines.push('\n');
        }
    }
    lines.trim().chars().take(BODY_CHARS).collect()
}

/// What stands between tags.
fn strip_tags(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        text.push_str(&rest[..open]);
        text.push(' ');
        rest = rest[open..].find('>').map_or("", |close| &rest[open + close + 1..]);
    }
    text.push_str(rest);
    text.replace("&nbsp;", " ").replace("&amp;", "&").replace("&quot;", "\"")
}

/// Words with one space between them; control characters and broken encodings are gone.
fn squeeze(line: impl AsRef<str>) -> String {
    let clean = line.as_ref().replace(|c: char| c.is_control() || c == '\u{fffd}', " ");
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(raw: &[u8]) -> Mail {
        parse("g/1".into(), "ham", raw).expect("it holds text")
    }

    #[test]
    fn an_encoded_mail_becomes_plain_text() {
        let raw =
            b"From x@y  Thu Aug 22 12:36:23 2002\r\nSubject: =?iso-8859-1?Q?caf=E9?=\r\n =?iso-8859-1?Q?_now?=\r\n\
            Content-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
            <html><head><style>p {color: red}</style></head><body><p>Ol=E9,   <b>buy</b>=\r\n now</p></body></html>";
        let mail = mail(raw);
        assert_eq!((mail.subject.as_str(), mail.date.as_str()), ("café now", "2002-08-22T12:36:23"));
        assert_eq!(mail.body, "Olé, buy now");
    }

    #[test]
    fn the_text_of_a_multipart_mail_is_found_and_attachments_are_not_text() {
        let raw = b"Subject: s\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\
            Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\naGVsbG8=\n--B\n\
            Content-Type: image/png\nContent-Transfer-Encoding: base64\n\niVBORw0=\n--B--\n";
        assert_eq!(mail(raw).body, "hello");
    }

    #[test]
    fn the_sender_is_believed_as_far_as_the_receiving_side_agrees() {
        let received = b"Received: from a by b; Mon, 5 Aug 2002 10:00:00 +0100\nDate: Fri, 1 Jan 2038 00:00:00 +0000\nSubject: s\n\nx";
        assert_eq!(mail(received).date, "2002-08-05T10:00:00");
        let honest = b"From x@y Tue Sep  3 14:21:02 2002\nDate: Tue, 3 Sep 2002 15:00:00 +0000\nSubject: s\n\nx";
        assert_eq!(mail(honest).date, "2002-09-03T15:00:00");
        let envelope = [b"From x@y Tue Sep  3 14:21:02 2002\n".as_slice(), received].concat();
        assert_eq!(mail(&envelope).date, "2002-09-03T14:21:02");
        let lies = b"Date: Fri, 1 Jan 2038 00:00:00 +0000\nSubject: s\n\nx";
        assert_eq!(mail(lies).date, "2002-01-01T00:00:00", "in the corpus' time all the same");
    }

    #[test]
    fn junk_is_text_or_nothing_but_never_a_panic() {
        assert_eq!(parse("g/1".into(), "spam", b""), None);
        let mut state = 1u32;
        for length in 0..300 {
            let junk: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            let _ = parse("g/1".into(), "spam", &junk);
            let _ = parse("g/1".into(), "spam", &[b"From ", junk.as_slice()].concat());
        }
    }
}
