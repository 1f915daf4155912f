//! `licenses list`, `licenses get` and `licenses export`.
//!
//! Not here: how a license looks (see `row`).

use clap::Args;

use super::row::{self, LicenseRow};
use crate::{
    cli::{
        CommandError, CommandResult, client,
        unit_management::{
            backend::Backend,
            caller::Caller,
            listing::{self, Listing, Page, Paging},
            name::{self, parser},
        },
    },
    proto::licensing as api,
};

/// List licenses and how they stand
///
/// With --format json it is one document, `{"licenses": [...], "next_page_token": ...}`; each license has license_id,
/// subscription_id, customer, product, name, type, seat_kind, seats, expires_at, state, state_since, all_users_limit,
/// components_limit, sms_credits, attributes, status, active_units, delegations, delegated and created_at. CSV has the
/// same as columns.
#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    caller: Caller,
}

/// Write all licenses as CSV or as a JSON array, as `licenses list` names them; license keys are not known any more
#[derive(Args)]
pub(super) struct Export {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    writing: listing::Writing,
    #[command(flatten)]
    caller: Caller,
}

/// Show one license
#[derive(Args)]
pub(super) struct Get {
    /// Its public license ID
    license_id: String,
    /// Print JSON, with the names of `licenses list`, and the facts of its subscription
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    caller: Caller,
}

/// Which licenses, and in which order.
#[derive(Args)]
struct Filter {
    /// Only licenses of this status; several may be given
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',', value_parser = parser::<api::LicenseStatus>())]
    statuses: Vec<api::LicenseStatus>,
    /// Sort by this attribute
    #[arg(long, value_name = "ATTRIBUTE", default_value = "license_id", value_parser = parser::<api::LicenseSort>())]
    sort: api::LicenseSort,
    /// The other way round
    #[arg(long)]
    descending: bool,
}

/// Licenses of a filter.
struct LicensesListed {
    backend: Backend,
    question: api::ListLicensesRequest,
}

impl List {
    pub(super) fn run(self) -> CommandResult {
        client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            self.paging.show(LicensesListed { backend, question: self.filter.question() }).await
        })
    }
}

impl Export {
    pub(super) fn run(self) -> CommandResult {
        client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            self.writing.write(LicensesListed { backend, question: self.filter.question() }).await
        })
    }
}

impl Get {
    pub(super) fn run(self) -> CommandResult {
        let answer = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            let request = api::GetLicenseRequest { license_id: self.license_id };
            backend.ask(request, async |request| backend.licenses().get_license(request).await).await
        })?;
        row::show(answer.license, self.json)
    }
}

impl Filter {
    fn question(&self) -> api::ListLicensesRequest {
        api::ListLicensesRequest {
            page_size: 0,
            page_token: String::new(),
            statuses: name::numbers(&self.statuses),
            sort: self.sort.into(),
            descending: self.descending,
        }
    }
}

impl Listing for LicensesListed {
    type Record = LicenseRow;

    async fn page(&mut self, page_token: String, page_size: i32) -> Result<Page<LicenseRow>, CommandError> {
        let question = api::ListLicensesRequest { page_token, page_size, ..self.question.clone() };
        let backend = &self.backend;
        let answer = backend.ask(question, async |request| backend.licenses().list_licenses(request).await);
        let api::ListLicensesResponse { licenses, next_page_token } = answer.await?;
        Ok(Page { records: licenses.into_iter().map(LicenseRow).collect(), next_page_token })
    }
}
