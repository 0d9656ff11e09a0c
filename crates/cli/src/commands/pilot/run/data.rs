//! The rows of a pilot: opened, divided, and freed of what training and measuring rows have in common.

use super::RunArgs;
use crate::{
    commands::{Context, pilot::data as open},
    contenders::WORDS,
    terminal::note,
};
use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
};
use understudy_core::{Error, Result, Seed, hash::unit_interval};
use understudy_dataset::{Dataset, Part, Row, Shares, leakage, part_of, summarise};
use understudy_model::{artifact::MANIFEST, catalogue::Kind, installed};
use understudy_pilot::run::{Task, numbers::number_in};

/// Share of the rows that are measured on when there is no file of training rows.
const TEST_SHARE: f64 = 0.5;
/// Different labels above which a file is no classification.
const MOST_LABELS: usize = 1000;

/// Rows to measure on and rows to learn from.
pub(super) struct Material {
    /// What is asked: a classification whose rows list labels asks for all that apply.
    pub(super) task: Task,
    pub(super) rows: Vec<Row>,
    pub(super) train: Vec<Row>,
    pub(super) labels: Vec<String>,
    pub(super) hash: String,
    pub(super) train_hash: String,
    /// Name of the data without folder and ending.
    pub(super) stem: String,
    /// Facts for the data card.
    pub(super) facts: Vec<(String, String)>,
}

impl Material {
    pub(super) async fn open(args: &RunArgs, task: Task, context: &Context) -> Result<Self> {
        let fields = args.fields.fields();
        let mut data = open::open(&args.data, &fields, context).await?;
        note(format_args!("  {}", open::understood(&data)));
        let lists = task == Task::Classify && data.rows.iter().any(|row| row.labels.is_some());
        let task = if lists { Task::Labels } else { task };
        let mut facts = vec![("rows".to_owned(), format!("{} ({})", data.rows.len(), data.format.as_str()))];
        let found: Vec<String> = data.mapping.pairs().iter().map(|(m, f)| format!("{m} from `{f}`")).collect();
        facts.push(("fields".to_owned(), found.join(", ")));
        let summary = summarise(&data);
        facts.push((
            "repeated texts".to_owned(),
            format!("{} exactly, {} nearly", summary.duplicates, summary.near_duplicates),
        ));
        let doubtful = summary.contradictions.len() + summary.near_contradictions.len();
        if doubtful > 0 {
            facts.push(("the same or nearly the same text with another label".to_owned(), format!("{doubtful} times")));
        }
        let mut train = match &args.train {
            Some(file) => {
                let train = open::open(file, &fields, context).await?;
                note(format_args!("  {}", open::understood(&train)));
                facts.push(("training rows".to_owned(), format!("{} in {file}", train.rows.len())));
                train
            }
            None => divide(&mut data, args, learns(args, task, context)?, &mut facts)?,
        };
        free_of_leaks(&mut train, &data, &mut facts);
        if task == Task::Labels {
            note(format_args!("  rows list labels: models are asked for all that apply"));
            data.rows.iter_mut().for_each(in_list);
        }
        fit_to(task, &mut data.rows);
        fit_to(task, &mut train.rows);
        let before = data.rows.len();
        let is_number = |row: &Row| row.gold().and_then(number_in).is_some();
        if task == Task::Regress && data.rows.iter().any(is_number) {
            data.rows.retain(is_number);
            train.rows.retain(is_number);
        } else if data.rows.iter().any(|row| row.gold().is_some()) {
            data.rows.retain(|row| row.gold().is_some());
        }
        if data.rows.len() < before {
            let dropped = format!("{} rows do not say what is right and are left out", before - data.rows.len());
            note(format_args!("  {dropped}"));
            facts.push(("without a right answer".to_owned(), dropped));
        }
        let labels = match task {
            Task::Classify => labels(&data, &train)?,
            Task::Labels => {
                let rows = data.rows.iter().chain(&train.rows).filter_map(|row| row.labels.as_ref());
                rows.flatten().collect::<BTreeSet<_>>().into_iter().cloned().collect()
            }
            _ => Vec::new(),
        };
        let stem = Path::new(&data.name).file_name().unwrap_or_default().to_string_lossy().replace(':', "-");
        Ok(Self {
            task,
            hash: data.hash(),
            train_hash: if train.rows.is_empty() { String::new() } else { train.hash() },
            stem: stem.split('.').next().unwrap_or("data").to_owned(),
            rows: data.rows,
            train: train.rows,
            labels,
            facts,
        })
    }

