//! The file of SQLite: whose it is.
//!
//! Not here: what is in it.

use std::{io, path::Path};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::folder;

/// Makes the file of a database and what is missing above it, for their owner alone: it holds hashes of passwords and
/// secrets. SQLite gives the files beside it the same mode.
pub(super) fn make(path: &Path) -> io::Result<()> {
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

/// Its URL for the driver.
pub(super) fn url(path: &Path) -> String {
    let parts = path.to_string_lossy();
    let parts = parts.split('/').map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string());
    format!("sqlite://{}?mode=rwc", parts.collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::licensing::store::{Database, Store};

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
