//! What was verified of signed facts, what was expected of them, and why they are refused (semantics 5.5).
//!
//! Not here: the signature itself (see `trusted`).

use crate::{
    domain::{Facts, Instant, SubscriptionId},
    escape::{escape_and_shorten, escape_control, shorten},
    rfc3339,
    wire::Unreadable,
};

/// What is in signed facts whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedFacts {
    /// Grows with every change and never goes back.
    pub sequence: u64,
    /// When the backend issued them.
    pub issued_at: Instant,
    /// The nonce they answer.
    pub nonce: Vec<u8>,
    /// The unit they were issued to; empty for a server that is not activated.
    pub unit_id: String,
    /// The facts, and in them whom they are about.
    pub facts: Facts,
}

/// What signed facts have to be an answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    /// The nonce asked with.
    pub nonce: &'a [u8],
    /// The unit that asked.
    pub unit_id: &'a str,
    /// The subscription asked for, once it is known.
    pub subscription_id: Option<SubscriptionId>,
    /// Sequence and issue time of the facts that are held.
    pub held: Option<(u64, Instant)>,
}

/// Why signed facts are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// They carry no signature.
    #[error("the facts are not signed")]
    Unsigned,
    /// They are signed with a key that is not trusted.
    #[error(
        "the facts are signed with the key `{}`, which is not trusted; if it is the backend's, trust it with \
         `esa-sidecar keys pin`", shown(.0)
    )]
    UnknownKey(String),
    /// The signature is not the key's, or not of these facts.
    #[error("the signature does not match the facts")]
    BadSignature,
    /// What is signed does not read.
    #[error("the signed facts cannot be read: {0}")]
    Unreadable(String),
    /// They were issued to another unit.
    #[error("the facts were issued to the unit `{}`, not to `{}`", shown(.told), shown(.expected))]
    OtherUnit {
        /// Who asked.
        expected: String,
        /// Whom they were issued to.
        told: String,
    },
    /// They were issued to a unit that is none of this server's.
    #[error(
        "the facts were issued to {} of the subscription `{subscription}`, which is not activated here; activate this \
         server with `esa-sidecar activate`, or put its units.json back", unit(.unit_id)
    )]
    NotOurs {
        /// Whom they were issued to; empty for a server that is not activated.
        unit_id: String,
        /// What they are of.
        subscription: SubscriptionId,
    },
    /// They are another subscription's.
    #[error("the facts are of the subscription `{told}`, not of `{expected}`")]
    OtherSubscription {
        /// Which was asked for.
        expected: SubscriptionId,
        /// Which they are of.
        told: SubscriptionId,
    },
    /// They answer another question.
    #[error("the facts answer another question: their nonce is not the one asked with")]
    OtherNonce,
    /// They are older than what is held.
    #[error("the facts have the number {told}, those held the number {held}; older ones are not taken")]
    OlderSequence {
        /// What is held.
        held: u64,
        /// What was told.
        told: u64,
    },
    /// They were told before: the same number, issued earlier than what is held.
    #[error(
        "the facts were issued at {}, those held at {}; older ones are not taken",
        rfc3339::format(*.told),
        rfc3339::format(*.held)
    )]
    Replayed {
        /// When what is held was issued.
        held: Instant,
        /// When these were.
        told: Instant,
    },
}

impl VerifiedFacts {
    /// Whether they are what was expected.
    pub fn check(&self, expected: &Expected<'_>) -> Result<(), Refused> {
        let Expected { nonce, unit_id, subscription_id, held } = *expected;
        if self.unit_id != unit_id {
            let told = self.unit_id.clone();
            return Err(Refused::OtherUnit { expected: unit_id.to_owned(), told });
        }
        let told = self.facts.subscription_id;
        if let Some(expected) = subscription_id.filter(|expected| *expected != told) {
            return Err(Refused::OtherSubscription { expected, told });
        }
        if self.nonce != nonce {
            return Err(Refused::OtherNonce);
        }
        held.map_or(Ok(()), |held| not_older(held, (self.sequence, self.issued_at)))
    }
}

/// Whether what was told, its sequence and its issue time, is no older than what is held.
pub fn not_older(held: (u64, Instant), told: (u64, Instant)) -> Result<(), Refused> {
    if told.0 < held.0 {
        return Err(Refused::OlderSequence { held: held.0, told: told.0 });
    }
    if told.0 == held.0 && told.1 < held.1 {
        return Err(Refused::Replayed { held: held.1, told: told.1 });
    }
    Ok(())
}

impl From<Unreadable> for Refused {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(escape_and_shorten(&unreadable.to_string()))
    }
}

fn unit(id: &str) -> String {
    if id.is_empty() {
        "a server that is not activated".to_owned()
    } else {
        format!("the unit `{}`", shown(id))
    }
}

/// What came from outside, short and on one line: it goes into logs.
fn shown(text: &str) -> String {
    shorten(&escape_control(text), 64)
}
