//! The model card: what an artifact is, what it was trained on and how well it did, in the form that model hubs and people
//! read (`README.md` with a header in YAML; M. Mitchell et al., *Model Cards for Model Reporting*, 2019).
//!
//! It repeats what the manifest says and adds what follows from it; it is not part of the artifact's hash, so that an audit
//! may be added later.

use std::fmt::Write as _;
use understudy_model::{
    artifact::{Body, Kind, Manifest, Metric},
    catalogue::Catalogue,
};

/// File name of the card.
pub const CARD: &str = "README.md";
/// What precedes the audit's section, so that another audit replaces it.
const AUDIT: &str = "\n## Bias audit\n";

/// The card of an artifact with this content hash.
#[must_use]
pub fn card(manifest: &Manifest, hash: &str) -> String {
    let mut text = String::new();
    // A String takes all that is written to it.
    let _ = write(&mut text, manifest, hash);
    text
}

fn write(text: &mut String, manifest: &Manifest, hash: &str) -> std::fmt::Result {
    let own = matches!(manifest.body, Body::Words);
    let base = Catalogue::embedded().find(manifest.base.name.as_str()).ok();
    let tag = match manifest.kind {
        Kind::Classifier | Kind::Labeller | Kind::Regressor => "text-classification",
        Kind::Extractor => "token-classification",
    };
    writeln!(text, "---\nlibrary_name: understudy\npipeline_tag: {tag}\ntags:\n- understudy\n- {tag}")?;
    if let (Some(base), false) = (base, own) {
        writeln!(text, "license: {}", base.licence.to_lowercase())?;
    }
    writeln!(text, "---\n\n# {}\n", line(manifest.name.as_str()))?;
    let what = match manifest.body {
        Body::Base => "a linear head on a frozen encoder",
        Body::Encoder => "an encoder that was trained for it, with a linear head",
        Body::Words => "a linear model of words, word pairs and pieces of words",
        Body::Static => "a table with a vector for each token, with a linear head",
    };
    let task =
        manifest.task.as_ref().map_or_else(String::new, |task| format!(" for the task `{}`", line(task.as_str())));
    match manifest.kind {
        Kind::Classifier => writeln!(
            text,
            "A text classifier{task}: {what}. Its answers are one of {} labels, with a calibrated confidence.",
            manifest.labels.len()
        )?,
        Kind::Labeller => writeln!(
            text,
            "A labeller{task}: {what}. Its answers are JSON lists of those of {} labels that apply, with the probability\n\
             that the whole list is right. It decides on each label by itself, from a threshold that was chosen on texts\n\
             kept from training.",
            manifest.labels.len()
        )?,
        Kind::Regressor => {
            let within = manifest.margin.map_or_else(
                || "How far off they are was not measured: too few texts were set aside".to_owned(),
                |margin| format!("Plus and minus {margin:.4} they hold the right number of nine texts in ten"),
            );
            writeln!(
                text,
                "A regressor{task}: {what}. Its answers are numbers (`{}`). {within}.",
                line(&manifest.labels[0])
            )?;
        }
        Kind::Extractor => {
            writeln!(
                text,
                "An extractor{task}: {what}, which tags words. Its answers are JSON objects with the parts found."
            )?;
        }
    }
    writeln!(text, "Content hash `{hash}`.\n")?;
    writeln!(text, "## Data and training\n")?;
    writeln!(text, "| | |\n|---|---|")?;
    let mut row = |name: &str, value: String| writeln!(text, "| {name} | {value} |");
    row("method", format!("`{}`", line(&manifest.method)))?;
    if !own {
        row("base", format!("`{}` (hash `{}`)", line(manifest.base.name.as_str()), manifest.base.hash))?;
        let licence = base
            .map_or("unknown to this catalogue: look it up where the base comes from", |base| base.licence.as_str());
        row("licence of the base", licence.to_owned())?;
    }
    row("trained on", format!("{} texts (hash of the data `{}`)", manifest.n_train, manifest.data_hash))?;
    if let Some(hash) = &manifest.taught {
        row("and from what a teacher said of them", format!("hash `{hash}`"))?;
    }
    if let Some(texts) = &manifest.unlabelled {
        row("and on texts without labels", format!("{} (hash `{}`)", texts.texts, texts.hash))?;
    }
    if let Some(device) = &manifest.device {
        row("trained on the device", format!("`{}`, where another run may round otherwise", line(device)))?;
    }
    row("regularisation and stopping chosen on", format!("{} texts", manifest.n_stop))?;
    row("calibrated on", format!("{} texts, temperature {:.3}", manifest.n_calibrate, manifest.temperature))?;
    if !own {
        match manifest.windows {
            1 => row("texts are cut after", format!("{} tokens", manifest.max_tokens))?,
            n => row("texts are read in", format!("at most {n} windows of {} tokens", manifest.max_tokens))?,
        }
    }
    row("seed", manifest.seed.0.to_string())?;
    if let Some(parent) = &manifest.parent {
        row("follows", format!("the artifact with hash `{parent}`"))?;
    }
    if let Some(rule) = &manifest.out_of_scope {
        row(
            "out of scope",
            format!("answered as `{}` below a probability of {:.3}", line(&rule.label), rule.threshold),
        )?;
    }
    writeln!(text, "\n## Quality\n\nOn texts that had no part in training, with 95 % intervals:\n")?;
    if manifest.metrics.is_empty() {
        writeln!(text, "Not measured: no texts were set aside.")?;
    } else {
        writeln!(text, "| figure | value | low | high | n |\n|---|---:|---:|---:|---:|")?;
    }
    for (name, m) in &manifest.metrics {
        writeln!(text, "| {} | {:.4} | {:.4} | {:.4} | {} |", line(name), m.estimate, m.low, m.high, m.n)?;
    }
    if let Some(c) = &manifest.compression {
        let figure = |m: &Metric| format!("{:.4} [{:.4}, {:.4}]", m.estimate, m.low, m.high);
        writeln!(
            text,
            "\nCompressed (`{}`) from {} to {} bytes, measured on {} texts:",
            line(&c.method),
            c.bytes_before,
            c.bytes,
            c.loss.n
        )?;
        writeln!(
            text,
            "accuracy lost {}, answers changed {}, divergence {} nats.",
            figure(&c.loss),
            figure(&c.flips),
            figure(&c.kl)
        )?;
        if c.candidates > 1 {
            writeln!(text, "Picked among {} on the same texts: these are a little too good.", c.candidates)?;
        }
    }
    writeln!(text, "\n## Limits\n")?;
    writeln!(
        text,
        "- It knows the labels below and nothing else{}.",
        match &manifest.out_of_scope {
            _ if manifest.kind != Kind::Classifier => "",
            Some(_) =>
                "; what is like nothing it knows is to be answered as out of scope, which the figures above measure",
            None => ", and answers one of them to any text whatever",
        }
    )?;
    writeln!(
        text,
        "- The figures hold for texts like those it was measured on. Traffic changes: serve it under a certificate, which\n  is checked while it serves."
    )?;
    writeln!(
        text,
        "- It repeats what its examples say, their errors and leanings included. `understudy adapt bias` measures them; what\n  was measured is below, if anything was."
    )?;
    writeln!(text, "\n## Labels\n")?;
    let labels: Vec<String> = manifest.labels.iter().map(|label| format!("`{}`", line(label))).collect();
    writeln!(text, "{}", labels.join(", "))
}

