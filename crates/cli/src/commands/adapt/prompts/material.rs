//! The rows of a search: a pool of examples, rows to race on, rows that test. No text is in two of them.

use super::PromptsArgs;
use crate::{
    commands::{
        Context,
        pilot::{
            data::{open, understood},
            run::data::{fit_to, in_list},
        },
    },
    terminal::note,
};
use std::collections::{BTreeSet, HashSet};
use understudy_core::{Error, Result, Seed, hash::sha256_hex, hash::unit_interval};
use understudy_dataset::{Dataset, Part, Row, Shares, part_of};
use understudy_pilot::run::Task;

/// Shares of --data to race on and to test with; the test's without a file of its own.
const SHARES: (f64, f64) = (0.3, 0.3);
/// Rows that test, at least: fewer show no difference.
const FEWEST: usize = 20;

/// The rows, divided.
pub(super) struct Material {
    pub(super) task: Task,
    pub(super) labels: Vec<String>,
    pub(super) pool: Vec<Row>,
    pub(super) race: Vec<Row>,
    pub(super) test: Vec<Row>,
    /// Of all rows, before they were divided.
    pub(super) hash: String,
}

impl Material {
    pub(super) async fn open(args: &PromptsArgs, context: &Context) -> Result<Self> {
        let mut data = open(&args.data, &args.fields.fields(), context).await?;
        note(format_args!("  {}", understood(&data)));
        let mut test = match &args.test {
            None => None,
            Some(file) => {
                let test = open(file, &args.fields.fields(), context).await?;
                note(format_args!("  {}", understood(&test)));
                Some(test)
            }
        };
        let task = Task::from(args.task);
        let lists = task == Task::Classify && data.rows.iter().any(|row| row.labels.is_some());
        let task = if lists { Task::Labels } else { task };
        fit(&mut data, task);
        test.iter_mut().for_each(|test| fit(test, task));
        let hashes = [Some(&data), test.as_ref()].into_iter().flatten().map(Dataset::hash).collect::<Vec<_>>();
        let hash = sha256_hex(hashes.join("\n").as_bytes());
        let labels = labels(task, data.rows.iter().chain(test.iter().flat_map(|test| &test.rows)));
        let seed = Seed(args.seed);
        let tested: HashSet<String> = test.iter().flat_map(|t| &t.rows).map(Row::content_hash).collect();
        let shares = Shares::new(SHARES.0, if test.is_some() { 0.0 } else { SHARES.1 })?;
        let (mut pool, mut race, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for row in data.rows {
            let content = row.content_hash();
            if tested.contains(&content) {
                continue;
            }
            match part_of(&content, shares, seed) {
                Part::Train => pool.push(row),
                Part::Calibrate => race.push(row),
                Part::Test => rest.push(row),
            }
        }
        let test = test.map_or(rest, |test| test.rows);
        let material = Self {
            task,
            labels,
            pool: some(pool, args.pool, seed.derive("pool")),
            race: some(race, args.rows, seed.derive("race")),
            test: some(test, args.test_rows, seed.derive("test")),
            hash,
        };
        note(format_args!(
            "  {} rows to take examples from, {} to race on, {} to test with, by their content's hash",
            material.pool.len(),
            material.race.len(),
            material.test.len()
        ));
        if material.test.len() < FEWEST {
            return Err(Error::data(format!(
                "search prompts: {} rows to test with, {FEWEST} are needed; give more --data, or a --test file",
                material.test.len()
            )));
        }
        Ok(material)
    }
}

/// Rows as the task reads them, those that say what is right, each text once.
fn fit(data: &mut Dataset, task: Task) {
    if task == Task::Labels {
        data.rows.iter_mut().for_each(in_list);
    }
    fit_to(task, &mut data.rows);
    let before = data.rows.len();
    let is_object = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok_and(|v| v.is_object());
    let mut seen = HashSet::new();
    data.rows.retain(|row| {
        let right =
            row.gold().is_some_and(|gold| !gold.trim().is_empty() && (task != Task::Extract || is_object(gold)));
        right && seen.insert(row.content_hash())
    });
    if data.rows.len() < before {
        note(format_args!("  {} rows repeat a text or do not say what is right", before - data.rows.len()));
    }
}

fn labels<'r>(task: Task, rows: impl Iterator<Item = &'r Row>) -> Vec<String> {
    let of = |row: &'r Row| -> Vec<&'r String> {
        match task {
            Task::Classify => row.label.iter().collect(),
            Task::Labels => row.labels.iter().flatten().collect(),
            _ => Vec::new(),
        }
    };
    rows.flat_map(of).collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

/// At most `n` rows, in an order that has nothing to do with the file's.
fn some(rows: Vec<Row>, n: usize, seed: Seed) -> Vec<Row> {
    let mut drawn: Vec<(f64, Row)> = rows
        .into_iter()
        .map(|mut row| {
            // Its content names a row, so that answers are found again whatever file it comes from.
            row.id = row.content_hash();
            (unit_interval(&format!("{}:{}", seed.0, row.id)), row)
        })
        .collect();
    drawn.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.id.cmp(&b.1.id)));
    drawn.truncate(n);
    drawn.into_iter().map(|(_, row)| row).collect()
}
