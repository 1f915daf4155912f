//! What a small call makes of rows and bytes is bounded, and what is kept can be read and archived.

use std::{collections::BTreeMap, time::Duration};

use esa_sidecar::{
    domain::{Instant, Span},
    licensing::store::Database,
    proto::licensing as api,
};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    office::{Office, On, a_license, reason, timestamp, unique},
    on_both_databases,
};

on_both_databases!(
    ids_that_name_no_unit_are_one_entry_and_many_of_them_are_refused,
    units_of_which_nothing_changes_are_written_down_in_part,
    a_target_that_cannot_be_seen_is_an_escape,
    refused_attempts_of_an_account_are_written_down_in_part_and_hide_no_others,
    an_entry_is_bounded_whatever_is_asked_and_what_was_not_can_be_paged_past,
    a_page_ends_by_its_bytes,
    an_archive_deletes_what_was_exported_and_nothing_else,
    the_entries_of_the_last_day_are_not_archived,
    a_page_looks_at_so_many_entries_and_the_next_goes_on_where_it_ended,
    an_entry_is_not_replaced_either,
);

async fn rows(office: &Office, table: &str) -> i64 {
    office.numbers(&format!("SELECT COUNT(*) FROM {table}")).await[0]
}

async fn deactivate(office: &Office, token: &str, ids: Vec<String>) -> Result<usize, Status> {
    let request = api::DeactivateUnitsRequest { request_id: unique(), unit_ids: ids };
    Ok(office.units(token).deactivate_units(request).await?.into_inner().results.len())
}

async fn ids_that_name_no_unit_are_one_entry_and_many_of_them_are_refused(office: Office) {
    let anna = office.admin("anna").await;
    let made_up = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    let (audit, requests) = (rows(&office, "audit").await, rows(&office, "requests").await);
    assert_eq!(deactivate(&office, &anna, made_up(100)).await.unwrap(), 100, "each has its answer");
    assert_eq!(rows(&office, "audit").await, audit + 1);
    let entry = office.entries(&office.owner).await.pop().unwrap();
    assert_eq!((entry.action.as_str(), entry.outcome()), ("unit.deactivate", api::AuditOutcome::Refused));
    assert!(entry.detail.starts_with("100 units the caller does not see: 0, 1, 2, "), "{entry:?}");
    // Each replica writes down twenty.
    for _ in 0..30 * office.replicas() {
        let refused = deactivate(&office, &anna, made_up(10_000)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("nothing was deactivated"), "{}", refused.message());
    }
    let most = 20 * i64::try_from(office.replicas()).unwrap();
    assert_eq!(rows(&office, "audit").await, audit + 1 + most);
    let refused = deactivate(&office, &anna, vec!["x".repeat(65)]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(rows(&office, "requests").await, requests + 1);
}

async fn units_of_which_nothing_changes_are_written_down_in_part(office: Office) {
    let (license, key) = office.license(a_license()).await;
    let anna = office.admin("anna").await;
    office.delegate(&license, "anna", &anna).await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(office.activate("", &key, &"wide".repeat(60)).await.unwrap().id);
    }
    let before = rows(&office, "audit").await;
    deactivate(&office, &anna, ids.clone()).await.unwrap();
    assert_eq!(rows(&office, "audit").await, before + 21, "refused");
    let last = office.entries(&office.owner).await.pop().unwrap();
    assert!(last.detail.starts_with("10 more units of this call"), "{last:?}");
    deactivate(&office, &office.owner, ids.clone()).await.unwrap();
    assert_eq!(rows(&office, "audit").await, before + 21 + 30, "each that changes has its own");
    deactivate(&office, &office.owner, ids).await.unwrap();
    assert_eq!(rows(&office, "audit").await, before + 21 + 30 + 21, "asked again");
    let kept = "SELECT CAST(MAX(LENGTH(response)) AS BIGINT) FROM requests WHERE request_id = (
        SELECT MAX(request_id) FROM requests)";
    assert!(office.numbers(kept).await[0] < 30 * 12, "what is kept of an answer is short");
}

