//! A change is made with the rights its caller has when it is made, and at the instant when it is made (semantics 7.37).

use std::time::Duration;

use esa_sidecar::{domain::Span, proto::licensing as api};
use futures_core::future::BoxFuture;
use futures_util::future::join_all;
use sqlx::{AnyConnection, AssertSqlSafe, Executor as _};
use tonic::{Code, Status};

use super::{
    office::{Office, On, PASSWORD, a_license, reason, timestamp, unique},
    on_every_store,
};

on_every_store!(
    nothing_is_done_by_an_account_after_it_was_disabled,
    of_owners_that_disable_each_other_at_once_one_stays,
    a_repeated_request_is_answered_only_to_who_still_may,
);

/// Everything a change may name.
struct Things {
    license: String,
    key: String,
    unit: String,
    credential: String,
}

async fn things(office: &Office, token: &str) -> Things {
    let (license, key) = office.license(api::NewLicense { sms_credits: Some(9), ..a_license() }).await;
    let unit = office.activate("", &key, "device").await.unwrap().id;
    let request = api::CreateApiCredentialRequest {
        request_id: unique(),
        name: "script".to_owned(),
        ..Default::default()
    };
    let made = office.accounts(token).create_api_credential(request).await.unwrap().into_inner();
    Things { license, key, unit, credential: made.credential.unwrap().credential_id }
}

type Call<'a> = (&'static str, BoxFuture<'a, Result<(), Status>>);

/// Every change an account can ask for.
fn changes<'a>(office: &'a Office, token: &'a str, things: &'a Things) -> Vec<Call<'a>> {
    macro_rules! call {
        ($service:ident.$call:ident($request:expr)) => {{
            let mut client = office.$service(token);
            let request = $request;
            (stringify!($call), Box::pin(async move { client.$call(request).await.map(drop) }) as _)
        }};
    }
    let Things { license, key: _, unit, credential } = things;
    let (license_id, account) = (license.clone(), "anna".to_owned());
    let license = Some(api::NewLicense { seats: 77, ..a_license() });
    let role = api::AccountRole::SecurityAdmin.into();
    let update_mask = Some(prost_types::FieldMask { paths: vec!["seats".to_owned()] });
    let expires_at = timestamp(office.now() + Span::days(900));
    let secret_sha256 = esa_sidecar::sha256::hex(b"secret");
    vec![
        call!(accounts.create_account(api::CreateAccountRequest {
            request_id: unique(),
            name: "backdoor".to_owned(),
            role,
            ..Default::default()
        })),
        call!(accounts.set_account_disabled(api::SetAccountDisabledRequest {
            request_id: unique(),
            name: account.clone(),
            disabled: true,
        })),
        call!(
            accounts
                .reset_password(api::ResetPasswordRequest { request_id: unique(), name: account.clone() })
        ),
        call!(accounts.create_api_credential(api::CreateApiCredentialRequest {
            request_id: unique(),
            name: "backdoor".to_owned(),
            ..Default::default()
        })),
        call!(accounts.revoke_api_credential(api::RevokeApiCredentialRequest {
            request_id: unique(),
            credential_id: credential.clone(),
        })),
        call!(accounts.change_password(api::ChangePasswordRequest {
            old_password: PASSWORD.to_owned(),
            new_password: "another good password".to_owned(),
            ..Default::default()
        })),
        call!(accounts.sign_out(api::SignOutRequest {})),
        call!(
            licenses
                .create_license(api::CreateLicenseRequest { request_id: unique(), license: license.clone() })
        ),
        call!(licenses.import_licenses(api::ImportLicensesRequest {
            request_id: unique(),
            licenses: license.clone().into_iter().collect(),
        })),
        call!(licenses.update_license(api::UpdateLicenseRequest {
            request_id: unique(),
            license_id: license_id.clone(),
            license,
            update_mask,
        })),
        call!(licenses.suspend_license(api::SuspendLicenseRequest {
            request_id: unique(),
            license_id: license_id.clone(),
            state: 0,
        })),
        call!(licenses.resume_license(api::ResumeLicenseRequest {
            request_id: unique(),
            license_id: license_id.clone(),
        })),
        call!(licenses.renew_license(api::RenewLicenseRequest {
            request_id: unique(),
            license_id: license_id.clone(),
            expires_at,
        })),
        call!(licenses.rotate_license_key(api::RotateLicenseKeyRequest {
            request_id: unique(),
            license_id: license_id.clone(),
        })),
        call!(licenses.delegate_license(api::DelegateLicenseRequest {
            request_id: unique(),
            license_id: license_id.clone(),
            account: account.clone(),
        })),
        call!(licenses.accept_license(api::AcceptLicenseRequest {
            request_id: unique(),
            license_id: license_id.clone(),
        })),
        call!(licenses.revoke_license(api::RevokeLicenseRequest {
            request_id: unique(),
            license_id: license_id.clone(),
            account,
        })),
        call!(units.activate_unit(api::ActivateUnitRequest {
            request_id: unique(),
            license_id,
            device_name: "device".to_owned(),
            secret_sha256,
            ..Default::default()
        })),
        call!(units.deactivate_units(api::DeactivateUnitsRequest {
            request_id: unique(),
            unit_ids: vec![unit.clone()],
        })),
    ]
}

