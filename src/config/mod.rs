//! What an operator can set: one small struct for each concern, every key with its default.
//!
//! Not here: how file, environment and flags are layered and how faults are collected (see `reader`). Keys are
//! those of the TOML file; as an environment variable `refresh.interval` is `ESA_SIDECAR__REFRESH__INTERVAL`.

mod backend;
mod callers;
mod database;
mod licensing;
mod limits;
mod listen;
mod reader;
mod repeated;
mod syntax;
mod tls;

use std::{collections::BTreeMap, env, path::PathBuf, time::Duration};

use crate::{domain::Operation, edge::address::ListenAddress, names::Named as _};

pub use backend::Backend;
pub use callers::{Caller, Identity, Quota};
pub use database::{Database, Postgres, SslMode};
pub use licensing::{Licensing, beyond_this_machine};
pub use limits::Limits;
pub use listen::{Listen, MetricsTold};
use reader::Reader;
pub use reader::{Fault, Faults, Flag, duration};
pub use tls::Tls;

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `listen`
    pub listen: Listen,
    /// `data_dir`: where the last facts are kept. Default: `$STATE_DIRECTORY`, or
    /// `$XDG_STATE_HOME/esa-sidecar`, or `~/.local/state/esa-sidecar`.
    pub data_dir: PathBuf,
    /// `file`
    pub file: FactsFile,
    /// `refresh`
    pub refresh: Refresh,
    /// `licensing`
    pub licensing: Licensing,
    /// `backend`
    pub backend: Backend,
    /// `staleness`
    pub staleness: Staleness,
    /// `tls`
    pub tls: Tls,
    /// `callers`: who may ask what; without it, whoever reaches the listener may ask anything.
    pub callers: Option<Vec<Caller>>,
    /// `limits`
    pub limits: Limits,
    /// `log`
    pub log: Log,
}

/// The facts file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactsFile {
    /// `file.path`, no default.
    pub path: Option<PathBuf>,
    /// `file.poll_interval`: how often it is looked at, default `200ms`.
    pub poll_interval: Duration,
    /// `file.max_bytes`: a larger one is refused, default 256 MiB.
    pub max_bytes: u64,
}

/// When facts are asked for, and how often at the most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// `refresh.interval`, default `5m`; a licensing backend has its own, `licensing.sync_interval`.
    pub interval: Duration,
    /// `refresh.jitter_percent`: how much shorter or longer an interval may be, default 10.
    pub jitter_percent: u32,
    /// `refresh.retry_first`: the wait after the first failure, default `1s`; it doubles with each.
    pub retry_first: Duration,
    /// `refresh.retry_most`: the longest wait, default `5m`.
    pub retry_most: Duration,
    /// `refresh.timeout`: how long the source, or the disk, may take, default `30s`.
    pub timeout: Duration,
    /// `refresh.at_most_every`: however many callers ask, default `1s`.
    pub at_most_every: Duration,
    /// `refresh.requests_waiting`: callers that may wait for a refresh at a time, default 1024.
    pub requests_waiting: usize,
    /// `refresh.remembered_sms`: ids of SMS remembered so that each counts once, default 100,000.
    pub remembered_sms: usize,
    /// `refresh.usage_waiting`: SMS that may wait to be taken by the backend, default 1,000,000; reports of more are
    /// refused, and of one subscription what is more than it leaves free for others.
    pub usage_waiting: usize,
}

/// From which age facts are called stale, and from which nothing is answered from them (semantics 5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staleness {
    /// `staleness.stale_after`: answers say `stale`, default `1d`.
    pub stale_after: Duration,
    /// `staleness.unavailable_after`: every answer is `UNAVAILABLE` and the sidecar not ready; default never.
    pub unavailable_after: Option<Duration>,
    /// `staleness.operations.<operation>`: the same for one operation; default never.
    pub operations: BTreeMap<&'static str, Duration>,
}

