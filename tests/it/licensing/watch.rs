//! Watches: what a unit that waits is told, and when (semantics 6.6).

use std::time::Duration;

use esa_sidecar::{
    config,
    domain::{Activation, Span},
    proto::licensing as api,
    signing::{TrustedKeys, VerifiedFacts},
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use super::{
    office::{Activated, Office, On, a_license, reason, unique, users},
    on_every_store,
};

on_every_store!(
    a_watch_ends_when_its_unit_has_renewed_the_secret_it_was_opened_with,
    the_facts_come_at_once_and_again_at_every_change,
    a_unit_that_watches_hears_of_its_own_deactivation_and_of_no_other,
    what_was_answered_before_a_watch_began_is_in_its_first_message,
    what_time_changes_is_told,
    a_watch_ends_when_the_backend_stops,
    a_watch_is_opened_by_its_unit_alone,
    a_unit_has_few_watches_and_one_more_ends_its_oldest,
);

/// Long enough for a slow machine; a test that waits for it fails.
const SOON: Duration = Duration::from_secs(20);

struct Watch {
    stream: Streaming<api::WatchResponse>,
    unit: String,
    keys: TrustedKeys,
}

const NONCE: [u8; 16] = [7; 16];

async fn try_watch(office: &Office, unit: &Activated) -> Result<Watch, Status> {
    let request = api::WatchRequest { unit_id: unit.id.clone(), nonce: NONCE.to_vec() };
    let stream = office.sync(&unit.token).watch(request).await?.into_inner();
    let keys = TrustedKeys::of(office.keys.public_keys()).unwrap();
    Ok(Watch { stream, unit: unit.id.clone(), keys })
}

async fn watch(office: &Office, unit: &Activated) -> Watch {
    try_watch(office, unit).await.unwrap()
}

impl Watch {
    async fn next(&mut self) -> VerifiedFacts {
        let told = timeout(SOON, self.stream.message()).await.expect("nothing is told").unwrap().unwrap();
        let verified = self.keys.verify(&told.facts.unwrap()).unwrap();
        assert_eq!((verified.nonce.as_slice(), &verified.unit_id), (&NONCE[..], &self.unit));
        verified
    }
}

/// Whoever has the secret of before hears nothing any more.
async fn a_watch_ends_when_its_unit_has_renewed_the_secret_it_was_opened_with(office: Office) {
    let (_, key) = office.license(a_license()).await;
    let mut unit = office.activate("", &key, "one").await.unwrap();
    let other = office.activate("", &key, "two").await.unwrap();
    let (mut old, mut beside) = (watch(&office, &unit).await, watch(&office, &other).await);
    old.next().await;
    beside.next().await;
    let renew = async |unit: &Activated, next: &str| {
        let request = api::SyncRequest {
            unit: Some(api::SyncingUnit { unit_id: unit.id.clone(), ..Default::default() }),
            nonce: NONCE.to_vec(),
            next_secret_sha256: esa_sidecar::sha256::hex(next.as_bytes()),
            ..Default::default()
        };
        office.sync(&unit.token).sync(request).await.unwrap();
    };
    renew(&unit, "the next one").await;
    unit.token = format!("esau_{}_the next one", unit.id);
    let mut new = watch(&office, &unit).await;
    new.next().await;
    let refused = timeout(SOON, old.stream.message()).await.expect("it goes on").unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // Nobody else's ends, nor is it told anything new.
    office.synced(&other, users("", 12, office.now())).await;
    assert_eq!(beside.next().await.facts.users.active.0, 12);
    assert_eq!(new.next().await.facts.users.active.0, 12);
}

async fn the_facts_come_at_once_and_again_at_every_change(office: Office) {
    let (license, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let other = office.activate("", &key, "two").await.unwrap();
    // With two replicas, one watch on each.
    let mut watches = [watch(&office, &unit).await, watch(&office, &other).await];
    let mut last = 0;
    for watch in &mut watches {
        let first = watch.next().await;
        assert_eq!((first.facts.activation, first.facts.users.licensed.0), (Activation::Active, 100));
        last = first.sequence;
    }
    for seats in [101, 102, 103] {
        let new = api::NewLicense { seats, ..Default::default() };
        office.update(&license, new, &["seats"]).await.unwrap();
        for watch in &mut watches {
            let told = watch.next().await;
            assert_eq!(told.facts.users.licensed.0, seats);
            assert!(last < told.sequence);
        }
        last += 1;
    }
    // What concerns no facts is told to nobody: the next message is the one after.
    let renamed = api::NewLicense { name: "new name".to_owned(), ..Default::default() };
    office.update(&license, renamed, &["name"]).await.unwrap();
    office.activate("", &key, "three").await.unwrap();
    office.synced(&other, None).await;
    office.synced(&other, users("", 12, office.now())).await;
    office.synced(&other, users("", 12, office.now())).await;
    office.clock.advance(Span::SECOND);
    office.synced(&other, users("", 13, office.now())).await;
    for watch in &mut watches {
        assert_eq!(watch.next().await.facts.users.active.0, 12);
        assert_eq!(watch.next().await.facts.users.active.0, 13);
    }
}

async fn a_unit_that_watches_hears_of_its_own_deactivation_and_of_no_other(office: Office) {
    let (license, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let other = office.activate("", &key, "two").await.unwrap();
    let mut watches = [watch(&office, &unit).await, watch(&office, &other).await];
    let first = [watches[0].next().await, watches[1].next().await];
    office.deactivate(&office.owner, &[&unit.id]).await;
    let since = office.now();
    let told = watches[0].next().await;
    assert_eq!(told.facts.activation, Activation::Deactivated { since });
    assert!(first[0].sequence < told.sequence);
    office.deactivate(&office.owner, &[&unit.id]).await;
    let new = api::NewLicense { seats: 7, ..Default::default() };
    office.update(&license, new, &["seats"]).await.unwrap();
    let told = watches[1].next().await.facts;
    assert_eq!(
        (told.activation, told.users.licensed.0),
        (Activation::Active, 7),
        "the first it hears of since"
    );
    let told = watch(&office, &unit).await.next().await.facts;
    assert_eq!(
        told.activation,
        Activation::Deactivated { since },
        "a watch that begins later hears it first"
    );
    // That seats changed, it was not told: what it hears next is that its secret opens nothing.
    let request = api::RevokeUnitSecretRequest { request_id: unique(), unit_id: unit.id.clone() };
    office.units(&office.owner).revoke_unit_secret(request).await.unwrap();
    let refused = timeout(SOON, watches[0].stream.message()).await.expect("nothing is told").unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// A sidecar that synced and then watches must never be told an older number.
async fn what_was_answered_before_a_watch_began_is_in_its_first_message(office: Office) {
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    // One that watches already keeps what is shared alive.
    let other = office.activate("", &key, "two").await.unwrap();
    let _open = [watch(&office, &other).await, watch(&office, &other).await];
    for count in 1..30 {
        office.clock.advance(Span::SECOND);
        let synced = office.synced(&unit, users("", count, office.now())).await;
        let first = watch(&office, &unit).await.next().await;
        assert!(synced.sequence <= first.sequence, "{} after {}", first.sequence, synced.sequence);
        assert_eq!(first.facts.users.active.0, count);
    }
}

async fn what_time_changes_is_told(office: Office) {
    let (_, key) = office.license(a_license()).await;
    let expires_at = super::office::timestamp(office.now() + Span::days(3));
    office.license(api::NewLicense { expires_at, ..a_license() }).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let mut watch = watch(&office, &unit).await;
    assert_eq!(watch.next().await.facts.users.licensed.0, 200);
    office.clock.advance(Span::days(4));
    assert_eq!(watch.next().await.facts.users.licensed.0, 100, "though nobody asked");
}

async fn a_watch_ends_when_the_backend_stops(office: Office) {
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let mut watch = watch(&office, &unit).await;
    watch.next().await;
    office.stop();
    let end = timeout(SOON, watch.stream.message()).await.expect("it does not end").unwrap();
    assert!(end.is_none(), "cleanly: {end:?}");
}

async fn a_watch_is_opened_by_its_unit_alone(office: Office) {
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let other = office.activate("", &key, "two").await.unwrap();
    let watch = async |token: &str, unit_id: &str, nonce: usize| {
        let request = api::WatchRequest { unit_id: unit_id.to_owned(), nonce: vec![1; nonce] };
        office.sync(token).watch(request).await.map(drop).map_err(|refused| refused.code())
    };
    let secret = other.token.rsplit_once('_').unwrap().1;
    for (token, unit_id, nonce, expected) in [
        (unit.token.as_str(), &unit.id, 16, Ok(())),
        (&unit.token, &unit.id, 64, Ok(())),
        (&unit.token, &unit.id, 15, Err(Code::InvalidArgument)),
        (&unit.token, &unit.id, 65, Err(Code::InvalidArgument)),
        (&unit.token, &other.id, 16, Err(Code::InvalidArgument)),
        (&format!("esau_{}_{secret}", unit.id), &unit.id, 16, Err(Code::Unauthenticated)),
        (&office.owner, &unit.id, 16, Err(Code::Unauthenticated)),
        ("", &unit.id, 16, Err(Code::Unauthenticated)),
    ] {
        assert_eq!(watch(token, unit_id, nonce).await, expected, "{token}");
    }
}

async fn ends(watch: &mut Watch) {
    let ended = async { while watch.stream.message().await.unwrap().is_some() {} };
    timeout(SOON, ended).await.expect("it does not end");
}

/// Two on each replica: one that is lost may not be missed yet, and two servers with one credential do not end each
/// other's for ever.
async fn a_unit_has_few_watches_and_one_more_ends_its_oldest(office: Office) {
    let (license, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let mut watches = Vec::new();
    for _ in 0..12 {
        watches.push(watch(&office, &unit).await);
    }
    let mut last = watches.split_off(12 - 2 * office.replicas());
    for watch in &mut watches {
        ends(watch).await;
    }
    office.update(&license, api::NewLicense { seats: 5, ..Default::default() }, &["seats"]).await.unwrap();
    for watch in &mut last {
        while watch.next().await.facts.users.licensed.0 != 5 {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_watch_than_may_and_one_that_ends_makes_room() {
    let office = Office::open_with(On::Sqlite, |settings| settings.watches = 2).await;
    let (license, key) = office.license(a_license()).await;
    let [first, second, third] = [
        office.activate("", &key, "1").await,
        office.activate("", &key, "2").await,
        office.activate("", &key, "3").await,
    ]
    .map(Result::unwrap);
    let (mut one, two) = (watch(&office, &first).await, watch(&office, &second).await);
    one.next().await;
    let refused = try_watch(&office, &third).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_MANY"));
    let mut again = watch(&office, &first).await;
    ends(&mut one).await;
    drop(two);
    let room = async {
        loop {
            if let Ok(mut watch) = try_watch(&office, &third).await {
                break watch.next().await;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, room).await.expect("its place is free again");
    office.update(&license, api::NewLicense { seats: 5, ..Default::default() }, &["seats"]).await.unwrap();
    while again.next().await.facts.users.licensed.0 != 5 {}
}

/// One customer's units may have all places; they make room for another's, and do not take them back.
#[tokio::test(flavor = "multi_thread")]
async fn where_places_are_scarce_each_customer_has_its_share() {
    let office = Office::open_with(On::Sqlite, |settings| settings.watches = 4).await;
    let (_, key) = office.license(a_license()).await;
    office.customer("acme", "acme.owner").await;
    let (_, theirs) = office.license(api::NewLicense { customer: "acme".to_owned(), ..a_license() }).await;
    let (mut units, mut watches) = (Vec::new(), Vec::new());
    for number in 0..4 {
        let unit = office.activate("", &key, &format!("ours {number}")).await.unwrap();
        watches.push(watch(&office, &unit).await);
        units.push(unit);
    }
    let mut others = Vec::new();
    for number in 0..2 {
        let unit = office.activate("", &theirs, &format!("theirs {number}")).await.unwrap();
        others.push(watch(&office, &unit).await);
        others[number].next().await;
    }
    for ended in &mut watches[2..] {
        ends(ended).await;
    }
    let refused = try_watch(&office, &units[3]).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_MANY"));
    assert!(refused.message().contains("have their share"), "{refused:?}");
    let third = office.activate("", &theirs, "theirs 3").await.unwrap();
    assert_eq!(reason(&try_watch(&office, &third).await.err().unwrap()), "TOO_MANY");
}

/// Units then watch at another replica; a watch that stays open would tell them nothing.
#[tokio::test(flavor = "multi_thread")]
async fn watches_end_when_the_database_is_gone_and_none_begins_until_it_is_back() {
    let often = |settings: &mut config::Backend| settings.poll_interval = Duration::from_millis(20);
    let office = Office::open_with(On::Postgres, often).await;
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let mut open = watch(&office, &unit).await;
    open.next().await;
    office.reachable(false).await;
    let ended = timeout(SOON, open.stream.message()).await.expect("it goes on").unwrap_err();
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::Unavailable, "DATABASE"));
    assert!(open.stream.message().await.unwrap().is_none(), "that was the end");
    assert_eq!(try_watch(&office, &unit).await.err().unwrap().code(), Code::Unavailable);
    office.reachable(true).await;
    let back = async {
        loop {
            match try_watch(&office, &unit).await {
                Ok(mut watch) => break watch.next().await,
                Err(refused) => assert_eq!(refused.code(), Code::Unavailable),
            }
        }
    };
    timeout(SOON, back).await.expect("it is back");
}

/// A database that speaks PostgreSQL's protocol and has no NOTIFY.
#[tokio::test(flavor = "multi_thread")]
async fn without_notify_changes_go_through_and_the_poll_carries_them() {
    let silent = "CREATE SCHEMA silent;
        CREATE FUNCTION silent.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'feature_not_supported'; END $$;
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = silent, pg_catalog', current_database()); END $$";
    let office = Office::open_prepared(On::Replicas, silent, |_| {}).await;
    let (license, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    // One on each replica.
    let mut watches = [watch(&office, &unit).await, watch(&office, &unit).await];
    office.update(&license, api::NewLicense { seats: 5, ..Default::default() }, &["seats"]).await.unwrap();
    for watch in &mut watches {
        while watch.next().await.facts.users.licensed.0 != 5 {}
    }
}
