//! How things look on a terminal: tables, colours where somebody looks, errors in one shape.
//!
//! Whatever is printed goes through here, and leaves as plain characters, lines and colors: what another program said
//! moves no cursor and names no window. What it said in one field is escaped there as well (`escape_control`), so that
//! it adds no line. Not here: what is shown.

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, TableStyle, presets};

use serde_json::Value;

use crate::{
    domain::{Access, SubscriptionState},
    escape::{escape_json, escape_layout},
};

/// Prints text; a reader that has gone, such as `head`, ends it quietly.
pub(super) fn print(text: &str) -> io::Result<()> {
    is_read(text).map(|_| ())
}

/// Prints text, and tells whether somebody still reads.
pub(super) fn is_read(text: &str) -> io::Result<bool> {
    match anstream::stdout().lock().write_all(escape_layout(text).as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

/// Tells something beside the result, for people; what reads standard output never sees it.
pub(super) fn note(what: &str) {
    // Where standard error is closed nobody is told.
    let _ = writeln!(anstream::stderr(), "{}", escape_layout(what));
}

/// A line of JSON: what is not plain in a value is escaped as JSON does.
pub(super) fn json_line(value: &Value) -> String {
    format!("{}\n", escape_json(&value.to_string()))
}

/// Tells what went wrong.
pub(super) fn error(what: &str) {
    let red = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
    // Further lines, such as a parser's, stand under the first. Where standard error is closed nobody is told.
    let what = escape_layout(what.trim_end()).replace('\n', "\n       ");
    let _ = writeln!(anstream::stderr(), "{red}error:{red:#} {what}");
}

/// What one operation is answered, in words.
pub(super) struct OperationLine {
    pub(super) operation: String,
    pub(super) user: Option<Access>,
    pub(super) administrator: Option<Access>,
    pub(super) reason: String,
    pub(super) until: String,
}

/// The answer of each operation; an end they all share is told once, beneath.
pub(super) fn operations(lines: &[OperationLine]) -> String {
    let shared = lines.first().map(|first| first.until.as_str());
    let shared = shared.filter(|until| lines.iter().all(|line| line.until == *until));
    let until_header = shared.is_none().then_some("until");
    let header = ["operation", "user", "admin", "reason"].into_iter().chain(until_header);
    let mut table = table(&header.collect::<Vec<_>>());
    for line in lines {
        let mut cells = vec![
            Cell::new(&line.operation),
            access_cell(line.user),
            access_cell(line.administrator),
            Cell::new(&line.reason),
        ];
        cells.extend(until_header.map(|_| Cell::new(&line.until)));
        table.add_row(cells);
    }
    // Names are not to be broken: whoever copies one wants it whole.
    table.set_constraints([ColumnConstraint::ContentWidth]);
    let shared = shared.map(|until| format!("each {until} if no fact changes\n")).unwrap_or_default();
    format!("{table}\n{shared}")
}

/// Whether there is little room.
pub(super) fn is_narrow() -> bool {
    Table::new().width().is_some_and(|width| width < 100)
}

/// Text beneath a marker, broken between words where the terminal ends.
pub(super) fn paragraphs(paragraphs: &[(&str, &str)]) -> String {
    let mut table = fitting(presets::NOTHING);
    for (marker, text) in paragraphs {
        table.add_row([Cell::new(marker), Cell::new(text)]);
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// An empty table that fits the terminal, or 110 columns where there is none.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = fitting(presets::UTF8_BORDERS_ONLY);
    table.set_header(header.to_vec());
    table
}

fn fitting(style: TableStyle) -> Table {
    let mut table = Table::new();
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(110);
    }
    table
}

/// A tick or a cross; a question mark where there is no answer.
pub(super) fn access_cell(access: Option<Access>) -> Cell {
    match access {
        Some(Access::Allowed) => Cell::new("✔").fg(Color::Green),
        Some(Access::Disabled) => Cell::new("✘").fg(Color::Red),
        None => Cell::new("?").fg(Color::Yellow),
    }
}

/// The colour of a state.
pub(super) fn state_style(state: SubscriptionState) -> Style {
    let color = match state {
        SubscriptionState::Ok => AnsiColor::Green,
        SubscriptionState::Warning | SubscriptionState::SmsCreditsDepleted => AnsiColor::Yellow,
        SubscriptionState::ViolationFullFunctionality
        | SubscriptionState::ViolationLimitedFunctionality
        | SubscriptionState::Disabled
        | SubscriptionState::NotActivated => AnsiColor::Red,
    };
    Style::new().fg_color(Some(color.into())).bold()
}

/// The printed name of a state.
pub(super) const fn state_title(state: SubscriptionState) -> &'static str {
    match state {
        SubscriptionState::Ok => "OK",
        SubscriptionState::Warning => "Warning",
        SubscriptionState::SmsCreditsDepleted => "SMS credits depleted",
        SubscriptionState::ViolationFullFunctionality => "Violation (full functionality)",
        SubscriptionState::ViolationLimitedFunctionality => "Violation (limited functionality)",
        SubscriptionState::Disabled => "ESET Secure Authentication disabled",
        SubscriptionState::NotActivated => "Not activated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_color_that_is_used_here_comes_through() {
        let mut table = table(&["one"]);
        table.enforce_styling();
        for color in [Color::Green, Color::Red, Color::Yellow, Color::AnsiValue(208)] {
            table.add_row([Cell::new("cell").fg(color)]);
        }
        let (red, yellow) = (AnsiColor::Red.on_default(), AnsiColor::Yellow.on_default());
        let text = format!("{table}\n{red}red{red:#} {yellow}yellow{yellow:#}\n");
        assert!(text.contains("\u{1b}[38;5;208m"), "{text}");
        assert_eq!(escape_layout(&text), text);
        for state in [SubscriptionState::Ok, SubscriptionState::Warning, SubscriptionState::Disabled] {
            let style = state_style(state);
            let text = format!("{style}state{style:#}");
            assert_eq!(escape_layout(&text), text);
        }
    }
}
