//! `understudy adapt data`: traffic or files become rows that are fit to train. The steps are `dataset::prepare`'s; here
//! are the arguments, the files and what a person sees.

mod queue;

use crate::commands::{
    Context,
    pilot::data::{FieldArgs, cut, open, understood},
    shown,
};
use crate::terminal::{heading, note, percent, progress, say, table, verdict};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};
use understudy_core::{Error, Result, Seed};
use understudy_dataset::{
    Dataset, OutFormat, Part, Row, Shares,
    prepare::{LabelErrors, Preparation, Prepared, Redaction, Unfit, prepare},
    row::rows_hash,
    write,
};

/// Classes and rows that are shown.
const SHOWN: usize = 10;
/// What the files are: written last.
const CARD: &str = "data.json";
/// Rows that were left out, and why.
const REMOVED: &str = "removed.jsonl";
/// Endings of the formats that parts are written in.
const ENDINGS: [&str; 3] = ["jsonl", "csv", "parquet"];

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// A file (.jsonl, .json, .csv, .tsv, .parquet, also .zst or .gz), or `task:NAME` for a task's recorded traffic
    #[arg(value_name = "FILE")]
    data: String,
    #[command(flatten)]
    fields: FieldArgs,
    /// Folder for train, calibrate, test, removed.jsonl and the card data.json [default: only look]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How to write rows
    #[arg(long, value_enum, default_value_t = FormatArg::Jsonl)]
    format: FormatArg,
    /// Replace personal data by placeholders such as <EMAIL_ADDRESS> (not names of persons)
    #[arg(long)]
    redact: bool,
    /// An evaluation set that the data must not touch; may be given several times
    #[arg(long, value_name = "FILE")]
    against: Vec<String>,
    /// Leave out rows that are in an evaluation set, or nearly, where they are refused otherwise
    #[arg(long, requires = "against")]
    drop_contaminated: bool,
    /// Rows that a class needs
    #[arg(long, value_name = "N", default_value_t = 2)]
    least_per_class: usize,
    /// Leave out classes with fewer rows, where they are refused otherwise
    #[arg(long)]
    drop_small_classes: bool,
    /// Leave out rows whose label is probably wrong; without this they are only listed
    #[arg(long, conflicts_with = "skip_label_errors")]
    drop_label_errors: bool,
    /// Do not look for labels that are probably wrong (it takes seconds on ten thousand rows)
    #[arg(long)]
    skip_label_errors: bool,
    /// Share of the rows to set thresholds with
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    calibrate: f64,
    /// Share of the rows to measure with
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    test: f64,
    /// Seed of the division: the same data and seed give the same files
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Also list the N texts without a label that are best labelled next, in queue.jsonl
    #[arg(long, value_name = "N")]
    queue: Option<usize>,
    /// Who says how unsure it is about a text: `words` (a classifier on words, learnt from the labelled rows) or the folder
    /// of a trained model
    #[arg(long, value_name = "MODEL", default_value = "words", requires = "queue")]
    model: String,
    /// More texts to choose from, whose labels are not looked at
    #[arg(long, value_name = "FILE", requires = "queue")]
    pool: Option<String>,
    /// Replace what an earlier run wrote to the folder
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// One JSON object a line
    Jsonl,
    /// A table with a header
    Csv,
    /// Apache Parquet
    Parquet,
    /// OpenAI's fine-tuning format: chats with the right answer at the end
    Openai,
}

impl FormatArg {
    fn format(self) -> OutFormat {
        match self {
            Self::Jsonl => OutFormat::Jsonl,
            Self::Csv => OutFormat::Csv,
            Self::Parquet => OutFormat::Parquet,
            Self::Openai => OutFormat::OpenAi,
        }
    }
}

impl DataArgs {
    fn preparation(&self) -> Result<Preparation> {
        let unfit = |drop: bool| if drop { Unfit::Drop } else { Unfit::Refuse };
        Ok(Preparation {
            redaction: if self.redact { Redaction::Replace } else { Redaction::Keep },
            label_errors: match (self.skip_label_errors, self.drop_label_errors) {
                (true, _) => LabelErrors::Skip,
                (_, true) => LabelErrors::Drop,
                _ => LabelErrors::List,
            },
            contaminated: unfit(self.drop_contaminated),
            least_per_class: self.least_per_class,
            small_classes: unfit(self.drop_small_classes),
            shares: Shares::new(self.calibrate, self.test)?,
            seed: Seed(self.seed),
        })
    }
}

