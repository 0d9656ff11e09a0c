//! Dates as chat templates ask for them (`strftime_now` of Hugging Face's `apply_chat_template`), in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a template names the day on which it runs; no decision depends on it")]
pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A time in C's `strftime` format. What is not known here stays as it stands.
pub(super) fn written(format: &str, unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let month_name = usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month)).copied().unwrap_or_default();
    // The first day of 1970 was a Thursday.
    let day_name = usize::try_from((days + 4) % 7).ok().and_then(|day| DAYS.get(day)).copied().unwrap_or_default();
    let mut out = String::new();
    let mut rest = format;
    while let Some((plain, after)) = rest.split_once('%') {
        out.push_str(plain);
        // `%-d` is `%d` without the zero.
        let (bare, code) = match after.strip_prefix('-') {
            Some(after) => (true, after),
            None => (false, after),
        };
        let two = |n: u64| if bare { n.to_string() } else { format!("{n:02}") };
        let written = match code.chars().next() {
            Some('Y') => year.to_string(),
            Some('y') => two(year % 100),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('e') => format!("{day:2}"),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('H') => two(hour),
            Some('I') => two((hour + 11) % 12 + 1),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('%') => "%".to_owned(),
            _ => {
                out.push('%');
                rest = after;
                continue;
            }
        };
        out.push_str(&written);
        rest = &code[1..];
    }
    out + rest
}

/// Year, month and day of a day since 1970 (Howard Hinnant, chrono-compatible low-level date algorithms).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_strftime_writes_them() {
        // date -u -d @1709210096
        let at = 1_709_210_096;
        for (format, want) in [
            ("%d %B %Y", "29 February 2024"),
            ("%Y-%m-%d", "2024-02-29"),
            ("%A, %d %b %Y, %H:%M:%S", "Thursday, 29 Feb 2024, 12:34:56"),
            ("%I:%M %p, %-m/%y", "12:34 PM, 2/24"),
            ("%F %T", "2024-02-29 12:34:56"),
            ("100 %% %Q é %é %", "100 % %Q é %é %"),
        ] {
            assert_eq!(written(format, at), want);
        }
        assert_eq!(written("%F %a %I %e", 0), "1970-01-01 Thu 12  1");
        assert_eq!(written("%F %-d", 946_684_799), "1999-12-31 31");
        assert_eq!(written("%F", 951_868_800), "2000-03-01");
        assert_eq!(written("%F", 4_107_542_400), "2100-03-01");
    }
}
