//! What if: facts with some of their fields changed.
//!
//! Not here: what follows from them (see `describe`, which real and simulated facts share).

use std::collections::BTreeSet;

use prost_types::FieldMask;

use crate::{
    domain::Facts,
    enforcement::convert::{self, Unreadable},
    proto::enforcement as api,
};

/// `base` with what `changes` says of the fields in `mask`; of all fields that are set in it when the mask is empty.
pub(super) fn changed(
    base: api::SubscriptionFacts,
    changes: Option<&api::SubscriptionFacts>,
    mask: Option<&FieldMask>,
) -> Result<Facts, Unreadable> {
    let mut facts = base;
    let nothing = api::SubscriptionFacts::default();
    let changes = changes.unwrap_or(&nothing);
    match mask {
        Some(mask) if !mask.paths.is_empty() => {
            // Once each: a text that is named thousands of times is not copied thousands of times.
            let mut taken = BTreeSet::new();
            for path in &mask.paths {
                if taken.insert(path) {
                    take(&mut facts, changes, path)?;
                }
            }
        }
        _ => take_all_set(&mut facts, changes),
    }
    convert::facts(&facts, "facts")
}

fn take_all_set(facts: &mut api::SubscriptionFacts, changes: &api::SubscriptionFacts) {
    // Exhaustive, so that a new field demands a decision here.
    let api::SubscriptionFacts {
        subscription_id,
        activation,
        expires_at,
        disabled_by_licensing,
        users,
        all_users,
        components,
        sms_credits,
    } = changes.clone();
    if !subscription_id.is_empty() {
        facts.subscription_id = subscription_id;
    }
    facts.activation = activation.or(facts.activation);
    facts.expires_at = expires_at.or(facts.expires_at);
    facts.disabled_by_licensing = disabled_by_licensing.or(facts.disabled_by_licensing.take());
    facts.users = users.or(facts.users);
    facts.all_users = all_users.or(facts.all_users);
    facts.components = components.or(facts.components);
    facts.sms_credits = sms_credits.or(facts.sms_credits);
}

fn take(
    facts: &mut api::SubscriptionFacts,
    changes: &api::SubscriptionFacts,
    path: &str,
) -> Result<(), Unreadable> {
    let users = changes.users.unwrap_or_default();
    let all_users = changes.all_users.unwrap_or_default();
    let components = changes.components.unwrap_or_default();
    let activation = changes.activation.unwrap_or_default();
    match path {
        "activation" => facts.activation = changes.activation,
        "activation.state" => facts.activation.get_or_insert_default().state = activation.state,
        "activation.since" => facts.activation.get_or_insert_default().since = activation.since,
        "expires_at" => facts.expires_at = changes.expires_at,
        "disabled_by_licensing" => facts.disabled_by_licensing = changes.disabled_by_licensing.clone(),
        "users" => facts.users = changes.users,
        "users.active" => facts.users.get_or_insert_default().active = users.active,
        "users.licensed" => facts.users.get_or_insert_default().licensed = users.licensed,
        "users.overused_since" => facts.users.get_or_insert_default().overused_since = users.overused_since,
        "all_users" => facts.all_users = changes.all_users,
        "all_users.count" => facts.all_users.get_or_insert_default().count = all_users.count,
        "all_users.limit" => facts.all_users.get_or_insert_default().limit = all_users.limit,
        "components" => facts.components = changes.components,
        "components.count" => facts.components.get_or_insert_default().count = components.count,
        "components.limit" => facts.components.get_or_insert_default().limit = components.limit,
        "sms_credits" => facts.sms_credits = changes.sms_credits,
        _ => {
            let shown: String = path.chars().take(40).collect();
            let what = format!("`{shown}` is no field of SubscriptionFacts that can be changed");
            return Err(Unreadable::new("change_mask.paths", what));
        }
    }
    Ok(())
}
