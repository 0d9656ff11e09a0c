use super::*;
use proptest::prelude::*;

fn manifest() -> serde_json::Value {
    serde_json::json!({
        "format": 1, "name": "triage", "kind": "classifier", "task": "triage",
        "base": {"name": "minilm", "hash": "ab"}, "dtype": "f32", "max_tokens": 128, "pooling": "mean",
        "labels": ["ham", "spam"], "temperature": 1.25,
        "metrics": {"accuracy": {"estimate": 0.9, "low": 0.8, "high": 0.95, "n": 100}},
        "data_hash": "cd", "n_train": 10, "n_stop": 5, "n_calibrate": 5, "seed": 1, "parent": null, "created": 7
    })
}

fn tensors(weights: &[f32], rows: usize, bias: &[f32]) -> Vec<u8> {
    let bytes = |x: &[f32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let (w, b) = (bytes(weights), bytes(bias));
    let w = TensorView::new(TensorType::F32, vec![rows, weights.len() / rows], &w).unwrap();
    let b = TensorView::new(TensorType::F32, vec![bias.len()], &b).unwrap();
    safetensors::serialize([("weights", w), ("bias", b)], None).unwrap()
}

fn read(manifest: &serde_json::Value, head: &[u8]) -> Result<Artifact> {
    Artifact::from_bytes(Path::new("a"), manifest.to_string().as_bytes(), head)
}

#[test]
fn the_hash_ignores_when_it_was_written_and_sees_everything_else() {
    let head = tensors(&[1.0, 0.0, 0.0, 1.0], 2, &[0.0, 0.0]);
    let hash = |edit: fn(&mut serde_json::Value)| {
        let mut m = manifest();
        edit(&mut m);
        read(&m, &head).unwrap().hash().to_owned()
    };
    let base = hash(|_| {});
    assert_eq!(base, hash(|m| m["created"] = 8.into()));
    assert_ne!(base, hash(|m| m["temperature"] = 1.5.into()));
    assert_ne!(base, hash(|m| m["from_the_future"] = 1.into()));
    let other = read(&manifest(), &tensors(&[1.0, 0.0, 0.0, 2.0], 2, &[0.0, 0.0])).unwrap();
    assert_ne!(base, other.hash());
}

#[test]
fn texts_that_no_label_claims_are_out_of_scope() {
    let labels: Vec<String> = ["card", "cash", "other"].map(String::from).to_vec();
    let rule = |label: &str, threshold| OutOfScope { label: label.into(), threshold };
    assert_eq!(rule("none", 0.5).apply(&labels, &[0.6, 0.3, 0.1]), ("card", 0.6));
    assert_eq!(rule("none", 0.7).apply(&labels, &[0.6, 0.3, 0.1]), ("none", 0.4));
    // A label of the head's own never counts as a claim.
    assert_eq!(rule("other", 0.3).apply(&labels, &[0.3, 0.1, 0.6]), ("card", 0.3));
    assert_eq!(rule("other", 0.4).apply(&labels, &[0.25, 0.15, 0.6]), ("other", 0.75));
}

#[test]
fn a_file_that_changed_or_is_missing_is_found() {
    let tmp = tempfile::tempdir().unwrap();
    let mut m = manifest();
    m["format"] = 2.into();
    m["body"] = "encoder".into();
    let empty = sha256_hex(b"{}");
    m["files"] = serde_json::json!({"config.json": empty, "model.safetensors": empty, "tokenizer.json": empty});
    std::fs::write(tmp.path().join(MANIFEST), m.to_string()).unwrap();
    std::fs::write(tmp.path().join(HEAD), tensors(&[1.0, 0.0, 0.0, 1.0], 2, &[0.0, 0.0])).unwrap();
    let missing = Artifact::read(tmp.path()).unwrap_err();
    assert!(missing.to_string().contains("config.json"), "{missing}");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::write(tmp.path().join(file), "{}").unwrap();
    }
    assert_eq!(Artifact::read(tmp.path()).unwrap().manifest().body, Body::Encoder);
    std::fs::write(tmp.path().join("config.json"), "{ }").unwrap();
    let changed = Artifact::read(tmp.path()).unwrap_err().to_string();
    assert!(changed.contains("config.json is not the file that was trained"), "{changed}");
}

