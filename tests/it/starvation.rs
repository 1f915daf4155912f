//! One caller that asks far more than it may, beside one that does as it should (`reliability`: one caller cannot starve
//! others).

use std::time::Duration;

use bytes::Bytes;
use esa_sidecar::proto::enforcement::Operation;
use h2::client::SendRequest;
use prost::Message as _;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    callers::Guarded,
    certificates::Authority,
    sidecar::question,
    wire::{authorize_call, framed, read_all},
};

const TABLE: &str = "
[[callers]]
name = 'greedy'
role = 'authentication_server'
certificate_dns = 'greedy.test'
questions_per_second = 100
burst = 100

[[callers]]
name = 'modest'
role = 'authentication_server'
certificate_dns = 'modest.test'
questions_per_second = 2000
";

/// Questions in a millisecond: 20 times the quota of the one, half the quota of the other.
const GREEDY: u32 = 2;
const MODEST: u32 = 1;

/// How long each part takes, and whether waits are held against their bar: `tests/run --long` does so, with a release
/// build, because what else a machine does shows in them.
fn seconds() -> (u32, bool) {
    let seconds = std::env::var("ESA_SIDECAR_STARVATION_SECONDS");
    seconds.map_or((1, false), |seconds| (seconds.parse().unwrap(), true))
}

/// The status of an answer, and how long it took from when its question was due.
type Told = (String, Duration);

async fn ask(client: SendRequest<Bytes>, due: Instant, told: mpsc::UnboundedSender<Told>) {
    let mut client = client.ready().await.unwrap();
    let (response, mut sender) = client.send_request(authorize_call(), false).unwrap();
    sender.send_data(framed(&question(Operation::EnableUsers).encode_to_vec()).into(), true).unwrap();
    let response = response.await.unwrap();
    // A refusal is a head alone.
    let in_head = response.headers().get("grpc-status").cloned();
    let (_, trailers) = read_all(response.into_body()).await;
    let status = trailers.and_then(|trailers| trailers.get("grpc-status").cloned()).or(in_head);
    // Whoever listened may have gone.
    let _ = told.send((status.unwrap().to_str().unwrap().to_owned(), due.elapsed()));
}

/// Asks at a steady pace, whether or not answers come; what came.
fn asking(client: SendRequest<Bytes>, each_millisecond: u32, seconds: u32) -> JoinHandle<Vec<Told>> {
    tokio::spawn(async move {
        let (told, mut all) = mpsc::unbounded_channel();
        let mut ticks = interval(Duration::from_millis(1));
        // A tick that was missed is asked for late, and its wait counts.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for _ in 0..seconds * 1_000 {
            let due = ticks.tick().await;
            for _ in 0..each_millisecond {
                tokio::spawn(ask(client.clone(), due, told.clone()));
            }
        }
        drop(told);
        let mut answers = Vec::new();
        while let Some(answer) = all.recv().await {
            answers.push(answer);
        }
        answers
    })
}

fn p99(answers: &[Told]) -> Duration {
    let mut times: Vec<_> = answers.iter().map(|(_, time)| *time).collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_asks_twenty_times_its_quota_starves_nobody() {
    let authority = Authority::new();
    let sidecar = Guarded::over_tls(&authority, TABLE).await;
    let greedy = sidecar.http2(&authority, "greedy.test").await;
    let modest = sidecar.http2(&authority, "modest.test").await;
    let (seconds, waits_count) = seconds();
    let mut waits = [Vec::new(), Vec::new()];
    // In turn, so that what else the machine does meets both.
    for _ in 0..3 {
        let alone = asking(modest.clone(), MODEST, seconds).await.unwrap();
        let attack = asking(greedy.clone(), GREEDY, seconds);
        let beside = asking(modest.clone(), MODEST, seconds).await.unwrap();
        let attack = attack.await.unwrap();
        assert!(alone.iter().chain(&beside).all(|(status, _)| status == "0"), "nobody else is refused");
        let refused = attack.iter().filter(|(status, _)| status == "8").count();
        let most = usize::try_from((GREEDY * 1_000 - 100) * seconds).unwrap();
        // Its quota and its burst are answered, and no more; slow machines take longer than a second for a second's.
        assert!(most / 2 < refused && refused <= most, "{refused} of {} refused", attack.len());
        assert!(attack.iter().all(|(status, _)| status == "0" || status == "8"));
        for (waits, answers) in waits.iter_mut().zip([&alone, &beside]) {
            waits.push(p99(answers));
        }
    }
    let [alone, beside] = waits.map(|mut waits| {
        waits.sort_unstable();
        waits[1]
    });
    println!("p99 alone {alone:?}, beside one at 20 times its quota {beside:?}");
    if waits_count {
        assert!(beside <= alone * 2, "{beside:?} beside it, {alone:?} alone");
    }
    sidecar.stop().await;
}
