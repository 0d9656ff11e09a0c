//! Texts in which spans are marked, for extraction. Three ways to write them are read: `tokens` with BIO `tags`; a text
//! with `spans` (`start` and `end` in characters, `label`); a text with the object that is to come out of it,
//! `{field: "text" or ["text", …]}`, whose values are looked for in the text.

use crate::{
    Row,
    format::{Record, fault},
};
use serde_json::{Map, Value, json};
use std::ops::Range;
use understudy_core::{Error, Result};

/// Fields of tagged tokens.
const TOKENS: &str = "tokens";
const TAGS: [&str; 3] = ["tags", "ner_tags", "slots"];
/// Fields of places in a text.
const SPANS: [&str; 2] = ["spans", "entities"];
/// What a place may call its field.
const NAMES: [&str; 4] = ["label", "field", "type", "entity"];

/// Fields and places.
pub type Spans = Vec<(String, Range<usize>)>;

/// A text with what is to be found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// The row's id.
    pub id: String,
    /// The text.
    pub text: String,
    /// Field and place (bytes) of each span, in the order of the text; none overlap.
    pub spans: Spans,
    /// Where the file says what its words are: their places, and the tag of each.
    pub tokens: Option<(Vec<Range<usize>>, Vec<String>)>,
    /// Values that the text does not contain.
    pub missing: usize,
}

impl Marked {
    /// Reads the marks of a row.
    ///
    /// # Errors
    /// `Data`, naming the line, when the marks are broken; `Invalid` when there are none.
    pub fn of(row: &Row) -> Result<Self> {
        let fail = |what: String| Error::data(format!("read the marks of line {}: {what}", row.line));
        let mut marked =
            Self { id: row.id.clone(), text: row.text.clone(), spans: Vec::new(), tokens: None, missing: 0 };
        if let Some((tokens, tags)) = tagged(&row.extra).map_err(fail)? {
            let (text, places) = joined(&tokens);
            marked.spans = of_tags(&tags)
                .into_iter()
                .map(|(field, r)| (field, places[r.start].start..places[r.end - 1].end))
                .collect();
            (marked.text, marked.tokens) = (text, Some((places, tags)));
        } else if let Some(spans) = SPANS.iter().find_map(|name| row.extra.get(*name)?.as_array()) {
            marked.spans = spans.iter().map(|span| place(&row.text, span)).collect::<Result<_, _>>().map_err(fail)?;
        } else {
            let reference = row.references.first().and_then(|text| serde_json::from_str(text).ok());
            let Some(Value::Object(object)) = reference else {
                return Err(Error::invalid(format!(
                    "read the marks of line {}: give `{TOKENS}` with `tags`, a text with `spans`, or a text with the object \
                     that is to come out of it (--label names its field)",
                    row.line
                )));
            };
            (marked.spans, marked.missing) = found(&row.text, &object).map_err(fail)?;
        }
        marked.spans.sort_by_key(|(_, place)| (place.start, place.end));
        let mut end = 0;
        marked.spans.retain(|(_, place)| {
            let free = place.start >= end && place.start < place.end;
            end = if free { place.end } else { end };
            free
        });
        Ok(marked)
    }
}

/// Gives tagged tokens and marked texts what a row of an extraction has: the text, and the object as its reference.
///
/// # Errors
/// `Data`, naming the line, when a row has tokens and another number of tags and no text of its own.
pub(crate) fn unfold(name: &str, records: &mut [Record]) -> Result<()> {
    for record in records {
        let fields = &mut record.fields;
        let untold = !fields.contains_key("text");
        if untold && let Some((tokens, tags)) = tagged(fields).map_err(|what| fault(name, record.line, what))? {
            let (text, places) = joined(&tokens);
            let spans =
                of_tags(&tags).into_iter().map(|(field, r)| (field, places[r.start].start..places[r.end - 1].end));
            let object = object(&text, spans);
            fields.insert("text".to_owned(), text.into());
            fields.entry("json").or_insert(object);
            continue;
        }
        let Some(text) = fields.get("text").and_then(Value::as_str).map(str::to_owned) else { continue };
        let Some(spans) = fields.get(SPANS[0]).and_then(Value::as_array) else { continue };
        // Broken places are told when they are read as marks.
        let Ok(spans) = spans.iter().map(|span| place(&text, span)).collect::<Result<Vec<_>, _>>() else { continue };
        let object = object(&text, spans.into_iter());
        fields.entry("json").or_insert(object);
    }
    Ok(())
}

