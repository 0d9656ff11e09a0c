//! `understudy adapt bias`: where a trained model errs more, and what its answers depend on that they should not.

mod show;

use crate::{
    clock::{SystemClock, fresh_seed},
    commands::{Context, pilot::data::say_learned},
    compose::Composer,
    terminal,
};
use clap::Args;
use serde::Serialize;
use show::{show, write_card};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};
use understudy_adapt::bias::{
    pairs::{self, Answered, Flips},
    slices::{self, Judged, Rules, SliceAudit},
    swap,
};
use understudy_core::{Error, Result};
use understudy_dataset::{self as dataset, Dataset, Fields, Row};
use understudy_model::{artifact::Artifact, classifier::Classifier};

#[derive(Debug, Args)]
pub(crate) struct BiasArgs {
    /// The model: the folder of an artifact
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Who taught it, or what it replaces: the folder of another artifact, beside it in every table
    #[arg(long, value_name = "DIR")]
    teacher: Option<PathBuf>,
    /// Field with the teacher's recorded answers
    #[arg(long, value_name = "FIELD", conflicts_with = "teacher")]
    teacher_answers: Option<String>,
    /// Labelled rows, or texts for --swap alone
    #[arg(long, value_name = "FILE", required_unless_present = "pairs")]
    data: Option<PathBuf>,
    /// Field or column that holds the text [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    text: Option<String>,
    /// Field or column that holds the label [default: found by its name]
    #[arg(long, value_name = "FIELD")]
    label: Option<String>,
    /// Fields that divide the rows into slices: language, region, product … or the label itself, `label`
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    by: Vec<String>,
    /// Ask again with words of the texts swapped: `gender` (English), or NAME=FILE with two words a line
    #[arg(long, value_name = "KIND")]
    swap: Vec<String>,
    /// A file with pairs of texts that differ only in who is spoken of
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Its fields: the first text, the second, and what the pair is about
    #[arg(long, value_name = "FIELD", num_args = 3, value_names = ["FIRST", "SECOND", "KIND"], requires = "pairs")]
    pair_fields: Option<Vec<String>>,
    /// Rows or pairs below which nothing is judged
    #[arg(long, default_value_t = 50, value_name = "N")]
    least: u64,
    /// Write the audit into the model card, the README.md of the artifact's folder
    #[arg(long)]
    card: bool,
    /// Threads of an encoder; 0 uses all
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

/// What is found.
#[derive(Debug, Serialize)]
struct Audit {
    model: String,
    hash: String,
    teacher: Option<String>,
    slices: Option<SliceAudit>,
    pairs: Vec<Flips>,
    /// Texts of the data that speak of somebody in words that can be swapped.
    swapped: usize,
    /// Rows of the data that the model learned from.
    learned_rows: usize,
}

/// Student and, where there is one, teacher.
struct Models {
    student: Classifier,
    teacher: Option<Classifier>,
}

/// Runs `understudy adapt bias`.
pub(super) async fn run(args: BiasArgs, context: &Context) -> Result<()> {
    if args.by.is_empty() && args.swap.is_empty() && args.pairs.is_none() {
        return Err(Error::invalid(
            "audit bias: say what to look at: --by FIELD (slices), --swap gender (texts about somebody else) or --pairs FILE",
        ));
    }
    let composer = Composer::new(Arc::new(SystemClock::new()), fresh_seed())?;
    let load = |dir: &Path| -> Result<(Artifact, Classifier)> {
        let artifact = Artifact::read(dir)?;
        let classifier = composer.classifier(&artifact, &context.models_dir, args.threads)?;
        Ok((artifact, classifier))
    };
    let (artifact, student) = load(&args.model)?;
    let (teacher_name, teacher) = match &args.teacher {
        Some(dir) => load(dir).map(|(a, c)| (Some(a.manifest().name.to_string()), Some(c)))?,
        None => (args.teacher_answers.clone(), None),
    };
    let models = Models { student, teacher };
    let data = args.data.as_deref().map(|file| open(file, args.text.as_deref(), args.label.as_deref())).transpose()?;
    let mut audit = Audit {
        model: artifact.manifest().name.to_string(),
        hash: artifact.hash().to_owned(),
        teacher: teacher_name,
        slices: None,
        pairs: Vec::new(),
        swapped: 0,
        learned_rows: 0,
    };
    if let Some(data) = &data {
        args.by.iter().try_for_each(|field| needs(data, field, "by"))?;
        args.teacher_answers.iter().try_for_each(|field| needs(data, field, "teacher-answers"))?;
        audit.learned_rows = say_learned(&args.model, &data.rows)?;
    }
    if let (Some(data), false) = (&data, args.by.is_empty()) {
        let judged = models.judge(data, &args).await?;
        let rules = Rules { least: args.least, ..Rules::default() };
        audit.slices = Some(slices::audit(&args.by, &judged, &rules)?);
    }
    let mut texts = args.pairs.as_deref().map(|file| read_pairs(file, &args)).transpose()?.unwrap_or_default();
    for wish in &args.swap {
        let Some(data) = &data else { return Err(Error::invalid("swap words: --data names the texts")) };
        let found = swapped(data, wish)?;
        audit.swapped += found.len();
        texts.extend(found);
    }
    if !texts.is_empty() || !args.swap.is_empty() {
        audit.pairs = pairs::audit(&models.answer(texts).await?, args.least, Rules::default().level)?;
    }
    show(&audit);
    if args.card {
        write_card(&artifact, &audit)?;
    }
    if context.json { terminal::json(&audit) } else { Ok(()) }
}

impl Models {
    /// Every labelled row, judged.
    async fn judge(&self, data: &Dataset, args: &BiasArgs) -> Result<Vec<Judged>> {
        let rows: Vec<(&Row, &str)> = data.rows.iter().filter_map(|row| Some((row, row.gold()?))).collect();
        let texts: Vec<&str> = rows.iter().map(|(row, _)| row.text.as_str()).collect();
        let answers = ask(&self.student, &texts, "asking the model").await?;
        let teacher = match &self.teacher {
            Some(teacher) => Some(ask(teacher, &texts, "asking the teacher").await?),
            None => None,
        };
        let judged = rows.iter().zip(answers).enumerate().map(|(i, ((row, gold), answer))| {
            let recorded = || args.teacher_answers.as_ref().and_then(|field| data.value(row, field));
            let told = teacher.as_ref().map(|t| t[i].clone()).or_else(recorded);
            Judged {
                slices: args.by.iter().map(|field| data.value(row, field)).collect(),
                wrong: answer != *gold,
                teacher_wrong: told.map(|told| told != *gold),
            }
        });
        Ok(judged.collect())
    }