/// Everything but what was refused and who came in.
async fn state_of(office: &Office) -> Vec<i64> {
    let mut state = Vec::new();
    for (table, column) in [
        ("accounts", "must_change_password + disabled"),
        ("sessions", "1"),
        ("api_credentials", "COALESCE(revoked_at, 0)"),
        ("licenses", "seats + state + expires_at / 1000"),
        ("delegations", "accepted"),
        ("units", "state"),
        ("requests", "1"),
        ("audit", "done"),
    ] {
        let sql = format!("SELECT COUNT(*), CAST(SUM({column}) AS BIGINT) FROM {table}");
        state.extend(office.numbers(&sql).await);
    }
    state
}

async fn run(on: &mut AnyConnection, sql: &str) {
    on.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}

/// Lets `call` come to wait for what `holding` has locked, and then has that kept.
async fn while_locked<T>(office: &Office, holding: &mut AnyConnection, call: impl Future<Output = T>) -> T {
    let waited = std::cell::Cell::new(false);
    let release = async {
        office.until_one_waits().await;
        waited.set(true);
        run(holding, "COMMIT").await;
    };
    let made = async {
        let made = call.await;
        assert!(waited.get(), "it did not wait for what it needs to know");
        made
    };
    tokio::join!(made, release).0
}

/// The account is shut out, or comes to have other rights, after the call was let in and before it is made.
#[tokio::test(flavor = "multi_thread")]
async fn every_change_looks_at_its_caller_again_when_it_is_made() {
    let office = Office::open(On::Replicas).await;
    office.admin("anna").await;
    let mut token = office.account(&office.owner, "leaving", api::AccountRole::Owner, "").await;
    office.execute("UPDATE accounts SET may_issue = 1 WHERE name = 'leaving'").await.unwrap();
    let things = things(&office, &token).await;
    let id = "account_id = (SELECT account_id FROM accounts WHERE name = 'leaving')";
    let mut holding = office.behind().await;
    let before = state_of(&office).await;
    for (name, call) in changes(&office, &token, &things) {
        run(&mut holding, "BEGIN; UPDATE accounts SET disabled = 1 WHERE name = 'leaving'").await;
        let refused = while_locked(&office, &mut holding, call).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{name}: {refused:?}");
        office.execute("UPDATE accounts SET disabled = 0 WHERE name = 'leaving'").await.unwrap();
    }
    let refused = office.numbers("SELECT COUNT(*) FROM audit WHERE done = 0 AND actor = 'leaving'").await[0];
    assert!(17 <= refused, "{refused} entries about what was refused");
    office.execute("UPDATE accounts SET disabled = 0").await.unwrap();
    let mut after = state_of(&office).await;
    let entries = after.len() - 2;
    after[entries] = before[entries];
    assert_eq!(after, before, "what was refused changed nothing");

    let request = api::CreateApiCredentialRequest {
        request_id: unique(),
        name: "script".to_owned(),
        ..Default::default()
    };
    let script = office.accounts(&token).create_api_credential(request).await.unwrap().into_inner().token;
    for (by_script, shut_out, code) in [
        (false, format!("DELETE FROM sessions WHERE {id}"), Code::Unauthenticated),
        (false, format!("UPDATE sessions SET expires_at = 1 WHERE {id}"), Code::Unauthenticated),
        (true, format!("UPDATE api_credentials SET revoked_at = 1 WHERE {id}"), Code::Unauthenticated),
        (false, "UPDATE accounts SET must_change_password = 1".to_owned(), Code::PermissionDenied),
        (false, "UPDATE accounts SET may_issue = 0".to_owned(), Code::PermissionDenied),
        (false, "UPDATE accounts SET role = 2".to_owned(), Code::PermissionDenied),
    ] {
        office
            .execute("UPDATE accounts SET must_change_password = 0, may_issue = 1, role = 1")
            .await
            .unwrap();
        token = office.sign_in("leaving", PASSWORD).await.unwrap();
        let caller = if by_script { &script } else { &token };
        let (_, call) = changes(&office, caller, &things).remove(7);
        run(&mut holding, "BEGIN; UPDATE accounts SET disabled = 0 WHERE name = 'leaving'").await;
        run(&mut holding, &shut_out).await;
        let refused = while_locked(&office, &mut holding, call).await.unwrap_err();
        assert_eq!(refused.code(), code, "{shut_out}: {refused:?}");
    }
}

