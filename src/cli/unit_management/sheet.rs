//! Records as a table, CSV or JSON, a page at a time.
//!
//! Not here: where pages come from (see `listing`).

use clap::ValueEnum;
use comfy_table::{ColumnConstraint, Table, Width};
use serde_json::Value;

use super::record::{self, Column, Record};
use crate::{
    cli::output,
    domain::Instant,
    escape::{escape_control, escape_json},
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
    pub(in crate::cli) fn beginning<R: Record>(&self) -> String {
        match self.format {
            Format::Table => String::new(),
            Format::Csv => csv_header(R::default().json().keys().map(String::as_str)),
            Format::Json if self.is_bare => "[".to_owned(),
            Format::Json => format!("{{\"{}\":[", R::PLURAL),
        }
    }

    /// Some records.
    pub(in crate::cli) fn rows<R: Record>(&mut self, records: &[R], now: Instant) -> String {
        let was_empty = self.is_empty;
        self.is_empty &= records.is_empty();
        match self.format {
            Format::Table if records.is_empty() => String::new(),
            Format::Table => format!("{}\n", table_of(records, now)),
            Format::Csv => records.iter().map(|record| csv_line(record.json().values())).collect(),
            Format::Json => {
                let lines = records.iter().enumerate().map(|(place, record)| {
                    let separator = if was_empty && place == 0 { "" } else { "," };
                    format!("{separator}\n{}", output::json_line(&Value::Object(record.json())).trim_end())
                });
                lines.collect()
            }
        }
    }

    /// What stands after the records, and for whom: on standard output, and on standard error.
    pub(in crate::cli) fn end<R: Record>(&self, next_page_token: &str) -> (String, Option<String>) {
        let more = Some(next_page_token).filter(|token| !token.is_empty());
        let hint = more.map(|token| {
            format!(
                "there are more: the next page comes with --page-token {}, every page with --all",
                escape_control(token)
            )
        });
        match self.format {
            Format::Table if self.is_empty => (format!("no {}\n", R::PLURAL), hint),
            Format::Table => (hint.map(|hint| hint + "\n").unwrap_or_default(), None),
            Format::Csv => (String::new(), hint),
            Format::Json if self.is_bare => ("\n]\n".to_owned(), None),
            Format::Json => {
                (format!("\n],\"next_page_token\":{}}}\n", escape_json(&Value::from(more).to_string())), None)
            }
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

/// The line of CSV that names the columns.
pub(in crate::cli) fn csv_header<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(",") + "\n"
}

/// One line of CSV: texts are quoted, numbers are not, and what is absent is empty.
pub(in crate::cli) fn csv_line<'a>(cells: impl IntoIterator<Item = &'a Value>) -> String {
    let cells = cells.into_iter().map(|cell| match cell {
        Value::Null | Value::Bool(_) | Value::Number(_) => record::plain(cell),
        Value::String(_) | Value::Array(_) | Value::Object(_) => {
            format!("\"{}\"", csv_text(&record::plain(cell)).replace('"', "\"\""))
        }
    });
    cells.collect::<Vec<_>>().join(",") + "\n"
}

/// Text no spreadsheet takes for a formula, and no terminal for a command: whoever activates a unit names the device,
/// and whoever opens the export may do more. Where lists are separated by `;`, as in Czech and German, a spreadsheet
/// begins another cell in the middle of the text, quoted or not.
fn csv_text(text: &str) -> String {
    let text = escape_control(text);
    let mut guarded = String::with_capacity(text.len() + 1);
    let mut begins_cell = true;
    for (at, character) in text.char_indices() {
        if begins_cell && text.get(at..).is_some_and(is_formula) {
            guarded.push('\'');
        }
        guarded.push(character);
        begins_cell = matches!(character, ';' | '|');
    }
    guarded
}

/// Whether a spreadsheet may compute a cell with this text; some pass over blanks and quotes, some read the wide forms.
fn is_formula(cell: &str) -> bool {
    let cell = cell.trim_start_matches(|character: char| character.is_whitespace() || character == '"');
    cell.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '﹦', '﹢', '﹣', '﹫', '−'])
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
        let mut text = sheet.beginning::<Pair>();
        for page in pages {
            text += &sheet.rows(page, now);
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
        assert_eq!(text, "name,count\n\"a, \"\"b\"\"\",\n\"c\\nd\",3\n");
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
    fn a_cell_is_never_a_formula_or_a_terminal_s_command_and_a_text_is_quoted() {
        for (text, cell) in [
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("  =1", "\"'  =1\""),
            ("＝1", "\"'＝1\""),
            ("PC;=1+1;x", "\"PC;'=1+1;x\""),
            ("PC; =1+1", "\"PC;' =1+1\""),
            ("PC;\"=1+1", "\"PC;'\"\"=1+1\""),
            ("PC|@x", "\"PC|'@x\""),
            ("\t=1", "\"\\t=1\""),
            ("\u{a0}=1", "\"\\u{a0}=1\""),
            ("a;b", "\"a;b\""),
            ("MAIL-01", "\"MAIL-01\""),
            ("a=b", "\"a=b\""),
            ("", "\"\""),
            ("\u{1b}]0;owned\u{7}", "\"\\u{1b}]0;owned\\u{7}\""),
        ] {
            assert_eq!(csv_line([&Value::from(text)]), format!("{cell}\n"), "{text:?}");
        }
        assert_eq!(
            csv_line(&[json!(7), Value::Null, json!(true), json!({"a": "=1"})]),
            "7,,true,\"{\"\"a\"\":\"\"=1\"\"}\"\n"
        );
    }
}