/// The card with the section of its bias audit, in place of an earlier one.
#[must_use]
pub fn with_audit(card: &str, audit: &str) -> String {
    let before = card.find(AUDIT).map_or(card, |at| &card[..at]);
    format!("{}\n{AUDIT}\n{}\n", before.trim_end(), audit.trim())
}

/// Text that cannot leave its line or its cell.
pub(crate) fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '|' || c == '`' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let json = serde_json::json!({
            "format": 2, "name": "triage", "kind": "classifier", "task": "mail", "base": {"name": "minilm", "hash": "ab12"},
            "dtype": "f32", "max_tokens": 128, "pooling": "mean", "labels": ["a|b", "c\nd"], "temperature": 1.5,
            "metrics": {}, "data_hash": "cd34", "n_train": 900, "n_stop": 50, "n_calibrate": 50, "seed": 7, "parent": null,
            "created": 0,
        });
        serde_json::from_value(json).expect("a manifest")
    }

    #[test]
    fn a_card_says_what_the_manifest_says() {
        let mut manifest = manifest();
        manifest.metrics.insert("accuracy".into(), Metric { estimate: 0.91, low: 0.88, high: 0.93, n: 500 });
        let card = card(&manifest, "ef56");
        for part in [
            "---\nlibrary_name",
            "license: apache-2.0",
            "# triage",
            "`ef56`",
            "| accuracy | 0.9100 | 0.8800 | 0.9300 | 500 |",
            "| seed | 7 |",
            "`a b`, `c d`",
            "900 texts",
        ] {
            assert!(card.contains(part), "`{part}` is missing in\n{card}");
        }
    }

    #[test]
    fn another_audit_replaces_the_first() {
        let card = card(&manifest(), "ef56");
        let once = with_audit(&card, "| one |");
        let twice = with_audit(&once, "| two |");
        assert!(once.starts_with(card.trim_end()) && once.contains("| one |"));
        assert!(twice.contains("| two |") && !twice.contains("| one |") && twice.matches("Bias audit").count() == 1);
    }
}
