//! Records as a table, CSV or JSON, a page at a time.
//!
//! Not here: where pages come from (see `listing`).

use clap::ValueEnum;
use comfy_table::{ColumnConstraint, Table, Width};
use serde_json::Value;

use super::record::{self, Column, Record};
use crate::{
    cli::{CommandError, output},
    domain::Instant,
};

/// How a list looks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// For people
    Table,
    /// Comma-separated values (RFC 4180), with a header; a `'` stands before a value a spreadsheet would compute
    Csv,
    /// One JSON document, one record a line
    Json,
}

/// How what is exported looks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ExportFormat {
    /// Comma-separated values (RFC 4180), with a header; a `'` stands before a value a spreadsheet would compute
    Csv,
    /// One JSON array, one record a line
    Json,
}

/// A list while it is written.
pub(in crate::cli) struct Sheet {
    format: Format,
    /// Whether JSON is an array by itself, or in an object that tells how to go on.
    is_bare: bool,
    is_empty: bool,
}

impl Sheet {
    /// One that may end before the last page.
    pub(in crate::cli) const fn of_pages(format: Format) -> Self {
        Self { format, is_bare: false, is_empty: true }
    }

    /// One that has everything.
    pub(in crate::cli) const fn of_everything(format: ExportFormat) -> Self {
        let format = match format {
            ExportFormat::Csv => Format::Csv,
            ExportFormat::Json => Format::Json,
        };
        Self { format, is_bare: true, is_empty: true }
    }

    /// What stands before the records.
    pub(in crate::cli) fn beginning<R: Record>(&self) -> Result<String, CommandError> {
        Ok(match self.format {
            Format::Table => String::new(),
            Format::Csv => csv_line(R::default().json().keys().cloned())?,
            Format::Json if self.is_bare => "[".to_owned(),
            Format::Json => format!("{{\"{}\":[", R::PLURAL),
        })
    }

    /// Some records.
    pub(in crate::cli) fn rows<R: Record>(
        &mut self,
        records: &[R],
        now: Instant,
    ) -> Result<String, CommandError> {
        let was_empty = self.is_empty;
        self.is_empty &= records.is_empty();
        Ok(match self.format {
            Format::Table if records.is_empty() => String::new(),
            Format::Table => format!("{}\n", table_of(records, now)),
            Format::Csv => records
                .iter()
                .map(|record| csv_line(record.json().values().map(|value| csv_cell(&record::plain(value)))))
                .collect::<Result<_, _>>()?,
            Format::Json => {
                let lines = records.iter().enumerate().map(|(place, record)| {
                    let separator = if was_empty && place == 0 { "" } else { "," };
                    format!("{separator}\n{}", Value::Object(record.json()))
                });
                lines.collect()
            }
        })
    }

    /// What stands after the records, and for whom: on standard output, and on standard error.
    pub(in crate::cli) fn end<R: Record>(&self, next_page_token: &str) -> (String, Option<String>) {
        let more = Some(next_page_token).filter(|token| !token.is_empty());
        let hint = more.map(|token| {
            format!("there are more: the next page comes with --page-token {token}, every page with --all")
        });
        match self.format {
            Format::Table if self.is_empty => (format!("no {}\n", R::PLURAL), hint),
            Format::Table => (hint.map(|hint| hint + "\n").unwrap_or_default(), None),
            Format::Csv => (String::new(), hint),
            Format::Json if self.is_bare => ("\n]\n".to_owned(), None),
            Format::Json => (format!("\n],\"next_page_token\":{}}}\n", Value::from(more)), None),
        }
    }
}

/// A column of text that is at least this wide is broken between words; a terminal with less room breaks the lines of
/// the table rather than each word into letters.
const NARROWEST_TEXT: u16 = 16;

fn table_of<R: Record>(records: &[R], now: Instant) -> Table {
    let header: Vec<&str> =
        R::COLUMNS.iter().map(|(Column::Whole(name) | Column::Text(name))| *name).collect();
    let mut table = output::table(&header);
    records.iter().for_each(|record| {
        table.add_row(record.row(now));
    });
    let widths = table.column_max_content_widths();
    for ((column, place), width) in R::COLUMNS.iter().zip(table.column_iter_mut()).zip(widths) {
        place.set_constraint(match column {
            Column::Whole(_) => ColumnConstraint::ContentWidth,
            // The padding counts as well.
            Column::Text(_) => ColumnConstraint::LowerBoundary(Width::Fixed(NARROWEST_TEXT.min(width) + 2)),
        });
    }
    table
}

