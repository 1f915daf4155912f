//! A license key in the hands of somebody else: what it does, and what an owner does about it (semantics 7.54).

use esa_sidecar::{
    domain::{Facts, Span, facts::SmsCredits},
    proto::licensing as api,
};
use tonic::{Code, Status};

use super::{
    office::{Activated, Office, a_license, unique, users},
    on_both_databases,
};

on_both_databases!(
    a_stranger_with_a_key_puts_no_server_of_its_customer_into_violation_for_a_day,
    a_stranger_with_a_key_hides_no_users_and_takes_no_credits_for_a_day,
    units_that_hurt_nobody_count_at_once,
    that_a_report_goes_beyond_the_seats_is_in_the_audit_log_once_a_day,
    an_owner_who_signed_in_rotates_the_keys_of_its_licenses_and_nobody_else_does,
);

const DAY: Span = Span::days(1);

fn fifty_seats() -> api::NewLicense {
    api::NewLicense { seats: 50, sms_credits: Some(1_000), ..a_license() }
}

/// A server that has been there for a day, with 40 users in the installation `main`; and the key of its license.
async fn established(office: &Office) -> (Activated, String) {
    let (_, key) = office.license(fifty_seats()).await;
    let server = office.activate("", &key, "server").await.unwrap();
    office.clock.advance(DAY);
    report(office, &server, "main", 40).await;
    (server, key)
}

/// What a unit is told of that it reports.
async fn report(office: &Office, unit: &Activated, installation: &str, count: u64) -> Vec<api::RefusedUsage> {
    office.clock.advance(Span::SECOND);
    sync(office, unit, users(installation, count, office.now())).await
}

async fn sync(office: &Office, unit: &Activated, usage: Option<api::Usage>) -> Vec<api::RefusedUsage> {
    let request = api::SyncRequest {
        unit: Some(api::SyncingUnit { unit_id: unit.id.clone(), ..Default::default() }),
        usage,
        nonce: unique().into_bytes(),
        ..Default::default()
    };
    office.sync(&unit.token).sync(request).await.unwrap().into_inner().refused
}

async fn facts(office: &Office, unit: &Activated) -> Facts {
    office.synced(unit, None).await.facts
}

async fn active(office: &Office, unit: &Activated) -> u64 {
    facts(office, unit).await.users.active.0
}

async fn entries(office: &Office, action: &str) -> Vec<String> {
    let entries = office.entries(&office.owner).await.into_iter();
    entries.filter(|entry| entry.action == action).map(|entry| entry.detail).collect()
}

fn is_deferred(refused: &[api::RefusedUsage]) -> bool {
    matches!(refused, [one] if one.field == "usage.counts" && one.retry_after.is_some())
}

async fn a_stranger_with_a_key_puts_no_server_of_its_customer_into_violation_for_a_day(office: Office) {
    let (server, key) = established(&office).await;
    let stranger = office.activate("", &key, "printer").await.unwrap();
    for count in [1_000_000_000_000, 11, 1_000_000_000_000] {
        let refused = report(&office, &stranger, "", count).await;
        assert!(is_deferred(&refused), "{refused:?}");
        assert_eq!(active(&office, &server).await, 40);
    }
    let told = entries(&office, "unit.usage_deferred").await;
    assert_eq!(told.len(), 1, "one a day");
    assert!(
        told[0].starts_with("printer, activated with the license key, reports 1000000000000"),
        "{told:?}"
    );
    assert_eq!(report(&office, &stranger, "", 10).await, [], "what hurts nobody counts");
    assert_eq!(active(&office, &server).await, 50);
    let refused = report(&office, &stranger, "", 11).await;
    assert!(is_deferred(&refused), "{refused:?}");
    assert_eq!(active(&office, &server).await, 50, "what it reported before stands");
    // In all other respects it is a unit: a day later nothing tells it from a real one.
    office.clock.advance(DAY);
    assert_eq!(report(&office, &stranger, "", 12).await, []);
    assert_eq!(active(&office, &server).await, 52);
}

async fn a_stranger_with_a_key_hides_no_users_and_takes_no_credits_for_a_day(office: Office) {
    let (server, key) = established(&office).await;
    let stranger = office.activate("", &key, "printer").await.unwrap();
    let refused = report(&office, &stranger, "main", 0).await;
    assert!(is_deferred(&refused), "{refused:?}");
    let sms = (0..11).map(|number| api::SmsSent { id: number.to_string(), credits: 100 });
    let sends = || Some(api::Usage { sms_sent: sms.clone().collect(), ..Default::default() });
    let refused = sync(&office, &stranger, sends()).await;
    assert!(matches!(&refused[..], [all] if all.sms_count == 11 && all.retry_after.is_some()), "{refused:?}");
    let told = facts(&office, &server).await;
    assert_eq!((told.users.active.0, told.sms_credits), (40, Some(SmsCredits(1_000))));
    assert_eq!(office.numbers("SELECT COUNT(*) FROM sms_sent").await, [0], "nothing is kept of them");
    // The server itself goes on.
    let own = api::Usage { sms_sent: sms.clone().take(1).collect(), ..Default::default() };
    assert_eq!(sync(&office, &server, Some(own)).await, []);
    assert_eq!(report(&office, &server, "main", 41).await, []);
    let told = facts(&office, &server).await;
    assert_eq!((told.users.active.0, told.sms_credits), (41, Some(SmsCredits(900))));
    office.clock.advance(DAY);
    assert_eq!(sync(&office, &stranger, sends()).await, [], "deferred, and not lost");
    assert_eq!(facts(&office, &server).await.sms_credits, Some(SmsCredits(0)));
}

