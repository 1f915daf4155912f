//! SIGHUP: the configuration is read again, and what can count at once does.
//!
//! Not here: what a caller may ask then (see `enforcement`).

use std::path::{Path, PathBuf};

use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::{Config, Flag};

/// Where the configuration came from, and where it goes.
#[derive(Debug)]
pub(super) struct Reread {
    file: Option<PathBuf>,
    flags: Vec<Flag>,
    /// As it was read last, before anything was derived from it.
    read: Config,
    settings: watch::Sender<Config>,
}

impl Reread {
    /// `read` came from `file` and `flags`, over the environment.
    pub(super) fn new(file: Option<PathBuf>, flags: Vec<Flag>, read: Config) -> Self {
        let settings = watch::Sender::new(read.clone());
        Self { file, flags, read, settings }
    }

    /// The file it is read from, if there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// As it was read.
    pub(super) fn read(&self) -> &Config {
        &self.read
    }

    /// What counts from now on: the present configuration, and every later one.
    pub(super) fn settings(&self, present: Config) -> watch::Receiver<Config> {
        self.settings.send_replace(present);
        self.settings.subscribe()
    }

    /// Reads it again. What does not read changes nothing.
    pub(super) fn again(&mut self) {
        let read = match Config::read(self.file.clone(), self.flags.clone()) {
            Ok(read) => read,
            Err(faults) => {
                error!("the configuration is not read again, the one before still counts: {faults}");
                return;
            }
        };
        if self.read.callers.is_some() && read.callers.is_none() {
            // The listeners that are open were allowed because callers are told apart on them.
            error!(
                "the configuration is not read again: that there are no `[[callers]]` any more takes a restart"
            );
            return;
        }
        let later = self.read.differs_in(&read);
        if !later.is_empty() {
            warn!("what changed in {} counts from the next start on", later.join(", "));
        }
        self.settings.send_modify(|settings| settings.callers.clone_from(&read.callers));
        info!("the configuration was read again");
        self.read.callers = read.callers;
    }
}
