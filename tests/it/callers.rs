//! Who may ask what, on every transport; and certificates that are renewed and revoked while calls are under way.

use std::{num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use esa_sidecar::{
    clock::{Clock, ManualClock, WallClock},
    config::Config,
    edge::{address::ListenAddress, listener::Listener, tls::Tls},
    health::Monitor,
    proto::{
        enforcement::{self as api, Operation, enforcement_service_client::EnforcementServiceClient},
        health::{HealthCheckRequest, health_client::HealthClient},
    },
    server::{self, Listeners, Vitals},
    source::{Fetched, SourceError},
};
use h2::client::SendRequest;
use rcgen::SanType;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    certificates::{Authority, Issued},
    sidecar::{ID, START, ScriptedSource, Sidecar, administrator, config, healthy, opening, question},
    wire::{asked, frame},
};

/// Another subscription that is held.
const OTHER: &str = "ZZZ-ZZZ-ZZZ";

/// A sidecar that tells its callers apart, and where it listens.
pub(crate) struct Guarded {
    settings: watch::Sender<Config>,
    pub(crate) address: ListenAddress,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl Guarded {
    pub(crate) async fn start(toml: &str, address: &ListenAddress) -> Self {
        Self::start_with(toml, address, &[ID, OTHER], Arc::new(WallClock)).await
    }

    /// One whose certificates are judged by this clock.
    pub(crate) async fn judging_by(clock: ManualClock, toml: &str) -> Self {
        Self::start_with(toml, &ListenAddress::loopback(0), &[ID], Arc::new(clock)).await
    }

    async fn start_with(toml: &str, address: &ListenAddress, ids: &[&str], judging: Arc<dyn Clock>) -> Self {
        let config = config(toml);
        let enforcement = Listener::open(address, opening(config.listen.threads)).await.unwrap();
        let probes = Listener::open(&ListenAddress::loopback(0), opening(NonZeroUsize::MIN)).await.unwrap();
        let address = enforcement.address().clone();
        let tls = config.tls.files.clone().map(|files| Tls::read(files, judging).unwrap());
        let (settings, receiver) = watch::channel(config);
        let stop = CancellationToken::new();
        let monitor = Monitor::new();
        let mut statuses = monitor.statuses();
        let run = server::run(
            receiver,
            ScriptedSource::telling(ids.iter().copied().map(healthy).collect()),
            None,
            Listeners { enforcement, probes, tls },
            Arc::new(ManualClock::at(START)),
            Vitals { monitor, ..Vitals::default() },
            stop.clone(),
        );
        let ended = tokio::spawn(async { run.await.unwrap() });
        statuses.wait_for(|statuses| statuses.ready).await.unwrap();
        Self { settings, address, stop, ended }
    }

    pub(crate) async fn over_tls(authority: &Authority, callers: &str) -> Self {
        Self::holding(authority, callers, &[ID, OTHER]).await
    }

    /// The same with these subscriptions.
    async fn holding(authority: &Authority, callers: &str, ids: &[&str]) -> Self {
        authority.serve(&authority.issue("sidecar.test", 1));
        authority.revoke(&[]);
        let toml = format!("{}{callers}", authority.table());
        Self::start_with(&toml, &ListenAddress::loopback(0), ids, Arc::new(WallClock)).await
    }

    /// A connection of its own; nothing when it is refused.
    pub(crate) async fn connect(&self, authority: &Authority, issued: Option<&Issued>) -> Option<Channel> {
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(authority.client(issued)).unwrap().connect().await.ok()
    }

    /// A client with a certificate in this name.
    pub(crate) async fn client(
        &self,
        authority: &Authority,
        name: &str,
    ) -> EnforcementServiceClient<Channel> {
        let issued = authority.issue(name, 7);
        EnforcementServiceClient::new(self.connect(authority, Some(&issued)).await.unwrap())
    }

    /// The same, of bare HTTP/2.
    pub(crate) async fn http2(&self, authority: &Authority, name: &str) -> SendRequest<Bytes> {
        let io = rude(self, authority.rustls(&authority.issue(name, 7))).await;
        // Of small answers that are not read yet h2 takes a few hundred, unless the window is wide, and then hangs up.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 24).initial_window_size(1 << 20);
        let (client, connection) = builder.handshake(io).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// From now on these settings count.
    pub(crate) fn reread(&self, change: impl FnOnce(&mut Config)) {
        self.settings.send_modify(change);
    }

    async fn plain(&self) -> Channel {
        let uri = match &self.address {
            ListenAddress::Tcp(tcp) => format!("http://{tcp}"),
            ListenAddress::Unix(path) => format!("unix:{}", path.display()),
        };
        Endpoint::from_shared(uri).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.ended.await.unwrap();
    }
}

pub(crate) const TABLE: &str = "
[[callers]]
name = 'authentication server'
role = 'authentication_server'
certificate_uri = 'spiffe://example.org/authentication'

[[callers]]
name = 'provisioning server'
role = 'provisioning_server'
certificate_dns = 'provisioning.example.org'

[[callers]]
name = 'probe'
role = 'probe'
certificate_dns = 'probe.example.org'

[[callers]]
name = 'another authentication server'
role = 'authentication_server'
certificate_dns = 'untrusted.example.org'
subscriptions = ['ZZZ-ZZZ-ZZZ']
vouches_for_administrators = false
";

/// What a caller may do, as its role is documented.
struct May {
    operations: std::ops::RangeInclusive<i32>,
    vouch: bool,
    everything_else: bool,
    subscription: &'static str,
}

const ALL: std::ops::RangeInclusive<i32> = 1..=12;
const PROVISION: std::ops::RangeInclusive<i32> = 3..=3;
#[expect(clippy::reversed_empty_ranges, reason = "none")]
const NONE: std::ops::RangeInclusive<i32> = 1..=0;

/// Asks everything there is to ask, each in every form, and holds what comes against what the caller may do.
async fn check(who: &str, channel: &Channel, may: &May) {
    let mut client = EnforcementServiceClient::new(channel.clone());
    let denied = |asked: &Result<(), Status>| {
        asked.as_ref().is_err_and(|status| status.code() == Code::PermissionDenied)
    };
    for number in 1..=12 {
        let operation = Operation::try_from(number).unwrap();
        for subscription in [ID, OTHER, "AAA-AAA-AAA"] {
            let asked = api::AuthorizeRequest {
                subscription_id: subscription.to_owned(),
                ..administrator(operation)
            };
            let entitled = may.operations.contains(&number)
                && (may.subscription.is_empty() || may.subscription == subscription);
            let answered = client.authorize(asked.clone()).await.map(tonic::Response::into_inner);
            if let Ok(answer) = &answered {
                assert_eq!(answer.role_not_vouched, !may.vouch, "{who} {operation:?}");
            }
            let answered = answered.map(drop);
            assert_eq!(denied(&answered), !entitled, "{who} {operation:?} {subscription}: {answered:?}");
            let batch = api::BatchAuthorizeRequest { questions: vec![asked.clone()] };
            let in_batch = client.batch_authorize(batch).await.map(tonic::Response::into_inner);
            let stream = api::StreamAuthorizeRequest { question: Some(asked) };
            let in_stream = client.stream_authorize(tokio_stream::iter([stream])).await;
            if may.operations.is_empty() {
                // Who may ask nothing does not get as far as a question.
                assert!(denied(&in_batch.map(drop)), "{who} {operation:?} in a batch");
                assert!(denied(&in_stream.map(drop)), "{who} {operation:?} in a stream");
                continue;
            }
            let results = in_batch.unwrap().results;
            let in_batch = match results[0].result.as_ref().unwrap() {
                api::batch_authorize_result::Result::Response(_) => None,
                api::batch_authorize_result::Result::Error(error) => Some(error.code),
            };
            assert_eq!(in_batch == Some(7), !entitled, "{who} {operation:?} {subscription} in a batch");
            let mut answers = in_stream.unwrap().into_inner();
            let in_stream = match answers.message().await.unwrap().unwrap().result.unwrap() {
                api::stream_authorize_response::Result::Response(_) => None,
                api::stream_authorize_response::Result::Error(error) => Some(error.code),
            };
            assert_eq!(in_stream == Some(7), !entitled, "{who} {operation:?} {subscription} in a stream");
        }
    }
    for subscription in [ID, OTHER] {
        let entitled =
            may.everything_else && (may.subscription.is_empty() || may.subscription == subscription);
        let id = || subscription.to_owned();
        let got = client.get_subscription(api::GetSubscriptionRequest { subscription_id: id() }).await;
        let watched =
            client.watch_subscription(api::WatchSubscriptionRequest { subscription_id: id() }).await;
        let simulated = client
            .simulate(api::SimulateRequest { subscription_id: id(), ..api::SimulateRequest::default() })
            .await;
        let reported = client
            .report_usage(api::ReportUsageRequest {
                subscription_id: id(),
                ..api::ReportUsageRequest::default()
            })
            .await;
        let refreshed =
            client.refresh_subscription(api::RefreshSubscriptionRequest { subscription_id: id() }).await;
        for (call, came) in [
            ("get", got.map(drop)),
            ("watch", watched.map(drop)),
            ("simulate", simulated.map(drop)),
            ("report", reported.map(drop)),
            ("refresh", refreshed.map(drop)),
        ] {
            assert_eq!(denied(&came), !entitled, "{who} {call} {subscription}: {came:?}");
        }
    }
    // The table is public, and so is health.
    client.get_restriction_table(api::GetRestrictionTableRequest {}).await.unwrap();
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn each_caller_may_ask_what_its_role_says_and_nothing_else_over_tls() {
    let authority = Authority::new();
    let sidecar = Guarded::over_tls(&authority, TABLE).await;
    for (name, may) in [
        (
            "spiffe://example.org/authentication",
            May { operations: ALL, vouch: true, everything_else: true, subscription: "" },
        ),
        (
            "provisioning.example.org",
            May { operations: PROVISION, vouch: false, everything_else: false, subscription: "" },
        ),
        (
            "probe.example.org",
            May { operations: NONE, vouch: false, everything_else: false, subscription: "" },
        ),
        (
            "untrusted.example.org",
            May { operations: ALL, vouch: false, everything_else: true, subscription: OTHER },
        ),
        (
            "stranger.example.org",
            May { operations: NONE, vouch: false, everything_else: false, subscription: "" },
        ),
        // A name that only begins like another is another.
        (
            "spiffe://example.org/authentication/2",
            May { operations: NONE, vouch: false, everything_else: false, subscription: "" },
        ),
    ] {
        let channel = sidecar.connect(&authority, Some(&authority.issue(name, 7))).await.unwrap();
        check(name, &channel, &may).await;
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_caller_is_known_by_a_name_of_the_kind_its_row_says_and_by_no_other() {
    let authority = Authority::new();
    let row = |name: &str, known: &str| {
        format!("[[callers]]\nname = '{name}'\nrole = 'authentication_server'\n{known}\n")
    };
    let table = row("dns", "certificate_dns = 'Auth-1.example.org.'")
        + &row("uri", "certificate_uri = 'spiffe://example.org/auth-1'")
        + &row("tenant", "certificate_dns = 'a.tenant.example.net'");
    let sidecar = Guarded::over_tls(&authority, &table).await;
    // An authority that may vouch for DNS names of one tenant.
    let tenant = authority.beneath_constrained("tenant", "tenant.example.net");
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let uri = |name: &str| SanType::URI(name.try_into().unwrap());
    let email = |name: &str| SanType::Rfc822Name(name.try_into().unwrap());
    let (yes, no) = (true, false);
    for (issuer, names, is_known) in [
        (&authority, vec![dns("auth-1.example.org")], yes),
        // Case does not count in DNS names (RFC 5280, 7.2), nor does the dot at the end.
        (&authority, vec![dns("AUTH-1.Example.ORG")], yes),
        (&authority, vec![dns("auth-1.example.org.")], yes),
        // Any of its names will do.
        (&authority, vec![email("a@example.org"), dns("other.example.org"), dns("auth-1.example.org")], yes),
        (&authority, vec![uri("spiffe://example.org/auth-1")], yes),
        // The same text as a name of another kind is another name.
        (&authority, vec![uri("auth-1.example.org")], no),
        (&authority, vec![uri("auth-1.example.org.")], no),
        (&authority, vec![email("auth-1.example.org")], no),
        (&authority, vec![dns("spiffe://example.org/auth-1")], no),
        (&authority, vec![email("spiffe://example.org/auth-1")], no),
        (&authority, vec![SanType::IpAddress([10, 0, 0, 1].into())], no),
        // A URI counts letter for letter.
        (&authority, vec![uri("SPIFFE://example.org/auth-1")], no),
        (&authority, vec![uri("spiffe://Example.org/auth-1")], no),
        (&authority, vec![uri("spiffe://example.org/auth-1/")], no),
        (&authority, vec![uri("spiffe://example.org/auth-1.")], no),
        // A wildcard is not the name of a caller, and names that only contain one are others.
        (&authority, vec![dns("*.example.org")], no),
        (&authority, vec![dns("b.auth-1.example.org")], no),
        (&authority, vec![dns("auth-1.example.org.evil.test")], no),
        (&authority, vec![], no),
        // Who is held to DNS names of a tenant does not get around that with another kind.
        (&tenant, vec![dns("a.tenant.example.net")], yes),
        (&tenant, vec![dns("auth-1.example.org")], no),
        (&tenant, vec![uri("auth-1.example.org")], no),
        (&tenant, vec![dns("a.tenant.example.net"), uri("auth-1.example.org")], yes),
        (&tenant, vec![email("auth-1.example.org")], no),
    ] {
        // A common name is not a name of a caller either.
        let issued = issuer.issue_named("auth-1.example.org", names.clone());
        let asked = match sidecar.connect(&authority, Some(&issued)).await {
            Some(channel) => {
                let asked = question(Operation::EnableUsers);
                EnforcementServiceClient::new(channel).authorize(asked).await.map(drop)
            }
            None => Err(Status::unavailable("refused")),
        };
        assert_eq!(asked.is_ok(), is_known, "{names:?}: {asked:?}");
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn of_several_rows_the_first_in_the_table_counts_whatever_a_certificate_begins_with() {
    let authority = Authority::new();
    let table = "
[[callers]]
name = 'scoped'
role = 'authentication_server'
certificate_uri = 'spiffe://example.org/scoped'
vouches_for_administrators = false

[[callers]]
name = 'trusted'
role = 'authentication_server'
certificate_dns = 'trusted.example.org'
";
    let sidecar = Guarded::over_tls(&authority, table).await;
    let dns = SanType::DnsName("trusted.example.org".try_into().unwrap());
    let uri = SanType::URI("spiffe://example.org/scoped".try_into().unwrap());
    for names in [vec![dns.clone(), uri.clone()], vec![uri, dns]] {
        let issued = authority.issue_named("both", names);
        let mut client =
            EnforcementServiceClient::new(sidecar.connect(&authority, Some(&issued)).await.unwrap());
        let answer = client.authorize(administrator(Operation::EnableUsers)).await.unwrap().into_inner();
        assert!(answer.role_not_vouched);
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn users_of_a_socket_and_this_machine_s_programs_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let own = rustix::process::getuid().as_raw();
    let socket = ListenAddress::Unix(folder.path().join("calls.sock"));
    let all = May { operations: ALL, vouch: true, everything_else: true, subscription: "" };
    let none = May { operations: NONE, vouch: false, everything_else: false, subscription: "" };
    for (identity, address, may) in [
        (format!("user = {own}"), &socket, &all),
        (format!("user = {}", own + 1), &socket, &none),
        ("loopback = true".to_owned(), &socket, &none),
        ("loopback = true".to_owned(), &ListenAddress::loopback(0), &all),
        (format!("user = {own}"), &ListenAddress::loopback(0), &none),
        ("certificate_dns = 'localhost'".to_owned(), &ListenAddress::loopback(0), &none),
    ] {
        let table = format!("[[callers]]\nname = 'it'\nrole = 'authentication_server'\n{identity}");
        let sidecar = Guarded::start(&table, address).await;
        check(&format!("{identity} on {address}"), &sidecar.plain().await, may).await;
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn a_right_that_is_taken_away_is_gone_on_connections_that_are_open() {
    let sidecar = Guarded::start(
        "[[callers]]\nname = 'it'\nrole = 'authentication_server'\nloopback = true",
        &ListenAddress::loopback(0),
    )
    .await;
    let mut client = EnforcementServiceClient::new(sidecar.plain().await);
    client.authorize(question(Operation::EnableUsers)).await.unwrap();
    sidecar.reread(|settings| settings.callers = Some(Vec::new()));
    let denied = async {
        while client.authorize(question(Operation::EnableUsers)).await.is_ok() {
            tokio::task::yield_now().await;
        }
        client.authorize(question(Operation::EnableUsers)).await.unwrap_err()
    };
    let denied = tokio::time::timeout(std::time::Duration::from_secs(10), denied).await.unwrap();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert!(denied.message().contains("[[callers]]"), "{denied}");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_watch_ends_with_the_right_to_it() {
    let table = "[[callers]]\nname = 'it'\nrole = 'authentication_server'\nloopback = true";
    let sidecar = Guarded::start(table, &ListenAddress::loopback(0)).await;
    let mut client = EnforcementServiceClient::new(sidecar.plain().await);
    let request = api::WatchSubscriptionRequest { subscription_id: ID.to_owned() };
    let mut watch = client.watch_subscription(request).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    sidecar.reread(|settings| {
        for caller in settings.callers.iter_mut().flatten() {
            caller.reads = false;
        }
    });
    assert_eq!(watch.message().await.unwrap_err().code(), Code::PermissionDenied);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_caller_that_may_not_ask_does_not_learn_what_is_held() {
    let authority = Authority::new();
    let sidecar = Guarded::holding(&authority, TABLE, &[ID]).await;
    let channel =
        sidecar.connect(&authority, Some(&authority.issue("untrusted.example.org", 7))).await.unwrap();
    let mut client = EnforcementServiceClient::new(channel);
    let unnamed =
        api::AuthorizeRequest { subscription_id: String::new(), ..question(Operation::EnableUsers) };
    let asked = client.authorize(unnamed).await.unwrap_err();
    let read = client.get_subscription(api::GetSubscriptionRequest::default()).await.unwrap_err();
    for denied in [asked, read] {
        assert_eq!(denied.code(), Code::PermissionDenied);
        assert!(!denied.message().contains(ID), "{denied}");
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_caller_held_to_a_subscription_names_it_where_several_are_held_and_does_not_hear_how_many() {
    let authority = Authority::new();
    let sidecar = Guarded::over_tls(&authority, TABLE).await;
    let mut client = sidecar.client(&authority, "untrusted.example.org").await;
    let unnamed =
        api::AuthorizeRequest { subscription_id: String::new(), ..question(Operation::EnableUsers) };
    let in_batch = api::BatchAuthorizeRequest { questions: vec![unnamed.clone()] };
    let in_batch = client.batch_authorize(in_batch).await.unwrap().into_inner().results.remove(0).result;
    let Some(api::batch_authorize_result::Result::Error(in_batch)) = in_batch else { panic!("answered") };
    for (call, refused) in [
        ("authorize", client.authorize(unnamed).await.map(drop)),
        ("in a batch", Err(Status::new(in_batch.code.into(), in_batch.message))),
        ("get", client.get_subscription(api::GetSubscriptionRequest::default()).await.map(drop)),
        ("watch", client.watch_subscription(api::WatchSubscriptionRequest::default()).await.map(drop)),
        ("simulate", client.simulate(api::SimulateRequest::default()).await.map(drop)),
        ("report", client.report_usage(api::ReportUsageRequest::default()).await.map(drop)),
        ("refresh", client.refresh_subscription(api::RefreshSubscriptionRequest::default()).await.map(drop)),
    ] {
        let refused = refused.expect_err(call);
        assert_eq!(refused.code(), Code::PermissionDenied, "{call}: {refused}");
        assert!(!refused.message().contains('2'), "{call}: {refused}");
    }
    let own = api::RefreshSubscriptionRequest { subscription_id: OTHER.to_owned() };
    client.refresh_subscription(own).await.unwrap();
    // Whoever may know of all of them need not name any.
    let mut all = sidecar.client(&authority, "spiffe://example.org/authentication").await;
    all.refresh_subscription(api::RefreshSubscriptionRequest::default()).await.unwrap();
    sidecar.stop().await;
}

#[tokio::test]
async fn a_caller_held_to_a_subscription_hears_why_its_own_was_not_refreshed_and_nothing_of_others() {
    let source = ScriptedSource::telling(vec![healthy(ID), healthy(OTHER)]);
    let table = format!(
        "[refresh]\nat_most_every = '1ms'\n[[callers]]\nname = 'it'\nrole = 'authentication_server'\nloopback = true\n\
         subscriptions = ['{ID}']"
    );
    let mut sidecar = Sidecar::start_with(source.clone(), None, &table).await.ready().await;
    let of = |id: &str| SourceError::Refused(format!("`{id}` is not told")).of(id.parse().unwrap());
    let away = SourceError::Unreachable(format!("asked as a unit of {OTHER}: nobody answers"));
    let (unchanged, failed) = (api::RefreshOutcome::Unchanged, api::RefreshOutcome::Failed);
    for (failure, outcome, heard) in [
        (of(OTHER), unchanged, ""),
        (of(ID), failed, "`3A8-WN7-7TD` is not told"),
        (of(OTHER).and(of(ID)), failed, "`3A8-WN7-7TD` is not told"),
        (away.clone(), failed, "the last refresh failed; the log of the sidecar says why"),
        (of(OTHER).and(away), failed, "the last refresh failed; the log of the sidecar says why"),
    ] {
        let told = vec![healthy(ID).into()];
        source.script(Ok(Fetched::Some { told, failure: Some(failure) }));
        let request = api::RefreshSubscriptionRequest { subscription_id: ID.to_owned() };
        let refreshed = sidecar.client.refresh_subscription(request).await.unwrap().into_inner();
        assert_eq!((refreshed.outcome(), refreshed.detail.as_str()), (outcome, heard));
        let read = sidecar.subscription(ID).await;
        assert_eq!(read.provenance.unwrap().last_failure, heard);
        let watched = sidecar.watch(ID).await.message().await.unwrap().unwrap().subscription.unwrap();
        assert_eq!(watched.provenance.unwrap().last_failure, heard);
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn only_certificates_of_the_authority_that_are_not_revoked_are_believed() {
    let authority = Authority::new();
    let sidecar = Guarded::over_tls(&authority, TABLE).await;
    let name = "spiffe://example.org/authentication";
    let (good, bad) = (authority.issue(name, 7), authority.issue(name, 8));
    let foreign = Authority::new().issue(name, 9);
    let asks = async |issued: Option<&Issued>| {
        let Some(channel) = sidecar.connect(&authority, issued).await else { return false };
        // With TLS 1.3 a client hears that it is refused only when it reads.
        EnforcementServiceClient::new(channel).authorize(question(Operation::EnableUsers)).await.is_ok()
    };
    assert!(asks(Some(&good)).await);
    assert!(asks(Some(&bad)).await);
    assert!(!asks(Some(&foreign)).await);
    assert!(!asks(None).await);
    // What is open with it ends, and it does not come again; the other does.
    let mut open = EnforcementServiceClient::new(sidecar.connect(&authority, Some(&bad)).await.unwrap());
    let mut watch = open
        .watch_subscription(api::WatchSubscriptionRequest { subscription_id: ID.to_owned() })
        .await
        .unwrap()
        .into_inner();
    assert!(watch.message().await.unwrap().is_some());
    authority.revoke(&[8]);
    assert!(watch.message().await.unwrap().is_none());
    assert!(!asks(Some(&bad)).await);
    assert!(asks(Some(&good)).await);
    sidecar.stop().await;
}

/// A path is looked for among all that is shown, by whoever comes, before anybody knows who it is.
#[tokio::test]
async fn a_caller_that_shows_more_certificates_than_a_chain_has_is_turned_away() {
    let authority = Authority::new();
    let sidecar = Guarded::over_tls(&authority, TABLE).await;
    let mut shown = authority.issue("spiffe://example.org/authentication", 7);
    let mut answered = Vec::new();
    for _ in 0..6 {
        let channel = sidecar.connect(&authority, Some(&shown)).await;
        answered.push(match channel {
            Some(channel) => {
                let mut client = EnforcementServiceClient::new(channel);
                client.authorize(question(Operation::EnableUsers)).await.is_ok()
            }
            None => false,
        });
        shown.certificate.push_str(&Authority::named("of the same name").pem());
    }
    assert_eq!(answered, [true, true, true, true, true, false]);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_certificate_that_does_not_read_changes_nothing_and_one_that_is_renewed_counts() {
    let authority = Authority::new();
    let sidecar = Guarded::over_tls(&authority, TABLE).await;
    let caller = authority.issue("spiffe://example.org/authentication", 7);
    std::fs::write(authority.path("server.pem"), "nonsense").unwrap();
    for _ in 0..20 {
        let channel = sidecar.connect(&authority, Some(&caller)).await.unwrap();
        EnforcementServiceClient::new(channel).authorize(question(Operation::EnableUsers)).await.unwrap();
    }
    // One that another authority signed is not believed by the client: that is how it shows.
    let other = Authority::new();
    authority.serve(&other.issue("sidecar.test", 1));
    let renewed = async {
        while sidecar.connect(&authority, Some(&caller)).await.is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), renewed).await.unwrap();
    sidecar.stop().await;
}

/// How often a certificate is renewed under load; `tests/run --long` does it two hundred times.
fn rotations() -> usize {
    std::env::var("ESA_SIDECAR_ROTATIONS").map_or(10, |rotations| rotations.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_certificates_are_renewed() {
    let authorities = [Authority::new(), Authority::new()];
    let [first, _] = &authorities;
    let sidecar = Guarded::over_tls(first, TABLE).await;
    let caller = first.issue("spiffe://example.org/authentication", 7);
    let ended = CancellationToken::new();
    let mut load = Vec::new();
    for _ in 0..2 {
        let channel = sidecar.connect(first, Some(&caller)).await.unwrap();
        let (mut client, ended) = (EnforcementServiceClient::new(channel), ended.clone());
        load.push(tokio::spawn(async move {
            let mut answered = 0_u32;
            while !ended.is_cancelled() {
                client.authorize(question(Operation::EnableUsers)).await.unwrap();
                answered += 1;
            }
            answered
        }));
    }
    for (rotation, authority) in (0..rotations()).zip(authorities.iter().rev().cycle()) {
        first.serve(&authority.issue("sidecar.test", 2));
        // Whoever believes this authority alone comes through once its certificate is shown.
        let renewed = async {
            loop {
                if let Some(channel) = sidecar.connect(authority, Some(&caller)).await {
                    break channel;
                }
                tokio::task::yield_now().await;
            }
        };
        let channel = tokio::time::timeout(std::time::Duration::from_secs(10), renewed).await;
        let mut client =
            EnforcementServiceClient::new(channel.unwrap_or_else(|_| panic!("rotation {rotation}")));
        client.authorize(question(Operation::EnableUsers)).await.unwrap();
    }
    ended.cancel();
    let mut answered = 0;
    for load in load {
        answered += load.await.unwrap();
    }
    println!("{} certificates, {answered} calls answered, none failed", rotations());
    sidecar.stop().await;
}

/// A connection over TLS that does not do as it is asked.
async fn rude(
    sidecar: &Guarded,
    config: Arc<rustls::ClientConfig>,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let io = tokio::net::TcpStream::connect(sidecar.address.to_string()).await.unwrap();
    let name = "sidecar.test".try_into().unwrap();
    tokio_rustls::TlsConnector::from(config).connect(name, io).await.unwrap()
}

#[tokio::test]
async fn a_session_is_not_resumed_where_a_certificate_is_asked_for() {
    let authority = Authority::new();
    let sidecar = Guarded::over_tls(&authority, TABLE).await;
    let issued = authority.issue("spiffe://example.org/authentication", 7);
    let config = authority.rustls(&issued);
    for _ in 0..3 {
        let mut io = rude(&sidecar, Arc::clone(&config)).await;
        // Tickets would come with the first words of the server.
        io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        assert_eq!(io.read_u8().await.unwrap(), 0);
        assert_eq!(io.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn whoever_was_revoked_is_nobody_on_a_connection_it_does_not_let_go_of() {
    let authority = Authority::new();
    let sidecar = Guarded::over_tls(&authority, TABLE).await;
    let issued = authority.issue("spiffe://example.org/authentication", 8);
    let mut io = rude(&sidecar, authority.rustls(&issued)).await;
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    io.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let mut read = Vec::new();
    let mut stream = 1;
    // It never acknowledges what the server waits for before it closes.
    let mut ask = async |io: &mut tokio_rustls::client::TlsStream<tokio::net::TcpStream>| {
        io.write_all(&asked(stream)).await.unwrap();
        stream += 2;
        let mut answered = false;
        loop {
            let mut head = [0; 9];
            io.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            read.resize(usize::try_from(length).unwrap(), 0);
            io.read_exact(&mut read).await.unwrap();
            // An answer has its message, then trailers; a refusal is a head alone.
            match head[3] {
                0 => answered = true,
                1 if head[4] & 1 == 1 => return answered,
                _ => {}
            }
        }
    };
    assert!(ask(&mut io).await);
    authority.revoke(&[8]);
    let refused = async { while ask(&mut io).await {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), refused).await.unwrap();
    sidecar.stop.cancel();
    drop(io);
    sidecar.ended.await.unwrap();
}
