//! What is forgotten, and when: IDs of SMS once they cannot be repeated any more (semantics 7.30).

use std::time::Duration;

use esa_sidecar::{domain::Span, proto::licensing as api};

use super::{
    office::{Activated, Office, a_license},
    on_both_databases,
};

on_both_databases!(an_sms_is_known_again_until_its_unit_has_synced_for_a_week_since_or_is_gone_for_as_long);

/// Syncs, with one SMS if it has an ID; the credits that remain.
async fn synced(office: &Office, unit: &Activated, sms: &str) -> Option<u64> {
    let sms_sent =
        Some(sms).filter(|id| !id.is_empty()).map(|id| api::SmsSent { id: id.to_owned(), credits: 1 });
    let usage = api::Usage { sms_sent: sms_sent.into_iter().collect(), ..Default::default() };
    let verified = office.synced(unit, Some(usage)).await;
    verified.facts.sms_credits.map(|credits| credits.0)
}

/// What the backend does of its own accord is done once more.
async fn another_round(office: &Office, done: &str) {
    tokio::spawn(office.beside().await.run());
    let seen = async { while office.numbers(done).await != [0] {} };
    tokio::time::timeout(Duration::from_secs(60), seen).await.expect("it is forgotten");
}

async fn an_sms_is_known_again_until_its_unit_has_synced_for_a_week_since_or_is_gone_for_as_long(
    office: Office,
) {
    let week = Span::days(7);
    let (_, key) = office.license(api::NewLicense { sms_credits: Some(100), ..a_license() }).await;
    let mut units = Vec::new();
    for device in ["syncs", "silent", "late", "gone", "gone late"] {
        units.push(office.activate("", &key, device).await.unwrap());
    }
    let [syncs, silent, late, gone, gone_late] = &units[..] else { panic!() };
    for unit in &units[..4] {
        synced(&office, unit, "a").await;
    }
    office.deactivate(&office.owner, &[&gone.id]).await;
    office.synced(gone, None).await;
    // A nanosecond later what they send is a nanosecond too young.
    office.clock.advance(Span::from_nanos(1));
    for unit in [syncs, gone_late] {
        synced(&office, unit, "b").await;
    }
    office.deactivate(&office.owner, &[&gone_late.id]).await;
    office.synced(gone_late, None).await;
    office.clock.advance(week);
    assert_eq!(synced(&office, syncs, "").await, Some(94), "each of six counted once");
    office.clock.advance(Span::from_nanos(-1));
    synced(&office, late, "").await;

    let known = async |unit: &Activated, sms: &str| {
        let sql = format!("SELECT COUNT(*) FROM sms_sent WHERE unit_id = '{}' AND sms_id = '{sms}'", unit.id);
        office.numbers(&sql).await[0]
    };
    let first = format!("SELECT COUNT(*) FROM sms_sent WHERE unit_id = '{}' AND sms_id = 'a'", gone.id);
    office.clock.advance(Span::from_nanos(1));
    another_round(&office, &first).await;
    assert_eq!(known(syncs, "a").await, 0, "it has synced for more than a week since");
    assert_eq!(known(syncs, "b").await, 1, "it has synced for no more than a week since");
    assert_eq!(known(silent, "a").await, 1, "it may not have heard of the answer");
    assert_eq!(known(late, "a").await, 1, "it has synced for no more than a week since");
    assert_eq!(known(gone_late, "b").await, 1, "it was sent no more than a week ago");
    for unit in [silent, late] {
        assert_eq!(synced(&office, unit, "a").await, Some(94), "a repetition costs nothing");
    }
    assert_eq!(synced(&office, syncs, "b").await, Some(94));

    office.clock.advance(Span::from_nanos(1));
    let second = format!("SELECT COUNT(*) FROM sms_sent WHERE unit_id = '{}'", gone_late.id);
    another_round(&office, &second).await;
    assert_eq!(known(syncs, "b").await, 1, "it has not synced since");
}
