//! Accounts: passwords, sessions, locks, API credentials, and who makes whom.

use std::time::Duration;

use esa_sidecar::{domain::Span, proto::licensing as api};
use futures_util::future::join_all;
use sqlx::Executor as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    office::{Office, On, PASSWORD, reason, timestamp, unique},
    on_every_store,
};
use crate::sidecar::START;

on_every_store!(
    a_one_time_password_opens_nothing_but_its_change,
    wrong_passwords_make_the_next_wait_and_lock_nobody_out,
    a_name_nobody_has_is_answered_as_one_that_somebody_has,
    a_name_fails_a_hundred_times_a_day_from_new_addresses_and_its_own_go_on,
    many_guesses_at_once_are_not_more_than_a_few,
    a_one_time_password_is_for_one_sign_in_within_a_day,
    names_are_unique_within_a_customer_in_any_case,
    a_password_is_the_same_however_a_keyboard_writes_it_and_not_one_that_is_guessed_first,
    a_disabled_account_opens_nothing_and_disables_nobody_itself,
    sessions_end_at_change_reset_and_sign_out,
    api_credentials_are_made_listed_and_revoked_by_their_account_alone,
    passwords_are_kept_as_argon2id_as_hard_as_19_mib_in_two_passes,
    customers_and_their_owners_are_made_by_issuers_alone,
    account_names_are_unique_and_plain,
    an_account_that_may_issue_is_managed_by_those_who_may,
    a_reset_of_the_first_owner_lets_it_in_whatever_was_done_to_it,
    a_reset_or_disabled_account_keeps_no_session_and_no_credential,
    a_credential_makes_no_other,
    a_credential_does_what_it_is_for_until_it_ends_and_never_manages_accounts,
    sessions_are_listed_ended_bounded_and_end_when_idle,
    a_change_of_password_whose_answer_was_lost_is_answered_again,
    guesses_at_a_change_of_password_are_counted_however_many_come_at_once,
    of_owners_that_disable_each_other_at_once_one_stays,
);

async fn caller(office: &Office, token: &str) -> Result<api::Account, Status> {
    let told = office.accounts(token).get_caller(api::GetCallerRequest {}).await?;
    Ok(told.into_inner().account.unwrap())
}

pub(super) async fn create(
    office: &Office,
    by: &str,
    name: &str,
    role: api::AccountRole,
    customer: &str,
) -> Result<api::CreateAccountResponse, Status> {
    let request = api::CreateAccountRequest {
        request_id: unique(),
        name: name.to_owned(),
        role: role.into(),
        customer: customer.to_owned(),
    };
    Ok(office.accounts(by).create_account(request).await?.into_inner())
}

async fn change(office: &Office, token: &str, old: &str, new: &str) -> Result<(), Status> {
    change_as(office, token, "", old, new).await
}

async fn change_as(
    office: &Office,
    token: &str,
    request_id: &str,
    old: &str,
    new: &str,
) -> Result<(), Status> {
    let request = api::ChangePasswordRequest {
        request_id: request_id.to_owned(),
        old_password: old.to_owned(),
        new_password: new.to_owned(),
    };
    office.accounts(token).change_password(request).await.map(drop)
}

pub(super) async fn reset(office: &Office, by: &str, name: &str) -> Result<String, Status> {
    let request = api::ResetPasswordRequest { request_id: unique(), name: name.to_owned() };
    Ok(office.accounts(by).reset_password(request).await?.into_inner().one_time_password)
}

pub(super) async fn disable(
    office: &Office,
    by: &str,
    name: &str,
    disabled: bool,
) -> Result<api::Account, Status> {
    let request = api::SetAccountDisabledRequest { request_id: unique(), name: name.to_owned(), disabled };
    Ok(office.accounts(by).set_account_disabled(request).await?.into_inner().account.unwrap())
}

async fn credential(office: &Office, token: &str, name: &str) -> Result<(String, String), Status> {
    let request =
        api::CreateApiCredentialRequest { request_id: unique(), name: name.to_owned(), ..Default::default() };
    let made = office.accounts(token).create_api_credential(request).await?.into_inner();
    Ok((made.credential.unwrap().credential_id, made.token))
}

fn refusal<T: std::fmt::Debug>(done: Result<T, Status>) -> (Code, String) {
    let refused = done.unwrap_err();
    (refused.code(), reason(&refused))
}

