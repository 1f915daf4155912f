//! What an API credential is for: a part of what its account may do, and never the accounts themselves (semantics 7.36).
//!
//! Not here: what an account may do (see `caller`).

use super::refusal::Refusal;
use crate::{proto::licensing::ApiScope, wire};

/// A set of scopes: a bit for each number of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scopes(i64);

const ALL: [ApiScope; 4] =
    [ApiScope::Read, ApiScope::ManageUnits, ApiScope::ManageLicenses, ApiScope::ReadAudit];

impl Scopes {
    /// As they are asked for; none named means all.
    pub(super) fn read(field: &str, numbers: &[i32]) -> Result<Self, Refusal> {
        if numbers.is_empty() {
            return Ok(ALL.into_iter().fold(Self(0), Self::with));
        }
        numbers.iter().try_fold(Self(0), |scopes, number| match ApiScope::try_from(*number) {
            Ok(ApiScope::Unspecified) | Err(_) => Err(wire::unknown(field, *number).into()),
            Ok(scope) => Ok(scopes.with(scope)),
        })
    }

    /// As they are kept.
    pub(super) const fn kept(bits: i64) -> Self {
        Self(bits)
    }

    pub(super) const fn bits(self) -> i64 {
        self.0
    }

    pub(super) fn contain(self, scope: ApiScope) -> bool {
        self.with(scope) == self
    }

    pub(super) fn told(self) -> Vec<i32> {
        ALL.into_iter().filter(|scope| self.contain(*scope)).map(i32::from).collect()
    }

    fn with(self, scope: ApiScope) -> Self {
        Self(self.0 | (1 << i32::from(scope)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_kept_as_they_were_asked_for_and_none_means_all() {
        let read = |numbers: &[i32]| Scopes::read("scopes", numbers).map(Scopes::told);
        assert_eq!(read(&[]).unwrap(), [1, 2, 3, 4]);
        assert_eq!(read(&[3, 1, 3]).unwrap(), [1, 3]);
        for unknown in [0, 5, -1] {
            assert!(read(&[1, unknown]).is_err(), "{unknown}");
        }
        // What credentials of before have, by the migration.
        assert_eq!(Scopes::kept(30).told(), [1, 2, 3, 4]);
        assert_eq!(Scopes::kept(Scopes::read("scopes", &[2]).unwrap().bits()).told(), [2]);
    }
}