/// Whatever waits for its password to be hashed, or for the one writer, is refused like what comes later.
async fn nothing_is_done_by_an_account_after_it_was_disabled(office: Office) {
    let token = office.account(&office.owner, "leaving", api::AccountRole::Owner, "").await;
    let (license, _) = office.license(a_license()).await;
    let calls = (0..24).map(|number| {
        let (office, token, license) = (&office, &token, &license);
        async move {
            let request = api::CreateAccountRequest {
                request_id: unique(),
                name: format!("backdoor{number}"),
                role: api::AccountRole::Owner.into(),
                ..Default::default()
            };
            if number % 2 == 0 {
                office.accounts(token).create_account(request).await.map(drop)
            } else {
                office.activate(token, license, "device").await.map(drop)
            }
        }
    });
    let disable = async {
        let made =
            "SELECT COUNT(*) FROM audit WHERE actor = 'leaving' AND done = 1 AND action = 'account.create'";
        while office.numbers(made).await == [0] {}
        let request = api::SetAccountDisabledRequest {
            request_id: unique(),
            name: "leaving".to_owned(),
            disabled: true,
        };
        office.accounts(&office.owner).set_account_disabled(request).await.unwrap();
    };
    let (done, ()) = tokio::join!(join_all(calls), disable);
    let entries = office.entries(&office.owner).await;
    let disabled = entries.iter().position(|entry| entry.action == "account.disable").unwrap();
    let later: Vec<_> =
        entries[disabled..].iter().filter(|entry| entry.actor == "leaving" && entry.outcome == 1).collect();
    assert!(later.is_empty(), "{later:#?}");
    let refused = done.into_iter().filter_map(Result::err).map(|refused| refused.code());
    let refused: Vec<_> = refused.collect();
    assert!(!refused.is_empty(), "everything was made before it was disabled");
    assert!(refused.iter().all(|code| *code == Code::Unauthenticated), "{refused:?}");
}