/// What is logged, to standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `log.format`: `text` or `json`, default `text`.
    pub format: LogFormat,
    /// `log.queue`: lines that may wait to be written, default 8,192; more are dropped, counted and told of.
    pub queue: usize,
    /// `log.level`: `error`, `warn`, `info`, `debug` or `trace`, default `info`.
    pub level: String,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Config {
    /// Reads file, environment and flags, each over the one before; every fault at once.
    pub fn read(file: Option<PathBuf>, flags: Vec<Flag>) -> Result<Self, Faults> {
        Self::read_without(&[], file, flags)
    }

    /// The same, with the environment silent about these tables.
    pub fn read_without(tables: &[&str], file: Option<PathBuf>, flags: Vec<Flag>) -> Result<Self, Faults> {
        let mut reader = Reader::new(tables, file, flags)?;
        let config = Self {
            listen: Listen::read(&mut reader),
            data_dir: reader.path("data_dir").unwrap_or_else(default_data_dir),
            file: FactsFile::read(&mut reader),
            licensing: Licensing::read(&mut reader),
            backend: Backend::read(&mut reader),
            refresh: Refresh::read(&mut reader),
            staleness: Staleness::read(&mut reader),
            tls: Tls::read(&mut reader),
            callers: callers::read(&mut reader),
            limits: Limits::read(&mut reader),
            log: Log::read(&mut reader),
        };
        config.check_together(&mut reader);
        reader.finish(config)
    }
}

impl Config {
    /// The tables in which another configuration differs and that count from a start on; `[[callers]]` counts at once.
    #[must_use]
    pub fn differs_in(&self, other: &Self) -> Vec<&'static str> {
        let Self {
            listen,
            data_dir,
            file,
            refresh,
            licensing,
            backend,
            staleness,
            tls,
            callers: _,
            limits,
            log,
        } = self;
        let tables = [
            ("`listen`", *listen == other.listen),
            ("`data_dir`", *data_dir == other.data_dir),
            ("`file`", *file == other.file),
            ("`refresh`", *refresh == other.refresh),
            ("`licensing`", *licensing == other.licensing),
            ("`backend`", *backend == other.backend),
            ("`staleness`", *staleness == other.staleness),
            ("`tls`", *tls == other.tls),
            ("`limits`", *limits == other.limits),
            ("`log`", *log == other.log),
        ];
        tables.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect()
    }

    /// Which key says how often facts are asked for, and how often.
    fn interval(&self) -> (&'static str, Duration) {
        if self.licensing.urls.is_empty() {
            ("refresh.interval", self.refresh.interval)
        } else {
            ("licensing.sync_interval", self.licensing.sync_interval)
        }
    }

    /// What is wrong only in company.
    fn check_together(&self, reader: &mut Reader) {
        if self.data_dir.to_str().is_none() {
            let what = "its name is not UTF-8; name another folder with --data-dir".to_owned();
            reader.fault("data_dir", what);
        }
        let Listen {
            enforcement,
            probes,
            licensing,
            metrics: _,
            threads: _,
            trust_network: _,
            socket_mode: _,
            socket_owner: _,
        } = &self.listen;
        let same = |one: &ListenAddress, other| one == other && !one.takes_any_port();
        for (key, clashes, other) in [
            ("listen.probes", same(probes, enforcement), "listen.enforcement"),
            ("listen.licensing", same(licensing, enforcement), "listen.enforcement"),
            ("listen.licensing", same(licensing, probes), "listen.probes"),
        ] {
            if clashes {
                reader.fault(key, format!("the same address as `{other}`; choose another"));
            }
        }
        self.check_reach(reader);
        if !self.licensing.urls.is_empty() && self.file.path.is_some() {
            let what = "facts come from one source: leave out `file.path`, or these".to_owned();
            reader.fault("licensing.urls", what);
        }
        self.limits.check_together(reader);
        let Staleness { unavailable_after, operations, .. } = &self.staleness;
        let bounds = operations.iter().map(|(name, age)| (format!("staleness.operations.{name}"), *age));
        let bounds =
            bounds.chain(unavailable_after.map(|age| ("staleness.unavailable_after".to_owned(), age)));
        let (interval_key, interval) = self.interval();
        for (key, age) in bounds.filter(|(_, age)| *age < interval) {
            let what = format!(
                "{} is shorter than `{interval_key}`, {}: facts would be too old between two refreshes that went well",
                humantime::format_duration(age),
                humantime::format_duration(interval)
            );
            reader.fault(&key, what);
        }
    }
}

