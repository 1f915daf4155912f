//! The log, on standard error: text for people or JSON for programs.
//!
//! Not here: what is logged. A failure is logged once, where it is handled.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, filter::Directive, fmt};

use crate::config::{Log, LogFormat};

/// The log's target for what footnote 3 allowed; it is always logged (semantics 4.3).
pub const ADMINISTRATOR_EXCEPTION: &str = "administrator_exception";

/// Starts logging. Once for a process; a second call changes nothing.
pub fn init(log: &Log) {
    let level: LevelFilter = log.level.parse().unwrap_or(LevelFilter::INFO);
    let mut filter = EnvFilter::default().add_directive(level.into());
    // Libraries have nothing to tell an operator below a warning.
    for quiet in ["h2", "hyper", "hyper_util", "tonic", "tower"] {
        filter = filter.add_directives_of(quiet, "warn");
    }
    filter = filter.add_directives_of(ADMINISTRATOR_EXCEPTION, "info");
    let subscriber = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    // Whoever embeds the sidecar may have a log of its own; that one then stays.
    let _ = match log.format {
        LogFormat::Text => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
}

trait AddDirectives {
    fn add_directives_of(self, target: &str, level: &str) -> Self;
}

impl AddDirectives for EnvFilter {
    fn add_directives_of(self, target: &str, level: &str) -> Self {
        match format!("{target}={level}").parse::<Directive>() {
            Ok(directive) => self.add_directive(directive),
            Err(_) => self,
        }
    }
}
