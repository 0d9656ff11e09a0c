//! `understudy traces`: lists what passed through the gateway, filters it, shows one request in full. It reads the
//! store's file; the server may be running.

use crate::{clock::SystemClock, terminal};
use anstyle::{AnsiColor, Style};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use jiff::{SignedDuration, Timestamp as Instant, tz::TimeZone};
use std::{
    io::{ErrorKind as IoErrorKind, Write},
    path::Path,
};
use understudy_core::{Clock as _, Confidence, Error, Result, Timestamp, TraceId};
use understudy_store::{Call, Ending, Feedback, Order, Route, Store, StoreOptions, Trace, TraceFilter};

/// Lists traces, or shows one.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct TracesArgs {
    #[command(subcommand)]
    command: Option<TracesCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum TracesCommand {
    /// List traces, newest first (the default)
    List(ListArgs),
    /// Show one trace in full
    Show {
        /// The trace's id, as in the x-understudy-trace header
        id: String,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only this task
    #[arg(long)]
    task: Option<String>,
    /// Only this way
    #[arg(long, value_enum)]
    route: Option<RouteArg>,
    /// Only this ending
    #[arg(long, value_enum)]
    ending: Option<EndingArg>,
    /// Only requests that asked for this model, or in which it took part
    #[arg(long)]
    model: Option<String>,
    /// Only from this time on: 30m, 2h, 7d, 2026-01-31, 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only with a small model at least this certain (0 to 1)
    #[arg(long, value_name = "P")]
    min_confidence: Option<f64>,
    /// Only with a small model at most this certain (0 to 1)
    #[arg(long, value_name = "P")]
    max_confidence: Option<f64>,
    /// Only requests drawn for an audit
    #[arg(long)]
    audited: bool,
    /// Only requests in which small and large model disagreed
    #[arg(long)]
    disagreed: bool,
    /// Only requests that ended in an error
    #[arg(long)]
    errors: bool,
    /// Only requests whose texts contain this
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// At most this many
    #[arg(long, short = 'n', default_value_t = 30)]
    limit: u32,
    /// Go on after this trace: the last one of the page before
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Oldest first
    #[arg(long)]
    oldest: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RouteArg {
    Local,
    Escalated,
    Large,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EndingArg {
    Answered,
    Failed,
    ClientLeft,
    BrokenOff,
}

/// Whether the output may carry colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Colour,
    Plain,
}

/// Runs the command and prints its result: a table or a page, or JSON (one trace a line).
///
/// # Errors
/// `Invalid` for a filter that cannot be read; `NotFound` without a store or such a trace; what the store reports.
pub(crate) async fn run(args: TracesArgs, store_path: &Path, json: bool) -> Result<()> {
    let store = Store::open_existing(store_path, StoreOptions::default())?;
    let text = match args.command {
        Some(TracesCommand::Show { id }) => show(&store, TraceId::parse(&id)?, json).await?,
        Some(TracesCommand::List(list)) => list_traces(&store, &list, json).await?,
        None => list_traces(&store, &args.list, json).await?,
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // A reader such as `head` had enough.
        Err(e) if e.kind() != IoErrorKind::BrokenPipe => Err(Error::unavailable(format!("print traces: {e}"))),
        _ => Ok(()),
    }
}

async fn list_traces(store: &Store, args: &ListArgs, json: bool) -> Result<String> {
    let now = Instant::from_millisecond(SystemClock::new().now().0).unwrap_or_default();
    let traces = store.traces(&filter(args, now)?).await?;
    if json {
        return traces.iter().map(|trace| Ok(json_of(trace)? + "\n")).collect();
    }
    if traces.is_empty() {
        return Ok("no traces match\n".to_owned());
    }
    let mut text = table(&traces, paint());
    if traces.len() == args.limit as usize
        && let Some(last) = traces.last()
    {
        text += &format!("more: --after {}\n", last.id);
    }
    Ok(text)
}

async fn show(store: &Store, id: TraceId, json: bool) -> Result<String> {
    let trace = store.trace(id).await?;
    if json { Ok(json_of(&trace)? + "\n") } else { Ok(page(&trace, store.feedback(id).await?.as_ref())) }
}

fn json_of(trace: &Trace) -> Result<String> {
    serde_json::to_string(trace).map_err(|e| Error::internal(format!("print trace {}: {e}", trace.id)))
}

fn filter(args: &ListArgs, now: Instant) -> Result<TraceFilter> {
    let time = |name, text: &Option<String>| text.as_deref().map(|text| read_time(name, text, now)).transpose();
    let confidence = |p: Option<f64>| p.map(Confidence::new).transpose().map_err(|e| Error::invalid(e.message()));
    Ok(TraceFilter {
        task: args.task.as_deref().map(Into::into),
        route: args.route.map(|route| match route {
            RouteArg::Local => Route::Local,
            RouteArg::Escalated => Route::Escalated,
            RouteArg::Large => Route::Large,
            RouteArg::None => Route::None,
        }),
        ending: args.ending.map(|ending| match ending {
            EndingArg::Answered => Ending::Answered,
            EndingArg::Failed => Ending::Failed,
            EndingArg::ClientLeft => Ending::ClientLeft,
            EndingArg::BrokenOff => Ending::BrokenOff,
        }),
        model: args.model.as_deref().map(Into::into),
        since: time("since", &args.since)?,
        until: time("until", &args.until)?,
        min_confidence: confidence(args.min_confidence)?,
        max_confidence: confidence(args.max_confidence)?,
        audited: args.audited.then_some(true),
        agreed: args.disagreed.then_some(false),
        errors_only: args.errors,
        text: args.search.clone(),
        limit: Some(args.limit),
        after: args.after.as_deref().map(TraceId::parse).transpose()?,
        order: if args.oldest { Order::OldestFirst } else { Order::NewestFirst },
    })
}

/// A point in time: so long ago (`2h`), a day (its start in UTC), or a full time.
fn read_time(name: &str, text: &str, now: Instant) -> Result<Timestamp> {
    let ago = || {
        let (unit, number) = (text.chars().last()?, text.get(..text.len().checked_sub(1)?)?);
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        now.checked_sub(SignedDuration::from_secs(number.parse::<u32>().ok().map(i64::from)? * seconds)).ok()
    };
    let day = || Some(text.parse::<jiff::civil::Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    // A full time also parses as a day, so it goes first.
    let found = text.parse::<Instant>().ok().or_else(ago).or_else(day);
    found.map(|at| Timestamp(at.as_millisecond())).ok_or_else(|| {
        Error::invalid(format!("read --{name} `{text}`: write 30m, 2h, 7d, 2026-01-31 or 2026-01-31T12:00:00Z"))
    })
}

fn paint() -> Paint {
    if terminal::coloured(&std::io::stdout()) { Paint::Colour } else { Paint::Plain }
}

/// One line a trace, under a heading.
fn table(traces: &[Trace], paint: Paint) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["time (UTC)", "id", "task", "route", "model", "conf", "audit", "cost", "ms", "status"]);
    for trace in traces {
        table.add_row(
            [
                time(trace.at),
                trace.id.to_string(),
                trace.task.as_ref().map_or_else(dash, ToString::to_string),
                trace.route.as_str().to_owned(),
                trace.reply().map_or(&trace.asked, |call| &call.model).to_string(),
                trace.small_part().and_then(|call| call.confidence).map_or_else(dash, |p| format!("{:.3}", p.get())),
                audit_word(trace).to_owned(),
                trace.cost().map_or_else(|| "unknown".to_owned(), |cost| cost.to_string()),
                format!("{:.1}", trace.total_us as f64 / 1e3),
                match trace.ending {
                    Ending::Answered => trace.status.to_string(),
                    ending => format!("{} {}", trace.status, ending.as_str()),
                },
            ]
            .map(|cell| visible(&cell).replace(['\n', '\t'], " ")),
        );
    }
    for column in [5, 7, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let styles = std::iter::once(Style::new().bold()).chain(traces.iter().map(style));
    let lines = table.lines().zip(styles).map(|(line, style)| {
        let line = line.trim_end();
        match paint {
            Paint::Plain => format!("{line}\n"),
            Paint::Colour => format!("{style}{line}{style:#}\n"),
        }
    });
    lines.collect()
}

fn style(trace: &Trace) -> Style {
    let colour = match (trace.ending, trace.route) {
        (Ending::Failed | Ending::BrokenOff, _) => AnsiColor::Red,
        (Ending::ClientLeft, _) => AnsiColor::Yellow,
        (_, Route::Local) => AnsiColor::Green,
        _ => return Style::new(),
    };
    Style::new().fg_color(Some(colour.into()))
}

fn audit_word(trace: &Trace) -> &'static str {
    match (trace.agreed, trace.audited, &trace.audit) {
        (Some(true), ..) => "agreed",
        (Some(false), ..) => "differed",
        (None, true, None) => "awaited",
        (None, true, Some(_)) => "no verdict",
        (None, false, _) => "-",
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn time(at: Timestamp) -> String {
    match Instant::from_millisecond(at.0) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => at.0.to_string(),
    }
}

/// Everything about one trace.
fn page(trace: &Trace, feedback: Option<&Feedback>) -> String {
    let ms = |us: u64| format!("{:.3} ms", us as f64 / 1e3);
    let mut lines: Vec<(&str, String)> = vec![
        ("trace", trace.id.to_string()),
        ("time", Instant::from_millisecond(trace.at.0).map_or_else(|_| trace.at.0.to_string(), |at| at.to_string())),
        ("asked", format!("{} ({})", trace.asked, trace.api)),
    ];
    if let Some(task) = &trace.task {
        lines.push(("task", trace.mode.map_or_else(|| task.to_string(), |mode| format!("{task} ({})", mode.as_str()))));
    }
    lines.push(("route", format!("{}: {}", trace.route.as_str(), trace.reason)));
    let ending = match (trace.ending, &trace.error) {
        (ending, Some(error)) => format!("{} with status {}: {error}", ending.as_str(), trace.status),
        (ending, None) => format!("{} with status {}", ending.as_str(), trace.status),
    };
    lines.push(("ending", if trace.streamed { format!("{ending}, streamed") } else { ending }));
    let first = trace.first_byte_us.map_or_else(|| "no byte".to_owned(), |us| format!("first byte {}", ms(us)));
    lines.push((
        "latency",
        format!("{} before the first model, {first}, {} in all", ms(trace.queue_us), ms(trace.total_us)),
    ));
    lines.push((
        "cost",
        trace.cost().map_or_else(|| "unknown: a model has no price".to_owned(), |cost| cost.to_string()),
    ));
    if let Some(id) = &trace.certificate {
        let threshold = trace.threshold.map_or_else(String::new, |p| format!(", threshold {:.4}", p.get()));
        lines.push(("certificate", format!("{id}{threshold}")));
    }
    if let Some(p) = trace.audit_probability {
        lines.push(("audit", format!("drawn with probability {p}: {}", if trace.audited { "yes" } else { "no" })));
    }
    if let Some(agreed) = trace.agreed {
        lines.push(("agreement", if agreed { "small and large agreed" } else { "small and large differed" }.into()));
    }
    for (name, part) in [("small", &trace.small), ("large", &trace.large), ("audited by", &trace.audit)] {
        if let Some(part) = part {
            lines.push((name, call_line(part)));
        }
    }
    if let Some(gold) = &trace.gold {
        lines.push(("gold label", gold.clone()));
    }
    if let Some(feedback) = feedback {
        let verdict = feedback.correct.map_or("", |correct| if correct { "right. " } else { "wrong. " });
        lines.push(("feedback", format!("{verdict}{}", feedback.comment.as_deref().unwrap_or_default())));
    }
    lines.push(("input hash", trace.input_hash.clone()));
    let mut text: String = lines.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();
    let answer = trace.reply().and_then(|call| call.text.clone());
    for (name, body) in [("input", &trace.input), ("request", &trace.request), ("answer", &answer)] {
        if let Some(body) = body {
            text += &format!("\n{name}\n{body}\n");
        }
    }
    visible(&text)
}

fn call_line(call: &Call) -> String {
    let mut parts = vec![call.model.to_string()];
    parts.extend(call.artifact.as_ref().map(|hash| format!("artifact {}", hash.get(..12).unwrap_or(hash))));
    parts.extend(call.label.as_ref().map(|label| format!("label {label}")));
    parts.extend(call.confidence.map(|p| format!("confidence {:.4}", p.get())));
    let about = if call.usage.estimated { "about " } else { "" };
    parts.push(format!("{about}{} tokens in, {about}{} out", call.usage.input_tokens, call.usage.output_tokens));
    parts.push(call.cost.map_or_else(|| "cost unknown".to_owned(), |cost| cost.to_string()));
    parts.push(format!("{:.3} ms", call.latency_us as f64 / 1e3));
    parts.extend(call.error.as_ref().map(|error| format!("error {error}")));
    parts.join(", ")
}

/// Texts come from strangers: control characters must not reach the terminal.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use understudy_core::{Money, Usage, task::Mode};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        traces: TracesArgs,
    }

    fn trace() -> Trace {
        let small = Call {
            model: "triage-minilm".into(),
            artifact: Some("0123456789abcdef".into()),
            text: Some("spam\u{1b}[2J".into()),
            label: Some("spam".into()),
            confidence: Some(Confidence::new(0.98765).expect("in range")),
            gate: None,
            own_confidence: None,
            token_logprobs: None,
            usage: Usage { input_tokens: 12, ..Usage::default() },
            cost: Some(Money::ZERO),
            latency_us: 1_500,
            error: None,
        };
        Trace {
            id: TraceId::from_parts(1_767_225_600_000, 7),
            at: Timestamp(1_767_225_600_000),
            api: "chat".into(),
            asked: "auto:triage".into(),
            task: Some("triage".into()),
            mode: Some(Mode::Live),
            route: Route::Local,
            reason: "kept".into(),
            small: Some(small),
            large: None,
            certificate: Some("c0ffee".into()),
            threshold: Some(Confidence::new(0.9).expect("in range")),
            audit_probability: Some(0.05),
            audited: true,
            audit: None,
            agreed: None,
            gold: None,
            streamed: false,
            ending: Ending::Answered,
            status: 200,
            error: None,
            queue_us: 20,
            first_byte_us: Some(2_000),
            total_us: 2_345,
            input: Some("win a prize".into()),
            request: None,
            input_hash: "ab".into(),
        }
    }

    fn parsed(line: &str) -> ListArgs {
        Cli::try_parse_from(line.split(' ')).expect("valid arguments").traces.list
    }

    #[test]
    fn filters_read_what_the_help_says() {
        let now: Instant = "2026-02-01T12:00:00Z".parse().expect("a time");
        let args = parsed("traces --route escalated --since 2h --until 2026-02-01 --min-confidence 0.5 --disagreed");
        let filter = filter(&args, now).expect("valid");
        assert_eq!((filter.route, filter.agreed, filter.limit), (Some(Route::Escalated), Some(false), Some(30)));
        assert_eq!(filter.since, Some(Timestamp(1_769_940_000_000)));
        assert_eq!(filter.until, Some(Timestamp(1_769_904_000_000)));
        let full = read_time("since", "2026-02-01T10:00:00Z", now).expect("valid");
        assert_eq!(full, Timestamp(1_769_940_000_000));
        for bad in ["", "h", "2w", "-1h", "yesterday", "é"] {
            assert!(read_time("since", bad, now).is_err(), "{bad}");
        }
        assert!(super::filter(&parsed("traces --max-confidence 1.5"), now).is_err());
    }

    #[test]
    fn the_verb_list_may_be_left_out_and_show_takes_an_id() {
        let command = |line: &str| Cli::try_parse_from(line.split(' ')).expect("valid").traces.command;
        assert!(command("traces").is_none());
        assert!(matches!(command("traces list -n 5"), Some(TracesCommand::List(ListArgs { limit: 5, .. }))));
        assert!(matches!(command("traces show 01"), Some(TracesCommand::Show { .. })));
    }

    #[test]
    fn a_table_has_one_aligned_line_a_trace_and_colour_only_where_asked() {
        let unpriced = Trace {
            route: Route::Large,
            small: None,
            large: Some(Call { cost: None, model: "gpt-4o-mini".into(), ..trace().small.expect("set above") }),
            audited: false,
            ending: Ending::BrokenOff,
            status: 502,
            ..trace()
        };
        let plain = table(&[trace(), unpriced.clone()], Paint::Plain);
        let lines: Vec<&str> = plain.lines().collect();
        assert_eq!(lines.len(), 3);
        let column = lines[0].find("route").expect("heading");
        assert!(lines[1][column..].starts_with("local ") && lines[2][column..].starts_with("large "), "{plain}");
        for part in ["2026-01-01 00:00:00", "0.988", "awaited", "$0.00", "2.3"] {
            assert!(lines[1].contains(part), "{part} in {plain}");
        }
        assert!(lines[2].contains("unknown") && lines[2].contains("502 broken_off"), "{plain}");
        assert!(!plain.contains('\u{1b}'));
        assert!(table(&[unpriced], Paint::Colour).contains('\u{1b}'));
    }

    #[test]
    fn a_page_states_everything_and_passes_no_control_character_on() {
        let feedback = Feedback { gold: None, correct: Some(true), comment: Some("thanks".into()), at: Timestamp(0) };
        let text = page(&trace(), Some(&feedback));
        for part in [
            "triage (live)",
            "local: kept",
            "c0ffee, threshold 0.9000",
            "drawn with probability 0.05: yes",
            "artifact 0123456789ab, label spam, confidence 0.9877, 12 tokens in, 0 out, $0.00, 1.500 ms",
            "right. thanks",
            "win a prize",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains('\u{1b}'));
    }
}
