//! Refreshes: callers who share one, outages, and answers that are refused.

use std::{
    ops::Range,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use esa_sidecar::{
    cache,
    clock::ManualClock,
    config::{self, Config},
    domain::{Facts, SubscriptionId},
    proto::{enforcement as api, licensing::SignedFacts},
    refresh::{Handle, NotRefreshed, Outcome, Refresher},
    source::{
        Answer, Ask, FactsSource, Fetched, Occasion, Origin, Proof, SourceError, Told,
        usage::{SmsSent, UsageAnswer, UsageDelay},
    },
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::sidecar::{ID, START, ScriptedSource, Sidecar, days, healthy, question};

/// A refresher that has not begun to run, and `callers` who have asked and wait.
async fn waiting(
    source: &ScriptedSource,
    callers: usize,
    requests_waiting: usize,
) -> (Refresher<ScriptedSource>, Vec<Result<Waiting, NotRefreshed>>) {
    let settings = config::Refresh { requests_waiting, ..Config::read(None, Vec::new()).unwrap().refresh };
    let (_, writer) = cache::new();
    let clock = Arc::new(ManualClock::at(START));
    let (refresher, handle) = Refresher::start(source.clone(), writer, None, clock, settings);
    let asked = (0..callers).map(|_| {
        let handle = handle.clone();
        let mut caller: Waiting = Box::pin(async move { handle.refresh().await });
        match caller.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Ok(caller),
            Poll::Ready(Err(not_refreshed)) => Err(not_refreshed),
            Poll::Ready(Ok(outcome)) => panic!("{outcome:?} before anything ran"),
        }
    });
    (refresher, asked.collect())
}

type Waiting = Pin<Box<dyn Future<Output = Result<Outcome, NotRefreshed>>>>;

#[tokio::test]
async fn callers_who_ask_together_share_one_fetch() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let (refresher, callers) = waiting(&source, 50, 1_000).await;
    let running = tokio::spawn(refresher.run(CancellationToken::new()));
    for caller in callers {
        assert_eq!(caller.unwrap().await, Ok(Outcome::Updated));
    }
    assert_eq!(source.fetches(), 1);
    running.abort();
}

#[tokio::test]
async fn more_callers_than_may_wait_are_told_to_come_back() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let (_refresher, callers) = waiting(&source, 3, 2).await;
    let seen: Vec<Option<NotRefreshed>> = callers.into_iter().map(Result::err).collect();
    assert_eq!(seen, [None, None, Some(NotRefreshed::TooManyWaiting)]);
}

#[tokio::test(start_paused = true)]
async fn however_many_ask_the_source_is_asked_once_in_its_time() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let settings = config::Refresh {
        at_most_every: Duration::from_secs(10),
        ..Config::read(None, Vec::new()).unwrap().refresh
    };
    let (_, writer) = cache::new();
    let (refresher, handle) =
        Refresher::start(source.clone(), writer, None, Arc::new(ManualClock::at(START)), settings);
    let running = tokio::spawn(refresher.run(CancellationToken::new()));
    handle.refresh().await.unwrap();
    let before = (source.fetches(), Instant::now());
    for _ in 0..5 {
        handle.refresh().await.unwrap();
    }
    assert_eq!(source.fetches() - before.0, 5);
    assert_eq!(before.1.elapsed().as_secs(), 50, "one in ten seconds");
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_is_retried_with_back_off_and_a_refused_answer_is_not() {
    for (error, most) in
        [(SourceError::Unreachable("away".to_owned()), 20), (SourceError::Refused("nonsense".to_owned()), 4)]
    {
        let source = ScriptedSource::unreachable();
        source.script(Err(error.clone()));
        let (_, writer) = cache::new();
        let settings = Config::read(None, Vec::new()).unwrap().refresh;
        let (refresher, _handle) =
            Refresher::start(source.clone(), writer, None, Arc::new(ManualClock::at(START)), settings);
        // 1 + 2 + 4 … 256 s is nine fetches in about ten minutes, each wait halved at the most.
        let _ = tokio::time::timeout(Duration::from_secs(600), refresher.run(CancellationToken::new())).await;
        let fetches = source.fetches();
        assert!(error.is_retried() == (9 < fetches) && fetches < most, "{error:?}: {fetches} fetches");
    }
}