async fn a_target_that_cannot_be_seen_is_an_escape(office: Office) {
    deactivate(&office, &office.owner, vec!["a\u{202e}b\u{2028}c\u{200b}".to_owned()]).await.unwrap();
    let entry = office.entries(&office.owner).await.pop().unwrap();
    assert_eq!(
        (entry.action.as_str(), entry.target.as_str()),
        ("unit.deactivate", "a\\u{202e}b\\u{2028}c\\u{200b}")
    );
}

async fn refused_attempts_of_an_account_are_written_down_in_part_and_hide_no_others(office: Office) {
    let anna = office.admin("anna").await;
    let ben = office.admin("ben").await;
    let before = rows(&office, "audit").await;
    let list = async |token: &str| {
        office.accounts(token).list_accounts(api::ListAccountsRequest::default()).await.unwrap_err();
    };
    for _ in 0..40 {
        // Each replica writes down twenty.
        for _ in 0..office.replicas() {
            list(&anna).await;
        }
    }
    let most = 20 * i64::try_from(office.replicas()).unwrap();
    assert_eq!(rows(&office, "audit").await, before + most);
    list(&ben).await;
    let entry = office.entries(&office.owner).await.pop().unwrap();
    assert_eq!((entry.actor.as_str(), entry.action.as_str()), ("ben", "account.list"));
    office.clock.advance(Span::from(Duration::from_mins(1)));
    for _ in 0..office.replicas() {
        list(&ben).await;
    }
    let entries = office.entries(&office.owner).await;
    let counted = entries.iter().filter(|entry| entry.detail.starts_with("20 more attempts by anna within"));
    assert_eq!(counted.count(), office.replicas());
}

async fn an_entry_is_bounded_whatever_is_asked_and_what_was_not_can_be_paged_past(office: Office) {
    let (id, _) = office.license(a_license()).await;
    let paths = vec!["seats"; 100_000];
    let told = office.update(&id, api::NewLicense { seats: 7, ..a_license() }, &paths).await.unwrap();
    assert_eq!(told.seats, 7);
    let entry = office.entries(&office.owner).await.pop().unwrap();
    assert_eq!(entry.detail, "seats 7");
    let device = "€".repeat(255);
    let (_, key) = office.license(api::NewLicense { product: "€".repeat(255), ..a_license() }).await;
    office.activate("", &key, &device).await.unwrap();
    let longest = "SELECT CAST(MAX(LENGTH(CAST(detail AS BYTEA))) AS BIGINT) FROM audit";
    let longest = match office.database {
        Database::Sqlite(_) => longest.replace("BYTEA", "BLOB"),
        Database::Postgres(_) => longest.replace("CAST(detail AS BYTEA)", "CONVERT_TO(detail, 'UTF8')"),
    };
    assert!((700..=1_024).contains(&office.numbers(&longest).await[0]));

    // As entries were once.
    let wide = format!(
        "INSERT INTO audit (entry_id, customer_id, at, actor, action, target, done, detail)
         SELECT '0' || entry_id, customer_id, at, actor, action, target, done, '{}' FROM audit",
        "x".repeat(1 << 20)
    );
    office.execute(&wide).await.unwrap();
    let entries = office.entries(&office.owner).await;
    assert_eq!(i64::try_from(entries.len()).unwrap(), rows(&office, "audit").await);
    assert!(entries.iter().all(|entry| entry.detail.len() <= 1_024));
}

