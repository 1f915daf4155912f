//! `units revoke-secret`.
//!
//! Not here: who may (semantics 7.28); the licensing backend decides.

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

/// Revoke the secret of a unit, as when it was stolen: its server has to be activated again
///
/// From then on nobody syncs or hears of changes with it. The unit is deactivated: its seat is free, and what it counted
/// counts no more.
#[derive(Args)]
pub(super) struct RevokeSecret {
    /// Its ID
    unit_id: String,
    /// Print JSON, with the names of `units list`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    caller: Caller,
}

impl RevokeSecret {
    pub(super) fn run(self) -> CommandResult {
        let unit = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            let request =
                api::RevokeUnitSecretRequest { request_id: backend::request_id(), unit_id: self.unit_id };
            let answer =
                backend.ask(request, async |request| backend.units().revoke_unit_secret(request).await);
            backend::held(answer.await?.unit, "a unit")
        })?;
        record::show(UnitRow { distributions: unit.license_id.clone(), unit }.json(), self.json)
    }
}
