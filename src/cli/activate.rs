//! `activate`: makes this server a unit of a license.
//!
//! Not here: what the unit is then told (see `source::remote`).

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Endpoint};
use zeroize::Zeroizing;

use super::{
    CommandError, CommandResult,
    client::{Believed, broken_off, failed, runtime},
    confirm_unit, output, serve,
    unit_management::{caller::token_of, secret},
};
use crate::{
    config::{self, Config},
    domain::SubscriptionId,
    edge::{remote::RemoteAddress, tls::Trust},
    escape::escape_and_shorten,
    proto::licensing::{
        ActivateUnitRequest, ActivateUnitResponse, Unit as ApiUnit, unit_service_client::UnitServiceClient,
    },
    source::units::{Activating, Purpose, Unit, UnitsFile, version_or_own},
    wire::{
        self,
        usage::{Installation, ProductVersion},
    },
};

/// Activate this server with a license
///
/// It becomes a unit of the license and gets a credential of its own, kept in the data folder; a sidecar that runs there
/// goes on with it at once. Cut off half way, the same command again is the same activation.
#[derive(Args)]
pub(super) struct Activate {
    /// The licensing backend: `https://host:port`, an address and port, or `unix:PATH`; if it is left out, the first of
    /// `licensing.urls`, or 127.0.0.1:50052
    #[arg(long, value_name = "ADDR", env = "ESA_SIDECAR_LICENSING")]
    licensing: Option<RemoteAddress>,
    #[command(flatten)]
    believed: Believed,
    #[command(flatten)]
    with: With,
    /// How the device is called in Unit Management; if it is left out, the name of this host
    #[arg(long, value_name = "NAME")]
    device_name: Option<String>,
    /// The installation this server belongs to; servers that share one user base name the same
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    installation: Installation,
    /// Version of the product, as Unit Management shows it; if it is left out, the version of this sidecar
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    product_version: ProductVersion,
    /// Activate once more although it was done, such as after the unit was deactivated
    #[arg(long)]
    again: bool,
    /// How long to wait for an answer, such as `500ms` or `5s`
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = crate::config::duration)]
    timeout: Duration,
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the credential is kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

/// What to activate with.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct With {
    /// Activate by license key, the only line of this file; `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    license_key_file: Option<PathBuf>,
    /// Activate by account, with this license (a public license ID): the token is taken from ESA_SIDECAR_TOKEN, or is that
    /// of the last `accounts sign-in`
    #[arg(long, value_name = "ID", value_parser = license_id)]
    license: Option<SubscriptionId>,
}

/// What an activation is authorized by.
enum Authority {
    Key(Zeroizing<String>),
    Account { license: SubscriptionId, token: Zeroizing<String> },
}