#[tokio::test]
async fn through_an_outage_answers_go_on_as_time_moves_on() {
    let expiring = Facts { expires_at: START + days(1), ..healthy(ID) };
    let source = ScriptedSource::telling(vec![expiring]);
    let mut sidecar = Sidecar::start(source.clone()).await.ready().await;
    source.script(Err(SourceError::Unreachable("the backend is away".to_owned())));
    let failed = sidecar.refresh().await;
    assert_eq!(failed.outcome(), api::RefreshOutcome::Failed);
    assert_eq!(failed.detail, "the backend is away");
    for (day, access, state) in [
        (0, api::Access::Allowed, api::SubscriptionState::Warning),
        (8, api::Access::Allowed, api::SubscriptionState::ViolationFullFunctionality),
        (9, api::Access::Disabled, api::SubscriptionState::ViolationLimitedFunctionality),
        (40, api::Access::Disabled, api::SubscriptionState::Disabled),
    ] {
        sidecar.clock.set(START + days(day));
        let answer = sidecar.authorize(question(api::Operation::EnableUsers)).await.unwrap();
        assert_eq!((answer.access(), answer.state()), (access, state), "day {day}");
        assert_eq!(answer.as_of.unwrap().seconds, 1_800_000_000, "it says as of when");
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn what_is_refused_changes_nothing_and_what_follows_counts() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let mut sidecar = Sidecar::start(source.clone()).await.ready().await;
    source.script(Err(SourceError::Refused("`users.active`: not a number".to_owned())));
    let refused = sidecar.refresh().await;
    assert_eq!(refused.outcome(), api::RefreshOutcome::Failed);
    assert_eq!((refused.revision, refused.detail.as_str()), (1, "`users.active`: not a number"));
    source.tell(vec![Facts { sms_credits: None, ..healthy(ID) }]);
    sidecar.refresh().await;
    assert_eq!(sidecar.subscription(ID).await.provenance.unwrap().revision, 2);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_refresh_of_a_subscription_that_is_not_held_is_not_found_and_costs_no_fetch() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let mut sidecar = Sidecar::start(source.clone()).await.ready().await;
    let before = source.fetches();
    let request = api::RefreshSubscriptionRequest { subscription_id: "CCC-CCC-CCC".to_owned() };
    assert_eq!(sidecar.client.refresh_subscription(request).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(source.fetches(), before);
    sidecar.stop().await;
}

/// What a source answers that takes usage.
type Answers = Box<dyn Fn(&Ask) -> Answer + Send + Sync>;

/// A source that takes usage, and says that it changed every so often.
struct Taking {
    answers: Answers,
    changes_every: Duration,
    asks: mpsc::UnboundedSender<Ask>,
}

impl FactsSource for Taking {
    fn identity(&self) -> String {
        "taking".to_owned()
    }

    fn origin(&self) -> Origin {
        Origin::Live
    }

    async fn fetch(&self, ask: Ask) -> Answer {
        let answer = (self.answers)(&ask);
        let _ = self.asks.send(ask);
        answer
    }

    async fn changed(&self) {
        tokio::time::sleep(self.changes_every).await;
    }

    fn usage_delay(&self, _subscription_id: SubscriptionId) -> Option<UsageDelay> {
        Some(UsageDelay { counts: Duration::ZERO, sms: Duration::ZERO })
    }
}

const NEVER: Duration = Duration::from_hours(24 * 365);

/// A refresher of such a source that runs, and what the source is asked.
fn taking(changes_every: Duration, answers: Answers) -> (Handle, mpsc::UnboundedReceiver<Ask>) {
    let (asks, asked) = mpsc::unbounded_channel();
    let source = Taking { answers, changes_every, asks };
    let settings = Config::read(None, Vec::new()).unwrap().refresh;
    let (_, writer) = cache::new();
    let clock = Arc::new(ManualClock::at(START));
    let (refresher, handle) = Refresher::start(source, writer, None, clock, settings);
    tokio::spawn(refresher.run(CancellationToken::new()));
    (handle, asked)
}

fn told(id: &str) -> Vec<Told> {
    vec![healthy(id).into()]
}

fn away() -> SourceError {
    SourceError::Unreachable("one unit is not answered".to_owned())
}

/// Reports SMS with these numbers.
async fn report(handle: &Handle, numbers: Range<u32>) {
    let sms = numbers.map(|number| SmsSent::new(&number.to_string(), 1).unwrap()).collect();
    handle.report(ID.parse().unwrap(), None, sms).await.unwrap();
}

/// How long it takes until usage is handed over.
async fn handed_over_after(asked: &mut mpsc::UnboundedReceiver<Ask>) -> Duration {
    let before = Instant::now();
    let handed = async { while asked.recv().await.unwrap().usage.is_empty() {} };
    tokio::time::timeout(Duration::from_secs(600), handed).await.expect("handed over");
    before.elapsed()
}

#[tokio::test(start_paused = true)]
async fn changes_that_are_told_one_after_the_other_keep_no_usage_back() {
    let answers = |ask: &Ask| Answer {
        fetched: Ok(Fetched::All(told(ID))),
        usage_taken: ask.usage.keys().map(|id| (*id, UsageAnswer::default())).collect(),
    };
    let (handle, mut asked) = taking(Duration::from_millis(100), Box::new(answers));
    handle.refresh().await.unwrap();
    for number in 0..3 {
        report(&handle, number..number + 1).await;
        let after = handed_over_after(&mut asked).await;
        assert!(after <= Duration::from_secs(1), "{after:?}");
        handle.refresh().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_unit_s_failure_keeps_back_no_other_s_usage() {
    let answers = |ask: &Ask| Answer {
        fetched: Ok(Fetched::Some { told: told(ID), failure: Some(away()) }),
        usage_taken: [(ID.parse().unwrap(), UsageAnswer::default())]
            .into_iter()
            .filter(|(id, _)| ask.usage.contains_key(id))
            .collect(),
    };
    let (handle, mut asked) = taking(NEVER, Box::new(answers));
    for number in 0..20 {
        assert_eq!(handle.refresh().await, Ok(Outcome::Failed(away())));
        report(&handle, number..number + 1).await;
        let after = handed_over_after(&mut asked).await;
        assert!(after <= Duration::from_secs(1), "report {number}: {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn usage_asks_no_source_that_is_away_before_its_time() {
    let fetched = std::sync::Mutex::new(Some(Ok(Fetched::All(told(ID)))));
    let answers = move |_: &Ask| fetched.lock().unwrap().take().unwrap_or_else(|| Err(away())).into();
    let (handle, mut asked) = taking(NEVER, Box::new(answers));
    handle.refresh().await.unwrap();
    report(&handle, 0..1).await;
    handed_over_after(&mut asked).await;
    for _ in 0..6 {
        assert!(handle.refresh().await.is_ok());
    }
    while asked.try_recv().is_ok() {}
    report(&handle, 1..2).await;
    let after = handed_over_after(&mut asked).await;
    assert!(Duration::from_secs(16) <= after, "it has failed seven times: {after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_activated_while_it_runs_hands_usage_over_at_once() {
    // It is refused until somebody activates it, which is told as a change.
    let answers = |ask: &Ask| match ask.occasion {
        Occasion::Due if ask.usage.is_empty() => Err(SourceError::Refused("not activated".to_owned())).into(),
        Occasion::Due | Occasion::Changed => Ok(Fetched::All(told(ID))).into(),
    };
    let (handle, mut asked) = taking(Duration::from_secs(2), Box::new(answers));
    assert_eq!(asked.recv().await.unwrap().occasion, Occasion::Due);
    assert_eq!(asked.recv().await.unwrap().occasion, Occasion::Changed);
    let mut sync = handle.sync();
    sync.wait_for(|sync| sync.published_as_of.is_some()).await.unwrap();
    report(&handle, 0..1).await;
    let after = handed_over_after(&mut asked).await;
    assert!(after <= Duration::from_secs(1), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_one_subscription_does_not_end_the_failure_of_another() {
    let answers = |ask: &Ask| {
        let failure = (ask.occasion == Occasion::Due).then(away);
        Ok(Fetched::Some { told: told(ID), failure }).into()
    };
    let (handle, mut asked) = taking(Duration::from_millis(100), Box::new(answers));
    assert_eq!(handle.refresh().await, Ok(Outcome::Failed(away())));
    while asked.try_recv().is_ok() {}
    // The second is asked for once the first has been taken.
    for _ in 0..2 {
        assert_eq!(asked.recv().await.unwrap().occasion, Occasion::Changed);
    }
    assert_eq!(handle.failure(), Some(away()));
}

#[tokio::test(start_paused = true)]
async fn usage_whose_facts_are_refused_is_not_handed_over_again_and_again() {
    let sequence = AtomicU64::new(6);
    let answers = move |ask: &Ask| {
        // A backend that was set back tells older numbers.
        let sequence = sequence.fetch_sub(1, Ordering::SeqCst).max(4);
        let proof = Some(Proof { signed: SignedFacts::default(), sequence, issued_at: START });
        Answer {
            fetched: Ok(Fetched::All(vec![Told { facts: healthy(ID), proof }])),
            usage_taken: ask.usage.keys().map(|id| (*id, UsageAnswer::default())).collect(),
        }
    };
    let (handle, mut asked) = taking(NEVER, Box::new(answers));
    handle.refresh().await.unwrap();
    report(&handle, 0..2_500).await;
    handed_over_after(&mut asked).await;
    let more = async {
        for _ in 0..10 {
            asked.recv().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), more).await.is_err(), "asked ten times a minute");
}
