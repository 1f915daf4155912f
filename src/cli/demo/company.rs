//! The sample company: what happened to it in the last sixty days, through the same calls people make.
//!
//! Not here: any way around the licensing backend.

use std::path::Path;

use tonic::Request;

use crate::{
    cli::CommandError,
    clock::{Clock as _, ManualClock},
    domain::{Instant, Span, SubscriptionId},
    licensing::{Backend, FIRST_ACCOUNT},
    proto::licensing::{
        self as api, account_service_server::AccountService as _,
        license_service_server::LicenseService as _, sync_service_server::SyncService as _,
        unit_service_server::UnitService as _,
    },
    source::units::{Purpose, Secret, Unit, UnitsFile},
    wire,
};

/// How long ago it was founded.
pub(super) const AGE: Span = Span::days(60);

/// The password of every account.
pub(super) const PASSWORD: &str = "sample-company";

/// An authentication server and its subscription.
pub(super) struct Site {
    pub(super) subscription: &'static str,
    /// What there is to see.
    pub(super) shows: &'static str,
    place: &'static str,
    /// Expires so many seconds from now.
    expires_in: i64,
    sms_credits: u64,
    users: u64,
}

/// The version its authentication servers have.
const ESA_VERSION: &str = "3.0.81.0";
const DAY: i64 = 86_400;

/// One for each state.
pub(super) const SITES: [Site; 7] = [
    site("ACM-EOK-001", "Prague", 200 * DAY, 500, 120, "OK"),
    site("ACM-EWA-002", "Brno", 120, 500, 120, "Warning; expires two minutes after the start"),
    site("ACM-ESM-003", "Vienna", 200 * DAY, 3, 120, "SMS credits depleted"),
    site(
        "ACM-EVF-004",
        "Graz",
        200 * DAY,
        500,
        157,
        "Violation (full functionality): 157 users on 150 seats",
    ),
    site(
        "ACM-EVL-005",
        "Linz",
        -12 * DAY,
        500,
        120,
        "Violation (limited functionality): expired 12 days ago",
    ),
    site("ACM-ENA-006", "Salzburg", 200 * DAY, 500, 0, "Not activated"),
    site(
        "ACM-EDI-007",
        "Wels",
        200 * DAY,
        500,
        120,
        "ESET Secure Authentication disabled: canceled 40 days ago",
    ),
];

const fn site(
    subscription: &'static str,
    place: &'static str,
    expires_in: i64,
    sms_credits: u64,
    users: u64,
    shows: &'static str,
) -> Site {
    Site { subscription, shows, place, expires_in, sms_credits, users }
}

/// Computers of the Prague office: name, product, who activated it, how many days ago it connected last.
const COMPUTERS: [(&str, &str, Admin, u32); 9] = [
    ("reception-1", ENDPOINT, Admin::Anna, 0),
    ("reception-2", ENDPOINT, Admin::Anna, 20),
    ("warehouse-1", ENDPOINT, Admin::Anna, 45),
    ("warehouse-2", ENDPOINT, Admin::Ben, 3),
    ("laptop-novak", ENDPOINT, Admin::Ben, 33),
    ("laptop-svoboda", ENDPOINT, Admin::Key, 1),
    ("kiosk", ENDPOINT, Admin::Key, 15),
    ("exchange-1", MAIL, Admin::Anna, 0),
    ("file-server", SERVER, Admin::Ben, 2),
];

const ENDPOINT: &str = "ACM-EEP-101";
const MAIL: &str = "ACM-EMX-102";
const SERVER: &str = "ACM-ESS-103";

/// Who activated a computer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Admin {
    Anna,
    Ben,
    Key,
}

/// The subscription of the site that is not activated.
pub(super) fn not_activated() -> Result<SubscriptionId, CommandError> {
    "ACM-ENA-006".parse().map_err(|_| CommandError::new("the sample company is misspelt"))
}

/// The company as it lives through its past.
pub(super) struct Company<'a> {
    backend: &'a Backend,
    clock: ManualClock,
    now: Instant,
    units: UnitsFile,
    requests: u32,
}

/// A unit that was activated.
struct Activated {
    id: String,
    token: String,
    secret: Secret,
}

impl<'a> Company<'a> {
    pub(super) fn new(backend: &'a Backend, clock: ManualClock, now: Instant, folder: &Path) -> Self {
        Self { backend, clock, now, units: UnitsFile::of(folder.to_owned()), requests: 0 }
    }