/// Runs `understudy adapt data`.
pub(super) async fn run(args: DataArgs, context: &Context) -> Result<()> {
    let how = args.preparation()?;
    let Some(dir) = args.out.clone() else { return read_and_write(args, how, context).await };
    let is_new = !dir.exists();
    check_out(&dir, &args)?;
    let done = read_and_write(args, how, context).await;
    if done.is_err() && is_new {
        // Goes only while it is empty.
        drop(fs::remove_dir(&dir));
    }
    done
}

/// Reads, prepares, writes and shows.
async fn read_and_write(args: DataArgs, how: Preparation, context: &Context) -> Result<()> {
    let bar = progress(0, "reading");
    let mut data = open(&args.data, &args.fields.fields(), context).await?;
    let mut against = Vec::with_capacity(args.against.len());
    for file in &args.against {
        against.push(open(file, &args.fields.fields(), context).await?);
    }
    say(understood(&data));
    bar.set_message("hashing");
    // What no step reads is not kept: it would double the memory of large files.
    data.rows.iter_mut().for_each(|row| row.extra = serde_json::Map::new());
    let pool = match &args.pool {
        Some(pool) => open(pool, &args.fields.fields(), context).await?.rows,
        None => Vec::new(),
    };
    if args.queue.is_some() && data.rows.iter().all(|row| row.gold().is_none()) {
        // Nothing has a label yet: there is nothing to divide, only something to begin with.
        bar.set_message("picking");
        let pool = data.rows.into_iter().chain(pool).collect();
        let (picked, file) = queue::pick(&args, how.redaction, &[], pool, &against, context).await?;
        bar.finish_and_clear();
        queue::show(&picked);
        let files: Vec<PathBuf> = file.into_iter().collect();
        return crate::commands::finish(context, &json!({"queue": picked, "files": files}));
    }
    let source =
        json!({"name": data.name, "format": data.format.as_str(), "hash": data.hash(), "rows": data.rows.len()});
    let mut prepared = prepare(data, &against, &how, &|step| bar.set_message(step))?;
    let mut queued = None;
    if args.queue.is_some() {
        bar.set_message("picking");
        let labelled: Vec<&Row> = prepared.parts().into_iter().flat_map(|(_, rows)| rows).collect();
        let pool: Vec<Row> = prepared.unlabelled.iter().cloned().chain(pool).collect();
        queued = Some(queue::pick(&args, how.redaction, &labelled, pool, &against, context).await?);
    }
    prepared.unlabelled = Vec::new();
    if let (Some(dir), None) = (&args.out, args.queue) {
        drop(fs::remove_file(dir.join(queue::FILE)));
    }
    bar.set_message("writing");
    let card = card(&args, &how, source, &against, &prepared);
    let written = match &args.out {
        Some(dir) => Some(write_all(dir, args.format.format(), &prepared, &card)?),
        None => None,
    };
    bar.finish_and_clear();
    show(&prepared);
    if let Some((picked, _)) = &queued {
        queue::show(picked);
    }
    match (&args.out, &written) {
        (Some(dir), Some(files)) => say(format_args!("\n  {} files in {}", files.len(), shown(dir))),
        _ => note("  Nothing was written; --out DIR writes the parts and the card."),
    }
    let mut object = card;
    let queue_file = queued.as_ref().and_then(|(_, file)| file.clone());
    object["files"] = json!(written.map(|files| files.into_iter().chain(queue_file).collect::<Vec<_>>()));
    object["queue"] = json!(queued.map(|(picked, _)| picked));
    object["label_errors"] = json!(prepared.doubts);
    object["contradictions"] = prepared
        .contradictions
        .iter()
        .map(|c| json!({"ids": c.ids, "labels": c.labels, "kept": c.kept}))
        .collect::<Vec<_>>()
        .into();
    object["near_contradictions"] = json!(prepared.near_contradictions);
    crate::commands::finish(context, &object)
}

