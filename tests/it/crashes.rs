//! Signed facts on their way from verify to publish: a crash at any step leaves nothing older than was answered from,
//! and nothing unverified.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{self, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use esa_sidecar::{
    cache::{self, Cache},
    clock::ManualClock,
    config::{self, Config},
    domain::{Facts, Span, facts::ActiveUsers},
    proto::licensing,
    refresh::{
        Handle, Outcome, Refresher,
        persist::{IssuedTo, Step, Store},
    },
    signing::{SigningKeys, TrustedKeys},
    source::{Fetched, Proof, SourceError, Told},
    wire,
};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::sidecar::{ID, START, ScriptedSource, healthy};

/// Where the child keeps its facts, and at which step it ends; at none, it goes on until it is killed.
const CHILD_FOLDER: &str = "ESA_SIDECAR_TEST_CRASH_IN";
const CHILD_STEP: &str = "ESA_SIDECAR_TEST_CRASH_AT";

const STEPS: [Step; 7] =
    [Step::Taken, Step::Begun, Step::Written, Step::Synced, Step::Renamed, Step::Kept, Step::Published];

fn keys(folder: &Path) -> SigningKeys {
    SigningKeys::open(&folder.join("keys")).unwrap()
}

fn store(folder: &Path) -> Store {
    let trusted = TrustedKeys::of(keys(folder).public_keys()).unwrap();
    Store::open(folder.join("data"))
        .unwrap()
        .trusting(trusted, IssuedTo::these([("unit".to_owned(), ID.parse().unwrap())], None))
}

/// Facts number `sequence`, with as many active users, signed as many seconds after the start.
fn signed(keys: &SigningKeys, sequence: u64) -> Told {
    let issued_at = START + Span::from_nanos(i128::from(sequence) * Span::SECOND.nanos());
    let mut facts = healthy(ID);
    facts.users.active = ActiveUsers(sequence);
    let payload = licensing::SubscriptionFacts {
        sequence,
        issued_at: wire::timestamp(issued_at),
        nonce: vec![0; 16],
        unit_id: "unit".to_owned(),
        facts: Some((&facts).into()),
    };
    let signed = keys.sign(payload.encode_to_vec());
    Told { facts, proof: Some(Proof { signed, sequence, issued_at }) }
}

/// A refresher that runs until it is dropped with the runtime.
fn refreshing(source: &ScriptedSource, store: Store, timeout: Duration) -> (Arc<Cache>, Handle) {
    let at_most_every = Duration::from_millis(1);
    let settings =
        config::Refresh { timeout, at_most_every, ..Config::read(None, Vec::new()).unwrap().refresh };
    let (cache, writer) = cache::new();
    let clock = Arc::new(ManualClock::at(START));
    let (refresher, handle) = Refresher::start(source.clone(), writer, Some(store), clock, settings);
    tokio::spawn(refresher.run(CancellationToken::new()));
    (cache, handle)
}

const PATIENT: Duration = Duration::from_secs(30);

/// The number of the facts questions are answered from; 0 while there are none.
fn answered_from(cache: &Cache) -> u64 {
    cache.load(None).map_or(0, |held| held.facts.users.active.0)
}

fn kept(folder: &Path) -> Option<u64> {
    let kept = store(folder).load().unwrap()?;
    let proof = kept.records[0].told.proof.clone().unwrap();
    assert_eq!(kept.records[0].told, signed(&keys(folder), proof.sequence), "as it was signed");
    Some(proof.sequence)
}

#[tokio::test]
async fn a_crash_between_verify_and_publish_leaves_nothing_older_than_was_answered_from() {
    if let Some(folder) = env::var_os(CHILD_FOLDER) {
        answer_until_the_end(Path::new(&folder)).await;
    }
    for step in STEPS {
        let folder = tempfile::tempdir().unwrap();
        let mut child = child(folder.path(), &format!("{step:?}"));
        let answered = answers(&mut child).max().unwrap();
        assert!(!child.wait().unwrap().success(), "{step:?}: it was to crash");

        let reached_disk = [Step::Renamed, Step::Kept, Step::Published].contains(&step);
        let expected = if reached_disk { 2 } else { 1 };
        assert_eq!(kept(folder.path()), Some(expected), "{step:?}");
        assert!(answered <= expected, "{step:?}: answered from {answered}, kept {expected}");
        assert_eq!(answered, if step == Step::Published { 2 } else { 1 }, "{step:?}: first the disk");

        // The next start goes on from there, and takes nothing older.
        let source = ScriptedSource::unreachable();
        let (cache, handle) = refreshing(&source, store(folder.path()), PATIENT);
        assert_eq!(answered_from(&cache), expected, "{step:?}");
        source.script(Ok(Fetched::All(vec![signed(&keys(folder.path()), expected - 1)])));
        let refused = handle.refresh().await.unwrap();
        assert!(matches!(&refused, Outcome::Failed(why) if !why.is_retried()), "{step:?}: {refused:?}");
        assert_eq!(answered_from(&cache), expected, "{step:?}");
    }
}

