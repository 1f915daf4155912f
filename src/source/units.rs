//! This server's units, and what it proves itself with to the licensing backend (semantics 6.8), kept in the data folder.
//!
//! Not here: how a unit comes about (see `cli::activate`) and what is asked with it (see `remote`).

use std::{fmt, io, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::facts_json::{self, IdJson, InstantJson, Object};
use crate::{
    domain::{Instant, SubscriptionId},
    folder, sha256,
};

/// The file of a data folder that holds the units. Only its owner may read it: who has the secret is the unit.
#[derive(Clone, Debug)]
pub struct UnitsFile {
    folder: PathBuf,
}

/// The units of this server, and those that are about to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Each with a subscription of its own.
    pub units: Vec<Unit>,
    /// Activations the backend has not answered yet.
    pub activating: Vec<Activating>,
}

/// A unit that was activated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its ID.
    pub unit_id: String,
    /// What it proves itself with.
    pub secret: Secret,
    /// Since when; none where nobody knows, and then it is as if it were old.
    pub secret_since: Option<Instant>,
    /// What it is about to prove itself with in its place.
    pub next_secret: Option<Secret>,
    /// The subscription its license belongs to.
    pub subscription_id: SubscriptionId,
    /// The installation it belongs to; empty = it is one by itself.
    pub installation: String,
    /// What it was activated for.
    pub purpose: Purpose,
    /// The version it says it has; empty = that of this sidecar.
    pub product_version: String,
}

/// An activation that has begun. It is kept before the backend is asked, so that asking again after a crash or a lost
/// answer is the same activation and not one more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activating {
    /// What is activated.
    pub purpose: Purpose,
    /// What the backend knows a repetition by.
    pub request_id: String,
    /// What the unit will prove itself with.
    pub secret: Secret,
    /// The version it was asked for with; a repetition has to say the same.
    pub product_version: String,
    /// It was asked for before, and the answer never came: there may be a unit already.
    pub may_be_done: bool,
}

/// What tells one activation from another: a digest of license, device and installation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Purpose(String);

/// 32 random bytes in base64url. It is told to the backend alone, and shown to nobody.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Secret(String);

/// Why the units cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnitsError {
    /// The operating system refused.
    #[error("`{path}`: {0}", path = .1.display())]
    Io(io::Error, PathBuf),
    /// Others could have read the secrets.
    #[error(
        "`{path}` is open to others than its owner (mode {1:04o}), and who reads it can speak for this server; close \
         it with chmod 600 '{path}' and activate anew if somebody may have read it", path = .0.display()
    )]
    Exposed(PathBuf, u32),
    /// It does not read.
    #[error("`{path}` cannot be read as units: {1}", path = .0.display())]
    Malformed(PathBuf, String),
    /// The operating system has no random bytes.
    #[error("no random bytes for a secret: {0}")]
    NoRandomBytes(#[from] getrandom::Error),
}

