//! How long a caller waits: questions at a steady pace, each timed from the instant it was due.
//!
//! A caller that waits for one answer before it asks again would hide every pause of the server. Not here: what the
//! server's work costs.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
use hyper::Request;
use tokio::{
    net::UnixStream,
    runtime::Builder,
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{load, server::Server};

/// Questions in a second.
const RATE: u32 = 10_000;

/// How often they are put on the wire.
const TICK: Duration = Duration::from_millis(1);

/// How long answers took that were asked for at a steady pace for `seconds`.
pub(crate) fn latencies(path: &Path, seconds: u32) -> Vec<Duration> {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let io = UnixStream::connect(path).await.unwrap();
        let (client, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let (done, mut times) = mpsc::unbounded_channel();
        let mut ticks = interval(TICK);
        // A tick that was missed is asked for late, and its wait counts.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let each = RATE / 1_000;
        for _ in 0..seconds * 1_000 {
            let due = ticks.tick().await;
            for _ in 0..each {
                tokio::spawn(ask(client.clone(), due.into_std(), done.clone()));
            }
        }
        drop(done);
        let mut all = Vec::new();
        while let Some(time) = times.recv().await {
            all.push(time);
        }
        all.sort_unstable();
        all
    })
}

async fn ask(client: SendRequest<Bytes>, due: Instant, done: mpsc::UnboundedSender<Duration>) {
    let mut client = client.ready().await.unwrap();
    let request = Request::post(format!("http://localhost{}", load::AUTHORIZE))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (response, mut sender) = client.send_request(request, false).unwrap();
    sender.send_data(load::question().into(), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data.unwrap().len()).unwrap();
    }
    assert_eq!(body.trailers().await.unwrap().unwrap().get("grpc-status").unwrap(), "0");
    done.send(due.elapsed()).unwrap();
}

/// Other facts, as often as this in a second, until it is dropped.
pub(crate) struct Edits(Arc<AtomicBool>, Option<std::thread::JoinHandle<u32>>);

impl Edits {
    pub(crate) fn of(folder: &Path, rate: u32) -> Self {
        let on = Arc::new(AtomicBool::new(true));
        let (goes_on, folder) = (Arc::clone(&on), folder.to_owned());
        let edit = move || {
            let mut edits = 0;
            while goes_on.load(Ordering::Relaxed) {
                Server::put_facts(&folder, 1_000 + edits);
                edits += 1;
                std::thread::sleep(Duration::from_secs(1) / rate);
            }
            edits
        };
        Self(on, Some(std::thread::spawn(edit)))
    }

    /// How many there were.
    pub(crate) fn end(mut self) -> u32 {
        self.0.store(false, Ordering::Relaxed);
        self.1.take().map_or(0, |editing| editing.join().unwrap())
    }
}
