//! The audit log: who, what, when and what came of it (semantics 6.10).

use std::{collections::BTreeSet, time::Duration};

use esa_sidecar::{domain::Span, proto::licensing as api};
use prost_types::Timestamp;
use sqlx::Executor as _;
use tonic::Code;

use super::{
    office::{Office, On, PASSWORD, a_license, timestamp, unique, users},
    on_both_databases,
};

on_both_databases!(
    every_change_and_every_refused_attempt_leaves_its_entry,
    who_is_turned_away_leaves_an_entry_too,
    an_entry_is_never_edited_or_removed,
    the_log_is_read_both_ways_narrowed_and_a_page_at_a_time,
    only_owners_read_it_and_only_about_their_customer,
);

use api::AuditOutcome::{Done, Refused};

/// Entries made since it was asked last.
struct Log<'a> {
    office: &'a Office,
    seen: usize,
}

impl Log<'_> {
    async fn since(&mut self) -> Vec<api::AuditEntry> {
        let entries = self.office.entries(&self.office.owner).await;
        let new = entries[self.seen..].to_vec();
        self.seen = entries.len();
        new
    }

    /// Exactly these are new: actor, action, target, outcome and a word of the detail. A refused sign-in is written down
    /// after its answer.
    async fn says(&mut self, expected: &[(&str, &str, &str, api::AuditOutcome, &str)]) {
        let mut new = self.since().await;
        let waits = async {
            while new.len() < expected.len() {
                new.extend(self.since().await);
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waits).await.expect("an entry for each");
        let told: Vec<_> = new
            .iter()
            .map(|entry| {
                (entry.actor.as_str(), entry.action.as_str(), entry.target.as_str(), entry.outcome())
            })
            .collect();
        let wanted: Vec<_> = expected
            .iter()
            .map(|(actor, action, target, outcome, _)| (*actor, *action, *target, *outcome))
            .collect();
        assert_eq!(told, wanted);
        for (entry, (.., word)) in new.iter().zip(expected) {
            assert_eq!(entry.at, timestamp(self.office.now()), "{entry:?}");
            assert!(entry.detail.contains(word), "{entry:?} says nothing of `{word}`");
        }
    }
}

