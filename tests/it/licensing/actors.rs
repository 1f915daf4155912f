//! Who did what an entry of the audit log is about: its kind tells, and no name passes for another kind (semantics 7.51).

use esa_sidecar::{
    domain::Span,
    proto::licensing::{self as api, ActorKind},
};
use tonic::Code;

use super::{
    office::{Office, PASSWORD, a_license, unique},
    on_both_databases,
};

on_both_databases!(
    every_entry_tells_of_what_kind_its_actor_is,
    an_account_with_the_backend_s_name_is_told_from_the_backend,
    entries_of_before_kinds_were_kept_are_of_none,
);

/// Name and kind of the actor of each entry with this action.
async fn actors(office: &Office, action: &str) -> Vec<(String, ActorKind)> {
    let entries = office.entries(&office.owner).await;
    let of_action = entries.iter().filter(|entry| entry.action == action);
    of_action.map(|entry| (entry.actor.clone(), entry.actor_kind())).collect()
}

async fn of_kinds(office: &Office, kinds: &[i32]) -> Result<Vec<api::AuditEntry>, tonic::Status> {
    let request = api::ListAuditEntriesRequest { actor_kinds: kinds.to_vec(), ..Default::default() };
    Ok(office.audit(&office.owner).list_audit_entries(request).await?.into_inner().entries)
}

async fn every_entry_tells_of_what_kind_its_actor_is(mut office: Office) {
    let owner = |kind| ("owner".to_owned(), kind);
    let (id, key) = office.license(a_license()).await;
    let request = api::CreateApiCredentialRequest {
        request_id: unique(),
        name: "script".to_owned(),
        ..Default::default()
    };
    let script =
        office.accounts(&office.owner).create_api_credential(request).await.unwrap().into_inner().token;
    let by_session = office.activate(&office.owner, &id, "by session").await.unwrap();
    office.activate(&script, &id, "by API credential").await.unwrap();
    office.activate("", &key, "by license key").await.unwrap();
    office.activate(&script, "ZZZ-ZZZ-ZZZ", "refused").await.unwrap_err();
    office.activate("", "A-KEY-OF-NOBODY", "refused").await.unwrap_err();
    assert_eq!(
        actors(&office, "unit.activate").await,
        [
            owner(ActorKind::Session),
            owner(ActorKind::ApiCredential),
            (format!("license key of {id}"), ActorKind::LicenseKey),
            owner(ActorKind::ApiCredential),
            ("nobody known".to_owned(), ActorKind::Unauthenticated),
        ]
    );
    office.deactivate(&office.owner, &[&by_session.id]).await;
    office.synced(&by_session, None).await;
    assert_eq!(
        actors(&office, "unit.deactivated").await,
        [(format!("unit {}", by_session.id), ActorKind::Unit)]
    );

    // Whoever types a wrong password has not shown to be the account.
    office.sign_in("owner", "not the password of anybody").await.unwrap_err();
    let written = async { while actors(&office, "account.sign_in").await.len() < 2 {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), written).await.expect("an entry");
    let sign_ins = actors(&office, "account.sign_in").await;
    assert_eq!(sign_ins, [owner(ActorKind::Session), owner(ActorKind::Unauthenticated)]);

    assert_eq!(actors(&office, "account.create").await, [("backend".to_owned(), ActorKind::Backend)]);
    let password = office.beside().await.first_owner(true).await.unwrap().unwrap();
    office.owner = office.first_sign_in("owner", &password).await;
    let reset = actors(&office, "account.reset_password").await;
    assert_eq!(reset, [("operator".to_owned(), ActorKind::Operator)]);
}

async fn an_account_with_the_backend_s_name_is_told_from_the_backend(office: Office) {
    let anna = office.admin("anna").await;
    // As accounts could be named once.
    let sql = "UPDATE accounts SET name = 'backend', sign_in_name = 'backend@default' WHERE name = 'anna'";
    office.execute(sql).await.unwrap();
    office.clock.advance(Span::SECOND);
    office.sign_in("backend", PASSWORD).await.unwrap();
    office.activate(&anna, "ZZZ-ZZZ-ZZZ", "device").await.unwrap_err();
    let all = office.entries(&office.owner).await;
    let named: Vec<_> = all.iter().filter(|entry| entry.actor == "backend").cloned().collect();
    let kinds: Vec<_> = named.iter().map(|entry| (entry.action.as_str(), entry.actor_kind())).collect();
    assert_eq!(
        kinds,
        [
            ("account.create", ActorKind::Backend),
            ("account.sign_in", ActorKind::Session),
            ("unit.activate", ActorKind::Session),
        ]
    );
    let by_backend = of_kinds(&office, &[ActorKind::Backend.into()]).await.unwrap();
    assert_eq!(by_backend, named[..1]);
    let kinds = [ActorKind::Session, ActorKind::Backend, ActorKind::Session].map(i32::from);
    assert_eq!(of_kinds(&office, &kinds).await.unwrap(), all, "any of several");
    let request = api::ListAuditEntriesRequest {
        actor: "backend".to_owned(),
        actor_kinds: vec![ActorKind::Session.into()],
        page_size: 1,
        ..Default::default()
    };
    let page = office.audit(&office.owner).list_audit_entries(request.clone()).await.unwrap().into_inner();
    assert_eq!(page.entries, named[1..2]);
    let next = api::ListAuditEntriesRequest { page_token: page.next_page_token.clone(), ..request.clone() };
    let page_2 = office.audit(&office.owner).list_audit_entries(next).await.unwrap().into_inner();
    assert_eq!(page_2.entries, named[2..]);
    let other = api::ListAuditEntriesRequest {
        page_token: page.next_page_token,
        actor_kinds: vec![ActorKind::Backend.into()],
        ..request
    };
    let refused = office.audit(&office.owner).list_audit_entries(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "a token of another list");
    let refused = of_kinds(&office, &[99]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "a kind that is not known is no filter");
}

async fn entries_of_before_kinds_were_kept_are_of_none(office: Office) {
    let before = office.entries(&office.owner).await;
    let sql = "INSERT INTO audit (entry_id, customer_id, at, actor, action, target, done, detail)
        SELECT '0' || entry_id, customer_id, at, actor, action, target, done, detail FROM audit";
    office.execute(sql).await.unwrap();
    let old = of_kinds(&office, &[0]).await.unwrap();
    assert_eq!(old.len(), before.len());
    assert!(old.iter().all(|entry| entry.actor_kind() == ActorKind::Unspecified));
    let known: Vec<i32> = (1..).map_while(|number| ActorKind::try_from(number).ok().map(i32::from)).collect();
    assert_eq!(of_kinds(&office, &known).await.unwrap(), before);
}
