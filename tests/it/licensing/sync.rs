//! Sync: who may, what a server is told that is not activated, and how a deactivation arrives (semantics 6.6).

use esa_sidecar::{
    domain::{Activation, Span},
    proto::licensing as api,
    signing::{TrustedKeys, VerifiedFacts},
};
use sqlx::{AssertSqlSafe, Executor as _};
use tonic::{Code, Status};

use super::{
    office::{Activated, Office, On, a_license, reason, timestamp, unique, users},
    on_every_store,
};

on_every_store!(
    a_unit_proves_itself_with_its_own_secret_and_an_account_is_no_unit,
    a_nonce_has_16_to_64_bytes_and_comes_back,
    a_server_that_is_not_activated_is_told_that_and_nothing_else,
    a_pending_unit_is_told_at_its_sync_and_is_deactivated_then,
    what_a_unit_says_of_itself_is_kept,
);

async fn sync(office: &Office, token: &str, request: api::SyncRequest) -> Result<VerifiedFacts, Status> {
    let told = office.sync(token).sync(request).await?.into_inner().facts.unwrap();
    Ok(TrustedKeys::of(office.keys.public_keys()).unwrap().verify(&told).unwrap())
}

fn request(unit_id: &str) -> api::SyncRequest {
    let unit = Some(api::SyncingUnit { unit_id: unit_id.to_owned(), ..Default::default() });
    api::SyncRequest { unit, nonce: unique().into_bytes(), ..Default::default() }
}

fn secret(unit: &Activated) -> &str {
    unit.token.rsplit_once('_').unwrap().1
}

