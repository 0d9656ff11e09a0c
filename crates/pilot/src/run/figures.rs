//! From answers to figures: what each answer is worth, and the metrics of a model over all of them.

use super::{Asked, Plan, Task, numbers};
use crate::metrics::{Metric, calibration, classification, facts, fields, speed, text};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_core::{RecordedAnswer, Seed};
use understudy_dataset::Row;
use understudy_stats::{binomial, sets};

/// Everything measured on one model.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Rows it answered and that say what is right.
    pub n: u64,
    /// Metrics by name, each with its interval.
    pub metrics: BTreeMap<String, Metric>,
    /// Latency, throughput, cost.
    pub speed: speed::Report,
    /// The labels, for classifications.
    pub classes: Vec<classification::ClassScore>,
    /// Labels against answers, for classifications.
    #[serde(skip)]
    pub confusion: Option<classification::Confusion>,
    /// The reliability diagram, where the model says how sure it is.
    pub reliability: Vec<calibration::Bin>,
    /// Fields, for extractions.
    pub fields: BTreeMap<String, fields::Field>,
    /// Answers that are no label of the task.
    pub invented: u64,
}

/// What an answer is worth, in [0, 1]; `None` where the row does not say what is right.
#[must_use]
pub fn quality(plan: &Plan, row: &Row, answer: &RecordedAnswer) -> Option<f64> {
    let gold = row.gold()?;
    let reply = answer.reply().unwrap_or_default();
    let references = || -> Vec<&str> {
        if row.references.is_empty() { vec![gold] } else { row.references.iter().map(String::as_str).collect() }
    };
    let value = match plan.task {
        Task::Classify => f64::from(u8::from(answer.answer.as_deref().is_some_and(|label| same_label(label, gold)))),
        Task::Labels => {
            let places = Places::of(plan);
            sets::f1(&places.positions(row.labels.as_deref()?), &places.answered(reply))
        }
        Task::Regress => numbers::closeness(plan.range?, gold, reply)?,
        Task::Extract => {
            let expected = serde_json::from_str(gold).ok()?;
            fields::report(&[expected], &[reply], &[], Seed(0))?.micro_f1.estimate
        }
        Task::Answer => text::token_f1(&references(), reply),
        Task::Summarise | Task::Generate => text::rouge::best(&references(), reply, text::Stemming::Porter).rouge_l.f,
    };
    Some(value)
}

fn same_label(a: &str, b: &str) -> bool {
    a.trim().eq_ignore_ascii_case(b.trim())
}