async fn a_one_time_password_opens_nothing_but_its_change(office: Office) {
    let made = create(&office, &office.owner, "anna", api::AccountRole::Owner, "").await.unwrap();
    assert!(made.account.unwrap().password_change_required);
    let once = made.one_time_password;
    let token = office.sign_in("anna", &once).await.unwrap();
    assert!(caller(&office, &token).await.unwrap().password_change_required);
    let denied = (Code::PermissionDenied, "PASSWORD_CHANGE_REQUIRED".to_owned());
    let licenses = || office.licenses(&token);
    assert_eq!(refusal(office.units(&token).list_units(api::ListUnitsRequest::default()).await), denied);
    assert_eq!(refusal(office.units(&token).get_unit(api::GetUnitRequest::default()).await), denied);
    assert_eq!(
        refusal(office.units(&token).activate_unit(api::ActivateUnitRequest::default()).await),
        denied
    );
    assert_eq!(
        refusal(office.units(&token).deactivate_units(api::DeactivateUnitsRequest::default()).await),
        denied
    );
    assert_eq!(refusal(licenses().list_licenses(api::ListLicensesRequest::default()).await), denied);
    assert_eq!(refusal(licenses().get_license(api::GetLicenseRequest::default()).await), denied);
    assert_eq!(refusal(licenses().create_license(api::CreateLicenseRequest::default()).await), denied);
    assert_eq!(refusal(licenses().update_license(api::UpdateLicenseRequest::default()).await), denied);
    assert_eq!(refusal(licenses().suspend_license(api::SuspendLicenseRequest::default()).await), denied);
    assert_eq!(refusal(licenses().resume_license(api::ResumeLicenseRequest::default()).await), denied);
    assert_eq!(refusal(licenses().renew_license(api::RenewLicenseRequest::default()).await), denied);
    assert_eq!(refusal(licenses().rotate_license_key(api::RotateLicenseKeyRequest::default()).await), denied);
    assert_eq!(refusal(licenses().import_licenses(api::ImportLicensesRequest::default()).await), denied);
    assert_eq!(refusal(licenses().delegate_license(api::DelegateLicenseRequest::default()).await), denied);
    assert_eq!(refusal(licenses().accept_license(api::AcceptLicenseRequest::default()).await), denied);
    assert_eq!(refusal(licenses().revoke_license(api::RevokeLicenseRequest::default()).await), denied);
    let entries = office.audit(&token).list_audit_entries(api::ListAuditEntriesRequest::default()).await;
    assert_eq!(refusal(entries), denied);
    let accounts = office.accounts(&token).list_accounts(api::ListAccountsRequest::default()).await;
    assert_eq!(refusal(accounts), denied);
    assert_eq!(refusal(create(&office, &token, "ben", api::AccountRole::Owner, "").await), denied);
    assert_eq!(refusal(disable(&office, &token, "owner", true).await), denied);
    assert_eq!(refusal(reset(&office, &token, "owner").await), denied);
    assert_eq!(refusal(credential(&office, &token, "script").await), denied);

    for (old, new, code) in [
        ("wrong", PASSWORD, Code::Unauthenticated),
        (&once, "elevenchars", Code::InvalidArgument),
        (&once, "üüüüüüüüüüü", Code::InvalidArgument),
        (&once, &"x".repeat(257), Code::InvalidArgument),
        (&once, &once, Code::InvalidArgument),
    ] {
        assert_eq!(refusal(change(&office, &token, old, new).await).0, code, "{new}");
    }
    let longest: String = "richtig pferd bätterie heftklammer ".chars().cycle().take(256).collect();
    change(&office, &token, &once, &longest).await.unwrap();
    assert!(!caller(&office, &token).await.unwrap().password_change_required);
    office.licenses(&token).list_licenses(api::ListLicensesRequest::default()).await.unwrap();
    assert_eq!(refusal(office.sign_in("anna", &once).await).1, "WRONG_PASSWORD");
    office.sign_in("anna", &longest).await.unwrap();
}

async fn wrong_passwords_make_the_next_wait_and_lock_nobody_out(office: Office) {
    let anna = office.admin("anna").await;
    let wrong = (Code::Unauthenticated, "WRONG_PASSWORD".to_owned());
    let too_soon = (Code::ResourceExhausted, "TOO_SOON".to_owned());
    // Each replica counts what it looked at.
    let tries = 3 * office.replicas();
    for _ in 0..tries {
        assert_eq!(refusal(office.sign_in("anna", "wrong").await), wrong);
    }
    for _ in 0..2 * office.replicas() {
        let refused = office.sign_in("anna", PASSWORD).await.unwrap_err();
        let wait = refused.get_error_details().retry_info().unwrap().retry_delay;
        assert_eq!(wait, Some(Duration::from_secs(1)), "it is told when to try again");
        assert_eq!(refusal::<()>(Err(refused)), too_soon);
    }
    // Nobody else waits: not at another address, not with another name, not in a session that is open.
    office.sign_in_from("192.0.2.1", "anna", PASSWORD).await.unwrap();
    office.sign_in("owner", PASSWORD).await.unwrap();
    change(&office, &anna, PASSWORD, "another password").await.unwrap();
    office.clock.advance(Span::SECOND);
    for _ in 0..office.replicas() {
        office.sign_in("anna", "another password").await.unwrap();
    }
    // However often somebody here fails, who signed in from here before waits half a minute at the most.
    for _ in 0..20 * office.replicas() {
        office.clock.advance(Span::from(Duration::from_mins(1)));
        office.sign_in("anna", "wrong").await.unwrap_err();
    }
    office.clock.advance(Span::from(Duration::from_secs(30)));
    for _ in 0..2 * office.replicas() {
        office.sign_in("anna", "another password").await.unwrap();
    }
}

async fn a_name_nobody_has_is_answered_as_one_that_somebody_has(office: Office) {
    office.admin("anna").await;
    office.admin("off").await;
    disable(&office, &office.owner, "off", true).await.unwrap();
    let mut told = Vec::new();
    for name in ["anna", "off", "nobody", "nobody@acme", "\0"] {
        let mut answers = Vec::new();
        for _ in 0..6 * office.replicas() {
            let refused = office.sign_in_from("192.0.2.9", name, "a wrong one").await.unwrap_err();
            answers.push((refused.code(), reason(&refused), refused.message().to_owned()));
        }
        told.push(answers);
    }
    assert!(told.iter().all(|answers| *answers == told[0]), "{told:?}");
}

/// Once both names that failed are written down, so often in all, makes each fail one time less than a name may within a
/// day. What failed is written down beside the calls, and heard by all replicas; a hundred hashes would take long.
pub(super) async fn nearly_fail_for_the_day(office: &Office, failed: usize) {
    let kept = "SELECT COUNT(*), CAST(SUM(failures) AS BIGINT) FROM sign_in_failures";
    let all = i64::try_from(failed).unwrap();
    let written = async { while office.numbers(kept).await != [2, all] {} };
    tokio::time::timeout(Duration::from_secs(60), written).await.expect("both names are written down");
    office.execute("UPDATE sign_in_failures SET failures = 99").await.unwrap();
}