async fn a_page_ends_by_its_bytes(office: Office) {
    let attributes: BTreeMap<_, _> =
        (0..32).map(|number| (format!("attribute {number}"), "€".repeat(255))).collect();
    let new = api::NewLicense { attributes, ..a_license() };
    for _ in 0..2 {
        let request = api::ImportLicensesRequest { request_id: unique(), licenses: vec![new.clone(); 60] };
        office.licenses(&office.owner).import_licenses(request).await.unwrap();
    }
    let mut request = api::ListLicensesRequest { page_size: 1_000, ..Default::default() };
    let (mut told, mut pages) = (Vec::new(), 0);
    loop {
        let page = office.licenses(&office.owner).list_licenses(request.clone()).await.unwrap().into_inner();
        assert!(page.encoded_len() < 1_100_000, "{} bytes", page.encoded_len());
        told.extend(page.licenses.into_iter().map(|license| license.license_id));
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert!(3 <= pages, "{pages} pages");
    assert_eq!(told.len(), 120);
    assert!(told.is_sorted());
    told.dedup();
    assert_eq!(told.len(), 120, "none is told twice");
}

fn is_archive(entry: &api::AuditEntry) -> bool {
    entry.action == "audit.archive" && entry.outcome() == api::AuditOutcome::Done
}

async fn archive(
    office: &Office,
    token: &str,
    exported: &[api::AuditEntry],
    more: u32,
) -> Result<(), Status> {
    let stay = exported.iter().filter(|entry| is_archive(entry)).count();
    let request = api::ArchiveAuditEntriesRequest {
        request_id: unique(),
        before: timestamp(office.now() - Span::days(1)),
        last_entry_id: exported.last().unwrap().entry_id.to_uppercase(),
        entries: u32::try_from(exported.len() - stay).unwrap() + more,
    };
    office.audit(token).archive_audit_entries(request).await.map(drop)
}

async fn an_archive_deletes_what_was_exported_and_nothing_else(office: Office) {
    let acme = office.customer("acme", "acme.owner").await;
    let anna = office.admin("anna").await;
    let request = api::CreateApiCredentialRequest {
        request_id: unique(),
        name: "script".to_owned(),
        ..Default::default()
    };
    let script = office.accounts(&office.owner).create_api_credential(request).await.unwrap().into_inner();
    office.clock.advance(Span::days(1) + Span::SECOND);
    let exported = office.entries(&office.owner).await;
    let theirs = office.entries(&acme).await;
    office.license(a_license()).await;

    for (token, more, code) in [
        (anna.as_str(), 0, Code::PermissionDenied),
        (&script.token, 0, Code::PermissionDenied),
        (&acme, 0, Code::FailedPrecondition),
        (&office.owner, 1, Code::FailedPrecondition),
    ] {
        let refused = archive(&office, token, &exported, more).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        let told = format!("there are {}", exported.len());
        assert!(!refused.message().contains(&told), "{refused:?}");
    }
    let refused = archive(&office, &office.owner, &exported[1..], 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "one of them was not exported");
    let before = office.entries(&office.owner).await;
    archive(&office, &office.owner, &exported, 0).await.unwrap();
    let after = office.entries(&office.owner).await;
    assert_eq!(after[..after.len() - 1], before[exported.len()..], "what is newer stays");
    let archived = after.last().unwrap();
    assert_eq!((archived.actor.as_str(), archived.action.as_str()), ("owner", "audit.archive"));
    assert!(archived.detail.starts_with(&format!("{} entries from before", exported.len())), "{archived:?}");
    let theirs_now = office.entries(&acme).await;
    assert_eq!(theirs_now[..theirs.len()], theirs);

    // Nothing is open after it, and what is said of archives is not archived.
    office.execute("DELETE FROM audit").await.unwrap_err();
    office.execute("DELETE FROM audit_archives").await.unwrap_err();
    office.execute("UPDATE audit_archives SET is_open = 1").await.unwrap_err();
    office.execute("UPDATE audit_archives SET entries = 1").await.unwrap_err();
    office.clock.advance(Span::days(1) + Span::SECOND);
    let exported = office.entries(&office.owner).await;
    archive(&office, &office.owner, &exported, 0).await.unwrap();
    let after = office.entries(&office.owner).await;
    assert_eq!(after.iter().map(|entry| entry.action.as_str()).collect::<Vec<_>>(), ["audit.archive"; 2]);
    assert_eq!(&after[0], exported.iter().find(|entry| is_archive(entry)).unwrap());
    let open = "INSERT INTO audit_archives SELECT 'x', customer_id, 9223372036854775807, 'z', 1, 1 FROM customers WHERE name = 'default'";
    office.execute(open).await.unwrap();
    office.execute("DELETE FROM audit").await.unwrap_err();
}

/// Whoever got into an owner's session would take away at once what tells of it.
async fn the_entries_of_the_last_day_are_not_archived(office: Office) {
    let exported = office.entries(&office.owner).await;
    let archived = async |before| {
        let request = api::ArchiveAuditEntriesRequest {
            request_id: unique(),
            before: timestamp(before),
            last_entry_id: exported.last().unwrap().entry_id.clone(),
            entries: u32::try_from(exported.len()).unwrap(),
        };
        office.audit(&office.owner).archive_audit_entries(request).await.map(drop)
    };
    let instant = Span::from_nanos(1);
    let after_all = office.now() + instant;
    office.clock.advance(Span::days(1));
    for before in [after_all, office.now(), office.now() + instant] {
        let refused = archived(before).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains("stay in the log for a day"), "{refused:?}");
    }
    assert_eq!(office.entries(&office.owner).await, exported);
    office.clock.advance(instant);
    archived(after_all).await.unwrap();
}

