//! Our figures for the tests that compare them with other packages' (`tests/test_*_reference.py`): a developer's
//! command. Reads requests from standard input, one JSON object a line, `{"function": NAME, "arguments": {…}}`, and
//! answers each on a line with `{"value": …}` or `{"error": …}`. What JSON has no number for (NaN, ∞) is null.
//!
//! A function joins by a line in its part's table; a part joins by a line in [`PARTS`].

mod bounded;
mod generative;
mod metrics;
mod statistics;
mod training;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::io::BufRead;
pub(crate) use training::plain;
use understudy_core::{Error, Result};

/// What a part offers: names and functions from arguments to a value.
pub(crate) type Table = &'static [(&'static str, fn(Value) -> Result<Value>)];

const PARTS: &[Table] = &[metrics::TABLE, statistics::TABLE, bounded::TABLE, training::TABLE, generative::TABLE];

#[derive(Deserialize)]
struct Request {
    function: String,
    #[serde(default)]
    arguments: Value,
}

/// Answers every line of standard input.
pub(crate) fn run() -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Error::data(format!("read standard input: {e}")))?;
        let reply = match answer(&line) {
            Ok(value) => json!({ "value": value }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        println!("{reply}");
    }
    Ok(())
}

fn answer(line: &str) -> Result<Value> {
    let request: Request = arguments(line)?;
    let find = |table: &&Table| table.iter().find(|(name, _)| *name == request.function).map(|(_, function)| *function);
    let Some(function) = PARTS.iter().find_map(|table| find(&table)) else {
        let names: Vec<&str> = PARTS.iter().flat_map(|table| table.iter().map(|(name, _)| *name)).collect();
        return Err(Error::not_found(format!("find function `{}`: there are {}", request.function, names.join(", "))));
    };
    function(request.arguments)
}

fn arguments<T: DeserializeOwned>(line: &str) -> Result<T> {
    serde_json::from_str(line).map_err(|e| Error::invalid(format!("read a request: {e}")))
}

/// The arguments of a function, from their JSON.
pub(crate) fn read<T: DeserializeOwned>(arguments: Value) -> Result<T> {
    serde_json::from_value(arguments).map_err(|e| Error::invalid(format!("read the arguments: {e}")))
}