/// One line of CSV.
pub(in crate::cli) fn csv_line(cells: impl IntoIterator<Item = String>) -> Result<String, CommandError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells)?;
    let line = writer.into_inner().map_err(|error| CommandError::new(error.error()))?;
    Ok(String::from_utf8(line)?)
}

/// A cell no spreadsheet takes for a formula, and no terminal for a command: whoever activates a unit names the
/// device, and whoever opens the export may do more.
pub(in crate::cli) fn csv_cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    let tame = |character: char| match character {
        '\n' | '\r' | '\t' => character,
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    };
    guard.chars().chain(text.chars().map(tame)).collect()
}

#[cfg(test)]
mod tests {
    use comfy_table::Cell;
    use serde_json::{Map, json};

    use super::*;

    #[derive(Default)]
    struct Pair(String, Option<u64>);

    impl Record for Pair {
        const PLURAL: &'static str = "pairs";
        const COLUMNS: &'static [Column] = &[Column::Whole("name"), Column::Text("count")];

        fn row(&self, _now: Instant) -> Vec<Cell> {
            vec![Cell::new(&self.0), Cell::new(format!("{} in all", self.1.unwrap_or_default()))]
        }

        fn json(&self) -> Map<String, Value> {
            record::object(json!({"name": self.0, "count": self.1}))
        }
    }

    fn written(mut sheet: Sheet, pages: &[&[Pair]], next: &str) -> String {
        let now = Instant::from_unix_seconds(0);
        let mut text = sheet.beginning::<Pair>().unwrap();
        for page in pages {
            text += &sheet.rows(page, now).unwrap();
        }
        text + &sheet.end::<Pair>(next).0
    }

    fn pair(name: &str, count: Option<u64>) -> Pair {
        Pair(name.to_owned(), count)
    }

    #[test]
    fn json_is_one_document_however_many_pages_it_came_in() {
        let pages: [&[Pair]; 3] = [&[pair("a", None)], &[], &[pair("b", Some(2)), pair("c", Some(3))]];
        let text = written(Sheet::of_everything(ExportFormat::Json), &pages, "");
        assert_eq!(
            text,
            "[\n{\"name\":\"a\",\"count\":null},\n{\"name\":\"b\",\"count\":2},\n{\"name\":\"c\",\"count\":3}\n]\n"
        );
        let text = written(Sheet::of_pages(Format::Json), &pages, "t");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&read["pairs"][2]["count"], &read["next_page_token"]), (&json!(3), &json!("t")));
        let none: [&[Pair]; 1] = [&[]];
        assert_eq!(written(Sheet::of_everything(ExportFormat::Json), &none, ""), "[\n]\n");
    }

    #[test]
    fn csv_has_its_header_once_and_even_when_there_is_nothing() {
        let none: [&[Pair]; 1] = [&[]];
        assert_eq!(written(Sheet::of_everything(ExportFormat::Csv), &none, ""), "name,count\n");
        let pages: [&[Pair]; 2] = [&[pair("a, \"b\"", None)], &[pair("c\nd", Some(3))]];
        let text = written(Sheet::of_everything(ExportFormat::Csv), &pages, "");
        assert_eq!(text, "name,count\n\"a, \"\"b\"\"\",\n\"c\nd\",3\n");
    }

    #[test]
    fn where_room_is_short_ids_stay_whole_and_texts_readable() {
        let id = "x".repeat(36);
        let mut table = table_of(&[pair(&id, Some(7))], Instant::from_unix_seconds(0));
        table.set_width(40);
        let text = table.to_string();
        assert!(text.contains(&id) && text.contains("7 in all"), "{text}");
    }

    #[test]
    fn a_cell_is_never_a_formula_or_a_terminal_s_command() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("MAIL-01", "MAIL-01"),
            ("a=b", "a=b"),
            ("", ""),
            ("\u{1b}]0;owned\u{7}", "\u{fffd}]0;owned\u{fffd}"),
        ] {
            assert_eq!(csv_cell(text), cell, "{text:?}");
        }
    }
}
