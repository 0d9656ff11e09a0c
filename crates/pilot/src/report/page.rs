//! The page: verdict, key figures, sections, commands.

use super::{
    Block, Cell, Column, Figure, Report, Section, Table, Tone,
    numbers::{escape, sentence},
};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// A whole HTML file around `body`: style and script are inside, nothing is fetched, and the page forbids itself to.
#[must_use]
pub fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// The report as one HTML file.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut html = String::with_capacity(64 << 10);
    let class = if report.tone == Tone::Bad { " class=\"bad\"" } else { "" };
    let _ = writeln!(
        html,
        "<header>\n<p class=\"eyebrow\"><b>Understudy</b> · {}</p>\n<h1{class}>{}</h1>",
        escape(&report.title),
        escape(&report.verdict)
    );
    if !report.lead.is_empty() {
        let _ = writeln!(html, "<p class=\"lead\">{}</p>", escape(&report.lead));
    }
    if !report.figures.is_empty() {
        html.push_str("<dl class=\"big\">\n");
        for figure in &report.figures {
            let _ = writeln!(
                html,
                "<div><dt>{}</dt><dd><div class=\"number\">{}</div><div class=\"note\">{}</div></dd></div>",
                escape(&figure.name),
                escape(&figure.number),
                escape(&figure.note)
            );
        }
        html.push_str("</dl>\n");
    }
    html.push_str("</header>\n");
    for part in &report.sections {
        section(&mut html, part);
    }
    if !report.commands.is_empty() {
        html.push_str("<section>\n<h2>Get these figures again</h2>\n<ul class=\"commands\">\n");
        for (what, command) in &report.commands {
            let _ = writeln!(html, "<li><span>{}</span><pre>{}</pre></li>", escape(what), escape(command));
        }
        html.push_str("</ul>\n</section>\n");
    }
    let _ = writeln!(
        html,
        "<footer>Written by Understudy, {}. The figures are in the JSON file beside this one.</footer>",
        escape(&report.written)
    );
    document(&format!("Understudy: {}", report.title), &html)
}

fn section(html: &mut String, section: &Section) {
    let _ = writeln!(html, "<section>\n<h2>{}</h2>", escape(&section.title));
    if !section.intro.is_empty() {
        let _ = writeln!(html, "<p>{}</p>", escape(&sentence(&section.intro)));
    }
    section.blocks.iter().for_each(|part| block(html, part));
    html.push_str("</section>\n");
}

fn block(html: &mut String, part: &Block) {
    match part {
        Block::Text(text) => {
            let _ = writeln!(html, "<p>{}</p>", escape(text));
        }
        Block::Plots(figures) => {
            let class = if figures.len() == 1 { "plots one" } else { "plots" };
            let _ = writeln!(html, "<div class=\"{class}\">");
            figures.iter().for_each(|figure| draw(html, figure));
            html.push_str("</div>\n");
        }
        Block::Table(content) => table(html, content),
        Block::Sheet(facts) => {
            html.push_str("<dl class=\"sheet\">\n");
            for (name, value) in facts {
                let _ = writeln!(html, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
            }
            html.push_str("</dl>\n");
        }
        Block::Fold(title, blocks) => {
            let _ = writeln!(html, "<details>\n<summary>{}</summary>", escape(title));
            blocks.iter().for_each(|part| block(html, part));
            html.push_str("</details>\n");
        }
    }
}

fn draw(html: &mut String, figure: &Figure) {
    let _ = writeln!(
        html,
        "<figure>\n<figcaption><b>{}</b><span>{}</span></figcaption>\n{}\n</figure>",
        escape(&figure.title),
        escape(&figure.how),
        figure.svg
    );
}

fn table(html: &mut String, table: &Table) {
    if !table.title.is_empty() {
        let _ = writeln!(html, "<h3>{}</h3>", escape(&table.title));
    }
    html.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
    for Column { name, numeric } in &table.columns {
        let class = if *numeric { " class=\"n\"" } else { "" };
        let _ = write!(html, "<th{class}>{}</th>", escape(name));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for (Column { numeric, .. }, cell) in table.columns.iter().zip(row) {
            let Cell { text, small, strong, shade } = cell;
            let class = if *numeric { " class=\"n\"" } else { "" };
            let style = match *shade > 0.0 {
                true => {
                    format!(" style=\"background:color-mix(in srgb, var(--first) {:.0}%, transparent)\"", shade * 60.0)
                }
                false => String::new(),
            };
            let text = if *strong { format!("<b>{}</b>", escape(text)) } else { escape(text) };
            let small = if small.is_empty() { small.clone() } else { format!("<br><small>{}</small>", escape(small)) };
            let _ = write!(html, "<td{class}{style}>{text}{small}</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n");
    if !table.note.is_empty() {
        let _ = writeln!(html, "<p class=\"fine\">{}</p>", escape(&table.note));
    }
}
