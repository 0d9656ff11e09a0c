//! Embeddings (`POST /v1/embeddings`), as a server and as a client of one.

use crate::json;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_core::{Error, Result, backend::Embeddings};

/// Most texts in one request, as at OpenAI.
const MAX_INPUTS: usize = 2048;

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Arrays of numbers.
    #[default]
    Float,
    /// Little-endian f32 in base64; what OpenAI's own clients ask for.
    Base64,
}

/// A request for embeddings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingsRequest {
    /// The model name the client wrote.
    pub model: String,
    /// The texts, at least one.
    pub input: Vec<String>,
    /// How vectors are to be written.
    pub encoding: Encoding,
    /// Length of vectors that the client wants; see [`EmbeddingsRequest::check_dimensions`].
    pub dimensions: Option<u64>,
}

impl EmbeddingsRequest {
    /// Refuses a length other than the model's own: cutting a vector short is only sound for models trained for it.
    ///
    /// # Errors
    /// `Invalid` for `dimensions`.
    pub fn check_dimensions(&self, own: usize) -> Result<()> {
        match self.dimensions {
            Some(wanted) if wanted != own as u64 => {
                let why = format!("model `{}` gives {own} dimensions, not {wanted}; leave the field out", self.model);
                Err(json::refused("dimensions", why))
            }
            _ => Ok(()),
        }
    }
}

/// Reads a request.
///
/// # Errors
/// `Invalid`, naming the field.
pub fn parse(body: &Bytes) -> Result<EmbeddingsRequest> {
    let mut map = json::object(body)?;
    let model = json::required_string(&map, "model", "model")?.to_owned();
    let encoding = match json::string(&map, "encoding_format", "encoding_format")? {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(other) => {
            return Err(json::refused("encoding_format", format_args!("expected float or base64, got `{other}`")));
        }
    };
    let dimensions = json::integer(&map, "dimensions", 1..=1 << 20)?;
    let input = match map.remove("input") {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => {
            items.into_iter().enumerate().map(|(i, item)| text(i, item)).collect::<Result<Vec<_>>>()?
        }
        None | Some(Value::Null) => return Err(json::refused("input", "this field is required")),
        Some(other) => return Err(json::mismatch("input", "a string or an array of strings", &other)),
    };
    match input.len() {
        0 => Err(json::refused("input", "the array is empty")),
        n if n > MAX_INPUTS => Err(json::refused("input", format_args!("{n} texts are more than {MAX_INPUTS}"))),
        _ => match input.iter().position(String::is_empty) {
            Some(i) => Err(json::refused(&format!("input[{i}]"), "the text is empty")),
            None => Ok(EmbeddingsRequest { model, input, encoding, dimensions }),
        },
    }
}

fn text(index: usize, item: Value) -> Result<String> {
    let param = format!("input[{index}]");
    match item {
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Array(_) => Err(json::refused(
            &param,
            "arrays of tokens are not supported, because token numbers differ between models; send the text",
        )),
        other => Err(json::mismatch(&param, "a string", &other)),
    }
}

/// Renders vectors as an answer.
#[must_use]
pub fn render(embeddings: &Embeddings, model: &str, encoding: Encoding) -> Bytes {
    let data: Vec<Value> = embeddings
        .vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            let vector = match encoding {
                Encoding::Float => json!(vector),
                Encoding::Base64 => {
                    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                    Value::from(STANDARD.encode(bytes))
                }
            };
            json!({ "object": "embedding", "index": index, "embedding": vector })
        })
        .collect();
    let usage = json!({ "prompt_tokens": embeddings.tokens, "total_tokens": embeddings.tokens });
    Bytes::from(json!({ "object": "list", "data": data, "model": model, "usage": usage }).to_string())
}

/// The body that asks an upstream for the vectors of `texts`.
#[must_use]
pub fn upstream_body(model: &str, texts: &[String]) -> Bytes {
    Bytes::from(json!({ "model": model, "input": texts, "encoding_format": "float" }).to_string())
}

