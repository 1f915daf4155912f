//! The last facts on disk: a restart goes on from them, and no crash leaves the folder without old or new.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use esa_sidecar::{
    cache,
    clock::ManualClock,
    domain::{Facts, facts::ActiveUsers},
    proto::enforcement as api,
    refresh::{
        Refresher,
        persist::{PersistError, Persisted, PersistedRecord, Store},
    },
    source::Fetched,
};
use tokio_util::sync::CancellationToken;

use crate::sidecar::{ID, START, ScriptedSource, Sidecar, config, days, healthy, question};

#[tokio::test]
async fn a_restart_without_the_source_goes_on_from_the_last_facts() {
    let folder = tempfile::tempdir().unwrap();
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let mut sidecar = Sidecar::start_with(source.clone(), Some(folder.path()), "").await.ready().await;
    source.tell(vec![Facts { sms_credits: None, ..healthy(ID) }]);
    sidecar.refresh().await;
    sidecar.stop().await;

    let away = ScriptedSource::unreachable();
    let mut sidecar = Sidecar::start_with(away.clone(), Some(folder.path()), "").await.ready().await;
    sidecar.clock.set((START + days(1)).next());
    let subscription = sidecar.subscription(ID).await;
    let provenance = subscription.provenance.unwrap();
    assert_eq!(provenance.origin(), api::Origin::Persisted);
    assert_eq!((provenance.revision, provenance.stale), (2, true));
    assert_eq!(subscription.usage.unwrap().sms_credits, None);

    // The source comes back with the same facts: same number, live, fresh.
    away.script(Ok(Fetched::unsigned([Facts { sms_credits: None, ..healthy(ID) }])));
    assert_eq!(sidecar.refresh().await.outcome(), api::RefreshOutcome::Unchanged);
    let provenance = sidecar.subscription(ID).await.provenance.unwrap();
    assert_eq!((provenance.origin(), provenance.revision, provenance.stale), (api::Origin::Live, 2, false));
    sidecar.stop().await;
}

#[tokio::test]
async fn an_overuse_nobody_dates_keeps_its_beginning_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut overused = healthy(ID);
    overused.users.active = ActiveUsers(105);
    let sidecar = Sidecar::start_with(ScriptedSource::telling(vec![overused]), Some(folder.path()), "")
        .await
        .ready()
        .await;
    sidecar.stop().await;
    let mut sidecar =
        Sidecar::start_with(ScriptedSource::unreachable(), Some(folder.path()), "").await.ready().await;
    for (instant, access) in
        [(START + days(7), api::Access::Allowed), ((START + days(7)).next(), api::Access::Disabled)]
    {
        sidecar.clock.set(instant);
        let answer = sidecar.authorize(question(api::Operation::EnableUsers)).await.unwrap();
        assert_eq!(answer.access(), access);
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn facts_of_another_source_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_owned()).unwrap();
    store.save(&Persisted { source: "file /elsewhere.json".to_owned(), ..persisted(7) }).unwrap();
    drop(store);
    let source = ScriptedSource::unreachable();
    let mut sidecar = Sidecar::start_with(source.clone(), Some(folder.path()), "").await;
    assert!(sidecar.authorize(question(api::Operation::EnableUsers)).await.is_err());
    source.tell(vec![healthy(ID)]);
    let mut sidecar = sidecar.ready().await;
    assert_eq!(sidecar.subscription(ID).await.provenance.unwrap().revision, 8, "its numbering is carried on");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_disk_that_refuses_keeps_nobody_from_being_answered_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let data = folder.path().join("data");
    let store = Store::open(data.clone()).unwrap();
    drop(store);
    let sidecar = Sidecar::start_with(source.clone(), Some(&data), "").await;
    // A folder stands where the file is to go: nothing can be renamed over it.
    let mut sidecar = sidecar.ready().await;
    let facts = data.join("facts.jsonl");
    sidecar.refresh().await;
    fs::remove_file(&facts).unwrap();
    fs::create_dir_all(facts.join("in the way")).unwrap();
    source.tell(vec![Facts { sms_credits: None, ..healthy(ID) }]);
    sidecar.refresh().await;
    assert_eq!(sidecar.subscription(ID).await.provenance.unwrap().revision, 2);
    fs::remove_dir_all(&facts).unwrap();
    assert_eq!(sidecar.refresh().await.outcome(), api::RefreshOutcome::Unchanged);
    sidecar.stop().await;
    let kept = Store::open(data).unwrap().load().unwrap().unwrap();
    assert_eq!(kept.revision, 2);
}

