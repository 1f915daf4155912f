//! `grpc.health.v1`: whether the sidecar is ready, alive and in touch with its source.
//!
//! Not here: what makes facts stale (see `freshness`). Liveness never depends on the backend.

use std::{collections::HashMap, sync::Arc};

use futures_util::stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::info;

use crate::{
    clock::Clock,
    edge::peer::Peer,
    freshness::Freshness,
    proto::health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus, health_server::Health,
    },
    refresh::{AsOf, Sync},
};

/// Name of the service that is ready when questions can be answered.
pub const ENFORCEMENT: &str = "esa.enforcement.v1.EnforcementService";
/// Name of the service that is there while the process works.
pub const LIVENESS: &str = "liveness";
/// Name of the service that is there while facts are fresh.
pub const LICENSING_SYNC: &str = "licensing.sync";

/// Name of the service that is ready when the licensing backend's database answers.
pub const LICENSING: &str = "esa.licensing.v1.SyncService";

/// Every name a sidecar knows, in the order it is listed; the first stands for the server as a whole.
pub const SERVICES: [&str; 4] = ["", ENFORCEMENT, LIVENESS, LICENSING_SYNC];

/// The same of a licensing backend by itself.
const BACKEND_SERVICES: [&str; 3] = ["", LICENSING, LIVENESS];

/// What the process is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serves {
    /// Questions.
    #[default]
    Enforcement,
    /// Licences and units.
    Licensing,
}

/// How the sidecar is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statuses {
    /// What it is there for.
    pub serves: Serves,
    /// Facts are published, young enough to answer from, and the sidecar is not stopping.
    pub ready: bool,
    /// Facts are fresh.
    pub in_sync: bool,
    /// The sidecar is stopping.
    pub draining: bool,
}

/// The health of this process, kept true as facts arrive and age.
#[derive(Clone, Debug)]
pub struct Monitor {
    statuses: watch::Sender<Statuses>,
}

/// The service that tells it.
#[derive(Clone)]
pub struct HealthService {
    statuses: watch::Receiver<Statuses>,
}

impl Monitor {
    /// Nothing is ready yet.
    #[must_use]
    pub fn new() -> Self {
        Self { statuses: watch::Sender::new(Statuses::default()) }
    }

    /// The same for a licensing backend by itself.
    #[must_use]
    pub fn of_backend() -> Self {
        let statuses = Statuses { serves: Serves::Licensing, ..Statuses::default() };
        Self { statuses: watch::Sender::new(statuses) }
    }

    /// Notes whether a licensing backend's database answers.
    pub fn reachable(&self, reachable: bool) {
        self.update(|statuses| statuses.ready = reachable);
    }

    /// How the sidecar is, now and at every change.
    #[must_use]
    pub fn statuses(&self) -> watch::Receiver<Statuses> {
        self.statuses.subscribe()
    }

    /// The service that tells it.
    #[must_use]
    pub fn service(&self) -> HealthService {
        HealthService { statuses: self.statuses.subscribe() }
    }

