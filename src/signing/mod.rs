//! Who vouches for facts (semantics 5.5): the licensing backend's signing keys, the keys a sidecar trusts, and what is
//! refused of signed facts.
//!
//! Not here: when facts are fetched and what they mean. Nothing in a payload is looked at before its signature holds.

mod keys;
mod public_key;
mod refused;
mod trusted;

pub use keys::{KeyError, KeyFile, Known, Role, SigningKeys};
pub use public_key::{NotAPublicKey, PublicKey};
pub use refused::{Expected, Refused, VerifiedFacts, not_older};
pub use trusted::{MOST_TRUSTED, TrustError, TrustedKeys};

/// What stands before a payload in what is signed, so that a signature of anything else is none of facts.
const DOMAIN: &[u8] = b"esa.licensing.v1.SignedFacts\0";

/// What is signed for `payload`.
fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    [DOMAIN, payload].concat()
}

#[cfg(test)]
mod tests;
