//! Health: ready only when facts are published, and not ready again when they are too old.

use esa_sidecar::{
    health::{ENFORCEMENT, LICENSING_SYNC, LIVENESS, SERVICES},
    proto::{
        enforcement as api,
        health::{HealthCheckRequest, HealthListRequest, health_check_response::ServingStatus},
        licensing::SignedFacts,
    },
    source::{Fetched, Proof, Told},
};
use tonic::Code;

use crate::sidecar::{ID, START, ScriptedSource, Sidecar, days, healthy};

async fn listed(sidecar: &mut Sidecar) -> Vec<ServingStatus> {
    let statuses = sidecar.health.list(HealthListRequest {}).await.unwrap().into_inner().statuses;
    assert_eq!(statuses.len(), 4);
    SERVICES.map(|name| statuses[name].status()).to_vec()
}

const SERVING: ServingStatus = ServingStatus::Serving;
const NOT: ServingStatus = ServingStatus::NotServing;

#[tokio::test]
async fn before_facts_the_process_lives_and_nothing_else_is_there() {
    assert_eq!(SERVICES, ["", ENFORCEMENT, LIVENESS, LICENSING_SYNC]);
    let mut sidecar = Sidecar::start(ScriptedSource::unreachable()).await;
    assert_eq!(listed(&mut sidecar).await, [NOT, NOT, SERVING, NOT]);
    sidecar.stop().await;
}

#[tokio::test]
async fn whoever_hears_serving_gets_an_answer() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    source.hold();
    let mut sidecar = Sidecar::start(source.clone()).await;
    assert_eq!(listed(&mut sidecar).await, [NOT, NOT, SERVING, NOT]);
    source.let_through(1);
    let mut sidecar = sidecar.ready().await;
    sidecar.subscription(ID).await;
    assert_eq!(listed(&mut sidecar).await, [SERVING; 4]);
    sidecar.stop().await;
}

#[tokio::test]
async fn stale_facts_end_licensing_sync_and_facts_too_old_end_readiness() {
    let toml = "staleness.stale_after = '1d'\nstaleness.unavailable_after = '3d'";
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let mut sidecar = Sidecar::start_with(source.clone(), None, toml).await.ready().await;
    let watch = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let mut sync = sidecar.health.watch(watch(LICENSING_SYNC)).await.unwrap().into_inner();
    let mut ready = sidecar.health.watch(watch("")).await.unwrap().into_inner();
    assert_eq!(sync.message().await.unwrap().unwrap().status(), SERVING);
    assert_eq!(ready.message().await.unwrap().unwrap().status(), SERVING);

    sidecar.clock.set((START + days(1)).next());
    assert_eq!(sync.message().await.unwrap().unwrap().status(), NOT);
    assert_eq!(listed(&mut sidecar).await, [SERVING, SERVING, SERVING, NOT]);
    sidecar.clock.set((START + days(3)).next());
    assert_eq!(ready.message().await.unwrap().unwrap().status(), NOT);
    assert_eq!(listed(&mut sidecar).await, [NOT, NOT, SERVING, NOT]);

    sidecar.refresh().await;
    assert_eq!(ready.message().await.unwrap().unwrap().status(), SERVING, "readiness comes back");
    assert_eq!(sync.message().await.unwrap().unwrap().status(), SERVING);
    sidecar.stop().await;
}

#[tokio::test]
async fn ready_while_any_subscription_can_be_answered_for_and_in_sync_while_every_one_is_fresh() {
    let toml = "staleness.stale_after = '1d'\nstaleness.unavailable_after = '3d'";
    let source = ScriptedSource::unreachable();
    let issued = |id, issued_at| {
        let proof = Proof { signed: SignedFacts::default(), sequence: 1, issued_at };
        Told { facts: healthy(id), proof: Some(proof) }
    };
    source.script(Ok(Fetched::All(vec![issued(ID, START), issued("AAA-AAA-AAA", START - days(2))])));
    let mut sidecar = Sidecar::start_with(source, None, toml).await.ready().await;
    assert_eq!(listed(&mut sidecar).await, [SERVING, SERVING, SERVING, NOT]);
    let watch = HealthCheckRequest { service: String::new() };
    let mut ready = sidecar.health.watch(watch).await.unwrap().into_inner();
    assert_eq!(ready.message().await.unwrap().unwrap().status(), SERVING);
    sidecar.clock.set((START + days(1)).next());
    let stale = |subscription: api::Subscription| subscription.provenance.unwrap().stale;
    assert!(stale(sidecar.subscription(ID).await) && stale(sidecar.subscription("AAA-AAA-AAA").await));
    assert_eq!(listed(&mut sidecar).await[0], SERVING, "the newer one can be answered for");
    sidecar.clock.set((START + days(3)).next());
    assert_eq!(ready.message().await.unwrap().unwrap().status(), NOT);
    sidecar.stop().await;
}

#[tokio::test]
async fn an_unknown_service_is_not_found_by_a_check_and_watched_for_ever() {
    let mut sidecar = Sidecar::start(ScriptedSource::unreachable()).await;
    let unknown = || HealthCheckRequest { service: "nobody".to_owned() };
    assert_eq!(sidecar.health.check(unknown()).await.unwrap_err().code(), Code::NotFound);
    let mut watch = sidecar.health.watch(unknown()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    sidecar.stop.cancel();
    assert!(watch.message().await.unwrap().is_none(), "it stays open until the sidecar drains");
    sidecar.ended.await.unwrap().unwrap();
}