async fn of_owners_that_disable_each_other_at_once_one_stays(office: Office) {
    for round in 0..4 {
        let names = ["one", "other"].map(|name| format!("{name}{round}"));
        let customer = format!("customer {round}");
        let one = office.customer(&customer, &names[0]).await;
        let other = office.account(&one, &names[1], api::AccountRole::Owner, "").await;
        let disable = |token: &str, name: &str| {
            let mut accounts = office.accounts(token);
            let (request_id, name) = (unique(), name.to_owned());
            let request = api::SetAccountDisabledRequest { request_id, name, disabled: true };
            async move { accounts.set_account_disabled(request).await.map(drop) }
        };
        let (one, other) = tokio::join!(disable(&one, &names[1]), disable(&other, &names[0]));
        assert_eq!([&one, &other].iter().filter(|done| done.is_ok()).count(), 1, "{one:?} {other:?}");
        let refused = one.err().or(other.err()).unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
}

async fn a_repeated_request_is_answered_only_to_who_still_may(office: Office) {
    let anna = office.admin("anna").await;
    let owner = office.owner.clone();
    let (license_id, license_key) = office.license(a_license()).await;
    let account = || "anna".to_owned();
    let delegate = api::DelegateLicenseRequest {
        request_id: unique(),
        license_id: license_id.clone(),
        account: account(),
    };
    office.licenses(&owner).delegate_license(delegate.clone()).await.unwrap();
    let accept = api::AcceptLicenseRequest { request_id: unique(), license_id: license_id.clone() };
    office.licenses(&anna).accept_license(accept.clone()).await.unwrap();
    let activate = api::ActivateUnitRequest {
        request_id: unique(),
        license_id: license_id.clone(),
        device_name: "device".to_owned(),
        secret_sha256: esa_sidecar::sha256::hex(b"secret"),
        ..Default::default()
    };
    let unit = office.units(&anna).activate_unit(activate.clone()).await.unwrap().into_inner().unit.unwrap();
    let by_key = api::ActivateUnitRequest { license_id: String::new(), license_key, ..activate.clone() };
    office.units("").activate_unit(by_key.clone()).await.unwrap();
    let deactivate = api::DeactivateUnitsRequest { request_id: unique(), unit_ids: vec![unit.unit_id] };
    let answered = office.units(&anna).deactivate_units(deactivate.clone()).await.unwrap().into_inner();
    let again = office.units(&anna).deactivate_units(deactivate.clone()).await.unwrap().into_inner();
    assert_eq!(again, answered);

    let revoke = api::RevokeLicenseRequest {
        request_id: unique(),
        license_id: license_id.clone(),
        account: account(),
    };
    office.licenses(&owner).revoke_license(revoke.clone()).await.unwrap();
    let refused = office.licenses(&anna).accept_license(accept).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let refused = office.units(&anna).activate_unit(activate).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let again = office.units(&anna).deactivate_units(deactivate).await.unwrap().into_inner().results;
    assert_eq!(again[0].refusal(), api::DeactivationRefusal::NotFound, "{again:?}");
    assert!(!again[0].message.contains("device"));
    let rotate = api::RotateLicenseKeyRequest { request_id: unique(), license_id: license_id.clone() };
    office.licenses(&owner).rotate_license_key(rotate.clone()).await.unwrap();
    let refused = office.units("").activate_unit(by_key).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    let create = api::CreateAccountRequest {
        request_id: unique(),
        name: "theirs".to_owned(),
        role: api::AccountRole::Owner.into(),
        customer: "other".to_owned(),
    };
    office.accounts(&owner).create_account(create.clone()).await.unwrap();
    let disable = api::SetAccountDisabledRequest { request_id: unique(), name: account(), disabled: false };
    office.accounts(&owner).set_account_disabled(disable.clone()).await.unwrap();
    office.execute("UPDATE accounts SET may_issue = 0 WHERE name = 'owner'").await.unwrap();
    office.licenses(&owner).rotate_license_key(rotate.clone()).await.unwrap();
    let refused = office.accounts(&owner).create_account(create).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    office.accounts(&owner).set_account_disabled(disable.clone()).await.unwrap();
    office.execute("UPDATE accounts SET may_issue = 1 WHERE name = 'anna'").await.unwrap();
    let refused = office.accounts(&owner).set_account_disabled(disable).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "whom it may not manage any more");
    office.execute("UPDATE accounts SET role = 2 WHERE name = 'owner'").await.unwrap();
    let refused = office.licenses(&owner).delegate_license(delegate).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let refused = office.licenses(&owner).rotate_license_key(rotate).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "an owner no more");
    let refused = office.licenses(&owner).revoke_license(revoke).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

