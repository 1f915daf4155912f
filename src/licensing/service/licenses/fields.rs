//! What requests about licences say.
//!
//! Not here: the calls.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    domain::{
        Instant,
        facts::{LicensedUsers, SmsCredits},
        license::{License, LicenseState},
    },
    licensing::{
        issue::{Edit, New},
        refusal::{Refusal, shown},
        service::read,
    },
    proto::licensing as api,
    wire,
};

/// The product of a licence that names none.
const PRODUCT: &str = "ESET Secure Authentication";

/// Attributes of a licence.
const MOST_ATTRIBUTES: usize = 32;

/// What is done to a licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Suspend,
    Cancel,
    Deactivate,
}

impl Step {
    pub(super) const fn action(self) -> &'static str {
        match self {
            Self::Suspend => "license.suspend",
            Self::Cancel => "license.cancel",
            Self::Deactivate => "license.deactivate",
        }
    }

    /// The state it becomes at `at`; what it is already, it stays since then.
    pub(super) fn from(self, before: LicenseState, at: Instant) -> Result<LicenseState, Refusal> {
        Ok(match (self, before) {
            (Self::Deactivate, LicenseState::Deactivated { since }) => LicenseState::Deactivated { since },
            (_, LicenseState::Deactivated { .. }) => {
                return Err(Refusal::Precondition("the license was deactivated for good".to_owned()));
            }
            (Self::Suspend, LicenseState::Suspended { since }) => LicenseState::Suspended { since },
            (Self::Cancel, LicenseState::Canceled { since }) => LicenseState::Canceled { since },
            // The days of grace go on from when it was disabled first (semantics 2.8).
            (Self::Suspend, LicenseState::Canceled { since }) => LicenseState::Suspended { since },
            (Self::Cancel, LicenseState::Suspended { since }) => LicenseState::Canceled { since },
            (Self::Suspend, LicenseState::Active) => LicenseState::Suspended { since: at },
            (Self::Cancel, LicenseState::Active) => LicenseState::Canceled { since: at },
            (
                Self::Deactivate,
                LicenseState::Active | LicenseState::Suspended { .. } | LicenseState::Canceled { .. },
            ) => LicenseState::Deactivated { since: at },
        })
    }
}

/// A licence that was deactivated stays so.
pub(super) fn for_good(id: &str) -> Refusal {
    Refusal::Precondition(format!("license {id} was deactivated for good; issue another"))
}

/// A refusal of one licence of an import.
pub(super) fn in_import(position: usize, refusal: Refusal) -> Refusal {
    if let Refusal::Unreadable { field, what } = refusal {
        return Refusal::Unreadable { field: format!("licenses[{position}].{field}"), what };
    }
    if matches!(refusal, Refusal::Taken { .. } | Refusal::NotFound { .. }) {
        return Refusal::Precondition(format!("licenses[{position}]: {refusal}; nothing was imported"));
    }
    refusal
}

pub(super) fn suspended(state: i32) -> Result<Step, Refusal> {
    match api::LicenseState::try_from(state) {
        Ok(api::LicenseState::Unspecified | api::LicenseState::Suspended) => Ok(Step::Suspend),
        Ok(api::LicenseState::Canceled) => Ok(Step::Cancel),
        Ok(api::LicenseState::Deactivated) => Ok(Step::Deactivate),
        Ok(api::LicenseState::Active) => {
            Err(Refusal::unreadable("state", "ACTIVE: resume the license instead"))
        }
        Err(_) => Err(wire::unknown("state", state).into()),
    }
}

