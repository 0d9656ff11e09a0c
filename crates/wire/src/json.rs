//! JSON objects from outside, read strictly, and typed access to their fields with errors that name the field.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;
use understudy_core::{Error, Result};

/// Reads one JSON object. A key that appears twice is an error at every depth: two parsers could disagree about which
/// value counts, and one of them decides about money. Depth is bounded by the JSON parser (128).
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice::<Strict>(body) {
        Ok(Strict(Value::Object(map))) => Ok(map),
        Ok(Strict(other)) => {
            Err(Error::invalid(format!("parse the request body: expected a JSON object, got {}", kind(&other))))
        }
        Err(e) => Err(Error::invalid(format!("parse the request body as JSON: {e}"))),
    }
}

/// What a JSON value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The error for a field of the wrong type.
pub(crate) fn mismatch(param: &str, expected: &str, got: &Value) -> Error {
    Error::invalid(format!("read `{param}`: expected {expected}, got {}", kind(got))).with_param(param)
}

/// The error for a value that is not allowed.
pub(crate) fn refused(param: &str, why: impl fmt::Display) -> Error {
    Error::invalid(format!("read `{param}`: {why}")).with_param(param)
}

/// The field, unless it is absent or null: OpenAI treats both alike.
pub(crate) fn get<'v>(map: &'v Map<String, Value>, key: &str) -> Option<&'v Value> {
    map.get(key).filter(|value| !value.is_null())
}

pub(crate) fn string<'v>(map: &'v Map<String, Value>, key: &str, param: &str) -> Result<Option<&'v str>> {
    get(map, key).map(|v| v.as_str().ok_or_else(|| mismatch(param, "a string", v))).transpose()
}

pub(crate) fn required_string<'v>(map: &'v Map<String, Value>, key: &str, param: &str) -> Result<&'v str> {
    string(map, key, param)?.ok_or_else(|| refused(param, "this field is required"))
}

pub(crate) fn boolean(map: &Map<String, Value>, key: &str) -> Result<Option<bool>> {
    get(map, key).map(|v| v.as_bool().ok_or_else(|| mismatch(key, "a boolean", v))).transpose()
}

/// A whole number in `range`.
pub(crate) fn integer(
    map: &Map<String, Value>,
    key: &str,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>> {
    let Some(value) = get(map, key) else { return Ok(None) };
    match value.as_u64() {
        Some(n) if range.contains(&n) => Ok(Some(n)),
        _ if value.is_number() => {
            let (low, high) = range.into_inner();
            Err(refused(key, format_args!("expected a whole number from {low} to {high}, got {value}")))
        }
        _ => Err(mismatch(key, "a whole number", value)),
    }
}

/// A number in `range`.
#[expect(clippy::cast_possible_truncation, reason = "the range is narrow; f32 is precise enough for sampling")]
pub(crate) fn number(map: &Map<String, Value>, key: &str, range: std::ops::RangeInclusive<f64>) -> Result<Option<f32>> {
    let Some(value) = get(map, key) else { return Ok(None) };
    match value.as_f64() {
        Some(x) if range.contains(&x) => Ok(Some(x as f32)),
        Some(_) => {
            let (low, high) = range.into_inner();
            Err(refused(key, format_args!("expected a number from {low} to {high}, got {value}")))
        }
        None => Err(mismatch(key, "a number", value)),
    }
}

/// A JSON value without repeated keys.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> DeserializeSeed<'de> for StrictVisitor {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(StrictVisitor)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key `{key}` appears twice")));
            }
            map.insert(key, access.next_value_seed(StrictVisitor)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_keys_deep_nesting_and_endless_numbers_are_refused() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
        for (body, says) in [
            (r#"{"a":{"b":1,"b":2}}"#, "`b` appears twice"),
            (r#"{"a":1e999}"#, "out of range"),
            (r#"{"a":NaN}"#, "as JSON"),
            ("[1]", "got an array"),
            ("", "EOF"),
            (deep.as_str(), "recursion limit"),
        ] {
            let error = object(body.as_bytes()).expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn what_is_read_is_what_the_lenient_reader_reads() {
        let body = r#"{"a":[1,-2,2.5,true,null,"x\u00e9",{"b":{}}],"c":18446744073709551615}"#;
        let lenient: Value = serde_json::from_str(body).expect("valid");
        assert_eq!(Value::Object(object(body.as_bytes()).expect("valid")), lenient);
    }
}
