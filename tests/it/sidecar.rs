//! A sidecar in this process: real sockets on any port, a clock and a source that do as they are told.

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use esa_sidecar::{
    clock::ManualClock,
    config::Config,
    domain::{
        Activation, Facts, Instant, Span, SubscriptionId,
        facts::{ActiveUsers, FairUse, LicensedUsers, SmsCredits, Users},
    },
    edge::{
        address::ListenAddress,
        listener::{Listener, Opening},
    },
    proto::{
        enforcement::{self as api, enforcement_service_client::EnforcementServiceClient},
        health::health_client::HealthClient,
    },
    refresh::persist::Store,
    server::{self, Listeners, ServeError, Vitals},
    source::{Answer, Ask, FactsSource, Fetched, Origin, SourceError, usage::UsageDelay},
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// The present at the start of every test.
pub(crate) const START: Instant = Instant::from_unix_seconds(1_800_000_000);

/// The subscription of most tests.
pub(crate) const ID: &str = "3A8-WN7-7TD";

pub(crate) fn days(days: u32) -> Span {
    Span::days(days)
}

/// Facts with nothing to report.
pub(crate) fn healthy(id: &str) -> Facts {
    Facts {
        subscription_id: id.parse().unwrap(),
        activation: Activation::Active,
        expires_at: START + days(400),
        disabled_by_licensing: None,
        users: Users { active: ActiveUsers(50), licensed: LicensedUsers(100), overused_since: None },
        all_users: FairUse { count: 1, limit: 100 },
        components: FairUse { count: 1, limit: 100 },
        sms_credits: Some(SmsCredits(100)),
    }
}

/// Tells what a test put into it, as often as the test lets it.
#[derive(Clone)]
pub(crate) struct ScriptedSource(Arc<Script>);

struct Script {
    answer: Mutex<Result<Fetched, SourceError>>,
    changed: Notify,
    fetches: AtomicU32,
    /// A fetch takes one and is answered then.
    permits: Semaphore,
}

impl ScriptedSource {
    pub(crate) fn telling(facts: Vec<Facts>) -> Self {
        let source = Self::unreachable();
        source.script(Ok(Fetched::unsigned(facts)));
        source
    }

    pub(crate) fn unreachable() -> Self {
        Self(Arc::new(Script {
            answer: Mutex::new(Err(SourceError::Unreachable("the backend is away".to_owned()))),
            changed: Notify::new(),
            fetches: AtomicU32::new(0),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
        }))
    }

    /// From now on every fetch is answered with this.
    pub(crate) fn script(&self, answer: Result<Fetched, SourceError>) {
        *self.0.answer.lock().unwrap() = answer;
    }

    /// Tells other facts, and says that it has.
    pub(crate) fn tell(&self, facts: Vec<Facts>) {
        self.script(Ok(Fetched::unsigned(facts)));
        self.0.changed.notify_one();
    }

    /// Fetches wait until they are let through.
    pub(crate) fn hold(&self) {
        self.0.permits.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn let_through(&self, fetches: usize) {
        self.0.permits.add_permits(fetches);
    }

    pub(crate) fn fetches(&self) -> u32 {
        self.0.fetches.load(Ordering::SeqCst)
    }
}

impl FactsSource for ScriptedSource {
    fn identity(&self) -> String {
        "scripted".to_owned()
    }

    fn origin(&self) -> Origin {
        Origin::Live
    }

    async fn fetch(&self, _ask: Ask) -> Answer {
        self.0.fetches.fetch_add(1, Ordering::SeqCst);
        self.0.permits.acquire().await.unwrap().forget();
        self.0.answer.lock().unwrap().clone().into()
    }

    async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn usage_delay(&self, _subscription_id: SubscriptionId) -> Option<UsageDelay> {
        None
    }
}

/// A listener with so many queues, and sockets for their owner alone.
pub(crate) fn opening(queues: NonZeroUsize) -> Opening {
    Opening { queues, mode: 0o600, owner: None }
}

/// A configuration in TOML.
pub(crate) fn config(toml: &str) -> Config {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    Config::read(Some(file.path().to_owned()), Vec::new()).unwrap()
}

/// A running sidecar and clients of it.
pub(crate) struct Sidecar {
    pub(crate) clock: ManualClock,
    /// Where it takes questions.
    pub(crate) address: String,
    pub(crate) client: EnforcementServiceClient<Channel>,
    pub(crate) health: HealthClient<Channel>,
    pub(crate) stop: CancellationToken,
    pub(crate) ended: JoinHandle<Result<(), ServeError>>,
}

impl Sidecar {
    pub(crate) async fn start(source: ScriptedSource) -> Self {
        Self::start_with(source, None, "").await
    }

    /// Starts one that keeps its facts in `folder`, with a configuration in TOML.
    pub(crate) async fn start_with(source: ScriptedSource, folder: Option<&Path>, toml: &str) -> Self {
        let store = folder.map(|folder| Store::open(folder.to_owned()).unwrap());
        Self::start_from(source, store, config(toml)).await
    }

    /// Starts one with any source.
    pub(crate) async fn start_from<S: FactsSource>(source: S, store: Option<Store>, config: Config) -> Self {
        let clock = ManualClock::at(START);
        let open = async |queues| Listener::open(&ListenAddress::loopback(0), opening(queues)).await.unwrap();
        let enforcement = open(config.listen.threads).await;
        let probes = open(NonZeroUsize::MIN).await;
        let address = enforcement.address().to_string();
        let stop = CancellationToken::new();
        let run = server::run(
            watch::channel(config).1,
            source,
            store,
            Listeners { enforcement, probes, tls: None },
            Arc::new(clock.clone()),
            Vitals::default(),
            stop.clone(),
        );
        let ended = tokio::spawn(run);
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self {
            clock,
            address,
            client: EnforcementServiceClient::new(channel.clone()),
            health: HealthClient::new(channel),
            stop,
            ended,
        }
    }

    /// Returns once the first facts are published, which a watcher of health hears.
    pub(crate) async fn ready(mut self) -> Self {
        let request = esa_sidecar::proto::health::HealthCheckRequest::default();
        let mut statuses = self.health.watch(request).await.unwrap().into_inner();
        while statuses.message().await.unwrap().unwrap().status() as i32 != 1 {}
        self
    }

    pub(crate) async fn subscription(&mut self, id: &str) -> api::Subscription {
        let request = api::GetSubscriptionRequest { subscription_id: id.to_owned() };
        self.client.get_subscription(request).await.unwrap().into_inner().subscription.unwrap()
    }

    pub(crate) async fn watch(&mut self, id: &str) -> tonic::Streaming<api::WatchSubscriptionResponse> {
        let request = api::WatchSubscriptionRequest { subscription_id: id.to_owned() };
        self.client.watch_subscription(request).await.unwrap().into_inner()
    }

    pub(crate) async fn authorize(
        &mut self,
        request: api::AuthorizeRequest,
    ) -> Result<api::AuthorizeResponse, tonic::Status> {
        self.client.authorize(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn refresh(&mut self) -> api::RefreshSubscriptionResponse {
        let request = api::RefreshSubscriptionRequest::default();
        self.client.refresh_subscription(request).await.unwrap().into_inner()
    }

    /// Stops it and returns once it is gone, its data folder free.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.ended.await.unwrap().unwrap();
    }
}

/// A question about the subscription of most tests.
pub(crate) fn question(operation: api::Operation) -> api::AuthorizeRequest {
    api::AuthorizeRequest {
        subscription_id: ID.to_owned(),
        operation: operation.into(),
        ..api::AuthorizeRequest::default()
    }
}

/// The same, asked by an administrator.
pub(crate) fn administrator(operation: api::Operation) -> api::AuthorizeRequest {
    let actor = api::Actor { role: api::ActorRole::Administrator.into(), id: "alice".to_owned() };
    api::AuthorizeRequest { actor: Some(actor), ..question(operation) }
}
