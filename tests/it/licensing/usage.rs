//! Usage: what installations count, the overuse clock, and SMS (semantics 2.9, 6.8, 6.9).

use esa_sidecar::{
    domain::{Activation, Facts, Instant, Span, facts::SmsCredits},
    proto::licensing as api,
};
use futures_util::future::join_all;
use tonic::Code;

use super::{
    office::{Activated, Office, On, a_license, reason, timestamp, unique, users},
    on_both_databases,
};
use crate::sidecar::START;

on_both_databases!(
    the_newest_report_of_an_installation_counts_and_an_older_one_changes_nothing,
    a_unit_that_moves_takes_its_report_along,
    what_a_deactivated_unit_reports_does_not_count,
    a_clock_that_is_ahead_keeps_no_later_report_out,
    a_backend_s_clock_that_was_ahead_keeps_no_later_report_out,
    what_was_not_counted_stays_as_it_was,
    an_overuse_begins_at_the_very_instant_a_license_ends_though_nobody_looked,
    an_sms_counts_once_and_the_pool_never_goes_below_zero,
    sms_are_taken_from_licenses_that_count_and_from_no_other,
    what_does_not_read_of_a_sync_is_named_and_everything_else_counts,
    sms_of_a_deactivated_unit_count_until_it_hears_of_it_and_for_a_day_at_most,
    sums_of_sms_are_in_the_audit_log_once_an_hour,
);

fn hours(hours: i128) -> Span {
    Span::from_nanos(hours * 3_600 * Span::SECOND.nanos())
}

async fn active(office: &Office, unit: &Activated, usage: Option<api::Usage>) -> u64 {
    office.synced(unit, usage).await.facts.users.active.0
}

async fn three_units(office: &Office) -> [Activated; 3] {
    let (_, key) = office.license(a_license()).await;
    let activate = async |device| office.activate("", &key, device).await.unwrap();
    [activate("one").await, activate("two").await, activate("three").await]
}

async fn the_newest_report_of_an_installation_counts_and_an_older_one_changes_nothing(office: Office) {
    let [one, two, three] = three_units(&office).await;
    let at = |hour| START - hours(10) + hours(hour);
    for (unit, installation, hour, count, expected) in [
        (&one, "hq", 1, 10, 10),
        (&two, "hq", 3, 30, 30),
        (&one, "hq", 2, 20, 30),
        (&one, "hq", 2, 20, 30),
        (&three, "branch", 0, 5, 35),
        (&two, "hq", 2, 99, 35),
        (&one, "hq", 4, 7, 12),
        (&two, "hq", 3, 30, 12),
        (&three, "", 1, 3, 10),
        (&three, "", 0, 90, 10),
    ] {
        let told = active(&office, unit, users(installation, count, at(hour))).await;
        assert_eq!(told, expected, "{count} users of `{installation}` counted at hour {hour}");
    }
    let sequence = office.synced(&one, None).await.sequence;
    let again = office.synced(&one, users("hq", 7, at(4))).await;
    assert_eq!(again.sequence, sequence, "nothing has changed");
}

async fn a_unit_that_moves_takes_its_report_along(office: Office) {
    let [one, two, three] = three_units(&office).await;
    let now = || office.now();
    assert_eq!(active(&office, &two, users("old", 5, now() - hours(1))).await, 5);
    assert_eq!(active(&office, &one, users("old", 40, now())).await, 40);
    assert_eq!(active(&office, &three, users("new", 8, now())).await, 48);
    office.clock.advance(hours(1));
    assert_eq!(
        active(&office, &one, users("new", 41, now())).await,
        5 + 41,
        "two stands for the old one again"
    );
    office.clock.advance(hours(1));
    assert_eq!(active(&office, &two, users("new", 42, now())).await, 42, "nobody is left in the old one");
    office.deactivate(&office.owner, &[&two.id]).await;
    assert_eq!(active(&office, &one, None).await, 41, "the next newest of the new one");
}

