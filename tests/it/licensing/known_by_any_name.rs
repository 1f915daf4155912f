//! What is found and told in whatever way a name or an ID is written.

use esa_sidecar::proto::licensing as api;
use tonic::Code;

use super::{
    accounts::{create, disable, reset},
    office::{Office, unique},
    on_both_databases,
};

on_both_databases!(
    a_credential_is_revoked_however_its_id_is_written,
    the_audit_log_names_an_account_as_it_is_kept,
);

async fn a_credential_is_revoked_however_its_id_is_written(office: Office) {
    let make = async |name: &str| {
        let request = api::CreateApiCredentialRequest {
            request_id: unique(),
            name: name.to_owned(),
            ..Default::default()
        };
        let made = office.accounts(&office.owner).create_api_credential(request).await.unwrap().into_inner();
        (made.credential.unwrap().credential_id, made.token)
    };
    let revoke = async |by: &str, id: &str| {
        let request = api::RevokeApiCredentialRequest { request_id: unique(), credential_id: id.to_owned() };
        let revoked = office.accounts(by).revoke_api_credential(request).await.unwrap();
        revoked.into_inner().credential.unwrap()
    };
    let opens = async |token: &str| office.accounts(token).get_caller(api::GetCallerRequest {}).await.is_ok();
    let (id, token) = make("one").await;
    assert!(opens(&token).await);
    assert!(revoke(&office.owner, &id.to_uppercase()).await.revoked_at.is_some());
    assert!(!opens(&token).await, "what was answered is so");
    let entries = office.entries(&office.owner).await;
    assert!(entries.iter().any(|entry| entry.action == "credential.revoke" && entry.target == id));
    // By itself, with its own ID written in another way.
    let (id, token) = make("two").await;
    let shouted = token.replace(&id, &id.to_uppercase());
    assert!(revoke(&shouted, &id).await.revoked_at.is_some());
    assert!(!opens(&token).await && !opens(&shouted).await);
}

async fn the_audit_log_names_an_account_as_it_is_kept(office: Office) {
    let acme = office.customer("Acme", "owner").await;
    create(&office, &acme, "bob", api::AccountRole::SecurityAdmin, "").await.unwrap();
    disable(&office, &acme, "BoB@ACME", true).await.unwrap();
    disable(&office, &acme, "BOB", false).await.unwrap();
    reset(&office, &acme, "Bob@acme").await.unwrap();
    let eve = office.account(&acme, "eve", api::AccountRole::SecurityAdmin, "").await;
    assert_eq!(disable(&office, &eve, "bOB", true).await.unwrap_err().code(), Code::PermissionDenied);
    let own = reset(&office, &acme, "Owner@ACME").await.unwrap_err();
    assert_eq!(own.code(), Code::FailedPrecondition, "whoever has a session has not the account for good");
    disable(&office, &acme, "OWNER@acme", true).await.unwrap_err();
    let license = api::NewLicense { customer: "Acme".to_owned(), ..super::office::a_license() };
    let (license_id, _) = office.license(license).await;
    for take_back in [false, true] {
        let (license_id, account) = (license_id.to_lowercase(), "BOB@Acme".to_owned());
        if take_back {
            let request = api::RevokeLicenseRequest { request_id: unique(), license_id, account };
            office.licenses(&acme).revoke_license(request).await.unwrap();
        } else {
            let request = api::DelegateLicenseRequest { request_id: unique(), license_id, account };
            let done = office.licenses(&acme).delegate_license(request).await.unwrap().into_inner();
            assert_eq!(done.delegation.unwrap().account, "bob");
        }
    }
    let request = api::ResumeLicenseRequest { request_id: unique(), license_id: license_id.to_lowercase() };
    office.licenses(&acme).resume_license(request).await.unwrap_err();
    let entries = office.entries(&acme).await;
    let of = |target: &str| {
        let entries = entries.iter().filter(|entry| entry.target == target);
        entries.map(|entry| (entry.action.as_str(), entry.outcome())).collect::<Vec<_>>()
    };
    use api::AuditOutcome::{Done, Refused};
    let bob = [
        ("account.create", Done),
        ("account.disable", Done),
        ("account.enable", Done),
        ("account.reset_password", Done),
        ("account.disable", Refused),
    ];
    assert_eq!(of("bob"), bob);
    assert_eq!(of("owner").last(), Some(&("account.disable", Refused)));
    assert_eq!(of(&license_id).last(), Some(&("license.resume", Refused)));
    let details: Vec<_> = entries.iter().map(|entry| entry.detail.as_str()).collect();
    assert!(details.contains(&"offered to bob") && details.contains(&"taken back from bob"), "{details:?}");
}
