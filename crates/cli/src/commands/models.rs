//! `understudy pull | list | show | rm`: the models and data sets on this machine. The work is done by
//! `understudy_model::{catalogue, pull, installed}`; here are the arguments, the tables and the progress bar.

use crate::{clock::SystemClock, terminal};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::{io::IsTerminal, path::Path, time::Duration};
use understudy_core::{Clock, Error, Result};
use understudy_model::{
    catalogue::{Catalogue, Entry},
    installed::{self, Checked, Depth, Installed},
    pull::{self as puller, Existing, Progress, PullOptions},
};

/// Between two progress lines where standard error is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Catalogue names, hf:OWNER/REPO[@REVISION][/FILE.gguf], https://…/FILE.gguf, or file:PATH
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Fetch it again and replace what is installed
    #[arg(long)]
    force: bool,
    /// Install it under this name
    #[arg(long = "as", value_name = "NAME")]
    rename: Option<String>,
    /// SHA-256 that the file must have (a single file by hf:, https: or file:)
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// The model hub, or a mirror of it
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", default_value = puller::HUGGING_FACE)]
    hub: String,
    /// Token for the hub; better set in the environment, where other users do not see it
    #[arg(long, value_name = "TOKEN", env = "HF_TOKEN", hide = true, hide_env_values = true)]
    hub_token: Option<SecretString>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only what is installed
    #[arg(long)]
    installed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A name from `understudy list`
    name: String,
    /// Read every installed file and compare its hash
    #[arg(long)]
    verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Names of installed models
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) async fn pull(args: PullArgs, models_dir: &Path, json: bool) -> Result<()> {
    if args.names.len() > 1 && (args.rename.is_some() || args.sha256.is_some()) {
        return Err(Error::invalid("pull several models with --as or --sha256: these fit one model; pull one by one"));
    }
    let options = PullOptions {
        hub: args.hub,
        token: args.hub_token,
        existing: if args.force { Existing::Replace } else { Existing::Keep },
        rename: args.rename,
        sha256: args.sha256,
        ..PullOptions::new(models_dir.to_owned(), SystemClock::new().now())?
    };
    let mut pulled = Vec::new();
    for name in &args.names {
        let installed = with_progress(name, &options).await?;
        if !json {
            terminal::say(format_args!(
                "{}  {}  {}",
                installed.name,
                size(installed.size()),
                installed.dir().display()
            ));
        }
        pulled.push(report(Some(&installed), None));
    }
    if json { terminal::json(&json!({ "models": pulled })) } else { Ok(()) }
}

/// The installed model `name`, pulled first where it is missing.
pub(crate) async fn ensure(name: &str, models_dir: &Path) -> Result<Installed> {
    if let Some(installed) = installed::find(models_dir, name)?
        && installed.verify(Depth::Lengths).is_ok()
    {
        return Ok(installed);
    }
    #[expect(clippy::disallowed_methods, reason = "the hub's variables, where no arguments carry them")]
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let options = PullOptions {
        hub: variable("HF_ENDPOINT").unwrap_or_else(|| puller::HUGGING_FACE.to_owned()),
        token: variable("HF_TOKEN").map(SecretString::from),
        ..PullOptions::new(models_dir.to_owned(), SystemClock::new().now())?
    };
    with_progress(name, &options).await
}

