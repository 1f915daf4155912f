//! The replicas of one licensing backend: which is called, and which when that one fails.
//!
//! Not here: what is asked of them.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant as Tick};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use super::Settings;
use crate::{
    edge::remote::{EndpointError, RemoteAddress, cause, kept_alive},
    escape::escape_and_shorten,
};

/// The replicas, in order of preference.
#[derive(Debug)]
pub(super) struct Replicas {
    all: Vec<Replica>,
    current: Mutex<Current>,
    answers: watch::Sender<()>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Replica {
    position: usize,
    pub(super) address: RemoteAddress,
    endpoint: Endpoint,
    /// Made when it is first called: that needs a runtime.
    channel: OnceLock<Channel>,
}

/// The one that is called first.
#[derive(Debug)]
struct Current {
    position: usize,
    since: Tick,
}

/// Why a call had no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The replica could not be asked; another may be.
    Unreachable(String),
    /// What it answered is refused here; another may answer better.
    Untrusted(String),
    /// It refuses who asks, or what is asked.
    Refused(String),
    /// It does not take the secret of who asks.
    Unauthenticated(String),
    /// It does not take something that is said.
    Unacceptable(Unacceptable),
}

/// Something that is said is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unacceptable {
    /// Why, for people.
    pub(super) what: String,
    /// Path of the field, where it is named.
    pub(super) field: Option<String>,
    /// Whether it will never be taken. Otherwise there may only be too much of it at a time.
    pub(super) for_good: bool,
}

/// A replica that is less preferred is left again after this long.
const BACK_TO_PREFERRED: Duration = Duration::from_mins(5);

impl Replicas {
    pub(super) fn new(addresses: Vec<RemoteAddress>, settings: &Settings) -> Result<Self, EndpointError> {
        let Settings { trust, timeout, keepalive, .. } = settings;
        let replica = |(position, address): (usize, RemoteAddress)| {
            let endpoint = kept_alive(address.endpoint(trust, *timeout)?, *keepalive, *timeout);
            Ok(Replica { position, address, endpoint, channel: OnceLock::new() })
        };
        let all = addresses.into_iter().enumerate().map(replica);
        let all = all.collect::<Result<_, EndpointError>>()?;
        let current = Mutex::new(Current { position: 0, since: Tick::now() });
        Ok(Self { all, current, answers: watch::Sender::new(()) })
    }

    /// All of them, the one that answered last first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Replica> {
        let mut current = self.current();
        if BACK_TO_PREFERRED < current.since.elapsed() {
            *current = Current { position: 0, since: Tick::now() };
        }
        let (before, from) = self.all.split_at_checked(current.position).unwrap_or_default();
        from.iter().chain(before)
    }

    /// `replica` answered: it is called first.
    pub(super) fn answered(&self, replica: &Replica) {
        self.call_first(replica.position);
        self.answers.send_replace(());
    }

    /// Changes whenever any of them answers.
    pub(super) fn answers(&self) -> watch::Receiver<()> {
        self.answers.subscribe()
    }

    /// `replica` did not: the next one is called first.
    pub(super) fn failed(&self, replica: &Replica) {
        if self.current().position == replica.position {
            self.call_first(if replica.position + 1 < self.all.len() { replica.position + 1 } else { 0 });
        }
    }

    fn call_first(&self, position: usize) {
        let mut current = self.current();
        if current.position != position {
            *current = Current { position, since: Tick::now() };
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replica {
    pub(super) fn channel(&self) -> Channel {
        self.channel.get_or_init(|| self.endpoint.connect_lazy()).clone()
    }

    /// What a failed call means. `who` asked.
    pub(super) fn trouble(&self, status: &Status, who: &str) -> Trouble {
        let Self { address, .. } = self;
        // It goes into logs, and to whoever asks this sidecar how it is.
        let said = escape_and_shorten(&cause(status).unwrap_or_else(|| status.message().to_owned()));
        let unreachable = || Trouble::Unreachable(format!("licensing backend {address}: {said}"));
        match status.code() {
            Code::Unauthenticated => Trouble::Unauthenticated(format!(
                "the licensing backend does not take the credential of {who}: {said}; if the unit is gone, activate \
                 this server anew with `esa-sidecar activate`"
            )),
            Code::PermissionDenied => {
                Trouble::Refused(format!("the licensing backend does not let {who} ask this: {said}"))
            }
            Code::NotFound => Trouble::Refused(format!("the licensing backend does not know {who}: {said}")),
            Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted => {
                let violation = status.get_details_bad_request().map(|details| details.field_violations);
                let field = violation.and_then(|named| named.into_iter().next()).map(|named| named.field);
                let for_good = status.code() == Code::InvalidArgument;
                let what = format!("licensing backend {address} does not take what {who} says: {said}");
                Trouble::Unacceptable(Unacceptable { what, field, for_good })
            }
            Code::FailedPrecondition | Code::AlreadyExists | Code::Unimplemented => {
                Trouble::Refused(format!("licensing backend {address} does not take what {who} says: {said}"))
            }
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => unreachable(),
        }
    }

    pub(super) fn silent(&self, timeout: Duration) -> Trouble {
        Trouble::Unreachable(format!(
            "licensing backend {}: no answer within {}",
            self.address,
            humantime::format_duration(timeout)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    impl Replicas {
        pub(in crate::source::remote) fn of(addresses: Vec<RemoteAddress>) -> Self {
            let config = Config::read(None, Vec::new()).unwrap();
            Self::new(addresses, &Settings::of(&config)).unwrap()
        }
    }

    fn order(replicas: &Replicas) -> Vec<usize> {
        replicas.in_order().map(|replica| replica.position).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_is_called_when_one_fails_and_the_preferred_one_again_later() {
        let addresses = ["http://a:1", "http://b:1", "http://c:1"].map(|text| text.parse().unwrap());
        let second = Duration::from_secs(1);
        let replicas = Replicas::of(addresses.to_vec());
        assert_eq!(order(&replicas), [0, 1, 2]);
        replicas.failed(&replicas.all[0]);
        assert_eq!(order(&replicas), [1, 2, 0]);
        replicas.failed(&replicas.all[0]);
        assert_eq!(order(&replicas), [1, 2, 0], "another has taken its place already");
        replicas.answered(&replicas.all[2]);
        assert_eq!(order(&replicas), [2, 0, 1]);
        replicas.failed(&replicas.all[2]);
        assert_eq!(order(&replicas), [0, 1, 2]);
        replicas.answered(&replicas.all[1]);
        tokio::time::advance(BACK_TO_PREFERRED + second).await;
        assert_eq!(order(&replicas), [0, 1, 2]);
    }
}
