//! States and statuses as the protocol and the database have them.
//!
//! Not here: whole messages (see `service`).

pub(super) use crate::wire::timestamp;

use super::store::StoreError;
use crate::{
    domain::{
        license::LicenseStatus,
        unit::{Connection, UnitState},
    },
    proto::licensing as api,
};

pub(super) const fn license_status(status: LicenseStatus) -> api::LicenseStatus {
    match status {
        LicenseStatus::Valid => api::LicenseStatus::Valid,
        LicenseStatus::Attention => api::LicenseStatus::Attention,
        LicenseStatus::Problem => api::LicenseStatus::Problem,
    }
}

pub(super) const fn connection(connection: Connection) -> api::Connection {
    match connection {
        Connection::Recent => api::Connection::Recent,
        Connection::Orange => api::Connection::Orange,
        Connection::Red => api::Connection::Red,
    }
}

pub(super) const fn unit_state(state: UnitState) -> api::UnitState {
    match state {
        UnitState::Active => api::UnitState::Active,
        UnitState::DeactivationPending => api::UnitState::DeactivationPending,
        UnitState::Deactivated => api::UnitState::Deactivated,
    }
}

/// A unit's state as it is kept: the number of the protocol.
pub(super) fn unit_state_kept(state: UnitState) -> i64 {
    i64::from(i32::from(unit_state(state)))
}

/// A unit's state that was kept.
pub(super) fn kept_unit_state(kept: i64) -> Result<UnitState, StoreError> {
    match i32::try_from(kept).ok().and_then(|state| api::UnitState::try_from(state).ok()) {
        Some(api::UnitState::Active) => Ok(UnitState::Active),
        Some(api::UnitState::DeactivationPending) => Ok(UnitState::DeactivationPending),
        Some(api::UnitState::Deactivated) => Ok(UnitState::Deactivated),
        Some(api::UnitState::Unspecified) | None => {
            Err(StoreError::Unreadable(format!("unit in state {kept}")))
        }
    }
}
