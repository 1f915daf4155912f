//! `matrix`: the restriction table, and what it means for given facts.

use std::{fmt::Write as _, fs, path::PathBuf, process::ExitCode};

use clap::Args;
use comfy_table::{Cell, ColumnConstraint, Width};

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
    #[arg(long, value_name = "INSTANT", requires = "facts", default_value = "now", value_parser = super::instant::parse)]
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
        let line = |operation: Operation| {
            let ask = |role| {
                let question = Question { operation, role, sms_delivery: SmsDelivery::VendorCredits };
                decide(&timeline, question, self.at)
            };
            let Decision { reason, until, .. } = ask(Role::User);
            let until = until.map(|until| format!("until {}", rfc3339::format_for_people(until)));
            output::OperationLine {
                operation: operation.name().to_owned(),
                user: Some(reason.access()),
                administrator: Some(ask(Role::Administrator).access()),
                reason: reason.name().to_owned(),
                until: until.unwrap_or_else(|| "for good".to_owned()),
            }
        };
        let operations = output::operations(&Operation::ALL.map(line));
        format!("{text}\n\n{operations}\n{}\n", printed(Some(held.state)))
    }
}

/// The table as it is printed, the column of `current` marked.
fn printed(current: Option<SubscriptionState>) -> String {
    let mut table = output::table(&[]);
    let is_current = |column: &matrix::Column| current.is_some_and(|state| column.1.contains(&state));
    let title = |column: &matrix::Column| {
        let mark = if is_current(column) { "▶ " } else { "" };
        Cell::new(format!("{mark}{}{}", short(column), superscript(column.2)))
    };
    table.set_header([Cell::new("Restrictions")].into_iter().chain(matrix::COLUMNS.iter().map(title)));
    for row in Row::ALL {
        let mut cells = vec![Cell::new(format!("{}{}", row.title(), superscript(row.footnote())))];
        for column in &matrix::COLUMNS {
            let access = column.1.first().map_or(Access::Disabled, |state| matrix::cell(row, *state));
            cells.push(output::access_cell(Some(access)));
        }
        table.add_row(cells);
    }
    if output::is_narrow() {
        // Room for the longest word.
        table.set_constraints([ColumnConstraint::LowerBoundary(Width::Fixed(17))]);
    }
    table.to_string()
}

/// The printed title, or a shorter one where there is little room.
fn short(column: &matrix::Column) -> &'static str {
    match column.1.first() {
        Some(SubscriptionState::SmsCreditsDepleted) if output::is_narrow() => "No SMS credits",
        Some(SubscriptionState::ViolationFullFunctionality) if output::is_narrow() => "Violation, full",
        Some(SubscriptionState::ViolationLimitedFunctionality) if output::is_narrow() => "Violation, limited",
        Some(SubscriptionState::NotActivated) if output::is_narrow() => "Not active, disabled",
        _ => column.0,
    }
}

fn footnotes() -> String {
    let footnotes = matrix::FOOTNOTES.map(|(number, text)| (superscript(Some(number)), text));
    format!("✔ allowed  ✘ disabled\n{}", output::paragraphs(&footnotes))
}

fn superscript(footnote: Option<u32>) -> &'static str {
    match footnote {
        Some(1) => "¹",
        Some(2) => "²",
        Some(3) => "³",
        Some(_) | None => "",
    }
}
