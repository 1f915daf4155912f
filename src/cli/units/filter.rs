//! Which units are meant, and in which order they come.
//!
//! Not here: who may see them; the licensing backend decides.

use clap::Args;

use crate::{
    cli::unit_management::name::{self, parser},
    proto::licensing as api,
};

/// Which units are meant.
#[derive(Args)]
pub(super) struct Filter {
    /// Only units of licenses of this status; several may be given
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',', value_parser = parser::<api::LicenseStatus>())]
    statuses: Vec<api::LicenseStatus>,
    /// Only units that connected within 14 days (recent), not for more than 14 days (orange), or not for more than 30
    /// (red); several may be given
    #[arg(long = "connection", value_name = "CONNECTION", value_delimiter = ',', value_parser = parser::<api::Connection>())]
    connections: Vec<api::Connection>,
    /// Only units in this state; several may be given; active and deactivation_pending unless told otherwise
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = parser::<api::UnitState>())]
    pub(super) states: Vec<api::UnitState>,
    /// Only units of the license with this public license ID; several may be given
    #[arg(long = "license", value_name = "ID", value_delimiter = ',')]
    license_ids: Vec<String>,
    /// Only units activated with the own account
    #[arg(long)]
    own: bool,
}

/// In which order units come.
#[derive(Args)]
pub(super) struct Order {
    /// Sort by this attribute
    #[arg(long, value_name = "ATTRIBUTE", default_value = "device_name", value_parser = parser::<api::UnitSort>())]
    sort: api::UnitSort,
    /// The other way round
    #[arg(long)]
    descending: bool,
}

impl Filter {
    /// Whether it leaves every unit in.
    pub(super) const fn is_everything(&self) -> bool {
        let Self { statuses, connections, states, license_ids, own } = self;
        statuses.is_empty() && connections.is_empty() && states.is_empty() && license_ids.is_empty() && !*own
    }

    /// The question for a page of these units.
    pub(super) fn question(&self, order: Option<&Order>) -> api::ListUnitsRequest {
        api::ListUnitsRequest {
            page_size: 0,
            page_token: String::new(),
            sort: order.map_or(0, |order| order.sort.into()),
            descending: order.is_some_and(|order| order.descending),
            statuses: name::numbers(&self.statuses),
            connections: name::numbers(&self.connections),
            states: name::numbers(&self.states),
            license_ids: self.license_ids.clone(),
            own: self.own,
        }
    }
}