fn object(text: &str, spans: impl Iterator<Item = (String, Range<usize>)>) -> Value {
    let mut object: Map<String, Value> = Map::new();
    for (field, place) in spans {
        let values = object.entry(field).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(text[place].into());
        }
    }
    Value::Object(object)
}

/// Tokens and their tags.
type Tagged = (Vec<String>, Vec<String>);

/// Tokens and their tags, where a row has both; as many of the one as of the other.
fn tagged(fields: &Map<String, Value>) -> Result<Option<Tagged>, String> {
    let texts = |value: &Value| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let Some(tokens) = fields.get(TOKENS).and_then(texts) else { return Ok(None) };
    let Some((name, tags)) = TAGS.iter().find_map(|name| Some((name, texts(fields.get(*name)?)?))) else {
        return Ok(None);
    };
    if tokens.len() != tags.len() {
        return Err(format!(
            "`{TOKENS}` has {} entries and `{name}` {}; give each token one tag",
            tokens.len(),
            tags.len()
        ));
    }
    Ok(Some((tokens, tags)))
}

/// Tokens with a space between any two, and where each is.
fn joined(tokens: &[String]) -> (String, Vec<Range<usize>>) {
    let (mut text, mut places) = (String::new(), Vec::with_capacity(tokens.len()));
    for token in tokens {
        if !text.is_empty() {
            text.push(' ');
        }
        let from = text.len();
        text.push_str(token);
        places.push(from..text.len());
    }
    (text, places)
}

/// The spans of BIO tags, as the CoNLL script and seqeval read them: `I-x` after anything else than `B-x` or `I-x` begins
/// a span too.
#[must_use]
pub fn of_tags(tags: &[String]) -> Spans {
    let mut spans: Spans = Vec::new();
    let mut open = false;
    for (at, tag) in tags.iter().enumerate() {
        let (prefix, field) = tag.split_once('-').unwrap_or((tag, ""));
        let goes_on = prefix == "I" && open && spans.last().is_some_and(|(of, _)| of == field);
        match prefix {
            "I" if goes_on => {
                if let Some((_, place)) = spans.last_mut() {
                    place.end = at + 1;
                }
            }
            "B" | "I" => {
                spans.push((field.to_owned(), at..at + 1));
                open = true;
            }
            _ => open = false,
        }
    }
    spans
}

/// A place given in characters.
fn place(text: &str, span: &Value) -> Result<(String, Range<usize>), String> {
    let number = |name: &str| span.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let (Some(start), Some(end)) = (number("start"), number("end")) else {
        return Err("a span has no `start` and `end`".to_owned());
    };
    let field = NAMES.iter().find_map(|name| span.get(*name)?.as_str()).ok_or("a span has no `label`")?;
    let byte = |at: usize| text.char_indices().map(|(i, _)| i).chain([text.len()]).nth(at);
    match (byte(start), byte(end)) {
        (Some(from), Some(to)) if from < to => Ok((field.to_owned(), from..to)),
        _ => Err(format!("the span {start} … {end} is not in the text")),
    }
}

