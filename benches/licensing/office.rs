//! A licensing backend in a process of its own, with an empty database, and its first owner signed in.
//!
//! Not here: what is in the database (see `fill`).

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    num::NonZeroUsize,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use esa_sidecar::{
    clock::{Clock as _, SystemClock},
    config::Config,
    domain::Span,
    edge::{
        address::ListenAddress,
        listener::{Listener, Opening},
    },
    health::Monitor,
    licensing::{Anew, FIRST_ACCOUNT, Opened, store::Database},
    proto::licensing::{
        self as api, account_service_client::AccountServiceClient,
        license_service_client::LicenseServiceClient, sync_service_client::SyncServiceClient,
        unit_service_client::UnitServiceClient,
    },
    server::{self, LicensingListeners, Vitals},
    signing::{SigningKeys, TrustedKeys},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// A backend that runs, and its owner.
pub(crate) struct Office {
    pub(crate) database: Database,
    folder: tempfile::TempDir,
    process: Child,
    address: String,
    channel: Channel,
    owner: String,
    /// The PostgreSQL server, and the database on it.
    server: Option<(String, String)>,
}

/// Puts a bearer token on each call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

type With = InterceptedService<Channel, Bearer>;

/// Is the backend: says where it listens and its owner's password, and ends with its input.
pub(crate) async fn serve(folder: PathBuf, database: Option<String>) {
    let mut config = Config::read(None, Vec::new()).unwrap();
    config.backend.database = database.map(|named| named.parse().unwrap());
    // All of them are at one address.
    config.limits.caller_percent = 100;
    let (stop, clock) = (CancellationToken::new(), Arc::new(SystemClock::new()));
    let opened =
        Opened::at(&folder, config.backend.clone(), clock, stop.clone(), Anew::default()).await.unwrap();
    let opening = Opening { queues: NonZeroUsize::MIN, mode: 0o600, owner: None };
    let listener = Listener::open(&ListenAddress::loopback(0), opening).await.unwrap();
    println!("{} {}", listener.address(), opened.one_time_password.unwrap());
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        stop.cancel();
    });
    let stop = CancellationToken::new();
    let run = server::run_licensing(
        config,
        opened.backend,
        LicensingListeners { licensing: listener, tls: None, beside: None, probes: None },
        Vitals { monitor: Monitor::of_backend(), ..Vitals::default() },
        stop,
    );
    run.await.unwrap();
}

impl Office {
    /// Opens one on a new database of the PostgreSQL server `server`, or on SQLite.
    pub(crate) async fn open(server: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
        let mut named = None;
        if let Some(server) = server {
            execute(server, &format!("CREATE DATABASE {name}")).await;
            let (place, options) = server.split_once("/postgres?").unwrap();
            named = Some(format!("{place}/{name}?{options}"));
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--serve").arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(database) = &named {
            command.arg("--database").arg(database);
        }
        let mut process = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let (address, password) = said.trim().split_once(' ').unwrap();
        let address = format!("http://{address}");
        let file = || Database::Sqlite(folder.path().join("licensing/licensing.db"));
        let database = named.map_or_else(file, |named| named.parse().unwrap());
        let channel = connect(&address).await;
        let owner = sign_in(&channel, password).await;
        let server = server.map(|server| (server.to_owned(), name));
        Self { database, folder, process, address, channel, owner, server }
    }

    /// Ends it, and its database.
    pub(crate) async fn close(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        if let Some((server, name)) = &self.server {
            execute(server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Channel {
        connect(&self.address).await
    }

    pub(crate) fn units(&self) -> UnitServiceClient<With> {
        UnitServiceClient::new(with(&self.channel, &self.owner))
    }

    pub(crate) fn licenses(&self) -> LicenseServiceClient<With> {
        LicenseServiceClient::new(with(&self.channel, &self.owner))
    }

    /// Licences, spread over products; the ID of each.
    pub(crate) async fn import(&self, licenses: i64, products: i64) -> Vec<String> {
        let expires_at = esa_sidecar::wire::timestamp(SystemClock::new().now() + Span::days(365));
        let new = |number: i64| api::NewLicense {
            product: format!("product {:05}", number % products),
            name: format!("license {number}"),
            seats: 100_000_000,
            expires_at,
            ..Default::default()
        };
        let all = (0..licenses).map(new).collect::<Vec<_>>();
        let mut ids = Vec::new();
        for (part, licenses) in all.chunks(1_000).enumerate() {
            let request = api::ImportLicensesRequest {
                request_id: format!("import {part}"),
                licenses: licenses.to_vec(),
            };
            let made = self.licenses().import_licenses(request).await.unwrap().into_inner();
            ids.extend(made.licenses.into_iter().map(|made| made.license.unwrap().license_id));
        }
        ids
    }

    /// Changes how many seats a licence has, which changes the facts of its subscription.
    pub(crate) async fn resize(&self, license_id: &str, seats: u64) {
        let request = api::UpdateLicenseRequest {
            request_id: format!("{license_id} {seats}"),
            license_id: license_id.to_owned(),
            license: Some(api::NewLicense { seats, ..Default::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["seats".to_owned()] }),
        };
        self.licenses().update_license(request).await.unwrap();
    }

    /// What a sidecar would trust.
    pub(crate) fn trusted(&self) -> TrustedKeys {
        let keys = SigningKeys::open_existing(&SigningKeys::folder_in(self.folder.path())).unwrap();
        TrustedKeys::of(keys.public_keys()).unwrap()
    }

    /// Memory the backend's process holds, in KiB.
    pub(crate) fn resident_kibibytes(&self) -> i64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Sync and watch, as a unit.
pub(crate) fn unit(channel: &Channel, unit_id: &str, secret: &str) -> SyncServiceClient<With> {
    SyncServiceClient::new(with(channel, &format!("esau_{unit_id}_{secret}")))
}

fn with(channel: &Channel, token: &str) -> With {
    let token = Some(token).filter(|token| !token.is_empty());
    let bearer = token.map(|token| format!("Bearer {token}").parse().unwrap());
    InterceptedService::new(channel.clone(), Bearer(bearer))
}

async fn connect(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(address.to_owned()).unwrap().tcp_nodelay(true);
    endpoint.connect_timeout(Duration::from_secs(10)).connect().await.unwrap()
}

/// Signs the first owner in for the first time.
async fn sign_in(channel: &Channel, password: &str) -> String {
    let request = api::SignInRequest { name: FIRST_ACCOUNT.to_owned(), password: password.to_owned() };
    let signed_in = AccountServiceClient::new(with(channel, "")).sign_in(request).await.unwrap();
    let token = signed_in.into_inner().token;
    let request = api::ChangePasswordRequest {
        request_id: String::new(),
        old_password: password.to_owned(),
        new_password: "correct horse battery staple".to_owned(),
    };
    AccountServiceClient::new(with(channel, &token)).change_password(request).await.unwrap();
    token
}

/// Does something that no transaction can hold.
pub(crate) async fn execute(url: &str, sql: &str) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}
