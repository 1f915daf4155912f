//! `accounts credentials`: what programs sign in with.
//!
//! Not here: sessions of people (see `sign_in`).

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use comfy_table::Cell;
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        CommandError, CommandResult, client,
        unit_management::{
            backend::{self, Backend},
            caller::Caller,
            day, instant,
            listing::{Listing, Page, Paging},
            name::{self, parser},
            record::{self, Column, Record, object},
            secret::{self, Place},
        },
    },
    domain::{Instant, Span},
    escape::{escape_and_shorten, escape_control},
    proto::licensing as api,
};

/// Make, list and revoke API credentials of the own account
#[derive(Args)]
pub(super) struct Credentials {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Make an API credential
///
/// Its token, `esac_...`, is told once: the last line of standard output, or --token-output. Programs give it with
/// --token-file or ESA_SIDECAR_TOKEN.
#[derive(Args)]
struct Create {
    /// Name, for people
    name: String,
    /// What it is for, separated by commas [default: all of them]; accounts, sessions and passwords are for no credential
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', value_parser = parser::<api::ApiScope>())]
    scope: Vec<api::ApiScope>,
    /// How long it lasts from now on, such as `90d`
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = humantime::parse_duration)]
    expires_in: Duration,
    /// Write the token to this new file, for its owner alone
    #[arg(long, value_name = "FILE")]
    token_output: Option<PathBuf>,
    #[command(flatten)]
    caller: Caller,
}

/// List API credentials, by ID
///
/// With --format json it is one document, `{"credentials": [...], "next_page_token": ...}`; each credential has
/// credential_id, name, created_at, revoked_at, scopes and expires_at. CSV has the same as columns.
#[derive(Args)]
struct List {
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    caller: Caller,
}

/// Revoke an API credential: it opens nothing any more
#[derive(Args)]
struct Revoke {
    /// Its ID
    credential_id: String,
    /// Print JSON, with the names of `accounts credentials list`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    caller: Caller,
}

#[derive(Default)]
struct CredentialRow(api::ApiCredential);

struct CredentialsListed(Backend);

impl Credentials {
    pub(super) fn run(self) -> CommandResult {
        match self.command {
            Command::Create(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Revoke(command) => command.run(),
        }
    }
}

impl Create {
    fn run(self) -> CommandResult {
        let place = Place::begin(self.token_output.as_deref())?;
        let expires_at = backend::now() + Span::from(self.expires_in);
        let request = api::CreateApiCredentialRequest {
            request_id: backend::request_id(),
            name: self.name,
            scopes: name::numbers(&self.scope),
            expires_at: Some(backend::timestamp(expires_at)?),
        };
        let answer = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            backend
                .ask(request, async |request| backend.accounts().create_api_credential(request).await)
                .await
        })?;
        let credential = backend::held(answer.credential, "a credential")?;
        let token = secret::told(
            answer.token,
            &format!("revoke credential {} and make another", escape_and_shorten(&credential.credential_id)),
        )?;
        record::show(CredentialRow(credential).json(), false)?;
        place.put("the token", &token).map(|()| ExitCode::SUCCESS)
    }
}

impl List {
    fn run(self) -> CommandResult {
        client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            self.paging.show(CredentialsListed(backend)).await
        })
    }
}

impl Revoke {
    fn run(self) -> CommandResult {
        let credential_id = self.credential_id;
        let request = api::RevokeApiCredentialRequest { request_id: backend::request_id(), credential_id };
        let answer = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            backend
                .ask(request, async |request| backend.accounts().revoke_api_credential(request).await)
                .await
        })?;
        record::show(CredentialRow(backend::held(answer.credential, "a credential")?).json(), self.json)
    }
}

impl Listing for CredentialsListed {
    type Record = CredentialRow;

    async fn page(
        &mut self,
        page_token: String,
        page_size: i32,
    ) -> Result<Page<CredentialRow>, CommandError> {
        let question = api::ListApiCredentialsRequest { page_size, page_token };
        let backend = &self.0;
        let answer =
            backend.ask(question, async |request| backend.accounts().list_api_credentials(request).await);
        let api::ListApiCredentialsResponse { credentials, next_page_token } = answer.await?;
        Ok(Page { records: credentials.into_iter().map(CredentialRow).collect(), next_page_token })
    }
}

impl Record for CredentialRow {
    const PLURAL: &'static str = "credentials";
    const COLUMNS: &'static [Column] = &[
        Column::Whole("credential"),
        Column::Text("name"),
        Column::Whole("made"),
        Column::Whole("ends"),
        Column::Whole("revoked"),
    ];

    fn row(&self, _now: Instant) -> Vec<Cell> {
        let api::ApiCredential { credential_id, name, created_at, revoked_at, expires_at, .. } = &self.0;
        vec![
            Cell::new(escape_control(credential_id)),
            Cell::new(escape_control(name)),
            Cell::new(day(created_at.as_ref())),
            Cell::new(day(expires_at.as_ref())),
            Cell::new(day(revoked_at.as_ref())),
        ]
    }

    fn json(&self) -> Map<String, Value> {
        let api::ApiCredential { credential_id, name, created_at, revoked_at, scopes, expires_at } = &self.0;
        let scopes: Vec<String> = scopes.iter().map(|scope| name::of::<api::ApiScope>(*scope)).collect();
        object(json!({
            "credential_id": credential_id,
            "name": name,
            "created_at": instant(created_at.as_ref()),
            "revoked_at": instant(revoked_at.as_ref()),
            "scopes": scopes,
            "expires_at": instant(expires_at.as_ref()),
        }))
    }
}
