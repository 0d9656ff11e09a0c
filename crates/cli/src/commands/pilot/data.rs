//! `understudy pilot data`: what a file holds, before anything is measured on it. Also the one way in which pilot's
//! commands open data: a file, or a task's recorded traffic.

use crate::commands::Context;
use crate::terminal::{heading, note, say, table, verdict};
use clap::Args;
use serde_json::json;
use std::path::Path;
use understudy_core::{Error, Result, Seed};
use understudy_dataset::{
    Dataset, Fields, Format, Leakage, Learned, Mapping, Part, Row, Shares, Summary,
    doubts::{self, Doubts},
    leakage, part_of, summarise,
};
use understudy_store::{Source, Store, StoreOptions};

/// Rows and labels that a preview shows.
const SHOWN: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// A file (.jsonl, .json, .csv, .tsv, .parquet, also .zst or .gz), or `task:NAME` for a task's recorded traffic
    #[arg(value_name = "FILE")]
    data: String,
    #[command(flatten)]
    fields: FieldArgs,
    /// Another file, such as the training data: find the rows that both have
    #[arg(long, value_name = "FILE")]
    against: Option<String>,
    /// Show how rows divide into train, calibrate and test, with these shares to calibrate and to test
    #[arg(long, value_name = "SHARE", num_args = 2)]
    split: Option<Vec<f64>>,
    /// Seed of the division
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Do not look for labels that are probably wrong (it takes seconds on ten thousand rows)
    #[arg(long)]
    skip_label_errors: bool,
}

/// Names of fields; what is not named is found by its usual names.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FieldArgs {
    /// Field or column of the text [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    pub(crate) text: Option<String>,
    /// Field of the right label [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    pub(crate) label: Option<String>,
    /// Field of the right answer or answers [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    pub(crate) reference: Option<String>,
    /// Field of the id [default: found by its name, else the line]
    #[arg(long, value_name = "FIELD")]
    pub(crate) id: Option<String>,
    /// Field of the subject or slice [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    pub(crate) group: Option<String>,
}

impl FieldArgs {
    /// As the reader takes them.
    pub(crate) fn fields(&self) -> Fields {
        Fields {
            text: self.text.clone(),
            label: self.label.clone(),
            reference: self.reference.clone(),
            id: self.id.clone(),
            group: self.group.clone(),
            ..Fields::default()
        }
    }
}

/// Opens a file, or with `task:NAME` what the gateway recorded of a task.
pub(crate) async fn open(data: &str, fields: &Fields, context: &Context) -> Result<Dataset> {
    match data.strip_prefix("task:") {
        Some(task) => from_traces(task, context).await,
        None => understudy_dataset::read(Path::new(data), fields),
    }
}

async fn from_traces(task: &str, context: &Context) -> Result<Dataset> {
    let path = context.store_path()?;
    let store = Store::open_existing(&path, StoreOptions::default())?;
    let rows: Vec<Row> = store
        .learning_rows(&task.into())
        .await?
        .into_iter()
        .enumerate()
        .map(|(index, row)| Row {
            id: row.id.to_string(),
            line: index + 1,
            text: row.input,
            label: Some(row.label),
            source: Some(if row.source == Source::Gold { "feedback" } else { "large model" }.to_owned()),
            time: Some(row.at.0.to_string()),
            ..Row::default()
        })
        .collect();
    if rows.is_empty() {
        let what = format!("read the traffic of task `{task}`: {} has no labelled request of it", path.display());
        return Err(Error::not_found(what));
    }
    let mapping = Mapping { text: Some("input".into()), label: Some("answer".into()), ..Mapping::default() };
    Ok(Dataset { name: format!("task:{task}"), format: Format::Traces, mapping, rows })
}

/// How many of the rows the model of a folder learned from, said where it is any: what is measured on them flatters it.
pub(crate) fn say_learned(dir: &Path, rows: &[Row]) -> Result<usize> {
    let Some(learned) = Learned::beside(dir)? else { return Ok(0) };
    let n = rows.iter().filter(|row| row.hashes().iter().any(|hash| learned.has(hash))).count();
    if n > 0 {
        let what = format!(
            "{} learned from {n} of these {} rows: what it does with them flatters it",
            dir.display(),
            rows.len()
        );
        say(format_args!("  {}", verdict(&what, false)));
    }
    Ok(n)
}

