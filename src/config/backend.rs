//! What an operator sets of the licensing backend.
//!
//! Not here: where a sidecar finds a backend (see `licensing`).

use std::time::Duration;

use super::reader::Reader;

/// The licensing backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `backend.database`: `postgres://user:password@host/database`, or a file for SQLite; default
    /// `licensing/licensing.db` in `data_dir`.
    pub database: Option<String>,
    /// `backend.connections`: to the database at a time, default 8.
    pub connections: u32,
    /// `backend.poll_interval`: how often the database is asked what changed, should it not have been heard; default
    /// `2s`.
    pub poll_interval: Duration,
    /// `backend.session_time`: how long a session lasts, default `12h`.
    pub session_time: Duration,
    /// `backend.sign_in_attempts`: wrong passwords in a row that lock an account, default 10.
    pub sign_in_attempts: u32,
    /// `backend.sign_in_lock`: for how long, default `15m`.
    pub sign_in_lock: Duration,
    /// `backend.passwords_at_a_time`: hashed at a time, each with 46 MiB, default 2.
    pub passwords_at_a_time: usize,
    /// `backend.passwords_waiting`: calls that wait for theirs to be hashed, default 64; the next is refused.
    pub passwords_waiting: usize,
    /// `backend.requests_kept`: how long a change can be repeated under its request ID, default `7d`.
    pub requests_kept: Duration,
    /// `backend.watches`: units that watch at a time, default 20,000.
    pub watches: usize,
    /// `backend.request_bytes`: bytes in one message, default 4 MiB.
    pub request_bytes: usize,
}

impl Backend {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            database: reader.parsed("backend.database", None, |text| database(text).map(Some)),
            connections: reader.number("backend.connections", 8, 1..=1_000),
            poll_interval: reader.duration("backend.poll_interval", Duration::from_secs(2)),
            session_time: reader.duration("backend.session_time", Duration::from_hours(12)),
            sign_in_attempts: reader.number("backend.sign_in_attempts", 10, 1..=1_000_000),
            sign_in_lock: reader.duration("backend.sign_in_lock", Duration::from_mins(15)),
            passwords_at_a_time: reader.number("backend.passwords_at_a_time", 2, 1..=1_000),
            passwords_waiting: reader.number("backend.passwords_waiting", 64, 1..=1_000_000),
            requests_kept: reader.duration("backend.requests_kept", Duration::from_hours(7 * 24)),
            watches: reader.number("backend.watches", 20_000, 1..=1_000_000),
            request_bytes: reader.number("backend.request_bytes", 4 << 20, 1 << 10..=64 << 20),
        }
    }
}

/// A database that is spoken to, as it is written. The rest of a URL may hold a password and is not repeated.
fn database(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        _ if text.is_empty() => Err("it is empty".to_owned()),
        Some(("postgres" | "postgresql" | "sqlite", rest)) if rest.starts_with("//") => Ok(text.to_owned()),
        Some((scheme, _)) if !scheme.contains('/') => Err(format!(
            "`{scheme}:…` is no database licences are kept in; write postgres://user:password@host/database, or the path \
             of a file"
        )),
        _ => Ok(text.to_owned()),
    }
}
