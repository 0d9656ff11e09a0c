use super::*;
use understudy_core::{Confidence, LossKind, Per, Timestamp};

fn figure(estimate: f64, n: u64) -> Figure {
    Figure { estimate, low: (estimate - 0.01).max(0.0), high: (estimate + 0.01).min(1.0), n }
}

/// A report as the demo would fill it, made up for the layout.
pub(super) fn sample(withdrawn: Option<usize>) -> DemoReport {
    let grid: Vec<CurvePoint> = (0..=120)
        .map(|i| {
            let kept = f64::from(i) / 120.0;
            let loss = 0.0015 * kept + 0.05 * kept.powi(9);
            CurvePoint { threshold: 1.0 - 0.5 * kept, kept, loss, bound: loss + 0.002 + 0.004 * kept.sqrt() }
        })
        .collect();
    let chosen = *grid.iter().rfind(|p| p.bound <= 0.02).expect("some point passes");
    let certificate = Certificate {
        id: String::new(),
        task: "triage".into(),
        small: "triage-minilm".into(),
        small_hash: "4f1c09a2".repeat(8),
        large: "gpt-4o-mini".into(),
        epsilon: 0.02,
        delta: 0.05,
        loss: LossKind::Disagreement,
        per: Per::Request,
        loss_sum: None,
        n: 1508,
        losses: 19,
        threshold: Confidence::new(chosen.threshold).expect("in range"),
        kept: chosen.kept,
        bound: chosen.bound,
        data_hash: "9be1".repeat(16),
        issued: Timestamp(1_732_186_800_000),
    }
    .sealed();
    let spread = |centre: f64, n: usize| -> Vec<f64> {
        (0..n)
            .map(|i| {
                centre * (1.0 + 0.8 * (i as f64 / n as f64).powi(6)) * (1.0 + 0.2 * ((i * 7919 % 97) as f64 / 97.0))
            })
            .collect()
    };
    let live = 3023usize;
    let spending = (1..=live)
        .map(|request| SpendPoint {
            request,
            spent_usd: request as f64 * 2.9e-5,
            baseline_usd: request as f64 * 1.35e-4,
        })
        .collect();
    let evidence = (1..=withdrawn.unwrap_or(live))
        .map(|request| {
            let r = request as f64;
            let rise = if withdrawn.is_some() { (r / 330.0).exp() * 0.4 } else { 0.9 * (-r / 900.0).exp() + 0.06 };
            EvidencePoint {
                request,
                audits: request as u64 * 87 / 1000,
                losses: request as u64 * 12 / 10_000,
                loss_odds: rise * (1.0 + 0.3 * (r / 40.0).sin()),
                change_odds: 0.5 + 0.2 * (r / 90.0).cos(),
            }
        })
        .collect();
    DemoReport {
        task: "triage".into(),
        corpus: "6,046 real e-mails (SpamAssassin public corpus)".into(),
        order: "They were sent in a fixed random order: the certificate assumes that tomorrow's traffic is like the \
                calibration traffic."
            .into(),
        small: "triage-minilm".into(),
        large: "gpt-4o-mini".into(),
        stand_in: Some(
            "The large model is the corpus's answer key behind a real HTTP server with 300 ms latency and the prices \
             of gpt-4o-mini."
                .into(),
        ),
        written: "2026-11-21 11:20 UTC".into(),
        observed: 3023,
        live,
        kept: 2650,
        local_share: figure(0.8766, 3023),
        loss: Some(figure(if withdrawn.is_some() { 0.0274 } else { 0.0119 }, 3023)),
        accuracy: vec![
            Named { name: "small model alone".into(), figure: figure(0.951, 3023) },
            Named { name: "large model alone (the answer key)".into(), figure: figure(1.0, 3023) },
            Named { name: "together".into(), figure: figure(0.988, 3023) },
        ],
        epsilon: 0.02,
        delta: 0.05,
        saving: Some(Saving {
            spent_usd: 0.0877,
            baseline_usd: 0.4081,
            audits_usd: 0.0312,
            basis: "List prices of gpt-4o-mini; tokens estimated from the length of the texts.".into(),
        }),
        certificate: Some(certificate),
        refusal: None,
        withdrawal: withdrawn.map(|at| Withdrawn {
            at,
            reason: "audits show a loss of 4.1 % per request where 2.0 % was certified".into(),
        }),
        curve: grid,
        reliability: (0..10)
            .map(|i| {
                let confidence = 0.525 + 0.05 * f64::from(i);
                ReliabilityBin {
                    confidence,
                    right: (confidence + 0.03 * (f64::from(i) * 2.1).sin()).min(1.0),
                    n: 20 + u64::from(i as u32).pow(3) * 3,
                }
            })
            .collect(),
        latency: vec![
            Latency { name: "local".into(), ms: spread(19.0, 2650) },
            Latency { name: "escalated".into(), ms: spread(322.0, 373) },
        ],
        spending,
        evidence,
        evidence_limit: 20.0,
        confusion: Some(Confusion {
            labels: vec!["ham".into(), "spam".into()],
            counts: vec![vec![2010, 62], vec![86, 865]],
        }),
        commands: vec![
            Command { what: "the whole demo".into(), command: "cargo xtask demo --seed 0".into() },
            Command { what: "the same mails by date".into(), command: "cargo xtask demo --order time".into() },
        ],
    }
}