async fn a_unit_proves_itself_with_its_own_secret_and_an_account_is_no_unit(office: Office) {
    let (license, key) = office.license(a_license()).await;
    let one = office.activate("", &key, "one").await.unwrap();
    let two = office.activate("", &key, "two").await.unwrap();
    let made = api::CreateApiCredentialRequest {
        request_id: unique(),
        name: "script".to_owned(),
        ..Default::default()
    };
    let made = office.accounts(&office.owner).create_api_credential(made).await.unwrap().into_inner();
    let hash = esa_sidecar::sha256::hex(secret(&one).as_bytes());
    let nobody = "01900000-0000-7000-8000-000000000000";
    let before = office.synced(&one, None).await;
    for (token, unit, code) in [
        (format!("esau_{}_{}", one.id, secret(&two)), &one.id, Code::Unauthenticated),
        (format!("esau_{}_{}", one.id, hash), &one.id, Code::Unauthenticated),
        (format!("esau_{}_", one.id), &one.id, Code::Unauthenticated),
        (format!("esau_{}_{}", nobody, secret(&one)), &one.id, Code::Unauthenticated),
        (office.owner.clone(), &one.id, Code::Unauthenticated),
        (made.token, &one.id, Code::Unauthenticated),
        (String::new(), &one.id, Code::Unauthenticated),
        (one.token.clone(), &two.id, Code::InvalidArgument),
        (one.token.clone(), &String::new(), Code::InvalidArgument),
    ] {
        let usage = users("", 500, office.now());
        let refused = sync(&office, &token, api::SyncRequest { usage, ..request(unit) }).await.unwrap_err();
        assert_eq!(refused.code(), code, "{token}: {refused:?}");
    }
    // With a credential, a unit has to be named; without one, none.
    let anonymous = api::SyncRequest { unit: None, subscription_id: license, ..request("") };
    let refused = sync(&office, &one.token, anonymous.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = sync(&office, &office.owner, anonymous).await.unwrap_err();
    assert_eq!(reason(&refused), "UNAUTHENTICATED");
    assert_eq!(office.synced(&one, None).await.facts, before.facts, "nothing was counted");
}

async fn a_nonce_has_16_to_64_bytes_and_comes_back(office: Office) {
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    for (length, known) in [(0, false), (15, false), (16, true), (64, true), (65, false)] {
        let nonce = vec![0xff; length];
        for told in [
            sync(&office, &unit.token, api::SyncRequest { nonce: nonce.clone(), ..request(&unit.id) }).await,
            sync(
                &office,
                "",
                api::SyncRequest {
                    nonce: nonce.clone(),
                    subscription_id: "AAA-AAA-AAA".to_owned(),
                    ..Default::default()
                },
            )
            .await,
        ] {
            match told {
                Ok(told) => assert!(known && told.nonce == nonce, "{length} bytes"),
                Err(refused) => assert!(!known && refused.code() == Code::InvalidArgument, "{length} bytes"),
            }
        }
    }
}

async fn a_server_that_is_not_activated_is_told_that_and_nothing_else(office: Office) {
    let limits =
        api::NewLicense { sms_credits: Some(9), all_users_limit: 5, components_limit: 6, ..a_license() };
    let (known, key) = office.license(limits).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    office.synced(&unit, users("", 50, office.now())).await;
    let nonce = vec![3; 16];
    let mut told = Vec::new();
    for id in [known.as_str(), "ZZZ-ZZZ-ZZZ"] {
        let request = api::SyncRequest {
            nonce: nonce.clone(),
            subscription_id: id.to_owned(),
            // Whatever it counted counts nowhere.
            usage: users("", 70, office.now()),
            unit: None,
            ..Default::default()
        };
        let facts = sync(&office, "", request).await.unwrap();
        assert_eq!(facts.facts.activation, Activation::NotActivated);
        assert_eq!((facts.unit_id.as_str(), facts.sequence), ("", 0));
        assert_eq!(facts.facts.subscription_id.to_string(), id);
        told.push(format!("{facts:?}").replace(id, "<ID>"));
    }
    assert_eq!(told[0], told[1], "an ID that is known is told nothing more");
    assert_eq!(office.synced(&unit, None).await.facts.users.active.0, 50);
    for id in ["", "not one", "AAA-AAA-AA"] {
        let request =
            api::SyncRequest { nonce: nonce.clone(), subscription_id: id.to_owned(), ..Default::default() };
        assert_eq!(sync(&office, "", request).await.unwrap_err().code(), Code::InvalidArgument, "`{id}`");
    }
}

async fn a_pending_unit_is_told_at_its_sync_and_is_deactivated_then(office: Office) {
    use api::UnitState::{Active, Deactivated, DeactivationPending};
    let (license, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    office.synced(&unit, users("", 10, office.now())).await;
    let stands = async || {
        let request = api::GetUnitRequest { unit_id: unit.id.clone() };
        let told = office.units(&office.owner).get_unit(request).await.unwrap().into_inner().unit.unwrap();
        (told.state(), told.deactivated_at)
    };
    assert_eq!(stands().await, (Active, None));
    office.clock.advance(Span::SECOND);
    let since = office.now();
    let before = office.synced(&unit, None).await.sequence;
    office.deactivate(&office.owner, &[&unit.id]).await;
    let pending = (DeactivationPending, timestamp(since));
    assert_eq!(stands().await, pending);
    assert_eq!(
        office.seen(&office.owner, &license).await.unwrap().active_units,
        0,
        "its seat is free at once"
    );
    office.clock.advance(Span::days(1));
    let again = office.deactivate(&office.owner, &[&unit.id, &unit.id]).await;
    assert!(again.iter().all(|result| result.state() == DeactivationPending && result.refusal == 0));
    assert_eq!(stands().await, pending, "asking again changes nothing");
    let told = office.synced(&unit, None).await;
    assert_eq!(told.facts.activation, Activation::Deactivated { since });
    assert!(before < told.sequence);
    assert_eq!(stands().await, (Deactivated, timestamp(since)));
    office.clock.advance(Span::days(1));
    office.deactivate(&office.owner, &[&unit.id]).await;
    assert_eq!(stands().await, (Deactivated, timestamp(since)));
    let told = office.synced(&unit, users("", 10, office.now())).await.facts;
    assert_eq!((told.activation, told.users.active.0), (Activation::Deactivated { since }, 0));
    let entries = office.entries(&office.owner).await;
    let told = entries.iter().filter(|entry| entry.action == "unit.deactivated").count();
    assert_eq!(told, 1, "told once");
    assert_eq!(office.seen(&office.owner, &license).await.unwrap().active_units, 0);
}

async fn what_a_unit_says_of_itself_is_kept(office: Office) {
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let says = async |product_version: &str, subunits| {
        let (unit_id, product_version) = (unit.id.clone(), product_version.to_owned());
        let says = Some(api::SyncingUnit { unit_id, product_version, subunits, ..Default::default() });
        sync(&office, &unit.token, api::SyncRequest { unit: says, ..request("") }).await.unwrap();
        let request = api::GetUnitRequest { unit_id: unit.id.clone() };
        let told = office.units(&office.owner).get_unit(request).await.unwrap().into_inner().unit.unwrap();
        (told.product_version, told.subunits, told.last_connected_at)
    };
    let start = timestamp(office.now());
    assert_eq!(says("", None).await, ("3.0.81.0".to_owned(), 0, start));
    assert_eq!(says("3.1", None).await, ("3.1".to_owned(), 0, start));
    assert_eq!(says("", Some(12)).await, ("3.1".to_owned(), 12, start));
    office.clock.advance(Span::days(2));
    assert_eq!(says("", None).await, ("3.1".to_owned(), 12, timestamp(office.now())));
    assert_eq!(says("3.2", Some(0)).await, ("3.2".to_owned(), 0, timestamp(office.now())));
}

/// A sidecar that holds the number of a deactivation takes nothing else for it: active facts under that number would be
/// what it goes on with.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_deactivated_while_it_syncs_is_not_active_under_the_number_of_its_deactivation() {
    let office = Office::open(On::Postgres).await;
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let before = office.synced(&unit, None).await.sequence;
    // Whoever reads a subscription waits from here on; units can be read.
    let mut deactivating = office.behind().await;
    deactivating.execute("BEGIN").await.unwrap();
    deactivating.execute("LOCK TABLE subscriptions IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let syncing = office.synced(&unit, None);
    let deactivate = async {
        let waiting = "SELECT COUNT(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
            WHERE NOT l.granted AND d.datname = current_database()";
        while office.numbers(waiting).await == [0] {
            tokio::task::yield_now().await;
        }
        let at = office.now().unix_nanos();
        for sql in [
            format!("UPDATE units SET state = 2, deactivated_at = {at}, changed_in = {}", before + 1),
            format!("UPDATE subscriptions SET sequence = {}", before + 1),
            "COMMIT".to_owned(),
        ] {
            deactivating.execute(AssertSqlSafe(sql)).await.unwrap();
        }
    };
    let (told, ()) = tokio::join!(syncing, deactivate);
    assert_eq!(told.sequence, before + 1);
    assert_eq!(told.facts.activation, Activation::Deactivated { since: office.now() });
}
