//! Reading a client's request. What is not named here stays in the body and goes upstream with it.

use super::FORMAT;
use crate::json::{self, boolean, get, integer, mismatch, number, refused, required_string, string};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use understudy_core::{
    Error, Message, ModelName, Request, Result, Role, TraceId,
    request::{Delivery, Needs, OutputFormat, Sampling, WireBody},
};

/// Most stop sequences; OpenAI takes 4, other servers more.
const MAX_STOPS: usize = 64;

/// Reads the body of a chat completion request.
///
/// # Errors
/// `Invalid`, with the field at fault as OpenAI writes it (`messages[2].content`).
pub fn parse(body: Bytes, id: TraceId, headers: BTreeMap<String, String>) -> Result<Request> {
    let map = json::object(&body)?;
    let model = required_string(&map, "model", "model")?;
    if model.is_empty() {
        return Err(refused("model", "it is empty; name a model, `auto` or `auto:<task>`"));
    }
    let mut needs = Needs {
        tools: offers_tools(&map)?,
        multimodal: wants_other_media(&map)?,
        many_choices: integer(&map, "n", 1..=128)?.is_some_and(|n| n > 1),
    };
    let messages = messages(&map, &mut needs)?;
    let mut request = Request::new(id, ModelName::new(model), messages);
    request.needs = needs;
    request.sampling = sampling(&map)?;
    request.format = format(&map)?;
    if boolean(&map, "stream")? == Some(true) {
        request.delivery = Delivery::Stream;
    }
    request.metadata = metadata(&map)?;
    request.headers = headers;
    request.wire = Some(WireBody { format: FORMAT, json: body });
    Ok(request)
}

fn messages(map: &Map<String, Value>, needs: &mut Needs) -> Result<Vec<Message>> {
    let list = match get(map, "messages") {
        None => return Err(refused("messages", "this field is required")),
        Some(Value::Array(list)) if list.is_empty() => {
            return Err(refused("messages", "the array is empty; send at least one message"));
        }
        Some(Value::Array(list)) => list,
        Some(other) => return Err(mismatch("messages", "an array of messages", other)),
    };
    list.iter().enumerate().map(|(i, value)| message(value, &format!("messages[{i}]"), needs)).collect()
}

fn message(value: &Value, at: &str, needs: &mut Needs) -> Result<Message> {
    let map = value.as_object().ok_or_else(|| mismatch(at, "a message object", value))?;
    let role_at = format!("{at}.role");
    let role = match required_string(map, "role", &role_at)? {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        other => {
            let why = format!("`{other}` is none of system, developer, user, assistant, tool, function");
            return Err(refused(&role_at, why));
        }
    };
    // A conversation in which tools were called needs a model that understands tools, even if none is offered now.
    let calls = get(map, "tool_calls").is_some() || get(map, "function_call").is_some();
    needs.tools |= calls || role == Role::Tool;
    needs.multimodal |= get(map, "audio").is_some();
    let content_at = format!("{at}.content");
    let text = match get(map, "content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => content_parts(parts, &content_at, needs)?,
        Some(other) => return Err(mismatch(&content_at, "a string or an array of content parts", other)),
        // An assistant that only called tools or refused has no content.
        None if role == Role::Assistant => string(map, "refusal", &format!("{at}.refusal"))?.unwrap_or("").to_owned(),
        None => return Err(refused(&content_at, "expected a string or an array of content parts, got null")),
    };
    Ok(Message { role, text })
}

/// Text parts joined by newlines. Every other kind of part needs a model for it.
fn content_parts(parts: &[Value], at: &str, needs: &mut Needs) -> Result<String> {
    let mut texts = Vec::with_capacity(parts.len());
    for (i, part) in parts.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let map = part.as_object().ok_or_else(|| mismatch(&at, "a content part", part))?;
        let field = match required_string(map, "type", &format!("{at}.type"))? {
            field @ ("text" | "refusal") => field,
            _ => {
                needs.multimodal = true;
                continue;
            }
        };
        texts.push(required_string(map, field, &format!("{at}.{field}"))?);
    }
    Ok(texts.join("\n"))
}

fn offers_tools(map: &Map<String, Value>) -> Result<bool> {
    for key in ["tools", "functions"] {
        match get(map, key) {
            None => {}
            Some(Value::Array(tools)) if tools.is_empty() => {}
            Some(Value::Array(_)) => return Ok(true),
            Some(other) => return Err(mismatch(key, "an array", other)),
        }
    }
    Ok(get(map, "web_search_options").is_some())
}

fn wants_other_media(map: &Map<String, Value>) -> Result<bool> {
    match get(map, "modalities") {
        None => Ok(false),
        Some(Value::Array(kinds)) => Ok(kinds.iter().any(|kind| kind != "text")),
        Some(other) => Err(mismatch("modalities", "an array", other)),
    }
}

