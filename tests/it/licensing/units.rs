//! Activation, deactivation and what it does to the seats (semantics 6.5 to 6.8).

use esa_sidecar::{
    domain::{Activation, Span},
    proto::licensing as api,
};
use tonic::Code;

use super::{
    office::{Office, a_license, users},
    on_both_databases,
};

on_both_databases!(
    a_security_admin_deactivates_only_units_of_that_account_and_the_owner_any,
    deactivating_the_last_unit_of_an_installation_ends_an_overuse,
    nothing_is_activated_with_a_license_that_is_full_or_has_ended,
);

async fn a_security_admin_deactivates_only_units_of_that_account_and_the_owner_any(office: Office) {
    let (license, key) = office.license(a_license()).await;
    let (anna, ben) = (office.admin("anna").await, office.admin("ben").await);
    office.delegate(&license, "anna", &anna).await;
    office.delegate(&license, "ben", &ben).await;
    let own = office.activate(&anna, &license, "own").await.unwrap();
    let bens = office.activate(&ben, &license, "bens").await.unwrap();
    let by_key = office.activate("", &key, "by key").await.unwrap();

    let results = office.deactivate(&anna, &[&own.id, &bens.id, &by_key.id, "nobody's"]).await;
    let refusals: Vec<_> = results.iter().map(api::DeactivatedUnit::refusal).collect();
    use api::DeactivationRefusal::{LicenseKey, NotFound, OtherAccount, Unspecified};
    assert_eq!(refusals, [Unspecified, OtherAccount, LicenseKey, NotFound]);
    assert!(results[1].message.contains("`ben`"), "{}", results[1].message);
    assert_eq!(results[0].state(), api::UnitState::DeactivationPending);

    let told = office.synced(&own, None).await;
    assert_eq!(told.facts.activation, Activation::Deactivated { since: office.now() });
    assert_eq!(office.synced(&bens, None).await.facts.activation, Activation::Active);
    let again = office.deactivate(&anna, &[&own.id]).await;
    assert_eq!(
        again[0].state(),
        api::UnitState::Deactivated,
        "told at its sync, and asking again changes nothing"
    );

    let results = office.deactivate(&office.owner, &[&bens.id, &by_key.id]).await;
    assert!(
        results.iter().all(|result| result.state() == api::UnitState::DeactivationPending),
        "{results:?}"
    );
}

async fn deactivating_the_last_unit_of_an_installation_ends_an_overuse(office: Office) {
    let (_, key) = office.license(a_license()).await;
    let (one, two) =
        (office.activate("", &key, "one").await.unwrap(), office.activate("", &key, "two").await.unwrap());
    let idle = office.activate("", &key, "idle").await.unwrap();
    office.synced(&one, users("head office", 60, office.now())).await;
    office.synced(&two, users("head office", 70, office.now())).await;
    let begun = office.now();
    let over = office.synced(&idle, users("branch", 31, office.now())).await.facts.users;
    assert_eq!((over.active.0, over.overused_since), (101, Some(begun)));

    office.clock.advance(Span::days(2));
    let told = office.synced(&one, users("head office", 75, office.now())).await.facts.users;
    assert_eq!((told.active.0, told.overused_since), (106, Some(begun)), "the clock holds");
    office.deactivate(&office.owner, &[&idle.id]).await;
    let told = office.synced(&one, None).await.facts.users;
    assert_eq!((told.active.0, told.overused_since), (75, None), "and clears");
    office.deactivate(&office.owner, &[&one.id]).await;
    let told = office.synced(&two, None).await.facts.users;
    assert_eq!(told.active.0, 70, "the installation goes on with the newest report of a unit still active");
}

async fn nothing_is_activated_with_a_license_that_is_full_or_has_ended(office: Office) {
    let (license, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    office.synced(&unit, users("", 100, office.now())).await;
    let refused = office.activate("", &key, "two").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("no seat is free"), "{}", refused.message());

    office.synced(&unit, users("", 99, office.now())).await;
    office.activate("", &key, "two").await.unwrap();
    office.clock.advance(Span::days(365));
    for (token, license) in [(office.owner.as_str(), &license), ("", &key)] {
        let refused = office.activate(token, license, "three").await.unwrap_err();
        assert!(refused.message().contains("it has expired"), "{}", refused.message());
    }
}
