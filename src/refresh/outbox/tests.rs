//! Nothing that was reported is lost, and nothing counts twice.

use futures_util::FutureExt as _;

use super::*;
use crate::{
    source::usage::{CountKind, Counts, MOST_SMS, Usage},
    wire::usage::Count,
};

const DELAY: UsageDelay = UsageDelay { counts: Duration::from_millis(200), sms: Duration::from_mins(1) };

fn id() -> SubscriptionId {
    "3A8-WN7-7TD".parse().unwrap()
}

fn sms(ids: &[&str]) -> Report {
    let sms = ids.iter().map(|id| SmsSent::new(id, 2).unwrap()).collect();
    Report { id: id(), counted: None, sms, delay: Some(DELAY) }
}

fn counts(active_users: Option<u64>, all_users: Option<u64>, second: i64) -> Report {
    let count = |count: Option<u64>| count.map(|count| Count::new(count).unwrap());
    let counts = Counts { active_users: count(active_users), all_users: count(all_users), components: None };
    let counted = Some(Counted { counts, at: Instant::from_unix_seconds(second) });
    Report { id: id(), counted, sms: Vec::new(), delay: Some(DELAY) }
}

fn nobody_takes(report: Report) -> Report {
    Report { delay: None, ..report }
}

const fn reported(counted: u32, repeated: u32) -> Result<Reported, NotKept> {
    Ok(Reported { counted, repeated })
}

const fn remembering(remembered: usize) -> Bounds {
    Bounds { remembered, waiting: 10_000 }
}

fn handed(outbox: &Outbox) -> Usage {
    outbox.hand_over().remove(&id()).unwrap_or_default()
}

fn ids(usage: &Usage) -> Vec<&str> {
    usage.sms.iter().map(|sms| sms.id.as_str()).collect()
}

/// All that was handed over was taken.
fn taken(outbox: &Outbox) {
    answered(outbox, [], []);
}

/// What was handed over was taken but for these.
fn answered<const N: usize, const M: usize>(
    outbox: &Outbox,
    counts: [(CountKind, NotTaken); N],
    sms: [(usize, NotTaken); M],
) {
    let answer = UsageAnswer { counts: counts.into(), sms: sms.into() };
    outbox.take(id(), &answer, Instant::from_unix_seconds(9));
}

fn refused() -> NotTaken {
    NotTaken::Refused("not\nthis".to_owned())
}

#[tokio::test]
async fn what_was_reported_outlives_the_process_until_it_is_taken_and_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Outbox::open(folder.path().to_owned(), remembering(10));
    let outbox = open();
    assert_eq!(outbox.report(sms(&["a", "b", "a"])).await, reported(2, 1));
    assert_eq!(outbox.report(counts(Some(5), Some(9), 1)).await, reported(0, 0));
    assert_eq!(outbox.report(counts(Some(6), None, 2)).await, reported(0, 0));
    // Nothing is told to the outbox at the end: as after a kill.
    let outbox = open();
    let usage = handed(&outbox);
    assert_eq!(ids(&usage), ["a", "b"]);
    assert_eq!(usage.counts, counts(Some(6), Some(9), 2).counted);
    assert_eq!(outbox.report(sms(&["b", "c"])).await, reported(1, 1));
    assert_eq!(outbox.unknown_to_source(id()), 6);

    taken(&outbox);
    assert_eq!(outbox.unknown_to_source(id()), 2, "what came after it was handed over is not taken");
    outbox.settle().await;
    let outbox = open();
    let usage = handed(&outbox);
    assert_eq!((ids(&usage), usage.counts), (vec!["c"], None));
    assert_eq!(outbox.unknown_to_source(id()), 2);
    assert_eq!(outbox.report(sms(&["a", "b", "c"])).await, reported(0, 3), "taken, and counted all the same");
}

#[tokio::test]
async fn what_was_taken_and_not_settled_is_handed_over_once_more_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path().to_owned(), remembering(10));
    outbox.report(sms(&["a"])).await.unwrap();
    assert_eq!(ids(&handed(&outbox)), ["a"]);
    taken(&outbox);
    assert!(ids(&handed(&outbox)).is_empty(), "not while this process knows");
    assert_eq!(ids(&handed(&Outbox::open(folder.path().to_owned(), remembering(10)))), ["a"]);
}

