//! A licensing backend that does as it is told, behind a real socket: it signs facts, counts usage, and can be killed.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use esa_sidecar::{
    domain::{Facts, Instant, Span, facts::SmsCredits},
    proto::licensing::{
        self as api, ActivateUnitRequest, SignedFacts, SubscriptionFacts, SyncRequest,
        sync_service_server::{SyncService, SyncServiceServer},
        unit_service_server::{UnitService, UnitServiceServer},
    },
    sha256,
    signing::{SigningKeys, TrustedKeys},
    source::units::{Purpose, Unit, UnitsFile},
    wire,
};
use prost::Message as _;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    sync::watch,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream, UnixListenerStream};
use tonic::{Request, Response, Status, transport::Server};

use crate::sidecar::{ID, START};

/// What it is, whichever of its replicas runs.
#[derive(Clone)]
pub(crate) struct Backend(Arc<Inner>);

struct Inner {
    _folder: tempfile::TempDir,
    keys: SigningKeys,
    others: SigningKeys,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// What it knows and was asked.
pub(crate) struct State {
    pub(crate) facts: Facts,
    pub(crate) sequence: u64,
    issued: i64,
    /// SHA-256 of each unit's secret.
    pub(crate) units: BTreeMap<String, String>,
    /// SHA-256 of the secret that each unit said it is about to use.
    pub(crate) next_secrets: BTreeMap<String, String>,
    /// The answer to the next sync or push is spoilt like this; the ones after it are not.
    pub(crate) spoil: VecDeque<Spoil>,
    pub(crate) syncs: Vec<SyncRequest>,
    pub(crate) watches: usize,
    /// Watches that were opened so far.
    pub(crate) opened: usize,
    pub(crate) activations: Vec<ActivateUnitRequest>,
    /// What each of them was authorized by.
    pub(crate) bearers: Vec<Option<String>>,
    pub(crate) sms: BTreeMap<String, u32>,
    /// What it says to a sync, where it is not to take all of it.
    pub(crate) judge: Option<Judge>,
    /// The last answer to a sync.
    last: SignedFacts,
}

/// What it does not take of a sync, named or by refusing the whole of it.
pub(crate) type Judge = fn(&SyncRequest) -> Result<Vec<api::RefusedUsage>, Status>;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoil {
    Unsigned,
    Edited,
    OtherKey,
    OtherUnit,
    OtherSubscription,
    Replayed,
    Older,
    Missing,
    Lost,
    Refused,
}

/// One replica that runs.
pub(crate) struct Replica {
    pub(crate) address: String,
    runtime: Option<Runtime>,
}

impl Backend {
    pub(crate) fn telling(facts: Facts) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = SigningKeys::open(&folder.path().join("keys")).unwrap();
        let others = SigningKeys::open(&folder.path().join("others")).unwrap();
        let state = State {
            facts,
            sequence: 10,
            issued: 0,
            units: BTreeMap::new(),
            next_secrets: BTreeMap::new(),
            spoil: VecDeque::new(),
            syncs: Vec::new(),
            watches: 0,
            opened: 0,
            activations: Vec::new(),
            bearers: Vec::new(),
            sms: BTreeMap::new(),
            judge: None,
            last: SignedFacts::default(),
        };
        let (changed, _) = watch::channel(0);
        Self(Arc::new(Inner { _folder: folder, keys, others, state: Mutex::new(state), changed }))
    }

    pub(crate) fn trusted(&self) -> TrustedKeys {
        TrustedKeys::of(self.0.keys.public_keys()).unwrap()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Makes a unit that was activated, in the data folder `folder`, with a secret that never grows old.
    pub(crate) fn activated(&self, folder: &Path) -> String {
        self.activated_with_secret_since(folder, Some(START + Span::days(10_000)))
    }

    /// The same with a secret of this age; of none that anybody knows as before ages were kept.
    pub(crate) fn activated_with_secret_since(&self, folder: &Path, since: Option<Instant>) -> String {
        let unit_id = format!("u{}", self.state().units.len() + 1);
        let purpose = Purpose::of("key", &unit_id, "");
        let file = UnitsFile::of(folder.to_owned());
        let secret = file
            .change(|units| {
                let begun = units.begin(&purpose, "").unwrap();
                let told = begun.secret.clone();
                let subscription_id = ID.parse().unwrap();
                let installation = "main".to_owned();
                let unit_id = unit_id.clone();
                let (secret, product_version) = (begun.secret, String::new());
                units.finish(Unit {
                    unit_id,
                    secret,
                    secret_since: since,
                    next_secret: None,
                    subscription_id,
                    installation,
                    purpose,
                    product_version,
                });
                told
            })
            .unwrap();
        self.state().units.insert(unit_id.clone(), secret.sha256());
        unit_id
    }

    /// Starts a replica, on any port or where one ran before.
    pub(crate) fn replica(&self, address: Option<&str>) -> Replica {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(address.unwrap_or("127.0.0.1:0")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let backend = self.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            Server::builder()
                .add_service(SyncServiceServer::new(backend.clone()))
                .add_service(UnitServiceServer::new(backend))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
        });
        Replica { address, runtime: Some(runtime) }
    }

