//! Delegation: what an owner offers, a security admin accepts before use, and the owner takes back.

use esa_sidecar::proto::licensing as api;
use sqlx::Executor as _;
use tonic::{Code, Status};

use super::{
    office::{Office, On, a_license, unique},
    on_both_databases,
};

on_both_databases!(
    a_delegated_license_is_of_no_use_before_it_is_accepted,
    what_is_taken_back_is_not_seen_any_more_and_its_units_stay_active,
    only_an_owner_delegates_and_only_to_security_admins_of_the_customer,
    a_security_admin_without_a_license_of_the_subscription_does_nothing_to_its_units,
);

async fn offer(office: &Office, by: &str, license: &str, account: &str) -> Result<api::Delegation, Status> {
    let request = api::DelegateLicenseRequest {
        request_id: unique(),
        license_id: license.to_owned(),
        account: account.to_owned(),
    };
    Ok(office.licenses(by).delegate_license(request).await?.into_inner().delegation.unwrap())
}

async fn accept(office: &Office, by: &str, license: &str) -> Result<api::Delegation, Status> {
    let request = api::AcceptLicenseRequest { request_id: unique(), license_id: license.to_owned() };
    Ok(office.licenses(by).accept_license(request).await?.into_inner().delegation.unwrap())
}

async fn revoke(office: &Office, by: &str, license: &str, account: &str) -> Result<(), Status> {
    let request = api::RevokeLicenseRequest {
        request_id: unique(),
        license_id: license.to_owned(),
        account: account.to_owned(),
    };
    office.licenses(by).revoke_license(request).await.map(drop)
}

async fn a_delegated_license_is_of_no_use_before_it_is_accepted(office: Office) {
    use api::DelegationState::{Accepted, Offered};
    let (license, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "theirs").await.unwrap();
    let anna = office.admin("anna").await;
    assert_eq!(accept(&office, &anna, &license).await.unwrap_err().code(), Code::NotFound, "not offered");
    assert_eq!(office.seen(&anna, &license).await.unwrap_err().code(), Code::NotFound);

    assert_eq!(offer(&office, &office.owner, &license, "anna").await.unwrap().state(), Offered);
    assert_eq!(office.seen(&anna, &license).await.unwrap().delegated(), Offered);
    let refused = office.activate(&anna, &license, "too early").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(office.all_units(&anna).await.is_empty());
    let results = office.deactivate(&anna, &[&unit.id]).await;
    assert_eq!(results[0].refusal(), api::DeactivationRefusal::NotFound);

    assert_eq!(accept(&office, &anna, &license).await.unwrap().state(), Accepted);
    assert_eq!(accept(&office, &anna, &license).await.unwrap().state(), Accepted, "again");
    assert_eq!(
        offer(&office, &office.owner, &license, "anna").await.unwrap().state(),
        Accepted,
        "it stays so"
    );
    office.activate(&anna, &license, "anna's").await.unwrap();
    assert_eq!(office.all_units(&anna).await.len(), 2);
    let delegations = office.seen(&office.owner, &license).await.unwrap().delegations;
    assert_eq!(delegations, [api::Delegation { account: "anna".to_owned(), state: Accepted.into() }]);
    assert!(office.seen(&anna, &license).await.unwrap().delegations.is_empty(), "told to owners alone");
}

async fn what_is_taken_back_is_not_seen_any_more_and_its_units_stay_active(office: Office) {
    let (license, _) = office.license(a_license()).await;
    let anna = office.admin("anna").await;
    office.delegate(&license, "anna", &anna).await;
    let unit = office.activate(&anna, &license, "anna's").await.unwrap();
    revoke(&office, &office.owner, &license, "anna").await.unwrap();
    revoke(&office, &office.owner, &license, "anna").await.unwrap();
    assert_eq!(office.seen(&anna, &license).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(office.activate(&anna, &license, "more").await.unwrap_err().code(), Code::NotFound);
    assert!(office.all_units(&anna).await.is_empty());
    assert_eq!(accept(&office, &anna, &license).await.unwrap_err().code(), Code::NotFound);
    let results = office.deactivate(&anna, &[&unit.id]).await;
    assert_eq!(results[0].refusal(), api::DeactivationRefusal::NotFound);
    let told = office.synced(&unit, None).await.facts.activation;
    assert_eq!(told, esa_sidecar::domain::Activation::Active);
    offer(&office, &office.owner, &license, "anna").await.unwrap();
    let refused = office.activate(&anna, &license, "not accepted anew").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "what was accepted once has to be accepted again");
}