#[tokio::test]
async fn no_more_sms_than_a_sync_takes_are_handed_over_and_the_rest_follows_at_once() {
    let outbox = Outbox::in_memory(remembering(10));
    let many: Vec<String> = (0..MOST_SMS + 1).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    outbox.report(sms(&many)).await.unwrap();
    assert_eq!(handed(&outbox).sms.len(), MOST_SMS);
    assert!(outbox.has_more(id()));
    taken(&outbox);
    assert_eq!(ids(&handed(&outbox)), ["1000"]);
    outbox.settle().await;
    assert_eq!(ids(&handed(&outbox)), ["1000"]);
    taken(&outbox);
    assert!(!outbox.has_more(id()));
    assert_eq!(outbox.unknown_to_source(id()), 0);
}

#[tokio::test]
async fn where_nobody_takes_usage_sms_stay_spent_until_the_source_tells_another_number() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Outbox::open(folder.path().to_owned(), remembering(10));
    let outbox = open();
    assert_eq!(outbox.report(nobody_takes(sms(&["a"]))).await, reported(1, 0));
    assert_eq!(outbox.report(nobody_takes(counts(Some(1), None, 1))).await, reported(0, 0));
    let outbox = open();
    assert_eq!(outbox.report(nobody_takes(sms(&["a", "b"]))).await, reported(1, 1));
    assert_eq!(outbox.unknown_to_source(id()), 4);
    assert!(outbox.hand_over().is_empty());
    outbox.forget_spent(id());
    assert_eq!(outbox.unknown_to_source(id()), 0);
    outbox.settle().await;
    let outbox = open();
    assert_eq!(outbox.unknown_to_source(id()), 0);
    assert_eq!(outbox.report(nobody_takes(sms(&["a", "b"]))).await, reported(0, 2));
}

#[tokio::test]
async fn ids_are_remembered_as_many_as_configured_and_all_that_nobody_has_taken() {
    let outbox = Outbox::in_memory(remembering(2));
    outbox.report(sms(&["a", "b", "c"])).await.unwrap();
    assert_eq!(outbox.report(sms(&["a", "b", "c"])).await, reported(0, 3));
    let _ = outbox.hand_over();
    taken(&outbox);
    outbox.settle().await;
    assert_eq!(outbox.report(sms(&["b", "c"])).await, reported(0, 2));
    assert_eq!(outbox.report(sms(&["a"])).await, reported(1, 0), "forgotten, so it counts again");
}

#[tokio::test]
async fn reports_that_come_together_are_all_answered_and_count_each_id_once() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path().to_owned(), remembering(1_000));
    let reports = (0..100).map(|number| {
        let outbox = outbox.clone();
        tokio::spawn(async move { outbox.report(sms(&[&(number / 2).to_string()])).await.unwrap() })
    });
    let (mut counted, mut repeated) = (0, 0);
    for report in reports.collect::<Vec<_>>() {
        let reported = report.await.unwrap();
        counted += reported.counted;
        repeated += reported.repeated;
    }
    assert_eq!((counted, repeated), (50, 50));
    assert_eq!(Outbox::open(folder.path().to_owned(), remembering(10)).unknown_to_source(id()), 100);
}

/// Nobody was told that it is kept, and whoever takes reports back by the thousand fills no memory.
#[tokio::test]
async fn a_report_that_is_taken_back_before_it_is_written_keeps_no_room_and_does_not_count() {
    let outbox = Outbox::in_memory(remembering(100));
    let disk = Arc::clone(&outbox.0.medium).lock_owned().await;
    for number in 0..10_000 {
        let taken_back = outbox.report(sms(&[&number.to_string()]));
        assert!(taken_back.now_or_never().is_none());
    }
    assert!(outbox.0.waiting().capacity() < 100);
    let kept = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.report(sms(&["kept"])).await }
    });
    while outbox.0.waiting().iter().all(|(_, answer)| answer.is_closed()) {
        tokio::task::yield_now().await;
    }
    drop(disk);
    assert_eq!(kept.await.unwrap(), reported(1, 0));
    assert_eq!(ids(&handed(&outbox)), ["kept"]);
}

#[tokio::test]
async fn a_report_the_disk_refuses_is_refused_and_counts_when_it_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // A file where the folder is to be refuses whoever runs the test.
    std::fs::write(&data, "").unwrap();
    let outbox = Outbox::open(data.clone(), remembering(10));
    assert!(outbox.report(sms(&["a"])).await.is_err());
    assert_eq!(outbox.unknown_to_source(id()), 0);
    std::fs::remove_file(&data).unwrap();
    assert_eq!(outbox.report(sms(&["a"])).await, reported(1, 0));
    assert_eq!(ids(&handed(&Outbox::open(data, remembering(10)))), ["a"]);
}