/// Refuses a folder that another run filled, or that holds anything this run would replace or remove.
fn check_out(dir: &Path, args: &DataArgs) -> Result<()> {
    let refused = |what: String| Err(Error::invalid(format!("prepare data: {what}")).with_param("out"));
    let there: Vec<PathBuf> = touched().map(|file| dir.join(file)).filter(|file| file.exists()).collect();
    let inputs = args.against.iter().chain(&args.pool).chain([&args.data]);
    let inputs: Vec<PathBuf> = inputs.filter_map(|file| fs::canonicalize(file).ok()).collect();
    if let Some(input) = there.iter().find(|file| fs::canonicalize(file).is_ok_and(|file| inputs.contains(&file))) {
        return refused(format!("{} is read, and would be replaced; choose another --out", shown(input)));
    }
    match there.first() {
        Some(_) if args.force => {}
        Some(_) if dir.join(CARD).exists() => {
            return refused(format!("{} holds a data set already; --force replaces it", shown(dir)));
        }
        Some(file) => {
            return refused(format!("{} is there and no card tells where from; --force replaces it", shown(file)));
        }
        None => {}
    }
    fs::create_dir_all(dir).map_err(|e| Error::data(format!("make the folder {}: {e}", dir.display())))
}

/// Everything that a run writes or removes, by its name in the folder.
fn touched() -> impl Iterator<Item = String> {
    let parts = Part::ALL.into_iter().flat_map(|part| ENDINGS.map(|ending| format!("{}.{ending}", part.as_str())));
    parts.chain([CARD, REMOVED, queue::FILE].map(str::to_owned))
}

/// The data card: what the files are and how they came about.
fn card(args: &DataArgs, how: &Preparation, source: Value, against: &[Dataset], prepared: &Prepared) -> Value {
    let parts: serde_json::Map<String, Value> = prepared
        .parts()
        .into_iter()
        .map(|(part, rows)| (part.as_str().to_owned(), json!({"rows": rows.len(), "hash": rows_hash(rows)})))
        .collect();
    let removed: serde_json::Map<String, Value> =
        prepared.removed_by_reason().into_iter().map(|(reason, n)| (name(&reason), json!(n))).collect();
    let redacted: serde_json::Map<String, Value> =
        prepared.redacted.iter().map(|(entity, n)| (entity.as_str().to_owned(), json!(n))).collect();
    json!({
        "source": source,
        "against": against.iter().map(|set| json!({"name": set.name, "hash": set.hash(), "rows": set.rows.len()})).collect::<Vec<_>>(),
        "seed": how.seed,
        "shares": {"calibrate": args.calibrate, "test": args.test},
        "settings": {
            "redact": args.redact,
            "least_per_class": how.least_per_class,
            "drop_small_classes": args.drop_small_classes,
            "drop_contaminated": args.drop_contaminated,
            "drop_label_errors": args.drop_label_errors,
        },
        "parts": parts,
        "removed": removed,
        "redacted": args.redact.then_some(redacted),
        "contradicting_texts": prepared.contradictions.len(),
        "nearly_contradicting_pairs": prepared.near_contradictions.len(),
        "doubtful_labels": prepared.doubts.as_ref().map(|d| json!({
            "looked_at": d.n, "candidates": d.candidates.len(), "share": d.share, "agreement": d.agreement,
        })),
        "classes": prepared.classes,
        "warnings": prepared.warnings,
        "understudy": env!("CARGO_PKG_VERSION"),
    })
}