    /// The rows in an order that has nothing to do with the file's, the same for every model.
    pub(super) fn order(&self, seed: Seed, limit: Option<usize>) -> Vec<&Row> {
        let seed = seed.derive("order").0;
        let mut rows: Vec<(f64, &Row)> =
            self.rows.iter().map(|row| (unit_interval(&format!("{seed}:{}", row.id)), row)).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.id.cmp(&b.1.id)));
        rows.truncate(limit.unwrap_or(usize::MAX));
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

/// True when one of the models learns from rows, or shows some in its prompts. An artifact has learned already.
fn learns(args: &RunArgs, task: Task, context: &Context) -> Result<bool> {
    if args.shots > 0 || (task == Task::Classify && args.models.is_empty()) {
        return Ok(true);
    }
    for wish in args.models.iter().filter(|_| task == Task::Classify) {
        let name = wish.split_once('@').map_or(wish.as_str(), |(name, _)| name);
        if name.starts_with("recorded:") || Path::new(name).join(MANIFEST).exists() {
            continue;
        }
        let (base, variant) = name.split_once(':').unwrap_or((name, ""));
        // What is no name of an installed model is judged where it is looked for.
        let found = installed::find(&context.models_dir, base).ok().flatten();
        let frozen = found.is_some_and(|model| model.kind == Kind::Encoder) && variant != "zero-shot";
        if name == WORDS || frozen {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Without a file of training rows, half of the rows train where a model learns.
fn divide(data: &mut Dataset, args: &RunArgs, learns: bool, facts: &mut Vec<(String, String)>) -> Result<Dataset> {
    let mut train = Dataset { rows: Vec::new(), ..data.clone() };
    if !learns {
        return Ok(train);
    }
    let shares = Shares::new(0.0, TEST_SHARE)?;
    let rows = std::mem::take(&mut data.rows);
    let (test, learn) =
        rows.into_iter().partition(|row| part_of(&row.content_hash(), shares, Seed(args.seed)) == Part::Test);
    (data.rows, train.rows) = (test, learn);
    let said = format!("{} by their content's hash; {} are measured on", train.rows.len(), data.rows.len());
    note(format_args!("  no --train: {said}"));
    facts.push(("training rows".to_owned(), said));
    Ok(train)
}

/// Training rows that are also measured on are left out of training.
fn free_of_leaks(train: &mut Dataset, data: &Dataset, facts: &mut Vec<(String, String)>) {
    if train.rows.is_empty() {
        return;
    }
    let shared = leakage(&train.rows, &data.rows);
    let measured: HashSet<String> = data.rows.iter().map(Row::content_hash).collect();
    let before = train.rows.len();
    train.rows.retain(|row| !measured.contains(&row.content_hash()));
    let said = format!(
        "{} measured rows are also training rows (those {} were left out of training), {} more nearly are",
        shared.exact.len(),
        before - train.rows.len(),
        shared.near.len()
    );
    if !shared.exact.is_empty() || !shared.near.is_empty() {
        note(format_args!("  {said}"));
    }
    facts.push(("leakage".to_owned(), said));
}

/// A row with one label among rows that list theirs is a list of one.
pub(crate) fn in_list(row: &mut Row) {
    if let (None, Some(label)) = (&row.labels, row.label.take()) {
        row.references = vec![serde_json::json!([label]).to_string()];
        row.labels = Some(vec![label]);
    }
}

/// A classification reads labels, everything else reads references; each takes the other where its own is missing.
pub(crate) fn fit_to(task: Task, rows: &mut [Row]) {
    for row in rows {
        if task == Task::Classify {
            row.label = row.label.take().or_else(|| row.references.first().map(|text| text.trim().to_owned()));
        } else if row.references.is_empty() {
            row.references.extend(row.label.take());
        } else if let Some(label) = row.label.take() {
            row.group.get_or_insert(label);
        }
    }
}

fn labels(data: &Dataset, train: &Dataset) -> Result<Vec<String>> {
    let rows = || data.rows.iter().chain(&train.rows);
    let labels: BTreeSet<&str> = rows().filter_map(|row| row.label.as_deref()).collect();
    if labels.is_empty() {
        return Err(Error::data(format!(
            "classify {}: no row has a label; --label names the field (the fields are {})",
            data.name,
            data.rows.first().map_or_else(String::new, |row| row.extra.keys().cloned().collect::<Vec<_>>().join(", "))
        )));
    }
    if labels.len() > MOST_LABELS {
        return Err(Error::data(format!(
            "classify {}: its {} rows have {} different labels; is it another task (--task)?",
            data.name,
            data.rows.len(),
            labels.len()
        )));
    }
    Ok(labels.into_iter().map(str::to_owned).collect())
}
