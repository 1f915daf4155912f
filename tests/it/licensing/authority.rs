//! What makes replicas one authority: a clock that was ahead does not keep facts out, and one key signs.

use std::{fs, path::Path, sync::Arc, time::Duration};

use esa_sidecar::{
    clock::ManualClock,
    config::{self, Config},
    domain::{Facts, Span},
    licensing::{
        Anew, Backend, OpenError, Opened,
        store::{Database, Store},
    },
    proto::licensing as api,
    signing::{SigningKeys, TrustedKeys, VerifiedFacts},
};
use tokio::{task::yield_now, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    office::{Activated, Office, On, a_license, new_database, timestamp, users},
    on_both_databases,
};
use crate::sidecar::START;

on_both_databases!(facts_signed_by_a_clock_far_ahead_keep_nothing_out_once_it_is_set_right);

/// Long enough for a slow machine; a test that waits for it fails.
const SOON: Duration = Duration::from_secs(20);

async fn soon(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let until = async {
        while !is_so().await {
            yield_now().await;
        }
    };
    timeout(SOON, until).await.unwrap_or_else(|_| panic!("{what}"));
}

struct Watch {
    stream: tonic::Streaming<api::WatchResponse>,
    keys: TrustedKeys,
}

impl Watch {
    async fn of(office: &Office, unit: &Activated) -> Self {
        let request = api::WatchRequest { unit_id: unit.id.clone(), nonce: vec![7; 16] };
        let stream = office.sync(&unit.token).watch(request).await.unwrap().into_inner();
        Self { stream, keys: TrustedKeys::of(office.keys.public_keys()).unwrap() }
    }

    /// The first it is told that is later than `before` and as it is wanted.
    async fn told(&mut self, before: u64, wanted: impl Fn(&Facts) -> bool) -> VerifiedFacts {
        let told = async {
            loop {
                let told = self.stream.message().await.unwrap().unwrap().facts.unwrap();
                let told = self.keys.verify(&told).unwrap();
                if before < told.sequence && wanted(&told.facts) {
                    break told;
                }
            }
        };
        timeout(SOON, told).await.expect("a sidecar that watches is told of it")
    }
}

async fn facts_signed_by_a_clock_far_ahead_keep_nothing_out_once_it_is_set_right(office: Office) {
    let of_product = |product: &str| api::NewLicense { product: product.to_owned(), ..a_license() };
    let (_, key) = office.license(a_license()).await;
    let expires_at = timestamp(START + Span::days(10));
    office.license(api::NewLicense { expires_at, ..a_license() }).await;
    let (_, idle) = office.license(of_product("idle")).await;
    let (_, over) = office.license(api::NewLicense { seats: 5, ..of_product("over") }).await;
    let [unit, idle, over] = [
        office.activate("", &key, "one").await.unwrap(),
        office.activate("", &idle, "two").await.unwrap(),
        office.activate("", &over, "three").await.unwrap(),
    ];
    let mut watches =
        [Watch::of(&office, &unit).await, Watch::of(&office, &idle).await, Watch::of(&office, &over).await];
    office.clock.set(START + Span::days(30));
    let ahead = [
        office.synced(&unit, None).await,
        office.synced(&idle, None).await,
        office.synced(&over, users("", 6, office.now())).await,
    ];
    assert_eq!(ahead[0].facts.users.licensed.0, 100, "one licence had ended");
    assert_eq!(ahead[2].facts.users.overused_since, Some(office.now()));

    office.clock.set(START + Span::SECOND);
    let now = office.now();
    let told = watches[0].told(ahead[0].sequence, |facts| facts.users.licensed.0 == 200).await;
    assert_eq!(told.issued_at, now);
    let told = watches[1].told(ahead[1].sequence, |facts| *facts == ahead[1].facts).await;
    assert_eq!(told.issued_at, now, "though nothing has changed but the number");
    let told = watches[2].told(ahead[2].sequence, |facts| facts.users.overused_since == Some(now)).await;
    let synced = office.synced(&over, None).await;
    assert!(told.sequence <= synced.sequence, "{} {}", told.sequence, synced.sequence);
}

