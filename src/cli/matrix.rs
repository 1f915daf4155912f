//! `matrix`: the restriction table, and what it means for given facts.

use std::{fmt::Write as _, fs, path::PathBuf, process::ExitCode};

use clap::Args;
use comfy_table::{Attribute, Cell};

use super::{CommandError, CommandResult, output};
use crate::{
    domain::{
        Access, Decision, Facts, Instant, Operation, Question, Role, Row, SmsDelivery, SubscriptionState,
        Timeline, decision::decide, matrix,
    },
    names::Named as _,
    rfc3339,
    source::facts_json,
};

/// Print the restriction table; with facts, what it means for them
#[derive(Args)]
pub(super) struct Matrix {
    /// A facts file (JSON): one subscription, or an array of them
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
    /// At which instant, such as `2027-06-30T12:00:00Z`
    #[arg(long, value_name = "INSTANT", default_value = "now", value_parser = super::instant::parse)]
    at: Instant,
}

impl Matrix {
    pub(super) fn run(self) -> CommandResult {
        let shown = match &self.facts {
            None => format!("{}\n{}", printed(None), footnotes()),
            Some(path) => {
                let at_path =
                    |what: String| CommandError::new(format!("facts file `{}`: {what}", path.display()));
                let json = fs::read(path).map_err(|error| at_path(error.to_string()))?;
                let facts = facts_json::read_all(&json).map_err(|error| at_path(error.to_string()))?;
                facts.into_iter().map(|facts| self.effective(facts)).collect::<Vec<_>>().join("\n")
            }
        };
        output::print(&shown)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The column the subscription is in, and the answer of each operation.
    fn effective(&self, facts: Facts) -> String {
        let id = facts.subscription_id;
        let timeline = Timeline::of(&facts.with_overuse_seen(self.at));
        let held = timeline.at(self.at);
        let style = output::state_style(held.state);
        let conditions: Vec<&str> = held.conditions.iter().map(|condition| condition.kind.name()).collect();
        let mut text = format!(
            "{id} at {}: {style}{}{style:#}",
            rfc3339::format_for_people(self.at),
            output::state_title(held.state)
        );
        if !conditions.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, " ({})", conditions.join(", "));
        }
        let mut table = output::table(&["operation", "user", "administrator", "reason", "until"]);
        for operation in Operation::ALL {
            let ask = |role| {
                decide(
                    &timeline,
                    Question { operation, role, sms_delivery: SmsDelivery::VendorCredits },
                    self.at,
                )
            };
            let Decision { reason, until, .. } = ask(Role::User);
            table.add_row([
                Cell::new(operation.name()),
                output::access_cell(reason.access()),
                output::access_cell(ask(Role::Administrator).access()),
                Cell::new(reason.name()),
                Cell::new(until.map_or_else(|| "for good".to_owned(), rfc3339::format_for_people)),
            ]);
        }
        format!("{text}\n\n{}\n\n{table}\n", printed(Some(held.state)))
    }
}

/// The table as it is printed, the column of `current` marked.
fn printed(current: Option<SubscriptionState>) -> String {
    let mut table = output::table(&[]);
    let is_current = |column: &matrix::Column| current.is_some_and(|state| column.1.contains(&state));
    let title = |column: &matrix::Column| {
        let title = Cell::new(format!("{}{}", column.0, superscript(column.2)));
        if is_current(column) { title.add_attribute(Attribute::Reverse) } else { title }
    };
    table.set_header([Cell::new("Restrictions")].into_iter().chain(matrix::COLUMNS.iter().map(title)));
    for row in Row::ALL {
        let mut cells = vec![Cell::new(format!("{}{}", row.title(), superscript(row.footnote())))];
        for column in &matrix::COLUMNS {
            let access = column.1.first().map_or(Access::Disabled, |state| matrix::cell(row, *state));
            let cell = output::access_cell(access);
            cells.push(if is_current(column) { cell.add_attribute(Attribute::Reverse) } else { cell });
        }
        table.add_row(cells);
    }
    table.to_string()
}

fn footnotes() -> String {
    matrix::FOOTNOTES.iter().fold("✔ allowed  ✘ disabled\n".to_owned(), |text, (number, footnote)| {
        format!("{text}{} {footnote}\n", superscript(Some(*number)))
    })
}

fn superscript(footnote: Option<u32>) -> &'static str {
    match footnote {
        Some(1) => "¹",
        Some(2) => "²",
        Some(3) => "³",
        Some(_) | None => "",
    }
}
