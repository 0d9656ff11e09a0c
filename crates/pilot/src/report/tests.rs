use super::*;
use charts::{Axis, Bar, Interval, ReliabilityBin, Series, Spot, Tradeoff, TradeoffPoint};

fn axis(name: &str, range: (f64, f64)) -> Axis<'_> {
    Axis { name, range, log: false, label: &|v| format!("{v:.1}") }
}

fn drawn() -> Vec<String> {
    let points: Vec<TradeoffPoint> = (0..=10)
        .map(|i| {
            let kept = f64::from(i) / 10.0;
            TradeoffPoint {
                threshold: 1.0 - kept,
                kept,
                loss: kept * kept * 0.04,
                bound: Some(kept * 0.05),
                cost_usd_per_1k: Some(1.0 - kept),
            }
        })
        .collect();
    let curve = Tradeoff { points: &points, epsilon: Some(0.02), chosen: Some(0.4) };
    let bins =
        [ReliabilityBin { confidence: 0.6, right: 0.5, n: 10 }, ReliabilityBin { confidence: 0.9, right: 0.95, n: 20 }];
    let series = [Series { name: "a<b".into(), points: vec![(0.0, 0.0), (1.0, 1.0)], ..Series::default() }];
    let interval = Interval { name: "m".into(), estimate: 0.5, low: 0.4, high: 0.6, note: "n = 3".into() };
    vec![
        charts::tradeoff("t", &curve).expect("points"),
        charts::reliability(&bins).expect("bins"),
        charts::lines("l", axis("x", (0.0, 1.0)), axis("y", (0.0, 1.0)), &series, Some((0.5, "half"))),
        charts::intervals("i", axis("x", (0.0, 1.0)), &[interval], None),
        charts::bars("b", axis("x", (0.0, 1.0)), &[Bar { name: "x".into(), value: 0.5, note: String::new() }]),
        charts::scatter(
            "s",
            axis("x", (0.0, 1.0)),
            axis("y", (0.0, 1.0)),
            &[Spot { name: "p".into(), at: (0.5, 0.5), note: String::new() }],
        ),
    ]
}

fn sample() -> Report {
    let plots = drawn().into_iter().map(|svg| Figure { title: "<T>".into(), how: "h".into(), svg }).collect();
    let table = Table {
        columns: vec![Column::text("model"), Column::number("right")],
        rows: vec![vec!["a & b".into(), Cell::with("91 %", "90 – 92")]],
        ..Table::default()
    };
    Report {
        title: "banking".into(),
        verdict: "Use <b>minilm</b>".into(),
        figures: vec![KeyFigure { name: "Right".into(), number: "91 %".into(), note: "n = 10".into() }],
        sections: vec![Section {
            title: "Why".into(),
            intro: "it is so".into(),
            blocks: vec![
                Block::Plots(plots),
                Block::Table(table),
                Block::Sheet(vec![("n".into(), "10".into())]),
                Block::Fold("more".into(), vec![Block::Text("text".into())]),
            ],
        }],
        commands: vec![("all".into(), "understudy pilot run --model \"x\"".into())],
        ..Report::default()
    }
}

/// Every tag that opens is closed, in order; void tags aside.
fn balanced(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = html.split("<script>").next().unwrap_or_default().split("</style>").nth(1).expect("a body");
    for tag in body.split('<').skip(1) {
        let end = tag.find('>').unwrap_or_else(|| panic!("no end: {tag}"));
        let (tag, void) = (&tag[..end], tag[..end].ends_with('/'));
        let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap_or_default();
        if void || ["br", "input", "meta", "link"].contains(&name) {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "at </{name}>");
        } else {
            open.push(name);
        }
    }
    assert_eq!(open, ["body"], "the script and the end follow");
}

#[test]
fn the_page_is_whole_escapes_what_it_is_given_and_fetches_nothing() {
    let html = render(&sample());
    balanced(&html.replace("</head>", ""));
    assert!(html.contains("Use &lt;b&gt;minilm&lt;/b&gt;") && html.contains("a &amp; b") && html.contains("It is so."));
    assert!(
        !html.contains("http://") && !html.contains("https://") && !html.contains("src=\""),
        "no link to the network"
    );
    assert!(html.contains("default-src 'none'"), "and the browser enforces it");
    assert!(!html.contains("NaN"));
}

#[test]
fn the_slider_starts_at_the_chosen_threshold_and_every_step_says_what_it_does() {
    let svg = &drawn()[0];
    assert!(svg.contains("value=\"4\"") && svg.contains("max=\"10\""), "{svg}");
    let steps =
        svg.split("data-steps=\"").nth(1).and_then(|s| s.split('"').next()).expect("steps").replace("&quot;", "\"");
    let steps: Vec<serde_json::Value> = serde_json::from_str(&steps).expect("JSON");
    assert_eq!(steps.len(), 11);
    assert!(
        steps[10]["says"].as_str().is_some_and(|s| s.contains("100.0\u{202f}% of the requests, loss 4.00\u{202f}%"))
    );
}

#[test]
fn files_are_complete_or_not_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let html = dir.path().join("report.html");
    let written = write(&html, &sample(), &serde_json::json!({"n": 10})).expect("it can be written");
    assert_eq!(written, [html.clone(), dir.path().join("report.json")]);
    assert!(fs::read_to_string(&html).expect("there").ends_with("</html>\n"));
    assert!(write(&dir.path().join("no/such.html"), &sample(), &0).is_err());
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 2, "no parts are left");
}
