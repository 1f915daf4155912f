//! Watches: what is told at once, and again at every change, by refresh or by time.

use esa_sidecar::{
    domain::{Facts, Span, facts::ActiveUsers},
    proto::enforcement as api,
};
use tonic::Code;

use crate::sidecar::{ID, START, ScriptedSource, Sidecar, days, healthy};

async fn next(watch: &mut tonic::Streaming<api::WatchSubscriptionResponse>) -> api::Subscription {
    watch.message().await.unwrap().unwrap().subscription.unwrap()
}

#[tokio::test]
async fn a_watcher_hears_of_each_turn_that_only_time_brings_at_that_instant() {
    let expiring = Facts { expires_at: START + days(60), ..healthy(ID) };
    // The facts are to stay fresh, so that only their own turns are heard of.
    let source = ScriptedSource::telling(vec![expiring]);
    let mut sidecar =
        Sidecar::start_with(source, None, "staleness.stale_after = '1000d'").await.ready().await;
    let mut watch = sidecar.watch(ID).await;
    assert_eq!(next(&mut watch).await.state(), api::SubscriptionState::Ok);
    let nano = Span::from_nanos(1);
    for (turn, state) in [
        (START + days(30) + nano, api::SubscriptionState::Warning),
        (START + days(60), api::SubscriptionState::ViolationFullFunctionality),
        (START + days(67) + nano, api::SubscriptionState::ViolationLimitedFunctionality),
        (START + days(90) + nano, api::SubscriptionState::Disabled),
    ] {
        // One nanosecond before nothing is told: what is heard next was computed for the turn itself.
        sidecar.clock.set(turn - nano);
        sidecar.clock.set(turn);
        let told = next(&mut watch).await;
        assert_eq!(told.state(), state);
        let at = told.evaluated_at.unwrap();
        assert_eq!(i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos), turn.unix_nanos());
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_watcher_hears_of_a_refresh_that_changes_something_and_of_no_other() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let mut sidecar = Sidecar::start(source.clone()).await.ready().await;
    let mut watch = sidecar.watch(ID).await;
    assert_eq!(next(&mut watch).await.provenance.unwrap().revision, 1);
    assert_eq!(sidecar.refresh().await.outcome(), api::RefreshOutcome::Unchanged);
    let mut facts = healthy(ID);
    facts.users.active = ActiveUsers(101);
    source.tell(vec![facts]);
    let told = next(&mut watch).await;
    assert_eq!(told.state(), api::SubscriptionState::ViolationFullFunctionality);
    assert_eq!(told.provenance.unwrap().revision, 2, "nothing was told between");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_watcher_hears_that_facts_have_become_stale() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let mut sidecar = Sidecar::start_with(source, None, "staleness.stale_after = '1d'").await.ready().await;
    let mut watch = sidecar.watch(ID).await;
    assert!(!next(&mut watch).await.provenance.unwrap().stale);
    sidecar.clock.set((START + days(1)).next());
    assert!(next(&mut watch).await.provenance.unwrap().stale);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_watch_ends_with_not_found_when_its_subscription_is_let_go() {
    let source = ScriptedSource::telling(vec![healthy(ID), healthy("BBB-BBB-BBB")]);
    let mut sidecar = Sidecar::start(source.clone()).await.ready().await;
    let mut watch = sidecar.watch(ID).await;
    next(&mut watch).await;
    source.tell(vec![healthy("BBB-BBB-BBB")]);
    assert_eq!(watch.message().await.unwrap_err().code(), Code::NotFound);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_subscription_that_comes_back_has_a_higher_number() {
    let source = ScriptedSource::telling(vec![healthy(ID), healthy("BBB-BBB-BBB")]);
    let mut sidecar = Sidecar::start(source.clone()).await.ready().await;
    for facts in [vec![healthy("BBB-BBB-BBB")], vec![healthy(ID), healthy("BBB-BBB-BBB")]] {
        source.tell(facts);
        sidecar.refresh().await;
    }
    assert_eq!(sidecar.subscription(ID).await.provenance.unwrap().revision, 3);
    assert_eq!(sidecar.subscription("BBB-BBB-BBB").await.provenance.unwrap().revision, 1);
    sidecar.stop().await;
}

#[tokio::test]
async fn watches_are_bounded_and_a_place_is_given_back() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let mut sidecar = Sidecar::start_with(source, None, "limits.watches = 1").await.ready().await;
    let mut first = sidecar.watch(ID).await;
    next(&mut first).await;
    let request = || api::WatchSubscriptionRequest { subscription_id: ID.to_owned() };
    let status = sidecar.client.watch_subscription(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(first);
    // The server hears of it in its own time.
    while sidecar.client.watch_subscription(request()).await.is_err() {
        tokio::task::yield_now().await;
    }
    sidecar.stop().await;
}
