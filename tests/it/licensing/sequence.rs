//! Whatever happens in whatever order, the facts are what a second reckoning finds, and their number only grows
//! (semantics 2.9, 5.5, 6.8, 6.9).

use std::collections::{BTreeMap, BTreeSet};

use esa_sidecar::{
    domain::{Activation, Facts, Instant, Span, facts::SmsCredits},
    proto::licensing as api,
};
use fastrand::Rng;
use futures_util::future::{join, join_all};

use super::{
    office::{Activated, Office, On, a_license, reason, timestamp, unique, users},
    on_every_store,
};
use crate::sidecar::START;

on_every_store!(
    after_every_operation_the_facts_are_what_a_second_reckoning_finds,
    totals_do_not_drift_when_many_change_them_at_once,
);

/// Operations of one history.
const OPERATIONS: usize = 220;

/// What happened, kept the plainest way: everything is worked out anew from it each time.
#[derive(Default)]
struct Shadow {
    licenses: BTreeMap<String, License>,
    units: Vec<Unit>,
    sms: BTreeSet<String>,
    overused_since: Option<Instant>,
    looked_at: Option<Instant>,
}

struct License {
    seats: u64,
    credits: u64,
    expires_at: Instant,
    suspended: Option<Instant>,
}

struct Unit {
    activated: Activated,
    active: bool,
    report: Option<(String, Instant, u64)>,
}

impl License {
    fn end(&self) -> Instant {
        self.suspended.map_or(self.expires_at, |since| since.min(self.expires_at))
    }
}

impl Shadow {
    /// The licences that count at `t`: those that have not ended or, when all have, those that ended last.
    fn counting(&self, t: Instant) -> Vec<&String> {
        let valid: Vec<_> = self.licenses.iter().filter(|(_, license)| t < license.end()).collect();
        let last = self.licenses.values().map(License::end).max().unwrap();
        let ended_last = || self.licenses.iter().filter(|(_, license)| license.end() == last).collect();
        let counting = if valid.is_empty() { ended_last() } else { valid };
        counting.into_iter().map(|(id, _)| id).collect()
    }

    fn licensed(&self, t: Instant) -> u64 {
        self.counting(t).iter().map(|id| self.licenses[*id].seats).sum()
    }

    fn credits(&self, t: Instant) -> u64 {
        self.counting(t).iter().map(|id| self.licenses[*id].credits).sum()
    }

    fn active(&self) -> u64 {
        let mut newest: BTreeMap<&str, (Instant, &str, u64)> = BTreeMap::new();
        for Unit { activated, active, report } in &self.units {
            let Some((installation, at, count)) = report.as_ref().filter(|_| *active) else { continue };
            let installation = if installation.is_empty() { &activated.id } else { installation };
            let report = (*at, activated.id.as_str(), *count);
            let kept = newest.entry(installation).or_insert(report);
            *kept = report.max(*kept);
        }
        newest.values().map(|(_, _, count)| count).sum()
    }

    /// The overuse clock at `t`, with every end of a licence since it was looked at last looked at in its turn.
    fn tick(&mut self, t: Instant) {
        let from = self.looked_at.unwrap_or(START);
        let mut turns: Vec<_> =
            self.licenses.values().map(License::end).filter(|end| from < *end && *end < t).collect();
        turns.sort();
        turns.push(t);
        for turn in turns {
            let over = self.licensed(turn) < self.active();
            self.overused_since = over.then(|| self.overused_since.unwrap_or(turn));
        }
        self.looked_at = Some(t);
    }

    fn spend(&mut self, id: String, credits: u64, t: Instant) {
        if !self.sms.insert(id) {
            return;
        }
        let mut left = credits;
        let mut counting: Vec<String> = self.counting(t).into_iter().cloned().collect();
        counting.sort_by_key(|id| (self.licenses[id].expires_at, id.clone()));
        for id in counting {
            let license = self.licenses.get_mut(&id).unwrap();
            let taken = left.min(license.credits);
            license.credits -= taken;
            left -= taken;
        }
    }

