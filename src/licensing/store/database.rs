//! Which database: where it is, how it is written, and how it is shown.
//!
//! Not here: what is in it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::folder;

/// Which database.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server, by its URL, which may hold a password.
    Postgres(String),
}

impl Database {
    /// The database an operator names, or a file in `home`.
    #[must_use]
    pub fn of(named: Option<&str>, home: &Path) -> Self {
        match named {
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Self::Postgres(url.to_owned())
            }
            Some(file) => Self::Sqlite(PathBuf::from(file.trim_start_matches("sqlite://"))),
            None => Self::Sqlite(home.join("licensing.db")),
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => {
                let parts = path.to_string_lossy();
                let parts =
                    parts.split('/').map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string());
                format!("sqlite://{}?mode=rwc", parts.collect::<Vec<_>>().join("/"))
            }
            Self::Postgres(url) => url.clone(),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "SQLite at {}", path.display()),
            Self::Postgres(url) => write!(formatter, "PostgreSQL at {}", place(url)),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Makes the file of a database and what is missing above it, for their owner alone: it holds hashes of passwords and
/// secrets. SQLite gives the files beside it the same mode.
pub(super) fn make_file(path: &Path) -> io::Result<()> {
    folder::make(path.parent().unwrap_or(Path::new(".")))?;
    folder::make_file(path)?;
    for end in ["-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(end);
        if Path::new(&beside).exists() {
            folder::make_file(Path::new(&beside))?;
        }
    }
    Ok(())
}

/// The server and the database a URL names. What is before `@` and behind `?` may be a password.
fn place(url: &str) -> &str {
    let (address, asked) = url.split_once('?').unwrap_or((url, ""));
    match address.rsplit_once('@') {
        Some((_, place)) => place,
        // A password with a `?` of its own.
        None if asked.contains('@') => "an address that is not shown",
        None => address.split_once("//").map_or(address, |(_, place)| place),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::licensing::store::Store;

    #[tokio::test]
    async fn a_file_is_its_owner_s_alone_whatever_it_was_before() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = folder.path().join("new/licensing.db");
        for _ in 0..2 {
            let store = Store::open(Database::Sqlite(path.clone()), 2).await.unwrap();
            sqlx::query("UPDATE accounts SET disabled = 1")
                .execute(&mut *store.begin().await.unwrap())
                .await
                .unwrap();
            assert_eq!(mode(&folder.path().join("new")), 0o700);
            for name in ["licensing.db", "licensing.db-wal", "licensing.db-shm"] {
                let path = folder.path().join("new").join(name);
                assert_eq!(mode(&path), 0o600, "{name}");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            }
            // Not closed: the files beside it stay, as after a crash.
            std::mem::forget(store);
        }
    }

    #[test]
    fn a_database_is_shown_without_what_may_be_a_password() {
        for (url, shown) in [
            ("postgres://esa:secret@db.example:5433/licensing", "db.example:5433/licensing"),
            ("postgresql://db.example/licensing", "db.example/licensing"),
            ("postgres://db.example/licensing?user=esa&password=secret", "db.example/licensing"),
            ("postgres://esa:secret@db.example/licensing?password=secret@", "db.example/licensing"),
            ("postgres://esa:sec@ret@db.example/licensing", "db.example/licensing"),
            ("postgres://db.example/licensing?password=sec@ret", "an address that is not shown"),
            ("postgres://esa:sec?ret@db.example/licensing", "an address that is not shown"),
        ] {
            let database = Database::of(Some(url), Path::new(""));
            assert_eq!(database.to_string(), format!("PostgreSQL at {shown}"), "{url}");
            assert_eq!(format!("{database:?}"), database.to_string());
        }
    }
}
