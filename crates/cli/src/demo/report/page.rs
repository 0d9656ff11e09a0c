//! The page around the plots: the verdict first, then why, then everything needed to check it.

use super::{Confusion, DemoReport, Figure, Latency, Named, ReliabilityBin, charts};
use std::fmt::Write;
use understudy_core::LossKind;
use understudy_pilot::report::{
    charts::{latency, quantile, reliability},
    document,
    numbers::{count, dollars, duration, escape, percent, sentence},
};

pub(super) fn page(report: &DemoReport) -> String {
    let mut html = String::with_capacity(64 << 10);
    html.push_str(&verdict(report));
    html.push_str(&plots(report));
    html.push_str(&tables(report));
    html.push_str(&certificate(report));
    html.push_str(&commands(report));
    let _ = writeln!(
        html,
        "<footer>Written by Understudy, {}. The figures are in report.json beside this file.</footer>",
        escape(&report.written)
    );
    document(&format!("Understudy: {}", report.task), &html)
}

fn verdict(report: &DemoReport) -> String {
    let share = percent(report.local_share.estimate, 1);
    let holds = report.loss.is_none_or(|loss| loss.estimate <= report.epsilon);
    let headline = match (&report.certificate, &report.withdrawal) {
        (None, _) => "Not certified: the large model keeps answering.".to_owned(),
        (Some(_), Some(withdrawn)) => {
            format!(
                "The certificate was withdrawn after {} requests: the traffic is no longer what it was.",
                count(withdrawn.at as u64)
            )
        }
        (Some(_), None) if holds => format!("{share} of requests were answered locally, and the certified bound held."),
        (Some(_), None) => format!("{share} of requests were answered locally, but more was lost than certified."),
    };
    let mut lead = vec![format!(
        "{}: {} observed, then {} live. {}",
        report.corpus,
        count(report.observed as u64),
        count(report.live as u64),
        report.order
    )];
    lead.extend(report.stand_in.clone());
    let why = report.withdrawal.as_ref().map(|w| &w.reason).or(report.refusal.as_ref());
    let mut html = format!(
        "<header>\n<p class=\"eyebrow\"><b>Understudy</b> · task {} · {} in front of {}</p>\n<h1>{headline}</h1>\n",
        escape(&report.task),
        escape(&report.small),
        escape(&report.large)
    );
    if let Some(why) = why {
        let _ = writeln!(html, "<p class=\"lead bad\">{}</p>", escape(&sentence(why)));
    }
    let _ = writeln!(html, "<p class=\"lead\">{}</p>\n<dl class=\"big\">", escape(&lead.join(" ")));
    let mut big = |name: &str, number: &str, class: &str, note: &str| {
        let _ = writeln!(
            html,
            "<div><dt>{name}</dt><dd><div class=\"number{class}\">{number}</div><div class=\"note\">{note}</div></dd></div>"
        );
    };
    let kept = format!("{} of {} live requests", count(report.kept as u64), count(report.live as u64));
    big("Answered locally", &share, "", &kept);
    let allowed = format!("allowed: {} with {} confidence", percent(report.epsilon, 1), percent(1.0 - report.delta, 0));
    match &report.loss {
        Some(loss) => {
            let note =
                format!("{allowed}<br>measured on {} requests it had not seen: {}", count(loss.n), interval(loss, 2));
            big("Loss per request", &percent(loss.estimate, 2), if holds { "" } else { " bad" }, &note);
        }
        None => big("Loss per request", "–", "", &allowed),
    }
    match &report.saving {
        Some(s) => {
            let note = format!("{} instead of {}, audits included", dollars(s.spent_usd), dollars(s.baseline_usd));
            big("Cost saved", &percent(s.share(), 1), "", &note);
        }
        None => big("Cost saved", "–", "", "no price is known for the large model"),
    }
    let p95 = |route: &str| {
        let mut ms = report.latency.iter().find(|l| l.name == route)?.ms.clone();
        ms.sort_unstable_by(f64::total_cmp);
        (!ms.is_empty()).then(|| quantile(&ms, 0.95))
    };
    let slow = p95("escalated").or_else(|| p95("large"));
    if let Some(local) = p95("local") {
        let note = slow.map_or_else(
            || "95 % of local answers".to_owned(),
            |slow| format!("95 % of local answers are faster; through the large model {}", duration(slow)),
        );
        big("Local latency, p95", &duration(local), "", &note);
    }
    html.push_str("</dl>\n</header>\n");
    html
}