async fn a_name_fails_a_hundred_times_a_day_from_new_addresses_and_its_own_go_on(office: Office) {
    let anna = office.admin("anna").await;
    office.sign_in_from("198.51.100.7", "anna", PASSWORD).await.unwrap();
    let fail = async |name: &str, from: u32| {
        let address = format!("10.{}.{}.1", from / 256, from % 256);
        reason(&office.sign_in_from(&address, name, "a wrong one").await.unwrap_err())
    };
    for name in ["anna", "nobody"] {
        for from in 0..11 * office.replicas() {
            assert_eq!(fail(name, u32::try_from(from).unwrap()).await, "WRONG_PASSWORD");
        }
    }
    nearly_fail_for_the_day(&office, 22 * office.replicas()).await;
    for name in ["anna", "nobody"] {
        let (mut failed, mut heard) = (0, 0);
        // By each of the replicas, which are asked in turn.
        while heard < office.replicas() {
            let has_heard = fail(name, 1_000 + failed).await == "TOO_SOON";
            (failed, heard) = if has_heard { (failed, heard + 1) } else { (failed + 1, 0) };
        }
        assert!(failed < 60, "{name}: {failed} until it was heard");
        for from in 2_000..2_004 {
            assert_eq!(fail(name, from).await, "TOO_SOON", "{name}");
        }
    }
    let too_soon = (Code::ResourceExhausted, "TOO_SOON".to_owned());
    assert_eq!(refusal(office.sign_in_from("203.0.113.1", "anna", PASSWORD).await), too_soon);
    assert_eq!(refusal(office.sign_in_from("203.0.113.1", "ANNA@default", PASSWORD).await), too_soon);
    for _ in 0..office.replicas() {
        office.sign_in_from("198.51.100.7", "anna", PASSWORD).await.unwrap();
        office.sign_in("anna", PASSWORD).await.unwrap();
    }
    caller(&office, &anna).await.unwrap();
    // An owner lets it in again, from anywhere: nobody guesses a one-time password.
    let once = reset(&office, &office.owner, "anna").await.unwrap();
    office.sign_in_from("203.0.113.1", "anna", &once).await.unwrap();
    office.clock.advance(Span::days(1));
    for _ in 0..office.replicas() {
        assert_eq!(fail("nobody", 3_000).await, "WRONG_PASSWORD", "a new day");
    }
}

async fn many_guesses_at_once_are_not_more_than_a_few(office: Office) {
    office.admin("anna").await;
    let guesses =
        (0..12).map(|guess| {
            let office = &office;
            async move {
                office.sign_in("anna", &format!("guess {guess}")).await.map_err(|refused| reason(&refused))
            }
        });
    let answers = join_all(guesses).await;
    let wrong = answers.iter().filter(|answer| **answer == Err("WRONG_PASSWORD".to_owned())).count();
    assert!(wrong <= 3 * office.replicas(), "{answers:?}");
}

async fn a_one_time_password_is_for_one_sign_in_within_a_day(office: Office) {
    let ended = (Code::Unauthenticated, "ONE_TIME_PASSWORD_ENDED".to_owned());
    let day = Span::days(1);
    let once =
        create(&office, &office.owner, "anna", api::AccountRole::Owner, "").await.unwrap().one_time_password;
    office.clock.advance(day);
    assert_eq!(refusal(office.sign_in("anna", &once).await), ended);
    let once = reset(&office, &office.owner, "anna").await.unwrap();
    office.clock.advance(day - Span::from_nanos(1));
    let anna = office.sign_in("anna", &once).await.unwrap();
    assert_eq!(refusal(office.sign_in("anna", &once).await), ended, "used once");
    assert_eq!(
        refusal(office.sign_in("anna", "a wrong one").await).1,
        "WRONG_PASSWORD",
        "and not told to others"
    );
    office.clock.advance(day);
    change(&office, &anna, &once, PASSWORD).await.unwrap();
    office.sign_in("anna", PASSWORD).await.unwrap();
    // A customer whose first owner never came gets another one.
    create(&office, &office.owner, "one", api::AccountRole::Owner, "acme").await.unwrap();
    let beside = refusal(create(&office, &office.owner, "two", api::AccountRole::Owner, "acme").await);
    assert_eq!(beside.0, Code::PermissionDenied);
    office.clock.advance(day);
    create(&office, &office.owner, "two", api::AccountRole::Owner, "acme").await.unwrap();
}

async fn names_are_unique_within_a_customer_in_any_case(office: Office) {
    use api::AccountRole::{Owner, SecurityAdmin};
    let acme = office.customer("Acme", "owner").await;
    assert_eq!(caller(&office, &acme).await.unwrap().customer, "Acme");
    assert_eq!(caller(&office, &office.owner).await.unwrap().customer, "default");
    for (name, customer) in [("owner", "Acme"), ("OWNER", "acme"), ("Owner", "ACME")] {
        let token = office.sign_in(&format!("{name}@{customer}"), PASSWORD).await.unwrap();
        assert_eq!(caller(&office, &token).await.unwrap().customer, "Acme", "{name}@{customer}");
    }
    for name in ["owner", "Owner", "owner@default", "OWNER@Default"] {
        let token = office.sign_in(name, PASSWORD).await.unwrap();
        assert_eq!(caller(&office, &token).await.unwrap().customer, "default", "{name}");
    }
    for name in ["OWNER", "Owner", "owner"] {
        let taken = refusal(create(&office, &acme, name, SecurityAdmin, "").await);
        assert_eq!(taken, (Code::AlreadyExists, "TAKEN".to_owned()), "{name}");
    }
    let other = refusal(create(&office, &office.owner, "another", Owner, "ACME").await);
    assert_eq!(other.0, Code::PermissionDenied, "the customer has an owner, however its name is written");
    // A name that another customer has tells nothing of it.
    office.admin("anna").await;
    create(&office, &acme, "anna", SecurityAdmin, "").await.unwrap();
    assert!(!disable(&office, &acme, "ANNA", false).await.unwrap().disabled);
    assert!(disable(&office, &acme, "Anna@acme", true).await.unwrap().disabled);
    office.sign_in("anna", PASSWORD).await.unwrap();
    assert_eq!(refusal(disable(&office, &acme, "anna@default", true).await).0, Code::NotFound);
}