/// One line about how a file was understood.
pub(crate) fn understood(data: &Dataset) -> String {
    let found: Vec<String> =
        data.mapping.pairs().iter().map(|(meaning, field)| format!("{meaning} from `{field}`")).collect();
    format!("{}: {} rows ({}), {}", data.name, data.rows.len(), data.format.as_str(), found.join(", "))
}

/// Runs `understudy pilot data`.
pub(super) async fn run(args: DataArgs, context: &Context) -> Result<()> {
    let fields = args.fields.fields();
    let data = open(&args.data, &fields, context).await?;
    let summary = summarise(&data);
    show(&data, &summary);
    let doubts = match args.skip_label_errors {
        true => None,
        false => {
            let bar = crate::terminal::progress(0, "looking for wrong labels");
            let doubts = doubts::find(&data.rows, Seed(args.seed));
            bar.finish_and_clear();
            doubts
        }
    };
    if let Some(doubts) = &doubts {
        show_doubts(doubts);
    }
    let other = match &args.against {
        Some(other) => Some(open(other, &fields, context).await?),
        None => None,
    };
    let shared = other.as_ref().map(|other| leakage(&other.rows, &data.rows));
    if let (Some(shared), Some(other)) = (&shared, &other) {
        show_leakage(shared, other, &data);
    }
    let parts = args.split.as_deref().map(|shares| parts(&data, shares, Seed(args.seed))).transpose()?;
    if let Some(parts) = &parts {
        heading("Division by content");
        say(table(
            &["part", "rows"],
            &[1],
            parts.iter().map(|(part, n)| vec![part.as_str().to_owned(), n.to_string()]),
        ));
        note("  The part of a row follows from its text and the seed alone; copies of a text stay together.");
    }
    let mut object = object(&data, &summary, shared.as_ref(), parts.as_deref());
    object["label_errors"] = json!(doubts);
    crate::commands::finish(context, &object)
}

fn parts(data: &Dataset, shares: &[f64], seed: Seed) -> Result<Vec<(Part, usize)>> {
    let shares = Shares::new(shares[0], shares[1])?;
    let of: Vec<Part> = data.rows.iter().map(|row| part_of(&row.content_hash(), shares, seed)).collect();
    let count = |part| (part, of.iter().filter(|p| **p == part).count());
    Ok([Part::Train, Part::Calibrate, Part::Test].map(count).to_vec())
}

fn show(data: &Dataset, summary: &Summary) {
    say(format_args!("{} · {} · {} rows", data.name, data.format.as_str(), summary.n));
    heading("Fields");
    let fields = data.mapping.pairs();
    say(table(
        &["meaning", "field"],
        &[],
        fields.iter().map(|(meaning, field)| vec![(*meaning).into(), (*field).into()]),
    ));
    heading("Content");
    let (short, middle, long) = summary.characters;
    let facts = [
        ("with a label or reference", format!("{} of {}", summary.with_gold, summary.n)),
        ("different labels", summary.labels.len().to_string()),
        ("characters", format!("{short} to {long}, half of the texts up to {middle}")),
        ("repeat an earlier text", summary.duplicates.to_string()),
        ("nearly repeat one", summary.near_duplicates.to_string()),
        ("same text, other label", format!("{} texts", summary.contradictions.len())),
        ("nearly same, other label", format!("{} pairs", summary.near_contradictions.len())),
    ];
    say(table(&["", ""], &[], facts.into_iter().map(|(name, value)| vec![name.to_owned(), value])));
    if !summary.labels.is_empty() {
        heading("Labels");
        let row = |(label, n): &(String, usize)| {
            vec![label.clone(), n.to_string(), crate::terminal::percent(*n as f64 / summary.n as f64)]
        };
        say(table(&["label", "rows", "share"], &[1, 2], summary.labels.iter().take(SHOWN).map(row)));
        if summary.labels.len() > SHOWN {
            let least = &summary.labels[summary.labels.len() - 1];
            note(format_args!("  … and {} more, down to `{}` with {}", summary.labels.len() - SHOWN, least.0, least.1));
        }
    }
    heading("First rows");
    let row = |row: &Row| vec![row.id.clone(), cut(&row.text, 72), cut(row.gold().unwrap_or("–"), 28)];
    say(table(&["id", "text", "right"], &[], data.rows.iter().take(5).map(row)));
    for ids in summary.contradictions.iter().take(3) {
        note(format_args!("  same text, other labels: rows {}", ids.join(", ")));
    }
    for (first, second) in summary.near_contradictions.iter().take(3) {
        note(format_args!("  nearly the same text, other labels: rows {first} and {second}"));
    }
}

