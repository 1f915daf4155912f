//! `licenses update`.
//!
//! Not here: when it expires and whether it is suspended (see `change`).

use clap::Args;
use prost_types::FieldMask;

use super::{row, terms};
use crate::{
    cli::{
        CommandError, CommandResult, client,
        unit_management::{backend, caller::Caller},
    },
    proto::licensing as api,
};

/// Change attributes of a license; what is not given stays as it is
#[derive(Args)]
pub(super) struct Update {
    /// Public license ID
    license_id: String,
    /// Name, for people
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Type, such as full, trial or nfr
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Seats
    #[arg(long, value_name = "N")]
    seats: Option<u64>,
    /// Fair-use limit of all users; 0 = none
    #[arg(long, value_name = "N")]
    all_users_limit: Option<u64>,
    /// Fair-use limit of components; 0 = none
    #[arg(long, value_name = "N")]
    components_limit: Option<u64>,
    /// OTP SMS credits that remain
    #[arg(long, value_name = "N", conflicts_with = "no_sms_credits")]
    sms_credits: Option<u64>,
    /// SMS is not bought from the vendor any more
    #[arg(long)]
    no_sms_credits: bool,
    /// A further attribute; several may be given, and they replace all there were
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = terms::attribute)]
    attributes: Vec<(String, String)>,
    /// Remove the further attributes
    #[arg(long, conflicts_with = "attributes")]
    no_attributes: bool,
    /// Print JSON, with the names of `licenses list`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    caller: Caller,
}

impl Update {
    pub(super) fn run(self) -> CommandResult {
        let request = api::UpdateLicenseRequest {
            request_id: backend::request_id(),
            license_id: self.license_id.clone(),
            license: Some(self.license()?),
            update_mask: Some(self.mask()?),
        };
        let answer = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            backend.ask(request, async |request| backend.licenses().update_license(request).await).await
        })?;
        row::show(answer.license, self.json)
    }

    fn license(&self) -> Result<api::NewLicense, CommandError> {
        Ok(api::NewLicense {
            name: self.name.clone().unwrap_or_default(),
            r#type: self.kind.clone().unwrap_or_default(),
            seats: self.seats.unwrap_or_default(),
            all_users_limit: self.all_users_limit.unwrap_or_default(),
            components_limit: self.components_limit.unwrap_or_default(),
            sms_credits: self.sms_credits,
            attributes: terms::attributes(&self.attributes)?,
            ..api::NewLicense::default()
        })
    }

    fn mask(&self) -> Result<FieldMask, CommandError> {
        let given = [
            ("name", self.name.is_some()),
            ("type", self.kind.is_some()),
            ("seats", self.seats.is_some()),
            ("all_users_limit", self.all_users_limit.is_some()),
            ("components_limit", self.components_limit.is_some()),
            ("sms_credits", self.sms_credits.is_some() || self.no_sms_credits),
            ("attributes", !self.attributes.is_empty() || self.no_attributes),
        ];
        let paths: Vec<String> =
            given.into_iter().filter(|(_, given)| *given).map(|(path, _)| path.to_owned()).collect();
        if paths.is_empty() {
            return Err(CommandError::new(
                "nothing is to be changed: give at least one attribute, such as --seats",
            ));
        }
        Ok(FieldMask { paths })
    }
}
