//! The sessions signed in to, kept between commands in a file for their owner alone.
//!
//! Not here: signing in (see `accounts`).

use std::{collections::BTreeMap, env, io, mem, path::PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{cli::CommandError, edge::remote::RemoteAddress, folder};

/// One session, whose token is zeroed after use.
#[derive(Deserialize, Serialize)]
pub(in crate::cli) struct Session {
    /// Name of the account.
    pub(in crate::cli) account: String,
    /// The bearer token.
    pub(in crate::cli) token: String,
    /// When it ends.
    pub(in crate::cli) expires_at: Option<String>,
}

impl Session {
    /// Its token, which it has no more.
    pub(in crate::cli) fn into_token(mut self) -> Zeroizing<String> {
        Zeroizing::new(mem::take(&mut self.token))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

/// The file with all of them.
pub(in crate::cli) struct Sessions {
    folder: PathBuf,
}

const NAME: &str = "session.json";
/// What is held while it is changed: two commands that sign in to two backends at once are not to forget each other's
/// session.
const LOCK: &str = "session.lock";

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
        Ok(Self { folder: state.join("esa-sidecar") })
    }

    /// Where they are kept.
    pub(in crate::cli) fn path(&self) -> String {
        self.folder.join(NAME).display().to_string()
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
        let named = |error: io::Error| self.failed(error);
        folder::make(&self.folder).map_err(named)?;
        let _lock = folder::lock(&self.folder, LOCK).map_err(named)?;
        // What others could have read, or put there, is not gone on with.
        let mut kept =
            self.read()?.filter(|(_, mode)| !is_open(*mode)).map(|(kept, _)| kept).unwrap_or_default();
        match session {
            Some(session) => kept.sessions.insert(address.to_string(), session),
            None => kept.sessions.remove(&address.to_string()),
        };
        let written = Zeroizing::new(serde_json::to_vec_pretty(&kept)?);
        folder::replace(&self.folder, NAME, &written).map_err(named)
    }

    fn kept(&self) -> Result<Kept, CommandError> {
        let Some((kept, mode)) = self.read()? else { return Ok(Kept::default()) };
        if !is_open(mode) {
            return Ok(kept);
        }
        let path = self.path();
        Err(CommandError::new(format!(
            "`{path}` is open to others than its owner (mode {mode:04o}), and who reads it can act as you; sign in again, \
             or close it (chmod 600 '{path}') if nobody can have read it"
        )))
    }

    /// What is in the file, and its mode.
    fn read(&self) -> Result<Option<(Kept, u32)>, CommandError> {
        let read = folder::read(&self.folder.join(NAME)).map_err(|error| self.failed(error))?;
        let Some(folder::Contents { text, mode }) = read else { return Ok(None) };
        // What is wrong may be a token.
        let kept = serde_json::from_str(&text).map_err(|error| {
            let (path, line, column) = (self.path(), error.line(), error.column());
            CommandError::new(format!(
                "`{path}` is damaged (line {line}, column {column}); remove it and sign in again"
            ))
        })?;
        Ok(Some((kept, mode)))
    }

    /// Whether a session can be kept here.
    pub(in crate::cli) fn check(&self) -> Result<(), CommandError> {
        self.read().map(drop)
    }

    fn failed(&self, error: io::Error) -> CommandError {
        CommandError::new(format!("`{}`: {error}", self.path()))
    }
}

fn is_open(mode: u32) -> bool {
    mode & folder::OTHERS_ANYTHING != 0
}
