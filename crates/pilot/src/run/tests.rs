use super::{verdict::Tried, *};
use crate::run::journal::Header;
use futures_util::{FutureExt, future::BoxFuture};
use std::sync::atomic::{AtomicU64, Ordering};
use understudy_core::{Answer, Capabilities, Clock, ModelName, Money, Place, Request, Seed, Timestamp, Usage};

struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// Answers the last word of the text, except on every `wrong`-th call; when it is 1, it fails from the sixth call on.
struct Fake {
    name: ModelName,
    capabilities: Capabilities,
    wrong: u64,
    calls: AtomicU64,
}

impl Backend for Fake {
    fn name(&self) -> &ModelName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer>> {
        async move {
            let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
            if self.wrong == 1 && call > 5 {
                return Err(Error::unavailable("ask the fake: it is down"));
            }
            let text = request.input.clone().unwrap_or_default();
            let label = if call.is_multiple_of(self.wrong) { "c" } else { text.rsplit(' ').next().unwrap_or_default() };
            let usage = Usage { input_tokens: 10, output_tokens: 1, ..Usage::default() };
            Ok(Answer::text(self.name.clone(), format!("The label is {label}."), usage))
        }
        .boxed()
    }
}

fn candidate(name: &str, wrong: u64, usd_per_million: f64) -> Candidate {
    let capabilities = Capabilities::of_text(Place::Local);
    let usd = Money::from_usd(usd_per_million).expect("small");
    let price = Price { input_per_million: usd, cached_input_per_million: usd, output_per_million: usd };
    Candidate {
        name: name.to_owned(),
        what: "fake".to_owned(),
        fingerprint: "1".to_owned(),
        source: Source::Live(Arc::new(Fake { name: name.into(), capabilities, wrong, calls: AtomicU64::new(0) })),
        price: Some(price),
        prompting: Prompting::Instructed,
        concurrency: 4,
        limit: None,
    }
}

fn rows(n: usize) -> Vec<Row> {
    let row = |i: usize| {
        let label = ["a", "b"][i % 2].to_owned();
        Row { id: i.to_string(), text: format!("text {i} {label}"), label: Some(label), ..Row::default() }
    };
    (0..n).map(row).collect()
}

fn plan() -> Plan {
    Plan {
        task: Task::Classify,
        labels: ["a", "b", "c"].map(String::from).to_vec(),
        range: None,
        out_of_scope: None,
        instruction: None,
        shots: 0,
        shots_by: "words".into(),
        max_tokens: 4,
        max_cost_usd: None,
        per_minute: None,
        stop_early: None,
        sampled: None,
    }
}

async fn asked<'r>(
    plan: &Plan,
    candidate: &Candidate,
    rows: &'r [Row],
    dir: &std::path::Path,
    baseline: Option<&BTreeMap<String, f64>>,
) -> (Answers<'r>, Money) {
    let mut journal = Journal::open(dir, &Header { inputs: "x".into() }).expect("a journal");
    let sleep = |_| async {}.boxed();
    let clock = Arc::new(Ticks(AtomicU64::new(0)));
    let mut runner = Runner { plan, clock, sleep: &sleep, journal: &mut journal, spent: Money::ZERO };
    let rows: Vec<&Row> = rows.iter().collect();
    let answers = runner.ask(candidate, &rows, None, baseline, &mut |_| {}).await.expect("the journal is writable");
    (answers, runner.spent)
}

#[tokio::test]
async fn the_cost_cap_is_never_exceeded_and_what_was_paid_for_is_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let (rows, candidate) = (rows(200), candidate("m", 1000, 1000.0));
    let cap = 1.5;
    let capped = Plan { max_cost_usd: Some(cap), ..plan() };
    let (answers, spent) = asked(&capped, &candidate, &rows, dir.path(), None).await;
    assert_eq!(answers.ended, Ended::CostCap);
    assert!(spent.usd() <= cap && spent.usd() > 0.5 * cap, "{spent}");
    let paid = answers.asked.len();
    assert!((spent.usd() - paid as f64 * 0.011).abs() < 1e-9 && paid < 200);
    // Without a cap the run goes on, and asks nothing again.
    let (answers, spent) = asked(&plan(), &candidate, &rows, dir.path(), None).await;
    assert_eq!((answers.asked.len(), answers.resumed, answers.ended), (200, paid, Ended::Done));
    assert!((spent.usd() - (200 - paid) as f64 * 0.011).abs() < 1e-9);
}

