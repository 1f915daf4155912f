//! `units deactivate`.
//!
//! Not here: who may deactivate which unit (semantics 6.5); the licensing backend decides for each.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use comfy_table::{Cell, Color};
use serde_json::{Map, Value, json};

use super::filter::Filter;
use crate::{
    byte_order_mark,
    cli::{
        CommandError, CommandResult, client, output,
        unit_management::{
            backend::{self, Backend},
            caller::Caller,
            listing::LARGEST_PAGE,
            name,
            record::{Column, Record, object},
            sheet::{Format, Sheet},
            told,
        },
    },
    domain::Instant,
    escape::escape_control,
    proto::licensing as api,
};

/// Deactivate units: their seats are free at once, and each application learns of it at its next sync
///
/// Each unit has its own answer; the others go through when one is refused. Exit status 0: all are deactivated. 1: some
/// were refused. 2: it could not be done, and why on standard error; asking again changes nothing twice. With --format
/// json it is `{"results": [...], "next_page_token": null}`, each with unit_id, state, refusal and message.
#[derive(Args)]
pub(super) struct Deactivate {
    /// Their IDs
    #[arg(value_name = "ID", required_unless_present_any = ["from_file", "matching"])]
    unit_ids: Vec<String>,
    /// Read further IDs from this file, `-` for standard input: one a line
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Deactivate every unit the following filters leave, active ones unless --state is given
    #[arg(long, conflicts_with_all = ["unit_ids", "from_file"])]
    matching: bool,
    /// With --matching: do not ask first
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    filter: Filter,
    /// How the results look
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    caller: Caller,
}

/// What became of one unit.
#[derive(Default)]
struct Outcome(api::DeactivatedUnit);

/// The most the backend takes at a time.
const MOST_AT_ONCE: usize = 10_000;

impl Deactivate {
    pub(super) fn run(mut self) -> CommandResult {
        if !self.matching && !self.filter.is_everything() {
            return Err(CommandError::new("filters choose units only together with --matching"));
        }
        if self.matching && self.filter.states.is_empty() {
            self.filter.states = vec![api::UnitState::Active];
        }
        let runtime = client::runtime()?;
        runtime.block_on(async {
            let unit_ids = if self.matching { Vec::new() } else { self.named()? };
            let backend = self.caller.connect().await?;
            if !self.matching {
                return self.deactivate(&backend, &unit_ids).await;
            }
            let unit_ids = matching(&backend, &self.filter).await?;
            if !unit_ids.is_empty() && !self.yes {
                confirm(unit_ids.len())?;
            }
            self.deactivate(&backend, &unit_ids).await
        })
    }

    /// The units that were named, each once.
    fn named(&self) -> Result<Vec<String>, CommandError> {
        let mut unit_ids = self.unit_ids.clone();
        if let Some(path) = &self.from_file {
            unit_ids.extend(lines(path)?);
        }
        let mut seen = HashSet::new();
        unit_ids.retain(|unit_id| seen.insert(unit_id.clone()));
        if unit_ids.is_empty() {
            return Err(CommandError::new("no unit is named"));
        }
        Ok(unit_ids)
    }

    async fn deactivate(&self, backend: &Backend, unit_ids: &[String]) -> CommandResult {
        let now = backend::now();
        let mut sheet = Sheet::of_pages(self.format);
        let (mut done, mut refused) = (0, 0);
        output::print(&sheet.beginning::<Outcome>())?;
        for unit_ids in unit_ids.chunks(MOST_AT_ONCE) {
            let unit_ids = unit_ids.to_vec();
            let request = api::DeactivateUnitsRequest { request_id: backend::request_id(), unit_ids };
            let answer =
                backend.ask(request, async |request| backend.units().deactivate_units(request).await);
            let results: Vec<Outcome> = answer.await?.results.into_iter().map(Outcome).collect();
            let refused_here = results.iter().filter(|outcome| outcome.is_refused()).count();
            refused += refused_here;
            done += results.len() - refused_here;
            output::print(&sheet.rows(&results, now))?;
        }
        output::print(&sheet.end::<Outcome>("").0)?;
        if self.format == Format::Table && !unit_ids.is_empty() {
            output::print(&format!("{done} deactivated, {refused} refused\n"))?;
        }
        Ok(ExitCode::from(u8::from(0 < refused)))
    }
}

/// The IDs in a file, one a line; empty lines do not count.
fn lines(path: &Path) -> Result<Vec<String>, CommandError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    let text = read.and_then(|_| byte_order_mark::text(&bytes));
    let text = text.map_err(|error| CommandError::new(format!("`{}`: {error}", path.display())))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// The IDs of every unit a filter leaves.
async fn matching(backend: &Backend, filter: &Filter) -> Result<Vec<String>, CommandError> {
    let mut question = api::ListUnitsRequest { page_size: LARGEST_PAGE, ..filter.question(None) };
    let mut unit_ids = Vec::new();
    loop {
        let asked = question.clone();
        let answer = backend.ask(asked, async |request| backend.units().list_units(request).await).await?;
        unit_ids.extend(answer.units.into_iter().map(|unit| unit.unit_id));
        if answer.next_page_token.is_empty() || answer.next_page_token == question.page_token {
            return Ok(unit_ids);
        }
        question.page_token = answer.next_page_token;
    }
}

/// Asks whoever sits at the terminal whether so many units are meant.
fn confirm(count: usize) -> Result<(), CommandError> {
    let found = if count == 1 { "1 unit matches".to_owned() } else { format!("{count} units match") };
    if !io::stdin().is_terminal() {
        return Err(CommandError::new(format!("{found}; add --yes to deactivate what matches")));
    }
    let mut answer = String::new();
    write!(anstream::stderr(), "{found}; deactivate? [y/N] ")?;
    io::stdin().lock().read_line(&mut answer)?;
    if ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        return Ok(());
    }
    Err(CommandError::new("nothing was deactivated"))
}

impl Outcome {
    fn is_refused(&self) -> bool {
        self.0.refusal != i32::from(api::DeactivationRefusal::Unspecified)
    }
}

impl Record for Outcome {
    const PLURAL: &'static str = "results";
    const COLUMNS: &'static [Column] = &[Column::Whole("unit"), Column::Whole(""), Column::Text("result")];

    fn row(&self, _now: Instant) -> Vec<Cell> {
        let unit = Cell::new(escape_control(&self.0.unit_id));
        if self.is_refused() {
            let why = format!("refused: {}", escape_control(&self.0.message));
            return vec![unit, Cell::new("✘").fg(Color::Red), Cell::new(why)];
        }
        let state = name::of::<api::UnitState>(self.0.state).replace('_', " ");
        vec![unit, Cell::new("✔").fg(Color::Green), Cell::new(state)]
    }

    fn json(&self) -> Map<String, Value> {
        let api::DeactivatedUnit { unit_id, state, refusal, message } = &self.0;
        let refusal = self.is_refused().then(|| name::of::<api::DeactivationRefusal>(*refusal));
        let state = refusal.is_none().then(|| name::of::<api::UnitState>(*state));
        object(json!({"unit_id": unit_id, "state": state, "refusal": refusal, "message": told(message)}))
    }
}