async fn every_change_and_every_refused_attempt_leaves_its_entry(office: Office) {
    let mut log = Log { office: &office, seen: 0 };
    log.says(&[
        ("backend", "account.create", "owner", Done, ""),
        ("owner", "account.sign_in", "owner", Done, ""),
        ("owner", "account.change_password", "owner", Done, ""),
    ])
    .await;
    office.clock.advance(Span::days(1));
    let (id, key) = office.license(a_license()).await;
    let by_key = format!("license key of {id}");
    log.says(&[("owner", "license.create", &id, Done, "100 seats")]).await;
    let anna = office.admin("anna").await;
    log.says(&[
        ("owner", "account.create", "anna", Done, "security_admin"),
        ("anna", "account.sign_in", "anna", Done, ""),
        ("anna", "account.change_password", "anna", Done, ""),
    ])
    .await;

    // What is refused changes nothing and says why.
    office.activate(&anna, &id, "device").await.unwrap_err();
    office.suspend("ZZZ-ZZZ-ZZZ", api::LicenseState::Canceled).await.unwrap_err();
    let request = api::ResumeLicenseRequest { request_id: unique(), license_id: id.clone() };
    office.licenses(&anna).resume_license(request).await.unwrap_err();
    log.says(&[
        ("anna", "unit.activate", &id, Refused, "no license"),
        ("owner", "license.cancel", "ZZZ-ZZZ-ZZZ", Refused, "no license"),
        ("anna", "license.resume", &id, Refused, "no license"),
    ])
    .await;
    office.delegate(&id, "anna", &anna).await;
    let request = api::ResumeLicenseRequest { request_id: unique(), license_id: id.clone() };
    assert_eq!(
        office.licenses(&anna).resume_license(request).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    log.says(&[
        ("owner", "license.delegate", &id, Done, "anna"),
        ("anna", "license.accept", &id, Done, ""),
        ("anna", "license.resume", &id, Refused, "may not issue"),
    ])
    .await;

    let own = office.activate(&anna, &id, "anna's device").await.unwrap();
    let keyed = office.activate("", &key, "by key").await.unwrap();
    log.says(&[
        ("anna", "unit.activate", &own.id, Done, "anna's device"),
        (&by_key, "unit.activate", &keyed.id, Done, &id),
    ])
    .await;
    office.deactivate(&anna, &[&own.id, &keyed.id, "nobody's", &own.id]).await;
    log.says(&[
        ("anna", "unit.deactivate", &own.id, Done, "anna's device"),
        ("anna", "unit.deactivate", &keyed.id, Refused, "license key"),
        ("anna", "unit.deactivate", "nobody's", Refused, ""),
    ])
    .await;
    office.clock.advance(Span::days(1));
    office.synced(&keyed, users("", 100, office.now())).await;
    log.says(&[]).await;
    office.synced(&own, None).await;
    log.says(&[(&format!("unit {}", own.id), "unit.deactivated", &own.id, Done, "")]).await;
    office.activate("", &key, "too many").await.unwrap_err();
    log.says(&[(&by_key, "unit.activate", &id, Refused, "too many")]).await;

    office.suspend(&id, api::LicenseState::Suspended).await.unwrap();
    office.suspend(&id, api::LicenseState::Canceled).await.unwrap();
    office.resume(&id).await.unwrap();
    office.renew(&id, office.now() + Span::days(900)).await.unwrap();
    office.update(&id, api::NewLicense { seats: 7, ..a_license() }, &["seats", "name"]).await.unwrap();
    office.suspend(&id, api::LicenseState::Deactivated).await.unwrap();
    office.resume(&id).await.unwrap_err();
    log.says(&[
        ("owner", "license.suspend", &id, Done, ""),
        ("owner", "license.cancel", &id, Done, ""),
        ("owner", "license.resume", &id, Done, ""),
        ("owner", "license.renew", &id, Done, "20"),
        ("owner", "license.update", &id, Done, "seats 7, name"),
        ("owner", "license.deactivate", &id, Done, ""),
        ("owner", "license.resume", &id, Refused, "for good"),
    ])
    .await;

    let tried = |word| ("anna", "account.sign_in", "anna", Refused, word);
    // Each replica looks at three before the next has to wait; which of them is asked depends on how often the log was.
    let mut wrong = 0;
    while office.sign_in("anna", "wrong").await.unwrap_err().code() == Code::Unauthenticated {
        wrong += 1;
        log.says(&[tried("wrong password")]).await;
    }
    assert!((3..=3 * office.replicas()).contains(&wrong), "{wrong} were looked at");
    log.says(&[]).await;
    let disable =
        |disabled| api::SetAccountDisabledRequest { request_id: unique(), name: "anna".to_owned(), disabled };
    office.clock.advance(Span::days(1));
    office.accounts(&office.owner).set_account_disabled(disable(true)).await.unwrap();
    log.says(&[("owner", "account.disable", "anna", Done, "")]).await;
    office.sign_in("anna", PASSWORD).await.unwrap_err();
    log.says(&[tried("disabled")]).await;
    office.accounts(&office.owner).set_account_disabled(disable(false)).await.unwrap();
    let token = office.sign_in("anna", PASSWORD).await.unwrap();
    office.accounts(&token).sign_out(api::SignOutRequest {}).await.unwrap();
    log.says(&[
        ("owner", "account.enable", "anna", Done, ""),
        ("anna", "account.sign_in", "anna", Done, ""),
        ("anna", "account.sign_out", "anna", Done, ""),
    ])
    .await;
    let rows = "SELECT COUNT(*) FROM audit
        WHERE detail LIKE '%wrong%' AND detail <> 'wrong password'";
    assert_eq!(office.numbers(rows).await, [0], "a password that was tried is not written down");
}

async fn who_is_turned_away_leaves_an_entry_too(office: Office) {
    let anna = office.admin("anna").await;
    let session = office.sign_in("anna", PASSWORD).await.unwrap();
    let request = api::CreateApiCredentialRequest {
        request_id: unique(),
        name: "script".to_owned(),
        ..Default::default()
    };
    let made = office.accounts(&anna).create_api_credential(request).await.unwrap().into_inner();
    let (script, credential_id) = (made.token, made.credential.unwrap().credential_id);
    let mut log = Log { office: &office, seen: 0 };
    log.since().await;

    let long = "x".repeat(70);
    // A name nobody has may be a password in the wrong field: the same is told from another, and none is kept.
    let mut shown = Vec::new();
    for name in ["my secret password", "MY secret password@default", &long, "\0\n"] {
        office.sign_in(name, "wrong").await.unwrap_err();
        let waits = async {
            loop {
                if let [entry] = log.since().await.as_slice() {
                    return entry.clone();
                }
            }
        };
        let entry = tokio::time::timeout(Duration::from_secs(60), waits).await.unwrap();
        assert_eq!((entry.actor.as_str(), entry.action.as_str()), ("nobody known", "account.sign_in"));
        assert_eq!((entry.outcome(), entry.detail.as_str()), (Refused, "no account has this name"));
        shown.push(entry.target);
    }
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown.iter().collect::<BTreeSet<_>>().len(), 3, "{shown:?}");
    office.sign_in(&"y".repeat(2_000), "wrong").await.unwrap_err();
    log.says(&[("nobody known", "account.sign_in", "a name that is not kept", Refused, "so long")]).await;
    office.activate("", "A-KEY-OF-NOBODY", "a device").await.unwrap_err();
    log.says(&[("nobody known", "unit.activate", "", Refused, "a device: the license key opens no license")])
        .await;
    let everything = office.everything().await;
    assert!(!everything.contains("secret password") && !everything.contains("SECRET PASSWORD"));

    office.accounts(&anna).list_accounts(api::ListAccountsRequest::default()).await.unwrap_err();
    office.audit(&anna).list_audit_entries(api::ListAuditEntriesRequest::default()).await.unwrap_err();
    let request = api::RevokeApiCredentialRequest { request_id: unique(), credential_id };
    office.accounts(&anna).revoke_api_credential(request.clone()).await.unwrap();
    office.accounts(&script).get_caller(api::GetCallerRequest {}).await.unwrap_err();
    let change = |old: &str, new: &str| api::ChangePasswordRequest {
        request_id: unique(),
        old_password: old.to_owned(),
        new_password: new.to_owned(),
    };
    office
        .accounts(&session)
        .change_password(change(&long.repeat(20), "another password"))
        .await
        .unwrap_err();
    for _ in 0..3 * office.replicas() + 1 {
        office.accounts(&session).change_password(change("wrong", "another password")).await.unwrap_err();
    }
    let refused = |action, target, word| ("anna", action, target, Refused, word);
    let wrong = refused("account.change_password", "anna", "wrong password");
    let mut expected = vec![
        refused("account.list", "", "only an owner"),
        refused("audit.list", "", "only an owner"),
        ("anna", "credential.revoke", &request.credential_id, Done, ""),
        refused("account.authenticate", "anna", &request.credential_id),
        refused("account.change_password", "anna", "so long"),
    ];
    expected.resize(expected.len() + 3 * office.replicas(), wrong);
    log.says(&expected).await;

    let request = api::ResetPasswordRequest { request_id: unique(), name: "anna".to_owned() };
    let once = office.accounts(&office.owner).reset_password(request).await.unwrap().into_inner();
    let anna = office.sign_in("anna", &once.one_time_password).await.unwrap();
    office.units(&anna).list_units(api::ListUnitsRequest::default()).await.unwrap_err();
    log.says(&[
        ("owner", "account.reset_password", "anna", Done, ""),
        ("anna", "account.sign_in", "anna", Done, ""),
        refused("account.authenticate", "anna", "has to be changed"),
    ])
    .await;
    assert!(
        !office.everything().await.contains("A-KEY-OF-NOBODY"),
        "what was tried may be a key all the same"
    );
}