#[tokio::test]
async fn a_model_that_keeps_failing_is_given_up_and_its_failures_are_no_answers() {
    let dir = tempfile::tempdir().expect("a folder");
    let rows = rows(200);
    let (answers, _) = asked(&plan(), &candidate("m", 1, 0.0), &rows, dir.path(), None).await;
    assert!(matches!(&answers.ended, Ended::Failing(why) if why.contains("it is down")));
    assert!(answers.failed < 20 && answers.asked.len() == 5);
    assert!(figures(&plan(), &[], Seed(0)).is_none());
}

#[tokio::test]
async fn a_hopeless_model_is_stopped_early_and_the_order_of_answers_is_that_of_the_rows() {
    let dir = tempfile::tempdir().expect("a folder");
    let rows = rows(400);
    let baseline: BTreeMap<String, f64> = rows.iter().map(|row| (row.id.clone(), 1.0)).collect();
    let early = Plan { stop_early: Some(Margin { epsilon: 0.02, delta: 0.05 }), ..plan() };
    let (answers, _) = asked(&early, &candidate("m", 2, 0.0), &rows, dir.path(), Some(&baseline)).await;
    assert!(matches!(answers.ended, Ended::Decided(_)), "{:?}", answers.ended);
    assert!(answers.asked.len() < 200, "{} of 400", answers.asked.len());
    assert!(answers.asked.iter().zip(&rows).all(|(asked, row)| asked.row.id == row.id));
}

#[tokio::test]
async fn the_cheaper_model_is_recommended_when_it_is_not_worse_and_the_report_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let rows = rows(600);
    let mut tried = Vec::new();
    for candidate in [candidate("large", 1000, 100.0), candidate("small", 300, 1.0), candidate("bad", 3, 0.5)] {
        let (answers, _) = asked(&plan(), &candidate, &rows, dir.path(), None).await;
        let figures = figures(&plan(), &answers.asked, Seed(0));
        tried.push(Tried { candidate, answers, figures });
    }
    let margin = Margin { epsilon: 0.02, delta: 0.05 };
    let finding = judge(&plan(), &tried, Some("large"), margin, Timestamp(0)).expect("plain data").expect("measured");
    assert_eq!((finding.recommended.as_str(), finding.baseline.as_str()), ("small", "large"));
    assert!(finding.because.contains("99 % less"), "{}", finding.because);
    let bad = finding.paired.iter().find(|p| p.name == "bad").expect("compared");
    assert!(bad.inferior && !bad.not_inferior && bad.only_model == 0 && bad.only_baseline == 200);
    let accuracy = &tried[2].figures.as_ref().expect("measured").metrics["accuracy"];
    assert!((accuracy.estimate - 2.0 / 3.0).abs() < 1e-12 && accuracy.n == 600);
    let html = crate::report::render(&page::page(&plan(), &tried, Some(&finding), None, &page::Setting::default()));
    assert!(html.contains("small is good enough") && !html.contains("NaN"));
    // The same model twice: nobody is recommended over the baseline for nothing.
    let same = judge(&plan(), &tried[..1], None, margin, Timestamp(0)).expect("plain data").expect("measured");
    assert_eq!(same.recommended, "large");
}

/// A model that answered every row with this quality and confidence.
fn answered<'r>(name: &str, rows: &'r [Row], quality: f64, confidence: Option<f64>) -> Tried<'r> {
    let answer = RecordedAnswer { quality: Some(quality), confidence, ..RecordedAnswer::default() };
    let asked: Vec<Asked<'r>> = rows.iter().map(|row| Asked { row, answer: answer.clone() }).collect();
    let answers = Answers { asked, ended: Ended::Done, failed: 0, first_error: None, resumed: 0 };
    let plan = Plan { task: Task::Answer, ..plan() };
    let figures = figures(&plan, &answers.asked, Seed(0));
    Tried { candidate: candidate(name, 1000, 1.0), answers, figures }
}