fn sampling(map: &Map<String, Value>) -> Result<Sampling> {
    let limit = |key| -> Result<Option<u32>> {
        Ok(integer(map, key, 1..=u64::from(u32::MAX))?.and_then(|n| u32::try_from(n).ok()))
    };
    Ok(Sampling {
        temperature: number(map, "temperature", 0.0..=2.0)?,
        // Mass 0 means "only the likeliest"; the sampler's range excludes 0.
        top_p: number(map, "top_p", 0.0..=1.0)?.map(|p| p.max(f32::EPSILON)),
        max_tokens: limit("max_completion_tokens")?.or(limit("max_tokens")?),
        seed: seed(map)?,
        stop: stop(map)?,
        logprobs: logprobs(map)?,
        frequency_penalty: number(map, "frequency_penalty", -2.0..=2.0)?,
        presence_penalty: number(map, "presence_penalty", -2.0..=2.0)?,
    })
}

/// OpenAI's seeds are signed; ours are the same 64 bits.
fn seed(map: &Map<String, Value>) -> Result<Option<u64>> {
    let Some(value) = get(map, "seed") else { return Ok(None) };
    let bits = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
    bits.map(Some).ok_or_else(|| mismatch("seed", "a whole number of 64 bits", value))
}

fn stop(map: &Map<String, Value>) -> Result<Vec<String>> {
    let list = match get(map, "stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) if items.len() <= MAX_STOPS => items
            .iter()
            .enumerate()
            .map(|(i, v)| v.as_str().map(str::to_owned).ok_or_else(|| mismatch(&format!("stop[{i}]"), "a string", v)))
            .collect::<Result<_>>()?,
        Some(Value::Array(items)) => {
            return Err(refused("stop", format_args!("{} sequences are more than {MAX_STOPS}", items.len())));
        }
        Some(other) => return Err(mismatch("stop", "a string or an array of strings", other)),
    };
    // The empty text occurs everywhere and would end every answer at once.
    Ok(list.into_iter().filter(|text| !text.is_empty()).collect())
}

fn logprobs(map: &Map<String, Value>) -> Result<Option<u8>> {
    let top = integer(map, "top_logprobs", 0..=20)?.and_then(|n| u8::try_from(n).ok());
    match (boolean(map, "logprobs")?.unwrap_or(false), top) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, Some(1..)) => Err(refused("top_logprobs", "it needs `logprobs` to be true")),
        (false, _) => Ok(None),
    }
}

fn format(map: &Map<String, Value>) -> Result<OutputFormat> {
    let grammar = string(map, "grammar", "grammar")?;
    let Some(value) = get(map, "response_format") else {
        return Ok(grammar.map_or(OutputFormat::Text, |text| OutputFormat::Grammar(text.to_owned())));
    };
    let object = value.as_object().ok_or_else(|| mismatch("response_format", "an object", value))?;
    let format = match required_string(object, "type", "response_format.type")? {
        "text" => OutputFormat::Text,
        "json_object" => OutputFormat::JsonObject,
        "json_schema" => json_schema(object)?,
        other => {
            let why = format!("`{other}` is none of text, json_object, json_schema");
            return Err(refused("response_format.type", why));
        }
    };
    match (grammar, format) {
        (None, format) => Ok(format),
        (Some(text), OutputFormat::Text) => Ok(OutputFormat::Grammar(text.to_owned())),
        (Some(_), _) => Err(refused("grammar", "it cannot be combined with a JSON `response_format`")),
    }
}

fn json_schema(format: &Map<String, Value>) -> Result<OutputFormat> {
    const AT: &str = "response_format.json_schema";
    let spec = get(format, "json_schema").ok_or_else(|| refused(AT, "this field is required"))?;
    let spec = spec.as_object().ok_or_else(|| mismatch(AT, "an object", spec))?;
    match get(spec, "schema") {
        None => Ok(OutputFormat::JsonObject),
        Some(schema @ Value::Object(_)) => Ok(OutputFormat::JsonSchema(schema.clone())),
        Some(other) => Err(mismatch(&format!("{AT}.schema"), "a JSON Schema object", other)),
    }
}

fn metadata(map: &Map<String, Value>) -> Result<BTreeMap<String, String>> {
    let entries = match get(map, "metadata") {
        None => return Ok(BTreeMap::new()),
        Some(Value::Object(entries)) => entries,
        Some(other) => return Err(mismatch("metadata", "an object of strings", other)),
    };
    let entry = |(key, value): (&String, &Value)| -> Result<(String, String), Error> {
        let text = value.as_str().ok_or_else(|| mismatch(&format!("metadata.{key}"), "a string", value))?;
        Ok((key.clone(), text.to_owned()))
    };
    entries.iter().map(entry).collect()
}
