//! Licenses to issue, read from CSV or JSON, with every fault that is in the file.
//!
//! Not here: what the backend refuses, such as an ID that is taken.

mod rows;

use std::{collections::BTreeMap, fmt};

use clap::ValueEnum;

use self::rows::{ATTRIBUTE, Row};
use crate::{
    cli::unit_management::name::Enumeration as _, enforcement::convert, escape::escape_and_shorten,
    proto::licensing as api, rfc3339,
};

/// How a file is written.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum FileFormat {
    /// Comma-separated values (RFC 4180), with a header
    Csv,
    /// An array of objects
    Json,
}

/// Something that is wrong in a file.
#[derive(Debug)]
pub(super) struct Fault {
    line: u64,
    column: Option<String>,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}", self.line)?;
        if let Some(column) = &self.column {
            write!(formatter, ", column `{}`", escape_and_shorten(column))?;
        }
        write!(formatter, ": {}", escape_and_shorten(&self.what))
    }
}

const MOST: usize = 1_000;
/// The licenses of a file, or all that is wrong with it.
pub(super) fn licenses(text: &str, format: FileFormat) -> Result<Vec<api::NewLicense>, Vec<Fault>> {
    let mut faults = Vec::new();
    let rows = match format {
        FileFormat::Csv => rows::of_csv(text, &mut faults),
        FileFormat::Json => rows::of_json(text, &mut faults),
    };
    if rows.is_empty() && faults.is_empty() {
        faults.push(Fault { line: 1, column: None, what: "there is no license in it".to_owned() });
    }
    if let Some(row) = rows.get(MOST) {
        let what =
            format!("these are {} licenses; at most 1000 are issued at once: split the file", rows.len());
        faults.push(Fault { line: row.line, column: None, what });
    }
    let mut seen = BTreeMap::new();
    let mut licenses = Vec::new();
    for row in &rows {
        let mut reader = Reader { row, faults: &mut faults };
        reader.only_once(&mut seen);
        licenses.push(reader.license());
    }
    faults.sort_by_key(|fault| fault.line);
    if faults.is_empty() { Ok(licenses) } else { Err(faults) }
}

/// Reads the cells of a row, and notes what is wrong.
struct Reader<'a> {
    row: &'a Row,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Reader<'a> {
    fn license(&mut self) -> api::NewLicense {
        let attributes = self.row.cells.iter().filter_map(|(column, cell)| {
            column.strip_prefix(ATTRIBUTE).map(|key| (key.to_owned(), cell.clone()))
        });
        api::NewLicense {
            license_id: self.text("license_id"),
            customer: self.text("customer"),
            product: self.text("product"),
            name: self.text("name"),
            r#type: self.text("type"),
            seat_kind: self.seat_kind(),
            seats: self.needed("seats").and_then(|_| self.number("seats")).unwrap_or_default(),
            expires_at: self.expires_at(),
            all_users_limit: self.number("all_users_limit").unwrap_or_default(),
            components_limit: self.number("components_limit").unwrap_or_default(),
            sms_credits: self.number("sms_credits"),
            attributes: attributes.collect(),
        }
    }

    /// Two licenses of one ID: the second can only be a mistake.
    fn only_once(&mut self, seen: &mut BTreeMap<String, u64>) {
        let Some(license_id) = self.cell("license_id") else { return };
        if let Some(line) = seen.insert(license_id.to_owned(), self.row.line) {
            self.fault("license_id", format!("`{license_id}` is on line {line} already"));
        }
    }

    fn cell(&self, column: &str) -> Option<&'a str> {
        self.row.cells.get(column).map(String::as_str).filter(|cell| !cell.is_empty())
    }

    fn needed(&mut self, column: &str) -> Option<&'a str> {
        let cell = self.cell(column);
        if cell.is_none() {
            self.fault(column, "it is needed".to_owned());
        }
        cell
    }

    fn text(&self, column: &str) -> String {
        self.cell(column).unwrap_or_default().to_owned()
    }

    fn number(&mut self, column: &str) -> Option<u64> {
        let cell = self.cell(column)?;
        let number = cell.parse().ok();
        if number.is_none() {
            self.fault(column, format!("`{cell}` is not a whole number"));
        }
        number
    }

    fn seat_kind(&mut self) -> i32 {
        let Some(cell) = self.cell("seat_kind") else { return api::SeatKind::Users.into() };
        let kind = api::SeatKind::all().find(|kind| kind.name() == cell);
        if kind.is_none() {
            self.fault("seat_kind", format!("`{cell}` is no kind of seat; known are: users, units"));
        }
        kind.unwrap_or_default().into()
    }

    fn expires_at(&mut self) -> Option<prost_types::Timestamp> {
        match rfc3339::parse(self.needed("expires_at")?) {
            Ok(instant) => convert::timestamp(instant),
            Err(error) => {
                self.fault("expires_at", error.to_string());
                None
            }
        }
    }

    fn fault(&mut self, column: &str, what: String) {
        self.faults.push(Fault { line: self.row.line, column: Some(column.to_owned()), what });
    }
}

#[cfg(test)]
mod tests;
