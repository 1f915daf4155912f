//! The log, on standard error: text for people or JSON for programs.
//!
//! Not here: what is logged. A failure is logged once, where it is handled. Whoever logs never waits for whoever
//! reads: lines go through a bounded queue to a thread of their own, and what finds no room is counted and told. How a
//! line is written is in `line`.

mod line;

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use tracing::{error, level_filters::LevelFilter};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _,
};

use crate::config::{Log, LogFormat};

/// The log's target for what footnote 3 allowed; it is always logged (semantics 4.3).
pub const ADMINISTRATOR_EXCEPTION: &str = "administrator_exception";

/// The log while it is written; dropping it writes what is left.
pub struct Telemetry {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

/// How often lines that found no room are told of.
const TELL_DROPPED_EVERY: Duration = Duration::from_secs(10);

impl Telemetry {
    /// Starts logging. Where a log was started before, that one stays.
    #[must_use]
    pub fn start(log: &Log) -> Self {
        let (writer, guard) =
            NonBlockingBuilder::default().lossy(true).buffered_lines_limit(log.queue).finish(io::stderr());
        let dropped = writer.error_counter();
        let registry = registry().with(targets(log));
        let _ = match log.format {
            LogFormat::Text => registry.with(line::text(writer, io::stderr().is_terminal())).try_init(),
            LogFormat::Json => registry.with(line::json(writer)).try_init(),
        };
        Self { dropped, _writer: guard }
    }

    /// Counts the lines that found no room.
    #[must_use]
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }

    /// Tells, for ever, how many lines found no room.
    pub async fn tell_dropped(&self) {
        let mut told = 0;
        loop {
            tokio::time::sleep(TELL_DROPPED_EVERY).await;
            let dropped = self.dropped.dropped_lines();
            if told < dropped {
                error!(lines = dropped - told, "lines of the log were dropped: whoever reads it is too slow");
                told = dropped;
            }
        }
    }
}

fn targets(log: &Log) -> Targets {
    let level: LevelFilter = log.level.parse().unwrap_or(LevelFilter::INFO);
    // Libraries have nothing to tell an operator below a warning.
    let quiet = ["h2", "hyper", "hyper_util", "tonic", "tower"]
        .map(|library| (library, level.min(LevelFilter::WARN)));
    Targets::new()
        .with_default(level)
        .with_targets(quiet)
        // A line of `.pgpass` that does not read would be logged whole, with the password in it.
        .with_target("sqlx_postgres::options::pgpass", LevelFilter::OFF)
        .with_target(ADMINISTRATOR_EXCEPTION, LevelFilter::INFO)
}
