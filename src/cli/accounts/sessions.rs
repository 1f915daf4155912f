//! `accounts sessions`: where the own account is signed in.
//!
//! Not here: opening and ending the own session (see `sign_in`).

use std::process::ExitCode;

use clap::{Args, Subcommand};
use comfy_table::Cell;
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        CommandError, CommandResult, client, output,
        status::values,
        unit_management::{
            backend::Backend,
            caller::Caller,
            instant,
            listing::{Listing, Page, Paging},
            record::{Column, Record, object},
        },
    },
    domain::Instant,
    escape::escape_control,
    proto::licensing as api,
};

/// List and end sessions of the own account
#[derive(Args)]
pub(super) struct Sessions {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    List(List),
    End(End),
}

/// List open sessions, the one used last first
///
/// With --format json it is one document, `{"sessions": [...], "next_page_token": ""}`; each session has session_id,
/// created_at, last_used_at, expires_at, address and current. CSV has the same as columns.
#[derive(Args)]
struct List {
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    caller: Caller,
}

/// End a session: its token opens nothing any more
#[derive(Args)]
struct End {
    /// Its ID, from `accounts sessions list`
    session_id: String,
    #[command(flatten)]
    caller: Caller,
}

#[derive(Default)]
struct SessionRow(api::Session);

struct SessionsListed(Backend);

impl Sessions {
    pub(super) fn run(self) -> CommandResult {
        match self.command {
            Command::List(command) => command.run(),
            Command::End(command) => command.run(),
        }
    }
}

impl List {
    fn run(self) -> CommandResult {
        client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            self.paging.show(SessionsListed(backend)).await
        })
    }
}

impl End {
    fn run(self) -> CommandResult {
        let request = api::EndSessionRequest { session_id: self.session_id };
        client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            backend.ask(request, async |request| backend.accounts().end_session(request).await).await
        })?;
        output::print("the session has ended\n")?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Listing for SessionsListed {
    type Record = SessionRow;

    async fn page(&mut self, _: String, _: i32) -> Result<Page<SessionRow>, CommandError> {
        let backend = &self.0;
        let question = api::ListSessionsRequest {};
        let answer = backend.ask(question, async |request| backend.accounts().list_sessions(request).await);
        let records = answer.await?.sessions.into_iter().map(SessionRow).collect();
        Ok(Page { records, next_page_token: String::new() })
    }
}

impl Record for SessionRow {
    const PLURAL: &'static str = "sessions";
    const COLUMNS: &'static [Column] =
        &[Column::Whole("session"), Column::Whole("used"), Column::Text("from"), Column::Text("notes")];

    fn row(&self, _now: Instant) -> Vec<Cell> {
        let api::Session { session_id, last_used_at, address, current, .. } = &self.0;
        vec![
            Cell::new(escape_control(session_id)),
            Cell::new(last_used_at.as_ref().map(values::instant_for_people).unwrap_or_default()),
            Cell::new(escape_control(address)),
            Cell::new(if *current { "this one" } else { "" }),
        ]
    }

    fn json(&self) -> Map<String, Value> {
        let api::Session { session_id, created_at, last_used_at, expires_at, address, current } = &self.0;
        object(json!({
            "session_id": session_id,
            "created_at": instant(created_at.as_ref()),
            "last_used_at": instant(last_used_at.as_ref()),
            "expires_at": instant(expires_at.as_ref()),
            "address": address,
            "current": current,
        }))
    }
}
