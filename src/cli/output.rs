//! How things look on a terminal: tables, colours where somebody looks, errors in one shape.
//!
//! Not here: what is shown.

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

use crate::domain::{Access, SubscriptionState};

/// What a command prints to.
pub(super) fn stdout() -> impl io::Write {
    anstream::stdout().lock()
}

/// Prints text; a reader that has gone, such as `head`, ends it quietly.
pub(super) fn print(text: &str) -> io::Result<()> {
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Tells what went wrong.
pub(super) fn error(what: &str) {
    let red = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
    // Further lines, such as a parser's, stand under the first. Where standard error is closed nobody is told.
    let _ = writeln!(anstream::stderr(), "{red}error:{red:#} {}", what.trim_end().replace('\n', "\n       "));
}

/// An empty table that fits the terminal, or 110 columns where there is none.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    if table.width().is_none() {
        table.set_width(110);
    }
    table
}

/// A tick or a cross.
pub(super) fn access_cell(access: Access) -> Cell {
    match access {
        Access::Allowed => Cell::new("✔").fg(Color::Green),
        Access::Disabled => Cell::new("✘").fg(Color::Red),
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