    /// Starts a replica on a Unix socket.
    pub(crate) fn on_socket(&self, path: &Path) -> Replica {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let backend = self.clone();
        runtime.spawn(async move {
            let listener = UnixListener::from_std(listener).unwrap();
            Server::builder()
                .add_service(SyncServiceServer::new(backend))
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
        });
        Replica { address: format!("unix:{}", path.display()), runtime: Some(runtime) }
    }

    /// Changes what it knows, and tells whoever watches.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        {
            let mut state = self.state();
            change(&mut state);
            state.sequence += 1;
        }
        self.0.changed.send_modify(|changes| *changes += 1);
    }

    /// Returns once it knows what is waited for.
    pub(crate) async fn until(&self, holds: impl Fn(&State) -> bool) {
        let mut changed = self.0.changed.subscribe();
        changed.wait_for(|_| holds(&self.state())).await.unwrap();
    }

    fn asked(&self) {
        self.0.changed.send_modify(|changes| *changes += 1);
    }

    fn unit<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let header =
            request.metadata().get("authorization").ok_or_else(|| Status::unauthenticated("who is it?"))?;
        let token = header.to_str().unwrap().strip_prefix("Bearer esau_").unwrap();
        let (unit_id, secret) = token.split_once('_').unwrap();
        let secret = sha256::hex(secret.as_bytes());
        let mut state = self.state();
        if state.next_secrets.get(unit_id) == Some(&secret) {
            state.next_secrets.remove(unit_id);
            state.units.insert(unit_id.to_owned(), secret.clone());
        }
        let known = state.units.get(unit_id) == Some(&secret);
        known.then(|| unit_id.to_owned()).ok_or_else(|| Status::unauthenticated("no such unit"))
    }

    /// Facts for a unit, spoilt if they are to be.
    fn signed(&self, nonce: &[u8], unit_id: &str) -> Result<SignedFacts, Status> {
        let mut state = self.state();
        state.issued += 1;
        let issued_at = START + Span::from_nanos(i128::from(state.issued) * Span::SECOND.nanos());
        let mut facts = state.facts.clone();
        let spent: u32 = state.sms.values().sum();
        facts.sms_credits =
            facts.sms_credits.map(|SmsCredits(all)| SmsCredits(all.saturating_sub(spent.into())));
        let mut payload = SubscriptionFacts {
            sequence: state.sequence,
            issued_at: wire::timestamp(issued_at),
            nonce: nonce.to_owned(),
            unit_id: unit_id.to_owned(),
            facts: Some((&facts).into()),
        };
        let spoil = state.spoil.pop_front();
        match spoil {
            Some(Spoil::OtherUnit) => payload.unit_id = "another".to_owned(),
            Some(Spoil::OtherSubscription) => {
                payload.facts.as_mut().unwrap().subscription_id = "ZZZ-ZZZ-ZZZ".to_owned();
            }
            Some(Spoil::Older) => payload.sequence = 1,
            _ => {}
        }
        let signer = if spoil == Some(Spoil::OtherKey) { &self.0.others } else { &self.0.keys };
        let mut signed = signer.sign(payload.encode_to_vec());
        match spoil {
            Some(Spoil::Unsigned) => signed.signature.clear(),
            Some(Spoil::Edited) => *signed.payload.last_mut().unwrap() ^= 1,
            Some(Spoil::Replayed) => signed = state.last.clone(),
            Some(Spoil::Missing) => signed = SignedFacts::default(),
            Some(Spoil::Lost) => return Err(Status::unavailable("the answer is lost")),
            Some(Spoil::Refused) => return Err(Status::permission_denied("not you")),
            _ => {}
        }
        Ok(signed)
    }
}