#[test]
fn files_that_answers_come_from_are_listed() {
    for (body, needed, optional) in [
        ("base", vec![], None),
        ("encoder", vec!["config.json", "model.safetensors", "tokenizer.json"], Some("1_Pooling/config.json")),
        ("encoder", vec!["config.json", "model.safetensors", "tokenizer.json"], Some("sentence_bert_config.json")),
        ("words", vec!["words.safetensors"], None),
        ("static", vec!["model.safetensors", "tokenizer.json"], Some("pairs.safetensors")),
    ] {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("1_Pooling")).unwrap();
        std::fs::write(tmp.path().join(HEAD), tensors(&[1.0, 0.0, 0.0, 1.0], 2, &[0.0, 0.0])).unwrap();
        let mut m = manifest();
        m["body"] = body.into();
        let list = |files: &[&str]| {
            let mut m = m.clone();
            m["files"] =
                files.iter().map(|file| ((*file).to_owned(), serde_json::Value::from(sha256_hex(b"{}")))).collect();
            std::fs::write(tmp.path().join(MANIFEST), m.to_string()).unwrap();
        };
        for file in needed.iter().chain(&["notes.txt"]) {
            std::fs::write(tmp.path().join(file), "{}").unwrap();
        }
        list(&needed);
        Artifact::read(tmp.path()).unwrap();
        if let Some(first) = needed.first() {
            list(&needed[1..]);
            let error = Artifact::read(tmp.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("does not list {first}")), "{error}");
        }
        if let Some(optional) = optional {
            list(&needed);
            std::fs::write(tmp.path().join(optional), "{}").unwrap();
            let error = Artifact::read(tmp.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("does not list {optional}")), "{error}");
            list(&[&needed[..], &[optional]].concat());
            Artifact::read(tmp.path()).unwrap();
        }
    }
}

#[test]
fn faults_name_the_file_and_what_is_wrong() {
    let good = tensors(&[1.0, 0.0, 0.0, 1.0], 2, &[0.0, 0.0]);
    let with = |field: &str, value: serde_json::Value| {
        let mut m = manifest();
        m[field] = value;
        m
    };
    for (m, head, says) in [
        (with("format", 4.into()), &good, "artifact.json: format version 4 is newer"),
        (with("format", "x".into()), &good, "`format` is not a version from 1 to 3"),
        (with("files", serde_json::json!({"../x": "ab"})), &good, "file `../x` is not in the folder"),
        (with("files", serde_json::json!({"/etc/x": "ab"})), &good, "file `/etc/x` is not in the folder"),
        (with("body", "cloud".into()), &good, "unknown variant `cloud`"),
        (
            with("out_of_scope", serde_json::json!({"label": "none", "threshold": 1.5})),
            &good,
            "threshold 1.5 is not in [0, 1]",
        ),
        (with("labels", serde_json::json!(["ham"])), &good, "1 labels do not fit the kind"),
        (with("kind", "regressor".into()), &good, "2 labels do not fit the kind"),
        (with("margin", (-1).into()), &good, "`margin` is not a number"),
        (with("windows", 0.into()), &good, "windows 0 is not from 1 to 64"),
        (
            with("labels", serde_json::json!(["ham", "spam", "eggs"])),
            &good,
            "head.safetensors: `weights` has shape [2, 2]",
        ),
        (with("temperature", (-1).into()), &good, "temperature -1"),
        (with("kind", "labeller".into()), &good, "`thresholds` are not 2 numbers"),
        (with("thresholds", serde_json::json!([0.5, 0.5])), &good, "`thresholds` are not 0 numbers"),
        (with("max_tokens", 2.into()), &good, "no room"),
        (with("dtype", "f16".into()), &good, "unknown variant `f16`"),
        (
            with("metrics", serde_json::json!({"f": {"estimate": 2.0, "low": 0.0, "high": 1.0, "n": 1}})),
            &good,
            "metric `f`",
        ),
        (manifest(), &tensors(&[1.0, f32::NAN], 2, &[0.0, 0.0]), "not a finite"),
        (manifest(), &tensors(&[1.0, 1.0], 2, &[0.0]), "`bias` has shape [1]"),
        (manifest(), &b"junk".to_vec(), "head.safetensors"),
    ] {
        let error = read(&m, head).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let missing = Artifact::read(Path::new("no/such/artifact")).unwrap_err();
    assert_eq!(missing.kind(), understudy_core::ErrorKind::NotFound);
}

proptest! {
    #[test]
    fn damaged_bytes_are_an_error_or_a_model_but_never_a_panic(
        edits in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        truncate in 0..4,
    ) {
        let mut m = manifest().to_string().into_bytes();
        let mut head = tensors(&[1.0, 0.0, 0.0, 1.0], 2, &[0.0, 0.0]);
        for (in_head, at, byte) in edits {
            let file = if in_head { &mut head } else { &mut m };
            let at = at.index(file.len());
            file[at] = byte;
        }
        if truncate == 0 {
            head.truncate(cut.index(head.len()));
        }
        if let Ok(artifact) = Artifact::from_bytes(Path::new("a"), &m, &head) {
            let x = vec![0.5; artifact.head().dimensions()];
            prop_assert!(artifact.head().predict(&x).is_ok());
        }
    }

    #[test]
    fn random_bytes_are_refused(m in proptest::collection::vec(any::<u8>(), 0..200), h in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Artifact::from_bytes(Path::new("a"), &m, &h).is_err());
        prop_assert!(Artifact::from_bytes(Path::new("a"), manifest().to_string().as_bytes(), &h).is_err());
    }
}