    /// Lets it live. What happens at each instant comes after what happened before it.
    pub(super) async fn live(mut self, one_time_password: &str) -> Result<(), CommandError> {
        let owner = self.sign_in(FIRST_ACCOUNT, one_time_password).await?;
        let anna = self.security_admin(&owner, "anna").await?;
        let ben = self.security_admin(&owner, "ben").await?;
        let mut servers = Vec::new();
        for site in &SITES {
            let key = self.site_license(&owner, site).await?;
            if site.subscription != "ACM-ENA-006" {
                servers.push((site, self.server(site, &key).await?));
            }
        }
        let key = self.computer_licenses(&owner, [("anna", &anna), ("ben", &ben)]).await?;
        let mut computers = Vec::new();
        for (name, license, admin, away) in COMPUTERS {
            let token = match admin {
                Admin::Anna => Some(anna.as_str()),
                Admin::Ben => Some(ben.as_str()),
                Admin::Key => None,
            };
            computers.push((away, self.activated(token, license, &key, name).await?));
        }
        self.at(40).suspend(&owner, "ACM-EDI-007", api::LicenseState::Canceled).await?;
        computers.sort_by_key(|(away, _)| std::cmp::Reverse(*away));
        for (away, unit) in computers.iter().filter(|(away, _)| 2 < *away) {
            self.at(*away).connects(unit, None).await?;
        }
        self.at(2);
        for (site, unit) in &servers {
            self.connects(unit, Some(site)).await?;
        }
        for (away, unit) in computers.iter().filter(|(away, _)| *away <= 2) {
            self.at(*away).connects(unit, None).await?;
        }
        self.at(0).suspend(&owner, SERVER, api::LicenseState::Suspended).await?;
        self.retire(&anna, &computers).await
    }

    /// Anna lets two units go; one of them has heard of it.
    async fn retire(&mut self, anna: &str, computers: &[(u32, Activated)]) -> Result<(), CommandError> {
        let gone: Vec<&Activated> =
            computers.iter().filter(|(away, _)| [45, 20].contains(away)).map(|(_, unit)| unit).collect();
        let unit_ids = gone.iter().map(|unit| unit.id.clone()).collect();
        let request = api::DeactivateUnitsRequest { request_id: self.request_id(), unit_ids };
        self.backend.deactivate_units(with(anna, request)?).await?;
        match gone.last() {
            Some(unit) => self.connects(unit, None).await,
            None => Ok(()),
        }
    }

    fn at(&mut self, days_ago: u32) -> &mut Self {
        self.clock.set(self.now - Span::days(days_ago));
        self
    }

    fn request_id(&mut self) -> String {
        self.requests += 1;
        self.requests.to_string()
    }

    async fn sign_in(&self, name: &str, one_time_password: &str) -> Result<String, CommandError> {
        let request = api::SignInRequest { name: name.to_owned(), password: one_time_password.to_owned() };
        let token = self.backend.sign_in(Request::new(request)).await?.into_inner().token;
        let (old_password, new_password) = (one_time_password.to_owned(), PASSWORD.to_owned());
        let request = api::ChangePasswordRequest { old_password, new_password, ..Default::default() };
        self.backend.change_password(with(&token, request)?).await?;
        Ok(token)
    }

    async fn security_admin(&mut self, owner: &str, name: &str) -> Result<String, CommandError> {
        let request = api::CreateAccountRequest {
            request_id: self.request_id(),
            name: name.to_owned(),
            role: api::AccountRole::SecurityAdmin.into(),
            customer: String::new(),
        };
        let made = self.backend.create_account(with(owner, request)?).await?.into_inner();
        self.sign_in(name, &made.one_time_password).await
    }

    async fn license(&mut self, owner: &str, license: api::NewLicense) -> Result<String, CommandError> {
        let request = api::CreateLicenseRequest { request_id: self.request_id(), license: Some(license) };
        Ok(self.backend.create_license(with(owner, request)?).await?.into_inner().license_key)
    }

    async fn site_license(&mut self, owner: &str, site: &Site) -> Result<String, CommandError> {
        let expires_at = self.now + Span::from_nanos(i128::from(site.expires_in) * Span::SECOND.nanos());
        let license = api::NewLicense {
            license_id: site.subscription.to_owned(),
            // Each site has a subscription of its own; licences for one product would pool.
            product: format!("ESET Secure Authentication, {}", site.place),
            name: format!("{} office", site.place),
            seats: 150,
            expires_at: wire::timestamp(expires_at),
            all_users_limit: 1_000,
            components_limit: 50,
            sms_credits: Some(site.sms_credits),
            ..Default::default()
        };
        self.license(owner, license).await
    }

