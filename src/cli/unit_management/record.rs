//! What is listed, one thing at a time: as JSON, of which everything else is made, and as a row for people.
//!
//! Not here: many of them (see `sheet`).

use std::{fmt::Write as _, process::ExitCode};

use comfy_table::Cell;
use serde_json::{Map, Value};

use crate::{
    cli::{CommandResult, output},
    domain::Instant,
    escape::{self, escape_control},
};

/// A column of a table, by its header.
#[derive(Clone, Copy)]
pub(in crate::cli) enum Column {
    /// As wide as its longest line: whoever copies an ID or a date wants it whole.
    Whole(&'static str),
    /// Broken between words where room is short.
    Text(&'static str),
}

/// Something that is listed.
pub(in crate::cli) trait Record: Default {
    /// What several are called; the key of the list in JSON.
    const PLURAL: &'static str;
    /// The columns of the table for people.
    const COLUMNS: &'static [Column];

    /// The row of the table for people.
    fn row(&self, now: Instant) -> Vec<Cell>;

    /// Everything, for programs; the keys are the columns of CSV, the same for every record.
    fn json(&self) -> Map<String, Value>;
}

/// The object in a `json!`.
pub(in crate::cli) fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(object) = value { object } else { Map::new() }
}

/// A text in a column that is kept whole; all of it is in CSV and JSON.
pub(in crate::cli) fn shortened(text: &str, width: usize) -> String {
    escape::shorten(&escape_control(text), width)
}

/// One thing by itself: a line of JSON, or a line for each key that has a value.
pub(in crate::cli) fn show(object: Map<String, Value>, json: bool) -> CommandResult {
    output::print(&if json { output::json_line(&Value::Object(object)) } else { details(&object) })?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each key that has a value.
pub(in crate::cli) fn details(object: &Map<String, Value>) -> String {
    let width = object.keys().map(String::len).max().unwrap_or_default();
    let mut text = String::new();
    for (key, value) in object {
        let value = plain(value);
        if !["", "[]", "{}"].contains(&value.as_str()) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:<width$}  {}", key.replace('_', " "), escape_control(&value));
        }
    }
    text
}

/// A value as text: what is text already without its quotes, an absent one as nothing.
pub(in crate::cli) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_leaves_room_for_the_other_columns() {
        assert_eq!(shortened("MAIL-01", 36), "MAIL-01");
        assert_eq!(shortened(&"ä".repeat(36), 36), "ä".repeat(36));
        assert_eq!(shortened(&"ä".repeat(255), 36), "ä".repeat(35) + "…");
        assert_eq!(shortened("\u{1b}[31m", 36), "\\u{1b}[31m");
    }
}