async fn what_a_deactivated_unit_reports_does_not_count(office: Office) {
    let [one, two, _] = three_units(&office).await;
    office.synced(&one, users("hq", 10, office.now())).await;
    office.clock.advance(hours(1));
    office.synced(&two, users("hq", 90, office.now())).await;
    office.deactivate(&office.owner, &[&two.id]).await;
    assert_eq!(active(&office, &one, None).await, 10);
    for _ in 0..2 {
        office.clock.advance(hours(1));
        let told = office.synced(&two, users("hq", 95, office.now())).await.facts;
        assert!(matches!(told.activation, Activation::Deactivated { .. }));
        assert_eq!((told.users.active.0, told.users.licensed.0), (0, 0), "no other fact is told");
        assert_eq!(active(&office, &one, None).await, 10);
    }
    office.deactivate(&office.owner, &[&one.id]).await;
    let told = office.synced(&one, users("hq", 11, office.now())).await.facts;
    assert_eq!(told.users.active.0, 0, "no unit of it is active");
}

async fn a_clock_that_is_ahead_keeps_no_later_report_out(office: Office) {
    let [one, two, _] = three_units(&office).await;
    let ahead = office.now() + Span::days(300);
    assert_eq!(active(&office, &one, users("hq", 10, ahead)).await, 10);
    office.clock.advance(hours(1));
    assert_eq!(active(&office, &two, users("hq", 20, office.now())).await, 20, "counted later");
    office.clock.advance(Span::SECOND);
    assert_eq!(active(&office, &one, users("hq", 11, office.now() + hours(9))).await, 11);
    office.clock.advance(Span::SECOND);
    assert_eq!(active(&office, &one, users("hq", 12, office.now())).await, 12, "its clock was put right");
    let beyond = Some(prost_types::Timestamp { seconds: 250_000_000_000, nanos: 0 });
    let counts = api::Counts { active_users: Some(13), counted_at: beyond, ..Default::default() };
    let usage = api::Usage { installation: "hq".to_owned(), counts: Some(counts), ..Default::default() };
    office.clock.advance(Span::SECOND);
    assert_eq!(active(&office, &one, Some(usage)).await, 13, "the year 9892");
    office.clock.advance(Span::SECOND);
    assert_eq!(active(&office, &one, users("hq", 14, office.now())).await, 14);
}

/// Its clock was set right, or the next report came to a replica whose clock is slower.
async fn a_backend_s_clock_that_was_ahead_keeps_no_later_report_out(office: Office) {
    let [one, two, three] = three_units(&office).await;
    let now = office.now();
    office.clock.advance(hours(24));
    assert_eq!(active(&office, &one, users("hq", 10, office.now())).await, 10);
    office.clock.advance(Span::SECOND);
    assert_eq!(active(&office, &two, users("hq", 20, office.now())).await, 20);
    assert_eq!(active(&office, &three, users("branch", 100, office.now())).await, 120);
    office.clock.set(now);
    assert_eq!(active(&office, &three, users("branch", 101, now)).await, 121, "its own newest");
    assert_eq!(
        active(&office, &three, users("branch", 102, now - hours(1))).await,
        121,
        "it was dated to now"
    );
    office.clock.advance(Span::SECOND);
    assert_eq!(active(&office, &one, users("", 11, office.now())).await, 112, "newer than the other unit's");
    assert_eq!(active(&office, &two, users("hq", 21, now)).await, 112, "and an older one is older again");
    let later = format!("SELECT COUNT(*) FROM units WHERE {} < counted_at", office.now().unix_nanos());
    assert_eq!(office.numbers(&later).await, [0]);
}

async fn what_was_not_counted_stays_as_it_was(office: Office) {
    let [one, two, _] = three_units(&office).await;
    let report = |active_users, all_users, components| {
        let counted_at = timestamp(office.now());
        let counts = api::Counts { active_users, all_users, components, counted_at };
        Some(api::Usage { installation: String::new(), counts: Some(counts), sms_sent: Vec::new() })
    };
    let told = |facts: &Facts| (facts.users.active.0, facts.all_users.count, facts.components.count);
    office.synced(&two, report(Some(1_000), Some(2_000), Some(3_000))).await;
    for (counts, expected) in [
        (report(Some(1), None, None), (1_001, 2_000, 3_000)),
        (report(None, Some(2), None), (1_001, 2_002, 3_000)),
        (report(None, None, Some(3)), (1_001, 2_002, 3_003)),
        (report(None, None, None), (1_001, 2_002, 3_003)),
        (report(Some(0), Some(0), None), (1_000, 2_000, 3_003)),
        (Some(api::Usage::default()), (1_000, 2_000, 3_003)),
    ] {
        office.clock.advance(Span::SECOND);
        assert_eq!(told(&office.synced(&one, counts.clone()).await.facts), expected, "{counts:?}");
    }
}