#[tokio::test]
async fn counts_wait_less_for_company_than_sms_alone() {
    let outbox = Outbox::in_memory(remembering(10));
    let now = Tick::now();
    let waits = || outbox.due().borrow().map(|due| due - now);
    assert_eq!(waits(), None);
    outbox.report(sms(&["a"])).await.unwrap();
    assert!(waits().is_some_and(|wait| DELAY.sms <= wait));
    outbox.report(counts(Some(1), None, 1)).await.unwrap();
    assert!(waits().is_some_and(|wait| wait < DELAY.sms));
    let _ = outbox.hand_over();
    outbox.report(sms(&["a"])).await.unwrap();
    assert_eq!(waits(), None, "nothing new, nothing due");
}

#[tokio::test]
async fn a_report_of_more_sms_than_may_wait_is_refused_whole_and_counts_once_there_is_room() {
    // One subscription may have half of these.
    let outbox = Outbox::in_memory(Bounds { remembered: 10, waiting: 6 });
    assert_eq!(outbox.report(sms(&["a", "b"])).await, reported(2, 0));
    let refused = outbox.report(sms(&["b", "c", "d"])).await.unwrap_err().to_string();
    assert!(refused.contains("2 SMS wait") && refused.contains("refresh.usage_waiting"), "{refused}");
    assert_eq!(outbox.unknown_to_source(id()), 4, "none of it counts");
    // What is refused of reports that are written together is new to those after it.
    let mut together = reports::Together::default();
    assert!(outbox.0.line(sms(&["c", "d"]), &mut together).is_err());
    assert_eq!(outbox.0.line(sms(&["c"]), &mut together).map(|(_, reported)| reported), reported(1, 0));
    assert_eq!(outbox.report(sms(&["c"])).await, reported(1, 0));
    assert_eq!(outbox.report(sms(&["a", "b", "c"])).await, reported(0, 3), "nothing new");
    assert!(outbox.report(counts(Some(5), None, 1)).await.is_ok(), "counts take no room");
    assert!(outbox.report(nobody_takes(sms(&["z"]))).await.is_ok(), "nor do SMS nobody takes");
    assert_eq!(outbox.sms_waiting(), 3);
    let _ = outbox.hand_over();
    taken(&outbox);
    outbox.settle().await;
    assert_eq!(outbox.sms_waiting(), 0);
    assert_eq!(outbox.report(sms(&["d"])).await, reported(1, 0));
}

#[tokio::test]
async fn a_subscription_that_says_much_leaves_room_for_others_that_say_little() {
    let outbox = Outbox::in_memory(Bounds { remembered: 10, waiting: 1_000 });
    let of = |name: &str, count: usize| {
        let sent: Vec<_> =
            (0..count).map(|number| SmsSent::new(&format!("{name}-{number}"), 1).unwrap()).collect();
        Report { id: name.parse().unwrap(), sms: sent, ..sms(&[]) }
    };
    // Each may have as much as is left free then.
    for (name, most) in [("AAA-AAA-AAA", 500), ("BBB-BBB-BBB", 250), ("CCC-CCC-CCC", 125)] {
        assert!(outbox.report(of(name, most + 1)).await.is_err(), "{name}");
        assert_eq!(outbox.report(of(name, most)).await, reported(u32::try_from(most).unwrap(), 0), "{name}");
    }
    let refused = outbox.report(of("AAA-AAA-AAA", 501)).await.unwrap_err().to_string();
    assert!(refused.contains("`AAA-AAA-AAA`") && refused.contains("875 SMS wait"), "{refused}");
    assert_eq!(outbox.report(of("DDD-DDD-DDD", 1)).await, reported(1, 0));
}