fn show_doubts(found: &Doubts) {
    heading("Labels that are probably wrong");
    let (share, agreed) = (&found.share, &found.agreement);
    let percent = crate::terminal::percent;
    say(format_args!(
        "{} of {} labels ({}, 95 % {} to {}) are doubted by a classifier on words that had not seen them; it agrees with \
         {} of all.",
        found.candidates.len(),
        found.n,
        percent(share.estimate),
        percent(share.low),
        percent(share.high),
        percent(agreed.estimate)
    ));
    let row = |d: &doubts::Doubt| {
        let line = if d.line > 0 { d.line.to_string() } else { d.id.clone() };
        vec![line, cut(&d.label, 28), cut(&d.suggested, 28), format!("{:.2}", d.margin), cut(&d.text, 60)]
    };
    if !found.candidates.is_empty() {
        say(table(
            &["line", "label", "rather", "margin", "text"],
            &[0, 3],
            found.candidates.iter().take(SHOWN).map(row),
        ));
        note("  The surest first; --json has all. Look before you relabel.");
        if agreed.estimate < 0.5 {
            note("  The classifier learned too little from these rows to be trusted: give it more of each label.");
        }
    }
}

fn show_leakage(shared: &Leakage, other: &Dataset, data: &Dataset) {
    heading("Leakage");
    let n = shared.exact.len();
    say(format_args!(
        "{n} of {} rows are also in {}; {} more nearly are",
        data.rows.len(),
        other.name,
        shared.near.len()
    ));
    for leaked in shared.exact.iter().chain(&shared.near).take(5) {
        let (there, here) = (&other.rows[leaked.train], &data.rows[leaked.test]);
        let gold = if leaked.same_gold { "" } else { " (with another label)" };
        say(format_args!("  {} ≈ {} there{gold}: {}", here.id, there.id, cut(&here.text, 72)));
    }
}

/// The beginning of a text on one line.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.chars().count() > most {
        true => line.chars().take(most - 1).chain(['…']).collect(),
        false => line,
    }
}

fn object(
    data: &Dataset,
    summary: &Summary,
    shared: Option<&Leakage>,
    parts: Option<&[(Part, usize)]>,
) -> serde_json::Value {
    let mapping: serde_json::Map<_, _> =
        data.mapping.pairs().into_iter().map(|(meaning, field)| (meaning.to_owned(), json!(field))).collect();
    let labels: serde_json::Map<_, _> = summary.labels.iter().map(|(label, n)| (label.clone(), json!(n))).collect();
    json!({
        "file": data.name,
        "format": data.format.as_str(),
        "fields": mapping,
        "n": summary.n,
        "with_gold": summary.with_gold,
        "labels": labels,
        "characters": {"min": summary.characters.0, "median": summary.characters.1, "max": summary.characters.2},
        "duplicates": summary.duplicates,
        "near_duplicates": summary.near_duplicates,
        "contradictions": summary.contradictions,
        "near_contradictions": summary.near_contradictions,
        "leakage": shared.map(|s| json!({"exact": s.exact.len(), "near": s.near.len()})),
        "split": parts.map(|parts| parts.iter().map(|(p, n)| (p.as_str().to_owned(), json!(n))).collect::<serde_json::Map<_, _>>()),
        "data_hash": data.hash(),
        "rows": data.rows.iter().take(5).map(|r| json!({"id": r.id, "text": r.text, "gold": r.gold()})).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn cuts_are_one_line_and_never_longer_than_asked_for() {
        assert_eq!(cut("a\n b", 10), "a b");
        assert_eq!(cut("äöüäöü", 4), "äöü…");
    }
}
