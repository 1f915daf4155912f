//! The database that licenses are kept in: how an operator writes it, and how it is shown.
//!
//! Whatever is refused here is refused without repeating it: a part of it may be a password. Not here: opening it (see
//! `licensing::store`).

mod environment;
mod postgres;
mod tls;

use std::{fmt, path::PathBuf, str::FromStr};

use self::environment::Environment;
pub(in crate::config) use self::tls::TlsKeys;
pub use self::{postgres::Postgres, tls::SslMode};

/// A database.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(Box<Postgres>),
}

/// What an operator may write.
const EXPECTED: &str = "write `postgres://user:password@host/database`, or the path of a file for SQLite";

/// Keywords of libpq's connection strings (`host=… dbname=…`) by which one is told from the name of a file.
const KEYWORDS: [&str; 9] =
    ["host", "hostaddr", "port", "dbname", "user", "password", "sslmode", "service", "connect_timeout"];

impl Database {
    /// Reads what an operator wrote; `environment` is what libpq's variables say.
    fn read(text: &str, environment: &Environment) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("it is empty".to_owned());
        }
        if text.chars().any(char::is_control) {
            return Err("it holds a control character, such as a line feed at its end".to_owned());
        }
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("postgres://") || lower.starts_with("postgresql://") {
            return Postgres::read(text, environment).map(|postgres| Self::Postgres(Box::new(postgres)));
        }
        if lower.starts_with("sqlite://") {
            let path = text.get("sqlite://".len()..).unwrap_or_default();
            return match path {
                "" => Err("it names no file after `sqlite://`".to_owned()),
                _ if path.contains('?') => {
                    Err("parameters after `?` are not read; write the path of the file alone".to_owned())
                }
                _ => Ok(Self::Sqlite(path.into())),
            };
        }
        if is_connection_string(text) {
            return Err(format!(
                "a connection string of `key=value` pairs is not read, and it is not taken for the name of a file either; \
                 {EXPECTED}"
            ));
        }
        // `jdbc:postgresql://…`, `mysql://…`, `:memory:`, `file:…`; a file of such a name has a `./` in front.
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        if scheme.is_some_and(|scheme| !scheme.contains('/')) {
            return Err(format!("this is not a database that licenses can be kept in; {EXPECTED}"));
        }
        Ok(Self::Sqlite(text.into()))
    }
}

impl FromStr for Database {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text, &Environment::of_process())
    }
}

fn is_connection_string(text: &str) -> bool {
    text.split_whitespace().any(|pair| {
        let key = pair.split_once('=').map(|(key, _)| key.to_ascii_lowercase());
        key.is_some_and(|key| KEYWORDS.contains(&key.as_str()))
    })
}

impl fmt::Display for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "SQLite at {}", path.display()),
            Self::Postgres(postgres) => write!(formatter, "PostgreSQL at {postgres}"),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests;
