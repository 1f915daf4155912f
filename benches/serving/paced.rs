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
use tokio::{net::UnixStream, runtime::Builder, sync::mpsc};

use crate::{load, server::Server};

/// Questions in a second.
const RATE: u32 = 10_000;

/// How long answers took that were asked for at a steady pace for `seconds`.
pub(crate) fn latencies(path: &Path, seconds: u32) -> Vec<Duration> {
    let (due, mut questions) = mpsc::unbounded_channel();
    // The timers of the runtime are a millisecond apart; those of the system are not.
    let pace = std::thread::spawn(move || keep_pace(&due, seconds));
    let mut times = Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let io = UnixStream::connect(path).await.unwrap();
        // Of small answers that are not read yet h2 takes a few hundred, unless the window is wide, and then hangs up.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 24).initial_window_size(1 << 20);
        let (client, connection) = builder.handshake(io).await.unwrap();
        tokio::spawn(connection);
        let (done, mut times) = mpsc::unbounded_channel();
        while let Some(due) = questions.recv().await {
            tokio::spawn(ask(client.clone(), due, done.clone()));
        }
        drop(done);
        let mut all = Vec::new();
        while let Some(time) = times.recv().await {
            all.push(time);
        }
        all
    });
    pace.join().unwrap();
    times.sort_unstable();
    times
}

/// Says when each question is due; one that is said late has waited.
fn keep_pace(questions: &mpsc::UnboundedSender<Instant>, seconds: u32) {
    let mut due = Instant::now();
    for _ in 0..RATE * seconds {
        due += Duration::from_secs(1) / RATE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        questions.send(due).unwrap();
    }
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