    /// The same facts, reckoned anew.
    fn assert(&self, facts: &Facts, t: Instant, what: &str) {
        let last = self.licenses.values().map(License::end).max().unwrap();
        let counting = self.counting(t);
        let by_expiry = counting.iter().any(|id| self.licenses[*id].end() == self.licenses[*id].expires_at);
        let disabled = (last <= t && !by_expiry).then_some(last);
        assert_eq!(facts.activation, Activation::Active, "{what}");
        assert_eq!(facts.disabled_by_licensing.as_ref().map(|disabled| disabled.since), disabled, "{what}");
        let expires_at = counting.iter().map(|id| self.licenses[*id].expires_at).max().unwrap();
        assert_eq!(facts.expires_at, expires_at, "{what}");
        let users = (facts.users.active.0, facts.users.licensed.0, facts.users.overused_since);
        assert_eq!(users, (self.active(), self.licensed(t), self.overused_since), "{what}");
        assert_eq!(facts.sms_credits, Some(SmsCredits(self.credits(t))), "{what}");
    }
}

async fn add_license(office: &Office, shadow: &mut Shadow, random: &mut Rng) {
    let (seats, credits, expires_at) =
        (random.u64(5..40), random.u64(0..30), office.now() + Span::days(random.u32(1..40)));
    let new = api::NewLicense {
        // An ID that is the same whenever the same history is told.
        license_id: format!("AAA-AAA-{:03}", shadow.licenses.len()),
        seats,
        sms_credits: Some(credits),
        expires_at: timestamp(expires_at),
        ..Default::default()
    };
    let (id, _) = office.license(new).await;
    shadow.licenses.insert(id, License { seats, credits, expires_at, suspended: None });
}

async fn activate(office: &Office, shadow: &mut Shadow, random: &mut Rng) {
    let t = office.now();
    let (id, license) = random.choice(&shadow.licenses).unwrap();
    let allowed = t < license.end() && shadow.active() < shadow.licensed(t);
    // By account: what a license key activates is on probation at first.
    match office.activate(&office.owner, id, "device").await {
        Ok(activated) => {
            assert!(allowed, "activated although it is full or has ended");
            shadow.units.push(Unit { activated, active: true, report: None });
        }
        Err(refused) => assert!(!allowed, "{refused:?}"),
    }
}

async fn report(office: &Office, shadow: &mut Shadow, random: &mut Rng) {
    let t = office.now();
    let number = random.usize(..shadow.units.len());
    let installation = ["", "hq", "branch"][random.usize(..3)];
    // Some come late, some from a clock that is ahead.
    let counted_at = t + Span::from_nanos(random.i128(-1_000_000_000_000_000..1_000_000_000_000));
    let (count, sms) = (random.u64(0..30), format!("sms {}", random.u32(..60)));
    let credits = random.u32(0..4);
    let mut usage = users(installation, count, counted_at).unwrap();
    // Of a unit that was deactivated none counts.
    let most = if shadow.units[number].active { 3 } else { 1 };
    let sms = format!("{sms} of unit {number}");
    usage.sms_sent = vec![api::SmsSent { id: sms.clone(), credits }; random.usize(..most)];
    let sent = !usage.sms_sent.is_empty();
    office.synced(&shadow.units[number].activated, Some(usage)).await;
    if sent {
        shadow.spend(sms, u64::from(credits.max(1)), t);
    }
    let unit = &mut shadow.units[number];
    let counted_at = counted_at.min(t);
    let is_newer = unit.report.as_ref().is_none_or(|(_, last, _)| *last <= counted_at);
    if unit.active && is_newer {
        // Where none is named, it stays where it is.
        let before = unit.report.take().map(|(before, ..)| before).unwrap_or_default();
        let installation = if installation.is_empty() { before } else { installation.to_owned() };
        unit.report = Some((installation, counted_at, count));
    }
}