async fn only_an_owner_delegates_and_only_to_security_admins_of_the_customer(office: Office) {
    let (license, _) = office.license(a_license()).await;
    let acme = office.customer("acme", "acme.owner").await;
    office.account(&acme, "acme.admin", api::AccountRole::SecurityAdmin, "").await;
    let anna = office.admin("anna").await;
    office.delegate(&license, "anna", &anna).await;
    for (by, account, code) in [
        (&office.owner, "acme.admin", Code::NotFound),
        (&office.owner, "nobody", Code::NotFound),
        (&office.owner, "owner", Code::InvalidArgument),
        (&anna, "anna", Code::PermissionDenied),
        (&acme, "acme.admin", Code::NotFound),
        (&acme, "anna", Code::NotFound),
    ] {
        let refused = offer(&office, by, &license, account).await.unwrap_err();
        assert_eq!(refused.code(), code, "{account}: {refused:?}");
        let refused = revoke(&office, by, &license, account).await.unwrap_err();
        assert_eq!(refused.code(), code, "{account}: {refused:?}");
    }
    assert_eq!(office.numbers("SELECT COUNT(*) FROM delegations").await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_while_it_is_accepted_is_not_accepted() {
    let office = Office::open(On::Postgres).await;
    let (license, _) = office.license(a_license()).await;
    let anna = office.admin("anna").await;
    offer(&office, &office.owner, &license, "anna").await.unwrap();
    let mut taking_back = office.behind().await;
    taking_back.execute("BEGIN; DELETE FROM delegations").await.unwrap();
    let (accepted, ()) = tokio::join!(accept(&office, &anna, &license), async {
        office.until_one_waits().await;
        taking_back.execute("COMMIT").await.unwrap();
    });
    assert_eq!(accepted.unwrap_err().code(), Code::NotFound);
    let entries = office.entries(&office.owner).await;
    let accepted =
        entries.iter().filter(|entry| entry.action == "license.accept").map(|entry| entry.outcome());
    assert_eq!(accepted.collect::<Vec<_>>(), [api::AuditOutcome::Refused]);
}

/// Two licences of one subscription: a unit of the one that was not delegated, or not any more, is not found, even
/// when it is asked for beside a unit of the other.
async fn a_security_admin_without_a_license_of_the_subscription_does_nothing_to_its_units(office: Office) {
    let (mine, _) = office.license(a_license()).await;
    let (other, key) = office.license(a_license()).await;
    let anna = office.admin("anna").await;
    office.delegate(&mine, "anna", &anna).await;
    office.delegate(&other, "anna", &anna).await;
    let own = office.activate(&anna, &mine, "own").await.unwrap();
    let once_own = office.activate(&anna, &other, "once own").await.unwrap();
    let by_key = office.activate("", &key, "by key").await.unwrap();
    revoke(&office, &office.owner, &other, "anna").await.unwrap();

    let results = office.deactivate(&anna, &[&own.id, &once_own.id, &by_key.id, "nobody's"]).await;
    let refusals: Vec<_> = results.iter().map(api::DeactivatedUnit::refusal).collect();
    use api::DeactivationRefusal::{NotFound, Unspecified};
    assert_eq!(refusals, [Unspecified, NotFound, NotFound, NotFound]);
    for (result, id) in results[1..].iter().zip([&once_own.id, &by_key.id]) {
        assert_eq!(result.message, format!("there is no unit `{id}` that you see"));
    }
    for unit in [&once_own, &by_key] {
        let told = office.synced(unit, None).await.facts.activation;
        assert_eq!(told, esa_sidecar::domain::Activation::Active);
    }
}