pub(crate) fn list(args: ListArgs, models_dir: &Path, json: bool) -> Result<()> {
    let installed = installed::all(models_dir)?;
    let here = |name: &str| installed.iter().find(|i| i.name == name);
    let known = Catalogue::embedded().entries();
    let mut rows: Vec<(Option<&Entry>, Option<&Installed>)> = known.iter().map(|e| (Some(e), here(&e.name))).collect();
    let own = installed.iter().filter(|i| known.iter().all(|e| e.name != i.name));
    rows.extend(own.map(|i| (None, Some(i))));
    if args.installed {
        rows.retain(|(_, installed)| installed.is_some());
    }
    if json {
        let models: Vec<_> = rows.iter().map(|&(entry, installed)| report(installed, entry)).collect();
        return terminal::json(&json!({ "models_dir": models_dir, "models": models }));
    }
    if rows.is_empty() {
        terminal::say(format_args!(
            "nothing is installed in {}; `understudy list` shows what can be",
            models_dir.display()
        ));
        return Ok(());
    }
    let rows = rows.into_iter().map(|(entry, installed)| {
        let name = entry.map(|e| &e.name).or(installed.map(|i| &i.name)).cloned().unwrap_or_default();
        let kind = entry.map(|e| e.kind).or(installed.map(|i| i.kind)).map(|k| k.to_string()).unwrap_or_default();
        let bytes = installed.map(Installed::size).or_else(|| entry.and_then(Entry::size));
        vec![
            name,
            kind,
            entry.and_then(|e| e.parameters).map_or_else(String::new, parameters),
            bytes.map_or_else(String::new, size),
            if installed.is_some() { "installed".to_owned() } else { String::new() },
            entry.map_or("", |e| e.licence.as_str()).to_owned(),
        ]
    });
    let header = ["name", "kind", "params", "size", "", "licence"];
    terminal::say(terminal::table(&header, &[2, 3], rows));
    Ok(())
}

pub(crate) fn show(args: ShowArgs, models_dir: &Path, json: bool) -> Result<()> {
    let installed = installed::find(models_dir, &args.name)?;
    let entry = match Catalogue::embedded().find(&args.name) {
        Ok(entry) => Some(entry),
        Err(_) if installed.is_some() => None,
        Err(error) => return Err(error),
    };
    if args.verify {
        installed::load(models_dir, &args.name)?.verify(Depth::Hashes)?;
    }
    if json {
        let mut value = report(installed.as_ref(), entry);
        if args.verify {
            value["verified"] = true.into();
        }
        return terminal::json(&value);
    }
    if let Some(entry) = entry {
        show_entry(entry);
    }
    match &installed {
        Some(installed) => show_installed(installed, args.verify),
        None => terminal::say("\nnot installed"),
    }
    Ok(())
}

pub(crate) fn rm(args: RmArgs, models_dir: &Path, json: bool) -> Result<()> {
    let mut removed = Vec::new();
    for name in &args.names {
        let freed = installed::remove(models_dir, name)?;
        if !json {
            terminal::say(format_args!("removed {name}: {} freed", size(freed)));
        }
        removed.push(json!({ "name": name, "freed_bytes": freed }));
    }
    if json { terminal::json(&json!({ "removed": removed })) } else { Ok(()) }
}

fn show_entry(entry: &Entry) {
    let line = |label: &str, value: String| terminal::say(format_args!("{label:<12}{value}"));
    line("name", entry.name.clone());
    line("about", entry.about.clone());
    if !entry.aliases.is_empty() {
        line("also called", entry.aliases.join(", "));
    }
    line("kind", entry.kind.to_string());
    if let Some(n) = entry.parameters {
        line("parameters", parameters(n));
    }
    if let Some(n) = entry.context {
        line("context", format!("{n} tokens"));
    }
    if !entry.languages.is_empty() {
        line("languages", entry.languages.join(", "));
    }
    line("licence", entry.licence.clone());
    for (i, source) in entry.sources.iter().enumerate() {
        line(if i == 0 { "sources" } else { "" }, source.to_string());
        for file in entry.files_from(source) {
            let bytes = file.size.map_or_else(String::new, size);
            let hash = file.sha256.as_deref().unwrap_or("no pinned hash");
            terminal::say(format_args!("{:<14}{:<34} {bytes:>9}  {hash}", "", file.path));
        }
    }
}

