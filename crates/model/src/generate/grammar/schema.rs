//! JSON Schemas as grammars, by llama.cpp's converter (`common/json-schema-to-grammar.cpp`), which trusts them: it
//! recurses over names character by character, over optional properties one by one, and over what `allOf` refers to for
//! ever when that leads back. So a schema is walked as the converter walks it, with limits, before it gets there.

use super::rules::MAX_BYTES;
use serde_json::Value;
use std::collections::HashSet;
use understudy_core::{Error, Result};

/// Longest name of a property, or reference, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// Longest pattern in bytes: the converter copies it for each of its quantifiers.
const MAX_PATTERN_BYTES: usize = 1_024;
/// Most subschemas, each counted as often as the converter comes to it. Most become a rule or two of the grammar.
const MAX_PARTS: usize = 4_000;
/// Most optional properties of an object: the converter takes time by the cube of their number.
const MAX_OPTIONAL: usize = 200;
/// Most references that lead to references.
const MAX_HOPS: usize = 32;

/// A GBNF grammar of the JSON documents that validate against `schema`. llama.cpp's converter covers types, enums,
/// constants, objects (properties in the schema's order), arrays, unions, references inside the schema, anchored
/// patterns, lengths and integer ranges.
///
/// # Errors
/// `Invalid` when the schema is broken, too large, or beyond what a grammar can express.
pub(super) fn grammar(schema: &Value) -> Result<String> {
    let text = schema.to_string();
    if text.len() > MAX_BYTES {
        return Err(refused(format!("it has {} bytes, the limit is {MAX_BYTES}", text.len())));
    }
    check(schema)?;
    llama_cpp_2::json_schema_to_grammar(&text).map_err(|_| {
        refused("it is not valid, or uses something that no grammar can express (references to other documents, say)")
    })
}

fn refused(why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("read the JSON schema: {why}")).with_param("response_format")
}

/// A subschema still to be looked at, with the type to read it as where it names several.
type Part<'a> = (&'a Value, Option<&'a Value>);

/// Refuses what would exhaust the converter. What is merely wrong is left to it.
fn check(schema: &Value) -> Result<()> {
    if !schema.is_object() {
        return Err(refused("give an object"));
    }
    let mut walk = Walk { schema, open: vec![(schema, None)], seen: HashSet::new() };
    let mut parts = 0;
    while let Some((part, kind)) = walk.open.pop() {
        parts += 1;
        if parts + walk.open.len() > MAX_PARTS {
            return Err(refused(format!(
                "it has more than {MAX_PARTS} parts; use fewer properties and types, and no `allOf` that leads back to \
                 itself"
            )));
        }
        walk.visit(part, kind)?;
    }
    Ok(())
}