    /// Both texts of every pair, answered.
    async fn answer(&self, texts: Vec<(String, [String; 2])>) -> Result<Vec<Answered>> {
        let flat: Vec<&str> = texts.iter().flat_map(|(_, pair)| pair.iter().map(String::as_str)).collect();
        let both =
            |answers: Vec<String>| answers.chunks_exact(2).map(|c| [c[0].clone(), c[1].clone()]).collect::<Vec<_>>();
        let student = both(ask(&self.student, &flat, "asking the model about pairs").await?);
        let teacher = match &self.teacher {
            Some(teacher) => Some(both(ask(teacher, &flat, "asking the teacher about pairs").await?)),
            None => None,
        };
        let answered = texts.into_iter().zip(student).enumerate();
        Ok(answered
            .map(|(i, ((kind, _), student))| Answered {
                kind,
                student,
                teacher: teacher.as_ref().map(|t| t[i].clone()),
            })
            .collect())
    }
}

async fn ask(model: &Classifier, texts: &[&str], what: &str) -> Result<Vec<String>> {
    use futures_util::{StreamExt, TryStreamExt, stream};
    let bar = terminal::progress(texts.len() as u64, what);
    let answers = stream::iter(texts.iter().map(|text| model.classify((*text).to_owned())))
        .buffered(64)
        .inspect_ok(|_| bar.inc(1))
        .map_ok(|answer| answer.label)
        .try_collect()
        .await;
    bar.finish_and_clear();
    answers
}

fn open(file: &Path, text: Option<&str>, label: Option<&str>) -> Result<Dataset> {
    let fields = Fields { text: text.map(str::to_owned), label: label.map(str::to_owned), ..Fields::default() };
    let data = dataset::read(file, &fields)?;
    terminal::note(format_args!("  {}", crate::commands::pilot::data::understood(&data)));
    Ok(data)
}

/// Refuses a field that no row has.
fn needs(data: &Dataset, field: &str, flag: &str) -> Result<()> {
    if data.has(field) {
        return Ok(());
    }
    let there: BTreeSet<&str> = data.rows.iter().flat_map(|row| row.extra.keys().map(String::as_str)).collect();
    let there: Vec<&str> = data.mapping.pairs().into_iter().map(|(_, field)| field).chain(there).collect();
    let what = format!("audit bias: no row of {} has a `{field}`; the fields are {}", data.name, there.join(", "));
    Err(Error::invalid(what).with_param(flag))
}

fn swapped(data: &Dataset, wish: &str) -> Result<Vec<(String, [String; 2])>> {
    let words = match wish.split_once('=') {
        None => swap::built_in(wish)?,
        Some((kind, file)) => {
            let text = std::fs::read_to_string(file).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Error::not_found(format!("read swaps {file}: {e}")),
                _ => Error::data(format!("read swaps {file}: {e}")),
            })?;
            swap::from_lines(kind, &text).map_err(|e| e.context(file.to_owned()))?
        }
    };
    let pair = |row: &Row| Some((words.kind.clone(), words.swap(&row.text)?.ordered(&row.text)));
    Ok(data.rows.iter().filter_map(pair).collect())
}

fn read_pairs(file: &Path, args: &BiasArgs) -> Result<Vec<(String, [String; 2])>> {
    let names = args.pair_fields.clone().unwrap_or_else(|| ["first", "second", "kind"].map(str::to_owned).to_vec());
    let fields = Fields { text: Some(names[0].clone()), ..Fields::default() };
    let data = dataset::read(file, &fields)?;
    if args.pair_fields.is_some() {
        needs(&data, &names[2], "pair-fields")?;
    }
    let pair = |row: &Row| {
        let lacking = || {
            let what = format!(
                "read pairs {}, line {}: it has no `{}`; --pair-fields names the fields",
                file.display(),
                row.line,
                names[1]
            );
            Error::data(what)
        };
        let second = data.value(row, &names[1]).ok_or_else(lacking)?;
        Ok((data.value(row, &names[2]).unwrap_or_else(|| "all".to_owned()), [row.text.clone(), second]))
    };
    data.rows.iter().map(pair).collect()
}
