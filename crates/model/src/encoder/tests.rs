use super::*;
use serde::Deserialize;
use std::path::PathBuf;
use understudy_core::ErrorKind;

/// What PyTorch makes of a text; `crates/bench/reference/encoder_fixtures.py` writes these.
#[derive(Deserialize)]
struct Case {
    text: String,
    tokens: usize,
    embedding: Vec<f32>,
}

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encoder"))
}

fn load(dir: &Path, dtype: Dtype) -> Encoder {
    Encoder::load(dir, &EncoderOptions { dtype, ..EncoderOptions::default() }).unwrap()
}

fn cases(file: &Path) -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Embeds all cases in one batch and returns the largest difference from PyTorch's numbers.
fn largest_difference(encoder: &Encoder, cases: &[Case]) -> f32 {
    let batch: Vec<Tokens> = cases.iter().map(|case| encoder.tokenize(&case.text).unwrap()).collect();
    for (tokens, case) in batch.iter().zip(cases) {
        assert_eq!(tokens.len(), case.tokens, "{}", case.text);
    }
    let got = encoder.embed(&batch, &mut Scratch::default());
    let differences = got.iter().zip(cases).flat_map(|(got, case)| {
        assert_eq!(got.len(), case.embedding.len());
        got.iter().zip(&case.embedding).map(|(a, b)| (a - b).abs())
    });
    differences.fold(0f32, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) })
}

#[test]
fn tiny_models_of_all_architectures_and_number_formats_equal_pytorch() {
    for name in ["bert", "mpnet", "distilbert"] {
        let dir = fixtures().join(name);
        let worst = largest_difference(&load(&dir, Dtype::F32), &cases(&dir.join("expected.json")));
        println!("{name}, f32 against PyTorch: largest difference {worst:.2e}");
        assert!(worst < 1e-5, "{name}: {worst}");
    }
}

#[test]
fn tiny_models_in_int8_stay_close_to_pytorch() {
    for name in ["bert", "mpnet", "distilbert"] {
        let dir = fixtures().join(name);
        let worst = largest_difference(&load(&dir, Dtype::Int8), &cases(&dir.join("expected.json")));
        println!("{name}, int8 against PyTorch: largest difference {worst:.2e}");
        assert!(worst < 0.03, "{name}: {worst}");
    }
}