async fn an_entry_is_not_replaced_either(office: Office) {
    office.license(a_license()).await;
    let before = office.entries(&office.owner).await;
    let statements: &[&str] = match office.database {
        Database::Sqlite(_) => &[
            "INSERT OR REPLACE INTO audit (entry_id, customer_id, at, actor, action, target, done, detail)
             SELECT entry_id, customer_id, at, 'x', action, target, done, 'x' FROM audit",
            "REPLACE INTO audit (rowid, entry_id, customer_id, at, actor, action, target, done, detail)
             SELECT rowid, 'new ' || entry_id, customer_id, at, 'x', action, target, done, 'x' FROM audit",
            "UPDATE OR REPLACE audit SET entry_id = (SELECT MIN(entry_id) FROM audit)",
        ],
        Database::Postgres(_) => &[
            "INSERT INTO audit (entry_id, customer_id, at, actor, action, target, done, detail)
             SELECT entry_id, customer_id, at, 'x', action, target, done, 'x' FROM audit
             ON CONFLICT (entry_id) DO UPDATE SET actor = 'x'",
            "TRUNCATE audit CASCADE",
        ],
    };
    for sql in statements {
        office.execute(sql).await.unwrap_err();
    }
    assert_eq!(office.entries(&office.owner).await, before);
}

/// What one customer has waiting keeps another one's change no longer than a change takes.
#[tokio::test(flavor = "multi_thread")]
async fn many_changes_of_one_account_do_not_hold_up_another_customer() {
    let office = Office::open(On::Sqlite).await;
    let (mine, _) = office.license(a_license()).await;
    let acme = office.customer("acme", "acme.owner").await;
    let (theirs, _) = office.license(api::NewLicense { customer: "acme".to_owned(), ..a_license() }).await;
    let resumed = "SELECT COUNT(*) FROM audit WHERE action = 'license.resume'";
    let many = async {
        let calls = (0..150).map(|_| office.resume(&mine));
        futures_util::future::join_all(calls).await
    };
    let one = async {
        while office.numbers(resumed).await == [0] {}
        office.activate(&acme, &theirs, "theirs").await.unwrap();
        office.numbers(resumed).await[0]
    };
    let (many, before_it) = tokio::join!(many, one);
    assert!(many.iter().all(Result::is_ok));
    assert!(before_it < 100, "{before_it} of 150 changes came first");
}

