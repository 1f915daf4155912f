//! The sessions signed in to, kept between commands in a file for their owner alone.
//!
//! Not here: signing in (see `accounts`).

use std::{
    collections::BTreeMap,
    env,
    fs::{DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{
    cli::{
        CommandError,
        whole_file::{Readers, WholeFile},
    },
    edge::remote::RemoteAddress,
};

/// One session.
#[derive(Clone, Deserialize, Serialize)]
pub(in crate::cli) struct Session {
    /// Name of the account.
    pub(in crate::cli) account: String,
    /// The bearer token.
    pub(in crate::cli) token: String,
    /// When it ends.
    pub(in crate::cli) expires_at: Option<String>,
}

/// The file with all of them.
pub(in crate::cli) struct Sessions {
    path: PathBuf,
}

/// What is in the file: one session for each address of a licensing backend.
#[derive(Default, Deserialize, Serialize)]
struct Kept {
    sessions: BTreeMap<String, Session>,
}

impl Sessions {
    /// The file of this user.
    pub(in crate::cli) fn open() -> Result<Self, CommandError> {
        // The XDG base directory specification: a relative path is invalid and has to be ignored.
        let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
        let state = state.ok_or_else(|| {
            CommandError::new("there is no place to keep a session: HOME and XDG_STATE_HOME are not set")
        })?;
        Ok(Self { path: state.join("esa-sidecar/session.json") })
    }

    /// Where they are kept.
    pub(in crate::cli) fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// The session with the backend at `address`, if there is one.
    pub(in crate::cli) fn of(&self, address: &str) -> Result<Option<Session>, CommandError> {
        Ok(self.kept()?.sessions.remove(address))
    }

    /// Keeps a session in place of the one with the same backend; none forgets it.
    pub(in crate::cli) fn keep(
        &self,
        address: &RemoteAddress,
        session: Option<Session>,
    ) -> Result<(), CommandError> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let named = |error: io::Error| CommandError::new(format!("`{}`: {error}", self.path.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(named)?;
        // Two commands that sign in to two backends at once are not to forget each other's session.
        let lock = self.path.with_extension("lock");
        let lock = File::options().create(true).append(true).mode(0o600).open(lock).map_err(named)?;
        lock.lock().map_err(named)?;
        let mut kept = self.kept()?;
        match session {
            Some(session) => kept.sessions.insert(address.to_string(), session),
            None => kept.sessions.remove(&address.to_string()),
        };
        let mut file = WholeFile::begin(&self.path, Readers::Owner)?;
        file.write_all(&serde_json::to_vec_pretty(&kept)?).map_err(named)?;
        file.finish()
    }

    fn kept(&self) -> Result<Kept, CommandError> {
        let text = match std::fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
            read => read.map_err(|error| CommandError::new(format!("`{}`: {error}", self.path.display())))?,
        };
        serde_json::from_slice(&text).map_err(|error| {
            CommandError::new(format!("`{}` is damaged ({error}); remove it and sign in again", self.path()))
        })
    }
}