/// As after a restart, or at a fail-over: the one that signs next knows it from the database.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_comes_after_one_whose_clock_was_ahead_raises_the_numbers() {
    let office = Office::open(On::Sqlite).await;
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    office.clock.set(START + Span::days(30));
    let ahead = office.synced(&unit, None).await;
    let noted = format!("SELECT COUNT(*) FROM authority WHERE signed_at = {}", ahead.issued_at.unix_nanos());
    soon("it is not noted", async || office.numbers(&noted).await == [1]).await;
    office.stop();
    let store = Store::open(office.database.clone(), 2).await.unwrap();
    let (clock, stop) = (Arc::new(ManualClock::at(START)), CancellationToken::new());
    let settings = Config::read(None, Vec::new()).unwrap().backend;
    let next = Backend::new(store, clock, Arc::clone(&office.keys), settings, stop.clone());
    let running = tokio::spawn(next.run());
    let raised = format!("SELECT COUNT(*) FROM subscriptions WHERE {} < sequence", ahead.sequence);
    soon("the numbers are not raised", async || office.numbers(&raised).await == [1]).await;
    stop.cancel();
    running.await.unwrap();
}

async fn open(data_dir: &Path, database: &str, key: bool) -> Result<Opened, OpenError> {
    let settings = Config::read(None, Vec::new()).unwrap().backend;
    let settings = config::Backend { database: Some(database.parse().unwrap()), connections: 2, ..settings };
    let (clock, stop) = (Arc::new(ManualClock::at(START)), CancellationToken::new());
    Opened::at(data_dir, settings, clock, stop, Anew { key, ..Anew::default() }).await
}

/// The key that signs once it is open, or else the key that is missing.
async fn signs(data_dir: &Path, database: &str) -> Result<String, String> {
    match open(data_dir, database, false).await {
        Ok(opened) => {
            opened.backend.close().await;
            Ok(opened.backend.keys().key_id())
        }
        Err(OpenError::OtherKey(missing, _)) => Err(missing),
        Err(error) => panic!("{error}"),
    }
}

fn copy(from: &Path, to: &Path) {
    let (from, to) = (SigningKeys::folder_in(from), SigningKeys::folder_in(to));
    fs::create_dir_all(&to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_starts_with_the_key_that_signs_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("licensing.db").display().to_string();
    for (number, database) in [file, new_database("").await].into_iter().enumerate() {
        let of = |name: &str| folder.path().join(format!("{name} {number}"));
        let (one, two, old) = (of("one"), of("two"), of("old"));
        let first = signs(&one, &database).await.unwrap();
        assert_eq!(signs(&two, &database).await, Err(first.clone()));
        assert!(!SigningKeys::folder_in(&two).exists(), "no key of its own that sidecars refuse");
        copy(&one, &two);
        copy(&one, &old);
        assert_eq!(signs(&two, &database).await, Ok(first.clone()));

        let keys = || SigningKeys::open_existing(&SigningKeys::folder_in(&one)).unwrap();
        keys().prepare().unwrap();
        copy(&one, &two);
        keys().switch().unwrap();
        let second = signs(&one, &database).await.unwrap();
        assert_ne!(first, second);
        assert_eq!(signs(&two, &database).await, Ok(first.clone()), "it has the next key, and is behind");
        assert_eq!(signs(&one, &database).await, Ok(second.clone()), "who is behind takes nothing back");
        assert_eq!(signs(&old, &database).await, Err(second.clone()), "it has never seen the next key");
        keys().retire().unwrap();
        // A whole rotation while nobody runs.
        keys().prepare().unwrap();
        keys().switch().unwrap();
        keys().retire().unwrap();
        let third = signs(&one, &database).await.unwrap();
        assert_eq!(signs(&two, &database).await, Err(third));
        let replaced = open(&two, &database, true).await.unwrap();
        replaced.backend.close().await;
        drop(replaced);
        assert_eq!(signs(&two, &database).await, Ok(first.clone()), "it was asked to");
        assert_eq!(signs(&one, &database).await, Ok(keys().key_id()), "it knows that one from before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_switched_to_while_a_backend_runs_is_the_one_that_signs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("licensing.db");
    let opened = open(folder.path(), &path.display().to_string(), false).await.unwrap();
    let office = Database::Sqlite(path);
    let store = Store::open(office, 1).await.unwrap();
    let running = tokio::spawn(opened.backend.clone().run());
    let keys = SigningKeys::open_existing(&SigningKeys::folder_in(folder.path())).unwrap();
    keys.prepare().unwrap();
    keys.switch().unwrap();
    let kept = async || -> String {
        sqlx::query_scalar("SELECT key_id FROM authority").fetch_one(store.reads()).await.unwrap()
    };
    soon("it is not kept", async || kept().await == keys.key_id()).await;
    running.abort();
}
