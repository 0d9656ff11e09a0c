//! The list of models (`GET /v1/models`).

use bytes::Bytes;
use serde_json::{Value, json};

/// One model in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name by which clients ask for it.
    pub id: String,
    /// Unix time in seconds; 0 when unknown.
    pub created_s: i64,
    /// Who runs it: `understudy`, `upstream`.
    pub owned_by: String,
}

/// The list as OpenAI renders it.
#[must_use]
pub fn render(models: &[Entry]) -> Bytes {
    let data: Vec<Value> = models.iter().map(value).collect();
    Bytes::from(json!({ "object": "list", "data": data }).to_string())
}

/// One model (`GET /v1/models/{id}`).
#[must_use]
pub fn render_one(model: &Entry) -> Bytes {
    Bytes::from(value(model).to_string())
}

fn value(model: &Entry) -> Value {
    json!({ "id": model.id, "object": "model", "created": model.created_s, "owned_by": model.owned_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_openais_shape() {
        let entry = Entry { id: "auto".into(), created_s: 5, owned_by: "understudy".into() };
        let one = r#"{"id":"auto","object":"model","created":5,"owned_by":"understudy"}"#;
        assert_eq!(render_one(&entry), one);
        assert_eq!(render(&[entry]), format!(r#"{{"object":"list","data":[{one}]}}"#));
    }
}