async fn an_overuse_begins_at_the_very_instant_a_license_ends_though_nobody_looked(office: Office) {
    let until = |seats, days| api::NewLicense {
        seats,
        expires_at: timestamp(START + Span::days(days)),
        ..Default::default()
    };
    let day = |days| START + Span::days(days);
    let (_, key) = office.license(until(60, 10)).await;
    office.license(until(30, 20)).await;
    let (last, _) = office.license(until(20, 30)).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let told = async |at: Instant, usage: Option<api::Usage>| {
        office.clock.set(at);
        let users = office.synced(&unit, usage).await.facts.users;
        (users.active.0, users.licensed.0, users.overused_since)
    };
    assert_eq!(told(START, users("", 55, START)).await, (55, 110, None));
    // Two licences have ended since anybody looked: the first end began it, the second did not begin it anew.
    assert_eq!(told(day(25), None).await, (55, 20, Some(day(10))));
    assert_eq!(told(day(26), users("", 21, day(26))).await, (21, 20, Some(day(10))), "it holds");
    assert_eq!(told(day(27), users("", 20, day(27))).await, (20, 20, None), "and clears");
    assert_eq!(told(day(28), users("", 21, day(28))).await, (21, 20, Some(day(28))), "and starts anew");
    assert_eq!(told(day(29), users("", 1, day(29))).await, (1, 20, None));
    office.license(until(5, 50)).await;
    assert_eq!(told(day(29), users("", 6, day(29))).await, (6, 25, None));
    // An edit that is the first to look finds the overuse begun at the end of the last licence but one.
    office.clock.set(day(40));
    office.update(&last, api::NewLicense { seats: 19, ..Default::default() }, &["seats"]).await.unwrap();
    assert_eq!(told(day(40), None).await, (6, 5, Some(day(30))));
    office.renew(&last, day(60)).await.unwrap();
    assert_eq!(told(day(40), None).await, (6, 24, None));
    assert_eq!(told(day(50) - Span::from_nanos(1), None).await, (6, 24, None));
    assert_eq!(told(day(70), None).await, (6, 19, None));
}

fn sms(ids: &[&str], credits: u32) -> Option<api::Usage> {
    let sent = ids.iter().map(|id| api::SmsSent { id: (*id).to_owned(), credits }).collect();
    Some(api::Usage { sms_sent: sent, ..Default::default() })
}

fn credits(facts: &Facts) -> Option<u64> {
    facts.sms_credits.map(|SmsCredits(credits)| credits)
}

async fn an_sms_counts_once_and_the_pool_never_goes_below_zero(office: Office) {
    let with = |sms_credits| api::NewLicense { sms_credits, ..a_license() };
    let (license, key) = office.license(with(Some(20))).await;
    let one = office.activate("", &key, "one").await.unwrap();
    let two = office.activate("", &key, "two").await.unwrap();
    let spent = async |unit: &Activated, usage| credits(&office.synced(unit, usage).await.facts);
    assert_eq!(spent(&one, sms(&["a"], 1)).await, Some(19));
    assert_eq!(spent(&one, sms(&["a"], 1)).await, Some(19), "the same again");
    assert_eq!(spent(&two, sms(&["a"], 1)).await, Some(18), "another unit's SMS is another one");
    assert_eq!(spent(&two, sms(&["a"], 1)).await, Some(18));
    assert_eq!(spent(&one, sms(&["b", "b", "b", "a"], 2)).await, Some(16), "the same in one request");
    assert_eq!(spent(&one, sms(&["c"], 0)).await, Some(15), "0 counts as 1");

    // The same five many times at once, through either replica.
    let all = ["d", "e", "f", "g", "h"];
    let told = join_all((0..8).map(|_| office.synced(&one, sms(&all, 1)))).await;
    assert!(told.iter().all(|told| credits(&told.facts) == Some(10)), "{told:?}");
    assert_eq!(spent(&one, sms(&["k"], 70)).await, Some(0), "never below zero");
    assert_eq!(spent(&one, sms(&["l"], 7)).await, Some(0));
    office.update(&license, with(Some(3)), &["sms_credits"]).await.unwrap();
    assert_eq!(spent(&one, None).await, Some(3), "what was sent beyond zero is not owed");
    assert_eq!(spent(&one, sms(&["k", "l"], 7)).await, Some(3));
    office.update(&license, with(None), &["sms_credits"]).await.unwrap();
    assert_eq!(spent(&one, sms(&["m"], 1)).await, None);
    office.update(&license, with(Some(0)), &["sms_credits"]).await.unwrap();
    assert_eq!(spent(&one, sms(&["n"], 1)).await, Some(0));
}