fn plots(report: &DemoReport) -> String {
    let mut html = String::from("<section>\n<h2>Why it may answer, and what came of it</h2>\n<div class=\"plots\">\n");
    let mut figure = |svg: Option<String>, title: &str, how: &str| {
        if let Some(svg) = svg {
            let _ = writeln!(
                html,
                "<figure>\n<figcaption><b>{}</b><span>{}</span></figcaption>\n{svg}\n</figure>",
                escape(title),
                escape(how)
            );
        }
    };
    let n = report.certificate.as_ref().map_or(0, |c| c.n);
    let title = match &report.certificate {
        Some(c) => {
            format!("{} may be kept before the bound reaches {}", percent(c.kept, 0), percent(report.epsilon, 1))
        }
        None => "No threshold keeps the bound below what is allowed".to_owned(),
    };
    let how = format!(
        "Thresholds are tested from strict (left) to loose on {} requests that did not train the model, and the first \
         failure ends the test. Solid: exact upper bound where it passed.",
        count(n)
    );
    figure(charts::certification(report), &title, &how);
    figure(
        reliability(&report.reliability),
        &off_by(&report.reliability),
        "Each dot is a group of answers of like confidence, its area their number. On the dashed line they agree.",
    );
    figure(
        latency(&report.latency),
        &faster(&report.latency),
        "Each hill is a route's distribution, at its own height. The dotted line is where 95 % have come.",
    );
    figure(
        charts::spending(&report.spending),
        "What the large model was not asked costs nothing",
        &report.saving.as_ref().map_or_else(String::new, |s| {
            format!("{} Audits are part of the cost: {}.", s.basis, dollars(s.audits_usd))
        }),
    );
    let (title, how) = match (&report.withdrawal, report.evidence.last()) {
        (Some(_), _) => ("Audits found that it no longer holds".to_owned(), "Every request adds evidence for or against. It may be read at any time: crossing the line by chance is as unlikely as the odds say.".to_owned()),
        (None, last) => (
            "Nothing speaks against the certificate".to_owned(),
            format!(
                "{} local answers were checked by the large model, {} were lost. Evidence may be read at any time: \
                 crossing the line by chance is as unlikely as the odds say.",
                count(last.map_or(0, |p| p.audits)),
                count(last.map_or(0, |p| p.losses))
            ),
        ),
    };
    figure(charts::evidence(report), &title, &how);
    if let Some(table) = &report.confusion {
        html.push_str(&confusion(table, &report.small));
    }
    html.push_str("</div>\n</section>\n");
    html
}

/// The calibration error in a sentence: mean distance of confidence and frequency over all answers.
fn off_by(bins: &[ReliabilityBin]) -> String {
    let n: u64 = bins.iter().map(|b| b.n).sum();
    let error: f64 = bins.iter().map(|b| (b.confidence - b.right).abs() * b.n as f64).sum::<f64>() / n.max(1) as f64;
    format!("Stated confidence is off by {:.1} points on average", error * 100.0)
}

/// The medians of the fastest and the slowest route in a sentence.
fn faster(routes: &[Latency]) -> String {
    let median = |route: &Latency| {
        let mut ms = route.ms.clone();
        ms.sort_unstable_by(f64::total_cmp);
        quantile(&ms, 0.5)
    };
    let medians: Vec<(&str, f64)> =
        routes.iter().filter(|r| !r.ms.is_empty()).map(|r| (r.name.as_str(), median(r))).collect();
    let of = |name: &str| medians.iter().find(|(route, _)| *route == name).map(|(_, ms)| *ms);
    match (of("local"), of("large").or_else(|| of("escalated"))) {
        (Some(local), Some(large)) => {
            format!("Half of the local answers take {}, of the others {}", duration(local), duration(large))
        }
        _ => "Latency by route".to_owned(),
    }
}

