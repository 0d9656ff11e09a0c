//! What a file teaches: one label a text, or a list of labels.

use super::finetune::{FinetuneArgs, Method};
use crate::{
    compose::read_outcomes,
    terminal,
    training::taught::{SHARES, Taught},
};
use std::{collections::BTreeSet, path::Path};
use understudy_core::{Error, Result};
use understudy_dataset::{self as dataset, Dataset, Example, Fields, Teacher};

/// In place of the field of shares: there is none.
pub(super) const NONE: &str = "none";

/// What a file teaches.
pub(super) enum Material {
    /// One label a text, and what a teacher said besides.
    Single(Vec<Example>, Taught),
    /// A list of labels a text.
    Lists(Box<Dataset>),
}

pub(super) fn read(file: &Path, args: &FinetuneArgs) -> Result<Material> {
    if let Some(teacher) = &args.teacher {
        if args.soft.is_some() || args.rationale.is_some() {
            return Err(Error::invalid("learn from recorded outcomes: they have no --soft and no --rationale"));
        }
        let teacher = if teacher == "gold" { Teacher::Gold } else { Teacher::Model(teacher.clone()) };
        let examples = dataset::from_outcomes(&read_outcomes(file)?, &teacher)?;
        return Ok(Material::Single(examples, Taught::default()));
    }
    let data = open(file, args.text.as_deref(), args.label.as_deref())?;
    if data.rows.iter().any(|row| row.labels.is_some()) {
        return Ok(Material::Lists(Box::new(data)));
    }
    let examples = data.examples()?;
    if let Some(field) = numbers(&data, &examples) {
        terminal::note(format_args!(
            "  the labels `{field}` are numbers and are learned as classes; `--task regress` learns that 2 lies between 1 and 3"
        ));
    }
    let taught = taught(&data, args)?;
    Ok(Material::Single(examples, taught))
}

/// What the rows say beside their label, and a line about it.
fn taught(data: &Dataset, args: &FinetuneArgs) -> Result<Taught> {
    let there = |field: &str| data.rows.iter().any(|row| row.extra.get(field).is_some_and(|value| !value.is_null()));
    let soft = match args.soft.as_deref() {
        Some(NONE) => None,
        Some(field) => Some(field),
        None => Some(SHARES).filter(|field| there(field)),
    };
    if args.method == Some(Method::Fewshot) {
        return Ok(Taught::default());
    }
    let rationale = args.rationale.as_deref().map(|field| (field, args.rationale_weight));
    let (taught, found) = Taught::read(data, soft, rationale)?;
    if let Some(field) = &args.rationale {
        terminal::note(format_args!(
            "  {} of {} rows say why in `{field}`: learned beside the label, at weight {}",
            found.reasons,
            data.rows.len(),
            args.rationale_weight
        ));
    }
    if let Some(field) = soft {
        let overruled = match found.overruled {
            0 => String::new(),
            n => format!("; {n} keep their label, which it does not put first"),
        };
        terminal::note(format_args!(
            "  {} of {} rows are learned by `{field}`, how likely each label is{overruled} (--soft none for labels alone)",
            found.soft,
            data.rows.len()
        ));
    }
    Ok(taught)
}

/// The label's field when all labels are numbers and there are more than two.
fn numbers<'d>(data: &'d Dataset, examples: &[Example]) -> Option<&'d str> {
    let labels: BTreeSet<&str> = examples.iter().map(|example| example.label.as_str()).collect();
    let all = labels.len() > 2 && labels.iter().all(|label| label.parse::<f64>().is_ok());
    if all { data.mapping.label.as_deref() } else { None }
}

fn open(file: &Path, text: Option<&str>, label: Option<&str>) -> Result<Dataset> {
    let fields = Fields { text: text.map(str::to_owned), label: label.map(str::to_owned), ..Fields::default() };
    let data = dataset::read(file, &fields)?;
    terminal::note(format_args!("  {}", crate::commands::pilot::data::understood(&data)));
    Ok(data)
}

/// Labelled examples from a file, and a line about how it was understood.
pub(super) fn read_examples(file: &Path, text: Option<&str>, label: Option<&str>) -> Result<Vec<Example>> {
    open(file, text, label)?.examples()
}

/// The texts of a file, whatever else is in it.
pub(super) fn read_texts(file: &Path, text: Option<&str>) -> Result<Vec<String>> {
    Ok(open(file, text, None)?.rows.into_iter().map(|row| row.text).collect())
}
