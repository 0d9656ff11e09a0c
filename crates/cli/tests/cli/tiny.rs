//! A generative model of random numbers, small enough to be trained in a test: a GGUF file of the Llama family with a
//! tokeniser of bytes.

use crate::support::run;
use std::{fs, path::Path};

const WIDTH: u32 = 64;
const INNER: u32 = 128;
const LAYERS: u32 = 2;
const HEADS: u32 = 4;
const KV_HEADS: u32 = 2;
const HEAD: u32 = WIDTH / HEADS;
const CONTEXT: u32 = 2048;
const ALIGNMENT: usize = 32;

const TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + \
                        '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% \
                        endif %}";

/// Installs it as `tiny`.
pub(crate) fn install(folder: &Path) {
    fs::write(folder.join("tiny.gguf"), gguf(1)).expect("written");
    let said = run(folder, &["pull", "file:tiny.gguf", "--as", "tiny"]);
    assert_eq!(said.code, 0, "{}", said.err);
}

/// The file's bytes; another seed, other numbers.
pub(crate) fn gguf(seed: u64) -> Vec<u8> {
    let tokens = tokens();
    let vocabulary = u32::try_from(tokens.len()).expect("a few hundred");
    let mut tensors: Vec<(String, Vec<u32>)> = vec![("token_embd.weight".into(), vec![WIDTH, vocabulary])];
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: &[u32]| tensors.push((format!("blk.{layer}.{name}.weight"), shape.to_vec()));
        add("attn_norm", &[WIDTH]);
        add("attn_q", &[WIDTH, HEADS * HEAD]);
        add("attn_k", &[WIDTH, KV_HEADS * HEAD]);
        add("attn_v", &[WIDTH, KV_HEADS * HEAD]);
        add("attn_output", &[HEADS * HEAD, WIDTH]);
        add("ffn_norm", &[WIDTH]);
        add("ffn_gate", &[WIDTH, INNER]);
        add("ffn_up", &[WIDTH, INNER]);
        add("ffn_down", &[INNER, WIDTH]);
    }
    tensors.push(("output_norm.weight".into(), vec![WIDTH]));

    let mut values = Values::default();
    values.text("general.architecture", "llama");
    values.text("general.name", "tiny");
    for (key, value) in [
        ("general.file_type", 0),
        ("llama.vocab_size", vocabulary),
        ("llama.context_length", CONTEXT),
        ("llama.embedding_length", WIDTH),
        ("llama.block_count", LAYERS),
        ("llama.feed_forward_length", INNER),
        ("llama.rope.dimension_count", HEAD),
        ("llama.attention.head_count", HEADS),
        ("llama.attention.head_count_kv", KV_HEADS),
        ("tokenizer.ggml.bos_token_id", 256),
        ("tokenizer.ggml.eos_token_id", 257),
        ("tokenizer.ggml.padding_token_id", 257),
    ] {
        values.number(key, value);
    }
    values.float("llama.attention.layer_norm_rms_epsilon", 1e-5);
    values.float("llama.rope.freq_base", 1e4);
    values.text("tokenizer.ggml.model", "gpt2");
    values.text("tokenizer.ggml.pre", "gpt-2");
    values.texts("tokenizer.ggml.tokens", &tokens);
    let kinds: Vec<i32> = tokens.iter().map(|token| if token.starts_with("<|") { 3 } else { 1 }).collect();
    values.integers("tokenizer.ggml.token_type", &kinds);
    values.texts("tokenizer.ggml.merges", &["t h".to_owned(), "th e".to_owned()]);
    values.text("tokenizer.chat_template", TEMPLATE);

    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend(values.count.to_le_bytes());
    file.extend(values.bytes);
    let size = |shape: &[u32]| shape.iter().map(|n| *n as usize).product::<usize>();
    let mut offset = 0;
    for (name, shape) in &tensors {
        text(&mut file, name);
        file.extend(u32::try_from(shape.len()).expect("two at most").to_le_bytes());
        shape.iter().for_each(|n| file.extend(u64::from(*n).to_le_bytes()));
        file.extend(0u32.to_le_bytes());
        file.extend((offset as u64).to_le_bytes());
        offset += (4 * size(shape)).next_multiple_of(ALIGNMENT);
    }
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    let mut state = seed;
    for (name, shape) in &tensors {
        let reach = if name.contains("norm") { 0.0 } else { 1.0 / (shape[0] as f32).sqrt() };
        let middle = if name.contains("norm") { 1.0 } else { 0.0 };
        for _ in 0..size(shape) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let unit = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            file.extend((middle + reach * unit).to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    }
    file
}

/// Every byte as GPT-2 writes it, then what opens and ends a message, then what is joined.
fn tokens() -> Vec<String> {
    let mut next = 256;
    let mut tokens: Vec<String> = (0..=255u8)
        .map(|byte| {
            let shown = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
            let code = if shown { u32::from(byte) } else { next };
            next += u32::from(!shown);
            char::from_u32(code).expect("letters").to_string()
        })
        .collect();
    tokens.extend(["<|im_start|>", "<|im_end|>", "th", "the"].map(str::to_owned));
    tokens
}

#[derive(Default)]
struct Values {
    bytes: Vec<u8>,
    count: u64,
}

impl Values {
    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f32) {
        self.key(key, 6);
        self.bytes.extend(value.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        text(&mut self.bytes, value);
    }

    fn list(&mut self, key: &str, kind: u32, count: usize) {
        self.key(key, 9);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((count as u64).to_le_bytes());
    }

    fn integers(&mut self, key: &str, values: &[i32]) {
        self.list(key, 5, values.len());
        values.iter().for_each(|value| self.bytes.extend(value.to_le_bytes()));
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        self.list(key, 8, values.len());
        values.iter().for_each(|value| text(&mut self.bytes, value));
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
