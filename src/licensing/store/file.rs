//! The file of SQLite: whether it is ours, and whose it is.
//!
//! Not here: what is in it.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::{AnyConnection, Connection as _};

use super::{Database, StoreError, migrate};
use crate::folder;

/// How every file of SQLite begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What SQLite keeps beside it.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Refuses a file that is another program's, or that somebody else may write to, before anything of it is changed: neither the file, nor its mode, nor what
/// SQLite keeps beside it.
pub(super) async fn look(path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::File(path.to_owned(), error);
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(failed)?,
    };
    if !metadata.is_file() {
        return Err(StoreError::NotOurs("it is no plain file"));
    }
    // Whoever may write to it, or to its folder, is whoever owns the licenses.
    let file = folder::open(path).map_err(failed)?;
    for end in BESIDE {
        let beside = beside(path, end);
        folder::open(&beside).map_err(|error| StoreError::File(beside, error))?;
    }
    if metadata.len() == 0 {
        return Ok(());
    }
    let mut beginning = Vec::new();
    if let Some(file) = file {
        file.take(MAGIC.len() as u64).read_to_end(&mut beginning).map_err(failed)?;
    }
    if beginning != MAGIC {
        return Err(StoreError::NotOurs("it is no file of SQLite"));
    }
    // Read so that SQLite makes and locks nothing. What is still in the log beside it is not seen then, so that a file
    // that looks as if nothing, or nothing whole, were in it is looked at again once it is open.
    let is_whole = fs::metadata(beside(path, "-wal")).map_or(0, |metadata| metadata.len()) == 0;
    let mut connection = AnyConnection::connect(&url(path, "mode=ro&immutable=true")).await?;
    let looked = migrate::applied(&mut connection, &Database::Sqlite(path.to_owned())).await;
    connection.close().await.ok();
    match looked {
        Err(error @ StoreError::NotOurs(_)) => Err(error),
        Err(error) if is_whole => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Makes the file of a database and what is missing above it, for their owner alone: it holds hashes of passwords and
/// secrets. SQLite gives the files beside it the same mode.
pub(super) fn make(path: &Path) -> io::Result<()> {
    folder::make(path.parent().unwrap_or(Path::new(".")))?;
    folder::make_file(path)?;
    for end in BESIDE {
        let beside = beside(path, end);
        if beside.exists() {
            folder::make_file(&beside)?;
        }
    }
    Ok(())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(end);
    beside.into()
}

/// Its URL for the driver.
pub(super) fn url(path: &Path, how: &str) -> String {
    let parts = path.to_string_lossy();
    let parts = parts.split('/').map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string());
    format!("sqlite://{}?{how}", parts.collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use sqlx::{Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};

    use super::*;
    use crate::licensing::store::{Database, Store};

    #[tokio::test]
    async fn a_file_of_somebody_else_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("theirs");
        let foreign = folder.path().join("foreign.db");
        let options = SqliteConnectOptions::new().filename(&foreign).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        connection.execute("CREATE TABLE notes (text TEXT)").await.unwrap();
        connection.execute("CREATE TABLE _sqlx_migrations (version BIGINT, description TEXT, success BOOLEAN, checksum BLOB)").await.unwrap();
        connection.execute("INSERT INTO _sqlx_migrations VALUES (1, 'theirs', TRUE, x'00')").await.unwrap();
        connection.close().await.unwrap();
        let theirs = fs::read(&foreign).unwrap();
        for (bytes, why) in [
            (&b"notes"[..], "no file of SQLite"),
            (&b"SQLite format"[..], "no file of SQLite"),
            (&theirs[..], "another program's"),
        ] {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            let refused = Store::open(Database::Sqlite(path.clone()), 2).await.err().unwrap().to_string();
            assert!(refused.contains(why), "{refused}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
            for end in ["-wal", "-shm", "-journal"] {
                assert!(!beside(&path, end).exists());
            }
        }
        let refused = Store::open(Database::Sqlite(folder.path().to_owned()), 2).await.err().unwrap();
        assert!(refused.to_string().contains("no plain file"), "{refused}");
    }

    #[tokio::test]
    async fn a_file_that_others_may_have_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (open, own) = (folder.path().join("open"), folder.path().join("own"));
        let refused = async |path: &Path| {
            let refused = Store::open(Database::Sqlite(path.to_owned()), 2).await.err();
            refused.map(|error| error.to_string()).unwrap_or_default()
        };
        fs::create_dir(&open).unwrap();
        fs::create_dir(&own).unwrap();
        let path = own.join("licensing.db");
        assert_eq!(refused(&path).await, "");
        fs::copy(&path, open.join("licensing.db")).unwrap();
        for mode in [0o1777, 0o770] {
            fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
            for name in ["licensing.db", "new.db"] {
                let said = refused(&open.join(name)).await;
                assert!(said.contains("others than its owner may write to it"), "{name}: {said}");
            }
            assert!(!open.join("new.db").exists());
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
        assert!(refused(&path).await.contains("mode 0660"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if folder::user() == 0 {
            for name in ["licensing.db-wal", "licensing.db"] {
                fs::write(own.join(name), fs::read(own.join(name)).unwrap_or_default()).unwrap();
                std::os::unix::fs::chown(own.join(name), Some(1234), None).unwrap();
                let said = refused(&path).await;
                assert!(said.contains("belongs to the user 1234"), "{name}: {said}");
                std::os::unix::fs::chown(own.join(name), Some(0), None).unwrap();
            }
        }
        assert_eq!(refused(&path).await, "");
    }

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
}