/// Large requests count for more.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_changes_only_so_much_at_once() {
    let office = Office::open(On::Sqlite).await;
    let (id, _) = office.license(a_license()).await;
    let mut refused = None;
    for _ in 0..8 {
        let paths = vec!["seats"; 500_000];
        match office.update(&id, a_license(), &paths).await {
            Ok(_) => {}
            Err(status) => refused = refused.or(Some(status)),
        }
    }
    let refused = refused.expect("an account changes only so much at once");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_FAST"));
    assert!(refused.get_details_retry_info().and_then(|info| info.retry_delay).is_some(), "{refused:?}");
}

/// Entries that one page looks at (semantics 7.38).
const LOOKED_AT: usize = 10_000;

async fn a_page_looks_at_so_many_entries_and_the_next_goes_on_where_it_ended(office: Office) {
    let second = 1_000_000_000_i128;
    let before = office.entries(&office.owner).await;
    // Every 6,000th is an update by anna, every other one a creation by ben, a second later each.
    let many = "WITH RECURSIVE numbers (i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM numbers WHERE i < 21000)
        INSERT INTO audit (entry_id, customer_id, at, actor, actor_kind, action, target, done, detail)
        SELECT '0' || CAST(1000000 + i AS TEXT), c.customer_id, i * 1000000000,
            CASE WHEN i % 6000 = 0 THEN 'anna' ELSE 'ben' END, CASE WHEN i % 6000 = 0 THEN 4 ELSE 3 END,
            CASE WHEN i % 6000 = 0 THEN 'license.update' ELSE 'license.create' END, 'target', 1, ''
        FROM numbers CROSS JOIN customers c WHERE c.name = 'default'";
    office.execute(many).await.unwrap();
    let id = |number: usize| format!("0{}", 1_000_000 + number);
    let whole = api::ListAuditEntriesRequest::default;
    let kinds = || vec![api::ActorKind::LicenseKey.into()];
    let (anna, update, target) =
        (|| "anna".to_owned(), || "license.update".to_owned(), || "target".to_owned());
    let at = |number: i128| timestamp(Instant::from_unix_nanos(number * second));
    for (request, wanted, pages) in [
        // What an index finds is all that is looked at.
        (api::ListAuditEntriesRequest { actor: anna(), ..whole() }, vec![6_000, 12_000, 18_000], 2),
        (api::ListAuditEntriesRequest { action: update(), ..whole() }, vec![6_000, 12_000, 18_000], 2),
        (
            api::ListAuditEntriesRequest { actor: anna(), action: update(), ..whole() },
            vec![6_000, 12_000, 18_000],
            2,
        ),
        // Of the rest a page looks at so many.
        (api::ListAuditEntriesRequest { actor_kinds: kinds(), ..whole() }, vec![6_000, 12_000, 18_000], 3),
        (
            api::ListAuditEntriesRequest { target: target(), actor: anna(), ..whole() },
            vec![6_000, 12_000, 18_000],
            3,
        ),
        (
            api::ListAuditEntriesRequest { from: at(9_999), until: at(10_002), ..whole() },
            vec![9_999, 10_000, 10_001],
            3,
        ),
        (api::ListAuditEntriesRequest { actor: "ben".to_owned(), action: update(), ..whole() }, vec![], 3),
    ] {
        for descending in [false, true] {
            let mut request = api::ListAuditEntriesRequest { descending, page_size: 2, ..request.clone() };
            let (mut told, mut asked) = (Vec::new(), 0);
            loop {
                let page = office.audit(&office.owner).list_audit_entries(request.clone()).await.unwrap();
                let page = page.into_inner();
                asked += 1;
                told.extend(page.entries.into_iter().map(|entry| entry.entry_id));
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            let mut expected: Vec<_> = wanted.iter().map(|number| id(*number)).collect();
            if descending {
                expected.reverse();
            }
            assert_eq!(told, expected, "{request:?}");
            assert_eq!(asked, pages, "{request:?}");
        }
    }
    let all = office.entries(&office.owner).await;
    assert_eq!(all.len(), 21_000 + before.len());
    assert!(2 * LOOKED_AT < all.len());
}