async fn sms_are_taken_from_licenses_that_count_and_from_no_other(office: Office) {
    use api::LicenseState::Suspended;
    let with = |sms_credits, days| api::NewLicense {
        sms_credits: Some(sms_credits),
        expires_at: timestamp(START + Span::days(days)),
        ..a_license()
    };
    let (soon, key) = office.license(with(10, 10)).await;
    let (late, _) = office.license(with(10, 20)).await;
    let (other, _) = office.license(with(10, 365)).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let left = async || {
        let mut left = Vec::new();
        for id in [&soon, &late, &other] {
            left.push(office.seen(&office.owner, id).await.unwrap().sms_credits.unwrap());
        }
        left
    };
    office.suspend(&other, Suspended).await.unwrap();
    let spend = async |count| credits(&office.synced(&unit, sms(&[&unique()], count)).await.facts).unwrap();
    assert_eq!((spend(4).await, left().await), (16, vec![6, 10, 10]), "what expires first is used up first");
    assert_eq!((spend(10).await, left().await), (6, vec![0, 6, 10]));
    assert_eq!(
        (spend(50).await, left().await),
        (0, vec![0, 0, 10]),
        "nothing is owed by a suspended license"
    );
    for id in [&soon, &late] {
        office.update(id, with(10, 1), &["sms_credits"]).await.unwrap();
    }
    office.clock.set(START + Span::days(15));
    assert_eq!((spend(1).await, left().await), (9, vec![10, 9, 10]), "one has expired");
    office.resume(&other).await.unwrap();
    office.clock.set(START + Span::days(30));
    office.suspend(&other, Suspended).await.unwrap();
    // None is valid: the one that ended last stands for all in the days of grace.
    assert_eq!((spend(3).await, left().await), (7, vec![10, 9, 7]));
    assert_eq!((spend(9).await, left().await), (0, vec![10, 9, 0]));
}

/// What of it was refused: the field, the SMS, and whether it may come again later.
async fn refused(office: &Office, unit: &Activated, request: api::SyncRequest) -> Vec<String> {
    let syncing = api::SyncingUnit { unit_id: unit.id.clone(), ..request.unit.unwrap_or_default() };
    let request = api::SyncRequest { unit: Some(syncing), nonce: unique().into_bytes(), ..request };
    let answer = office.sync(&unit.token).sync(request).await.unwrap().into_inner();
    assert!(answer.facts.is_some());
    let line = |refused: api::RefusedUsage| {
        let api::RefusedUsage { field, sms_position, sms_count, reason, retry_after } = refused;
        assert!(!reason.is_empty());
        let sms = sms_position.map(|first| format!(" sms {first}+{sms_count}")).unwrap_or_default();
        format!("{field}{sms}{}", if retry_after.is_some() { " later" } else { "" })
    };
    answer.refused.into_iter().map(line).collect()
}

async fn sms_of_a_deactivated_unit_count_until_it_hears_of_it_and_for_a_day_at_most(office: Office) {
    let (_, key) = office.license(api::NewLicense { sms_credits: Some(1_000), ..a_license() }).await;
    let activate = async |device| office.activate("", &key, device).await.unwrap();
    let (witness, late) = (activate("witness").await, activate("late").await);
    let left = async || credits(&office.synced(&witness, None).await.facts).unwrap();
    let sends = |id: &str| api::SyncRequest { usage: sms(&[id, "more"], 100), ..Default::default() };
    let all = ["usage.sms_sent sms 0+2".to_owned()];
    // Whoever has the token of a unit that has heard of its deactivation spends nothing.
    let drained = activate("drained").await;
    office.deactivate(&office.owner, &[&drained.id]).await;
    assert_eq!(refused(&office, &drained, sends("before it hears")).await, [""; 0]);
    assert_eq!(left().await, 800, "it was sent before the unit heard of it");
    for _ in 0..2 {
        assert_eq!(refused(&office, &drained, sends(&unique())).await, all);
    }
    assert_eq!(left().await, 800);
    office.deactivate(&office.owner, &[&late.id]).await;
    office.clock.advance(Span::days(1));
    assert_eq!(refused(&office, &late, sends("a day later")).await, all);
    assert_eq!(left().await, 800);
    assert_eq!(office.numbers("SELECT COUNT(*) FROM sms_sent").await, [2]);
}

