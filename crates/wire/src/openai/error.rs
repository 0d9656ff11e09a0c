//! OpenAI's error object: ours rendered in it, and an upstream's read from it.

use bytes::Bytes;
use serde_json::{Value, json};
use understudy_core::{Error, ErrorKind};

/// `{"error": {"message", "type", "param", "code"}}`. An upstream's own body passes unchanged.
#[must_use]
pub fn render(error: &Error) -> Bytes {
    if let Some(wire) = error.wire() {
        return wire.clone();
    }
    let message = match error.message() {
        message if message.starts_with("failed to ") => message.to_owned(),
        message => format!("failed to {message}"),
    };
    let code = match error.kind() {
        ErrorKind::Invalid => None,
        ErrorKind::Denied => Some("invalid_api_key"),
        ErrorKind::NotFound if error.param() == Some("model") => Some("model_not_found"),
        ErrorKind::Overloaded => Some("rate_limit_exceeded"),
        kind => Some(kind.label()),
    };
    let kind = type_name(error.kind());
    let body = json!({ "error": { "message": message, "type": kind, "param": error.param(), "code": code } });
    Bytes::from(body.to_string())
}

/// OpenAI's name for a kind of error.
fn type_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "invalid_request_error",
        ErrorKind::Denied => "authentication_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::Overloaded => "rate_limit_error",
        ErrorKind::Deadline => "timeout_error",
        ErrorKind::Cancelled => "request_cancelled",
        ErrorKind::Unavailable | ErrorKind::Refused => "service_unavailable_error",
        ErrorKind::Data | ErrorKind::Internal => "server_error",
    }
}

/// Reads an upstream's error answer: HTTP status, body, and `Retry-After` in seconds.
///
/// What the client can act on (bad request, unknown model, rate limit, outage) keeps the upstream's status and, when it is
/// an error object, its body. A refused key is our configuration's fault, not the client's: that is `Refused`, which the
/// client sees as status 503, and never the upstream's text, which may quote the key.
#[must_use]
pub fn parse(status: u16, body: &Bytes, retry_after_s: Option<u64>) -> Error {
    let object = serde_json::from_slice::<Value>(body).ok().filter(|value| value.get("error").is_some());
    let wire = object.is_some().then(|| body.clone());
    let said = object.as_ref().and_then(|value| said(&value["error"])).unwrap_or_else(|| excerpt(body));
    let kind = match status {
        401..=403 => {
            let message = format!(
                "use the upstream: it refused our credentials (HTTP {status}); check this upstream's api_key and its permissions"
            );
            return Error::new(ErrorKind::Refused, message);
        }
        404 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::Deadline,
        429 => ErrorKind::Overloaded,
        300..=399 => {
            let message = format!(
                "use the upstream: it redirects (HTTP {status}), and redirects are off; set base_url to the final address"
            );
            return Error::unavailable(message);
        }
        400..=499 => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    let mut error = Error::new(kind, format!("get an answer from the upstream: HTTP {status}: {said}"));
    if let Some(param) = object.as_ref().and_then(|value| value["error"]["param"].as_str()) {
        error = error.with_param(param);
    }
    if let Some(seconds) = retry_after_s {
        error = error.with_retry_after(seconds);
    }
    // A status outside the error range (a 200 that is none) must not reach a client as success.
    if (400..600).contains(&status) { error.with_upstream(status, wire) } else { error }
}

/// Reads an error object that came inside a stream or under status 200. `None` when `value` holds none.
pub(crate) fn in_band(value: &Value, body: &Bytes) -> Option<Error> {
    let object = value.get("error").filter(|error| !error.is_null())?;
    let code = &object["code"];
    let status = code.as_u64().or_else(|| object["status"].as_u64()).and_then(|code| u16::try_from(code).ok());
    let name = format!("{} {}", object["type"].as_str().unwrap_or(""), code.as_str().unwrap_or(""));
    let status = status.filter(|status| (400..600).contains(status)).unwrap_or_else(|| {
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        match () {
            () if has(&["rate_limit", "overloaded", "quota"]) => 429,
            () if has(&["authentication", "permission", "api_key"]) => 401,
            () if has(&["not_found"]) => 404,
            () if has(&["invalid_request", "context_length"]) => 400,
            () if has(&["timeout"]) => 504,
            () => 503,
        }
    });
    Some(parse(status, body, None))
}

/// The message inside an error object, in the shapes that upstreams use.
fn said(error: &Value) -> Option<String> {
    let text = error.as_str().or_else(|| error["message"].as_str())?;
    Some(excerpt(text.as_bytes()))
}

/// The first characters of a body on one line, for messages.
fn excerpt(body: &[u8]) -> String {
    const LIMIT: usize = 300;
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * LIMIT)]);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.is_empty() => "no message".to_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_openais_shape() {
        for kind in ErrorKind::ALL {
            let body = render(&Error::new(kind, "read `n`: too large").with_param("n"));
            let value: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(value["error"]["message"], "failed to read `n`: too large");
            assert_eq!(value["error"]["param"], "n");
            assert!(value["error"]["type"].is_string() && value["error"].get("code").is_some(), "{value}");
        }
    }

    #[test]
    fn an_upstreams_error_keeps_status_and_body_unless_it_is_about_our_key() {
        let body = Bytes::from_static(br#"{"error":{"message":"bad `n`","type":"invalid_request_error","param":"n"}}"#);
        for (status, kind) in [
            (400, ErrorKind::Invalid),
            (404, ErrorKind::NotFound),
            (413, ErrorKind::Invalid),
            (422, ErrorKind::Invalid),
            (408, ErrorKind::Deadline),
            (504, ErrorKind::Deadline),
            (429, ErrorKind::Overloaded),
            (500, ErrorKind::Unavailable),
            (529, ErrorKind::Unavailable),
        ] {
            let error = parse(status, &body, Some(7));
            assert_eq!((error.kind(), error.http_status(), error.retry_after_s()), (kind, status, Some(7)));
            assert_eq!(render(&error), body);
        }
        let leaky = Bytes::from_static(br#"{"error":{"message":"Incorrect API key provided: sk-123"}}"#);
        for status in [401, 402, 403] {
            let error = parse(status, &leaky, None);
            assert_eq!((error.kind(), error.http_status()), (ErrorKind::Refused, 503));
            assert!(!format!("{error:?}{}", String::from_utf8_lossy(&render(&error))).contains("sk-123"));
        }
    }

    #[test]
    fn an_html_page_is_quoted_and_not_passed_on_as_an_error_object() {
        let error = parse(502, &Bytes::from_static(b"<html>\n  bad gateway</html>"), None);
        assert!(error.message().contains("<html> bad gateway</html>"), "{error}");
        assert!(serde_json::from_slice::<Value>(&render(&error)).is_ok());
        assert_eq!(parse(302, &Bytes::new(), None).http_status(), 503);
    }

    #[test]
    fn an_error_inside_a_stream_gets_the_kind_that_its_type_says() {
        for (json, kind) in [
            (r#"{"error":{"message":"m","type":"rate_limit_error"}}"#, ErrorKind::Overloaded),
            (r#"{"error":{"message":"m","code":400}}"#, ErrorKind::Invalid),
            (r#"{"error":"boom"}"#, ErrorKind::Unavailable),
            (r#"{"error":{"message":"m","type":"authentication_error"}}"#, ErrorKind::Refused),
        ] {
            let value = serde_json::from_str(json).expect("JSON");
            let error = in_band(&value, &Bytes::from_static(json.as_bytes())).expect("an error");
            assert_eq!(error.kind(), kind, "{json}");
        }
    }
}