    /// Follows the refresher and the clock, for ever.
    pub async fn follow(self, mut sync: watch::Receiver<Sync>, clock: Arc<dyn Clock>, freshness: Freshness) {
        loop {
            let published_as_of = sync.borrow_and_update().published_as_of;
            let now = clock.now();
            self.update(|statuses| {
                // Ready while any subscription can be answered for, in sync while every one is fresh.
                let ends = published_as_of.map(|AsOf { oldest, newest }| [oldest, newest]);
                statuses.ready =
                    ends.is_some_and(|ends| ends.iter().any(|as_of| !freshness.refuses_all(*as_of, now)));
                statuses.in_sync =
                    ends.is_some_and(|ends| ends.iter().all(|as_of| !freshness.is_stale(*as_of, now)));
            });
            let next = published_as_of.and_then(|AsOf { oldest, newest }| {
                [oldest, newest].into_iter().filter_map(|as_of| freshness.next_turn(as_of, now)).min()
            });
            let aged = async {
                match next {
                    Some(instant) => clock.sleep_until(instant).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = aged => {}
                changed = sync.changed() => if changed.is_err() {
                    // The refresher has stopped, and the sidecar is about to: nothing more will change.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Says NOT_SERVING, for good.
    pub fn drain(&self) {
        self.update(|statuses| statuses.draining = true);
    }

    fn update(&self, change: impl FnOnce(&mut Statuses)) {
        self.statuses.send_if_modified(|statuses| {
            let before = *statuses;
            change(statuses);
            if statuses.ready != before.ready {
                info!("{}", statuses.in_words());
            }
            if statuses.in_sync != before.in_sync {
                info!("facts are {}", if statuses.in_sync { "fresh" } else { "stale" });
            }
            *statuses != before
        });
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self::new()
    }
}

impl Statuses {
    /// The names it knows.
    #[must_use]
    pub const fn services(self) -> &'static [&'static str] {
        match self.serves {
            Serves::Enforcement => &SERVICES,
            Serves::Licensing => &BACKEND_SERVICES,
        }
    }

    /// Whether it is ready, and if not, why.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match (self.ready, self.serves) {
            (true, Serves::Enforcement) => "ready",
            (true, Serves::Licensing) => "the licensing backend is ready",
            (false, Serves::Enforcement) => "not ready: facts are too old to answer from",
            (false, Serves::Licensing) => "the licensing backend is not ready: its database does not answer",
        }
    }

    /// The status of a service, if it is one of ours.
    #[must_use]
    pub fn of(self, service: &str) -> Option<ServingStatus> {
        if !self.services().contains(&service) {
            return None;
        }
        let serving = match service {
            "" | ENFORCEMENT | LICENSING => self.ready && !self.draining,
            LIVENESS => true,
            LICENSING_SYNC => self.in_sync,
            _ => return None,
        };
        Some(if serving { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        let statuses = *self.statuses.borrow();
        statuses.of(service).map(|status| Response::new(response(status))).ok_or_else(|| {
            Status::not_found(format!(
                "no service of that name; known are {}",
                statuses.services().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ))
        })
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let statuses = *self.statuses.borrow();
        let listed = statuses
            .services()
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), response(statuses.of(name)?))));
        Ok(Response::new(HealthListResponse { statuses: listed.collect::<HashMap<_, _>>() }))
    }

    type WatchStream =
        std::pin::Pin<Box<dyn stream::Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let ended = request.extensions().get::<Peer>().map(|peer| peer.streams_end().clone());
        let service = request.into_inner().service;
        let watch = OpenWatch {
            service,
            statuses: self.statuses.clone(),
            last: None,
            ended: ended.unwrap_or_default(),
        };
        let changes = stream::unfold(Some(watch), |watch| async { watch?.next().await });
        Ok(Response::new(Box::pin(changes)))
    }
}

/// A watch of one service.
struct OpenWatch {
    service: String,
    statuses: watch::Receiver<Statuses>,
    last: Option<ServingStatus>,
    /// The connection is to end.
    ended: CancellationToken,
}

impl OpenWatch {
    /// The next status that differs, and the watch if it stays open. The last that is told is how the service is
    /// while draining: an open watch would keep the server from stopping.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Option<Self>)> {
        loop {
            let statuses = *self.statuses.borrow_and_update();
            // An unknown service may come to be known one day; its watch stays open (the protocol asks for it).
            let status = statuses.of(&self.service).unwrap_or(ServingStatus::ServiceUnknown);
            if self.last.replace(status) != Some(status) {
                return Some((Ok(response(status)), Some(self).filter(|_| !statuses.draining)));
            }
            if statuses.draining || self.ended.is_cancelled() {
                return None;
            }
            tokio::select! {
                changed = self.statuses.changed() => changed.ok()?,
                () = self.ended.cancelled() => {}
            }
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
