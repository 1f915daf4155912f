//! Secrets of units: renewed by the unit, revoked by its owner, used in two places at once; and facts that went back.

use esa_sidecar::{domain::Span, proto::licensing as api, sha256};
use tonic::{Code, Status};

use super::{
    office::{Activated, Office, a_license, reason, unique, users},
    on_both_databases,
};

on_both_databases!(
    a_unit_renews_its_secret_and_both_open_until_the_new_one_is_used,
    renewals_are_one_entry_a_day_and_none_of_a_deactivated_unit,
    whoever_may_deactivate_a_unit_revokes_its_secret_and_nobody_syncs_with_it,
    a_server_whose_stolen_secret_was_revoked_counts_once_when_it_is_activated_again,
    a_unit_that_runs_in_two_places_at_once_is_told_once_a_day,
    a_unit_that_went_back_to_older_facts_shows_in_the_audit_log,
);

async fn sync(
    office: &Office,
    unit: &Activated,
    secret: &str,
    request: api::SyncRequest,
) -> Result<api::SyncResponse, Status> {
    let syncing = api::SyncingUnit { unit_id: unit.id.clone(), ..request.unit.unwrap_or_default() };
    let request = api::SyncRequest { unit: Some(syncing), nonce: unique().into_bytes(), ..request };
    let token = format!("esau_{}_{secret}", unit.id);
    office.sync(&token).sync(request).await.map(tonic::Response::into_inner)
}

async fn actions(office: &Office, wanted: &str) -> usize {
    office.entries(&office.owner).await.iter().filter(|entry| entry.action == wanted).count()
}

/// The secret a unit was activated with.
fn secret(unit: &Activated) -> &str {
    unit.token.rsplit_once('_').unwrap().1
}

async fn a_unit_renews_its_secret_and_both_open_until_the_new_one_is_used(office: Office) {
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let old = secret(&unit);
    let (lost, new) = (unique(), unique());
    let next = |secret: &str| api::SyncRequest {
        next_secret_sha256: sha256::hex(secret.as_bytes()),
        ..Default::default()
    };
    let opens = async |secret: &str| sync(&office, &unit, secret, api::SyncRequest::default()).await.is_ok();
    assert!(!opens(&new).await, "nobody was told of it");
    for next in [next(&lost), next(&new), next(&new)] {
        assert_eq!(sync(&office, &unit, old, next).await.unwrap().refused, []);
    }
    assert!(opens(old).await);
    assert!(!opens(&lost).await, "the last one that was told is the next");
    assert!(opens(&new).await);
    for _ in 0..2 {
        assert!(!opens(old).await, "the new one was used");
        assert!(opens(&new).await);
    }
    let malformed = api::SyncRequest { next_secret_sha256: "A".repeat(64), ..Default::default() };
    let named = sync(&office, &unit, &new, malformed).await.unwrap().refused;
    assert_eq!(named[0].field, "next_secret_sha256");
    assert_eq!(actions(&office, "unit.renew_secret").await, 1);
}

async fn renewals_are_one_entry_a_day_and_none_of_a_deactivated_unit(office: Office) {
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    // Each sync comes with the secret named last, and names another.
    let chain = async |from: String, times: usize| {
        let mut secret = from;
        for _ in 0..times {
            let next = unique();
            let request =
                api::SyncRequest { next_secret_sha256: sha256::hex(next.as_bytes()), ..Default::default() };
            if sync(&office, &unit, &secret, request).await.is_err() {
                return (false, secret);
            }
            secret = next;
        }
        (true, secret)
    };
    let (opens, secret) = chain(secret(&unit).to_owned(), 4).await;
    assert!(opens, "an active unit renews as often as it likes");
    assert_eq!(actions(&office, "unit.renew_secret").await, 1);
    office.clock.advance(Span::days(1));
    let (opens, secret) = chain(secret, 4).await;
    assert!(opens);
    assert_eq!(actions(&office, "unit.renew_secret").await, 2, "one a day");
    office.deactivate(&office.owner, &[&unit.id]).await;
    let (_, secret) = chain(secret, 2).await;
    office.clock.advance(Span::days(1));
    let entries = office.entries(&office.owner).await.len();
    assert!(!chain(secret, 4).await.0, "what it named does not open");
    assert_eq!(office.entries(&office.owner).await.len(), entries, "a deactivated unit renews nothing");
}