/// Whoever has no more than a key to try fills no log with it.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_attempts_in_a_minute_a_few_are_written_down_and_the_rest_is_counted() {
    let office = Office::open(On::Sqlite).await;
    let minute = Span::from(Duration::from_mins(1));
    let mut log = Log { office: &office, seen: 0 };
    log.since().await;
    let attempts = async |count: usize| {
        for _ in 0..count {
            office.activate("", "A-KEY-OF-NOBODY", "a device").await.unwrap_err();
        }
    };
    let one = ("nobody known", "unit.activate", "", Refused, "a device");
    attempts(23).await;
    office.clock.advance(minute - Span::from_nanos(1));
    attempts(1).await;
    assert_eq!(log.since().await.len(), 20);
    office.clock.advance(Span::from_nanos(1));
    attempts(20).await;
    let rest = |word| ("backend", "unit.activate", "", Refused, word);
    let mut expected = vec![one; 21];
    expected[0] = rest("4 more attempts");
    log.says(&expected).await;
    office.clock.advance(minute);
    attempts(1).await;
    log.says(&[one]).await;
    attempts(21).await;
    log.says(&vec![one; 19]).await;
    office.stop();
    let rest = "SELECT COUNT(*) FROM audit WHERE actor = 'backend' AND detail LIKE '2 more attempts%'";
    let counted = async { while office.numbers(rest).await == [0] {} };
    tokio::time::timeout(Duration::from_secs(60), counted).await.expect("a stop leaves no count behind");
}