impl Replica {
    /// It is gone with all its connections, as after a kill.
    pub(crate) fn kill(mut self) -> String {
        self.runtime.take().unwrap().shutdown_background();
        std::mem::take(&mut self.address)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tonic::async_trait]
impl SyncService for Backend {
    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<api::SyncResponse>, Status> {
        let unactivated = request.get_ref().unit.is_none();
        let unit_id = if unactivated { String::new() } else { self.unit(&request)? };
        let request = request.into_inner();
        let judge = self.state().judge;
        let refused = judge.map_or(Ok(Vec::new()), |judge| judge(&request));
        {
            let mut state = self.state();
            state.syncs.push(request.clone());
            if !request.next_secret_sha256.is_empty() {
                state.next_secrets.insert(unit_id.clone(), request.next_secret_sha256.clone());
            }
            for (position, sms) in request.usage.iter().flat_map(|usage| &usage.sms_sent).enumerate() {
                let is_named = |named: &api::RefusedUsage| named.sms_position == u32::try_from(position).ok();
                if refused.as_ref().is_ok_and(|refused| !refused.iter().any(is_named)) {
                    state.sms.entry(sms.id.clone()).or_insert(sms.credits);
                }
            }
        }
        let refused = refused.inspect_err(|_| self.asked())?;
        let facts = self.signed(&request.nonce, &unit_id);
        self.asked();
        let facts = facts?;
        self.state().last = facts.clone();
        Ok(Response::new(api::SyncResponse { facts: Some(facts), refused }))
    }

    type WatchStream = ReceiverStream<Result<api::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<api::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let unit_id = self.unit(&request)?;
        let nonce = request.into_inner().nonce;
        let (told, pushes) = tokio::sync::mpsc::channel(1);
        let (backend, mut changed) = (self.clone(), self.0.changed.subscribe());
        {
            let mut state = self.state();
            (state.watches, state.opened) = (state.watches + 1, state.opened + 1);
        }
        self.asked();
        tokio::spawn(async move {
            let mut sequence = 0;
            loop {
                let now = backend.state().sequence;
                if now != sequence {
                    sequence = now;
                    let facts = backend
                        .signed(&nonce, &unit_id)
                        .map(|facts| api::WatchResponse { facts: Some(facts) });
                    if told.send(facts).await.is_err() {
                        break;
                    }
                    backend.asked();
                }
                tokio::select! {
                    () = told.closed() => break,
                    Ok(()) = changed.changed() => {}
                }
            }
            backend.state().watches -= 1;
            backend.asked();
        });
        Ok(Response::new(ReceiverStream::new(pushes)))
    }
}

#[tonic::async_trait]
impl UnitService for Backend {
    async fn activate_unit(
        &self,
        request: Request<ActivateUnitRequest>,
    ) -> Result<Response<api::ActivateUnitResponse>, Status> {
        let bearer =
            request.metadata().get("authorization").map(|bearer| bearer.to_str().unwrap().to_owned());
        self.state().bearers.push(bearer);
        let request = request.into_inner();
        let answer = {
            let mut state = self.state();
            let spoil = state.spoil.pop_front();
            if spoil == Some(Spoil::Refused) {
                Err(Status::permission_denied("no such license key"))
            } else {
                let unit_id = format!("u{}", request.request_id.to_lowercase().replace(['_', '-'], "x"));
                state.units.insert(unit_id.clone(), request.secret_sha256.clone());
                let unit = api::Unit { unit_id, subscription_id: ID.to_owned(), ..api::Unit::default() };
                let answer = api::ActivateUnitResponse { unit: Some(unit) };
                if spoil == Some(Spoil::Lost) { Err(Status::unavailable("lost")) } else { Ok(answer) }
            }
        };
        self.state().activations.push(request);
        self.asked();
        answer.map(Response::new)
    }

    async fn list_units(
        &self,
        _request: Request<api::ListUnitsRequest>,
    ) -> Result<Response<api::ListUnitsResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn get_unit(
        &self,
        _request: Request<api::GetUnitRequest>,
    ) -> Result<Response<api::GetUnitResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn deactivate_units(
        &self,
        _request: Request<api::DeactivateUnitsRequest>,
    ) -> Result<Response<api::DeactivateUnitsResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn revoke_unit_secret(
        &self,
        _request: Request<api::RevokeUnitSecretRequest>,
    ) -> Result<Response<api::RevokeUnitSecretResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}