async fn whoever_may_deactivate_a_unit_revokes_its_secret_and_nobody_syncs_with_it(office: Office) {
    let (license, key) = office.license(a_license()).await;
    let admin = office.admin("anna").await;
    office.delegate(&license, "anna", &admin).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let old = secret(&unit);
    let new = unique();
    let next = api::SyncRequest { next_secret_sha256: sha256::hex(new.as_bytes()), ..Default::default() };
    sync(&office, &unit, old, next).await.unwrap();
    let revoke = async |token: &str, unit_id: &str| {
        let request = api::RevokeUnitSecretRequest { request_id: unique(), unit_id: unit_id.to_owned() };
        office.units(token).revoke_unit_secret(request).await.map(tonic::Response::into_inner)
    };
    let refused = revoke(&admin, &unit.id).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "NOT_ALLOWED"));
    assert!(sync(&office, &unit, old, api::SyncRequest::default()).await.is_ok());
    let stranger = office.customer("another", "stranger").await;
    assert_eq!(revoke(&stranger, &unit.id).await.unwrap_err().code(), Code::NotFound);
    let told = revoke(&office.owner, &unit.id).await.unwrap().unit.unwrap();
    assert!(told.secret_revoked && told.state() == api::UnitState::DeactivationPending, "{told:?}");
    for secret in [old, &new, ""] {
        let refused = sync(&office, &unit, secret, api::SyncRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{secret}");
    }
    let own = office.activate(&admin, &license, "anna's").await.unwrap();
    assert!(revoke(&admin, &own.id).await.unwrap().unit.unwrap().secret_revoked);
}

/// As the README says to do about a stolen credential.
async fn a_server_whose_stolen_secret_was_revoked_counts_once_when_it_is_activated_again(office: Office) {
    let (license, key) = office.license(api::NewLicense { seats: 50, ..a_license() }).await;
    let stolen = office.activate("", &key, "server").await.unwrap();
    assert_eq!(office.synced(&stolen, users("", 40, office.now())).await.facts.users.active.0, 40);
    for _ in 0..2 {
        let request = api::RevokeUnitSecretRequest { request_id: unique(), unit_id: stolen.id.clone() };
        office.units(&office.owner).revoke_unit_secret(request).await.unwrap();
        let seen = office.seen(&office.owner, &license).await.unwrap();
        let users = seen.subscription.unwrap().users.unwrap();
        assert_eq!((seen.active_units, users.active), (0, 0), "its seat and its counts are gone at once");
    }
    let again = office.activate("", &key, "server").await.unwrap();
    let told = office.synced(&again, users("", 40, office.now())).await.facts.users;
    assert_eq!((told.active.0, told.excess()), (40, None));
    assert_eq!(actions(&office, "unit.deactivate").await, 1);
}

async fn a_unit_that_runs_in_two_places_at_once_is_told_once_a_day(office: Office) {
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let from = async |instance: &str| {
        let instance = instance.repeat(16);
        let syncing = api::SyncingUnit { instance, ..Default::default() };
        let request = api::SyncRequest { unit: Some(syncing), ..Default::default() };
        assert_eq!(sync(&office, &unit, secret(&unit), request).await.unwrap().refused, []);
    };
    let two_places = async || {
        let units = office.all_units(&office.owner).await;
        let request = api::GetUnitRequest { unit_id: unit.id.clone() };
        let one = office.units(&office.owner).get_unit(request).await.unwrap().into_inner().unit.unwrap();
        assert_eq!(units[0].two_places_at, one.two_places_at);
        one.two_places_at.is_some()
    };
    // It was started again twice.
    for instance in ["a", "a", "b", "b", "c", "c"] {
        from(instance).await;
    }
    assert!(!two_places().await);
    for _ in 0..5 {
        from("b").await;
        from("c").await;
        assert!(two_places().await);
    }
    assert_eq!(actions(&office, "unit.two_places").await, 1);
    office.clock.advance(Span::days(1));
    from("b").await;
    assert_eq!(actions(&office, "unit.two_places").await, 2);
    // A copy does not go unseen by saying nothing.
    let quiet = office.activate("", &key, "two").await.unwrap();
    for instance in ["", "", "a", "", "a"] {
        let syncing = api::SyncingUnit { instance: instance.repeat(16), ..Default::default() };
        let request = api::SyncRequest { unit: Some(syncing), ..Default::default() };
        sync(&office, &quiet, secret(&quiet), request).await.unwrap();
    }
    assert_eq!(actions(&office, "unit.two_places").await, 3);
}

async fn a_unit_that_went_back_to_older_facts_shows_in_the_audit_log(office: Office) {
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let holds = async |held_sequence| {
        let request = api::SyncRequest { held_sequence, ..Default::default() };
        sync(&office, &unit, secret(&unit), request).await.unwrap();
    };
    for held in [0, 0, 3, 3, 7] {
        office.clock.advance(Span::days(1));
        holds(held).await;
    }
    assert_eq!(actions(&office, "unit.facts_went_back").await, 0);
    for held in [4, 7, 2, 0] {
        holds(held).await;
    }
    assert_eq!(actions(&office, "unit.facts_went_back").await, 1, "one a day");
    office.clock.advance(Span::days(1));
    for held in [7, 0] {
        holds(held).await;
    }
    assert_eq!(actions(&office, "unit.facts_went_back").await, 2, "to hold none is to go back");
}