const FORMAT: &str = "esa-sidecar units 1";
/// The data folder itself is held by the sidecar that runs on it.
const LOCK: &str = "units.lock";

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileJson {
    format: String,
    units: Vec<UnitJson>,
    activating: Vec<ActivatingJson>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct UnitJson {
    unit_id: String,
    secret: Secret,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_since: Option<InstantJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_secret: Option<Secret>,
    subscription_id: IdJson,
    installation: String,
    purpose: Purpose,
    #[serde(default)]
    product_version: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ActivatingJson {
    purpose: Purpose,
    request_id: String,
    secret: Secret,
    #[serde(default)]
    product_version: String,
}

impl UnitsFile {
    /// Its name.
    pub const NAME: &str = "units.json";

    /// The file of the data folder `folder`.
    #[must_use]
    pub const fn of(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(Self::NAME)
    }

    /// What tells this version of it from another; none when there is no file.
    #[must_use]
    pub fn marks(&self) -> Option<folder::Marks> {
        folder::marks(&self.path())
    }

    /// What is in it; nothing when there is no file.
    pub fn read(&self) -> Result<Units, UnitsError> {
        let path = self.path();
        let contents = folder::read(&path).map_err(|error| UnitsError::Io(error, path.clone()))?;
        let Some(folder::Contents { text, mode }) = contents else { return Ok(Units::default()) };
        if mode & folder::OTHERS_ANYTHING != 0 {
            return Err(UnitsError::Exposed(path, mode));
        }
        // What is wrong there may be a secret.
        let read = facts_json::read::<Object<FileJson>>(text.as_bytes()).map_err(|error| error.place());
        let known = read.and_then(|Object(file)| match file.format.as_str() {
            FORMAT => Ok(file),
            other => Err(format!("its format is `{other}`, not `{FORMAT}`")),
        });
        known.map(Units::from).map_err(|what| UnitsError::Malformed(path, what))
    }

    /// Reads, changes and writes it, with no other process in between.
    pub fn change<T>(&self, change: impl FnOnce(&mut Units) -> T) -> Result<T, UnitsError> {
        let io = |error| UnitsError::Io(error, self.path());
        folder::make(&self.folder).map_err(io)?;
        let _lock = folder::lock(&self.folder, LOCK).map_err(io)?;
        let before = self.read()?;
        let mut units = before.clone();
        let changed = change(&mut units);
        if units != before {
            let mut text =
                serde_json::to_vec_pretty(&FileJson::from(units)).map_err(|error| io(error.into()))?;
            text.push(b'\n');
            folder::replace(&self.folder, Self::NAME, &text).map_err(io)?;
        }
        Ok(changed)
    }
}

impl Units {
    /// The activation for `purpose` that has begun, or a new one.
    pub fn begin(
        &mut self,
        purpose: &Purpose,
        product_version: &str,
    ) -> Result<Activating, getrandom::Error> {
        if let Some(begun) = self.activating.iter().find(|begun| begun.purpose == *purpose) {
            return Ok(begun.clone());
        }
        let begun = Activating {
            purpose: purpose.clone(),
            request_id: random_text()?,
            secret: Secret(random_text()?),
            product_version: product_version.to_owned(),
            may_be_done: false,
        };
        // Whoever finds it later was not told what became of it.
        self.activating.push(Activating { may_be_done: true, ..begun.clone() });
        Ok(begun)
    }

    /// The activation for `purpose` has come to nothing.
    pub fn give_up(&mut self, purpose: &Purpose) {
        self.activating.retain(|begun| begun.purpose != *purpose);
    }

    /// The activation of `unit` is done. It takes the place of an earlier unit of its subscription.
    pub fn finish(&mut self, unit: Unit) {
        self.give_up(&unit.purpose);
        self.units.retain(|other| other.subscription_id != unit.subscription_id);
        self.units.push(unit);
    }
}

impl Unit {
    /// Chooses another secret.
    pub fn begin_renewal(&mut self) -> Result<(), getrandom::Error> {
        self.next_secret = Some(Secret(random_text()?));
        Ok(())
    }

    /// The same with its next secret, if it has one.
    #[must_use]
    pub fn renewed(&self) -> Option<Self> {
        let secret = self.next_secret.clone()?;
        Some(Self { secret, next_secret: None, ..self.clone() })
    }

    /// Lets go of the secret before `secret`; whether that was its next one.
    pub fn finish_renewal(&mut self, secret: &Secret, since: Option<Instant>) -> bool {
        let is_next = self.next_secret.as_ref() == Some(secret);
        if is_next {
            (self.secret, self.next_secret, self.secret_since) = (secret.clone(), None, since);
        }
        is_next
    }
}

impl Purpose {
    /// To activate with `license`, a key or a public license ID, on `device` for `installation`.
    #[must_use]
    pub fn of(license: &str, device: &str, installation: &str) -> Self {
        // Each with its length, so that no two purposes read the same.
        let parts = [license, device, installation].map(|part| format!("{} {part}\n", part.len()));
        Self(sha256::hex(parts.concat().as_bytes()))
    }
}

/// The version a unit says it has: `told`, or where that is empty this sidecar's.
#[must_use]
pub fn version_or_own(told: &str) -> &str {
    if told.is_empty() { env!("CARGO_PKG_VERSION") } else { told }
}

impl Secret {
    /// What the backend is told of it in advance.
    #[must_use]
    pub fn sha256(&self) -> String {
        sha256::hex(self.0.as_bytes())
    }

    /// The bearer token of the unit `unit_id`.
    #[must_use]
    pub fn token(&self, unit_id: &str) -> String {
        format!("esau_{unit_id}_{}", self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

fn random_text() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl From<FileJson> for Units {
    fn from(FileJson { format: _, units, activating }: FileJson) -> Self {
        Self {
            units: units.into_iter().map(Unit::from).collect(),
            activating: activating.into_iter().map(Activating::from).collect(),
        }
    }
}

impl From<Units> for FileJson {
    fn from(Units { units, activating }: Units) -> Self {
        Self {
            format: FORMAT.to_owned(),
            units: units.into_iter().map(UnitJson::from).collect(),
            activating: activating.into_iter().map(ActivatingJson::from).collect(),
        }
    }
}

impl From<UnitJson> for Unit {
    fn from(unit: UnitJson) -> Self {
        let UnitJson { unit_id, secret, secret_since, next_secret, subscription_id, installation, .. } = unit;
        let UnitJson { purpose, product_version, .. } = unit;
        let (IdJson(subscription_id), secret_since) =
            (subscription_id, secret_since.map(|InstantJson(at)| at));
        Self {
            unit_id,
            secret,
            secret_since,
            next_secret,
            subscription_id,
            installation,
            purpose,
            product_version,
        }
    }
}

impl From<Unit> for UnitJson {
    fn from(unit: Unit) -> Self {
        let Unit { unit_id, secret, secret_since, next_secret, subscription_id, installation, .. } = unit;
        let Unit { purpose, product_version, .. } = unit;
        let (subscription_id, secret_since) = (IdJson(subscription_id), secret_since.map(InstantJson));
        Self {
            unit_id,
            secret,
            secret_since,
            next_secret,
            subscription_id,
            installation,
            purpose,
            product_version,
        }
    }
}

impl From<ActivatingJson> for Activating {
    fn from(ActivatingJson { purpose, request_id, secret, product_version }: ActivatingJson) -> Self {
        Self { purpose, request_id, secret, product_version, may_be_done: true }
    }
}

impl From<Activating> for ActivatingJson {
    fn from(activating: Activating) -> Self {
        let Activating { purpose, request_id, secret, product_version, may_be_done: _ } = activating;
        Self { purpose, request_id, secret, product_version }
    }
}

#[cfg(test)]
mod tests;
