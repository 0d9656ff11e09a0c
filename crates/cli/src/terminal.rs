//! Output for people: errors, tables, progress. Colour and bars only on a terminal; `--json` prints one object last.
//! A reader that closes its pipe early (`| head`) is no error.
use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{IsTerminal, Write},
    time::Duration,
};
use understudy_core::{Error, Result};

/// Prints an error and gives the exit code of its kind.
pub(crate) fn fail(error: &Error) -> u8 {
    let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let label = painted("error", style, coloured(&std::io::stderr()));
    note(format_args!("{label}: failed to {error}"));
    error.kind().exit_code()
}

/// A line for people, on standard output.
pub(crate) fn say(line: impl std::fmt::Display) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// A line about progress, on standard error: it does not get into a pipe.
pub(crate) fn note(line: impl std::fmt::Display) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// A heading: bold on a terminal.
pub(crate) fn heading(line: &str) {
    say(format_args!("\n{}", painted(line, Style::new().bold(), coloured(&std::io::stdout()))));
}

/// Bold green for what is good, bold yellow for what needs a look.
pub(crate) fn verdict(line: &str, good: bool) -> String {
    let colour = if good { AnsiColor::Green } else { AnsiColor::Yellow };
    painted(line, Style::new().bold().fg_color(Some(colour.into())), coloured(&std::io::stdout()))
}

/// Whether a stream gets colour: on a terminal, unless `NO_COLOR` says otherwise (<https://no-color.org>).
pub(crate) fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn painted(text: &str, style: Style, colour: bool) -> String {
    if colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// The last line of a command under `--json`.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Error::internal(format!("write JSON: {e}")))?;
    say(text);
    Ok(())
}

/// An aligned table without frames. `right` names the columns of numbers.
pub(crate) fn table(header: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if index == 0 { 2 } else { 1 }, 1));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A progress bar on standard error; hidden where that is no terminal.
pub(crate) fn progress(total: u64, what: &str) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(total) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("  {msg:<28} {bar:30} {pos:>6}/{len} {per_sec:>10} {eta:>4}")
        .expect("the template is a constant");
    bar.set_style(style.progress_chars("━━ "));
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A share as a percentage with one decimal.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