struct Walk<'a> {
    schema: &'a Value,
    open: Vec<Part<'a>>,
    /// References that were followed: elsewhere than in `allOf` the converter makes one rule for each.
    seen: HashSet<&'a str>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, part: &'a Value, kind: Option<&'a Value>) -> Result<()> {
        if let Some(reference) = part.get("$ref").and_then(Value::as_str) {
            let target = self.target(reference)?;
            if self.seen.insert(reference) {
                self.open.push((target, None));
            }
            return Ok(());
        }
        if let Some(alternatives) = part.get("oneOf").or_else(|| part.get("anyOf")) {
            self.each(alternatives);
            return Ok(());
        }
        let kind = kind.or_else(|| part.get("type"));
        if let Some(kinds) = kind.and_then(Value::as_array) {
            self.open.extend(kinds.iter().map(|kind| (part, Some(kind))));
            return Ok(());
        }
        let kind = kind.and_then(Value::as_str);
        let has_properties = part.get("properties").is_some() || part.get("additionalProperties").is_some();
        let either = |kinds: &[&str]| kind.is_none_or(|kind| kinds.contains(&kind));
        if either(&["object"]) && (has_properties || part.get("allOf").is_none()) {
            self.object(part)?;
        } else if either(&["object", "string"])
            && let Some(all) = part.get("allOf")
        {
            self.all_of(all)?;
        }
        if either(&["array"]) {
            for key in ["items", "prefixItems"] {
                match part.get(key) {
                    Some(items) if items.is_array() => self.each(items),
                    Some(items) => self.open.push((items, None)),
                    None => {}
                }
            }
        }
        if let Some(pattern) = part.get("pattern").and_then(Value::as_str)
            && pattern.len() > MAX_PATTERN_BYTES
        {
            return Err(refused(format!("a pattern has {} bytes, the limit is {MAX_PATTERN_BYTES}", pattern.len())));
        }
        Ok(())
    }

    fn each(&mut self, parts: &'a Value) {
        self.open.extend(parts.as_array().into_iter().flatten().map(|part| (part, None)));
    }

    fn object(&mut self, part: &'a Value) -> Result<()> {
        let required: HashSet<&str> =
            part.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let optional = properties(part).filter(|(name, _)| !required.contains(name.as_str())).count();
        self.properties(part, optional)?;
        self.open.extend(part.get("additionalProperties").map(|more| (more, None)));
        Ok(())
    }

    /// The converter writes the properties of all parts into one object, those of references anew each time.
    fn all_of(&mut self, all: &'a Value) -> Result<()> {
        self.each(all);
        let mut optional = 0;
        for part in all.as_array().into_iter().flatten() {
            match part.get("oneOf").or_else(|| part.get("anyOf")).and_then(Value::as_array) {
                Some(alternatives) => {
                    for part in alternatives {
                        let part = self.followed(part)?;
                        optional += properties(part).count();
                        self.properties(part, optional)?;
                    }
                }
                None => {
                    let followed = self.followed(part)?;
                    if !std::ptr::eq(part, followed) {
                        self.properties(followed, optional)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn properties(&mut self, part: &'a Value, optional: usize) -> Result<()> {
        if optional > MAX_OPTIONAL {
            let why = format!("an object has {optional} optional properties, the limit is {MAX_OPTIONAL}");
            return Err(refused(format!("{why}; list the others in `required`")));
        }
        for (name, value) in properties(part) {
            if name.len() > MAX_NAME_BYTES {
                let why = format!("the name of a property has {} bytes, the limit is {MAX_NAME_BYTES}", name.len());
                return Err(refused(why));
            }
            self.open.push((value, None));
        }
        Ok(())
    }

    /// What a part stands for, where it is a reference.
    fn followed(&self, mut part: &'a Value) -> Result<&'a Value> {
        if let Some(reference) = part.get("$ref").and_then(Value::as_str) {
            part = self.target(reference)?;
        }
        Ok(part)
    }

    /// What a reference leads to in the end.
    fn target(&self, reference: &str) -> Result<&'a Value> {
        let mut reference = reference;
        for _ in 0..MAX_HOPS {
            if reference.len() > MAX_NAME_BYTES {
                let why = format!("a reference has {} bytes, the limit is {MAX_NAME_BYTES}", reference.len());
                return Err(refused(why));
            }
            let path = reference.strip_prefix("#/").ok_or_else(|| {
                refused(format!("reference {reference} leads out of it; put what it means into the schema"))
            })?;
            let target = path.split('/').try_fold(self.schema, |at, step| match at {
                Value::Array(items) => items.get(step.parse::<usize>().ok()?),
                _ => at.get(step),
            });
            let target = target.ok_or_else(|| refused(format!("reference {reference} leads nowhere")))?;
            match target.get("$ref").and_then(Value::as_str) {
                Some(next) => reference = next,
                None => return Ok(target),
            }
        }
        Err(refused(format!("reference {reference} leads from reference to reference; let it lead to a schema")))
    }
}

fn properties(part: &Value) -> impl Iterator<Item = (&String, &Value)> {
    part.get("properties").and_then(Value::as_object).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_that_would_exhaust_the_converter_are_refused() {
        let long = "_".repeat(200_000);
        let mut types = json!({"type": "string"});
        for _ in 0..40 {
            types = json!({"type": ["object", "object"], "properties": {"a": types}});
        }
        let tree: serde_json::Map<_, _> = (0..40)
            .map(|i| {
                let next = json!({"allOf": [{"$ref": format!("#/$defs/d{}", i + 1)}]});
                (format!("d{i}"), json!({"type": "object", "properties": {"a": next, "b": next}}))
            })
            .chain([("d40".to_owned(), json!({"type": "object"}))])
            .collect();
        let many: serde_json::Map<_, _> = (0..20_000).map(|i| (i.to_string(), json!({}))).collect();
        let optional: serde_json::Map<_, _> = (0..201).map(|i| (i.to_string(), json!({"type": "null"}))).collect();
        let chain: serde_json::Map<_, _> = (0..5_000)
            .map(|i| (format!("d{i}"), json!({"properties": {"a": {"$ref": format!("#/$defs/d{}", i + 1)}}})))
            .chain([("d5000".to_owned(), json!({}))])
            .collect();
        for bad in [
            json!({"type": "object", "properties": {long.as_str(): {"type": "null"}}}),
            json!({"$ref": format!("#/$defs/{long}"), "$defs": {long.as_str(): {"type": "null"}}}),
            json!({"type": "string", "pattern": format!("^a{}$", "*".repeat(100_000))}),
            types,
            json!({"allOf": [{"$ref": "#/$defs/d0"}], "$defs": tree}),
            json!({"type": "object", "properties": many}),
            json!({"type": "object", "properties": optional}),
            json!({"$ref": "#/$defs/d0", "$defs": chain}),
            json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a"}}}),
            json!({"allOf": [{"$ref": "#/$defs/a"}],
                   "$defs": {"a": {"properties": {"x": {"allOf": [{"$ref": "#/$defs/a"}]}}}}}),
        ] {
            let error = grammar(&bad).expect_err("too much");
            assert!(error.message().contains("JSON schema: "), "{error}");
        }
    }

    #[test]
    fn ordinary_schemas_pass() {
        let required: serde_json::Map<_, _> = (0..300).map(|i| (format!("p{i}"), json!({"type": "null"}))).collect();
        let names: Vec<_> = required.keys().cloned().collect();
        for good in [
            json!({}),
            json!({"type": "object", "properties": required, "required": names}),
            json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
                "value": {"type": ["string", "null"]}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "some": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 4}}}}}),
            json!({"type": "object", "properties": {"a": {"allOf": [{"$ref": "#/definitions/b"}]}},
                   "definitions": {"b": {"type": "object", "properties": {"c": {"type": "integer", "minimum": 3}}}}}),
            json!({"type": "string", "pattern": "^(a|b*)*[0-9]{3,6}$"}),
            json!({"type": "string", "format": "date-time"}),
            json!({"type": "string", "maxLength": 2000}),
            json!({"enum": (0..5_000).map(|i| format!("label {i}")).collect::<Vec<_>>()}),
        ] {
            let text = grammar(&good).unwrap_or_else(|error| panic!("{good}: {error}"));
            super::super::rules::check(&text).unwrap_or_else(|error| panic!("{good}: {error}\n{text}"));
        }
    }
}