async fn a_password_is_the_same_however_a_keyboard_writes_it_and_not_one_that_is_guessed_first(
    office: Office,
) {
    let (one, two) = ("m\u{fc}nster b\u{f6}rse 9", "mu\u{308}nster bo\u{308}rse 9");
    let anna = office.admin("anna").await;
    change(&office, &anna, PASSWORD, two).await.unwrap();
    office.sign_in("anna", one).await.unwrap();
    office.sign_in("anna", two).await.unwrap();
    for easy in ["password1234", "anna-anna-anna", "Default-2024!", "123456789012", "aaaaaaaaaaaaaaa"] {
        assert_eq!(refusal(change(&office, &anna, one, easy).await).0, Code::InvalidArgument, "{easy}");
    }
}

async fn a_disabled_account_opens_nothing_and_disables_nobody_itself(office: Office) {
    let anna = office.account(&office.owner, "anna", api::AccountRole::Owner, "").await;
    let (_, script) = credential(&office, &anna, "script").await.unwrap();
    assert_eq!(refusal(disable(&office, &anna, "anna", true).await).0, Code::FailedPrecondition);
    assert!(disable(&office, &office.owner, "anna", true).await.unwrap().disabled);
    let wrong = (Code::Unauthenticated, "WRONG_PASSWORD".to_owned());
    assert_eq!(refusal(office.sign_in("anna", PASSWORD).await), wrong, "not told from a wrong password");
    for token in [&anna, &script] {
        assert_eq!(refusal(caller(&office, token).await).0, Code::Unauthenticated);
        let units = office.units(token).list_units(api::ListUnitsRequest::default()).await;
        assert_eq!(refusal(units).0, Code::Unauthenticated);
        assert_eq!(refusal(disable(&office, token, "anna", false).await).0, Code::Unauthenticated);
        assert_eq!(
            refusal(change(&office, token, PASSWORD, "another password").await).0,
            Code::Unauthenticated
        );
    }
    assert!(!disable(&office, &office.owner, "anna", false).await.unwrap().disabled);
    office.sign_in("anna", PASSWORD).await.unwrap();
    assert_eq!(refusal(disable(&office, &office.owner, "nobody", true).await).0, Code::NotFound);
}

async fn of_owners_that_disable_each_other_at_once_one_stays(office: Office) {
    let names = ["acme.one", "acme.two", "acme.three"];
    let mut tokens = vec![office.customer("acme", names[0]).await];
    for name in &names[1..] {
        tokens.push(office.account(&tokens[0], name, api::AccountRole::Owner, "").await);
    }
    let enabled = "SELECT COUNT(*) FROM accounts WHERE name LIKE 'acme.%' AND disabled = 0";
    for round in 0..3 {
        // Each disables the next one.
        let calls = names.iter().enumerate().map(|(by, _)| {
            let (office, token, name) = (&office, &tokens[by], names[(by + 1) % names.len()]);
            async move { disable(office, token, name, true).await }
        });
        let answers = join_all(calls).await;
        assert_ne!(office.numbers(enabled).await, [0], "round {round}: {answers:?}");
        let left = names.len() - answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(office.numbers(enabled).await, [i64::try_from(left).unwrap()], "what was answered is so");
        office.execute("UPDATE accounts SET disabled = 0 WHERE name LIKE 'acme.%'").await.unwrap();
        for (token, name) in tokens.iter_mut().zip(names) {
            if caller(&office, token).await.is_err() {
                *token = office.sign_in(&format!("{name}@acme"), PASSWORD).await.unwrap();
            }
        }
    }
}