async fn change_license(office: &Office, shadow: &mut Shadow, random: &mut Rng) {
    let t = office.now();
    let id = random.choice(shadow.licenses.keys()).unwrap().clone();
    let license = shadow.licenses.get_mut(&id).unwrap();
    match random.usize(..5) {
        0 => {
            let state = [api::LicenseState::Suspended, api::LicenseState::Canceled][random.usize(..2)];
            office.suspend(&id, state).await.unwrap();
            license.suspended = license.suspended.or(Some(t));
        }
        1 => {
            office.resume(&id).await.unwrap();
            license.suspended = None;
        }
        2 => {
            license.expires_at = license.expires_at + Span::days(random.u32(0..40));
            office.renew(&id, license.expires_at).await.unwrap();
        }
        3 => {
            license.seats = random.u64(0..60);
            let new = api::NewLicense { seats: license.seats, ..Default::default() };
            office.update(&id, new, &["seats"]).await.unwrap();
        }
        _ => {
            license.credits = random.u64(0..30);
            let new = api::NewLicense { sms_credits: Some(license.credits), ..Default::default() };
            office.update(&id, new, &["sms_credits"]).await.unwrap();
        }
    }
}

async fn deactivate(office: &Office, shadow: &mut Shadow, random: &mut Rng) {
    // The first one stays: it is asked for the facts.
    let chosen: BTreeSet<usize> =
        (0..2).map(|_| random.usize(..shadow.units.len())).filter(|n| 0 < *n).collect();
    let ids: Vec<_> = chosen.iter().map(|number| shadow.units[*number].activated.id.as_str()).collect();
    if !ids.is_empty() {
        office.deactivate(&office.owner, &ids).await;
    }
    for number in chosen {
        shadow.units[number].active = false;
    }
}

async fn after_every_operation_the_facts_are_what_a_second_reckoning_finds(office: Office) {
    let seed = std::env::var("ESA_SIDECAR_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("ESA_SIDECAR_TEST_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let mut shadow = Shadow::default();
    for _ in 0..3 {
        add_license(&office, &mut shadow, &mut random).await;
    }
    activate(&office, &mut shadow, &mut random).await;
    let (mut last, mut before) = (0, None);
    for number in 0..OPERATIONS {
        let kind = random.usize(..12);
        shadow.tick(office.now());
        match kind {
            0 => activate(&office, &mut shadow, &mut random).await,
            2 => deactivate(&office, &mut shadow, &mut random).await,
            3..=6 => report(&office, &mut shadow, &mut random).await,
            7 | 8 => change_license(&office, &mut shadow, &mut random).await,
            9 if number % 2 == 0 => add_license(&office, &mut shadow, &mut random).await,
            1 | 9 | 10 => office.clock.advance(Span::from_nanos(random.i128(1..90_000_000_000))),
            _ => office.clock.advance(Span::days(random.u32(1..14))),
        }
        shadow.tick(office.now());
        let what = format!("seed {seed}, operation {number} ({kind})");
        let told = office.synced(&shadow.units[0].activated, None).await;
        shadow.assert(&told.facts, office.now(), &what);
        let differs = before.as_ref() != Some(&told.facts);
        assert!(
            last < told.sequence || (last == told.sequence && !differs),
            "{what}: {last} {}",
            told.sequence
        );
        (last, before) = (told.sequence, Some(told.facts));
    }
    no_drift(&office).await;
}

/// What is kept as totals, beside the same counted row by row.
async fn no_drift(office: &Office) {
    let sums = "SELECT (SELECT CAST(SUM(active_units) AS BIGINT) FROM subscriptions),
        (SELECT CAST(SUM(active_units) AS BIGINT) FROM licenses),
        (SELECT CAST(SUM(active_users) AS BIGINT) FROM subscriptions),
        (SELECT CAST(SUM(active_users) AS BIGINT) FROM installations),
        (SELECT COUNT(*) FROM installations)";
    let newest = "FROM units u WHERE state = 1 AND counted_at IS NOT NULL AND unit_id = (
        SELECT n.unit_id FROM units n WHERE n.installation = u.installation AND n.subscription_id = u.subscription_id
            AND n.state = 1 AND n.counted_at IS NOT NULL ORDER BY n.counted_at DESC, n.unit_id DESC LIMIT 1)";
    let counted = format!(
        "SELECT (SELECT COUNT(*) FROM units WHERE state = 1),
            (SELECT CAST(SUM(u.active_users) AS BIGINT) {newest}), (SELECT COUNT(*) {newest})"
    );
    let (kept, counted) = (office.numbers(sums).await, office.numbers(&counted).await);
    assert_eq!(kept, [counted[0], counted[0], counted[1], counted[1], counted[2]]);
}

