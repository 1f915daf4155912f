//! Who is calling, and what they may say.
//!
//! Not here: how a caller is told apart. Until callers have identities, whoever reaches the listener is on this
//! machine and trusted; the decision takes what is settled here as an input and never looks at the transport.

use crate::{domain::Role, edge::peer::Peer};

/// A caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whether it may vouch that an actor is an administrator (semantics 4.4).
    pub vouches_for_administrators: bool,
}

/// The role an actor is answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VouchedRole {
    /// The role.
    pub role: Role,
    /// A role was asked for that the caller may not vouch for.
    pub not_vouched: bool,
}

impl Caller {
    /// A caller on this machine.
    pub const LOOPBACK: Self = Self { vouches_for_administrators: true };

    /// Who is at the other end of a connection. Every caller is on this machine until a later version tells them apart.
    #[must_use]
    pub const fn of(_peer: &Peer) -> Self {
        Self::LOOPBACK
    }

    /// The role that counts when this caller claims `role`.
    #[must_use]
    pub const fn vouch(self, role: Role) -> VouchedRole {
        match role {
            Role::Administrator if !self.vouches_for_administrators => {
                VouchedRole { role: Role::User, not_vouched: true }
            }
            Role::User | Role::Administrator | Role::Service => VouchedRole { role, not_vouched: false },
        }
    }
}
