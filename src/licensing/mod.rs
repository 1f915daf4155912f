//! The licensing backend: licences, units, accounts, and the facts that follow for every subscription.
//!
//! The authority behind the sidecar. The sidecar that runs in the same process goes through the same door as any
//! other. Every change is one transaction with its entries in the audit log; what several replicas have to agree on is in
//! the database and nowhere else. Not here: the rules themselves (see `domain`).

mod accounts;
mod actor;
mod archive;
mod attempts;
mod audit;
mod authority;
mod caller;
mod change;
mod credentials;
mod delegation;
mod issue;
mod keys;
mod licenses;
mod open;
mod passwords;
mod probation;
mod proven;
mod reading;
mod refusal;
mod scopes;
mod service;
mod sessions;
mod sign_in;
mod sms;
pub mod store;
mod subscriptions;
mod sync;
mod token;
mod turns;
mod units;
mod usage;
mod watch;
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::AnyPool;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request,
    service::{Routes, RoutesBuilder, interceptor::InterceptedService},
};

pub use self::{
    accounts::FIRST_ACCOUNT,
    open::{Anew, OpenError, Opened},
    refusal::{DOMAIN, Refusal},
};
use self::{
    attempts::Attempts,
    passwords::Passwords,
    reading::RecentCustomers,
    sessions::Uses,
    sign_in::{SignInKey, Throttle},
    store::{Store, StoreError},
    turns::Turns,
    watch::{Hub, Places},
};
use crate::{
    clock::Clock,
    config,
    proto::licensing::{
        account_service_server::AccountServiceServer, audit_service_server::AuditServiceServer,
        license_service_server::LicenseServiceServer, sync_service_server::SyncServiceServer,
        unit_service_server::UnitServiceServer,
    },
    signing::SigningKeys,
};

/// The backend; a clone shares everything.
#[derive(Clone)]
pub struct Backend {
    store: Store,
    clock: Arc<dyn Clock>,
    keys: Arc<SigningKeys>,
    settings: Arc<config::Backend>,
    passwords: Passwords,
    throttle: Throttle,
    sign_in_key: SignInKey,
    attempts: Arc<Attempts>,
    uses: Arc<Uses>,
    turns: Arc<Turns>,
    recent: Arc<RecentCustomers>,
    /// The backend's own customer, once it was read.
    own_customer: Arc<OnceCell<String>>,
    hub: Arc<Hub>,
    places: Arc<Places>,
    /// The latest instant this replica signed facts by, as it is kept.
    newest_signed: Arc<AtomicI64>,
    /// The database does not answer.
    away: Arc<AtomicBool>,
    stop: CancellationToken,
}

/// How often it is tried whether the database takes writes, while it does.
const WRITE_EVERY: Duration = Duration::from_secs(30);

impl Backend {
    /// A backend on an open database. Watches end with `stop`.
    #[must_use]
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        keys: Arc<SigningKeys>,
        settings: config::Backend,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store,
            clock,
            keys,
            passwords: Passwords::new(settings.passwords_at_a_time, settings.passwords_waiting),
            throttle: Throttle::new(settings.sign_in_attempts, settings.sign_in_lock),
            sign_in_key: SignInKey::default(),
            attempts: Arc::default(),
            uses: Arc::default(),
            turns: Arc::default(),
            recent: Arc::default(),
            own_customer: Arc::default(),
            hub: Arc::default(),
            places: Places::new(settings.watches),
            newest_signed: Arc::new(AtomicI64::new(i64::MIN)),
            settings: Arc::new(settings),
            away: Arc::default(),
            stop,
        }
    }

    /// Does what is to be done without being asked, until it stops: what time changes, what watchers wait for, what was left
    /// out of the audit log, and which sign-ins failed.
    pub async fn run(self) {
        let stop = self.stop.clone();
        let keys = self.clone().reload_keys(stop.clone());
        let attempts = self.clone().count_attempts(stop.clone());
        let failures = self.clone().share_failures(stop.clone());
        tokio::join!(self.clone().turn(stop.clone()), self.tell_watchers(stop), keys, attempts, failures);
    }

    /// Its services.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let most = self.settings.request_bytes;
        let mut routes = RoutesBuilder::default();
        let away = Arc::clone(&self.away);
        // Each of them would wait for a connection, some more than once.
        let unless_away = move |request: Request<()>| {
            if away.load(Ordering::Relaxed) { Err(Refusal::Deaf.into()) } else { Ok(request) }
        };
        macro_rules! with {
            ($server:ident) => {
                InterceptedService::new(
                    $server::new(self.clone()).max_decoding_message_size(most),
                    unless_away.clone(),
                )
            };
        }
        routes
            .add_service(with!(SyncServiceServer))
            .add_service(with!(UnitServiceServer))
            .add_service(with!(LicenseServiceServer))
            .add_service(with!(AccountServiceServer))
            .add_service(with!(AuditServiceServer));
        routes.routes()
    }

    /// The keys it signs with.
    #[must_use]
    pub fn keys(&self) -> &Arc<SigningKeys> {
        &self.keys
    }

    /// Follows whether the database can be used, and tells of an outage once when it begins and once when it ends. While
    /// the database does not answer, calls are refused at once.
    pub async fn follow(&self, tell: impl Fn(bool)) {
        let (mut began, mut written) = (None::<Instant>, None::<Instant>);
        loop {
            let is_due = written.is_none_or(|at: Instant| WRITE_EVERY <= at.elapsed());
            let writes = self.store.take_suspicion() || began.is_some() || is_due;
            match (self.store.check(writes).await, began) {
                (Ok(()), before) => {
                    if let Some(began) = before {
                        tracing::info!("the database can be used again, after {:?}", began.elapsed());
                    }
                    began = None;
                    written = if writes { Some(Instant::now()) } else { written };
                    self.away.store(false, Ordering::Relaxed);
                    tell(true);
                }
                (Err(outage), before) => {
                    if before.is_none() {
                        tracing::error!(
                            "the database cannot be used, and this backend is not ready: {outage}"
                        );
                        began = Some(Instant::now());
                    }
                    self.away.store(!outage.answers, Ordering::Relaxed);
                    tell(false);
                }
            }
            tokio::time::sleep(self.settings.poll_interval).await;
        }
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// The customer of a licence.
    async fn customer_of(&self, from: &AnyPool, license_id: &str) -> Result<Option<String>, StoreError> {
        use sqlx::Row as _;
        let row =
            sqlx::query("SELECT customer_id FROM licenses WHERE license_id = $1").bind(license_id.to_owned());
        let row = row.fetch_optional(from).await?;
        Ok(row.map(|row| row.try_get("customer_id")).transpose()?)
    }

    /// Takes up keys that were rotated while this runs.
    async fn reload_keys(self, stop: CancellationToken) {
        let look = async {
            loop {
                tokio::time::sleep(self.settings.poll_interval).await;
                match self.keys.refresh_if_changed() {
                    Ok(true) => tracing::info!("the signing keys were rotated"),
                    Ok(false) => {}
                    Err(error) => tracing::error!("the signing keys were not read again: {error}"),
                }
            }
        };
        stop.run_until_cancelled(look).await;
    }
}