async fn sessions_end_at_change_reset_and_sign_out(office: Office) {
    let one = office.admin("anna").await;
    let two = office.sign_in("anna", PASSWORD).await.unwrap();
    let (_, script) = credential(&office, &one, "script").await.unwrap();
    let opens = async |token: &str| caller(&office, token).await.is_ok();
    change(&office, &one, PASSWORD, "another password").await.unwrap();
    assert_eq!((opens(&one).await, opens(&two).await, opens(&script).await), (true, false, true));
    let three = office.sign_in("anna", "another password").await.unwrap();
    office.accounts(&one).sign_out(api::SignOutRequest {}).await.unwrap();
    assert_eq!((opens(&one).await, opens(&three).await), (false, true));
    let refused = office.accounts(&one).sign_out(api::SignOutRequest {}).await;
    assert_eq!(refusal(refused).0, Code::Unauthenticated);
    let once = reset(&office, &office.owner, "anna").await.unwrap();
    assert!(!opens(&three).await);
    assert_eq!(refusal(office.sign_in("anna", "another password").await).1, "WRONG_PASSWORD");
    let licenses = office.licenses(&script).list_licenses(api::ListLicensesRequest::default()).await;
    assert_eq!(refusal(licenses).0, Code::Unauthenticated, "nor do its programs");
    let four = office.first_sign_in("anna", &once).await;
    assert!(opens(&four).await);
    let garbled = [
        String::new(),
        "esas_".to_owned(),
        format!("{four}x"),
        four.to_uppercase(),
        four.replace("esas_", "esac_"),
        four.replace("esas_", "esau_"),
        four.replace("esas_", ""),
        script.replace("esac_", "esas_"),
    ];
    for token in garbled {
        assert_eq!(refusal(caller(&office, &token).await).0, Code::Unauthenticated, "`{token}`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_at_the_very_instant_it_was_told() {
    let hour = Duration::from_hours(1);
    let office = Office::open_with(On::Sqlite, |settings| settings.session_time = hour).await;
    let request = api::SignInRequest { name: "owner".to_owned(), password: PASSWORD.to_owned() };
    let session = office.accounts("").sign_in(request).await.unwrap().into_inner();
    let end = START + Span::from(hour);
    assert_eq!(session.expires_at, timestamp(end));
    office.clock.set(end - Span::from_nanos(1));
    caller(&office, &session.token).await.unwrap();
    office.clock.set(end);
    assert_eq!(refusal(caller(&office, &session.token).await).0, Code::Unauthenticated);
}

async fn api_credentials_are_made_listed_and_revoked_by_their_account_alone(office: Office) {
    let anna = office.admin("anna").await;
    let mut made = Vec::new();
    for number in 0..5 {
        made.push(credential(&office, &anna, &format!("script {number}")).await.unwrap());
    }
    let (others, others_token) = credential(&office, &office.owner, "owner's").await.unwrap();
    let mut listed = Vec::new();
    let mut request = api::ListApiCredentialsRequest { page_size: 2, ..Default::default() };
    loop {
        let page =
            office.accounts(&made[4].1).list_api_credentials(request.clone()).await.unwrap().into_inner();
        assert!(page.credentials.len() <= 2);
        listed.extend(page.credentials.into_iter().map(|credential| credential.credential_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let mut ids: Vec<_> = made.iter().map(|(id, _)| id.clone()).collect();
    ids.sort();
    assert_eq!(listed, ids);
    let revoke = async |token: &str, id: &str| {
        let request = api::RevokeApiCredentialRequest { request_id: unique(), credential_id: id.to_owned() };
        office.accounts(token).revoke_api_credential(request).await
    };
    assert_eq!(refusal(revoke(&anna, &others).await).0, Code::NotFound);
    assert_eq!(refusal(revoke(&office.owner, &made[0].0).await).0, Code::NotFound);
    let (id, token) = &made[0];
    let revoked = revoke(&anna, id).await.unwrap().into_inner().credential.unwrap();
    assert_eq!(revoked.revoked_at, timestamp(office.now()));
    office.clock.advance(Span::SECOND);
    let again = revoke(&anna, id).await.unwrap().into_inner().credential.unwrap();
    assert_eq!(again.revoked_at, revoked.revoked_at, "since the first time");
    assert_eq!(refusal(caller(&office, token).await).0, Code::Unauthenticated);
    for token in [&made[1].1, &others_token] {
        caller(&office, token).await.unwrap();
    }
    let mixed = format!("esac_{}_{}", made[1].0, made[2].1.rsplit_once('_').unwrap().1);
    assert_eq!(refusal(caller(&office, &mixed).await).0, Code::Unauthenticated, "another's secret");
    let itself = revoke(&made[1].1, &made[1].0).await.unwrap().into_inner().credential.unwrap();
    assert!(itself.revoked_at.is_some());
    assert_eq!(refusal(caller(&office, &made[1].1).await).0, Code::Unauthenticated);
}

async fn passwords_are_kept_as_argon2id_as_hard_as_19_mib_in_two_passes(office: Office) {
    office.admin("anna").await;
    let row = "SELECT COUNT(*), SUM(CASE WHEN password_hash LIKE '$argon2id$v=19$m=47104,t=1,p=1$%' THEN 1 ELSE 0 END),
        COUNT(DISTINCT password_hash) FROM accounts";
    assert_eq!(office.numbers(row).await, [2, 2, 2], "the same password twice, and two hashes");
}

async fn customers_and_their_owners_are_made_by_issuers_alone(office: Office) {
    use api::AccountRole::{Owner, SecurityAdmin};
    let anna = office.admin("anna").await;
    let acme = office.customer("acme", "acme.owner").await;
    let told = caller(&office, &acme).await.unwrap();
    assert_eq!((told.customer.as_str(), told.role(), told.may_issue), ("acme", Owner, false));
    let more = office.account(&acme, "acme.second", Owner, "").await;
    for (by, name, role, customer, code) in [
        (&anna, "x", SecurityAdmin, "", Code::PermissionDenied),
        (&acme, "x", Owner, "default", Code::PermissionDenied),
        (&more, "x", Owner, "new", Code::PermissionDenied),
        (&anna, "x", Owner, "new", Code::PermissionDenied),
        (&office.owner, "x", SecurityAdmin, "acme", Code::InvalidArgument),
        (&office.owner, "x", api::AccountRole::Unspecified, "", Code::InvalidArgument),
    ] {
        let refused = refusal(create(&office, by, name, role, customer).await);
        assert_eq!(refused.0, code, "{role:?} of `{customer}`");
    }
    assert_eq!(office.numbers("SELECT COUNT(*) FROM customers").await, [2]);
    let own = create(&office, &acme, "acme.third", SecurityAdmin, "acme").await.unwrap();
    assert_eq!(own.account.unwrap().customer, "acme", "naming one's own customer is naming none");
    let beside = refusal(create(&office, &office.owner, "acme.fourth", Owner, "acme").await);
    assert_eq!(beside.0, Code::PermissionDenied, "a customer's owners make the others");
    create(&office, &acme, "acme.fourth", Owner, "").await.unwrap();
    office.execute("UPDATE accounts SET disabled = 1 WHERE name LIKE 'acme.%'").await.unwrap();
    let anew = create(&office, &office.owner, "acme.fifth", Owner, "acme").await.unwrap();
    assert_eq!(anew.account.unwrap().customer, "acme", "a customer without an owner gets one");
    office.execute("UPDATE accounts SET disabled = 0 WHERE name LIKE 'acme.%'").await.unwrap();
    let tries = (0..4).map(|owner| {
        let (office, name) = (&office, format!("globex.{owner}"));
        async move { create(office, &office.owner, &name, Owner, "globex").await }
    });
    let made = join_all(tries).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(made, 1, "the first owner, however many ask at once");

    let names = async |token: &str| {
        let mut names = Vec::new();
        let mut request = api::ListAccountsRequest { page_size: 1, ..Default::default() };
        loop {
            let page = office.accounts(token).list_accounts(request.clone()).await.unwrap().into_inner();
            names.extend(page.accounts.into_iter().map(|account| account.name));
            if page.next_page_token.is_empty() {
                return names;
            }
            request.page_token = page.next_page_token;
        }
    };
    assert_eq!(names(&office.owner).await, ["anna", "owner"]);
    assert_eq!(names(&acme).await, ["acme.fifth", "acme.fourth", "acme.owner", "acme.second", "acme.third"]);
    let refused = office.accounts(&anna).list_accounts(api::ListAccountsRequest::default()).await;
    assert_eq!(refusal(refused).0, Code::PermissionDenied);
    assert_eq!(refusal(reset(&office, &acme, "owner").await).0, Code::NotFound, "even the issuer's");
    assert_eq!(refusal(reset(&office, &office.owner, "acme.owner").await).0, Code::NotFound);
    assert_eq!(refusal(disable(&office, &acme, "anna", true).await).0, Code::NotFound);
}

async fn account_names_are_unique_and_plain(office: Office) {
    use api::AccountRole::{Owner, SecurityAdmin};
    for name in [
        "",
        " ",
        "a b",
        "ä",
        "a\0b",
        "a'b",
        "a/b",
        "a%",
        "a@b",
        "backend",
        "Backend",
        "unit",
        &"x".repeat(65),
    ] {
        let refused = refusal(create(&office, &office.owner, name, SecurityAdmin, "").await);
        assert_eq!(refused.0, Code::InvalidArgument, "`{name}`");
    }
    create(&office, &office.owner, "a.-_9", SecurityAdmin, "").await.unwrap();
    let refused = refusal(create(&office, &office.owner, "a.-_9", SecurityAdmin, "").await);
    assert_eq!(refused, (Code::AlreadyExists, "TAKEN".to_owned()));
    let tries = (0..4).map(|case| {
        let (office, name) = (&office, if case % 2 == 0 { "wanted" } else { "WANTED" });
        async move { create(office, &office.owner, name, Owner, "").await }
    });
    let (made, refused): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1, "however many ask at once");
    for refused in refused {
        assert_eq!(refusal(refused), (Code::AlreadyExists, "TAKEN".to_owned()));
    }
}

async fn an_account_that_may_issue_is_managed_by_those_who_may(office: Office) {
    let anna = office.account(&office.owner, "anna", api::AccountRole::Owner, "").await;
    let denied = (Code::PermissionDenied, "NOT_ALLOWED".to_owned());
    assert_eq!(refusal(reset(&office, &anna, "owner").await), denied);
    assert_eq!(refusal(disable(&office, &anna, "owner", true).await), denied);
    assert_eq!(refusal(disable(&office, &anna, "owner", false).await), denied);
    caller(&office, &office.owner).await.unwrap();
    office.execute("UPDATE accounts SET may_issue = 1 WHERE name = 'anna'").await.unwrap();
    disable(&office, &anna, "owner", true).await.unwrap();
    reset(&office, &anna, "owner").await.unwrap();
}

async fn a_reset_of_the_first_owner_lets_it_in_whatever_was_done_to_it(office: Office) {
    let (_, script) = credential(&office, &office.owner, "script").await.unwrap();
    for _ in 0..3 {
        office.sign_in("owner", "wrong").await.unwrap_err();
    }
    office.execute("UPDATE accounts SET disabled = 1 WHERE name = 'owner'").await.unwrap();
    let once = office.beside().await.first_owner(true).await.unwrap().unwrap();
    office.first_sign_in("owner", &once).await;
    for token in [&script, &office.owner] {
        assert_eq!(refusal(caller(&office, token).await).0, Code::Unauthenticated, "what was open is not");
    }
}

/// A reset that waits happens when it has locked the account (semantics 7.37).
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_the_first_owner_waits_for_what_is_done_to_the_account() {
    let office = Office::open(On::Postgres).await;
    let mut holding = office.behind().await;
    holding.execute("BEGIN; SELECT account_id FROM accounts FOR UPDATE").await.unwrap();
    let beside = office.beside().await;
    let reset = tokio::spawn(async move { beside.first_owner(true).await });
    office.until_one_waits().await;
    office.clock.advance(Span::days(2));
    holding.execute("COMMIT").await.unwrap();
    let once = reset.await.unwrap().unwrap().unwrap();
    // The one-time password is good for a day from then on.
    let owner = office.first_sign_in("owner", &once).await;
    let entries = office.entries(&owner).await;
    let entry = entries.iter().find(|entry| entry.action == "account.reset_password").unwrap();
    assert_eq!(entry.at, timestamp(office.now()));
}

async fn a_reset_or_disabled_account_keeps_no_session_and_no_credential(office: Office) {
    let mut anna = office.admin("anna").await;
    for disables in [true, false] {
        let (id, script) = credential(&office, &anna, "script").await.unwrap();
        office.clock.advance(Span::SECOND);
        let ended = timestamp(office.now());
        if disables {
            disable(&office, &office.owner, "anna", true).await.unwrap();
            disable(&office, &office.owner, "anna", false).await.unwrap();
            for token in [&anna, &script] {
                assert_eq!(
                    refusal(caller(&office, token).await).0,
                    Code::Unauthenticated,
                    "nothing is revived"
                );
            }
            anna = office.sign_in("anna", PASSWORD).await.unwrap();
        } else {
            let once = reset(&office, &office.owner, "anna").await.unwrap();
            anna = office.first_sign_in("anna", &once).await;
            assert_eq!(refusal(caller(&office, &script).await).0, Code::Unauthenticated);
        }
        let all = api::ListApiCredentialsRequest::default();
        let listed = office.accounts(&anna).list_api_credentials(all).await.unwrap().into_inner().credentials;
        let revoked = listed.iter().find(|credential| credential.credential_id == id).unwrap();
        assert_eq!(revoked.revoked_at, ended, "and its account sees when");
    }
}

async fn a_credential_makes_no_other(office: Office) {
    let (_, script) = credential(&office, &office.owner, "script").await.unwrap();
    let denied = (Code::PermissionDenied, "NOT_ALLOWED".to_owned());
    assert_eq!(refusal(credential(&office, &script, "another").await), denied);
    let entries = office.entries(&office.owner).await;
    assert!(entries.iter().any(|entry| entry.action == "credential.create" && entry.outcome == 2));
}

async fn a_credential_does_what_it_is_for_until_it_ends_and_never_manages_accounts(office: Office) {
    let make = async |scopes: &[api::ApiScope], expires_at| {
        let scopes = scopes.iter().map(|scope| i32::from(*scope)).collect();
        let request = api::CreateApiCredentialRequest {
            request_id: unique(),
            name: "script".to_owned(),
            scopes,
            expires_at,
        };
        Ok::<_, Status>(office.accounts(&office.owner).create_api_credential(request).await?.into_inner())
    };
    use api::ApiScope::{ManageLicenses, ManageUnits, Read, ReadAudit};
    let denied = (Code::PermissionDenied, "NOT_ALLOWED".to_owned());
    let (license, _) = office.license(super::office::a_license()).await;
    for scopes in [vec![Read], vec![ManageUnits], vec![ManageLicenses], vec![ReadAudit], vec![]] {
        let token = &make(&scopes, None).await.unwrap().token;
        let is_for = |scope| scopes.is_empty() || scopes.contains(&scope);
        let check = |scope, what: &str, code: Option<Code>| {
            assert_eq!(code == Some(Code::PermissionDenied), !is_for(scope), "{scopes:?}: {what}, {code:?}");
        };
        let code = |done: Result<(), Status>| done.err().map(|refused| refused.code());
        let units = office.units(token).list_units(api::ListUnitsRequest::default()).await;
        check(Read, "list_units", code(units.map(drop)));
        let licenses = office.licenses(token).list_licenses(api::ListLicensesRequest::default()).await;
        check(Read, "list_licenses", code(licenses.map(drop)));
        let accounts = office.accounts(token).list_accounts(api::ListAccountsRequest::default()).await;
        check(Read, "list_accounts", code(accounts.map(drop)));
        let entries = office.audit(token).list_audit_entries(api::ListAuditEntriesRequest::default()).await;
        check(ReadAudit, "list_audit_entries", code(entries.map(drop)));
        check(ManageUnits, "activate", code(office.activate(token, &license, "device").await.map(drop)));
        let request = api::DeactivateUnitsRequest { request_id: unique(), unit_ids: vec!["x".to_owned()] };
        let deactivated = office.units(token).deactivate_units(request).await;
        check(ManageUnits, "deactivate_units", code(deactivated.map(drop)));
        let request = api::ResumeLicenseRequest { request_id: unique(), license_id: license.clone() };
        check(ManageLicenses, "resume", code(office.licenses(token).resume_license(request).await.map(drop)));
        // Whatever it is for.
        assert_eq!(refusal(create(&office, token, "backdoor", api::AccountRole::Owner, "").await), denied);
        assert_eq!(refusal(reset(&office, token, "owner").await), denied);
        assert_eq!(refusal(disable(&office, token, "owner", true).await), denied);
        assert_eq!(refusal(change(&office, token, PASSWORD, "another password").await), denied);
        assert_eq!(refusal(credential(&office, token, "another").await), denied);
        let sessions = office.accounts(token).list_sessions(api::ListSessionsRequest {}).await;
        assert_eq!(refusal(sessions), denied);
        let end = api::EndSessionRequest { session_id: "any".to_owned() };
        assert_eq!(refusal(office.accounts(token).end_session(end).await), denied);
        let other = make(&scopes, None).await.unwrap().credential.unwrap().credential_id;
        let revoke = api::RevokeApiCredentialRequest { request_id: unique(), credential_id: other };
        assert_eq!(refusal(office.accounts(token).revoke_api_credential(revoke).await), denied);
    }
    let end = office.now() + Span::days(90);
    let made = make(&[Read], timestamp(end)).await.unwrap();
    let told = made.credential.unwrap();
    assert_eq!((told.scopes, told.expires_at), (vec![Read.into()], timestamp(end)));
    let year = make(&[], None).await.unwrap();
    assert_eq!(year.credential.unwrap().expires_at, timestamp(office.now() + Span::days(365)));
    assert_eq!(refusal(make(&[Read], timestamp(office.now())).await).0, Code::InvalidArgument);
    office.clock.set(end - Span::from_nanos(1));
    caller(&office, &made.token).await.unwrap();
    office.clock.set(end);
    assert_eq!(refusal(caller(&office, &made.token).await).0, Code::Unauthenticated);
    caller(&office, &year.token).await.unwrap();
}

async fn sessions_are_listed_ended_bounded_and_end_when_idle(mut office: Office) {
    let hour = Duration::from_hours(1);
    office.replace_with(|settings| settings.session_idle = hour).await;
    let first = office.admin("anna").await;
    let list = async |token: &str| {
        let told = office.accounts(token).list_sessions(api::ListSessionsRequest {}).await?;
        Ok::<_, Status>(told.into_inner().sessions)
    };
    office.clock.advance(Span::SECOND);
    let second = office.sign_in("anna", PASSWORD).await.unwrap();
    let listed = list(&first).await.unwrap();
    assert_eq!(
        listed.iter().map(|session| session.current).collect::<Vec<_>>(),
        [false, true],
        "used last first"
    );
    assert!(listed.iter().all(|session| session.address == "loopback" && session.created_at.is_some()));
    assert_eq!(list(&office.owner).await.unwrap().len(), 1, "one's own alone");
    let end = |session_id: &str| api::EndSessionRequest { session_id: session_id.to_owned() };
    for _ in 0..2 {
        office.accounts(&office.owner).end_session(end(&listed[0].session_id)).await.unwrap();
        caller(&office, &second).await.unwrap();
    }
    for _ in 0..2 {
        office.accounts(&first).end_session(end(&listed[0].session_id)).await.unwrap();
        assert_eq!(refusal(caller(&office, &second).await).0, Code::Unauthenticated);
    }
    let mut tokens = vec![first];
    for _ in 0..16 {
        office.clock.advance(Span::SECOND);
        tokens.push(office.sign_in("anna", PASSWORD).await.unwrap());
    }
    assert_eq!(
        refusal(caller(&office, &tokens[0]).await).0,
        Code::Unauthenticated,
        "a seventeenth ends the oldest"
    );
    assert_eq!(list(&tokens[16]).await.unwrap().len(), 16);
    // One that is used goes on; one that is not ends after an hour.
    let used = "SELECT MAX(last_used_at) FROM sessions";
    for _ in 0..3 {
        let before = office.numbers(used).await;
        office.clock.advance(Span::from(hour / 2));
        caller(&office, &tokens[16]).await.unwrap();
        let written = async { while office.numbers(used).await == before {} };
        tokio::time::timeout(Duration::from_secs(60), written)
            .await
            .expect("that it was used is written down");
    }
    assert_eq!(refusal(caller(&office, &tokens[15]).await).0, Code::Unauthenticated);
    assert_eq!(list(&tokens[16]).await.unwrap().len(), 1);
    office.clock.advance(Span::from(hour));
    assert_eq!(refusal(caller(&office, &tokens[16]).await).0, Code::Unauthenticated);
}

async fn a_change_of_password_whose_answer_was_lost_is_answered_again(office: Office) {
    let anna = office.admin("anna").await;
    let wrong = (Code::Unauthenticated, "WRONG_PASSWORD".to_owned());
    let request_id = &unique();
    for _ in 0..4 {
        change_as(&office, &anna, request_id, PASSWORD, "another password").await.unwrap();
    }
    let entries = office.entries(&office.owner).await;
    let changes =
        entries.iter().filter(|entry| entry.actor == "anna" && entry.action == "account.change_password");
    assert_eq!(changes.count(), 2, "the first one that was chosen, and this one");
    let second = &unique();
    let (one, two) = tokio::join!(
        change_as(&office, &anna, second, "another password", "a third password"),
        change_as(&office, &anna, second, "another password", "a third password")
    );
    assert_eq!(
        (one.is_ok(), two.is_ok()),
        (true, true),
        "also while the first is still looked at: {one:?} {two:?}"
    );
    let reused = refusal(change_as(&office, &anna, second, PASSWORD, "a fourth password").await);
    assert_eq!(reused, (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()));
    assert_eq!(refusal(change(&office, &anna, PASSWORD, "a fourth password").await), wrong);
    let tried = refusal(change(&office, &anna, "garbage for the old one", "a third password").await);
    assert_eq!(tried, wrong, "which password it is now is not told");
    let once = reset(&office, &office.owner, "anna").await.unwrap();
    let anna = office.sign_in("anna", &once).await.unwrap();
    let form = (Code::InvalidArgument, "UNREADABLE".to_owned());
    assert_eq!(refusal(change(&office, &anna, PASSWORD, &once).await), form, "nobody chose that one");
    assert!(!office.everything().await.contains("a third password"));
}

async fn guesses_at_a_change_of_password_are_counted_however_many_come_at_once(office: Office) {
    let anna = office.admin("anna").await;
    let guesses = (0..12).map(|guess| {
        let (office, anna) = (&office, &anna);
        async move { refusal(change(office, anna, &format!("guess {guess}"), "another password").await).1 }
    });
    let answers = join_all(guesses).await;
    let wrong = answers.iter().filter(|answer| *answer == "WRONG_PASSWORD").count();
    assert!((1..=3 * office.replicas()).contains(&wrong), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| *answer == "TOO_SOON").count(), 12 - wrong, "{answers:?}");
    let other = office.sign_in("anna", PASSWORD).await.unwrap();
    change(&office, &other, PASSWORD, "another password").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_disabled_meanwhile_changes_no_password() {
    let office = Office::open(On::Postgres).await;
    let anna = office.admin("anna").await;
    let mut disabling = office.behind().await;
    disabling.execute("BEGIN; UPDATE accounts SET disabled = 1 WHERE name = 'anna'").await.unwrap();
    let (changed, ()) = tokio::join!(change(&office, &anna, PASSWORD, "another password"), async {
        office.until_one_waits().await;
        disabling.execute("COMMIT").await.unwrap();
    });
    assert_eq!(refusal(changed).0, Code::Unauthenticated);
    disable(&office, &office.owner, "anna", false).await.unwrap();
    office.sign_in("anna", PASSWORD).await.unwrap();
}

/// The call looked at its session before the account was shut out: a credential made after would outlive that.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_shut_out_meanwhile_makes_no_credential() {
    let office = Office::open(On::Postgres).await;
    let anna = office.admin("anna").await;
    let mut shutting_out = office.behind().await;
    shutting_out.execute("BEGIN; UPDATE accounts SET may_issue = 0 WHERE name = 'anna'").await.unwrap();
    let (made, ()) = tokio::join!(credential(&office, &anna, "script"), async {
        office.until_one_waits().await;
        let sql = "DELETE FROM sessions WHERE account_id = (SELECT account_id FROM accounts WHERE name = 'anna'); COMMIT";
        shutting_out.execute(sql).await.unwrap();
    });
    assert_eq!(refusal(made).0, Code::Unauthenticated);
}

/// Replicas that start at once on an empty database.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_owner_is_made_once() {
    let office = Office::open(On::Postgres).await;
    let mut starts = Vec::new();
    for _ in 0..2 {
        starts.push(office.beside().await);
    }
    for _ in 0..6 {
        // Not all at once: what is said of archives of the audit log is not deleted (semantics 7.40), nor with customers.
        office.execute("TRUNCATE accounts CASCADE").await.unwrap();
        office.execute("DELETE FROM customers").await.unwrap();
        let made = join_all(starts.iter().map(|backend| backend.first_owner(false))).await;
        let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
        assert_eq!(made.iter().flatten().count(), 1, "{made:?}");
        let password = made.into_iter().flatten().next().unwrap();
        office.sign_in("owner", &password).await.unwrap();
    }
}