#[test]
fn the_page_loads_nothing_and_is_well_formed() {
    for report in [sample(None), sample(Some(1480))] {
        let html = render(&report);
        // Its script moves what is on the page and asks nobody.
        for forbidden in ["http://", "https://", "url(", "@import", "src=", "fetch(", "XMLHttpRequest", "import("] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        assert!(!html.contains("NaN") && !html.contains("inf"), "every number is one");
        let mut open: Vec<&str> = Vec::new();
        let (head, rest) = html.split_once("<script>").expect("one script");
        let markup = format!("{head}{}", rest.split_once("</script>").expect("closed").1);
        for tag in markup.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or("")) {
            let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap_or("");
            if tag.starts_with('!') || tag.ends_with('/') || ["meta", "br", "link", "input"].contains(&name) {
                continue;
            }
            match tag.starts_with('/') {
                true => assert_eq!(open.pop(), Some(name), "closed in order"),
                false => open.push(name),
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert_eq!(html.matches("<svg").count(), 5);
    }
}

#[test]
fn the_verdict_follows_the_figures() {
    let text = |report: &DemoReport| render(report);
    assert!(text(&sample(None)).contains("and the certified bound held"));
    assert!(text(&sample(Some(1480))).contains("withdrawn after 1,480 requests"));
    let mut worse = sample(None);
    worse.loss = Some(figure(0.031, 3023));
    assert!(text(&worse).contains("more was lost than certified"));
    let mut none = sample(None);
    none.certificate = None;
    none.refusal = Some("too few calibration items; about 400 more are needed".into());
    let html = text(&none);
    assert!(html.contains("Not certified") && html.contains("Too few calibration items"));
}

#[test]
fn an_empty_run_still_renders_and_texts_are_escaped() {
    let mut report = sample(None);
    report.certificate = None;
    report.loss = None;
    report.saving = None;
    report.confusion = None;
    (report.curve, report.reliability, report.latency) = (Vec::new(), Vec::new(), Vec::new());
    (report.spending, report.evidence, report.commands) = (Vec::new(), Vec::new(), Vec::new());
    report.task = "<b>&\"".into();
    let html = render(&report);
    assert!(html.contains("&lt;b&gt;&amp;&quot;") && !html.contains("<b>&"));
    assert_eq!(html.matches("<svg").count(), 0);
}

#[test]
fn the_files_are_written_side_by_side() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = write(dir.path(), &sample(None)).expect("written");
    assert_eq!(files.len(), 2);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&files[1]).expect("there")).expect("JSON");
    assert_eq!(json["kept"], 2650);
}
