//! The rows of an import file: which line each is on, and the text under each column.
//!
//! Not here: what the texts mean (see the module above).

use std::collections::BTreeMap;

use serde_json::{Deserializer, Value};

use super::Fault;

/// One license as it stands in the file; what is empty is not there.
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) cells: BTreeMap<String, String>,
}

/// What the column of a further attribute begins with.
pub(super) const ATTRIBUTE: &str = "attribute.";
pub(super) const COLUMNS: [&str; 11] = [
    "license_id",
    "customer",
    "product",
    "name",
    "type",
    "seat_kind",
    "seats",
    "expires_at",
    "all_users_limit",
    "components_limit",
    "sms_credits",
];

/// The lines beneath the header of a CSV. Rows without anything in them do not count: spreadsheets leave them behind.
pub(super) fn of_csv(text: &str, faults: &mut Vec<Fault>) -> Vec<Row> {
    let (text, told) = delimiter_told(text);
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .has_headers(false)
        .delimiter(told.unwrap_or_else(|| delimiter(text)))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    // The line that told it is one, too.
    let line = |position: Option<&csv::Position>| {
        position.map_or(1, csv::Position::line) + u64::from(told.is_some())
    };
    let mut records = Vec::new();
    for record in reader.records() {
        match record {
            Ok(record) if record.iter().all(str::is_empty) => {}
            Ok(record) => records.push((line(record.position()), record)),
            Err(error) => {
                faults.push(Fault { line: line(error.position()), column: None, what: error.to_string() });
            }
        }
    }
    let mut records = records.into_iter();
    let Some((line, header)) = records.next() else { return Vec::new() };
    let header: Vec<String> = header.iter().map(str::to_owned).collect();
    let known = faults.len();
    check_header(&header, line, faults);
    if known < faults.len() {
        // Under a header that cannot be read every line would be wrong in the same way.
        return Vec::new();
    }
    let mut rows = Vec::new();
    for (line, record) in records {
        if record.len() != header.len() {
            let what = format!("{} cells under {} columns", record.len(), header.len());
            faults.push(Fault { line, column: None, what });
            continue;
        }
        let cells = header.iter().cloned().zip(record.iter().map(str::to_owned));
        rows.push(Row { line, cells: cells.filter(|(_, cell)| !cell.is_empty()).collect() });
    }
    rows
}

fn check_header(header: &[String], line: u64, faults: &mut Vec<Fault>) {
    for (place, name) in header.iter().enumerate() {
        check_column(name, line, faults);
        if header.iter().take(place).any(|before| before == name) {
            let what = "it is there twice".to_owned();
            faults.push(Fault { line, column: Some(name.clone()), what });
        }
    }
    for needed in ["seats", "expires_at"] {
        if !header.iter().any(|name| name == needed) {
            let what = "it is needed, and is not in the header".to_owned();
            faults.push(Fault { line, column: Some(needed.to_owned()), what });
        }
    }
}

/// What cells may be separated by: where the comma is for decimals, spreadsheets write semicolons.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// The text without a first line `sep=;`, and what that says.
fn delimiter_told(text: &str) -> (&str, Option<u8>) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let told = first.trim_end().strip_prefix("sep=").map(str::as_bytes);
    match told {
        Some([told]) if DELIMITERS.contains(told) => (rest, Some(*told)),
        _ => (text, None),
    }
}

/// What the names of columns, which have none of them, are separated by.
fn delimiter(text: &str) -> u8 {
    let header = text.lines().find(|line| line.chars().any(char::is_alphanumeric)).unwrap_or_default();
    let count = |delimiter: &u8| header.bytes().filter(|byte| byte == delimiter).count();
    DELIMITERS.into_iter().rev().max_by_key(count).unwrap_or(b',')
}

/// The objects in a JSON array.
pub(super) fn of_json(text: &str, faults: &mut Vec<Fault>) -> Vec<Row> {
    match serde_json::from_str::<Vec<Value>>(text) {
        Ok(elements) => lines_of(text, elements.len())
            .zip(elements)
            .filter_map(|(line, element)| json_row(line, element, faults))
            .collect(),
        Err(error) => {
            let line = u64::try_from(error.line()).unwrap_or_default();
            faults.push(Fault {
                line,
                column: None,
                what: format!("{error}; an array of objects is needed"),
            });
            Vec::new()
        }
    }
}

/// The line on which each element of a JSON array, which is known to read, begins.
fn lines_of(text: &str, count: usize) -> impl Iterator<Item = u64> {
    let mut at = text.find('[').map_or(0, |at| at + 1);
    (0..count).map(move |_| {
        let rest = text.get(at..).unwrap_or_default();
        let begin = at + rest.len() - rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',').len();
        let mut elements = Deserializer::from_str(text.get(begin..).unwrap_or_default()).into_iter::<Value>();
        // Read only to learn where it ends.
        let _ = elements.next();
        at = begin + elements.byte_offset();
        let before = text.get(..begin).unwrap_or_default();
        u64::try_from(before.matches('\n').count()).unwrap_or_default() + 1
    })
}

fn json_row(line: u64, element: Value, faults: &mut Vec<Fault>) -> Option<Row> {
    let Value::Object(object) = element else {
        faults.push(Fault { line, column: None, what: format!("`{element}` is no object") });
        return None;
    };
    let mut cells = BTreeMap::new();
    for (key, value) in object {
        if let ("attributes", Value::Object(attributes)) = (key.as_str(), &value) {
            for (key, value) in attributes {
                json_cell(format!("{ATTRIBUTE}{key}"), value, line, &mut cells, faults);
            }
        } else {
            check_column(&key, line, faults);
            json_cell(key, &value, line, &mut cells, faults);
        }
    }
    Some(Row { line, cells })
}

fn json_cell(
    column: String,
    value: &Value,
    line: u64,
    cells: &mut BTreeMap<String, String>,
    faults: &mut Vec<Fault>,
) {
    let cell = match value {
        Value::Null => return,
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            let what = format!("`{value}` is neither a text nor a number");
            faults.push(Fault { line, column: Some(column), what });
            return;
        }
    };
    cells.insert(column, cell);
}

fn check_column(name: &str, line: u64, faults: &mut Vec<Fault>) {
    let is_attribute = name.strip_prefix(ATTRIBUTE).is_some_and(|key| !key.is_empty());
    if !is_attribute && !COLUMNS.contains(&name) {
        let what = format!("it is not known; known are: {}, attribute.KEY", COLUMNS.join(", "));
        faults.push(Fault { line, column: Some(name.to_owned()), what });
    }
}
