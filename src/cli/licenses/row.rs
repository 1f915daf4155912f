//! A license as it is shown (semantics 6.2).
//!
//! Not here: which licenses are shown.

use comfy_table::Cell;
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        CommandResult,
        status::json::facts,
        unit_management::{
            backend, day, instant, name,
            record::{self, Column, Record, object},
            told,
        },
        units::row::status_cell,
    },
    domain::Instant,
    escape::escape_control,
    proto::licensing as api,
};

/// A license.
#[derive(Default)]
pub(super) struct LicenseRow(pub(super) api::License);

impl Record for LicenseRow {
    const PLURAL: &'static str = "licenses";
    const COLUMNS: &'static [Column] = &[
        Column::Whole("license"),
        Column::Text("name, product, type"),
        Column::Whole("seats"),
        Column::Whole("units"),
        Column::Whole("expires"),
        Column::Text("delegated to"),
        Column::Whole("status"),
    ];

    fn row(&self, _now: Instant) -> Vec<Cell> {
        let license = &self.0;
        let state = match license.state() {
            api::LicenseState::Active => String::new(),
            api::LicenseState::Unspecified
            | api::LicenseState::Suspended
            | api::LicenseState::Canceled
            | api::LicenseState::Deactivated => name::of::<api::LicenseState>(license.state),
        };
        let [name, product, kind] =
            [&license.name, &license.product, &license.r#type].map(|text| escape_control(text));
        let product = format!("{name}\n{product}, {kind}");
        vec![
            Cell::new(escape_control(&license.license_id)),
            Cell::new(product.trim_start()),
            Cell::new(format!("{} {}", license.seats, name::of::<api::SeatKind>(license.seat_kind))),
            Cell::new(license.active_units),
            Cell::new(day(license.expires_at.as_ref())),
            Cell::new(escape_control(&delegated(license))),
            status_cell(license.status(), &state),
        ]
    }

    fn json(&self) -> Map<String, Value> {
        let api::License {
            license_id,
            subscription_id,
            customer,
            product,
            name,
            r#type,
            seat_kind,
            seats,
            expires_at,
            state,
            state_since,
            all_users_limit,
            components_limit,
            sms_credits,
            attributes,
            status,
            active_units,
            delegations,
            delegated,
            created_at,
            // One subscription has many licenses; it is told where one license is looked at.
            subscription: _,
        } = &self.0;
        let attributes: Map<String, Value> = sorted(attributes);
        let delegations = delegations.iter().map(delegation).collect::<Vec<_>>();
        object(json!({
            "license_id": license_id,
            "subscription_id": subscription_id,
            "customer": customer,
            "product": product,
            "name": name,
            "type": r#type,
            "seat_kind": name::of::<api::SeatKind>(*seat_kind),
            "seats": seats,
            "expires_at": instant(expires_at.as_ref()),
            "state": name::of::<api::LicenseState>(*state),
            "state_since": instant(state_since.as_ref()),
            "all_users_limit": all_users_limit,
            "components_limit": components_limit,
            "sms_credits": sms_credits,
            "attributes": attributes,
            "status": name::of::<api::LicenseStatus>(*status),
            "active_units": active_units,
            "delegations": delegations,
            "delegated": delegated_to_caller(*delegated),
            "created_at": instant(created_at.as_ref()),
        }))
    }
}

/// One license by itself, with what its subscription is told.
pub(super) fn show(license: Option<api::License>, json: bool) -> CommandResult {
    let license = backend::held(license, "a license")?;
    let subscription = license.subscription.as_ref().map(facts);
    let mut shown = LicenseRow(license).json();
    if json {
        shown.insert("subscription".to_owned(), subscription.into());
    }
    record::show(shown, json)
}

/// How far a delegation has come.
pub(super) fn delegation(delegation: &api::Delegation) -> Value {
    let api::Delegation { account, state } = delegation;
    json!({"account": told(account), "state": name::of::<api::DelegationState>(*state)})
}

/// Attributes in the order of their keys, so that the same license always reads the same.
fn sorted(attributes: &std::collections::BTreeMap<String, String>) -> Map<String, Value> {
    let mut sorted: Vec<(&String, &String)> = attributes.iter().collect();
    sorted.sort_unstable();
    sorted.into_iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect()
}

/// For a security admin: offered or accepted. An owner is told nothing here.
fn delegated_to_caller(delegated: i32) -> Value {
    let is_told = delegated != i32::from(api::DelegationState::Unspecified);
    is_told.then(|| name::of::<api::DelegationState>(delegated)).into()
}

fn delegated(license: &api::License) -> String {
    if license.delegated() != api::DelegationState::Unspecified {
        return format!("you ({})", name::of::<api::DelegationState>(license.delegated));
    }
    let to = license.delegations.iter().map(|delegation| match delegation.state() {
        api::DelegationState::Accepted => delegation.account.clone(),
        api::DelegationState::Unspecified | api::DelegationState::Offered => {
            format!("{} ({})", delegation.account, name::of::<api::DelegationState>(delegation.state))
        }
    });
    to.collect::<Vec<_>>().join(", ")
}
