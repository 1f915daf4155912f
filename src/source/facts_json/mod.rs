//! Facts as JSON, as people and the disk write them: read strictly, refused with the key's path.
//!
//! Not the protocol's facts (see `enforcement::convert`).

mod fields;

use std::{collections::HashSet, fmt};

use serde::de::DeserializeOwned;

use crate::{
    byte_order_mark,
    domain::Facts,
    escape::{escape_control, shorten},
};

pub use fields::{FactsJson, IdJson, InstantJson, Object};

/// What is wrong with a JSON text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", Place(.path))]
pub struct JsonError {
    /// Path of the key, such as `users.active` or `[3].expires_at`; empty for the whole text.
    pub path: String,
    /// What is wrong there.
    pub what: String,
}

impl JsonError {
    /// A fault; what is repeated of the text is kept short and on one line, for it goes into logs.
    fn new(path: &str, what: &str) -> Self {
        let short = |text: &str, most| shorten(&escape_control(text), most);
        Self { path: short(path, 100), what: short(what, 500) }
    }

    /// Where it is, without what is there: for files of secrets.
    #[must_use]
    pub fn place(&self) -> String {
        match self.path.as_str() {
            "" => "it is no JSON of that kind".to_owned(),
            path => format!("`{path}` is not what belongs there"),
        }
    }
}

/// Reads any JSON text; what is wrong with it comes with the key's path.
pub fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, JsonError> {
    let json = byte_order_mark::skip(json).map_err(|error| JsonError::new("", &error.to_string()))?;
    // The path is only kept track of when something is wrong: it costs more than the reading.
    serde_json::from_slice(json).or_else(|_| {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path =
                Some(error.path().to_string()).filter(|path| path != "." && path != "?").unwrap_or_default();
            JsonError::new(&path, &error.inner().to_string())
        })?;
        reader.end().map_err(|error| JsonError::new("", &error.to_string()))?;
        Ok(read)
    })
}

/// Reads a facts file: one subscription, or an array of them, each once.
pub fn read_all(json: &[u8]) -> Result<Vec<Facts>, JsonError> {
    let json = byte_order_mark::skip(json).map_err(|error| JsonError::new("", &error.to_string()))?;
    let facts: Vec<FactsJson> = match json.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => read(json)?,
        Some(_) => vec![read(json)?],
        None => return Err(JsonError::new("", "the text is empty")),
    };
    if facts.is_empty() {
        return Err(JsonError::new("", "no subscription in the array"));
    }
    let mut seen = HashSet::with_capacity(facts.len());
    for (position, facts) in facts.iter().enumerate() {
        if !seen.insert(facts.0.subscription_id.0) {
            let what = format!("`{}` is told twice", facts.0.subscription_id.0);
            return Err(JsonError::new(&format!("[{position}].subscription_id"), &what));
        }
    }
    Ok(facts.into_iter().map(Facts::from).collect())
}

struct Place<'a>(&'a str);

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, "`{}`: ", self.0) }
    }
}

#[cfg(test)]
mod tests;
