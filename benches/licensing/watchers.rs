//! Units that watch, each with a token of its own, over few connections: how soon they hear of a change that was
//! acknowledged, and what the backend's memory holds for each.
//!
//! They stand for as many machines. So that their work is not taken for the backend's, what arrives is noted with its
//! time, and every signature is verified once the round is over. Not here: what a unit does with what it hears.

use std::time::{Duration, Instant};

use esa_sidecar::{
    proto::licensing::{DeactivateUnitsRequest, SignedFacts, WatchRequest},
    signing::{Expected, TrustedKeys},
};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tonic::transport::Channel;

use super::{
    fill::{Shape, fill, secret, secrets, unit_id},
    office::{self, Office},
    report::{Report, Times, shown},
};

/// Within which a change is heard of.
const HEARD: Duration = Duration::from_secs(1);

/// Watches on one connection.
const ON_A_CONNECTION: i64 = 100;

/// How long it takes until a round is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one watcher heard, and when.
struct Heard {
    number: i64,
    at: Instant,
    facts: SignedFacts,
}

/// Everybody who watches.
struct Watchers {
    trusted: TrustedKeys,
    heard: UnboundedReceiver<Heard>,
}

pub(crate) async fn measure(office: &Office, report: &mut Report, place: &str, shape: Shape) {
    let licenses = fill(office, shape).await;
    secrets(&office.database, shape.units).await;
    office.resize(licenses.first().unwrap(), 150_000_000).await;
    let before = office.resident_kibibytes();
    let began = Instant::now();
    let mut watchers = Watchers::open(office, shape.units).await;
    report.note(place, "all watch, and have heard the facts as they are", shown(began.elapsed()));
    let each = (office.resident_kibibytes() - before) / shape.units;
    if shape.products == 1 {
        watchers.all_hear(office, report, place, shape, licenses.first().unwrap()).await;
        watchers.one_unit_hears(office, report, place).await;
    } else {
        watchers.one_subscription_hears(office, report, place, &licenses).await;
    }
    let after = (office.resident_kibibytes() - before) / shape.units;
    report.note(
        place,
        "memory of the backend for each watcher",
        format!("{each} KiB, {after} KiB after the changes"),
    );
}

impl Watchers {
    async fn open(office: &Office, units: i64) -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        let mut watchers = Self { trusted: office.trusted(), heard };
        for first in (0..units).step_by(usize::try_from(ON_A_CONNECTION).unwrap()) {
            let channel = office.connect().await;
            let here = first..units.min(first + ON_A_CONNECTION);
            let count = here.end - here.start;
            for number in here {
                tokio::spawn(watch(channel.clone(), number, tell.clone()));
            }
            watchers.next(count).await;
        }
        watchers
    }

    /// What the next `count` of them hear, verified.
    async fn next(&mut self, count: i64) -> Vec<Heard> {
        let mut all = Vec::new();
        for _ in 0..count {
            let heard = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
            all.push(heard.unwrap_or_else(|_| unheard(count, all.len())).unwrap());
        }
        for Heard { number, facts, .. } in &all {
            let (unit_id, nonce) = (unit_id(*number), nonce(*number));
            let expected = Expected { nonce: &nonce, unit_id: &unit_id, subscription_id: None, held: None };
            self.trusted.verify(facts).unwrap().check(&expected).unwrap();
        }
        all
    }

    /// The licence of all of them changes.
    async fn all_hear(
        &mut self,
        office: &Office,
        report: &mut Report,
        place: &str,
        shape: Shape,
        license_id: &str,
    ) {
        let (mut all, mut last) = (Vec::new(), Vec::new());
        for round in 0..11 {
            office.resize(license_id, 1_000_000 + round).await;
            let acknowledged = Instant::now();
            let heard = self.next(shape.units).await;
            let times = heard.iter().map(|heard| heard.at.saturating_duration_since(acknowledged));
            let times = times.collect::<Vec<_>>();
            last.extend(times.iter().max());
            all.extend(times);
        }
        report.promise(place, "a change of all: until the last has heard, 11 times", HEARD, &Times::of(last));
        let all = Times::of(all);
        let told = [50, 99, 100].map(|percent| shown(all.percentile(percent))).join(" / ");
        report.note(place, "the same for each: p50 / p99 / max", told);
    }

    /// One unit is deactivated, which concerns no other.
    async fn one_unit_hears(&mut self, office: &Office, report: &mut Report, place: &str) {
        let mut times = Vec::new();
        for number in (0..20).map(|round| round * 2 + 1) {
            let request = DeactivateUnitsRequest {
                request_id: format!("unit {number}"),
                unit_ids: vec![unit_id(number)],
            };
            office.units().deactivate_units(request).await.unwrap();
            times.push(self.alone(number).await);
        }
        report.promise(place, "one is deactivated: until it has heard", HEARD, &Times::of(times));
    }

    /// One of many subscriptions changes, which concerns the unit of no other.
    async fn one_subscription_hears(
        &mut self,
        office: &Office,
        report: &mut Report,
        place: &str,
        licenses: &[String],
    ) {
        // Units are dealt to licences in the order of their IDs.
        let mut sorted = licenses.to_vec();
        sorted.sort();
        let mut times = Vec::new();
        for (number, license_id) in sorted.iter().enumerate().step_by(sorted.len().div_ceil(200)) {
            office.resize(license_id, 1_000_000).await;
            times.push(self.alone(i64::try_from(number).unwrap()).await);
        }
        let times = Times::of(times);
        let told = [50, 99, 100].map(|percent| shown(times.percentile(percent))).join(" / ");
        report.promise(place, "one subscription changes: until its unit has heard", HEARD, &times);
        report.note(place, "the same: p50 / p99 / max", told);
    }

    /// How long after now unit `number` hears of a change, and nobody else does.
    async fn alone(&mut self, number: i64) -> Duration {
        let acknowledged = Instant::now();
        let heard = self.next(1).await;
        assert!(heard.iter().all(|heard| heard.number == number), "another unit than {number} heard");
        assert!(self.heard.is_empty(), "others than unit {number} heard");
        heard.first().unwrap().at.saturating_duration_since(acknowledged)
    }
}

#[expect(clippy::panic, reason = "a benchmark that cannot go on stops")]
fn unheard<T>(count: i64, heard: usize) -> T {
    panic!("of {count} watchers only {heard} heard within {PATIENCE:?}")
}

fn nonce(number: i64) -> Vec<u8> {
    [number.to_be_bytes(), number.to_le_bytes()].concat()
}

async fn watch(channel: Channel, number: i64, tell: UnboundedSender<Heard>) {
    let mut client = office::unit(&channel, &unit_id(number), &secret(number));
    let request = WatchRequest { unit_id: unit_id(number), nonce: nonce(number) };
    let mut stream = client.watch(request).await.unwrap().into_inner();
    while let Ok(Some(told)) = stream.message().await {
        let heard = Heard { number, at: Instant::now(), facts: told.facts.unwrap() };
        if tell.send(heard).is_err() {
            return;
        }
    }
}