async fn units_that_hurt_nobody_count_at_once(office: Office) {
    // Where no server is known, the first ones are the customer's own as far as anybody can tell.
    let (license, key) = office.license(fifty_seats()).await;
    let one = office.activate("", &key, "one").await.unwrap();
    let two = office.activate("", &key, "two").await.unwrap();
    assert_eq!(report(&office, &one, "", 30).await, []);
    assert_eq!(report(&office, &two, "", 19).await, []);
    assert_eq!(active(&office, &one).await, 49);
    // Of whom an account vouches for, nothing is deferred.
    office.clock.advance(DAY);
    let three = office.activate(&office.owner, &license, "three").await.unwrap();
    assert_eq!(report(&office, &three, "", 30).await, []);
    assert_eq!(active(&office, &one).await, 79);
    let unit = office.all_units(&office.owner).await.into_iter().find(|unit| unit.unit_id == two.id);
    assert_eq!(unit.unwrap().active_users, Some(19));
    // Units that have grown old beside it are its equals.
    assert_eq!(report(&office, &two, "", 29).await, []);
    assert_eq!(active(&office, &one).await, 89);
    assert_eq!(entries(&office, "unit.usage_deferred").await, [""; 0]);
}

async fn that_a_report_goes_beyond_the_seats_is_in_the_audit_log_once_a_day(office: Office) {
    let (server, _) = established(&office).await;
    for _ in 0..3 {
        report(&office, &server, "main", 60).await;
        report(&office, &server, "main", 40).await;
    }
    let told = ["server reported: 60 active users of 50 seats"];
    assert_eq!(entries(&office, "unit.exceeded_seats").await, told);
    office.clock.advance(DAY);
    report(&office, &server, "main", 60).await;
    assert_eq!(entries(&office, "unit.exceeded_seats").await.len(), 2);
}

async fn an_owner_who_signed_in_rotates_the_keys_of_its_licenses_and_nobody_else_does(office: Office) {
    let acme = office.customer("acme", "alice").await;
    let beta = office.customer("beta", "bea").await;
    let admin = office.account(&acme, "adam", api::AccountRole::SecurityAdmin, "").await;
    let (license, key) =
        office.license(api::NewLicense { customer: "acme".to_owned(), ..fifty_seats() }).await;
    let request = api::CreateApiCredentialRequest {
        request_id: unique(),
        name: "script".to_owned(),
        ..Default::default()
    };
    let script = office.accounts(&acme).create_api_credential(request).await.unwrap().into_inner().token;
    let rotate = async |token: &str| {
        let request = api::RotateLicenseKeyRequest { request_id: unique(), license_id: license.clone() };
        Ok::<_, Status>(office.licenses(token).rotate_license_key(request).await?.into_inner().license_key)
    };
    let delegate = api::DelegateLicenseRequest {
        request_id: unique(),
        license_id: license.clone(),
        account: "adam".to_owned(),
    };
    office.licenses(&acme).delegate_license(delegate).await.unwrap();
    for (token, code) in
        [(&script, Code::PermissionDenied), (&admin, Code::PermissionDenied), (&beta, Code::NotFound)]
    {
        let refused = rotate(token).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    let stranger = office.activate("", &key, "printer").await.unwrap();
    let new = rotate(&acme).await.unwrap();
    assert_eq!(office.activate("", &key, "another").await.unwrap_err().code(), Code::Unauthenticated);
    office.activate("", &new, "server").await.unwrap();
    assert_eq!(office.deactivate(&acme, &[&stranger.id]).await[0].refusal, 0);
    let entries = office.entries(&acme).await;
    let of_key: Vec<_> = entries.iter().filter(|entry| entry.action == "license.rotate_key").collect();
    let told: Vec<_> = of_key.iter().map(|entry| (entry.actor.as_str(), entry.outcome())).collect();
    use api::AuditOutcome::{Done, Refused};
    assert_eq!(told, [("alice", Refused), ("adam", Refused), ("alice", Done)]);
    // Of one account nothing but what it came with tells its programs apart.
    let came_with: Vec<_> = of_key.iter().map(|entry| entry.actor_credential.as_str()).collect();
    assert!(script.starts_with(&format!("esac_{}_", came_with[0])), "{came_with:?}");
    let sessions = office.accounts(&acme).list_sessions(api::ListSessionsRequest {}).await.unwrap();
    assert_eq!(sessions.into_inner().sessions[0].session_id, came_with[2]);
}
