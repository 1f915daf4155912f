//! `audit`: who changed what, when, and what came of it (semantics 6.10).
//!
//! Not here: any way to change an entry; there is none.

mod archive;

use clap::{Args, Subcommand};
use comfy_table::{Cell, Color};
use prost_types::Timestamp;
use serde_json::{Map, Value, json};

use self::archive::Archive;
use super::{
    CommandError, CommandResult, client, instant,
    status::values,
    unit_management::{
        self,
        backend::{self, Backend},
        caller::Caller,
        listing::{self, Listing, Page, Paging},
        name,
        record::{Column, Record, object, shortened},
        told,
    },
};
use crate::{domain::Instant, escape::escape_control, proto::licensing as api};

/// Read the audit log: who changed what, when, and what came of it
#[derive(Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    List(List),
    Export(Export),
    Archive(Archive),
}

/// List entries, oldest first
///
/// With --format json it is one document, `{"entries": [...], "next_page_token": ...}`; each entry has entry_id, at,
/// actor, actor_kind (who that is: session, api_credential, unit, license_key, backend, operator or unauthenticated;
/// unspecified in entries of older versions), actor_credential (the ID of the API credential or session an account did it
/// with, as `accounts credentials list` and `accounts sessions list` tell it), action, target, outcome (done or refused) and detail. CSV has the same as columns.
#[derive(Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    caller: Caller,
}

/// Write all entries as CSV or as a JSON array, as `audit list` names them
#[derive(Args)]
struct Export {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    writing: listing::Writing,
    #[command(flatten)]
    caller: Caller,
}

/// Which entries.
#[derive(Args)]
struct Filter {
    /// Only from this instant on, such as `2027-06-30T12:00:00Z`
    #[arg(long, value_name = "INSTANT", value_parser = instant::parse)]
    from: Option<Instant>,
    /// Only before this instant
    #[arg(long, value_name = "INSTANT", value_parser = instant::parse)]
    until: Option<Instant>,
    /// Only what this actor did: the name of an account, `unit ID`, `license key of ID`, `backend`, or `operator`
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    actor: String,
    /// Only what actors of this kind did; several may be given. An account may have the name of another kind
    #[arg(long = "actor-kind", value_name = "KIND", value_delimiter = ',', value_parser = name::parser::<api::ActorKind>())]
    actor_kinds: Vec<api::ActorKind>,
    /// Only this action, such as `unit.deactivate`
    #[arg(long, value_name = "ACTION", default_value = "", hide_default_value = true)]
    action: String,
    /// Only on this target: a unit ID, a public license ID, the name of an account
    #[arg(long, value_name = "TARGET", default_value = "", hide_default_value = true)]
    target: String,
    /// Newest first
    #[arg(long)]
    descending: bool,
}

#[derive(Default)]
struct EntryRow(api::AuditEntry);

struct EntriesListed {
    backend: Backend,
    question: api::ListAuditEntriesRequest,
}

impl Audit {
    pub(super) fn run(self) -> CommandResult {
        let runtime = client::runtime()?;
        match self.command {
            Command::List(List { filter, paging, caller }) => {
                runtime.block_on(async { paging.show(filter.listed(&caller).await?).await })
            }
            Command::Archive(archive) => runtime.block_on(archive.run()),
            Command::Export(Export { filter, writing, caller }) => {
                runtime.block_on(async { writing.write(filter.listed(&caller).await?).await })
            }
        }
    }
}

impl Filter {
    async fn listed(self, caller: &Caller) -> Result<EntriesListed, CommandError> {
        let Self { from, until, actor, actor_kinds, action, target, descending } = self;
        let timestamp = |instant: Option<Instant>| instant.map(backend::timestamp).transpose();
        let question = api::ListAuditEntriesRequest {
            page_size: 0,
            page_token: String::new(),
            from: timestamp(from)?,
            until: timestamp(until)?,
            descending,
            actor,
            action,
            target,
            actor_kinds: name::numbers(&actor_kinds),
        };
        Ok(EntriesListed { backend: caller.connect().await?, question })
    }
}

impl Listing for EntriesListed {
    type Record = EntryRow;

    async fn page(&mut self, page_token: String, page_size: i32) -> Result<Page<EntryRow>, CommandError> {
        let question = api::ListAuditEntriesRequest { page_token, page_size, ..self.question.clone() };
        let backend = &self.backend;
        let answer = backend.ask(question, async |request| backend.audit().list_audit_entries(request).await);
        let api::ListAuditEntriesResponse { entries, next_page_token } = answer.await?;
        Ok(Page { records: entries.into_iter().map(EntryRow).collect(), next_page_token })
    }
}

impl Record for EntryRow {
    const PLURAL: &'static str = "entries";
    const COLUMNS: &'static [Column] = &[
        Column::Whole("at"),
        Column::Text("who"),
        Column::Whole("what"),
        Column::Whole("outcome"),
        Column::Text("detail"),
    ];

    fn row(&self, _now: Instant) -> Vec<Cell> {
        let entry = &self.0;
        let color = match entry.outcome() {
            api::AuditOutcome::Done => Color::Green,
            api::AuditOutcome::Refused => Color::Red,
            api::AuditOutcome::Unspecified => Color::Yellow,
        };
        vec![
            Cell::new(entry.at.as_ref().map(values::instant_for_people).unwrap_or_default()),
            Cell::new(format!(
                "{}\n{}",
                escape_control(&entry.actor),
                name::of::<api::ActorKind>(entry.actor_kind)
            )),
            Cell::new(format!("{}\n{}", shortened(&entry.action, 40), shortened(&entry.target, 40))),
            Cell::new(name::of::<api::AuditOutcome>(entry.outcome)).fg(color),
            Cell::new(escape_control(&entry.detail)),
        ]
    }

    fn json(&self) -> Map<String, Value> {
        let api::AuditEntry {
            entry_id,
            at,
            actor,
            actor_kind,
            actor_credential,
            action,
            target,
            outcome,
            detail,
        } = &self.0;
        let at: Option<&Timestamp> = at.as_ref();
        object(json!({
            "entry_id": entry_id,
            "at": unit_management::instant(at),
            "actor": actor,
            "actor_kind": name::of::<api::ActorKind>(*actor_kind),
            "actor_credential": told(actor_credential),
            "action": action,
            "target": target,
            "outcome": name::of::<api::AuditOutcome>(*outcome),
            "detail": told(detail),
        }))
    }
}
