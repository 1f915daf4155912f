//! How fast an answer is, in process and over a socket, beside floors measured in the same run.
//!
//! `cargo bench` prints time and allocations. Times on a shared machine wander; the allocations and the ratios
//! between rows do not.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

mod empty;

use std::sync::Arc;

use divan::{AllocProfiler, Bencher, black_box, counter::ItemsCount};
use esa_sidecar::{
    cache::{self, Cache, Snapshot, Writer},
    clock::{Clock, SystemClock},
    config::Config,
    domain::{
        Activation, Facts, Instant, Operation, Question, Role, SmsDelivery, Span, SubscriptionId, Timeline,
        decision::decide,
        facts::{ActiveUsers, FairUse, LicensedUsers, SmsCredits, Users},
    },
    enforcement::{Callers, Enforcement},
    freshness::Freshness,
    proto::enforcement::{
        self as api,
        enforcement_service_client::EnforcementServiceClient,
        enforcement_service_server::{EnforcementService, EnforcementServiceServer},
    },
    refresh::Refresher,
    source::{Answer, Ask, FactsSource, Fetched, Origin, usage::UsageDelay},
};
use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request,
    transport::{Channel, Server, server::TcpIncoming},
};

/// A source that always tells the same.
struct Fixed(Vec<Facts>);

impl FactsSource for Fixed {
    fn identity(&self) -> String {
        "fixed".to_owned()
    }

    fn origin(&self) -> Origin {
        Origin::Live
    }

    async fn fetch(&self, _ask: Ask) -> Answer {
        Ok(Fetched::unsigned(self.0.clone())).into()
    }

    async fn changed(&self) {
        std::future::pending().await
    }

    fn usage_delay(&self, _subscription_id: SubscriptionId) -> Option<UsageDelay> {
        None
    }
}

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const QUESTION: Question = Question {
    operation: Operation::EnableUsers,
    role: Role::User,
    sms_delivery: SmsDelivery::VendorCredits,
};

fn main() {
    divan::main();
}

/// Subscriptions with several conditions and turns each, published.
fn filled(subscriptions: u32) -> (Arc<Cache>, Writer) {
    let (cache, mut writer) = cache::new();
    let now = SystemClock::new().now();
    writer.replace_all((0..subscriptions).map(|number| {
        let facts = facts(number, now);
        Snapshot { timeline: Timeline::of(&facts), facts, as_of: now, revision: 1, origin: Origin::Live }
    }));
    (cache, writer)
}

fn id(number: u32) -> SubscriptionId {
    format!("{:03}-{:03}-000", number / 1_000, number % 1_000).parse().unwrap()
}

fn facts(number: u32, now: Instant) -> Facts {
    Facts {
        subscription_id: id(number),
        activation: Activation::Active,
        expires_at: now + Span::days(20),
        disabled_by_licensing: None,
        users: Users { active: ActiveUsers(105), licensed: LicensedUsers(100), overused_since: Some(now) },
        all_users: FairUse { count: 95, limit: 100 },
        components: FairUse { count: 1, limit: 100 },
        sms_credits: Some(SmsCredits(5)),
    }
}

#[divan::bench]
fn decide_from_a_timeline(bencher: Bencher<'_, '_>) {
    let now = SystemClock::new().now();
    let timeline = Timeline::of(&facts(0, now));
    bencher.bench_local(|| decide(black_box(&timeline), black_box(QUESTION), black_box(now)));
}

#[divan::bench(args = [1, 100_000])]
fn load_and_decide(bencher: Bencher<'_, '_>, subscriptions: u32) {
    let (cache, _writer) = filled(subscriptions);
    let (id, now) = (id(subscriptions / 2), SystemClock::new().now());
    bencher.bench_local(|| {
        let held = cache.load(black_box(Some(&id))).unwrap();
        decide(&held.timeline, black_box(QUESTION), black_box(now))
    });
}

#[divan::bench]
fn ask_the_clock(bencher: Bencher<'_, '_>) {
    let clock = SystemClock::new();
    bencher.bench_local(|| clock.now());
}

#[divan::bench]
fn derive_a_timeline(bencher: Bencher<'_, '_>) {
    let facts = facts(0, SystemClock::new().now());
    bencher.bench_local(|| Timeline::of(black_box(&facts)));
}

/// The service as the transport calls it, over `subscriptions`.
fn service(runtime: &Runtime, subscriptions: u32) -> Enforcement {
    let config = Config::read(None, Vec::new()).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (cache, writer) = cache::new();
    let facts = (0..subscriptions).map(|number| facts(number, clock.now())).collect();
    let source = Fixed(facts);
    let (refresher, handle) = Refresher::start(source, writer, None, Arc::clone(&clock), config.refresh);
    let mut sync = handle.sync();
    runtime.spawn(refresher.run(CancellationToken::new()));
    runtime.block_on(sync.wait_for(|sync| sync.published_as_of.is_some())).unwrap();
    Enforcement::new(
        cache,
        clock,
        Freshness::new(&config.staleness),
        Callers::of(None),
        config.limits,
        handle,
        CancellationToken::new(),
    )
}

fn question() -> api::AuthorizeRequest {
    api::AuthorizeRequest {
        subscription_id: id(0).to_string(),
        operation: api::Operation::EnableUsers.into(),
        ..api::AuthorizeRequest::default()
    }
}

#[divan::bench]
fn authorize_in_process(bencher: Bencher<'_, '_>) {
    let runtime = Runtime::new().unwrap();
    let service = service(&runtime, 1);
    bencher
        .with_inputs(|| Request::new(question()))
        .bench_local_values(|request| runtime.block_on(service.authorize(request)).unwrap());
}

#[divan::bench]
fn batch_of_1000_in_process(bencher: Bencher<'_, '_>) {
    let runtime = Runtime::new().unwrap();
    let service = service(&runtime, 1);
    let batch = || Request::new(api::BatchAuthorizeRequest { questions: vec![question(); 1_000] });
    bencher
        .counter(ItemsCount::new(1_000_usize))
        .with_inputs(batch)
        .bench_local_values(|request| runtime.block_on(service.batch_authorize(request)).unwrap());
}

/// Calls under way at a time over one connection.
const UNDER_WAY: usize = 32;

/// The floor: the same messages over the same transport, and a handler that does nothing.
#[divan::bench]
fn unary_over_tcp_empty_service(bencher: Bencher<'_, '_>) {
    unary(bencher, |_| empty::Empty);
}

#[divan::bench(args = [1, 100_000])]
fn unary_over_tcp_authorize(bencher: Bencher<'_, '_>, subscriptions: u32) {
    unary(bencher, |runtime| service(runtime, subscriptions));
}

fn unary<S: EnforcementService>(bencher: Bencher<'_, '_>, service: impl FnOnce(&Runtime) -> S) {
    let runtime = Runtime::new().unwrap();
    let service = EnforcementServiceServer::new(service(&runtime));
    let client = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(connections));
        EnforcementServiceClient::new(Channel::from_shared(uri).unwrap().connect().await.unwrap())
    });
    bencher.counter(ItemsCount::new(UNDER_WAY)).bench_local(|| {
        runtime.block_on(async {
            let call = || {
                let mut client = client.clone();
                async move { client.authorize(question()).await.unwrap() }
            };
            join_all((0..UNDER_WAY).map(|_| call())).await
        })
    });
}
