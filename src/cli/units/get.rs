//! `units get`.
//!
//! Not here: how a unit looks (see `row`).

use clap::Args;

use super::row::UnitRow;
use crate::{
    cli::{
        CommandResult, client,
        unit_management::{
            backend,
            caller::Caller,
            record::{self, Record as _},
        },
    },
    proto::licensing as api,
};

/// Show one unit
#[derive(Args)]
pub(super) struct Get {
    /// Its ID
    unit_id: String,
    /// Print JSON, with the names of `units list`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    caller: Caller,
}

impl Get {
    pub(super) fn run(self) -> CommandResult {
        let unit = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            let request = api::GetUnitRequest { unit_id: self.unit_id };
            let answer = backend.ask(request, async |request| backend.units().get_unit(request).await);
            backend::held(answer.await?.unit, "a unit")
        })?;
        record::show(UnitRow { distributions: unit.license_id.clone(), unit }.json(), self.json)
    }
}