impl Refresh {
    /// The same for a licensing backend, which says itself when something changes.
    #[must_use]
    pub fn of_backend(self, licensing: &Licensing) -> Self {
        // One replica after the other may let us wait.
        let tries = u32::try_from(licensing.urls.len()).unwrap_or(u32::MAX).saturating_add(1);
        let timeout = self.timeout.max(licensing.timeout.saturating_mul(tries));
        Self { interval: licensing.sync_interval, timeout, ..self }
    }
}

impl FactsFile {
    fn read(reader: &mut Reader) -> Self {
        Self {
            path: reader.path("file.path"),
            poll_interval: reader.duration("file.poll_interval", Duration::from_millis(200)),
            max_bytes: reader.number("file.max_bytes", 256 << 20, 1..=1 << 40),
        }
    }
}

impl Refresh {
    fn read(reader: &mut Reader) -> Self {
        Self {
            interval: reader.duration("refresh.interval", Duration::from_secs(300)),
            jitter_percent: reader.number("refresh.jitter_percent", 10, 0..=100),
            retry_first: reader.duration("refresh.retry_first", Duration::from_secs(1)),
            retry_most: reader.duration("refresh.retry_most", Duration::from_secs(300)),
            timeout: reader.duration("refresh.timeout", Duration::from_secs(30)),
            at_most_every: reader.duration("refresh.at_most_every", Duration::from_secs(1)),
            requests_waiting: reader.number("refresh.requests_waiting", 1024, 1..=1_000_000),
            usage_waiting: reader.number("refresh.usage_waiting", 1_000_000, 1..=100_000_000),
            remembered_sms: reader.number("refresh.remembered_sms", 100_000, 1..=100_000_000),
        }
    }
}

impl Staleness {
    fn read(reader: &mut Reader) -> Self {
        let mut operations = BTreeMap::new();
        for operation in Operation::ALL {
            if let Some(age) = reader.optional_duration(&format!("staleness.operations.{}", operation.name()))
            {
                operations.insert(operation.name(), age);
            }
        }
        Self {
            stale_after: reader.duration("staleness.stale_after", Duration::from_hours(24)),
            unavailable_after: reader.optional_duration("staleness.unavailable_after"),
            operations,
        }
    }
}

impl Log {
    fn read(reader: &mut Reader) -> Self {
        let format = |text: &str| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("`{text}` is neither `text` nor `json`")),
        };
        let level = |text: &str| match text {
            "error" | "warn" | "info" | "debug" | "trace" => Ok(text.to_owned()),
            _ => Err(format!("`{text}` is not one of `error`, `warn`, `info`, `debug`, `trace`")),
        };
        Self {
            format: reader.parsed("log.format", LogFormat::Text, format),
            queue: reader.number("log.queue", 8_192, 1..=10_000_000),
            level: reader.parsed("log.level", "info".to_owned(), level),
        }
    }
}

/// Where systemd says state goes; else where the desktop's convention says.
fn default_data_dir() -> PathBuf {
    let folder = |variable: &str| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("STATE_DIRECTORY")
        .or_else(|| folder("XDG_STATE_HOME").map(|home| home.join("esa-sidecar")))
        .or_else(|| folder("HOME").map(|home| home.join(".local/state/esa-sidecar")))
        .unwrap_or_else(|| PathBuf::from("/var/lib/esa-sidecar"))
}

#[cfg(test)]
mod tests;
