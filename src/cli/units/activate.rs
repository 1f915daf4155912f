//! `units activate`.
//!
//! The unit's secret is made here; the backend is told its digest alone, and sees it first when the unit proves itself.
//! Not here: the use of the token.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::row::UnitRow;
use crate::{
    cli::{
        CommandError, CommandResult, client,
        unit_management::{
            backend::{self, Backend},
            caller::Caller,
            record::{self, Record as _, object},
            secret::{self, Place},
        },
    },
    proto::licensing as api,
    sha256,
};

/// Activate a product with a license, by the own account or by license key
///
/// The token the unit proves itself with, `esau_...`, is told once: the last line of standard output, or
/// --token-output.
#[derive(Args)]
pub(super) struct Activate {
    /// Name of the device
    #[arg(long, value_name = "NAME")]
    device_name: String,
    /// Activate with the own account, with the license of this public license ID
    #[arg(long = "license", value_name = "ID", required_unless_present = "license_key_file")]
    license_id: Option<String>,
    /// Activate with the license key in this file, `-` for standard input; nobody needs to be signed in
    #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
    license_key_file: Option<PathBuf>,
    /// Product [default: the product of the license]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    product: String,
    /// Version of the product
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    product_version: String,
    /// Subunits, such as mailboxes
    #[arg(long, value_name = "N", default_value_t = 0)]
    subunits: u64,
    /// It is activated from the remote management server
    #[arg(long)]
    from_era: bool,
    /// The installation an authentication server belongs to: servers that share one user base name the same one
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    installation: String,
    /// Write the token to this new file, for its owner alone
    #[arg(long, value_name = "FILE")]
    token_output: Option<PathBuf>,
    /// Print JSON: the unit, and unit_token unless it goes to a file
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    caller: Caller,
}

impl Activate {
    pub(super) fn run(self) -> CommandResult {
        let place = Place::begin(self.token_output.as_deref())?;
        let unit_secret = new_secret()?;
        let request = self.request(&unit_secret)?;
        let unit = client::runtime()?.block_on(async {
            let backend = self.connect().await?;
            let answer = backend.ask(request, async |request| backend.units().activate_unit(request).await);
            backend::held(answer.await?.unit, "a unit")
        })?;
        let token = secret::told(format!("esau_{}_{}", unit.unit_id, unit_secret.as_str()), "")?;
        let unit = UnitRow { distributions: unit.license_id.clone(), unit }.json();
        if !self.json {
            record::show(unit, false)?;
            return place.put("the unit's token", &token).map(|()| std::process::ExitCode::SUCCESS);
        }
        let told = self.token_output.is_none().then(|| token.as_str());
        if told.is_none() {
            place.put("the unit's token", &token)?;
        }
        record::show(object(json!({"unit": unit, "unit_token": told})), true)
    }

    /// A license key speaks for itself; everything else needs an account.
    async fn connect(&self) -> Result<Backend, CommandError> {
        match self.license_key_file {
            Some(_) => self.caller.licensing.connect().await,
            None => self.caller.connect().await,
        }
    }

    fn request(&self, secret: &str) -> Result<api::ActivateUnitRequest, CommandError> {
        let license_key = self.license_key_file.as_deref().map(secret::read).transpose()?;
        Ok(api::ActivateUnitRequest {
            request_id: backend::request_id(),
            license_key: license_key.map(|key| key.trim().to_owned()).unwrap_or_default(),
            license_id: self.license_id.clone().unwrap_or_default(),
            device_name: self.device_name.clone(),
            product: self.product.clone(),
            product_version: self.product_version.clone(),
            subunits: self.subunits,
            from_remote_management: self.from_era,
            secret_sha256: sha256::hex(secret.as_bytes()),
            installation: self.installation.clone(),
        })
    }
}

/// 32 random bytes, as they are sent.
fn new_secret() -> Result<Zeroizing<String>, CommandError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| CommandError::new(format!("no randomness: {error}")))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}