#[test]
fn answers_that_fall_short_of_the_large_models_below_one_half_are_no_certificate() {
    let (rows, plan) = (rows(600), Plan { task: Task::Answer, ..plan() });
    let margin = Margin { epsilon: 0.02, delta: 0.05 };
    let of = |small: f64| {
        let tried = [answered("large", &rows, 0.45, None), answered("small", &rows, small, Some(0.9))];
        let finding = judge(&plan, &tried, Some("large"), margin, Timestamp(0)).expect("plain data");
        let finding = finding.expect("measured");
        (finding.together.expect("it says how sure it is"), finding.paired[0].clone())
    };
    let (together, paired) = of(0.2);
    assert!(together.certificate.is_none() && paired.inferior, "{together:?}");
    assert!(together.curve.iter().all(|(_, kept, loss, _)| (loss - 0.25 * kept).abs() < 1e-9), "{together:?}");
    let (together, paired) = of(0.45);
    assert!(together.certificate.is_some_and(|c| c.kept > 0.99) && paired.not_inferior);
}

#[test]
fn the_best_of_several_certificates_has_its_part_of_delta_and_a_model_stopped_early_gets_none() {
    let (rows, plan) = (rows(600), Plan { task: Task::Answer, ..plan() });
    let margin = Margin { epsilon: 0.02, delta: 0.05 };
    let mut tried = vec![
        answered("large", &rows, 1.0, None),
        answered("a", &rows, 1.0, Some(0.9)),
        answered("b", &rows, 1.0, Some(0.8)),
    ];
    let together = |tried: &[Tried<'_>]| {
        let finding = judge(&plan, tried, Some("large"), margin, Timestamp(0)).expect("plain data").expect("measured");
        assert!((finding.level - 0.95).abs() < 1e-12);
        finding.together
    };
    let certificate = together(&tried).and_then(|t| t.certificate).expect("600 rows without a loss");
    assert!((certificate.delta - 0.025).abs() < 1e-12);
    for stopped in &mut tried[1..] {
        stopped.answers.ended = Ended::Decided(crate::sequential::Decision::Inferior);
    }
    assert!(together(&tried).is_none());
    let finding = judge(&plan, &tried, Some("large"), margin, Timestamp(0)).expect("plain data").expect("measured");
    assert!(finding.paired.iter().all(|p| p.inferior && !p.not_inferior));
}

#[test]
fn lists_of_labels_are_measured_as_sets_and_confidence_is_that_of_the_whole_list() {
    let plan = Plan { task: Task::Labels, ..plan() };
    let list = |text: &str| -> Vec<String> { serde_json::from_str(text).expect("a list") };
    let cases = [
        (r#"["a","b"]"#, r#"["b", "a"]"#, 1.0),
        (r#"["a"]"#, r#"Labels: ["A"]"#, 1.0),
        ("[]", "[]", 1.0),
        (r#"["a","b"]"#, r#"["a"]"#, 2.0 / 3.0),
        ("[]", "nothing", 1.0),
        (r#"["c"]"#, r#"["made up"]"#, 0.0),
    ];
    let rows: Vec<Row> = cases
        .iter()
        .map(|(gold, ..)| Row { references: vec![(*gold).to_owned()], labels: Some(list(gold)), ..Row::default() })
        .collect();
    let mut asked = Vec::new();
    for (row, (_, said, worth)) in rows.iter().zip(cases) {
        let mut answer =
            RecordedAnswer { text: Some(said.to_owned()), confidence: Some(0.5), ..RecordedAnswer::default() };
        let quality = figures::quality(&plan, row, &answer).expect("the row says what is right");
        assert!((quality - worth).abs() < 1e-12, "{said}: {quality}");
        answer.quality = Some(quality);
        asked.push(Asked { row, answer });
    }
    let figures = figures(&plan, &asked, Seed(0)).expect("answers");
    let of = |name: &str| figures.metrics[name].estimate;
    // Right 4, given 5, expected 6; four lists are right as a whole, five answers hold a list.
    assert!((of("micro_f1") - 8.0 / 11.0).abs() < 1e-12 && (of("exact_match") - 4.0 / 6.0).abs() < 1e-12);
    assert!((of("json_valid") - 5.0 / 6.0).abs() < 1e-12 && figures.invented == 1);
    assert!((of("ece_equal_width") - (4.0 / 6.0 - 0.5)).abs() < 1e-12, "{}", of("ece_equal_width"));
}
