//! Which room a call is in, how many calls that has room for, and how long they may take.
//!
//! Not here: counting them (see the parent).

use std::time::Duration;

use crate::{config::Limits, proto::health::health_server};

/// Which room a call is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::server) enum Kind {
    /// A question, or anything that has no room of its own.
    Call,
    /// A call whose messages or answers are a stream: it may stay open for long, with nothing to say.
    Stream,
    /// A watch of health, which stays open.
    HealthWatch,
    /// Whether a process is well: health asked once, `/livez`, `/readyz`.
    Probe,
    /// What generic clients ask for the names of calls.
    Reflection,
    /// The page of metrics.
    Page,
}

/// How many tools may ask by reflection at a time, and how many of one client: each costs more than any other call, and
/// needs it for a moment.
const REFLECTIONS: (usize, usize) = (64, 16);

/// How many may read the page of metrics at a time, and how many of one client: each has a page of its own for as long as
/// it reads.
const PAGES: (usize, usize) = (16, 4);

/// How many probes of one client may be open at a time: each is answered at once.
const PROBES_OF_ONE: usize = 64;

/// How long a probe or a page may take until the last of its answer has left our hands. Whoever does not read it in that
/// time is not there, or keeps others from being answered.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Where the page of metrics is.
pub(in crate::server) const METRICS: &str = "/metrics";

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::Call, Self::Stream, Self::HealthWatch, Self::Probe, Self::Reflection, Self::Page];

    pub(super) const fn of_all<R>(self, rooms: &[R; Self::ALL.len()]) -> &R {
        let [calls, streams, health, probes, reflection, pages] = rooms;
        match self {
            Self::Call => calls,
            Self::Stream => streams,
            Self::HealthWatch => health,
            Self::Probe => probes,
            Self::Reflection => reflection,
            Self::Page => pages,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Call => "calls",
            Self::Stream => "streams",
            Self::HealthWatch => "health",
            Self::Probe => "probes",
            Self::Reflection => "reflection",
            Self::Page => "pages",
        }
    }

    /// How many may be open at a time.
    pub(super) const fn places(self, limits: &Limits) -> usize {
        match self {
            Self::Call | Self::Stream | Self::HealthWatch | Self::Probe => limits.calls,
            Self::Reflection => REFLECTIONS.0,
            Self::Page => PAGES.0,
        }
    }

    /// How many of one client.
    pub(super) fn share(self, limits: &Limits) -> usize {
        let share = limits.share(self.places(limits));
        match self {
            Self::Call | Self::Stream | Self::HealthWatch => share,
            Self::Probe => share.min(PROBES_OF_ONE),
            Self::Reflection => share.min(REFLECTIONS.1),
            Self::Page => share.min(PAGES.1),
        }
    }

    /// How long one may take until its answer was read, where that is settled beforehand.
    pub(super) const fn read_within(self) -> Option<Duration> {
        match self {
            Self::Call | Self::Stream | Self::HealthWatch | Self::Reflection => None,
            Self::Probe | Self::Page => Some(READ_WITHIN),
        }
    }

    /// How long a message may be, where that is settled beforehand: what is asked of health, and by reflection, is a name.
    pub(super) const fn longest_message(self) -> Option<usize> {
        match self {
            Self::HealthWatch | Self::Probe => Some(1 << 10),
            Self::Reflection => Some(4 << 10),
            Self::Call | Self::Stream | Self::Page => None,
        }
    }

    /// Whether its answers are a stream, which is open for as long as its caller likes.
    pub(super) const fn is_stream(self) -> bool {
        matches!(self, Self::Stream | Self::HealthWatch | Self::Reflection)
    }

    /// The kind of a call at `path`, which is a stream or not; `other` if it has no room of its own.
    pub(super) fn of(path: &str, is_stream: bool, other: Self) -> Self {
        if let Some(call) = call_of(health_server::SERVICE_NAME, path) {
            return if call == "Watch" { Self::HealthWatch } else { Self::Probe };
        }
        match path {
            "/livez" | "/readyz" => Self::Probe,
            METRICS => Self::Page,
            _ if path.starts_with("/grpc.reflection.") => Self::Reflection,
            _ if is_stream && other == Self::Call => Self::Stream,
            _ => other,
        }
    }
}

/// The call of `service` at `path`, if it is one.
fn call_of<'a>(service: &str, path: &'a str) -> Option<&'a str> {
    path.strip_prefix('/')?.strip_prefix(service)?.strip_prefix('/')
}