fn show_installed(installed: &Installed, verified: bool) {
    let when =
        jiff::Timestamp::from_millisecond(installed.installed_at.0).map_or_else(|_| String::new(), |t| t.to_string());
    terminal::say(format_args!("\ninstalled   {} from {}, {when}", installed.dir().display(), installed.source));
    for file in &installed.files {
        let checked = match file.checked {
            Checked::Pinned => "pinned",
            Checked::Hub => "hub",
            Checked::FirstUse => "first use",
            Checked::Derived => "made here",
        };
        terminal::say(format_args!("  {:<46} {:>9}  {}  {checked}", file.path, size(file.size), file.sha256));
    }
    if let Some(tree) = &installed.tree {
        terminal::say(format_args!(
            "  {} files, {}, from archive {}",
            tree.files,
            size(tree.bytes),
            tree.archive_sha256
        ));
    }
    if verified {
        terminal::say("every file is as it was installed");
    }
}

/// A model for `--json`: the catalogue's entry, and what is installed.
fn report(installed: Option<&Installed>, entry: Option<&Entry>) -> Value {
    let mut value = entry.map_or_else(|| json!({}), |entry| json!(entry));
    if let Some(installed) = installed {
        value["name"] = json!(installed.name);
        value["kind"] = json!(installed.kind);
        value["installed"] = json!(installed);
        value["installed"]["dir"] = json!(installed.dir());
        value["installed"]["bytes"] = installed.size().into();
    }
    value
}

/// Runs a pull with a bar on a terminal, else with a line every few seconds.
async fn with_progress(name: &str, options: &PullOptions) -> Result<Installed> {
    let clock = SystemClock::new();
    let terminal = std::io::stderr().is_terminal();
    let mut bar: Option<(String, ProgressBar)> = None;
    let mut last = Duration::ZERO;
    let result = puller::pull(name, options, &mut |progress| match progress {
        Progress::Note(note) => {
            if let Some((_, bar)) = bar.take() {
                bar.finish_and_clear();
            }
            terminal::note(note);
        }
        Progress::Bytes { file, done, total } if terminal => {
            if bar.as_ref().is_none_or(|(shown, _)| shown != file) {
                if let Some((_, old)) = bar.take() {
                    old.finish_and_clear();
                }
                bar = Some((file.to_owned(), bytes_bar(file, total)));
            }
            if let Some((_, bar)) = &bar {
                bar.set_position(done);
            }
        }
        Progress::Bytes { file, done, total } => {
            let now = clock.monotonic();
            if now.saturating_sub(last) >= LINE_EVERY {
                last = now;
                let of = total.map_or_else(String::new, |total| format!(" of {}", size(total)));
                terminal::note(format_args!("{file}: {}{of}", size(done)));
            }
        }
    })
    .await;
    if let Some((_, bar)) = bar {
        bar.finish_and_clear();
    }
    result
}

fn bytes_bar(file: &str, total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "  {msg:<34} {bar:30} {bytes:>10}/{total_bytes} {bytes_per_sec:>12} {eta:>4}",
        None => "  {msg:<34} {spinner} {bytes:>10} {bytes_per_sec:>12}",
    };
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    bar.set_style(style.progress_chars("━━ "));
    bar.set_message(file.to_owned());
    bar
}

/// `90.9 MB`.
fn size(bytes: u64) -> String {
    let (value, unit) = match bytes {
        0..1_000_000 => (bytes as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => (bytes as f64 / 1e6, "MB"),
        _ => (bytes as f64 / 1e9, "GB"),
    };
    format!("{value:.1} {unit}")
}

/// `22.7M`, `1.54B`.
fn parameters(n: u64) -> String {
    if n < 1_000_000_000 { format!("{:.1}M", n as f64 / 1e6) } else { format!("{:.2}B", n as f64 / 1e9) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_parameter_counts_read_well() {
        assert_eq!([size(612), size(90_868_376), size(2_490_000_000)], ["0.6 kB", "90.9 MB", "2.5 GB"]);
        assert_eq!([parameters(22_713_216), parameters(1_543_714_304)], ["22.7M", "1.54B"]);
    }
}