/// The name of a reason as it stands in the card.
fn name(reason: &impl serde::Serialize) -> String {
    serde_json::to_value(reason).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Writes the parts, what was left out and, last, the card: a folder with a card is whole.
fn write_all(dir: &Path, format: OutFormat, prepared: &Prepared, card: &Value) -> Result<Vec<PathBuf>> {
    let place = dir.join(CARD);
    if place.exists() {
        fs::remove_file(&place).map_err(|e| Error::data(format!("replace {}: {e}", place.display())))?;
    }
    let mut files = Vec::new();
    for (part, rows) in prepared.parts() {
        // What an earlier run wrote in another format would be taken for a part of this one.
        for ending in ENDINGS.into_iter().filter(|ending| *ending != format.ending()) {
            drop(fs::remove_file(dir.join(part.as_str()).with_extension(ending)));
        }
        let file = dir.join(part.as_str()).with_extension(format.ending());
        write::write(&file, format, rows)?;
        files.push(file);
    }
    let file = dir.join(REMOVED);
    write::write_file(&file, |out| {
        prepared.removed.iter().try_for_each(|removed| {
            serde_json::to_writer(&mut *out, removed)?;
            out.write_all(b"\n")
        })
    })?;
    files.push(file);
    write::write_file(&place, |out| {
        serde_json::to_writer_pretty(&mut *out, card)?;
        out.write_all(b"\n")
    })?;
    files.push(place);
    Ok(files)
}

fn show(prepared: &Prepared) {
    heading("Parts");
    let total: usize = prepared.parts().iter().map(|(_, rows)| rows.len()).sum();
    let row = |(part, rows): (Part, &[Row])| {
        vec![part.as_str().to_owned(), rows.len().to_string(), percent(rows.len() as f64 / total.max(1) as f64)]
    };
    say(table(&["part", "rows", "share"], &[1, 2], prepared.parts().map(row)));
    let removed = prepared.removed_by_reason();
    if !removed.is_empty() {
        heading("Left out");
        let row = |(reason, n): (_, usize)| vec![name(&reason).replace('_', " "), n.to_string()];
        say(table(&["because", "rows"], &[1], removed.into_iter().map(row)));
    }
    if !prepared.redacted.is_empty() {
        heading("Replaced");
        let row = |(entity, n): (&understudy_dataset::redact::Entity, &usize)| {
            vec![entity.as_str().to_owned(), n.to_string()]
        };
        say(table(&["personal data", "times"], &[1], prepared.redacted.iter().map(row)));
    }
    if !prepared.classes.is_empty() {
        heading("Classes");
        let row = |class: &understudy_dataset::prepare::ClassCount| {
            let counts = [class.train, class.calibrate, class.test, class.total()];
            [class.label.clone()].into_iter().chain(counts.map(|n| n.to_string())).collect()
        };
        let header = ["class", "train", "calibrate", "test", "all"];
        say(table(&header, &[1, 2, 3, 4], prepared.classes.iter().take(SHOWN).map(row)));
        if let Some(least) = prepared.classes.last().filter(|_| prepared.classes.len() > SHOWN) {
            let more = prepared.classes.len() - SHOWN;
            note(format_args!("  … and {more} more, down to `{}` with {}", least.label, least.total()));
        }
    }
    show_labels(prepared);
    heading("First rows");
    let row = |row: &Row| vec![row.id.clone(), cut(&row.text, 72), cut(row.gold().unwrap_or("–"), 28)];
    say(table(&["id", "text", "right"], &[], prepared.train.iter().take(5).map(row)));
    for warning in &prepared.warnings {
        say(format_args!("  {} {warning}", verdict("note:", false)));
    }
}

/// Contradictions and doubtful labels.
fn show_labels(prepared: &Prepared) {
    for conflict in prepared.contradictions.iter().take(3) {
        let pairs = conflict.ids.iter().zip(&conflict.labels).map(|(id, label)| format!("{id} says {label}"));
        let kept = conflict.kept.as_ref().map_or("none kept".to_owned(), |label| format!("kept {label}"));
        note(format_args!("  same text, other labels: {}; {kept}", pairs.collect::<Vec<_>>().join(", ")));
    }
    for (first, second) in prepared.near_contradictions.iter().take(3) {
        note(format_args!("  nearly the same text, other labels: rows {first} and {second}"));
    }
    let Some(found) = prepared.doubts.as_ref().filter(|found| !found.candidates.is_empty()) else { return };
    heading("Labels that are probably wrong");
    let row = |d: &understudy_dataset::doubts::Doubt| {
        vec![d.line.to_string(), cut(&d.label, 28), cut(&d.suggested, 28), format!("{:.2}", d.margin), cut(&d.text, 60)]
    };
    say(table(&["line", "label", "rather", "margin", "text"], &[0, 3], found.candidates.iter().take(SHOWN).map(row)));
    note(format_args!(
        "  {} of {} that were looked at ({}, 95 % {} to {}); --json has all.",
        found.candidates.len(),
        found.n,
        percent(found.share.estimate),
        percent(found.share.low),
        percent(found.share.high)
    ));
}
