//! Takes connections from one accept queue: each gets a place, a deadline to speak, and an end.
//!
//! Not here: what is answered on a connection, and how many queues there are (see `workers`).

use std::{io, sync::Arc, time::Duration};

use http_body::Body;
use hyper::{Request, Response, body::Incoming, service::Service};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    bounds::Bounds,
    causes::in_full,
    connection::{self, End},
    first_bytes::Begun,
    gate::{Gate, Place},
    listener::Socket,
    overhead::Pace,
    peer::{Origin, Peer},
    queue::{Io, Queue, Taken, is_shortage},
    rarely::Rarely,
    seen::Connections,
    tallied::{Loss, Tallied},
    tls::{Names, Tls},
};
use crate::backoff::Backoff;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Takes the connections of a listener; `calls` makes what answers the calls of one of them.
#[derive(Clone, Debug)]
pub struct Acceptor<C> {
    bounds: Arc<Bounds>,
    gate: Arc<Gate>,
    tallied: Arc<Tallied>,
    told: Arc<Told>,
    takes_http1: bool,
    tls: Option<Arc<Tls>>,
    ending: Ending,
    goodbyes: Arc<Semaphore>,
    calls: C,
}

/// What callers can make happen as often as they like.
#[derive(Debug)]
struct Told {
    turned_away: Rarely,
    made_room: Rarely,
    refused: Rarely,
    not_agreed: Rarely,
    slowed: Rarely,
    short: Rarely,
}

/// How a listener's connections end: first their streams, with a last word, then they themselves.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Open streams end.
    pub streams: CancellationToken,
    /// No connection is taken any more; those that are open say so (GOAWAY) and end with their last call.
    pub connections: CancellationToken,
}

/// Waits when no connection can be taken for want of descriptors or memory: at first, and at the most.
const WAITS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long a connection that makes room for another may take to end, so that a call that is on its way to it is made anew
/// elsewhere; and how many may take it at a time, as their descriptors come on top of those of `limits.connections`.
const GOODBYE: Duration = Duration::from_secs(1);
const GOODBYES: usize = 32;

/// How long one may take on which nothing but refusals was said.
const REFUSED_GOODBYE: Duration = Duration::from_secs(5);