async fn totals_do_not_drift_when_many_change_them_at_once(office: Office) {
    let with = api::NewLicense { seats: 10_000, sms_credits: Some(1_000), ..a_license() };
    let (license, key) = office.license(with).await;
    let (_, second) = office.license(a_license()).await;
    let writers = (0..6_u64).map(|writer| {
        let (office, key) = (&office, if writer % 2 == 0 { &key } else { &second });
        async move {
            let unit = office.activate("", key, &format!("device {writer}")).await.unwrap();
            let mut last = 0;
            for round in 0..12_u64 {
                office.clock.advance(Span::from_nanos(1));
                let installation = ["hq", "branch", ""][usize::try_from((writer + round) % 3).unwrap()];
                let mut usage = users(installation, writer * 100 + round, office.now()).unwrap();
                // Half of the IDs are those of another unit's SMS.
                let id = format!("sms {} {round}", writer / 2);
                usage.sms_sent.push(api::SmsSent { id, credits: 1 });
                let told = office.synced(&unit, Some(usage)).await;
                assert!(last <= told.sequence, "{last} {}", told.sequence);
                last = told.sequence;
                if round % 3 == 0 {
                    let short = office.activate("", key, "short").await.unwrap();
                    let usage = users("short", round, office.now());
                    let (_, results) =
                        join(office.synced(&short, usage), office.deactivate(&office.owner, &[&short.id]))
                            .await;
                    assert_eq!(results[0].refusal, 0);
                }
            }
            unit
        }
    });
    let units = join_all(writers).await;
    no_drift(&office).await;
    let told = office.synced(&units[0], None).await.facts;
    assert_eq!(told.sms_credits, Some(SmsCredits(1_000 - 6 * 12)));
    assert_eq!(
        office.seen(&office.owner, &license).await.unwrap().subscription.unwrap().users.unwrap().active,
        told.users.active.0
    );
    assert_eq!(office.numbers("SELECT COUNT(*) FROM units WHERE state = 1").await, [6]);
}

/// Each change needs one connection to the end, and no second one on the way.
#[tokio::test(flavor = "multi_thread")]
async fn more_changes_at_once_than_connections_all_go_through() {
    let office = Office::open_with(On::Postgres, |settings| settings.connections = 2).await;
    let (license, _) = office.license(a_license()).await;
    let changes = (1..=12).map(|seats| {
        let (office, license) = (&office, &license);
        async move {
            let new = api::NewLicense { seats, ..Default::default() };
            office.update(license, new, &["seats"]).await.map_err(|refused| reason(&refused))
        }
    });
    let done = join_all(changes).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let updates =
        office.entries(&office.owner).await.into_iter().filter(|entry| entry.action == "license.update");
    assert_eq!(updates.count(), 12);
    let request = api::ResumeLicenseRequest { request_id: unique(), license_id: license };
    office.licenses(&office.owner).resume_license(request).await.unwrap();
}