fn tables(report: &DemoReport) -> String {
    let mut html =
        String::from("<section>\n<h2>The figures</h2>\n<p>Intervals are 95 %.</p>\n<div class=\"two\">\n<div>\n");
    if !report.accuracy.is_empty() {
        html.push_str("<h3>Accuracy</h3>\n<table><tr><th>answers of</th><th class=\"n\">right</th><th class=\"n\">interval</th><th class=\"n\">n</th></tr>\n");
        for Named { name, figure } in &report.accuracy {
            let _ = writeln!(
                html,
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\"><small>{}</small></td><td class=\"n\">{}</td></tr>",
                escape(name),
                percent(figure.estimate, 1),
                interval(figure, 1),
                count(figure.n)
            );
        }
        html.push_str("</table>\n");
    }
    html.push_str("</div>\n<div>\n");
    if !report.latency.is_empty() {
        html.push_str("<h3>Latency</h3>\n<table><tr><th>route</th><th class=\"n\">n</th><th class=\"n\">p50</th><th class=\"n\">p95</th><th class=\"n\">p99</th></tr>\n");
        for route in report.latency.iter().filter(|route| !route.ms.is_empty()) {
            let mut ms = route.ms.clone();
            ms.sort_unstable_by(f64::total_cmp);
            let _ = write!(html, "<tr><td>{}</td><td class=\"n\">{}</td>", escape(&route.name), count(ms.len() as u64));
            for q in [0.5, 0.95, 0.99] {
                let _ = write!(html, "<td class=\"n\">{}</td>", duration(quantile(&ms, q)));
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</table>\n");
    }
    if let Some(saving) = &report.saving {
        html.push_str("<h3>Cost of the live phase</h3>\n<table><tr><th></th><th class=\"n\">USD</th></tr>\n");
        for (name, usd) in [
            ("every request to the large model", saving.baseline_usd),
            ("with Understudy", saving.spent_usd),
            ("of it audits", saving.audits_usd),
        ] {
            let _ = writeln!(html, "<tr><td>{name}</td><td class=\"n\">{usd:.6}</td></tr>");
        }
        html.push_str("</table>\n");
    }
    html.push_str("</div>\n</div>\n</section>\n");
    html
}

fn confusion(table: &Confusion, small: &str) -> String {
    let wrong: u64 = table
        .counts
        .iter()
        .enumerate()
        .flat_map(|(row, counts)| counts.iter().enumerate().filter(move |(column, _)| *column != row).map(|(_, n)| *n))
        .sum();
    let mut html = format!(
        "<figure>\n<figcaption><b>Alone it would be wrong {} times</b><span>All answers of {}, kept or not, against \
         the right label. Those below the threshold go to the large model.</span></figcaption>\n\
         <div class=\"scroll\"><table class=\"confusion\"><tr><th>right label</th>",
        count(wrong),
        escape(small)
    );
    for label in &table.labels {
        let _ = write!(html, "<th class=\"n\">answered {}</th>", escape(label));
    }
    html.push_str("</tr>\n");
    for (row, (label, counts)) in table.labels.iter().zip(&table.counts).enumerate() {
        let _ = write!(html, "<tr><td>{}</td>", escape(label));
        for (column, n) in counts.iter().enumerate() {
            let class = if row == column { "n right" } else { "n" };
            let _ = write!(html, "<td class=\"{class}\">{}</td>", count(*n));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n</figure>\n");
    html
}

fn certificate(report: &DemoReport) -> String {
    let Some(c) = &report.certificate else {
        let why = report.refusal.as_deref().map(|why| format!("<p>{}</p>\n", escape(&sentence(why))));
        return format!("<section>\n<h2>No certificate</h2>\n{}</section>\n", why.unwrap_or_default());
    };
    let what = match c.loss {
        LossKind::Regret => format!("{} answered, was wrong, and {} would have been right", c.small, c.large),
        LossKind::Disagreement => format!("{} answered otherwise than {} would have", c.small, c.large),
        LossKind::GradedRegret | LossKind::Difference => {
            format!("the answer of {} fell short of that of {}", c.small, c.large)
        }
    };
    let says = format!(
        "With {} confidence, at most {} of requests end in a loss when answers of confidence {} or more are kept, as \
         long as requests are like those it was calibrated on.",
        percent(1.0 - c.delta, 0),
        percent(c.epsilon, 1),
        charts::confidence(c.threshold.get())
    );
    let issued =
        jiff::Timestamp::from_millisecond(c.issued.0).map_or_else(|_| c.issued.0.to_string(), |t| format!("{t:.0}"));
    let state = match &report.withdrawal {
        Some(w) => format!("withdrawn after {} live requests: {}", count(w.at as u64), w.reason),
        None => "valid when this was written".to_owned(),
    };
    let mut html = format!("<section>\n<h2>The certificate</h2>\n<p>{}</p>\n<dl class=\"sheet\">\n", escape(&says));
    for (name, value) in [
        ("state", state),
        ("id", c.id.clone()),
        ("task", c.task.to_string()),
        ("small model", format!("{}, artifact {}", c.small, c.small_hash)),
        ("large model", c.large.to_string()),
        ("a loss is", what),
        ("allowed loss ε", percent(c.epsilon, 2)),
        ("may be wrong δ", percent(c.delta, 2)),
        ("calibration items n", count(c.n)),
        ("losses among them", count(c.losses)),
        ("threshold", format!("{}", c.threshold.get())),
        ("kept", percent(c.kept, 2)),
        ("upper bound", format!("{} (exact, Clopper–Pearson, one-sided)", percent(c.bound, 3))),
        ("calibration data", format!("SHA-256 {}", c.data_hash)),
        ("issued", issued),
    ] {
        let _ = writeln!(html, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
    }
    html.push_str("</dl>\n</section>\n");
    html
}

fn commands(report: &DemoReport) -> String {
    if report.commands.is_empty() {
        return String::new();
    }
    let mut html = String::from("<section>\n<h2>Get these figures again</h2>\n<ul class=\"commands\">\n");
    for step in &report.commands {
        let _ = writeln!(html, "<li><span>{}</span><pre>{}</pre></li>", escape(&step.what), escape(&step.command));
    }
    html.push_str("</ul>\n</section>\n");
    html
}

fn interval(figure: &Figure, decimals: usize) -> String {
    format!("{:.decimals$} – {}", figure.low * 100.0, percent(figure.high, decimals))
}