/// Reads an upstream's answer with `expected` vectors, in either encoding.
///
/// # Errors
/// `Data` when it is not such an answer, a vector is missing or repeated, or lengths differ.
pub fn parse_response(body: &Bytes, expected: usize) -> Result<Embeddings> {
    #[derive(Deserialize)]
    struct Response {
        data: Vec<Item>,
        #[serde(default)]
        usage: Option<Usage>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        index: Option<usize>,
        embedding: Value,
    }
    #[derive(Deserialize)]
    struct Usage {
        #[serde(default)]
        prompt_tokens: u64,
    }
    let bad = |what: String| Error::data(format!("read embeddings from the upstream: {what}"));
    let response: Response = serde_json::from_slice(body).map_err(|e| bad(e.to_string()))?;
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; expected];
    for (position, item) in response.data.into_iter().enumerate() {
        let index = item.index.unwrap_or(position);
        let slot = vectors.get_mut(index).ok_or_else(|| bad(format!("index {index} was not asked for")))?;
        let vector = vector(&item.embedding).ok_or_else(|| bad(format!("vector {index} is not a vector")))?;
        if slot.replace(vector).is_some() {
            return Err(bad(format!("vector {index} came twice")));
        }
    }
    let vectors: Vec<Vec<f32>> = vectors
        .into_iter()
        .enumerate()
        .map(|(i, v)| v.ok_or_else(|| bad(format!("vector {i} is missing"))))
        .collect::<Result<_>>()?;
    if vectors.windows(2).any(|pair| pair[0].len() != pair[1].len()) {
        return Err(bad("vectors differ in length".to_owned()));
    }
    Ok(Embeddings { vectors, tokens: response.usage.map_or(0, |usage| usage.prompt_tokens) })
}

#[expect(clippy::cast_possible_truncation, reason = "embeddings are f32 on the wire; JSON writes them longer")]
fn vector(value: &Value) -> Option<Vec<f32>> {
    match value {
        Value::Array(numbers) => numbers.iter().map(|x| x.as_f64().map(|x| x as f32)).collect(),
        Value::String(text) => {
            let bytes = STANDARD.decode(text).ok()?;
            let (numbers, rest) = bytes.as_chunks::<4>();
            let vector: Vec<f32> = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
            (rest.is_empty() && vector.iter().all(|x| x.is_finite())).then_some(vector)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Result<EmbeddingsRequest> {
        parse(&Bytes::copy_from_slice(json.as_bytes()))
    }

    #[test]
    fn one_text_and_many_are_read_and_tokens_are_refused_with_the_reason() {
        assert_eq!(
            read(r#"{"model":"m","input":"a","encoding_format":"base64"}"#).expect("valid").encoding,
            Encoding::Base64
        );
        let many = read(r#"{"model":"m","input":["a","b"],"dimensions":384}"#).expect("valid");
        assert_eq!(many.input, ["a", "b"]);
        assert!(many.check_dimensions(384).is_ok());
        assert_eq!(many.check_dimensions(768).expect_err("other").param(), Some("dimensions"));
        for (bad, param) in [
            (r#"{"model":"m","input":[1,2]}"#, "input[0]"),
            (r#"{"model":"m","input":[[1],[2]]}"#, "input[0]"),
            (r#"{"model":"m","input":["a",""]}"#, "input[1]"),
            (r#"{"model":"m","input":[]}"#, "input"),
            (r#"{"model":"m","input":7}"#, "input"),
            (r#"{"model":"m"}"#, "input"),
            (r#"{"input":"a"}"#, "model"),
            (r#"{"model":"m","input":"a","encoding_format":"int8"}"#, "encoding_format"),
            (r#"{"model":"m","input":"a","dimensions":0}"#, "dimensions"),
        ] {
            assert_eq!(read(bad).expect_err("invalid").param(), Some(param), "{bad}");
        }
    }

    #[test]
    fn missing_repeated_and_uneven_vectors_are_errors() {
        for bad in [
            r#"{"data":[{"index":0,"embedding":[1.0]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1]},{"index":9,"embedding":[1]}]}"#,
            r#"{"data":[{"embedding":["a"]},{"embedding":"AAA="}]}"#,
            "<html>",
        ] {
            assert!(parse_response(&Bytes::from_static(bad.as_bytes()), 2).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn vectors_survive_both_encodings(vectors in (1usize..5).prop_flat_map(|d| proptest::collection::vec(proptest::collection::vec(-1.0f32..1.0, d), 1..4)), tokens in 0u64..1000) {
            let n = vectors.len();
            let embeddings = Embeddings { vectors, tokens };
            for encoding in [Encoding::Float, Encoding::Base64] {
                let back = parse_response(&render(&embeddings, "m", encoding), n).expect("own form");
                prop_assert_eq!(&back.vectors, &embeddings.vectors);
                prop_assert_eq!(back.tokens, tokens);
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = (parse(&bytes).is_ok(), parse_response(&bytes, 2).is_ok());
        }
    }
}