/// Measures a model; `None` without answers. Where no row says what is right, only speed and cost are known.
#[must_use]
pub fn figures(plan: &Plan, asked: &[Asked<'_>], seed: Seed) -> Option<Figures> {
    let judged: Vec<&Asked<'_>> = asked.iter().filter(|a| a.row.gold().is_some()).collect();
    if asked.is_empty() {
        return None;
    }
    let mut figures = Figures {
        n: judged.len() as u64,
        metrics: BTreeMap::new(),
        speed: speed::report(asked.iter().map(|a| &a.answer), seed.derive("speed")),
        classes: Vec::new(),
        confusion: None,
        reliability: Vec::new(),
        fields: BTreeMap::new(),
        invented: 0,
    };
    if judged.is_empty() {
        return Some(figures);
    }
    let replies: Vec<&str> = judged.iter().map(|a| a.answer.reply().unwrap_or_default()).collect();
    match plan.task {
        Task::Classify => classify(plan, &judged, seed, &mut figures),
        Task::Labels => lists(plan, &judged, &replies, seed, &mut figures),
        Task::Regress => numbers::measure(plan, &judged, &replies, seed, &mut figures),
        Task::Extract => extract(&judged, &replies, seed, &mut figures),
        Task::Summarise | Task::Answer | Task::Generate => texts(plan, &judged, &replies, seed, &mut figures),
    }
    confidence(plan, &judged, seed, &mut figures);
    Some(figures)
}

fn classify(plan: &Plan, judged: &[&Asked<'_>], seed: Seed, figures: &mut Figures) {
    let spelled = |label: &str| {
        let known = plan.labels.iter().find(|known| same_label(known, label));
        known.cloned().unwrap_or_else(|| label.trim().to_owned())
    };
    let truth: Vec<String> = judged.iter().map(|a| spelled(a.row.gold().unwrap_or_default())).collect();
    let given =
        |a: &&Asked<'_>| a.answer.answer.as_deref().map_or_else(|| classification::NO_ANSWER.to_owned(), spelled);
    let predicted: Vec<String> = judged.iter().map(given).collect();
    figures.invented = predicted.iter().filter(|p| !plan.labels.contains(p)).count() as u64;
    if let Some(report) = classification::report(&truth, &predicted, seed.derive("classes")) {
        for (name, metric) in [
            ("accuracy", Some(report.accuracy)),
            ("macro_f1", Some(report.macro_f1)),
            ("weighted_f1", Some(report.weighted_f1)),
            ("balanced_accuracy", Some(report.balanced_accuracy)),
            ("kappa", report.kappa),
        ] {
            figures.put(name, metric);
        }
        figures.classes = report.classes;
        figures.confusion = Some(report.confusion);
    }
    if let Some(outside) = &plan.out_of_scope {
        let scope = classification::scope(&truth, &predicted, outside);
        figures.put("in_scope_accuracy", scope.in_scope_accuracy);
        figures.put("out_of_scope_recall", scope.out_of_scope_recall);
        figures.put("out_of_scope_precision", scope.out_of_scope_precision);
    }
}

/// Positions of labels: the plan's, then those that models made up.
struct Places<'p>(&'p [String]);

impl<'p> Places<'p> {
    fn of(plan: &'p Plan) -> Self {
        Self(&plan.labels)
    }

    /// Ascending, each once; a label that is none of the plan's is beyond the last.
    fn positions(&self, labels: &[String]) -> Vec<usize> {
        let place = |label: &String| self.0.iter().position(|known| same_label(known, label)).unwrap_or(self.0.len());
        let mut places: Vec<usize> = labels.iter().map(place).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Of an answer: a JSON list of texts, wherever it stands in it.
    fn answered(&self, reply: &str) -> Vec<usize> {
        self.positions(&list_in(reply).unwrap_or_default())
    }
}

/// The JSON list of texts that an answer is or holds.
fn list_in(reply: &str) -> Option<Vec<String>> {
    let reply = reply.trim();
    serde_json::from_str(reply).ok().or_else(|| {
        let (from, to) = (reply.find('[')?, reply.rfind(']')?);
        serde_json::from_str(reply.get(from..=to)?).ok()
    })
}

fn lists(plan: &Plan, judged: &[&Asked<'_>], replies: &[&str], seed: Seed, figures: &mut Figures) {
    let places = Places::of(plan);
    let truth: Vec<Vec<usize>> =
        judged.iter().map(|a| places.positions(a.row.labels.as_deref().unwrap_or_default())).collect();
    let given: Vec<Vec<usize>> = replies.iter().map(|reply| places.answered(reply)).collect();
    figures.invented = given.iter().filter(|given| given.contains(&plan.labels.len())).count() as u64;
    let lists = replies.iter().filter(|reply| list_in(reply).is_some()).count() as u64;
    let mut rng = ChaCha12Rng::seed_from_u64(seed.derive("labels").0);
    let Some(report) = sets::report(&truth, &given, plan.labels.len() + 1, &mut rng) else { return };
    for (name, bound) in [
        ("micro_f1", report.micro_f1),
        ("macro_f1", report.macro_f1),
        ("precision", report.precision),
        ("recall", report.recall),
        ("exact_match", report.exact),
        ("json_valid", binomial::interval(lists, replies.len() as u64, 0.95)),
    ] {
        let metric = Metric { estimate: bound.estimate, low: bound.low, high: bound.high, n: judged.len() as u64 };
        figures.put(name, Some(metric));
    }
}

fn extract(judged: &[&Asked<'_>], replies: &[&str], seed: Seed, figures: &mut Figures) {
    let expected: Option<Vec<serde_json::Value>> =
        judged.iter().map(|a| serde_json::from_str(a.row.gold()?).ok()).collect();
    let Some(report) = expected.and_then(|e| fields::report(&e, replies, &[], seed.derive("fields"))) else { return };
    for (name, metric) in [
        ("json_valid", report.valid),
        ("json_bare", report.bare),
        ("exact_match", report.exact),
        ("precision", report.precision),
        ("recall", report.recall),
        ("micro_f1", report.micro_f1),
        ("macro_f1", report.macro_f1),
    ] {
        figures.put(name, Some(metric));
    }
    figures.fields = report.fields;
}

fn texts(plan: &Plan, judged: &[&Asked<'_>], replies: &[&str], seed: Seed, figures: &mut Figures) {
    let references: Vec<Vec<&str>> = judged
        .iter()
        .map(|a| match a.row.references.is_empty() {
            true => vec![a.row.gold().unwrap_or_default()],
            false => a.row.references.iter().map(String::as_str).collect(),
        })
        .collect();
    if let Some(report) = text::report(&references, replies, text::Stemming::Porter, seed.derive("texts")) {
        for (name, metric) in [
            ("exact_match", report.exact_match),
            ("token_f1", report.token_f1),
            ("rouge1", report.rouge1),
            ("rouge2", report.rouge2),
            ("rouge_l", report.rouge_l),
            ("rouge_lsum", report.rouge_lsum),
            ("bleu", report.bleu),
        ] {
            figures.put(name, Some(metric));
        }
    }
    if plan.task == Task::Summarise {
        let checked: Vec<facts::Checked> =
            judged.iter().zip(replies).map(|(a, reply)| facts::check(&a.row.text, a.row.gold(), reply)).collect();
        if let Some(report) = facts::report(&checked, seed.derive("facts")) {
            figures.put("answers_with_hallucination", Some(report.answers_with_hallucination));
            figures.put("hallucinated_per_answer", Some(report.hallucinated_per_answer));
            figures.put("hallucinated_share", report.hallucinated_share);
            figures.put("omitted_share", report.omitted_share);
        }
    }
}

/// Calibration, where every judged answer came with a confidence. A quality from one half up counts as right; of a list of
/// labels the confidence is that of the whole list.
fn confidence(plan: &Plan, judged: &[&Asked<'_>], seed: Seed, figures: &mut Figures) {
    let least = if plan.task == Task::Labels { 1.0 } else { crate::items::RIGHT };
    let pairs: Option<Vec<(f64, bool)>> = judged
        .iter()
        .map(|a| Some((a.answer.score()?.clamp(0.0, 1.0), a.answer.quality.unwrap_or(0.0) >= least)))
        .collect();
    let Some(pairs) = pairs else { return };
    let (confidence, right): (Vec<f64>, Vec<bool>) = pairs.into_iter().unzip();
    if let Some(report) = calibration::report(&confidence, &right, seed.derive("calibration")) {
        for (name, metric) in [
            ("ece", report.ece),
            ("ece_equal_width", report.ece_equal_width),
            ("brier", report.brier),
            ("log_loss", report.log_loss),
        ] {
            figures.put(name, Some(metric));
        }
        figures.reliability = report.bins;
    }
}

impl Figures {
    pub(super) fn put(&mut self, name: &str, metric: Option<Metric>) {
        if let Some(metric) = metric {
            self.metrics.insert(name.to_owned(), metric);
        }
    }

    /// The figure that decides.
    #[must_use]
    pub fn main(&self, task: Task) -> Option<&Metric> {
        self.metrics.get(task.main_metric().0)
    }

    /// As `pilot run --json` prints it: numbers by name, and their intervals beside them.
    #[must_use]
    pub fn object(&self) -> serde_json::Map<String, serde_json::Value> {
        use serde_json::json;
        let mut object = serde_json::Map::new();
        let mut intervals = serde_json::Map::new();
        object.insert("n".into(), json!(self.n));
        let speed = [
            ("latency_ms_p50", self.speed.latency_ms_p50),
            ("latency_ms_p95", self.speed.latency_ms_p95),
            ("latency_ms_p99", self.speed.latency_ms_p99),
            ("tokens_per_s", self.speed.tokens_per_s),
            ("cost_usd_mean", self.speed.cost_usd_mean),
        ];
        let all = self.metrics.iter().map(|(name, metric)| (name.as_str(), Some(*metric))).chain(speed);
        for (name, metric) in all {
            object.insert(name.to_owned(), json!(metric.map(|m| m.estimate)));
            if let Some(m) = metric {
                intervals.insert(name.to_owned(), json!({"low": m.low, "high": m.high, "n": m.n}));
            }
        }
        object.insert("cost_usd".into(), json!(self.speed.cost_usd));
        object.insert("cost_unknown".into(), json!(self.speed.cost_unknown));
        object.insert("tokens_in".into(), json!(self.speed.tokens_in));
        object.insert("tokens_out".into(), json!(self.speed.tokens_out));
        object.insert("invented_labels".into(), json!(self.invented));
        object.insert("intervals".into(), intervals.into());
        object
    }
}
