//! `units list` and `units export`.
//!
//! Not here: how a unit looks (see `row`).

use clap::Args;

use super::{
    distributions::Distributions,
    filter::{Filter, Order},
    row::UnitRow,
};
use crate::{
    cli::{
        CommandError, CommandResult, client,
        unit_management::{
            backend::Backend,
            caller::Caller,
            listing::{self, Listing, Page, Paging},
        },
    },
    proto::licensing as api,
};

/// List units: who activated them, when they connected last, and how their licenses stand
///
/// With --format json it is one document, `{"units": [...], "next_page_token": ...}`; each unit has unit_id,
/// device_name, product, product_version, activated_at, last_connected_at, connection, subunits, activated_by (null:
/// by license key), from_remote_management, state, deactivated_at, license_id, subscription_id, status, distributions,
/// installation, active_users, may_deactivate, two_places_at and secret_revoked. CSV has the same as columns.
#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    caller: Caller,
}

/// Write all units as CSV or as a JSON array, as `units list` names them
#[derive(Args)]
pub(super) struct Export {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    writing: listing::Writing,
    #[command(flatten)]
    caller: Caller,
}

/// What the column Distributions shows.
#[derive(Args)]
struct Shown {
    /// Attribute of the license in the column Distributions: license_id, name, type, customer, product, seats,
    /// expires_at, or a further attribute by its key
    #[arg(long = "distribution", value_name = "ATTRIBUTE", default_value = "license_id")]
    distribution: String,
}

/// Units of a filter, in an order.
struct UnitsListed {
    backend: Backend,
    question: api::ListUnitsRequest,
    distributions: Distributions,
}

impl List {
    pub(super) fn run(self) -> CommandResult {
        client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            self.paging.show(listed(backend, &self.filter, &self.order, &self.shown)).await
        })
    }
}

impl Export {
    pub(super) fn run(self) -> CommandResult {
        client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            self.writing.write(listed(backend, &self.filter, &self.order, &self.shown)).await
        })
    }
}

fn listed(backend: Backend, filter: &Filter, order: &Order, shown: &Shown) -> UnitsListed {
    let question = filter.question(Some(order));
    UnitsListed { backend, question, distributions: Distributions::showing(&shown.distribution) }
}

impl Listing for UnitsListed {
    type Record = UnitRow;

    async fn page(&mut self, page_token: String, page_size: i32) -> Result<Page<UnitRow>, CommandError> {
        let question = api::ListUnitsRequest { page_token, page_size, ..self.question.clone() };
        let backend = &self.backend;
        let answer = backend.ask(question, async |request| backend.units().list_units(request).await);
        let api::ListUnitsResponse { units, next_page_token } = answer.await?;
        let distributions = self.distributions.of(backend, &units).await?;
        let records =
            units.into_iter().zip(distributions).map(|(unit, distributions)| UnitRow { unit, distributions });
        Ok(Page { records: records.collect(), next_page_token })
    }
}
