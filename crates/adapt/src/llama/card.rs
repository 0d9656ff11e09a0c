//! The model card of a generative artifact: what [`crate::card`] is for classifiers. Not part of the artifact's hash.

use crate::card::line;
use std::fmt::Write as _;
use understudy_model::{
    adapted::{AdaptedManifest, MODEL},
    catalogue::Catalogue,
};

/// The card of an artifact with this content hash.
pub(crate) fn card(manifest: &AdaptedManifest, hash: &str) -> String {
    let mut text = String::new();
    // A String takes all that is written to it.
    let _ = write(&mut text, manifest, hash);
    text
}

fn write(text: &mut String, manifest: &AdaptedManifest, hash: &str) -> std::fmt::Result {
    let whole = manifest.files.contains_key(MODEL);
    let base = Catalogue::embedded().find(manifest.base.name.as_str()).ok();
    writeln!(text, "---\npipeline_tag: text-generation\ntags:\n- understudy\n- text-generation")?;
    writeln!(text, "library_name: {}", if whole { "gguf" } else { "peft" })?;
    if let Some(base) = base {
        writeln!(text, "license: {}", base.licence.to_lowercase())?;
    }
    writeln!(text, "---\n\n# {}\n", line(manifest.name.as_str()))?;
    let what = if whole { "whole weights (`model.gguf`)" } else { "a low-rank adapter (`adapter.gguf`, `adapter/`)" };
    let task =
        manifest.task.as_ref().map_or_else(String::new, |task| format!(" for the task `{}`", line(task.as_str())));
    writeln!(text, "A generative model{task}: {what}. Its answers are texts.\nContent hash `{hash}`.\n")?;
    writeln!(text, "## Data and training\n\n| | |\n|---|---|")?;
    let mut row = |name: &str, value: String| writeln!(text, "| {name} | {value} |");
    row("method", format!("`{}`", line(&manifest.method)))?;
    row("base", format!("`{}` (hash `{}`)", line(manifest.base.name.as_str()), manifest.base.hash))?;
    let unknown = "unknown to this catalogue: look it up where the base comes from";
    row("licence of the base", base.map_or(unknown, |base| base.licence.as_str()).to_owned())?;
    row("trained on", format!("{} rows (hash of the data `{}`)", manifest.n_train, manifest.data_hash))?;
    row("prompt and answer have at most", format!("{} tokens", manifest.max_tokens))?;
    row("seed", manifest.seed.0.to_string())?;
    if let Some(system) = &manifest.system {
        row("instructions that requests should carry", format!("`{}`", line(system)))?;
    }
    if let Some(parent) = &manifest.parent {
        row("made from", format!("the artifact with hash `{parent}`"))?;
    }
    writeln!(text, "\n## Quality\n\nOn {} rows that had no part in training, with 95 % intervals:\n", manifest.n_test)?;
    // Beside the training's loss in nats, what quantising lost is points.
    let named = |name| if name == "loss" { "accuracy lost" } else { name };
    let quantised = manifest.quantised.iter().flat_map(|q| &q.figures).map(|(name, m)| (named(name.as_str()), m));
    if manifest.metrics.is_empty() && manifest.quantised.is_none() {
        writeln!(text, "Not measured: no rows were set aside.")?;
    } else {
        writeln!(text, "| figure | value | low | high | n |\n|---|---:|---:|---:|---:|")?;
    }
    let trained = manifest.metrics.iter().map(|(name, m)| (name.as_str(), m));
    for (name, m) in trained.chain(quantised) {
        writeln!(text, "| {} | {:.4} | {:.4} | {:.4} | {} |", line(name), m.estimate, m.low, m.high, m.n)?;
    }
    if let Some(q) = &manifest.quantised {
        writeln!(
            text,
            "\nQuantised to {} from {} to {} bytes; {} rows of prompts weighed the columns. *before* is at 16 bits.",
            line(&q.to),
            q.bytes_before,
            q.bytes,
            q.importance_rows
        )?;
        if q.candidates > 1 {
            writeln!(text, "Picked among {} on the same rows: its figures are a little too good.", q.candidates)?;
        }
    }
    let served = &manifest.served;
    writeln!(
        text,
        "\nWhat llama.cpp serves differs from what was trained by {:.1e} nats a token at 16 bits and by {:.1e} as it is \
         served, over {} tokens.",
        served.f16_mean_kl, served.installed_mean_kl, served.n
    )?;
    writeln!(text, "\n## Limits\n")?;
    writeln!(text, "- It may write what is wrong; certify it before it answers for a large model.")?;
    writeln!(text, "- It was trained for prompts like those of its data; others were not measured.")?;
    if !whole {
        writeln!(text, "- It answers only on the base that it names, by hash.")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_one_meaning_each_and_no_text_leaves_its_cell() {
        let metric = |estimate| serde_json::json!({"estimate": estimate, "low": 0.0, "high": 1.0, "n": 9});
        let manifest = serde_json::json!({
            "format": 2, "kind": "generative", "name": "slots", "task": null, "base": {"name": "smollm2", "hash": "ab"},
            "method": "lora", "system": "Say `a|b`.\nNow.", "files": {}, "metrics": {"loss": metric(0.7)},
            "served": {"f16_mean_kl": 0.0, "installed_mean_kl": 0.0, "installed_flips": 0.0, "n": 9}, "data_hash": "cd",
            "n_train": 5, "n_test": 9, "max_tokens": 64, "seed": 1, "parent": null, "created": 0,
            "quantised": {
                "to": "Q4_K_M", "importance_rows": 3, "bytes_before": 9, "bytes": 3, "figures": {"loss": metric(0.2)},
            },
        });
        let card = card(&serde_json::from_value(manifest).expect("a manifest"), "ef56");
        assert!(card.contains("| loss | 0.7000 ") && card.contains("| accuracy lost | 0.2000 "), "{card}");
        assert!(card.contains("| `Say  a b . Now.` |"), "{card}");
    }
}