/// The client goes while its refusal is being written down.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_written_down_whether_or_not_the_client_waits_for_it() {
    let office = Office::open(On::Postgres).await;
    let anna = office.admin("anna").await;
    let mut holding = office.behind().await;
    holding.execute("BEGIN; LOCK TABLE audit IN EXCLUSIVE MODE").await.unwrap();
    let mut accounts = office.accounts(&anna);
    let call = tokio::spawn(async move { accounts.list_accounts(api::ListAccountsRequest::default()).await });
    office.until_one_waits().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // What comes after it on the same connection is answered: the backend knows by now.
    for _ in 0..50 {
        office.accounts(&anna).get_caller(api::GetCallerRequest {}).await.unwrap();
    }
    holding.execute("COMMIT").await.unwrap();
    let mut entries = office.entries(&office.owner).await;
    for _ in 0..1_000 {
        if entries.iter().any(|entry| entry.action == "account.list") {
            return;
        }
        entries = office.entries(&office.owner).await;
    }
    panic!("nothing was written down: {entries:?}");
}

async fn an_entry_is_never_edited_or_removed(office: Office) {
    office.license(a_license()).await;
    let before = office.entries(&office.owner).await;
    for sql in [
        "UPDATE audit SET detail = 'nothing happened'",
        "UPDATE audit SET done = 1 WHERE done = 0",
        "UPDATE audit SET actor = 'somebody else' WHERE actor = 'owner'",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE actor = 'owner'",
    ] {
        // A statement that would touch no row may pass on SQLite, whose triggers look at rows.
        let refused = office.execute(sql).await;
        assert!(refused.is_err() || sql.contains("done = 0"), "{sql}");
    }
    if let esa_sidecar::licensing::store::Database::Postgres(_) = office.database {
        office.execute("TRUNCATE audit").await.unwrap_err();
    }
    assert_eq!(office.entries(&office.owner).await, before);
}

