//! What a file teaches: one label a text, or a list of labels.

use super::FinetuneArgs;
use crate::{compose::read_outcomes, terminal};
use std::{collections::BTreeSet, path::Path};
use understudy_core::Result;
use understudy_dataset::{self as dataset, Dataset, Example, Fields, Teacher};

/// What a file teaches.
pub(super) enum Material {
    /// One label a text.
    Single(Vec<Example>),
    /// A list of labels a text.
    Lists(Box<Dataset>),
}

pub(super) fn read(file: &Path, args: &FinetuneArgs) -> Result<Material> {
    if let Some(teacher) = &args.teacher {
        let teacher = if teacher == "gold" { Teacher::Gold } else { Teacher::Model(teacher.clone()) };
        return dataset::from_outcomes(&read_outcomes(file)?, &teacher).map(Material::Single);
    }
    let data = open(file, args.text.as_deref(), args.label.as_deref())?;
    if data.rows.iter().any(|row| row.labels.is_some()) {
        return Ok(Material::Lists(Box::new(data)));
    }
    let examples = data.examples()?;
    if let Some(field) = numbers(&data, &examples) {
        terminal::note(format_args!(
            "  the labels `{field}` are numbers and are learned as classes: that 2 lies between 1 and 3 is not used"
        ));
    }
    Ok(Material::Single(examples))
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