#[test]
fn minilm_equals_pytorch_to_four_digits() {
    let Some(dir) = minilm() else { return };
    let cases = cases(&fixtures().join("minilm.json"));
    let exact = load(&dir, Dtype::F32);
    let worst = largest_difference(&exact, &cases);
    println!("minilm, f32 against PyTorch: largest difference {worst:.2e}");
    assert!(worst <= 1e-4, "{worst}");
    let quick = load(&dir, Dtype::Int8);
    for case in &cases {
        let tokens = quick.tokenize(&case.text).unwrap();
        let vector = &quick.embed(&[tokens], &mut Scratch::default())[0];
        let cosine = cosine(vector, &case.embedding);
        println!("minilm, int8 against PyTorch: cosine {cosine:.4} at {} tokens", case.tokens);
        assert!(cosine > 0.98, "{cosine}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test finds the models that are installed")]
fn minilm() -> Option<PathBuf> {
    let models = std::env::var("UNDERSTUDY_MODELS").map(PathBuf::from).ok();
    let models = models.or_else(|| std::env::home_dir().map(|home| home.join(".understudy/models")))?;
    let dir = models.join("minilm");
    if !dir.join("model.safetensors").exists() {
        println!("skipped: no minilm in {}; `understudy pull minilm` installs it", models.display());
        return None;
    }
    Some(dir)
}

#[test]
fn neighbours_in_a_batch_change_nothing() {
    for (name, dtype) in [("bert", Dtype::F32), ("mpnet", Dtype::F32), ("bert", Dtype::Int8)] {
        let encoder = load(&fixtures().join(name), dtype);
        let texts = ["fish", "the red fish swims in the deep blue sea.", "a bird flies", "", "sea sky sea"];
        let batch: Vec<Tokens> = (0..40).map(|i| encoder.tokenize(texts[i % 5]).unwrap()).collect();
        let mut scratch = Scratch::default();
        let together = encoder.embed(&batch, &mut scratch);
        for (tokens, together) in batch.iter().zip(&together) {
            let alone = &encoder.embed(std::slice::from_ref(tokens), &mut scratch)[0];
            assert!((cosine(alone, together) - 1.0).abs() < 1e-5);
            assert!((cosine(alone, alone) - 1.0).abs() < 1e-5);
        }
    }
}

#[test]
fn options_limit_the_tokens_and_choose_the_pooling() {
    let dir = fixtures().join("bert");
    let options = EncoderOptions { dtype: Dtype::F32, max_tokens: 5, windows: 1, pooling: Some(Pooling::Cls) };
    let encoder = Encoder::load(&dir, &options).unwrap();
    let tokens = encoder.tokenize("the red fish swims in the sea").unwrap();
    assert_eq!((tokens.len(), tokens.truncated(), encoder.pooling()), (5, true, Pooling::Cls));
    assert_eq!(load(&dir, Dtype::F32).max_tokens(), 36);
    assert_eq!(load(&fixtures().join("distilbert"), Dtype::F32).pooling(), Pooling::Cls);
}

#[test]
fn a_wrong_folder_says_which_file_and_which_tensor() {
    let error = |change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            std::fs::copy(fixtures().join("bert").join(file), dir.path().join(file)).unwrap();
        }
        change(dir.path());
        Encoder::load(dir.path(), &EncoderOptions::default()).err().unwrap()
    };
    let edit = |from: &'static str, to: &'static str| {
        move |dir: &Path| {
            let file = dir.join("config.json");
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(&file, text.replace(from, to)).unwrap();
        }
    };
    let missing = error(&|dir| std::fs::remove_file(dir.join("config.json")).unwrap());
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let wrong = error(&edit("\"intermediate_size\": 32", "\"intermediate_size\": 33"));
    assert_eq!(wrong.kind(), ErrorKind::Data);
    for part in ["model.safetensors", "bert.encoder.layer.0.intermediate.dense.weight", "[33, 24]", "[32, 24]"] {
        assert!(wrong.message().contains(part), "{wrong}");
    }
    for (from, to, says) in [
        ("\"model_type\": \"bert\"", "\"model_type\": \"gpt2\"", "gpt2"),
        ("\"num_attention_heads\": 3", "\"num_attention_heads\": 5", "5 attention heads"),
        ("\"vocab_size\": 28", "\"vocab_size\": 20", "tokeniser knows"),
    ] {
        let error = error(&edit(from, to));
        assert!(error.message().contains(says), "{error}");
    }
    let mpnet = error(&|dir| {
        let text = std::fs::read_to_string(fixtures().join("mpnet/config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config["max_position_embeddings"] = 1_000_000_000_000u64.into();
        for file in ["model.safetensors", "tokenizer.json"] {
            std::fs::copy(fixtures().join("mpnet").join(file), dir.join(file)).unwrap();
        }
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    });
    assert!(mpnet.message().contains("position_embeddings"), "{mpnet}");
    let damaged = error(&|dir| std::fs::write(dir.join("model.safetensors"), b"no").unwrap());
    assert_eq!(damaged.kind(), ErrorKind::Data);
}

#[test]
fn windows_of_a_text_pass_a_chunk_at_a_time_and_give_the_vector_of_one_pass() {
    for dtype in [Dtype::F32, Dtype::Int8] {
        let options = EncoderOptions { dtype, max_tokens: 36, windows: 64, pooling: None };
        let encoder = Encoder::load(&fixtures().join("bert"), &options).unwrap();
        let tokens = encoder.tokenize(&"red fish swims in the deep blue sea , ".repeat(300)).unwrap();
        let windows: Vec<&[u32]> = tokens.windows().collect();
        assert_eq!(windows.len(), 64);
        let mut scratch = Scratch::default();
        let got = encoder.embed(std::slice::from_ref(&tokens), &mut scratch);
        let width = encoder.dimensions();
        let mut sum = vec![0.0; width];
        let (states, mut from) = (encoder.body.states(&windows, &mut scratch.0), 0);
        for window in &windows {
            let rows = &states[from * width..][..window.len() * width];
            let pooled = understudy_kernels::pool(rows, width, encoder.pooling());
            sum.iter_mut().zip(pooled).for_each(|(to, x)| *to += x);
            from += window.len();
        }
        understudy_kernels::l2_normalize(&mut sum);
        let worst = got[0].iter().zip(&sum).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        println!("{dtype:?}, in chunks against one pass: largest difference {worst:.2e}");
        assert!(worst < 1e-5, "{worst}");
    }
}

#[test]
fn words_are_read_while_somebody_wants_them_and_of_texts_within_the_limit() {
    let (encoder, mut scratch) = (load(&fixtures().join("bert"), Dtype::F32), Scratch::default());
    let text = "red fish swims ".repeat(200);
    let asked = std::cell::Cell::new(0);
    let twice = || {
        asked.set(asked.get() + 1);
        asked.get() < 3
    };
    let error = encoder.read_words_while(&text, &mut scratch, twice).unwrap_err();
    assert_eq!((error.kind(), asked.get()), (ErrorKind::Unavailable, 3));
    assert_eq!(encoder.read_words(&text, &mut scratch).unwrap().words.len(), 600);
    let error = encoder.read_words(&"a".repeat(MOST_WORD_BYTES + 1), &mut scratch).unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.message().contains("limit is 524288"), "{error}");
}

#[test]
fn a_long_text_is_the_mean_of_its_windows() {
    let load = |windows: usize| {
        let options = EncoderOptions { dtype: Dtype::F32, max_tokens: 8, windows, pooling: None };
        Encoder::load(&fixtures().join("bert"), &options).unwrap()
    };
    let (cut, read) = (load(1), load(3));
    let text = "red fish swims in the deep blue sea , the bird flies high . red fish swims in the deep blue sea";
    let tokens = read.tokenize(text).unwrap();
    assert!(tokens.truncated() && tokens.windows().count() == 3 && tokens.len() == 24);
    assert_eq!(tokens.ids(), cut.tokenize(text).unwrap().ids());
    let mut scratch = Scratch::default();
    // Mean pooling of windows of one length: the mean of their states, which the mean of the states of all tokens is.
    let mut mean = vec![0.0; read.dimensions()];
    for window in tokens.windows() {
        let states = read.body.states(&[window], &mut scratch.0).to_vec();
        for row in states.chunks_exact(mean.len()) {
            mean.iter_mut().zip(row).for_each(|(to, x)| *to += x);
        }
    }
    understudy_kernels::l2_normalize(&mut mean);
    let short = read.tokenize("the bird").unwrap();
    let got = read.embed(&[short.clone(), tokens, short.clone()], &mut scratch);
    assert!(got[1].iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-5));
    let alone = &cut.embed(&[cut.tokenize("the bird").unwrap()], &mut scratch)[0];
    assert!([&got[0], &got[2]].into_iter().all(|v| v.iter().zip(alone).all(|(a, b)| (a - b).abs() < 1e-5)));
}
