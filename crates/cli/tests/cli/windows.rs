//! Long texts in windows, from training to `pilot run`, on a small encoder of random numbers.

use crate::support::{folder, run};
use serde_json::{Value, json};
use std::fs;

#[test]
fn what_only_the_end_of_a_text_says_is_learned_and_served_in_windows_and_lost_when_texts_are_cut() {
    let folder = folder();
    let dir = folder.path();
    let encoder = format!("file:{}/../model/tests/encoder/bert", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(run(dir, &["pull", &encoder, "--as", "tiny"]).code, 0);
    let rows = |from: usize, to: usize| -> String {
        let row = |i: usize| {
            let pick = |words: &[&'static str], at: usize| words[at % words.len()];
            let start =
                (0..5).map(|j| pick(&["red", "blue", "the", "it", ".", ",", "high"], i * (j + 3) + i / 7 + j * j));
            let (end, label) =
                if i.is_multiple_of(2) { ("fish in the sea", "water") } else { ("bird in the sky", "air") };
            let text = format!("{} {end}", start.collect::<Vec<_>>().join(" "));
            format!("{}\n", json!({ "text": text, "label": label }))
        };
        (from..to).map(row).collect()
    };
    fs::write(dir.join("train.jsonl"), rows(0, 300)).expect("written");
    fs::write(dir.join("test.jsonl"), rows(1000, 1100)).expect("written");
    let accuracy = |windows: &str, method: &str| -> (f64, Value) {
        let out = format!("models/{method}-{windows}");
        let args = ["adapt", "finetune", "--base", "tiny", "--data", "train.jsonl", "--max-tokens", "7"];
        let epochs = if method == "head" { &[][..] } else { &["--epochs", "2"] };
        let more = ["--windows", windows, "--method", method, "--test-share", "0", "--out", &out, "--dtype", "f32"];
        let said = run(dir, &[&args[..], &more, epochs].concat());
        assert_eq!(said.code, 0, "{}", said.err);
        let said = run(dir, &["pilot", "run", "--model", &out, "--data", "test.jsonl", "--task", "classify", "--json"]);
        assert_eq!(said.code, 0, "{}", said.err);
        let manifest = fs::read(dir.join(&out).join("artifact.json")).expect("there");
        let models = said.json()["models"].as_object().cloned().unwrap_or_default();
        let measured = models.values().next().expect("one model");
        (measured["accuracy"].as_f64().expect("a number"), serde_json::from_slice(&manifest).expect("JSON"))
    };
    for method in ["head", "full"] {
        let ((read, of_read), (cut, of_cut)) = (accuracy("3", method), accuracy("1", method));
        println!("{method}: {read:.2} in windows, {cut:.2} cut");
        assert!(read > 0.85 && cut < 0.7, "{method}: {read} in windows, {cut} cut");
        // Releases that do not know windows refuse the first, and take the second.
        assert_eq!((of_read["windows"].as_u64(), of_read["format"].as_u64()), (Some(3), Some(3)));
        assert_eq!((of_cut.get("windows"), of_cut["format"].as_u64()), (None, Some(2)));
    }
    let args = ["adapt", "finetune", "--method", "words", "--data", "train.jsonl", "--out", "x", "--windows", "2"];
    let said = run(dir, &args);
    assert!(said.code != 0 && said.err.contains("--windows is for encoders"), "{}", said.err);
}
