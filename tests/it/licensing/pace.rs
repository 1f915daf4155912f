//! Units and license keys have lines and a pace of their own: what many of them do keeps others waiting for no more than a
//! few changes (semantics 7.39).

use std::time::Duration;

use esa_sidecar::proto::licensing::{self as api, sync_service_server::SyncService as _};
use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use sqlx::Executor as _;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::office::{Activated, Office, On, PASSWORD, a_license, reason, unique, users};

/// Long enough for a slow machine; a test that waits for it fails.
const SOON: Duration = Duration::from_secs(60);

const SYNCED: &str = "SELECT COUNT(*) FROM units WHERE active_users = 1";

/// A sync that writes.
fn a_sync(office: &Office, unit: &Activated) -> api::SyncRequest {
    api::SyncRequest {
        unit: Some(api::SyncingUnit { unit_id: unit.id.clone(), ..Default::default() }),
        usage: users(&unit.id, 1, office.now()),
        nonce: unique().into_bytes(),
        ..Default::default()
    }
}

async fn sync(office: &Office, unit: &Activated) -> Result<(), Status> {
    office.sync(&unit.token).sync(a_sync(office, unit)).await.map(drop)
}

fn with_token<M>(message: M, unit: &Activated) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {}", unit.token).parse().unwrap());
    request
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
    // A connection has fewer calls at a time.
    let mut calls: FuturesUnordered<_> =
        (0..260).map(|_| office.backend().sync(with_token(a_sync(&office, &unit), &unit))).collect();
    for _ in 0..4 {
        let refused = tokio::time::timeout(SOON, calls.next()).await.expect("it is refused at once");
        let refused = refused.unwrap().unwrap_err();
        assert!(is_too_fast(&refused), "{refused:?}");
    }
    holding.execute("COMMIT").await.unwrap();
    while let Some(synced) = calls.next().await {
        synced.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_key_activates_only_so_much_at_once_and_a_repetition_costs_nothing() {
    let office = Office::open(On::Sqlite).await;
    let (id, key) = office.license(a_license()).await;
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
    let entries = office.entries(&office.owner).await;
    let told = entries.iter().find(|entry| entry.outcome() == api::AuditOutcome::Refused).unwrap();
    assert_eq!(
        (told.action.as_str(), told.target.as_str()),
        ("unit.activate", id.as_str()),
        "its owner hears of it"
    );
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
    tokio::time::timeout(SOON, try_one()).await.expect("nothing waits for the writer");
    holding.execute("COMMIT").await.unwrap();
}

/// Whatever its API credentials do: those have a budget of their own.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_opens_only_so_many_sessions_at_once_and_ends_as_many_as_it_likes() {
    let office = Office::open(On::Sqlite).await;
    let anna = office.admin("anna").await;
    // Of these few are looked at, but each counts.
    let change = async || {
        let request = api::ChangePasswordRequest {
            request_id: unique(),
            old_password: "not the password of anybody".to_owned(),
            new_password: "another password".to_owned(),
        };
        office.accounts(&anna).change_password(request).await.unwrap_err()
    };
    let mut refused = None;
    for _ in 0..1_000 {
        refused = Some(change().await).filter(is_too_fast);
        if refused.is_some() {
            break;
        }
    }
    assert!(refused.is_some(), "an account opens only so many sessions at once");
    for _ in 0..8 {
        let request = api::EndSessionRequest { session_id: "x".repeat(2_000_000) };
        office.accounts(&anna).end_session(request).await.unwrap();
    }
    // Whatever of its budget comes back is spent at once.
    let spends = async {
        loop {
            change().await;
        }
    };
    let signs_in = async {
        loop {
            if let Err(refused) = office.sign_in("anna", PASSWORD).await {
                break refused;
            }
        }
    };
    let refused = tokio::select! {
        () = spends => unreachable!("it goes on"),
        refused = tokio::time::timeout(SOON, signs_in) => refused.expect("it signs in only so often at once"),
    };
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

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_spends_nobody_else_s_budget_and_none_keeps_rights_from_being_ended() {
    let office = Office::open(On::Sqlite).await;
    let anna = office.account(&office.owner, "anna", api::AccountRole::Owner, "").await;
    let mut credentials = Vec::new();
    for name in ["leaked", "another"] {
        let scopes = vec![api::ApiScope::ReadAudit.into()];
        let request = api::CreateApiCredentialRequest {
            request_id: unique(),
            name: name.to_owned(),
            scopes,
            ..Default::default()
        };
        let made = office.accounts(&anna).create_api_credential(request).await.unwrap().into_inner();
        credentials.push((made.credential.unwrap().credential_id, made.token));
    }
    // Large requests count for more.
    let revoke = async |token: &str, id: &str| {
        let request = api::RevokeApiCredentialRequest { request_id: unique(), credential_id: id.to_owned() };
        office.accounts(token).revoke_api_credential(request).await.map(drop)
    };
    let large = "x".repeat(2_000_000);
    let spends = async |token: &str| {
        for _ in 0..100 {
            let refused = revoke(token, &large).await.unwrap_err();
            if refused.code() != Code::NotFound {
                return refused;
            }
        }
        panic!("nothing bounds it");
    };
    let refused = spends(&credentials[0].1).await;
    assert!(is_too_fast(&refused), "{refused:?}");
    assert_eq!(
        revoke(&credentials[1].1, "none").await.unwrap_err().code(),
        Code::NotFound,
        "another's is its own"
    );
    let rename = |id: u32| api::CreateAccountRequest {
        request_id: unique(),
        name: format!("admin-{id}"),
        role: api::AccountRole::SecurityAdmin.into(),
        ..Default::default()
    };
    office.accounts(&anna).create_account(rename(1)).await.unwrap();
    // A session spends the budget of its account, and can end what it may end all the same.
    let mut refused = None;
    for _ in 0..100 {
        let request = api::ResetPasswordRequest { request_id: unique(), name: large.clone() };
        let answer = office.accounts(&anna).reset_password(request).await.unwrap_err();
        if answer.code() != Code::NotFound {
            refused = Some(answer);
            break;
        }
    }
    assert!(refused.as_ref().is_some_and(is_too_fast), "{refused:?}");
    revoke(&anna, &credentials[0].0).await.unwrap();
    let disable =
        api::SetAccountDisabledRequest { request_id: unique(), name: "admin-1".to_owned(), disabled: true };
    office.accounts(&anna).set_account_disabled(disable).await.unwrap();
    let sessions =
        office.accounts(&anna).list_sessions(api::ListSessionsRequest {}).await.unwrap().into_inner();
    let end = api::EndSessionRequest { session_id: sessions.sessions[0].session_id.clone() };
    office.accounts(&anna).end_session(end).await.unwrap();
}

/// What many of one kind read while a table they read is locked: none of them gets through.
async fn flood(office: &Office, table: &str, beta: &str) -> Status {
    match table {
        "audit" => office.audit(beta).list_audit_entries(api::ListAuditEntriesRequest::default()).await.err(),
        "licenses" => office.activate("", &unique(), "a device").await.err(),
        _ => {
            let token = format!("esac_{}_{}", unique(), unique());
            office.accounts(&token).get_caller(api::GetCallerRequest {}).await.err()
        }
    }
    .unwrap_or_else(|| Status::ok(""))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_customer_or_a_stranger_reads_the_others_read_and_sync() {
    let office = Office::open(On::Postgres).await;
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "a device").await.unwrap();
    let acme = office.customer("acme", "acme.owner").await;
    let beta = office.customer("beta", "beta.owner").await;
    office.accounts(&acme).get_caller(api::GetCallerRequest {}).await.unwrap();
    let reads = api::SyncRequest { usage: None, ..a_sync(&office, &unit) };
    office.sync(&unit.token).sync(reads.clone()).await.unwrap();
    for (table, code) in
        [("audit", Code::Ok), ("licenses", Code::Unauthenticated), ("api_credentials", Code::Unauthenticated)]
    {
        let mut lock = office.behind().await;
        lock.execute("BEGIN").await.unwrap();
        let sql = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        lock.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        let many = join_all((0..40).map(|_| flood(&office, table, &beta)));
        let others = async {
            office.until_wait(if table == "audit" { 1 } else { 2 }).await;
            for _ in 0..3 {
                office.sync(&unit.token).sync(reads.clone()).await.unwrap();
                office.accounts(&acme).get_caller(api::GetCallerRequest {}).await.unwrap();
            }
            if table != "audit" {
                office.sign_in("acme.owner@acme", PASSWORD).await.unwrap();
            }
            lock.execute("ROLLBACK").await.unwrap();
        };
        let both = async { tokio::join!(many, others) };
        let (many, ()) = tokio::time::timeout(SOON, both).await.expect(table);
        assert!(many.iter().all(|status| status.code() == code), "{table}: {many:?}");
    }
}