async fn the_log_is_read_both_ways_narrowed_and_a_page_at_a_time(office: Office) {
    let (id, key) = office.license(a_license()).await;
    for number in 0..7 {
        office.clock.advance(Span::SECOND);
        let unit = office.activate("", &key, &format!("device {number}")).await.unwrap();
        office.deactivate(&office.owner, &[&unit.id]).await;
        office.resume(&id).await.unwrap();
    }
    let all = office.entries(&office.owner).await;
    assert_eq!(all.len(), 3 + 1 + 21);
    let ids: Vec<_> = all.iter().map(|entry| entry.entry_id.clone()).collect();
    assert!(ids.is_sorted(), "IDs grow with time");
    assert!(all.is_sorted_by_key(|entry| entry.at.map(|at| (at.seconds, at.nanos))));

    let walk = async |request: api::ListAuditEntriesRequest| {
        let (mut told, mut request) = (Vec::new(), api::ListAuditEntriesRequest { page_size: 4, ..request });
        loop {
            let page =
                office.audit(&office.owner).list_audit_entries(request.clone()).await.unwrap().into_inner();
            assert!(page.entries.len() <= 4);
            told.extend(page.entries);
            if page.next_page_token.is_empty() {
                return told;
            }
            request.page_token = page.next_page_token;
        }
    };
    let at = |entry: &api::AuditEntry| entry.at.unwrap();
    let (from, until) = (at(&all[10]), at(&all[20]));
    let before = |one: &Timestamp, other: &Timestamp| (one.seconds, one.nanos) < (other.seconds, other.nanos);
    let whole = api::ListAuditEntriesRequest::default;
    type Wanted<'a> = Box<dyn Fn(&api::AuditEntry) -> bool + 'a>;
    let rows: Vec<(api::ListAuditEntriesRequest, Wanted<'_>)> = vec![
        (whole(), Box::new(|_| true)),
        (
            api::ListAuditEntriesRequest { from: Some(from), ..whole() },
            Box::new(|entry| !before(&at(entry), &from)),
        ),
        (
            api::ListAuditEntriesRequest { until: Some(until), ..whole() },
            Box::new(|entry| before(&at(entry), &until)),
        ),
        (
            api::ListAuditEntriesRequest {
                from: Some(from),
                until: Some(until),
                action: "license.resume".to_owned(),
                ..whole()
            },
            Box::new(|entry| {
                !before(&at(entry), &from) && before(&at(entry), &until) && entry.action == "license.resume"
            }),
        ),
        (
            api::ListAuditEntriesRequest { actor: "owner".to_owned(), ..whole() },
            Box::new(|entry| entry.actor == "owner"),
        ),
        (
            api::ListAuditEntriesRequest { target: id.clone(), ..whole() },
            Box::new(|entry| entry.target == id),
        ),
        (api::ListAuditEntriesRequest { action: "unit.%".to_owned(), ..whole() }, Box::new(|_| false)),
    ];
    for (request, wanted) in rows {
        let mut expected: Vec<_> = all.iter().filter(|entry| wanted(entry)).cloned().collect();
        assert_eq!(walk(request.clone()).await, expected, "{request:?}");
        expected.reverse();
        let descending = api::ListAuditEntriesRequest { descending: true, ..request };
        assert_eq!(walk(descending.clone()).await, expected, "{descending:?}");
    }
    // What is added meanwhile comes at the end, and nothing is told twice.
    let mut request = api::ListAuditEntriesRequest { page_size: 5, ..whole() };
    let (mut told, mut pages) = (Vec::new(), 0);
    loop {
        let page =
            office.audit(&office.owner).list_audit_entries(request.clone()).await.unwrap().into_inner();
        told.extend(page.entries.into_iter().map(|entry| entry.entry_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
        pages += 1;
        if pages < 4 {
            office.resume(&id).await.unwrap();
        }
    }
    assert_eq!(told.len(), all.len() + 3);
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len());
    assert_eq!(told[..all.len()], ids);
    request.descending = true;
    let refused = office.audit(&office.owner).list_audit_entries(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "a token of another list");
    for page_size in [-1, 1_001, i32::MIN, i32::MAX] {
        let request = api::ListAuditEntriesRequest { page_size, ..whole() };
        let refused = office.audit(&office.owner).list_audit_entries(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{page_size}");
    }
}

async fn only_owners_read_it_and_only_about_their_customer(office: Office) {
    let (id, key) = office.license(a_license()).await;
    let acme = office.customer("acme", "acme.owner").await;
    let anna = office.admin("anna").await;
    let unit = office.activate("", &key, "one").await.unwrap();
    for (token, code) in [
        (anna.as_str(), Code::PermissionDenied),
        ("", Code::Unauthenticated),
        (&unit.token, Code::Unauthenticated),
    ] {
        let refused = office.audit(token).list_audit_entries(api::ListAuditEntriesRequest::default()).await;
        assert_eq!(refused.unwrap_err().code(), code);
    }
    let theirs = office.entries(&acme).await;
    let actions: Vec<_> = theirs.iter().map(|entry| (entry.actor.as_str(), entry.action.as_str())).collect();
    let expected = [
        ("owner@default", "account.create"),
        ("acme.owner", "account.sign_in"),
        ("acme.owner", "account.change_password"),
    ];
    assert_eq!(actions, expected, "what others do about a customer is in its log");
    office.deactivate(&acme, &[&unit.id]).await;
    let ours = office.entries(&office.owner).await;
    assert!(ours.iter().all(|entry| entry.actor != "acme.owner" && entry.target != "acme.owner"), "{ours:?}");
    assert!(ours.iter().any(|entry| entry.target == id));
}