impl<C, S, B> Acceptor<C>
where
    C: Fn(&Peer) -> S + Clone + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
    S::Future: Send + Unpin + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Takes connections within `bounds` until they are to end.
    pub fn new(bounds: Bounds, ending: Ending, calls: C) -> Self {
        let gate = Arc::new(Gate::new(bounds.connections, bounds.connections_per_peer));
        let told = Arc::new(Told {
            turned_away: Rarely::new(),
            made_room: Rarely::new(),
            refused: Rarely::new(),
            not_agreed: Rarely::new(),
            slowed: Rarely::new(),
            short: Rarely::new(),
        });
        let (bounds, tallied) = (Arc::new(bounds), Arc::default());
        let goodbyes = Arc::new(Semaphore::new(GOODBYES));
        Self { bounds, gate, tallied, told, takes_http1: false, tls: None, ending, goodbyes, calls }
    }

    /// What becomes of its connections, and how many are open.
    pub fn connections(&self) -> Connections {
        Connections {
            tallied: Arc::clone(&self.tallied),
            gate: Arc::clone(&self.gate),
            tls: self.tls.clone(),
        }
    }

    /// Answers HTTP/1.1 as well, as orchestrators speak it.
    #[must_use]
    pub fn with_http1(self) -> Self {
        Self { takes_http1: true, ..self }
    }

    /// Speaks TLS on TCP.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<Tls>>) -> Self {
        Self { tls, ..self }
    }

    /// Takes connections until the listener ends, and returns once the last of them has.
    pub async fn run(self, socket: Socket) -> io::Result<()> {
        let connections = TaskTracker::new();
        let queue = Queue::new(socket)?;
        let stop = self.ending.connections.clone();
        stop.run_until_cancelled(self.take_all(&queue, &connections)).await;
        // What waits in the queue was taken by the operating system on our behalf: closed now, it would be refused.
        while let Some(taken) = queue.waiting() {
            self.begin(taken, &connections);
        }
        drop(queue);
        connections.close();
        connections.wait().await;
        Ok(())
    }

    async fn take_all(&self, queue: &Queue, connections: &TaskTracker) {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        loop {
            match queue.next().await {
                Ok(taken) => {
                    backoff.reset();
                    self.begin(taken, connections);
                }
                Err(error) if is_shortage(&error) => {
                    let wait = backoff.wait();
                    self.tallied.fall_short();
                    self.told.short.tell(|untold| {
                        warn!(untold, "no connection can be taken ({error}); trying again in {wait:?}");
                    });
                    tokio::time::sleep(wait).await;
                }
                // The other end was gone before it was taken.
                Err(error) => debug!("a connection was lost before it was taken: {error}"),
            }
        }
    }

    fn begin(&self, (io, origin): Taken, connections: &TaskTracker) {
        match self.gate.enter(origin) {
            Ok(place) => {
                self.tallied.take();
                if let Some(full) = place.full() {
                    self.told.made_room.tell(|untold| {
                        warn!(untold, "an idle connection made room for another: {full}");
                    });
                }
                let acceptor = self.clone();
                connections.spawn(async move {
                    if let Err(error) = acceptor.serve(io, origin, &place).await {
                        debug!(%origin, "a connection ended early: {}", in_full(&*error));
                    }
                    drop(place);
                });
            }
            Err(full) => {
                self.tallied.lose(full.into());
                self.told.turned_away.tell(|untold| {
                    warn!(untold, "a connection was closed at once: {full}");
                });
            }
        }
    }

    async fn serve(self, io: Io, origin: Origin, place: &Place) -> Result<(), BoxError> {
        // One deadline for all that comes before the first call.
        let by = Instant::now() + self.bounds.handshake;
        match io {
            Io::Tcp(io) => match self.tls.clone() {
                None => self.speak(io, by, place, origin, None, CancellationToken::new()).await,
                Some(tls) => {
                    let agreed = self.in_time(by, place, tls.accept(io)).await?;
                    let (io, names, outdated) = agreed.inspect_err(|error| self.not_agreed(origin, error))?;
                    self.speak(io, by, place, origin, names, outdated).await
                }
            },
            Io::Unix(io) => self.speak(io, by, place, origin, None, CancellationToken::new()).await,
        }
    }

    fn not_agreed(&self, origin: Origin, error: &io::Error) {
        if is_gone(error) {
            self.tallied.lose(Loss::Gone);
            return;
        }
        self.tallied.lose(Loss::Tls);
        self.told.not_agreed.tell(|untold| {
            warn!(%origin, untold, "TLS was not agreed on with a caller: {error}");
        });
    }

    /// Does what comes before the first call, as long as there is time and room for it.
    async fn in_time<T>(
        &self,
        by: Instant,
        place: &Place,
        work: impl Future<Output = T>,
    ) -> Result<T, BoxError> {
        let done = tokio::select! {
            biased;
            () = place.is_left() => Err(connection::MADE_ROOM.into()),
            done = timeout_at(by, work) => done.map_err(BoxError::from),
        };
        done.inspect_err(|_| self.tallied.lose(Loss::Silent))
    }

    fn dismiss(&self, origin: Origin) -> Duration {
        self.tallied.lose(Loss::Refused);
        self.told.refused.tell(|untold| {
            warn!(
                %origin, untold,
                "a connection is asked to end: its caller is not known here, and goes on asking what it is refused"
            );
        });
        REFUSED_GOODBYE
    }

    fn pace(&self, peer: &Peer) -> Pace {
        let origin = peer.origin();
        let (tallied, told) = (Arc::clone(&self.tallied), Arc::clone(&self.told));
        let Bounds { overhead_bytes: overhead, overhead_patience: patience, .. } = *self.bounds;
        Pace::new(overhead, patience, peer.calls().clone(), move || {
            tallied.slow();
            told.slowed.tell(|untold| {
                warn!(
                    %origin, untold,
                    "a connection says more beside its calls than `limits.overhead_bytes` allows ({overhead} a second): \
                     it is read slower, and closed if it goes on for {patience:?}"
                );
            });
        })
    }

    async fn speak<I>(
        self,
        io: I,
        by: Instant,
        place: &Place,
        origin: Origin,
        names: Option<Names>,
        outdated: CancellationToken,
    ) -> Result<(), BoxError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let streams_end = self.ending.streams.child_token();
        let peer = Peer::new(origin, names, streams_end, outdated.clone(), Arc::clone(place.seat()));
        let reading = Begun::read(io, self.bounds.turn_bytes, self.pace(&peer));
        let begun = self.in_time(by, place, reading).await??;
        let calls = (self.calls)(&peer);
        let asked = async {
            tokio::select! {
                () = self.ending.connections.cancelled() => connection::UNTIL_THE_PROCESS_ENDS,
                () = outdated.cancelled() => self.bounds.connection_grace,
                () = peer.is_dismissed() => self.dismiss(origin),
            }
        };
        let mut goodbye = None;
        let makes_room = async {
            place.is_left().await;
            self.tallied.lose(Loss::Idle);
            goodbye = self.goodbyes.try_acquire().ok();
            if goodbye.is_some() { GOODBYE } else { Duration::ZERO }
        };
        let end = End { asked, makes_room };
        if begun.is_http2() {
            connection::serve_http2(begun, calls, &self.bounds, &peer, end).await
        } else if self.takes_http1 {
            connection::serve_http1(begun, calls, &self.bounds, &peer, end).await
        } else {
            Ok(connection::say_grpc(begun).await?)
        }
    }
}

/// Whether the other end went without a word; one that does not believe our certificate says so.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}