async fn sums_of_sms_are_in_the_audit_log_once_an_hour(office: Office) {
    let (_, key) = office.license(api::NewLicense { sms_credits: Some(1_000), ..a_license() }).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    for minutes in 0..90 {
        office.synced(&unit, sms(&[&format!("a {minutes}"), &format!("b {minutes}")], 3)).await;
        office.clock.advance(Span::from_nanos(60 * Span::SECOND.nanos()));
    }
    let entries = office.entries(&office.owner).await;
    let sums = entries.iter().filter(|entry| entry.action == "unit.sms_sent");
    let sums: Vec<&str> = sums.map(|entry| entry.detail.as_str()).collect();
    assert_eq!(sums, ["2 SMS, 6 credits since the last sum", "120 SMS, 360 credits since the last sum"]);
}

async fn what_does_not_read_of_a_sync_is_named_and_everything_else_counts(office: Office) {
    let (_, key) = office.license(api::NewLicense { sms_credits: Some(5_000), ..a_license() }).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let sms = |ids: &[&str]| sms(ids, 1).unwrap().sms_sent;
    let mut many: Vec<String> = (0..1_001).map(|number| number.to_string()).collect();
    many.push("a\nb".to_owned());
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (long, wide) = ("x".repeat(256), "ü".repeat(33));
    let counts = |active, all, at| api::Counts {
        active_users: active,
        all_users: all,
        components: Some(1),
        counted_at: at,
    };
    let no_instant = Some(prost_types::Timestamp { seconds: 0, nanos: -1 });
    let dear = |credits| api::SmsSent { id: unique(), credits };
    let mut spent = 0;
    for (installation, counted, sms_sent, named, cost) in [
        ("", None, sms(&["a", "", "b\0", &wide, "c"]), &["1", "2", "3"][..], 2),
        ("", Some(counts(Some(u64::MAX), Some(7), None)), sms(&["d"]), &["active_users"], 1),
        ("", Some(counts(Some(1), Some(1 << 60), None)), sms(&["e"]), &["all_users"], 1),
        ("", Some(counts(Some(3), None, no_instant)), sms(&["f"]), &["counted_at"], 1),
        ("a\nb", Some(counts(Some(3), None, None)), sms(&["g"]), &["installation"], 1),
        (&long, Some(counts(Some(3), None, None)), sms(&["h"]), &["installation"], 1),
        ("", None, vec![dear(10_001), dear(u32::MAX), dear(2)], &["credits 0", "credits 1"], 2),
        ("", None, sms(&many), &["more"], 1_000),
    ] {
        office.clock.advance(Span::SECOND);
        let usage =
            api::Usage { installation: installation.to_owned(), counts: counted, sms_sent: sms_sent.clone() };
        let told =
            refused(&office, &unit, api::SyncRequest { usage: Some(usage), ..Default::default() }).await;
        let expected = named.iter().map(|name| match *name {
            "active_users" | "all_users" | "counted_at" => format!("usage.counts.{name}"),
            "installation" => "usage.installation".to_owned(),
            "more" => "usage.sms_sent sms 1000+2 later".to_owned(),
            dear if dear.starts_with("credits ") => {
                let position = &dear["credits ".len()..];
                format!("usage.sms_sent[{position}].credits sms {position}+1")
            }
            position => format!("usage.sms_sent[{position}].id sms {position}+1"),
        });
        assert_eq!(told, expected.collect::<Vec<_>>(), "{installation:?} {counted:?} {} SMS", sms_sent.len());
        spent += cost;
        assert_eq!(credits(&office.synced(&unit, None).await.facts), Some(5_000 - spent));
    }
    let facts = office.synced(&unit, None).await.facts;
    let counted = (facts.users.active.0, facts.all_users.count, facts.components.count);
    assert_eq!(counted, (1, 7, 1), "each count that reads, and none of what belongs nowhere");
    let version = api::SyncingUnit {
        product_version: "3\n".to_owned(),
        subunits: Some(u64::MAX),
        ..Default::default()
    };
    let told = refused(&office, &unit, api::SyncRequest { unit: Some(version), ..Default::default() }).await;
    assert_eq!(told, ["unit.subunits", "unit.product_version"].map(str::to_owned).to_vec());
    let widest = users(&"ü".repeat(100), 1_000_000_000_000, office.now());
    assert_eq!(active(&office, &unit, widest).await, 1_000_000_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sms_than_a_unit_can_send_are_deferred_and_told_and_count_later() {
    let office = Office::open_with(On::Sqlite, |settings| {
        (settings.sms_credits, settings.sms_per_day) = (5, 3);
    });
    let mut office = office.await;
    let (_, key) = office.license(api::NewLicense { sms_credits: Some(100), ..a_license() }).await;
    let [one, two] = [office.activate("", &key, "one").await, office.activate("", &key, "two").await];
    let (one, two) = (one.unwrap(), two.unwrap());
    let sends = |ids: &[&str], credits| api::SyncRequest { usage: sms(ids, credits), ..Default::default() };
    let left = async |office: &Office| credits(&office.synced(&two, None).await.facts).unwrap();
    assert_eq!(refused(&office, &one, sends(&["dear"], 6)).await, ["usage.sms_sent sms 0+1 later"]);
    assert_eq!(refused(&office, &one, sends(&["a", "b"], 5)).await, [""; 0]);
    let told = refused(&office, &one, sends(&["b", "c", "d", "a", "e", "f"], 1)).await;
    assert_eq!(
        told,
        ["usage.sms_sent sms 2+1 later", "usage.sms_sent sms 4+2 later"],
        "what is new beyond three"
    );
    assert_eq!(left(&office).await, 100 - 5 - 5 - 1);
    assert_eq!(refused(&office, &two, sends(&["a"], 1)).await, [""; 0], "another unit has its own day");
    office.clock.advance(Span::days(1));
    assert_eq!(refused(&office, &one, sends(&["d", "e", "f"], 1)).await, [""; 0]);
    assert_eq!(left(&office).await, 100 - 5 - 5 - 1 - 1 - 3);
    office.replace_with(|settings| (settings.sms_credits, settings.sms_per_day) = (6, 9)).await;
    assert_eq!(refused(&office, &one, sends(&["dear"], 6)).await, [""; 0], "the bound was raised");
    let entries = office.entries(&office.owner).await;
    let alarms = entries.iter().filter(|entry| entry.action == "unit.sms_deferred");
    let alarms: Vec<_> = alarms.map(|entry| (entry.outcome(), entry.target.as_str())).collect();
    assert_eq!(alarms, [(api::AuditOutcome::Refused, one.id.as_str())], "one a day");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_makes_no_units_without_end() {
    let office = Office::open_with(On::Sqlite, |settings| settings.units_per_license = 3).await;
    let (id, key) = office.license(api::NewLicense { seats: 1, ..a_license() }).await;
    for _ in 0..13 {
        let unit = office.activate("", &key, "one of thirteen").await.unwrap();
        office.deactivate(&office.owner, &[&unit.id]).await;
    }
    let refused = office.activate("", &key, "one more").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_MANY"));
    assert!(refused.message().contains("backend.units_per_license"), "{}", refused.message());
    let entries = office.entries(&office.owner).await;
    let told = entries.iter().find(|entry| entry.outcome() == api::AuditOutcome::Refused).unwrap();
    assert_eq!((told.action.as_str(), told.target.as_str()), ("unit.activate", id.as_str()));
    // Accounts keep theirs, and another key begins anew.
    office.activate(&office.owner, &id, "an owner's").await.unwrap();
    let rotate = api::RotateLicenseKeyRequest { request_id: unique(), license_id: id.clone() };
    let key = office.licenses(&office.owner).rotate_license_key(rotate).await.unwrap().into_inner();
    let unit = office.all_units(&office.owner).await.remove(0);
    office.deactivate(&office.owner, &[&unit.unit_id]).await;
    office.activate("", &key.license_key, "with another key").await.unwrap();
}