/// What to issue; `path` is where it stands in the request.
pub(super) fn new(license: Option<&api::NewLicense>, path: &str) -> Result<New, Refusal> {
    let license = license.ok_or_else(|| Refusal::unreadable(path, "missing"))?;
    let api::NewLicense {
        license_id,
        customer,
        product,
        name,
        r#type,
        seat_kind,
        seats,
        expires_at,
        all_users_limit,
        components_limit,
        sms_credits,
        attributes: told,
    } = license;
    let at = |field: &str| format!("{path}.{field}");
    let or = |text: String, usual: &str| if text.is_empty() { usual.to_owned() } else { text };
    let id = wire::subscription_id(license_id);
    let count = |field: &str, count: u64| read::count(&at(field), count);
    Ok(New {
        id: id.map_err(|unreadable| Refusal::unreadable(at("license_id"), unreadable.what))?,
        customer: read::text(&at("customer"), customer, 0, 255)?,
        product: or(read::text(&at("product"), product, 0, 255)?, PRODUCT),
        name: read::text(&at("name"), name, 0, 255)?,
        kind: or(read::text(&at("type"), r#type, 0, 64)?, "full"),
        seat_kind: match api::SeatKind::try_from(*seat_kind) {
            Ok(api::SeatKind::Users | api::SeatKind::Unspecified) => api::SeatKind::Users,
            Ok(api::SeatKind::Units) => api::SeatKind::Units,
            Err(_) => return Err(wire::unknown(&at("seat_kind"), *seat_kind).into()),
        },
        attributes: attributes(&at("attributes"), told)?,
        grants: License {
            seats: LicensedUsers(count("seats", *seats)?),
            expires_at: read::kept_instant(&at("expires_at"), expires_at.as_ref())?,
            state: LicenseState::Active,
            all_users_limit: count("all_users_limit", *all_users_limit)?,
            components_limit: count("components_limit", *components_limit)?,
            sms_credits: sms_credits
                .map(|credits| count("sms_credits", credits))
                .transpose()?
                .map(SmsCredits),
        },
    })
}

/// What to change, and the same for the audit log.
pub(super) fn edit(request: &api::UpdateLicenseRequest) -> Result<(Edit, String), Refusal> {
    let missing = |field: &str| Refusal::unreadable(field, "missing");
    let license = request.license.as_ref().ok_or_else(|| missing("license"))?;
    let mask = request.update_mask.as_ref().ok_or_else(|| missing("update_mask"))?;
    let mut edit = Edit::default();
    let mut detail = Vec::new();
    let mut named = BTreeSet::new();
    // However often one is named, it is changed once.
    for path in mask.paths.iter().filter(|path| named.insert(path.as_str())) {
        let field = format!("license.{path}");
        match path.as_str() {
            "name" => edit.name = Some(read::text(&field, &license.name, 0, 255)?),
            "type" => edit.kind = Some(read::text(&field, &license.r#type, 1, 64)?),
            "seats" => edit.seats = Some(read::count(&field, license.seats)?),
            "all_users_limit" => edit.all_users_limit = Some(read::count(&field, license.all_users_limit)?),
            "components_limit" => {
                edit.components_limit = Some(read::count(&field, license.components_limit)?)
            }
            "sms_credits" => {
                let credits = license.sms_credits.map(|credits| read::count(&field, credits)).transpose()?;
                edit.sms_credits = Some(credits);
            }
            "attributes" => edit.attributes = Some(attributes(&field, &license.attributes)?),
            _ => {
                let what = format!(
                    "`{}` is not changed here; known are: name, type, seats, all_users_limit, components_limit, \
                     sms_credits, attributes",
                    shown(path)
                );
                return Err(Refusal::unreadable("update_mask", what));
            }
        }
        detail.push(match path.as_str() {
            "seats" => format!("seats {}", license.seats),
            "sms_credits" => license
                .sms_credits
                .map_or_else(|| "no SMS credits".to_owned(), |credits| format!("sms_credits {credits}")),
            other => other.to_owned(),
        });
    }
    if mask.paths.is_empty() {
        return Err(Refusal::unreadable("update_mask", "it names nothing to change"));
    }
    Ok((edit, detail.join(", ")))
}

fn attributes(field: &str, told: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    if MOST_ATTRIBUTES < told.len() {
        let what = format!("{} given; a license has at most {MOST_ATTRIBUTES}", told.len());
        return Err(Refusal::unreadable(field, what));
    }
    let read = |(name, value): (&String, &String)| {
        let shown = format!("{field}[{}]", name.chars().take(40).collect::<String>());
        Ok((read::text(&shown, name, 1, 64)?, read::text(&shown, value, 0, 255)?))
    };
    told.iter().map(read).collect()
}