    /// The licences of the Prague office's computers, delegated to both security admins; the key of the endpoints'.
    async fn computer_licenses(
        &mut self,
        owner: &str,
        admins: [(&str, &String); 2],
    ) -> Result<String, CommandError> {
        let mut keys = Vec::new();
        for (id, product, seats, days) in [
            (ENDPOINT, "ESET Endpoint Security", 40, 300),
            (MAIL, "ESET Mail Security", 20, 20),
            (SERVER, "ESET Server Security", 20, 300),
        ] {
            let license = api::NewLicense {
                license_id: id.to_owned(),
                product: product.to_owned(),
                name: "Prague computers".to_owned(),
                seat_kind: api::SeatKind::Units.into(),
                seats,
                expires_at: wire::timestamp(self.now + Span::days(days)),
                attributes: [("cost center".to_owned(), "4711".to_owned())].into(),
                ..Default::default()
            };
            keys.push(self.license(owner, license).await?);
            for (account, token) in admins {
                let (license_id, account) = (id.to_owned(), account.to_owned());
                let request_id = self.request_id();
                let request = api::DelegateLicenseRequest { request_id, license_id, account };
                self.backend.delegate_license(with(owner, request)?).await?;
                let (request_id, license_id) = (self.request_id(), id.to_owned());
                let request = api::AcceptLicenseRequest { request_id, license_id };
                self.backend.accept_license(with(token, request)?).await?;
            }
        }
        Ok(keys.into_iter().next().unwrap_or_default())
    }

    /// Activates a site's authentication server, whose credential the sidecar goes on with.
    async fn server(&mut self, site: &Site, key: &str) -> Result<Activated, CommandError> {
        let name = format!("esa-{}", site.place.to_lowercase());
        let activated = self.activated(None, "", key, &name).await?;
        let unit = Unit {
            unit_id: activated.id.clone(),
            secret: activated.secret.clone(),
            secret_since: Some(self.clock.now()),
            next_secret: None,
            subscription_id: site
                .subscription
                .parse()
                .map_err(|_| CommandError::new("the sample company is misspelt"))?,
            installation: String::new(),
            purpose: Purpose::of(key, &name, ""),
            product_version: ESA_VERSION.to_owned(),
        };
        self.units.change(|units| units.finish(unit))?;
        Ok(activated)
    }

    /// Activates a unit with an account, or by licence key.
    async fn activated(
        &mut self,
        account: Option<&str>,
        license: &str,
        key: &str,
        device_name: &str,
    ) -> Result<Activated, CommandError> {
        let purpose = Purpose::of(key, device_name, "");
        let secret = self.units.change(|units| {
            let begun = units.begin(&purpose, "");
            units.give_up(&purpose);
            begun
        })??;
        let secret = secret.secret;
        let request = api::ActivateUnitRequest {
            request_id: self.request_id(),
            license_key: if account.is_none() { key.to_owned() } else { String::new() },
            license_id: license.to_owned(),
            device_name: device_name.to_owned(),
            product_version: if license.is_empty() { ESA_VERSION } else { "12.0.2045.0" }.to_owned(),
            subunits: if license == MAIL { 120 } else { 0 },
            from_remote_management: !license.is_empty() && account.is_some(),
            secret_sha256: secret.sha256(),
            ..Default::default()
        };
        let request = match account {
            Some(token) => with(token, request)?,
            None => Request::new(request),
        };
        let unit = self.backend.activate_unit(request).await?.into_inner().unit.unwrap_or_default();
        Ok(Activated { token: secret.token(&unit.unit_id), id: unit.unit_id, secret })
    }

    async fn suspend(&mut self, owner: &str, id: &str, state: api::LicenseState) -> Result<(), CommandError> {
        let (request_id, license_id) = (self.request_id(), id.to_owned());
        let request = api::SuspendLicenseRequest { request_id, license_id, state: state.into() };
        self.backend.suspend_license(with(owner, request)?).await?;
        Ok(())
    }

    /// A unit connects; an authentication server reports what it counts, and that the SMS it had were sent.
    async fn connects(&mut self, unit: &Activated, site: Option<&Site>) -> Result<(), CommandError> {
        let usage = site.map(|site| api::Usage {
            installation: String::new(),
            counts: Some(api::Counts {
                active_users: Some(site.users),
                all_users: Some(400),
                components: Some(10),
                counted_at: None,
            }),
            sms_sent: if site.sms_credits < 10 {
                vec![api::SmsSent { id: "all of them".to_owned(), credits: 3 }]
            } else {
                Vec::new()
            },
        });
        let request = api::SyncRequest {
            unit: Some(api::SyncingUnit { unit_id: unit.id.clone(), ..Default::default() }),
            usage,
            nonce: vec![0; 16],
            subscription_id: String::new(),
            ..Default::default()
        };
        self.backend.sync(with(&unit.token, request)?).await?;
        Ok(())
    }
}

/// A request with a credential.
fn with<T>(token: &str, message: T) -> Result<Request<T>, CommandError> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    Ok(request)
}