#[tokio::test]
async fn what_is_refused_is_set_aside_in_a_file_and_keeps_nothing_behind_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Outbox::open(folder.path().to_owned(), remembering(10));
    let outbox = open();
    outbox.report(sms(&["a", "b", "c"])).await.unwrap();
    outbox.report(counts(Some(5), Some(9), 1)).await.unwrap();
    handed(&outbox);
    answered(&outbox, [(CountKind::ActiveUsers, refused())], [(1, refused())]);
    assert_eq!(outbox.unknown_to_source(id()), 0, "what never counts is not subtracted");
    outbox.settle().await;
    outbox.report(sms(&["d"])).await.unwrap();
    outbox.report(counts(None, Some(10), 2)).await.unwrap();
    for outbox in [outbox, open()] {
        let usage = handed(&outbox);
        assert_eq!(ids(&usage), ["d"]);
        assert_eq!(usage.counts, counts(None, Some(10), 2).counted, "the refused count does not come again");
        let Pending { sms_waiting, set_aside, reason, .. } = outbox.pending(id());
        assert_eq!((sms_waiting, set_aside, reason.as_str()), (1, 2, "not\u{fffd}this"));
    }
    let file = std::fs::read_to_string(folder.path().join("usage.set-aside.jsonl")).unwrap();
    let line = |what: &str| {
        let begins = r#"{"subscription_id":"3A8-WN7-7TD","at":"1970-01-01T00:00:09Z","#;
        format!("{begins}{what},\"reason\":\"not\u{fffd}this\"}}\n")
    };
    let lines = [r#""count":"active_users","value":5"#, r#""sms_id":"b","credits":2"#].map(line);
    assert_eq!(file, lines.concat());
    assert_eq!(open().report(sms(&["b"])).await, reported(0, 1), "it is known all the same");
}

#[tokio::test(start_paused = true)]
async fn what_is_deferred_is_handed_over_again_when_it_is_due_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Outbox::open(folder.path().to_owned(), remembering(10));
    let outbox = open();
    let wait = Duration::from_hours(1);
    let deferred = || NotTaken::Deferred("enough for today".to_owned(), wait);
    outbox.report(sms(&["a", "b", "c", "d"])).await.unwrap();
    handed(&outbox);
    answered(&outbox, [], [(1, deferred()), (3, deferred())]);
    assert_eq!(outbox.unknown_to_source(id()), 4, "what is deferred stays subtracted");
    let due = *outbox.due().borrow();
    assert_eq!(due, Some(Tick::now() + wait));
    outbox.settle().await;
    outbox.report(sms(&["e"])).await.unwrap();
    assert_eq!(ids(&handed(&outbox)), ["e"]);
    taken(&outbox);
    outbox.settle().await;
    let Pending { sms_waiting, sms_deferred, set_aside, reason } = outbox.pending(id());
    assert_eq!((sms_waiting, sms_deferred, set_aside, reason.as_str()), (2, 2, 0, "enough for today"));
    assert_eq!(ids(&handed(&open())), ["b", "d"], "after a restart it is tried at once");
    tokio::time::advance(wait).await;
    assert_eq!(ids(&handed(&outbox)), ["b", "d"]);
    answered(&outbox, [], [(1, deferred())]);
    outbox.settle().await;
    assert_eq!(ids(&handed(&open())), ["d"]);
    assert_eq!(outbox.unknown_to_source(id()), 2);
    tokio::time::advance(wait).await;
    assert_eq!(ids(&handed(&outbox)), ["d"]);
    taken(&outbox);
    outbox.settle().await;
    assert_eq!(outbox.pending(id()), Pending::default());
    assert_eq!(outbox.report(sms(&["a", "b", "c", "d", "e"])).await, reported(0, 5));
}

#[tokio::test]
async fn what_another_version_kept_and_this_one_would_not_is_set_aside_when_it_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [
        r#"{"reported":{"id":"3A8-WN7-7TD","counts":null,"sms":[[1,"a\nb",1],[2,"good",1],[3,"dear",4294967295],[4,"",1]]}}"#,
        r#"{"reported":{"id":"3A8-WN7-7TD","counts":{"number":5,"active_users":1152921504606846976,"all_users":7,"components":null,"at":"1970-01-01T00:00:01Z"},"sms":[]}}"#,
    ];
    let mut text = "esa-sidecar usage 1\n".to_owned();
    for line in lines {
        let check = &crate::sha256::hex(line.as_bytes())[..16];
        text += &format!("{check} {line}\n");
    }
    std::fs::write(folder.path().join("usage.journal"), text).unwrap();
    for _ in 0..2 {
        let outbox = Outbox::open(folder.path().to_owned(), remembering(10));
        let usage = handed(&outbox);
        assert_eq!(ids(&usage), ["good"]);
        assert_eq!(usage.counts, counts(None, Some(7), 1).counted);
        assert_eq!(outbox.pending(id()).set_aside, 4, "each once");
    }
}