#[test]
fn kill_9_of_a_sidecar_leaves_nothing_older_than_was_answered_from() {
    let loops = env::var("ESA_SIDECAR_KILL_LOOPS").map_or(50, |loops| loops.parse::<u64>().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..loops {
        let mut child = child(folder.path(), "none");
        let mut answers = answers(&mut child);
        let first = answers.find(|answered| last < *answered).expect("it goes on from the last");
        // Not a synchronisation: where the kill falls is left to chance on purpose.
        let until = std::time::Instant::now() + Duration::from_micros(round * 137 % 5_000);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let answered = answers.max().unwrap_or(first).max(first);
        let kept = kept(folder.path()).expect("old or new, never neither");
        assert!(answered <= kept, "round {round}: answered from {answered}, kept {kept}");
        last = kept;
    }
    println!("{loops} kills, {last} facts, none gone back on");
}

fn child(folder: &Path, step: &str) -> process::Child {
    let name = "crashes::a_crash_between_verify_and_publish_leaves_nothing_older_than_was_answered_from";
    Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD_FOLDER, folder)
        .env(CHILD_STEP, step)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the child's questions were answered from, until it ends.
fn answers(child: &mut process::Child) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.filter_map(|line| line.strip_prefix("answered from ")?.parse().ok())
}

/// The child: takes one telling after the other, asks at every step, and ends at the step it is told to, the second
/// time round.
async fn answer_until_the_end(folder: &Path) -> ! {
    let crash_at = env::var(CHILD_STEP).unwrap();
    let keys = keys(folder);
    let asked: Arc<std::sync::OnceLock<Arc<Cache>>> = Arc::default();
    let armed = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (asked, armed) = (Arc::clone(&asked), Arc::clone(&armed));
        move |step: Step| {
            let Some(cache) = asked.get() else { return };
            println!("answered from {}", answered_from(cache));
            if armed.load(Ordering::SeqCst) && format!("{step:?}") == crash_at {
                process::abort();
            }
        }
    };
    let source = ScriptedSource::unreachable();
    let (cache, handle) = refreshing(&source, store(folder).watched(watcher), PATIENT);
    let first = answered_from(&cache) + 1;
    assert!(asked.set(cache).is_ok());
    for sequence in first.. {
        source.script(Ok(Fetched::All(vec![signed(&keys, sequence)])));
        assert_eq!(handle.refresh().await, Ok(Outcome::Updated));
        armed.store(true, Ordering::SeqCst);
    }
    unreachable!("there are more numbers than time");
}

#[tokio::test]
async fn signed_facts_are_answered_from_though_the_disk_refuses_them() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let source = ScriptedSource::unreachable();
    let (cache, handle) = refreshing(&source, store(folder.path()), PATIENT);
    // A folder stands where the file is to go: nothing can be renamed over it.
    let facts = folder.path().join("data/facts.jsonl");
    fs::create_dir_all(facts.join("in the way")).unwrap();
    source.script(Ok(Fetched::All(vec![signed(&keys, 1)])));
    assert_eq!(handle.refresh().await, Ok(Outcome::Updated));
    assert_eq!(answered_from(&cache), 1);
    fs::remove_dir_all(&facts).unwrap();
    assert_eq!(handle.refresh().await, Ok(Outcome::Unchanged), "and it is tried again");
    assert!(facts.is_file());
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_nobody_from_being_answered_and_ends_with_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let begun = Arc::new(AtomicU32::new(0));
    let watcher = {
        let begun = Arc::clone(&begun);
        move |step: Step| {
            if step == Step::Begun && begun.fetch_add(1, Ordering::SeqCst) == 0 {
                may_go_on.lock().unwrap().recv().unwrap();
            }
        }
    };
    let source = ScriptedSource::unreachable();
    let hurried = Duration::from_millis(50);
    let (cache, handle) = refreshing(&source, store(folder.path()).watched(watcher), hurried);
    for sequence in 1..=3 {
        source.script(Ok(Fetched::All(vec![signed(&keys, sequence)])));
        assert_eq!(handle.refresh().await, Ok(Outcome::Updated));
        assert_eq!(answered_from(&cache), sequence);
        assert_eq!(begun.load(Ordering::SeqCst), 1, "one writes at a time");
    }
    go_on.send(()).unwrap();
    source.script(Ok(Fetched::All(vec![signed(&keys, 4)])));
    let newest = base64_of(&signed(&keys, 4));
    for _ in 0..1_000 {
        handle.refresh().await.unwrap();
        let facts = fs::read_to_string(folder.path().join("data/facts.jsonl")).unwrap_or_default();
        if facts.contains(&newest) {
            return;
        }
    }
    panic!("the newest never came to be kept");
}

fn base64_of(told: &Told) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(&told.proof.as_ref().unwrap().signed.payload)
}

#[tokio::test]
async fn facts_told_of_one_subscription_leave_the_others_as_they_were_and_the_failure_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let unsigned: Facts = healthy("AAA-AAA-AAA");
    let source = ScriptedSource::unreachable();
    let (cache, handle) = refreshing(&source, store(folder.path()), PATIENT);
    source.script(Ok(Fetched::All(vec![signed(&keys, 1), unsigned.into()])));
    handle.refresh().await.unwrap();
    let failure = SourceError::Unreachable("the backend is away".to_owned());
    let told = vec![signed(&keys, 2)];
    source.script(Ok(Fetched::Some { told, failure: Some(failure.clone()) }));
    assert_eq!(handle.refresh().await, Ok(Outcome::Failed(failure.clone())));
    assert_eq!(handle.failure(), Some(failure));
    assert_eq!(cache.load(Some(&ID.parse().unwrap())).unwrap().facts.users.active, ActiveUsers(2));
    assert_eq!(cache.subscription_ids().len(), 2, "what was told of the other stands");
}
