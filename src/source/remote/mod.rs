//! Facts from a licensing backend: each unit of this server syncs, handing over usage, and hears of changes on a stream.
//!
//! Nothing is taken that a trusted key does not vouch for, for this unit, in answer to this question (semantics 5.5).
//! Not here: when to sync (see `refresh`), and how usage is kept until it was taken (see `refresh::outbox`).

mod ask;
mod memory;
mod renewal;
mod replicas;
mod sync;
mod usage;
mod watch;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{memory::Memory, replicas::Replicas};
use super::{
    Answer, Ask, FactsSource, Occasion, Origin, SourceError,
    units::{UnitsError, UnitsFile},
    usage::UsageDelay,
};
use crate::{
    config,
    domain::SubscriptionId,
    edge::{
        remote::{EndpointError, RemoteAddress},
        tls::Trust,
    },
    folder::Marks,
    signing::TrustedKeys,
};

/// A licensing backend, and the units this server asks it as.
pub struct RemoteSource {
    shared: Arc<Shared>,
    _watches_end: DropGuard,
}

/// Tells the keys that are trusted now; it is asked whenever facts come, and may read a file.
pub type Trusted = Arc<dyn Fn() -> TrustedKeys + Send + Sync>;

/// How a backend is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The subscription a server that is not activated is meant for.
    pub subscription: Option<SubscriptionId>,
    /// Whom it is trusted to be, where it is called over TLS.
    pub trust: Trust,
    /// How long one replica may take to connect, or to answer.
    pub timeout: Duration,
    /// A connection that is silent for so long is asked whether it is still there.
    pub keepalive: Duration,
    /// The wait before a stream that ended is opened again.
    pub retry_first: Duration,
    /// The longest such wait.
    pub retry_most: Duration,
    /// How often the units file is looked at.
    pub poll_interval: Duration,
    /// How long usage waits for company.
    pub usage_delay: UsageDelay,
    /// After which a unit renews its secret.
    pub secret_age: Duration,
}

struct Shared {
    replicas: Replicas,
    trusted: Trusted,
    units_file: UnitsFile,
    settings: Settings,
    /// What tells this process from another one with the same units.
    instance: String,
    memory: Mutex<Memory>,
    changed: Notify,
    end: CancellationToken,
}

impl RemoteSource {
    /// Asks `replicas` of one backend, in order of preference, as the units of `units_file`.
    pub fn new(
        replicas: Vec<RemoteAddress>,
        trusted: Trusted,
        units_file: UnitsFile,
        settings: Settings,
    ) -> Result<Self, EndpointError> {
        let replicas = Replicas::new(replicas, &settings)?;
        let end = CancellationToken::new();
        let mut memory = Memory::default();
        // Usage that is reported before the first sync is to be handed over. What is wrong with the file is told then.
        if let Ok(units) = units_file.read() {
            memory.hold(units.units);
        }
        let memory = Mutex::new(memory);
        let changed = Notify::new();
        let instance = instance();
        let end_of_watches = end.clone();
        let shared = Shared {
            replicas,
            trusted,
            units_file,
            settings,
            instance,
            memory,
            changed,
            end: end_of_watches,
        };
        Ok(Self { shared: Arc::new(shared), _watches_end: end.drop_guard() })
    }
}

impl Settings {
    /// As they are configured.
    #[must_use]
    pub fn of(config: &config::Config) -> Self {
        let config::Licensing { subscription, timeout, keepalive, usage_delay, sms_delay, .. } =
            config.licensing;
        let secret_age = config.licensing.secret_age;
        Self {
            subscription,
            trust: config.licensing.trust.clone(),
            timeout,
            keepalive,
            retry_first: config.refresh.retry_first,
            retry_most: config.refresh.retry_most,
            poll_interval: config.file.poll_interval,
            usage_delay: UsageDelay { counts: usage_delay, sms: sms_delay },
            secret_age,
        }
    }
}

impl FactsSource for RemoteSource {
    /// The same whichever replica answers; what was kept is believed for its signature, not for where it came from.
    fn identity(&self) -> String {
        "licensing backend".to_owned()
    }

    fn origin(&self) -> Origin {
        Origin::Live
    }

    async fn fetch(&self, ask: Ask) -> Answer {
        let Self { shared, .. } = self;
        shared.memory().news = false;
        let answer = match shared.read_units().await {
            Err(error) => Err(error).into(),
            Ok(false) if ask.occasion == Occasion::Changed && !shared.trusts_others().await => {
                shared.catch_up(&ask).await
            }
            Ok(_) => shared.sync_all(&ask).await,
        };
        for (unit, stop) in shared.memory().unwatched(&shared.end) {
            tokio::spawn(watch::watch(Arc::clone(shared), unit, stop));
        }
        answer
    }

    async fn changed(&self) {
        let Self { shared, .. } = self;
        while !shared.memory().news {
            tokio::select! {
                () = shared.changed.notified() => {}
                () = tokio::time::sleep(shared.settings.poll_interval) => {
                    if shared.looks_changed().await {
                        return;
                    }
                }
            }
        }
    }

    fn usage_delay(&self, subscription_id: SubscriptionId) -> Option<UsageDelay> {
        // Facts that are deactivated do not say whether the unit was or its licence: what counts of it, the backend knows.
        self.shared.memory().has_unit_of(subscription_id).then_some(self.shared.settings.usage_delay)
    }
}

/// 32 random hexadecimal digits; nothing where there are no random bytes, which a sync then fails for.
fn instance() -> String {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(_) => String::new(),
    }
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the units file; whether it has other units than before.
    async fn read_units(&self) -> Result<bool, SourceError> {
        let file = self.units_file.clone();
        // The marks are taken before the contents: an edit in between shows at the next look.
        let read = spawn_blocking(move || (file.marks(), file.read())).await;
        let (marks, read) = read.map_err(|failure| SourceError::Unreachable(failure.to_string()))?;
        self.memory().read = marks;
        let units = read.map_err(|error| match error {
            UnitsError::Io(..) | UnitsError::NoRandomBytes(_) => SourceError::Unreachable(error.to_string()),
            UnitsError::Exposed(..) | UnitsError::Malformed(..) => SourceError::Refused(error.to_string()),
        })?;
        Ok(self.memory().hold(units.units))
    }

    /// Whether the units file was edited, or keys are trusted that were not when facts were refused.
    async fn looks_changed(&self) -> bool {
        let file = self.units_file.clone();
        let Ok(marks): Result<Option<Marks>, _> = spawn_blocking(move || file.marks()).await else {
            return false;
        };
        self.memory().read != marks || self.trusts_others().await
    }

    /// Whether other keys are trusted now than when facts were refused.
    async fn trusts_others(&self) -> bool {
        let refused_by = self.memory().refused_by.clone();
        match refused_by {
            Some(refused_by) => self.trusted().await != refused_by,
            None => false,
        }
    }

    async fn trusted(&self) -> TrustedKeys {
        let trusted = Arc::clone(&self.trusted);
        // Whoever cannot say trusts nobody.
        spawn_blocking(move || trusted()).await.unwrap_or_default()
    }
}
