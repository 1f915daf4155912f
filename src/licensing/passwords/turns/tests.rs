//! Whose turn it is, and who gives a place up.

use std::{
    pin::Pin,
    sync::mpsc,
    task::{Context, Waker},
};

use super::*;

type Waiting = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

fn address(of: u8) -> Lane {
    Lane::Address { network: of.to_string(), address: of.to_string() }
}

fn account(customer: &str, account: usize) -> Lane {
    Lane::Account { customer: customer.to_owned(), account: account.to_string() }
}

/// Work that has begun and goes on until the sender is used or dropped.
async fn begun(turns: &Turns) -> (tokio::task::JoinHandle<Result<(), Refusal>>, mpsc::Sender<()>) {
    let (end, ended) = mpsc::channel();
    let (begins, begun) = oneshot::channel();
    let turns = turns.clone();
    let call = tokio::spawn(async move {
        let work = move || {
            begins.send(()).unwrap();
            ended.recv().ok();
        };
        turns.work(address(0), work).await
    });
    begun.await.unwrap();
    (call, end)
}

/// A call that waits in `lane` and then writes `name` down; whether it found a place.
fn waits(
    turns: &Turns,
    lane: Lane,
    name: &'static str,
    log: &Arc<Mutex<Vec<&'static str>>>,
) -> (Waiting, bool) {
    let (turns, log) = (turns.clone(), Arc::clone(log));
    let mut call: Waiting =
        Box::pin(async move { turns.work(lane, move || log.lock().unwrap().push(name)).await });
    let waits = call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
    (call, waits)
}

#[tokio::test]
async fn a_call_that_is_given_up_keeps_its_place_until_its_work_is_done() {
    let turns = Turns::new(1, 8);
    let (call, end) = begun(&turns).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(turns.0.state().running, 1, "the hash is still being made");
    let log = Arc::default();
    let (waiting, _) = waits(&turns, address(1), "given up", &log);
    drop(waiting);
    let (waiting, _) = waits(&turns, address(1), "goes on", &log);
    end.send(()).unwrap();
    waiting.await.unwrap();
    assert_eq!(*log.lock().unwrap(), ["goes on"]);
}

#[tokio::test]
async fn one_address_keeps_no_other_waiting() {
    let turns = Turns::new(1, 16);
    let (call, end) = begun(&turns).await;
    let log = Arc::default();
    let mut calls = Vec::new();
    // Eight addresses take all places, two each, and one of them tries for more.
    for of in 0..8 {
        for name in ["one", "one, second", "one, third"] {
            let (waiting, placed) = waits(&turns, address(of), name, &log);
            assert_eq!(placed, name != "one, third", "each has its share");
            if placed {
                calls.push(waiting);
            }
        }
    }
    let (newcomer, placed) = waits(&turns, address(9), "newcomer", &log);
    assert!(placed, "the longest lane gives a place up");
    end.send(()).unwrap();
    call.await.unwrap().unwrap();
    newcomer.await.unwrap();
    let mut ended = Vec::new();
    for waiting in calls {
        ended.push(waiting.await.is_ok());
    }
    assert_eq!(ended.iter().filter(|done| !**done).count(), 1, "the one whose place was given up");
    let log = log.lock().unwrap();
    let place = log.iter().position(|done| *done == "newcomer").unwrap();
    assert!(place < 9, "before anybody's second: {log:?}");
}

#[tokio::test]
async fn accounts_and_sign_ins_take_turns() {
    let turns = Turns::new(1, 64);
    let (call, end) = begun(&turns).await;
    let log = Arc::default();
    let mut calls = Vec::new();
    for of in 0..8 {
        let known = Lane::Known { customer: "acme".to_owned(), pair: of.to_string() };
        calls.push(waits(&turns, known, "known", &log).0);
    }
    calls.push(waits(&turns, account("acme", 0), "account", &log).0);
    end.send(()).unwrap();
    call.await.unwrap().unwrap();
    for waiting in calls {
        waiting.await.unwrap();
    }
    let log = log.lock().unwrap();
    assert!(log.iter().position(|done| *done == "account").unwrap() < 2, "{log:?}");
}

#[tokio::test]
async fn one_customer_s_accounts_keep_no_other_customer_waiting() {
    let turns = Turns::new(1, 16);
    let (call, end) = begun(&turns).await;
    let log = Arc::default();
    let mut calls = Vec::new();
    for of in 0..16 {
        calls.push(waits(&turns, account("beta", of), "beta", &log).0);
    }
    let (own, placed) = waits(&turns, account("beta", 16), "beta", &log);
    assert!(!placed, "it has all places, and takes none from itself");
    drop(own);
    let (other, placed) = waits(&turns, account("acme", 0), "acme", &log);
    assert!(placed, "whoever has most gives one up");
    end.send(()).unwrap();
    call.await.unwrap().unwrap();
    other.await.unwrap();
    let mut ended = Vec::new();
    for waiting in calls {
        ended.push(waiting.await.is_ok());
    }
    assert_eq!(ended.iter().filter(|done| !**done).count(), 1);
    assert_eq!(log.lock().unwrap()[1], "acme", "its turn comes next");
}

#[tokio::test]
async fn where_nothing_may_wait_all_but_what_runs_is_refused() {
    let turns = Turns::new(0, 0);
    let refused = turns.work(Lane::Own, || ()).await.unwrap_err();
    assert!(matches!(refused, Refusal::TooMany(_)), "{refused:?}");
}

#[test]
fn what_took_longest_is_known_at_once_and_forgotten_by_and_by() {
    let turns = Turns::new(1, 8);
    turns.took(Duration::from_secs(1));
    turns.took(Duration::from_secs(8));
    assert_eq!(turns.longest_lately(), Duration::from_secs(8));
    turns.took(Duration::from_secs(1));
    assert_eq!(turns.longest_lately(), Duration::from_secs(7));
    (0..64).for_each(|_| turns.took(Duration::from_secs(1)));
    assert_eq!(turns.longest_lately(), Duration::from_secs(1));
}