/// Where an object's values stand in the text, and how many stand nowhere. Each place counts once; upper and lower case
/// are told apart only where that finds something.
fn found(text: &str, object: &Map<String, Value>) -> Result<(Spans, usize), String> {
    let (mut spans, mut missing): (Spans, usize) = (Vec::new(), 0);
    let lowered = text.to_ascii_lowercase();
    for (field, values) in object {
        let values: Vec<&Value> = match values {
            Value::Array(values) => values.iter().collect(),
            value => vec![value],
        };
        for value in values {
            let value = match value {
                Value::String(value) => value.trim().to_owned(),
                Value::Number(number) => number.to_string(),
                Value::Null => continue,
                _ => return Err(format!("the field `{field}` is neither a text nor a list of texts")),
            };
            if value.is_empty() {
                continue;
            }
            let free = |place: &Range<usize>| {
                spans.iter().all(|(_, taken)| place.end <= taken.start || taken.end <= place.start)
            };
            let first = |text: &str, value: &str| {
                let places = text.match_indices(value).map(|(at, _)| at..at + value.len());
                places.filter(|place| whole(text, place)).find(&free)
            };
            match first(text, &value).or_else(|| first(&lowered, &value.to_ascii_lowercase())) {
                Some(place) => spans.push((field.clone(), place)),
                None => missing += 1,
            }
        }
    }
    Ok((spans, missing))
}

/// Whether a place does not begin or end amid a word.
fn whole(text: &str, place: &Range<usize>) -> bool {
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (before, after) = (text[..place.start].chars().next_back(), text[place.end..].chars().next());
    let inside = &text[place.clone()];
    let cut_before = word(before) && word(inside.chars().next());
    let cut_after = word(after) && word(inside.chars().next_back());
    !cut_before && !cut_after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fields, read_bytes};

    fn marked(line: &str) -> Result<Marked> {
        let data = read_bytes("a.jsonl", line.to_owned().into(), &Fields::default())?;
        Marked::of(&data.rows[0])
    }

    fn texts(marked: &Marked) -> Vec<(&str, &str)> {
        marked.spans.iter().map(|(field, place)| (field.as_str(), &marked.text[place.clone()])).collect()
    }

    #[test]
    fn tags_places_and_objects_mark_the_same_spans() {
        let want = [("city", "São Paulo"), ("date", "2 May")];
        let lines = [
            r#"{"tokens":["to","São","Paulo","on","2","May"],"tags":["O","B-city","I-city","O","B-date","I-date"]}"#,
            r#"{"text":"to São Paulo on 2 May","spans":[{"start":16,"end":21,"label":"date"},{"start":3,"end":12,"label":"city"}]}"#,
            r#"{"text":"to São Paulo on 2 May","json":{"date":["2 may"],"city":"São Paulo","none":null}}"#,
        ];
        for line in lines {
            let marked = marked(line).unwrap();
            assert_eq!(marked.text, "to São Paulo on 2 May");
            assert_eq!((texts(&marked), marked.missing), (want.to_vec(), 0));
        }
    }

    #[test]
    fn rows_of_tagged_tokens_have_a_text_and_the_object_as_reference() {
        let line = r#"{"tokens":["to","Rome"],"tags":["O","B-city"],"intent":"fly"}"#;
        let data = read_bytes("a.jsonl", line.to_owned().into(), &Fields::default()).unwrap();
        let row = &data.rows[0];
        assert_eq!((row.text.as_str(), row.references[0].as_str()), ("to Rome", r#"{"city":["Rome"]}"#));
        assert_eq!(row.label.as_deref(), Some("fly"));
    }

    #[test]
    fn values_are_found_as_whole_words_each_in_a_place_of_its_own() {
        let found = marked(r#"{"text":"15 at 5 and 5","json":{"a":["5","5","5"],"b":"at"}}"#).unwrap();
        assert_eq!(texts(&found), [("b", "at"), ("a", "5"), ("a", "5")]);
        assert_eq!((found.missing, found.spans[1].1.start), (1, 6));
    }

    #[test]
    fn broken_marks_are_told_with_their_line() {
        for (line, says) in [
            (r#"{"text":"a b","spans":[{"start":0,"end":9,"label":"x"}]}"#, "0 … 9 is not in the text"),
            (r#"{"text":"a b","spans":[{"start":0,"label":"x"}]}"#, "no `start` and `end`"),
            (r#"{"text":"a b","json":{"x":{"y":1}}}"#, "`x` is neither"),
            (r#"{"text":"a b","label":"x"}"#, "give `tokens` with `tags`"),
        ] {
            let error = marked(line).unwrap_err().to_string();
            assert!(error.contains("line 1") && error.contains(says), "{error}");
        }
    }
}
