//! A licensing backend in this process, behind real sockets, with a clock turned by hand; and the people who use it.
//!
//! PostgreSQL is the server that `ESA_SIDECAR_TEST_POSTGRES` names (`tests/postgres start DIR` starts one and prints
//! it); each test has a database of its own there. With two replicas every call goes to the other one than the last.

use std::{
    env, fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use esa_sidecar::{
    clock::{Clock as _, ManualClock},
    config::{self, Config},
    domain::{Instant, Span},
    licensing::{
        Backend,
        store::{Database, Store},
    },
    proto::licensing::{
        self as api, account_service_client::AccountServiceClient,
        account_service_server::AccountService as _, audit_service_client::AuditServiceClient,
        license_service_client::LicenseServiceClient, sync_service_client::SyncServiceClient,
        unit_service_client::UnitServiceClient,
    },
    signing::{SigningKeys, TrustedKeys, VerifiedFacts},
};
use prost_types::Timestamp;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::interceptor::InterceptedService,
    transport::{
        Channel, Endpoint, Server,
        server::{TcpConnectInfo, TcpIncoming},
    },
};
use tonic_types::StatusExt as _;

use crate::sidecar::START;

/// Where the backend keeps its data, and how many of it there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Sqlite,
    Postgres,
    Replicas,
}

/// A backend and its first owner, who has chosen a password.
pub(crate) struct Office {
    pub(crate) clock: ManualClock,
    /// The first owner's token.
    pub(crate) owner: String,
    /// What the first owner was told to sign in with first.
    pub(crate) one_time_password: String,
    pub(crate) database: Database,
    pub(crate) keys: Arc<SigningKeys>,
    channels: Vec<Channel>,
    backends: Vec<Backend>,
    next: AtomicUsize,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

/// Puts a bearer token on each call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<tonic::metadata::Ascii>>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

pub(crate) type With<C> = InterceptedService<C, Bearer>;

/// The password of every account of a test.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

impl Office {
    pub(crate) async fn open(on: On) -> Self {
        Self::open_with(on, |_| {}).await
    }

    /// With other settings than the usual ones.
    pub(crate) async fn open_with(on: On, set: impl FnOnce(&mut config::Backend)) -> Self {
        Self::open_prepared(on, "", set).await
    }

    /// The same, on a PostgreSQL database that `prepare` (SQL) has made a special one.
    pub(crate) async fn open_prepared(
        on: On,
        prepare: &'static str,
        set: impl FnOnce(&mut config::Backend),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = match on {
            On::Sqlite => Database::Sqlite(folder.path().join("with a space/licensing.db")),
            On::Postgres | On::Replicas if prepare.is_empty() => {
                new_database_with_schema().await.parse().unwrap()
            }
            On::Postgres | On::Replicas => new_database(prepare).await.parse().unwrap(),
        };
        let replicas = if on == On::Replicas { 2 } else { 1 };
        let keys = Arc::new(SigningKeys::open(&folder.path().join("keys")).unwrap());
        let (clock, stop) = (ManualClock::at(START), CancellationToken::new());
        let mut settings = settings();
        set(&mut settings);
        let (mut channels, mut backends) = (Vec::new(), Vec::new());
        let mut one_time_password = None;
        for _ in 0..replicas {
            let store = Store::open(database.clone(), settings.connections).await.unwrap();
            let (keys, clock) = (Arc::clone(&keys), Arc::new(clock.clone()));
            let backend = Backend::new(store, clock, keys, settings.clone(), stop.clone());
            one_time_password = one_time_password.or(backend.first_owner(false).await.unwrap());
            backends.push(backend.clone());
            channels.push(serve(backend, stop.clone()).await);
        }
        let one_time_password = one_time_password.expect("the first start makes an owner");
        let owner = String::new();
        let mut office = Self {
            clock,
            owner,
            one_time_password,
            database,
            keys,
            channels,
            backends,
            next: AtomicUsize::new(0),
            stop,
            _folder: folder,
        };
        office.owner = office.first_sign_in("owner", &office.one_time_password).await;
        office
    }

    /// Another replica on the same database, which takes no calls.
    pub(crate) async fn beside(&self) -> Backend {
        self.beside_with(|_| {}).await
    }