#[test]
fn a_data_folder_is_held_by_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let _held = Store::open(folder.path().to_owned()).unwrap();
    assert!(matches!(Store::open(folder.path().to_owned()), Err(PersistError::InUse(_))));
}

#[tokio::test]
async fn a_data_folder_is_held_for_as_long_as_usage_may_be_reported() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(folder.path().to_owned());
    let (_, writer) = cache::new();
    let (clock, settings) = (Arc::new(ManualClock::at(START)), config("").refresh);
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let (refresher, handle) = Refresher::start(source, writer, Some(open().unwrap()), clock, settings);
    let stop = CancellationToken::new();
    stop.cancel();
    refresher.run(stop).await;
    assert!(matches!(open(), Err(PersistError::InUse(_))), "calls may still come to be answered");
    drop(handle);
    open().unwrap();
}

/// Loops of kill -9; `ESA_SIDECAR_KILL_LOOPS` asks for more.
const KILL_LOOPS: u32 = 200;

/// What the child is told to write to.
const CHILD_FOLDER: &str = "ESA_SIDECAR_TEST_PERSIST_TO";

fn persisted(revision: u64) -> Persisted {
    let records = (0..20).map(|number| PersistedRecord {
        told: healthy(&format!("AAA-AAA-A{number:02}")).into(),
        as_of: START,
        revision,
        overuse_seen: None,
    });
    Persisted { source: "scripted".to_owned(), revision, records: records.collect() }
}

#[test]
fn kill_9_at_any_instant_leaves_the_old_facts_or_the_new() {
    if let Some(folder) = env::var_os(CHILD_FOLDER) {
        persist_for_ever(Path::new(&folder));
    }
    let loops = env::var("ESA_SIDECAR_KILL_LOOPS").map_or(KILL_LOOPS, |loops| loops.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..loops {
        let acknowledged =
            kill_while_persisting(folder.path(), Duration::from_micros(u64::from(round) * 37 % 3_000));
        let store = Store::open(folder.path().to_owned()).unwrap();
        let kept = store.load().unwrap().expect("old or new, never neither");
        assert!(
            acknowledged <= kept.revision,
            "round {round}: {acknowledged} was acknowledged, {} is there",
            kept.revision
        );
        assert!(last <= kept.revision, "round {round}: went back from {last} to {}", kept.revision);
        assert_eq!(kept, persisted(kept.revision), "round {round}: mixed");
        last = kept.revision;
    }
    println!("{loops} kills, {last} writes, none lost");
}

/// Runs a child that persists as fast as it can, kills it a little after its first acknowledgement; the last number
/// it acknowledged.
fn kill_while_persisting(folder: &Path, after: Duration) -> u64 {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "persistence::kill_9_at_any_instant_leaves_the_old_facts_or_the_new",
            "--nocapture",
        ])
        .env(CHILD_FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first = lines.by_ref().find_map(|line| acknowledged(&line)).expect("the child persists");
    // Not a synchronisation: where in a write the kill falls is left to chance on purpose.
    let until = std::time::Instant::now() + after;
    while std::time::Instant::now() < until {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lines.filter_map(|line| acknowledged(&line)).last().unwrap_or(first)
}

fn acknowledged(line: &str) -> Option<u64> {
    line.strip_prefix("persisted ")?.parse().ok()
}

fn persist_for_ever(folder: &Path) -> ! {
    let store = Store::open(folder.to_owned()).unwrap();
    let mut revision = store.load().unwrap().map_or(0, |kept| kept.revision);
    loop {
        revision += 1;
        store.save(&persisted(revision)).unwrap();
        println!("persisted {revision}");
    }
}
