//! `keys`: the keys a licensing backend signs facts with, and those a sidecar trusts.
//!
//! Not here: what is signed, and the files themselves (see `signing`).

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use comfy_table::{ColumnConstraint, Table};
use serde_json::{Value, json};

use super::{CommandError, CommandResult, output, serve};
use crate::{
    config::Config,
    folder,
    signing::{KeyError, KeyFile, MOST_TRUSTED, PublicKey, Role, SigningKeys, TrustedKeys},
};

/// Show and change the keys facts are signed with, and those that are trusted
///
/// A licensing backend signs facts with a key of its own; a sidecar takes none but those signed with a key it trusts.
/// A key changes in two steps, so that no sidecar is left behind: `prepare` the next one, let every sidecar trust it,
/// `switch`, and `retire` the previous one. A running backend sees each step.
#[derive(Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    place: Place,
}

#[derive(Subcommand)]
enum Command {
    /// The keys of the licensing backend on this machine, and how sidecars come to trust them
    Show,
    /// First step of a change: make the next key, which does not sign yet; where there is none, make the first
    Prepare,
    /// Second step: the next key signs from now on
    Switch,
    /// The end of it: the previous key is gone for good
    Retire,
    /// The keys the sidecar on this machine trusts
    Trusted,
    /// Let the sidecar on this machine trust a key, from its next start on
    Pin {
        /// As `keys show` prints it where the licensing backend runs: `ed25519:…`
        #[arg(value_name = "KEY")]
        key: PublicKey,
    },
    /// Take back what was pinned
    Unpin {
        /// The key, or its key ID
        #[arg(value_name = "KEY")]
        key: String,
    },
}