    async fn beside_with(&self, set: impl FnOnce(&mut config::Backend)) -> Backend {
        let mut settings = settings();
        set(&mut settings);
        let store = Store::open(self.database.clone(), 4).await.unwrap();
        let (keys, clock) = (Arc::clone(&self.keys), Arc::new(self.clock.clone()));
        Backend::new(store, clock, keys, settings, self.stop.clone())
    }

    /// From now on all calls go to another replica, with settings of its own.
    pub(crate) async fn replace_with(&mut self, set: impl FnOnce(&mut config::Backend)) {
        self.channels = vec![serve(self.beside_with(set).await, self.stop.clone()).await];
    }

    /// How many there are.
    pub(crate) fn replicas(&self) -> usize {
        self.channels.len()
    }

    /// Lets the database (PostgreSQL) take connections, or not, not even those it has.
    pub(crate) async fn reachable(&self, reachable: bool) {
        let Database::Postgres(postgres) = &self.database else { panic!("a file is always there") };
        let shown = postgres.to_string();
        let name = name_of(&shown);
        let mut connection = sqlx::PgConnection::connect(&server()).await.unwrap();
        for sql in [
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {reachable}"),
            format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE NOT {reachable} AND datname = '{name}'"
            ),
        ] {
            connection.execute(AssertSqlSafe(sql)).await.unwrap();
        }
    }

    /// One of the replicas itself, for calls that are made past its listener.
    pub(crate) fn backend(&self) -> &Backend {
        &self.backends[self.next.fetch_add(1, Ordering::Relaxed) % self.backends.len()]
    }

    /// Stops every replica, as its operator would.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// A connection to the database behind the backend's back.
    pub(crate) async fn behind(&self) -> sqlx::AnyConnection {
        let url = match &self.database {
            Database::Sqlite(path) => format!("sqlite://{}", path.display().to_string().replace(' ', "%20")),
            Database::Postgres(postgres) => postgres.driver_url(None),
        };
        sqlx::AnyConnection::connect(&url).await.unwrap()
    }

