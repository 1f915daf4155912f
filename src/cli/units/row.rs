//! A unit as it is shown (semantics 6.1 to 6.3).
//!
//! Not here: which units are shown.

use comfy_table::{Cell, Color};
use prost_types::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    cli::unit_management::{
        day, instant, name,
        record::{Column, Record, object, shortened},
        told,
    },
    domain::{Instant, Span},
    enforcement::convert,
    escape::escape_control,
    proto::licensing as api,
};

/// A unit, and what is chosen to show of its license.
#[derive(Default)]
pub(super) struct UnitRow {
    pub(super) unit: api::Unit,
    pub(super) distributions: String,
}

impl Record for UnitRow {
    const PLURAL: &'static str = "units";
    const COLUMNS: &'static [Column] = &[
        Column::Whole("unit, activated"),
        Column::Text("product, subunits"),
        Column::Whole("last\nconnected"),
        Column::Whole("Distributions"),
        Column::Whole("status"),
    ];

    fn row(&self, now: Instant) -> Vec<Cell> {
        let unit = &self.unit;
        let who = format!(
            "{}\n{}\n{} {}",
            shortened(&unit.device_name, 36),
            escape_control(&unit.unit_id),
            day(unit.activated_at.as_ref()),
            by_whom(unit)
        );
        let product = format!("{} {}", escape_control(&unit.product), escape_control(&unit.product_version));
        vec![
            Cell::new(who),
            Cell::new(format!("{}\n{} subunits", product.trim_end(), unit.subunits)),
            last_connected(unit, now),
            Cell::new(shortened(&self.distributions, 24)),
            status(unit),
        ]
    }

    fn json(&self) -> Map<String, Value> {
        let api::Unit {
            unit_id,
            license_id,
            device_name,
            product,
            product_version,
            activated_at,
            last_connected_at,
            subunits,
            activated_by,
            from_remote_management,
            state,
            deactivated_at,
            status,
            connection,
            installation,
            active_users,
            may_deactivate,
            subscription_id,
            two_places_at,
            secret_revoked,
        } = &self.unit;
        object(json!({
            "unit_id": unit_id,
            "device_name": device_name,
            "product": product,
            "product_version": product_version,
            "activated_at": instant(activated_at.as_ref()),
            "last_connected_at": instant(last_connected_at.as_ref()),
            "connection": name::of::<api::Connection>(*connection),
            "subunits": subunits,
            "activated_by": told(activated_by),
            "from_remote_management": from_remote_management,
            "state": name::of::<api::UnitState>(*state),
            "deactivated_at": instant(deactivated_at.as_ref()),
            "license_id": license_id,
            "subscription_id": subscription_id,
            "status": name::of::<api::LicenseStatus>(*status),
            "distributions": self.distributions,
            "installation": told(installation),
            "active_users": active_users,
            "may_deactivate": may_deactivate,
            "two_places_at": instant(two_places_at.as_ref()),
            "secret_revoked": secret_revoked,
        }))
    }
}

/// How a status looks; told apart without colour as well.
pub(in crate::cli) fn status_cell(status: api::LicenseStatus, further: &str) -> Cell {
    let (icon, color) = match status {
        api::LicenseStatus::Valid => ("✓", Color::Green),
        api::LicenseStatus::Attention => ("!", Color::Yellow),
        api::LicenseStatus::Problem => ("!", Color::Red),
        api::LicenseStatus::Unspecified => ("?", Color::Yellow),
    };
    Cell::new(format!("{icon} {}\n{further}", name::Enumeration::name(status)).trim_end()).fg(color)
}

/// The status of the license, and where the unit stands when it is not active.
fn status(unit: &api::Unit) -> Cell {
    let state = match unit.state() {
        api::UnitState::Active => String::new(),
        api::UnitState::Unspecified | api::UnitState::DeactivationPending | api::UnitState::Deactivated => {
            name::of::<api::UnitState>(unit.state).replace('_', "\n")
        }
    };
    status_cell(unit.status(), &state)
}

fn by_whom(unit: &api::Unit) -> String {
    let who = if unit.activated_by.is_empty() { "license key" } else { &unit.activated_by };
    format!("by {}{}", shortened(who, 24), if unit.from_remote_management { ", from ERA" } else { "" })
}

fn last_connected(unit: &api::Unit, now: Instant) -> Cell {
    let ago = unit.last_connected_at.as_ref().map_or_else(|| "never".to_owned(), |at| ago(at, now));
    match unit.connection() {
        api::Connection::Recent | api::Connection::Unspecified => Cell::new(ago),
        api::Connection::Orange => Cell::new(format!("{ago}\n(orange)")).fg(ORANGE),
        api::Connection::Red => Cell::new(format!("{ago}\n(red)")).fg(Color::Red),
    }
}

const ORANGE: Color = Color::AnsiValue(208);

/// How long ago an instant was, in the largest unit that fits.
fn ago(at: &Timestamp, now: Instant) -> String {
    let Ok(at) = convert::instant(at, "") else { return "at an instant out of range".to_owned() };
    let seconds = (now - at).nanos() / Span::SECOND.nanos();
    let (count, unit) = match seconds {
        ..60 => return "just now".to_owned(),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        86_400.. => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_ago_is_told_in_the_largest_unit_that_fits() {
        for (seconds, text) in [
            (-5, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (3_599, "59 minutes ago"),
            (3_600, "1 hour ago"),
            (86_399, "23 hours ago"),
            (86_400, "1 day ago"),
            (40 * 86_400, "40 days ago"),
        ] {
            assert_eq!(ago(&Timestamp { seconds: 0, nanos: 0 }, Instant::from_unix_seconds(seconds)), text);
        }
    }

    #[test]
    fn statuses_are_told_apart_without_colour() {
        let cells = [api::LicenseStatus::Valid, api::LicenseStatus::Attention, api::LicenseStatus::Problem]
            .map(|status| status_cell(status, "").content());
        assert_eq!(cells, ["✓ valid", "! attention", "! problem"]);
    }
}
