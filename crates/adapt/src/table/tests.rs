use super::*;
use crate::split;
use understudy_dataset::Example;
use understudy_model::table::TokenTable;

const VOCABULARY: [&str; 14] = [
    "[UNK]", "[CLS]", "[SEP]", "refund", "money", "back", "where", "parcel", "track", "good", "day", "hello", "my",
    "the",
];

fn tokenizer() -> Vec<u8> {
    let vocab: serde_json::Map<String, serde_json::Value> =
        VOCABULARY.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab}
    })
    .to_string()
    .into_bytes()
}

/// One vector of 6 numbers for each token, from a fixed formula.
fn tokens() -> Matrix {
    let x = |i: usize| ((i * 37 % 101) as f32 / 50.0 - 1.0) * if i % 6 < 3 { 1.0 } else { 0.1 };
    Matrix::new(6, (0..VOCABULARY.len() * 6).map(x).collect()).unwrap()
}

fn examples() -> Vec<Example> {
    let texts = [
        ("refund", ["refund my money", "money back", "my refund", "the money back", "refund", "my money back good"]),
        (
            "track",
            ["where my parcel", "track the parcel", "where", "parcel track", "the parcel where", "track my parcel day"],
        ),
        ("greet", ["good day", "hello", "hello good day", "day good", "hello hello", "good hello the"]),
    ];
    texts
        .iter()
        .flat_map(|(label, texts)| {
            texts.map(|text| Example { id: text.into(), text: text.into(), label: (*label).into() })
        })
        .collect()
}

fn fit(params: TableParams, seed: u64) -> FittedTable {
    let examples = examples();
    let split = split::split(&examples, 0.0, Seed(1)).unwrap();
    let texts: Vec<&str> = split.learn.iter().map(|&i| examples[i].text.as_str()).collect();
    let labels: Vec<usize> =
        split.learn.iter().map(|&i| split.classes.binary_search(&examples[i].label).unwrap()).collect();
    let soft: Vec<f32> =
        labels.iter().flat_map(|&label| (0..3).map(move |c| if c == label { 0.8 } else { 0.1 })).collect();
    let data = LabelledTexts { texts: &texts, labels: &labels, places: &split.places, classes: &split.classes };
    let params = params.check().unwrap();
    let table = params.compress(&tokens()).unwrap();
    let pieces = Pieces::from_bytes(&tokenizer()).unwrap();
    let soft = Matrix::new(3, soft).unwrap();
    params.fit(data, Some(&soft), &table.vectors, &pieces, Seed(seed)).unwrap()
}

#[test]
fn what_is_written_reads_back_and_answers_the_same() {
    for pairs_from in [0, 2] {
        let fitted = fit(TableParams { width: 4, pairs_from, ..TableParams::default() }, 1);
        assert_eq!(fitted.pairs.keys().is_empty(), pairs_from == 0);
        let dir = tempfile::tempdir().unwrap();
        for (file, bytes) in encode(&fitted, tokenizer(), "minilm").unwrap() {
            std::fs::write(dir.path().join(file), bytes).unwrap();
        }
        let table = TokenTable::read(dir.path(), 512).unwrap();
        for (text, label) in [("Money back!", "refund"), ("where the parcel", "track"), ("hello, good day", "greet")] {
            let vector = table.embed(text).unwrap().vector;
            assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
            assert_eq!(fitted.fitted.head.predict(&vector).unwrap().label, label, "{text}");
        }
        let nothing = table.embed("xyz").unwrap();
        assert!(nothing.tokens == 0 && nothing.vector.iter().all(|x| *x == 0.0));
        assert!(table.embed(&"my ".repeat(600)).unwrap().truncated);
        std::fs::write(dir.path().join("model.safetensors"), b"junk").unwrap();
        assert!(TokenTable::read(dir.path(), 512).is_err());
    }
}

#[test]
fn the_configuration_says_how_frequent_tokens_were_weighed() {
    let config = |sif: f64| {
        let fitted = fit(TableParams { width: 4, sif, ..TableParams::default() }, 1);
        String::from_utf8(encode(&fitted, tokenizer(), "minilm").unwrap().remove("config.json").unwrap()).unwrap()
    };
    let weighed = config(1e-4);
    assert!(weighed.contains("\"apply_zipf\": true") && weighed.contains("\"sif_coefficient\": 0.0001"), "{weighed}");
    let plain = config(0.0);
    assert!(plain.contains("\"apply_zipf\": false") && plain.contains("\"sif_coefficient\": null"), "{plain}");
}

#[test]
fn the_seed_decides_everything() {
    let params = TableParams { width: 4, ..TableParams::default() };
    let (a, b, c) = (fit(params.clone(), 1), fit(params.clone(), 1), fit(params, 2));
    assert_eq!((&a.vectors, &a.fitted), (&b.vectors, &b.fitted));
    assert_ne!(a.vectors, c.vectors);
}

#[test]
fn compression_keeps_the_directions_of_most_variance() {
    let all = compress(&tokens(), 6, 0.0).unwrap();
    assert!((all.variance_kept - 1.0).abs() < 1e-6);
    let half = compress(&tokens(), 3, 0.0).unwrap();
    // Three of the six dimensions carry a hundredth of the variance of the others.
    assert!(half.variance_kept > 0.98, "{}", half.variance_kept);
    assert_eq!((half.vectors.rows(), half.vectors.columns()), (VOCABULARY.len(), 3));
    // A rotation leaves distances alone, up to the common scale.
    let distance = |m: &Matrix, a: usize, b: usize| {
        m.row(a).iter().zip(m.row(b)).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>()
    };
    let ratio = |a, b| distance(&all.vectors, a, b) / distance(&tokens(), a, b);
    assert!((ratio(3, 7) / ratio(1, 12) - 1.0).abs() < 1e-4);
    let weighted = compress(&tokens(), 6, 1e-4).unwrap();
    let length = |m: &Matrix, row: usize| m.row(row).iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    let lighter = |row: usize| length(&weighted.vectors, row) / length(&all.vectors, row);
    assert!(lighter(0) < lighter(5) && lighter(5) < lighter(13), "frequent tokens weigh less");
}