/// A deactivation and a revocation that wait for one subscription: what came first is done first, and the log says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_revoked_while_a_change_waits_is_gone_or_the_change_came_first() {
    for revoked_first in [true, false] {
        let office = Office::open(On::Replicas).await;
        let (license, _) = office.license(a_license()).await;
        let anna = office.admin("anna").await;
        office.delegate(&license, "anna", &anna).await;
        let unit = office.activate(&anna, &license, "device").await.unwrap().id;
        let mut holding = office.behind().await;
        run(&mut holding, "BEGIN; UPDATE subscriptions SET sequence = sequence").await;
        let request = api::RevokeLicenseRequest {
            request_id: unique(),
            license_id: license.clone(),
            account: "anna".to_owned(),
        };
        let (mut licenses, mut units) = (office.licenses(&office.owner), office.units(&anna));
        let revoke = async move { licenses.revoke_license(request).await.map(drop) };
        let request = api::DeactivateUnitsRequest { request_id: unique(), unit_ids: vec![unit.clone()] };
        let deactivate = async move { units.deactivate_units(request).await.unwrap().into_inner().results };
        let (revoke, deactivate) = if revoked_first {
            let revoke = tokio::spawn(revoke);
            office.until_one_waits().await;
            (revoke, tokio::spawn(deactivate))
        } else {
            let deactivate = tokio::spawn(deactivate);
            office.until_one_waits().await;
            (tokio::spawn(revoke), deactivate)
        };
        office.until_wait(2).await;
        office.clock.advance(Span::from(Duration::from_secs(5)));
        run(&mut holding, "COMMIT").await;
        revoke.await.unwrap().unwrap();
        let result = deactivate.await.unwrap().remove(0);
        let entries = office.entries(&office.owner).await;
        let two = &entries[entries.len() - 2..];
        let told: Vec<_> = two.iter().map(|entry| (entry.action.as_str(), entry.outcome)).collect();
        if revoked_first {
            assert_eq!(result.refusal(), api::DeactivationRefusal::NotFound);
            assert_eq!(told, [("license.revoke", 1), ("unit.deactivate", 2)]);
        } else {
            assert_eq!(result.state(), api::UnitState::DeactivationPending);
            assert_eq!(told, [("unit.deactivate", 1), ("license.revoke", 1)]);
            let told = office.all_units(&office.owner).await.remove(0);
            assert_eq!(told.deactivated_at, timestamp(office.now()), "when it was made, not when it came in");
        }
        assert!(two.iter().all(|entry| entry.at == timestamp(office.now())), "{two:#?}");
    }
}

/// Whoever is to have its key, its license or its delegation taken away waits behind what was made with it.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_a_right_away_locks_what_is_used_with_it() {
    let office = Office::open(On::Postgres).await;
    office.admin("anna").await;
    let things = things(&office, &office.owner).await;
    let mut holding = office.behind().await;
    for name in ["rotate_license_key", "delegate_license", "revoke_license", "suspend_license"] {
        let all = changes(&office, &office.owner, &things);
        let (_, call) = all.into_iter().find(|(call, _)| *call == name).unwrap();
        run(&mut holding, "BEGIN; UPDATE subscriptions SET sequence = sequence").await;
        let done = while_locked(&office, &mut holding, call).await;
        done.unwrap_or_else(|refused| panic!("{name}: {refused:?} {}", reason(&refused)));
    }
    let refused = office.activate("", &things.key, "with the key before").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}