/// Which files, and how they are shown.
#[derive(Args)]
struct Place {
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where the keys are kept
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// What the sidecar on this machine trusts.
struct Trusted {
    file: PathBuf,
    configured: TrustedKeys,
    pinned: TrustedKeys,
}

impl Keys {
    pub(super) fn run(self) -> CommandResult {
        let Self { command, place: Place { config, data_dir, json } } = self;
        let flags = serve::flag("--data-dir", "data_dir", data_dir).into_iter().collect();
        let config = Config::read(config, flags).map_err(CommandError::faults)?;
        check_folder(&config.data_dir)?;
        let folder = SigningKeys::folder_in(&config.data_dir);
        let shown = match command {
            Command::Show => show(&SigningKeys::open_existing(&folder)?, &folder, json),
            Command::Prepare => show(&prepare(&folder)?, &folder, json),
            Command::Switch => {
                let keys = SigningKeys::open_existing(&folder)?;
                keys.switch()?;
                show(&keys, &folder, json)
            }
            Command::Retire => {
                let keys = SigningKeys::open_existing(&folder)?;
                keys.retire()?;
                show(&keys, &folder, json)
            }
            Command::Trusted => Trusted::read(&config)?.shown(json),
            Command::Pin { key } => Trusted::read(&config)?.pin(key)?.shown(json),
            Command::Unpin { key } => Trusted::read(&config)?.unpin(&key)?.shown(json),
        };
        output::print(&shown)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Nobody else may change the folder keys are in, or trusted from.
fn check_folder(folder: &Path) -> Result<(), CommandError> {
    match folder::check(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CommandError::new(format!("data folder `{}` cannot be used: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

/// The next key; where there is no key at all, the first.
fn prepare(folder: &Path) -> Result<SigningKeys, KeyError> {
    match SigningKeys::open_existing(folder) {
        Err(KeyError::NoSigningKey(_)) => SigningKeys::open(folder),
        opened => opened.and_then(|keys| keys.prepare().map(|()| keys)),
    }
}

fn show(keys: &SigningKeys, folder: &Path, json: bool) -> String {
    let files = keys.files();
    if json {
        return output::json_line(
            &json!({"folder": folder.display().to_string(), "keys": files.iter().map(key_json).collect::<Vec<_>>()}),
        );
    }
    let mut table = table(&["role", "key ID", "public key", "file"]);
    for KeyFile { role, key, .. } in &files {
        table.add_row([role.to_string(), key.key_id(), key.to_string(), role.file_name().to_owned()]);
    }
    let mut text = format!("Signing keys in {}\n{table}\n\n", folder.display());
    text += "Every sidecar is to trust them, by its configuration\n\n  [licensing]\n  keys = [";
    let quoted: Vec<String> = keys.public_keys().iter().map(|key| format!("\"{key}\"")).collect();
    text += &quoted.join(",\n          ");
    text += "]\n\nor by a command on its machine\n\n";
    for key in keys.public_keys() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  esa-sidecar keys pin {key}");
    }
    text + "\n" + what_next(&files) + "\n"
}

/// The step that follows.
fn what_next(files: &[KeyFile]) -> &'static str {
    let there = |role| files.iter().any(|file| file.role == role);
    if there(Role::Next) {
        "Once every sidecar trusts the next key, `esa-sidecar keys switch` makes it sign."
    } else if there(Role::Previous) {
        "Once every sidecar has synced since the switch, `esa-sidecar keys retire`, and let them trust it no longer."
    } else {
        "To change the key, begin with `esa-sidecar keys prepare`."
    }
}

fn key_json(file: &KeyFile) -> Value {
    let KeyFile { role, key, path } = file;
    json!({
        "role": role.to_string(),
        "key_id": key.key_id(),
        "public_key": key.to_string(),
        "file": path.display().to_string(),
    })
}

impl Trusted {
    fn read(config: &Config) -> Result<Self, CommandError> {
        let file = TrustedKeys::file_in(&config.data_dir);
        let pinned = TrustedKeys::read(&file)?;
        Ok(Self { file, configured: config.licensing.keys.clone(), pinned })
    }

    fn pin(self, key: PublicKey) -> Result<Self, CommandError> {
        let all = self.configured.and(&self.pinned)?;
        if all.keys().contains(&key) {
            return Ok(self);
        }
        if MOST_TRUSTED <= all.keys().len() {
            return Err(self.full());
        }
        let key = TrustedKeys::of([key])?;
        self.write(self.pinned.and(&key)?)
    }

    fn unpin(self, key: &str) -> Result<Self, CommandError> {
        let named = |one: &PublicKey| one.key_id() == key || one.to_string() == key;
        if !self.pinned.keys().iter().any(named) {
            let configured = self.configured.keys().iter().any(named);
            return Err(CommandError::new(if configured {
                format!("`{key}` is trusted by the configuration; take it out of `licensing.keys`")
            } else {
                format!("`{key}` is not pinned; `esa-sidecar keys trusted` shows what is")
            }));
        }
        let others = TrustedKeys::of(self.pinned.keys().iter().copied().filter(|one| !named(one)))?;
        self.write(others)
    }

    fn write(&self, pinned: TrustedKeys) -> Result<Self, CommandError> {
        pinned.write(&self.file)?;
        Ok(Self { file: self.file.clone(), configured: self.configured.clone(), pinned })
    }

    /// What to do when there is no room for another key.
    fn full(&self) -> CommandError {
        let unpin = self.pinned.keys().iter().map(|key| format!("  esa-sidecar keys unpin {}", key.key_id()));
        let unpin: Vec<String> = unpin.collect();
        let what = if unpin.is_empty() {
            "take one out of `licensing.keys`".to_owned()
        } else {
            format!("unpin one that signs no more:\n{}", unpin.join("\n"))
        };
        CommandError::new(format!("{MOST_TRUSTED} keys are trusted already, which is the most; {what}"))
    }

    fn shown(&self, json: bool) -> String {
        let configured = self.configured.keys().iter().map(|key| (key, "configuration"));
        let pinned = self.pinned.keys().iter().filter(|key| !self.configured.keys().contains(key));
        let all = configured.chain(pinned.map(|key| (key, "pinned")));
        if json {
            let keys = all.map(
                |(key, by)| json!({"key_id": key.key_id(), "public_key": key.to_string(), "trusted_by": by}),
            );
            return output::json_line(
                &json!({"file": self.file.display().to_string(), "keys": keys.collect::<Vec<_>>()}),
            );
        }
        let mut table = table(&["key ID", "public key", "trusted by"]);
        for (key, by) in all {
            table.add_row([key.key_id(), key.to_string(), by.to_owned()]);
        }
        if table.is_empty() {
            return "No key is trusted: no signed facts are taken. `esa-sidecar keys show`, where the licensing \
                    backend runs, prints what to do.\n"
                .to_owned();
        }
        format!("{table}\nPinned keys are in {}\n", self.file.display())
    }
}

/// Keys are copied: no cell is broken.
fn table(header: &[&str]) -> Table {
    let mut table = output::table(header);
    table.set_constraints(header.iter().map(|_| ColumnConstraint::ContentWidth));
    table
}
