//! The cache: readers never wait for the writer, and never see less than what was published.

use std::{sync::mpsc, thread};

use esa_sidecar::{
    cache::{self, Missing, Snapshot},
    domain::Timeline,
    source::Origin,
};

use crate::sidecar::{START, healthy};

fn snapshot(id: &str, revision: u64) -> Snapshot {
    let facts = healthy(id);
    Snapshot { timeline: Timeline::of(&facts), facts, as_of: START, revision, origin: Origin::Live }
}

#[test]
fn readers_go_on_while_a_writer_is_stopped_mid_update() {
    let (cache, mut writer) = cache::new();
    let (one, other) = ("AAA-AAA-AAA", "BBB-BBB-BBB");
    writer.replace_all([snapshot(one, 1), snapshot(other, 1)]);
    let (stopped, is_stopped) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let update = thread::spawn(move || {
        // The second snapshot comes only when it is let go: the writer stands in the middle of its update.
        let second = std::iter::from_fn(|| {
            stopped.send(()).unwrap();
            may_go_on.recv().unwrap();
            Some(snapshot(other, 2))
        });
        writer.replace_all([snapshot(one, 2)].into_iter().chain(second.take(1)));
    });
    is_stopped.recv().unwrap();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let cache = cache.clone();
            thread::spawn(move || {
                for _ in 0..50_000 {
                    assert_eq!(cache.load(Some(&one.parse().unwrap())).unwrap().revision, 2);
                    assert_eq!(cache.load(Some(&other.parse().unwrap())).unwrap().revision, 1);
                }
            })
        })
        .collect();
    // They all come to an end while the writer stands still.
    for reader in readers {
        reader.join().unwrap();
    }
    go_on.send(()).unwrap();
    update.join().unwrap();
    assert_eq!(cache.load(Some(&other.parse().unwrap())).unwrap().revision, 2);
}

#[test]
fn a_question_that_names_none_is_answered_while_one_is_held() {
    let (cache, mut writer) = cache::new();
    assert_eq!(cache.load(None).err(), Some(Missing::NoFacts));
    writer.replace_all([snapshot("AAA-AAA-AAA", 1)]);
    assert_eq!(cache.load(None).unwrap().revision, 1);
    writer.replace_all([snapshot("AAA-AAA-AAA", 2), snapshot("BBB-BBB-BBB", 2)]);
    assert_eq!(cache.load(None).err(), Some(Missing::Ambiguous { held: 2 }));
    writer.replace_all([snapshot("BBB-BBB-BBB", 3)]);
    assert_eq!(cache.load(None).unwrap().facts.subscription_id.as_str(), "BBB-BBB-BBB");
}

/// The order of publication as a model, every interleaving tried: a snapshot is filled, its place is pointed at it,
/// and only then is the sidecar called ready. Whoever sees ready finds a place, and whatever a place points at is
/// whole. `arc_swap` swaps the pointer with the same orderings.
#[test]
fn whoever_sees_ready_finds_a_whole_snapshot() {
    use loom::sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    };
    const EMPTY: usize = usize::MAX;
    loom::model(|| {
        let snapshots: Arc<[[AtomicUsize; 2]; 2]> =
            Arc::new(std::array::from_fn(|_| std::array::from_fn(|_| AtomicUsize::new(0))));
        let place = Arc::new(AtomicUsize::new(EMPTY));
        let ready = Arc::new(AtomicBool::new(false));
        let writer = {
            let (snapshots, place, ready) = (snapshots.clone(), place.clone(), ready.clone());
            loom::thread::spawn(move || {
                for (at, snapshot) in snapshots.iter().enumerate() {
                    for field in snapshot {
                        field.store(at + 1, Relaxed);
                    }
                    place.store(at, Release);
                    ready.store(true, Release);
                }
            })
        };
        let was_ready = ready.load(Acquire);
        let at = place.load(Acquire);
        assert!(!was_ready || at != EMPTY, "ready before anything was published");
        if at != EMPTY {
            let [one, other] = &snapshots[at];
            assert_eq!((one.load(Relaxed), other.load(Relaxed)), (at + 1, at + 1), "a snapshot in pieces");
        }
        writer.join().unwrap();
    });
}
