//! What an operator sets of the licensing backend.
//!
//! Not here: where a sidecar finds a backend (see `licensing`).

use std::{path::Path, time::Duration};

use super::{
    database::{Database, TlsKeys},
    reader::Reader,
};

/// The licensing backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `backend.database`: `postgres://user:password@host/database`, or a file for SQLite; default
    /// the file `licensing/licensing.db` in `data_dir`. A server on another machine is spoken to over TLS and has to show a
    /// certificate for the host's name (`sslmode=verify-full`).
    /// `backend.database_ca`: the authorities of its certificate (PEM), default those of this machine.
    /// `backend.database_certificate`, `backend.database_key`: what is shown to it (PEM), default nothing.
    /// `backend.database_plaintext`: whether a server on another machine may be spoken to with less than that, in the
    /// clear unless the URL names an `sslmode`, default false.
    pub database: Option<Database>,
    /// `backend.connections`: to the database at a time, default 8: for changes on PostgreSQL and for reads on SQLite, and
    /// half as many for each of what else has connections of its own (semantics 7.39): syncs, and on PostgreSQL reads and
    /// changes of units.
    pub connections: u32,
    /// `backend.poll_interval`: how often the database is asked what changed, should it not have been heard; default
    /// `2s`.
    pub poll_interval: Duration,
    /// `backend.session_time`: how long a session lasts, default `12h`.
    pub session_time: Duration,
    /// `backend.session_idle`: how long one may be unused before it ends, default `2h`.
    pub session_idle: Duration,
    /// `backend.sign_in_attempts`: wrong passwords of one name in a row from one address before each next one has to wait,
    /// a second at first and then twice as long each time, default 10.
    pub sign_in_attempts: u32,
    /// `backend.sign_in_lock`: the longest wait, default `15m`; one guess in 30 seconds opens where the name
    /// signed in before.
    pub sign_in_lock: Duration,
    /// `backend.passwords_at_a_time`: sign-ins hashed at a time, each with 46 MiB, default one for every two processors;
    /// as many again for who is signed in or known.
    pub passwords_at_a_time: usize,
    /// `backend.passwords_waiting`: sign-ins that wait for theirs to be hashed, default 64, one address an eighth of them at
    /// most; calls of who is signed in have as many places of their own.
    pub passwords_waiting: usize,
    /// `backend.requests_kept`: how long a change can be repeated under its request ID, default `7d`.
    pub requests_kept: Duration,
    /// `backend.watches`: units that watch at a time, default 20,000.
    pub watches: usize,
    /// `backend.sms_credits`: credits that one SMS costs at most, default 100; SMS that cost more are deferred.
    pub sms_credits: u32,
    /// `backend.sms_per_day`: SMS of one unit that count in a day, default 50,000; further ones are deferred.
    pub sms_per_day: u32,
    /// `backend.sms_kept`: SMS are known again until their unit has synced for so long since, default `7d`.
    pub sms_kept: Duration,
    /// `backend.units_per_license`: units that may ever be activated with one license, beside ten for each seat, default
    /// 10,000.
    pub units_per_license: u32,
    /// `backend.request_bytes`: bytes in one message, default 4 MiB.
    pub request_bytes: usize,
}

impl Backend {
    /// The database of a backend with this data folder.
    #[must_use]
    pub fn database_in(&self, data_dir: &Path) -> Database {
        self.database.clone().unwrap_or_else(|| Database::Sqlite(data_dir.join("licensing/licensing.db")))
    }

    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            database: database(reader),
            connections: reader.number("backend.connections", 8, 1..=1_000),
            poll_interval: reader.duration("backend.poll_interval", Duration::from_secs(2)),
            session_time: reader.duration("backend.session_time", Duration::from_hours(12)),
            session_idle: reader.duration("backend.session_idle", Duration::from_hours(2)),
            sign_in_attempts: reader.number("backend.sign_in_attempts", 10, 1..=1_000_000),
            sign_in_lock: reader.duration("backend.sign_in_lock", Duration::from_mins(15)),
            passwords_at_a_time: reader.number(
                "backend.passwords_at_a_time",
                half_of_the_processors(),
                1..=1_000,
            ),
            passwords_waiting: reader.number("backend.passwords_waiting", 64, 1..=1_000_000),
            requests_kept: reader.duration("backend.requests_kept", Duration::from_hours(7 * 24)),
            watches: reader.number("backend.watches", 20_000, 1..=1_000_000),
            sms_credits: reader.number("backend.sms_credits", 100, 1..=10_000),
            sms_per_day: reader.number("backend.sms_per_day", 50_000, 1..=1_000_000_000),
            sms_kept: reader.duration("backend.sms_kept", Duration::from_hours(7 * 24)),
            units_per_license: reader.number("backend.units_per_license", 10_000, 1..=1_000_000_000),
            request_bytes: reader.number("backend.request_bytes", 4 << 20, 1 << 10..=64 << 20),
        }
    }
}

/// Hashing leaves as many to everything else.
fn half_of_the_processors() -> usize {
    std::thread::available_parallelism().map_or(1, |all| (all.get() / 2).max(1))
}

/// The database, with what other keys say of the way to it.
fn database(reader: &mut Reader) -> Option<Database> {
    let named = reader.parsed("backend.database", None, |text| text.parse::<Database>().map(Some));
    let [ca, certificate, key] =
        ["backend.database_ca", "backend.database_certificate", "backend.database_key"]
            .map(|key| reader.path(key));
    let keys = TlsKeys { plaintext: reader.truth("backend.database_plaintext"), ca, certificate, key };
    let Some(Database::Postgres(mut postgres)) = named else {
        for (key, is_set) in [
            ("backend.database_ca", keys.ca.is_some()),
            ("backend.database_certificate", keys.certificate.is_some()),
            ("backend.database_key", keys.key.is_some()),
        ] {
            if is_set {
                reader.fault(
                    key,
                    "it goes with a `backend.database` that begins with `postgres://`".to_owned(),
                );
            }
        }
        return named;
    };
    for (key, what) in postgres.settle(&keys) {
        reader.fault(key, what);
    }
    Some(Database::Postgres(postgres))
}
