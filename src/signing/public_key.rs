//! The public half of a signing key, as people pass it on: `ed25519:` and base64.
//!
//! Not the secret half (see `keys`), and not whether it is trusted (see `trusted`).

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{PUBLIC_KEY_LENGTH, Signature, VerifyingKey};

use crate::sha256;

/// A key that signatures are verified with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// A text that is no public key. It is not repeated: it may be a secret one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no public key; it looks like `ed25519:` and 44 characters, as `esa-sidecar keys show` prints it"
)]
pub struct NotAPublicKey;

const PREFIX: &str = "ed25519:";

/// Hexadecimal digits in a key ID.
const KEY_ID_DIGITS: usize = 16;

impl PublicKey {
    /// Which key signed: the first 16 hexadecimal digits of the SHA-256 of the 32 bytes.
    #[must_use]
    pub fn key_id(&self) -> String {
        let mut id = sha256::hex(self.0.as_bytes());
        id.truncate(KEY_ID_DIGITS);
        id
    }

    /// Whether `signature` is this key's over `message`; strictly, so that one message has one signature.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

impl From<VerifyingKey> for PublicKey {
    fn from(key: VerifyingKey) -> Self {
        Self(key)
    }
}

impl FromStr for PublicKey {
    type Err = NotAPublicKey;

    fn from_str(text: &str) -> Result<Self, NotAPublicKey> {
        let bytes = text.strip_prefix(PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
        let bytes = bytes.and_then(|bytes| <[u8; PUBLIC_KEY_LENGTH]>::try_from(bytes).ok());
        let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
        // Whatever is signed with a weak key verifies with it.
        key.filter(|key| !key.is_weak()).map(Self).ok_or(NotAPublicKey)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