impl Activate {
    pub(super) fn run(self) -> CommandResult {
        let flags = serve::flag("--data-dir", "data_dir", self.data_dir).into_iter().collect();
        let config = Config::read(self.config, flags).map_err(CommandError::faults)?;
        let trust = Trust { ca: self.believed.ca.or_else(|| config.licensing.trust.ca.clone()), shown: None };
        let backend = match (self.licensing, config.licensing.urls.first()) {
            (Some(named), _) => named,
            (None, Some(configured)) => configured.clone(),
            (None, None) => RemoteAddress::loopback(50052),
        };
        if !config.licensing.plaintext && backend.is_overheard() {
            return Err(CommandError::configuration(config::beyond_this_machine(&backend)));
        }
        let endpoint = backend.endpoint(&trust, self.timeout)?.timeout(self.timeout);
        let authority = self.with.authority(&backend)?;
        let device_name = self.device_name.unwrap_or_else(host_name);
        let purpose = Purpose::of(&authority.license(), &device_name, self.installation.as_str());
        let file = UnitsFile::of(config.data_dir.clone());
        if let Some(unit) = file.read()?.units.iter().find(|unit| unit.purpose == purpose && !self.again) {
            return Err(CommandError::new(format!(
                "this server is activated already: it is the unit `{}` of `{}`; if that was deactivated, say --again",
                unit.unit_id, unit.subscription_id
            )));
        }
        // On disk before the backend is asked: whatever happens on the way, asking again is the same activation.
        let version = version_or_own(self.product_version.as_str());
        let begun = file.change(|units| units.begin(&purpose, version))??;
        let request = request(&authority, device_name, self.installation.as_str(), &begun);
        let answered = runtime()?.block_on(ask(&backend, endpoint.clone(), request, &authority));
        let activated = match answered {
            Ok(unit) => read(
                &unit,
                begun,
                self.installation.as_str().to_owned(),
                self.product_version.as_str().to_owned(),
            )?,
            Err(Failure::Refused(status)) => {
                // A refusal now says nothing of a unit that was made when the answer was lost, as when the session has
                // expired since.
                if !begun.may_be_done {
                    file.change(|units| units.give_up(&purpose))?;
                }
                return Err(failed(&status));
            }
            Err(Failure::NoAnswer(what)) => {
                return Err(CommandError::new(format!(
                    "{what}; it is not known whether this server was activated: the same command again goes on with it"
                )));
            }
        };
        require_confirmed(&activated, endpoint, &config, &file)?;
        let told = format!(
            "activated as the unit {} of {}\nits credential is in {}\n\
             a sidecar that runs with this data folder takes it up within a second\n",
            activated.unit_id,
            activated.subscription_id,
            file.path().display()
        );
        file.change(|units| units.finish(activated))?;
        output::print(&told)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A unit takes the place of the one of its subscription, or of its ID, and the credential of that is gone then: only once facts that
/// a trusted key vouches for were told to it. Anything may answer in the name of a backend.
fn require_confirmed(
    unit: &Unit,
    endpoint: Endpoint,
    config: &Config,
    file: &UnitsFile,
) -> Result<(), CommandError> {
    let Unit { unit_id, subscription_id, .. } = unit;
    let units = file.read()?.units;
    let is_replaced =
        |before: &&Unit| before.subscription_id == *subscription_id || before.unit_id == *unit_id;
    let Some(before) = units.iter().find(is_replaced) else { return Ok(()) };
    let trusted = confirm_unit::trusted(config)?;
    runtime()?.block_on(confirm_unit::confirm(endpoint, &trusted, unit)).map_err(|why| {
        CommandError::new(format!(
            "the licensing backend names the unit `{unit_id}` of `{subscription_id}`, and nothing confirms that: {why}\n\
             this server stays the unit `{}`; once the backend's key is trusted (`esa-sidecar keys pin KEY`) the same \
             command again goes on",
            before.unit_id
        ))
    })
}

impl With {
    fn authority(self, backend: &RemoteAddress) -> Result<Authority, CommandError> {
        if let Some(license) = self.license {
            let token = token_of(&backend.to_string())?.text;
            return Ok(Authority::Account { license, token });
        }
        let path = self.license_key_file.unwrap_or_else(|| "-".into());
        match secret::read(&path)?.trim() {
            "" => Err(CommandError::new("the license key is empty")),
            key => Ok(Authority::Key(Zeroizing::new(key.to_owned()))),
        }
    }
}

impl Authority {
    fn license(&self) -> Zeroizing<String> {
        match self {
            Self::Key(key) => key.clone(),
            Self::Account { license, .. } => Zeroizing::new(license.to_string()),
        }
    }
}

/// Why there is no unit.
enum Failure {
    /// The backend refused, and has activated nothing.
    Refused(Status),
    /// It may have activated it or not.
    NoAnswer(String),
}

fn request(
    authority: &Authority,
    device_name: String,
    installation: &str,
    begun: &Activating,
) -> ActivateUnitRequest {
    let (license_key, license_id) = match authority {
        Authority::Key(key) => (key.to_string(), String::new()),
        Authority::Account { license, .. } => (String::new(), license.to_string()),
    };
    ActivateUnitRequest {
        request_id: begun.request_id.clone(),
        license_key,
        license_id,
        device_name,
        secret_sha256: begun.secret.sha256(),
        installation: installation.to_owned(),
        product_version: begun.product_version.clone(),
        ..ActivateUnitRequest::default()
    }
}

async fn ask(
    backend: &RemoteAddress,
    endpoint: Endpoint,
    request: ActivateUnitRequest,
    authority: &Authority,
) -> Result<ApiUnit, Failure> {
    let no_answer = |what: String| Failure::NoAnswer(format!("licensing backend {backend}: {what}"));
    let mut request = Request::new(request);
    if let Authority::Account { token, .. } = authority {
        let bearer = MetadataValue::try_from(Zeroizing::new(format!("Bearer {}", token.as_str())).as_str());
        let mut bearer = bearer.map_err(|_| {
            Failure::Refused(Status::unauthenticated("the token holds characters no token has"))
        })?;
        bearer.set_sensitive(true);
        request.metadata_mut().insert("authorization", bearer);
    }
    match UnitServiceClient::new(endpoint.connect_lazy()).activate_unit(request).await {
        Ok(response) => {
            let ActivateUnitResponse { unit } = response.into_inner();
            unit.ok_or_else(|| no_answer("it names no unit".to_owned()))
        }
        Err(status) if is_refusal(&status) => Err(Failure::Refused(status)),
        Err(status) => {
            Err(no_answer(broken_off(&status).unwrap_or_else(|| escape_and_shorten(status.message()))))
        }
    }
}

/// Whether the backend has looked at the request and activated nothing.
fn is_refusal(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

fn read(
    unit: &ApiUnit,
    begun: Activating,
    installation: String,
    product_version: String,
) -> Result<Unit, CommandError> {
    let ApiUnit { unit_id, subscription_id, activated_at, .. } = unit;
    let secret_since = activated_at.as_ref().and_then(|at| wire::instant(at, "activated_at").ok());
    if !is_unit_id(unit_id) {
        return Err(CommandError::new(format!(
            "the licensing backend names the unit `{}`, which is no ID of a unit",
            escape_and_shorten(unit_id)
        )));
    }
    let subscription_id = subscription_id.parse().map_err(|_| {
        CommandError::new(format!(
            "the licensing backend names `{}`, which is no public license ID",
            escape_and_shorten(subscription_id)
        ))
    })?;
    let Activating { purpose, secret, .. } = begun;
    Ok(Unit {
        unit_id: unit_id.clone(),
        secret,
        secret_since,
        next_secret: None,
        subscription_id,
        installation,
        purpose,
        product_version,
    })
}

/// Whether it can go along with a request, and be shown.
fn is_unit_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn license_id(text: &str) -> Result<SubscriptionId, String> {
    text.parse().map_err(|_| "not a public license ID; it looks like `3A8-WN7-7TD`".to_owned())
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