    /// What a statement of the test's own makes of the database.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        self.behind().await.execute(AssertSqlSafe(sql.to_owned())).await.map(drop)
    }

    /// Until somebody on PostgreSQL waits for what another holds.
    pub(crate) async fn until_one_waits(&self) {
        self.until_wait(1).await;
    }

    /// Until so many do.
    pub(crate) async fn until_wait(&self, count: i64) {
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waits = async { while self.numbers(waiting).await[0] < count {} };
        tokio::time::timeout(Duration::from_secs(60), waits).await.expect("somebody comes to wait");
    }

    /// The numbers of the first row of a statement of the test's own.
    pub(crate) async fn numbers(&self, sql: &str) -> Vec<i64> {
        let row =
            sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.behind().await).await.unwrap();
        (0..row.len())
            .map(|column| row.try_get::<Option<i64>, _>(column).unwrap().unwrap_or_default())
            .collect()
    }

    /// Everything the database holds, as text.
    pub(crate) async fn everything(&self) -> String {
        if let Some(path) = sqlite_path(&self.database) {
            let read = |end: &str| fs::read(format!("{}{end}", path.display())).unwrap_or_default();
            return String::from_utf8_lossy(&[read(""), read("-wal")].concat()).into_owned();
        }
        let mut text = String::new();
        for table in TABLES {
            let sql = AssertSqlSafe(format!("SELECT CAST(t.* AS TEXT) AS row FROM {table} t"));
            for row in sqlx::query(sql).fetch_all(&mut self.behind().await).await.unwrap() {
                text += &row.try_get::<String, _>("row").unwrap();
            }
        }
        text
    }

    fn channel(&self) -> Channel {
        self.channels[self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len()].clone()
    }

    fn with(&self, token: &str) -> With<Channel> {
        let token = Some(token).filter(|token| !token.is_empty());
        let bearer = token.map(|token| format!("Bearer {token}").parse().unwrap());
        InterceptedService::new(self.channel(), Bearer(bearer))
    }

    pub(crate) fn units(&self, token: &str) -> UnitServiceClient<With<Channel>> {
        UnitServiceClient::new(self.with(token))
    }

    pub(crate) fn licenses(&self, token: &str) -> LicenseServiceClient<With<Channel>> {
        LicenseServiceClient::new(self.with(token))
    }

    pub(crate) fn accounts(&self, token: &str) -> AccountServiceClient<With<Channel>> {
        AccountServiceClient::new(self.with(token))
    }

    pub(crate) fn audit(&self, token: &str) -> AuditServiceClient<With<Channel>> {
        AuditServiceClient::new(self.with(token))
    }

    pub(crate) fn sync(&self, token: &str) -> SyncServiceClient<With<Channel>> {
        SyncServiceClient::new(self.with(token))
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Signs in.
    pub(crate) async fn sign_in(&self, name: &str, password: &str) -> Result<String, Status> {
        let request = api::SignInRequest { name: name.to_owned(), password: password.to_owned() };
        Ok(self.accounts("").sign_in(request).await?.into_inner().token)
    }

    /// Signs in from an address that is not this machine's.
    pub(crate) async fn sign_in_from(
        &self,
        address: &str,
        name: &str,
        password: &str,
    ) -> Result<String, Status> {
        let request = api::SignInRequest { name: name.to_owned(), password: password.to_owned() };
        let mut request = Request::new(request);
        let remote_addr = Some(format!("{address}:1").parse().unwrap());
        request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr });
        Ok(self.backend().sign_in(request).await?.into_inner().token)
    }

    /// Signs in for the first time and chooses `PASSWORD`.
    pub(crate) async fn first_sign_in(&self, name: &str, one_time_password: &str) -> String {
        let token = self.sign_in(name, one_time_password).await.unwrap();
        let change = api::ChangePasswordRequest {
            request_id: unique(),
            old_password: one_time_password.to_owned(),
            new_password: PASSWORD.to_owned(),
        };
        self.accounts(&token).change_password(change).await.unwrap();
        token
    }

    /// Makes an account and signs it in.
    pub(crate) async fn account(
        &self,
        by: &str,
        name: &str,
        role: api::AccountRole,
        customer: &str,
    ) -> String {
        let request = api::CreateAccountRequest {
            request_id: unique(),
            name: name.to_owned(),
            role: role.into(),
            customer: customer.to_owned(),
        };
        let made = self.accounts(by).create_account(request).await.unwrap().into_inner();
        let customer = made.account.unwrap().customer;
        self.first_sign_in(&format!("{name}@{customer}"), &made.one_time_password).await
    }

    /// Makes a security admin of the first customer.
    pub(crate) async fn admin(&self, name: &str) -> String {
        self.account(&self.owner, name, api::AccountRole::SecurityAdmin, "").await
    }

    /// Issues a licence to the first customer; its ID and key.
    pub(crate) async fn license(&self, license: api::NewLicense) -> (String, String) {
        let request = api::CreateLicenseRequest { request_id: unique(), license: Some(license) };
        let made = self.licenses(&self.owner).create_license(request).await.unwrap().into_inner();
        (made.license.unwrap().license_id, made.license_key)
    }

    /// Makes a customer and its owner, by the first owner; the new owner's token.
    pub(crate) async fn customer(&self, name: &str, owner: &str) -> String {
        self.account(&self.owner, owner, api::AccountRole::Owner, name).await
    }

    /// A licence as `token` sees it.
    pub(crate) async fn seen(&self, token: &str, license_id: &str) -> Result<api::License, Status> {
        let request = api::GetLicenseRequest { license_id: license_id.to_owned() };
        Ok(self.licenses(token).get_license(request).await?.into_inner().license.unwrap())
    }

    /// Changes attributes of a licence.
    pub(crate) async fn update(
        &self,
        license_id: &str,
        license: api::NewLicense,
        paths: &[&str],
    ) -> Result<api::License, Status> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let request = api::UpdateLicenseRequest {
            request_id: unique(),
            license_id: license_id.to_owned(),
            license: Some(license),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        Ok(self.licenses(&self.owner).update_license(request).await?.into_inner().license.unwrap())
    }

    /// Suspends, cancels or deactivates a licence.
    pub(crate) async fn suspend(
        &self,
        license_id: &str,
        state: api::LicenseState,
    ) -> Result<api::License, Status> {
        let request = api::SuspendLicenseRequest {
            request_id: unique(),
            license_id: license_id.to_owned(),
            state: state.into(),
        };
        Ok(self.licenses(&self.owner).suspend_license(request).await?.into_inner().license.unwrap())
    }

    /// Resumes a licence.
    pub(crate) async fn resume(&self, license_id: &str) -> Result<api::License, Status> {
        let request = api::ResumeLicenseRequest { request_id: unique(), license_id: license_id.to_owned() };
        Ok(self.licenses(&self.owner).resume_license(request).await?.into_inner().license.unwrap())
    }

    /// Renews a licence.
    pub(crate) async fn renew(&self, license_id: &str, until: Instant) -> Result<api::License, Status> {
        let request = api::RenewLicenseRequest {
            request_id: unique(),
            license_id: license_id.to_owned(),
            expires_at: timestamp(until),
        };
        Ok(self.licenses(&self.owner).renew_license(request).await?.into_inner().license.unwrap())
    }

    /// Entries of the audit log that `token` may read, oldest first.
    pub(crate) async fn entries(&self, token: &str) -> Vec<api::AuditEntry> {
        let mut entries = Vec::new();
        let mut request = api::ListAuditEntriesRequest { page_size: 1_000, ..Default::default() };
        loop {
            let page = self.audit(token).list_audit_entries(request.clone()).await.unwrap().into_inner();
            entries.extend(page.entries);
            if page.next_page_token.is_empty() {
                return entries;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Delegates a licence and has it accepted.
    pub(crate) async fn delegate(&self, license_id: &str, account: &str, token: &str) {
        let request = api::DelegateLicenseRequest {
            request_id: unique(),
            license_id: license_id.to_owned(),
            account: account.to_owned(),
        };
        self.licenses(&self.owner).delegate_license(request).await.unwrap();
        let request = api::AcceptLicenseRequest { request_id: unique(), license_id: license_id.to_owned() };
        self.licenses(token).accept_license(request).await.unwrap();
    }

    /// Activates a unit by account (`token`) or, without one, by licence key.
    pub(crate) async fn activate(
        &self,
        token: &str,
        license: &str,
        device: &str,
    ) -> Result<Activated, Status> {
        let secret = format!("the secret of {device}, {}", unique());
        let by_key = token.is_empty();
        let request = api::ActivateUnitRequest {
            request_id: unique(),
            license_key: if by_key { license.to_owned() } else { String::new() },
            license_id: if by_key { String::new() } else { license.to_owned() },
            device_name: device.to_owned(),
            product_version: "3.0.81.0".to_owned(),
            secret_sha256: esa_sidecar::sha256::hex(secret.as_bytes()),
            ..Default::default()
        };
        let unit = self.units(token).activate_unit(request).await?.into_inner().unit.unwrap();
        Ok(Activated { token: format!("esau_{}_{secret}", unit.unit_id), id: unit.unit_id.clone(), unit })
    }

    /// Deactivates units; the result of each.
    pub(crate) async fn deactivate(&self, token: &str, ids: &[&str]) -> Vec<api::DeactivatedUnit> {
        let unit_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let request = api::DeactivateUnitsRequest { request_id: unique(), unit_ids };
        self.units(token).deactivate_units(request).await.unwrap().into_inner().results
    }

    /// A unit's sync; the facts it is told, verified.
    pub(crate) async fn synced(&self, unit: &Activated, usage: Option<api::Usage>) -> VerifiedFacts {
        let nonce = unique().into_bytes();
        let request = api::SyncRequest {
            unit: Some(api::SyncingUnit { unit_id: unit.id.clone(), ..Default::default() }),
            usage,
            nonce: nonce.clone(),
            subscription_id: String::new(),
            ..Default::default()
        };
        let told = self.sync(&unit.token).sync(request).await.unwrap().into_inner().facts.unwrap();
        let verified = TrustedKeys::of(self.keys.public_keys()).unwrap().verify(&told).unwrap();
        assert_eq!((&verified.nonce, &verified.unit_id), (&nonce, &unit.id));
        verified
    }

    /// Every unit the caller sees, in any state.
    pub(crate) async fn all_units(&self, token: &str) -> Vec<api::Unit> {
        let mut units = Vec::new();
        let mut request =
            api::ListUnitsRequest { page_size: 1_000, states: vec![1, 2, 3], ..Default::default() };
        loop {
            let page = self.units(token).list_units(request.clone()).await.unwrap().into_inner();
            units.extend(page.units);
            if page.next_page_token.is_empty() {
                return units;
            }
            request.page_token = page.next_page_token;
        }
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A unit and its credential.
#[derive(Clone, Debug)]
pub(crate) struct Activated {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) unit: api::Unit,
}

/// A licence of 100 seats for users, valid for a year.
pub(crate) fn a_license() -> api::NewLicense {
    api::NewLicense { seats: 100, expires_at: timestamp(START + Span::days(365)), ..Default::default() }
}

/// A report of active users by one installation, counted now.
pub(crate) fn users(installation: &str, active: u64, at: Instant) -> Option<api::Usage> {
    let counts = api::Counts { active_users: Some(active), counted_at: timestamp(at), ..Default::default() };
    Some(api::Usage { installation: installation.to_owned(), counts: Some(counts), sms_sent: Vec::new() })
}

pub(crate) fn timestamp(at: Instant) -> Option<Timestamp> {
    esa_sidecar::wire::timestamp(at)
}

/// The stable reason of a refusal.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Every table of the backend.
pub(crate) const TABLES: [&str; 18] = [
    "customers",
    "accounts",
    "sign_in_addresses",
    "sign_in_failures",
    "sign_in_key",
    "sessions",
    "api_credentials",
    "subscriptions",
    "licenses",
    "delegations",
    "units",
    "installations",
    "sms_sent",
    "unit_syncs",
    "requests",
    "audit",
    "audit_archives",
    "authority",
];

const LONG: Duration = Duration::from_hours(24 * 10_000);

/// A few wrong passwords make the next wait, and nobody's session ends.
fn settings() -> config::Backend {
    let settings = Config::read(None, Vec::new()).unwrap().backend;
    config::Backend { sign_in_attempts: 3, session_time: LONG, session_idle: LONG, ..settings }
}

/// A text nobody has used before.
pub(crate) fn unique() -> String {
    uuid::Uuid::now_v7().to_string()
}

async fn serve(backend: Backend, stop: CancellationToken) -> Channel {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let routes = backend.routes();
    tokio::spawn(backend.run());
    tokio::spawn(
        Server::builder().add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled_owned()),
    );
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// A database of the test's own on the PostgreSQL server of this run, with nothing in it but what `prepare` (SQL) makes;
/// its URL.
pub(crate) async fn new_database(prepare: &'static str) -> String {
    let url = database_like("template1").await;
    sqlx::PgConnection::connect(&url).await.unwrap().execute(prepare).await.unwrap();
    url
}

/// The same, with the schema in it.
async fn new_database_with_schema() -> String {
    let mut connection = sqlx::PgConnection::connect(&server()).await.unwrap();
    // The first test that comes makes it, and those of other processes wait.
    connection.execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let made = "SELECT 1 FROM pg_database WHERE datname = 'with_schema'";
    if connection.fetch_optional(made).await.unwrap().is_none() {
        let url = database_like("template1").await;
        Store::open(url.parse().unwrap(), 1).await.unwrap().close().await;
        let rename = format!("ALTER DATABASE {} RENAME TO with_schema", name_of(&url));
        connection.execute(AssertSqlSafe(rename)).await.unwrap();
    }
    connection.execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    database_like("with_schema").await
}

fn server() -> String {
    env::var("ESA_SIDECAR_TEST_POSTGRES").expect(
        "ESA_SIDECAR_TEST_POSTGRES names no PostgreSQL server: run tests/run, or `tests/postgres start DIR`",
    )
}

/// A copy of `template`; its URL.
async fn database_like(template: &str) -> String {
    let server = server();
    let name = format!("test_{}", uuid::Uuid::now_v7().simple());
    let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
    let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
    connection.execute(AssertSqlSafe(create)).await.unwrap();
    let (place, options) = server.split_once("/postgres?").expect("a URL of the database `postgres`");
    format!("{place}/{name}?{options}")
}

/// The name of the database at `url`.
fn name_of(url: &str) -> &str {
    let place = url.split_once('?').map_or(url, |(place, _)| place);
    place.rsplit_once('/').expect("a path").1
}

/// Where a test's files are, for those that open the database themselves.
pub(crate) fn sqlite_path(database: &Database) -> Option<PathBuf> {
    match database {
        Database::Sqlite(path) => Some(path.clone()),
        Database::Postgres(_) => None,
    }
}
