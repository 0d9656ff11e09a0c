//! `--report FILE`: what a command shows on the terminal as one HTML file, the figures as JSON beside it, and the command
//! that gives both again.

use crate::{clock::SystemClock, terminal::note};
use clap::Args;
use std::path::PathBuf;
use understudy_core::{Clock, Error, Result, Timestamp};
use understudy_pilot::report::{self, Report};

/// Where a report goes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ReportArg {
    /// Write a report: one self-contained HTML file, and its figures as JSON beside it
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

impl ReportArg {
    /// Whether a report is asked for.
    pub(crate) fn is_wanted(&self) -> bool {
        self.report.is_some()
    }

    /// Refuses a name under which the figures would overwrite the report, before anything is computed.
    pub(crate) fn check(&self) -> Result<()> {
        match self.report.as_ref().filter(|file| file.extension().is_none_or(|e| e != "html")) {
            Some(file) => {
                let what = format!("write the report {}: its name ends in .html", file.display());
                Err(Error::invalid(what).with_param("report"))
            }
            None => Ok(()),
        }
    }

    /// Writes the page that `page` lays out, if one is asked for.
    pub(crate) fn write(&self, page: impl FnOnce() -> Report, figures: &impl serde::Serialize) -> Result<()> {
        let Some(file) = &self.report else { return Ok(()) };
        let mut page = page();
        page.written = written(SystemClock::new().now());
        page.commands.insert(0, ("This page and its figures".to_owned(), command_line()));
        report::write(file, &page, figures)?;
        note(format_args!("report   {}", crate::commands::shown(file)));
        Ok(())
    }
}

/// The moment, to the minute, in UTC.
pub(crate) fn written(now: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default();
    format!("{} UTC", time.to_string().chars().take(16).collect::<String>().replace('T', " "))
}

/// The command that is running, as a shell takes it.
pub(crate) fn command_line() -> String {
    let words = std::env::args().skip(1).map(quoted);
    std::iter::once("understudy".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: String) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@=,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
