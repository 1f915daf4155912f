//! `licenses create`.
//!
//! Not here: many at once (see `import`).

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::json;

use super::{
    row::LicenseRow,
    terms::{self, Expiry},
};
use crate::{
    cli::{
        CommandError, CommandResult, client,
        unit_management::{
            backend,
            caller::Caller,
            name::parser,
            record::{self, Record as _, object},
            secret::{self, Place},
        },
    },
    escape::escape_and_shorten,
    proto::licensing as api,
};

/// Issue a license
///
/// Its license key is told once: the last line of standard output, or --key-output.
#[derive(Args)]
pub(super) struct Create {
    /// Public license ID [default: one is made]
    #[arg(long = "id", value_name = "ID", default_value = "", hide_default_value = true)]
    license_id: String,
    /// Customer [default: the own]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    customer: String,
    /// Product [default: ESET Secure Authentication]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    product: String,
    /// Name, for people
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    name: String,
    /// Type, such as full, trial or nfr
    #[arg(long = "type", value_name = "TYPE", default_value = "full")]
    kind: String,
    /// What a seat is
    #[arg(long, value_name = "KIND", default_value = "users", value_parser = parser::<api::SeatKind>())]
    seat_kind: api::SeatKind,
    /// Seats
    #[arg(long, value_name = "N")]
    seats: u64,
    #[command(flatten)]
    expiry: Expiry,
    /// Fair-use limit of all users; 0 = none
    #[arg(long, value_name = "N", default_value_t = 0)]
    all_users_limit: u64,
    /// Fair-use limit of components; 0 = none
    #[arg(long, value_name = "N", default_value_t = 0)]
    components_limit: u64,
    /// OTP SMS credits; left out, SMS is not bought from the vendor
    #[arg(long, value_name = "N")]
    sms_credits: Option<u64>,
    /// A further attribute; several may be given
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = terms::attribute)]
    attributes: Vec<(String, String)>,
    /// Write the license key to this new file, for its owner alone
    #[arg(long, value_name = "FILE")]
    key_output: Option<PathBuf>,
    /// Print JSON: the license, and license_key unless it goes to a file
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    caller: Caller,
}

impl Create {
    pub(super) fn run(self) -> CommandResult {
        let request =
            api::CreateLicenseRequest { request_id: backend::request_id(), license: Some(self.license()?) };
        let place = Place::begin(self.key_output.as_deref())?;
        let answer = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            backend.ask(request, async |request| backend.licenses().create_license(request).await).await
        })?;
        let license = backend::held(answer.license, "a license")?;
        let otherwise = format!(
            "make a new key with `esa-sidecar licenses rotate-key {}`",
            escape_and_shorten(&license.license_id)
        );
        let key = secret::told(answer.license_key, &otherwise)?;
        let license = LicenseRow(license).json();
        if !self.json {
            record::show(license, false)?;
            return place.put("the license key", &key).map(|()| ExitCode::SUCCESS);
        }
        let told = self.key_output.is_none().then(|| key.as_str());
        if told.is_none() {
            place.put("the license key", &key)?;
        }
        record::show(object(json!({"license": license, "license_key": told})), true)
    }

    fn license(&self) -> Result<api::NewLicense, CommandError> {
        Ok(api::NewLicense {
            license_id: self.license_id.clone(),
            customer: self.customer.clone(),
            product: self.product.clone(),
            name: self.name.clone(),
            r#type: self.kind.clone(),
            seat_kind: self.seat_kind.into(),
            seats: self.seats,
            expires_at: Some(self.expiry.timestamp()?),
            all_users_limit: self.all_users_limit,
            components_limit: self.components_limit,
            sms_credits: self.sms_credits,
            attributes: terms::attributes(&self.attributes)?,
        })
    }
}
