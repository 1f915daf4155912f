//! Units and license keys have lines and a pace of their own: what many of them do keeps others waiting for no more than a
//! few changes (semantics 7.39).

use std::time::Duration;

use esa_sidecar::proto::licensing as api;
use futures_util::future::join_all;
use sqlx::Executor as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::office::{Activated, Office, On, PASSWORD, a_license, reason, unique, users};

const SYNCED: &str = "SELECT COUNT(*) FROM units WHERE active_users = 1";

/// A sync that writes.
async fn sync(office: &Office, unit: &Activated) -> Result<(), Status> {
    let request = api::SyncRequest {
        unit: Some(api::SyncingUnit { unit_id: unit.id.clone(), ..Default::default() }),
        usage: users(&unit.id, 1, office.now()),
        nonce: unique().into_bytes(),
        ..Default::default()
    };
    office.sync(&unit.token).sync(request).await.map(drop)
}

fn is_too_fast(refused: &Status) -> bool {
    let wait = refused.get_details_retry_info().and_then(|info| info.retry_delay);
    (refused.code(), reason(refused).as_str()) == (Code::ResourceExhausted, "TOO_FAST") && wait.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_units_that_sync_hold_up_neither_another_customer_nor_the_accounts_of_their_own() {
    let office = Office::open(On::Sqlite).await;
    let (id, key) = office.license(api::NewLicense { seats: 1_000, ..a_license() }).await;
    let acme = office.customer("acme", "acme.owner").await;
    let (theirs, _) = office.license(api::NewLicense { customer: "acme".to_owned(), ..a_license() }).await;
    let mut units = Vec::new();
    for number in 0..150 {
        units.push(office.activate("", &key, &format!("device {number}")).await.unwrap());
    }
    let many = join_all(units.iter().map(|unit| sync(&office, unit)));
    let begun = async { while office.numbers(SYNCED).await == [0] {} };
    let one = async {
        begun.await;
        office.activate(&acme, &theirs, "theirs").await.unwrap();
        let theirs = office.numbers(SYNCED).await[0];
        office.resume(&id).await.unwrap();
        (theirs, office.numbers(SYNCED).await[0])
    };
    let (many, (before_theirs, before_ours)) = tokio::join!(many, one);
    assert!(many.iter().all(Result::is_ok));
    assert!(before_theirs < 75, "{before_theirs} of 150 syncs came before another customer's change");
    assert!(before_ours < 140, "{before_ours} of 150 syncs came before an account's change");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_syncs_too_often_at_once_is_told_when_to_come_again() {
    let office = Office::open(On::Sqlite).await;
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "device").await.unwrap();
    let mut holding = office.behind().await;
    holding.execute("BEGIN IMMEDIATE").await.unwrap();
    let many = (0..300).map(|_| sync(&office, &unit));
    let (synced, ()) = tokio::join!(join_all(many), async {
        // Whoever is refused is so while nobody's turn ends.
        sync(&office, &unit).await.unwrap_err();
        holding.execute("COMMIT").await.unwrap();
    });
    let refused: Vec<_> = synced.iter().filter_map(|synced| synced.as_ref().err()).collect();
    assert!((44..=45).contains(&refused.len()), "{} of 300 were refused", refused.len());
    assert!(refused.iter().all(|refused| is_too_fast(refused)), "{refused:?}");
    sync(&office, &unit).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_key_activates_only_so_much_at_once_and_a_repetition_costs_nothing() {
    let office = Office::open(On::Sqlite).await;
    let (_, key) = office.license(a_license()).await;
    let (_, other) = office.license(a_license()).await;
    // Large requests count for more.
    let asked = |key: &str| api::ActivateUnitRequest {
        request_id: unique(),
        license_key: key.to_owned(),
        license_id: "x".repeat(4_000_000),
        device_name: "device".to_owned(),
        secret_sha256: esa_sidecar::sha256::hex(b"secret"),
        ..Default::default()
    };
    let activate = async |request: &api::ActivateUnitRequest| {
        let answer = office.units("").activate_unit(request.clone()).await?;
        Ok::<_, Status>(answer.into_inner().unit.unwrap().unit_id)
    };
    let first = asked(&key);
    let unit_id = activate(&first).await.unwrap();
    let mut refused = None;
    for _ in 0..8 {
        refused = activate(&asked(&key)).await.err().or(refused);
    }
    let refused = refused.expect("a key activates only so much at once");
    assert!(is_too_fast(&refused), "{refused:?}");
    assert_eq!(activate(&first).await.unwrap(), unit_id, "the same request again is answered");
    activate(&asked(&other)).await.unwrap();
    office
        .activate(&office.owner, &office.all_units(&office.owner).await[0].license_id, "by account")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_key_that_opens_nothing_waits_for_no_change() {
    let office = Office::open(On::Sqlite).await;
    let try_one = async || {
        let refused = office.activate("", "A-KEY-OF-NOBODY", "device").await.map(|unit| unit.id);
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    };
    // From here on no attempt of this minute is written down.
    for _ in 0..20 {
        try_one().await;
    }
    let mut holding = office.behind().await;
    holding.execute("BEGIN IMMEDIATE").await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), try_one()).await.expect("nothing waits for the writer");
    holding.execute("COMMIT").await.unwrap();
}

/// Whatever its API credentials do: those have a budget of their own.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_opens_and_ends_only_so_many_sessions_at_once() {
    let office = Office::open(On::Sqlite).await;
    let anna = office.admin("anna").await;
    let mut refused = None;
    for _ in 0..8 {
        let request = api::EndSessionRequest { session_id: "x".repeat(4_000_000) };
        refused = office.accounts(&anna).end_session(request).await.err().or(refused);
    }
    let refused = refused.expect("an account ends only so many sessions at once");
    assert!(is_too_fast(&refused), "{refused:?}");
    let refused = office.sign_in("anna", PASSWORD).await.unwrap_err();
    assert!(is_too_fast(&refused), "{refused:?}");
    let refused = office.sign_in("anna", "not the password of anybody").await.unwrap_err();
    assert_eq!(reason(&refused), "WRONG_PASSWORD");
    office.sign_in("owner", PASSWORD).await.unwrap();
    let request = api::CreateApiCredentialRequest {
        request_id: unique(),
        name: "script".to_owned(),
        ..Default::default()
    };
    office.accounts(&anna).create_api_credential(request).await.unwrap();
    office.accounts(&anna).sign_out(api::SignOutRequest {}).await.unwrap();
}
