//! Each subscription as it is now, by the same timeline that questions are answered from.
//!
//! Not here: what follows from facts (see `domain`).

use std::fmt;

use super::{
    OfSidecar,
    page::{Page, flag, seconds},
};
use crate::{
    cache::Held,
    domain::{ConditionKind, Instant, SubscriptionId, SubscriptionState, facts::SmsCredits},
    freshness,
    names::Named as _,
};

/// All of them counted, and each by itself if `by_name`.
pub(super) fn show(page: &mut Page<'_>, sidecar: &OfSidecar, by_name: bool) -> fmt::Result {
    let OfSidecar { cache, clock, freshness, subscriptions: most, .. } = sidecar;
    let now = clock.now();
    let ids = cache.subscription_ids();
    let mut of_state = [0_u32; SubscriptionState::ALL.len()];
    for held in ids.iter().filter_map(|id| cache.load(Some(id)).ok()) {
        if let Some(count) = of_state.get_mut(held.timeline.at(now).state as usize) {
            *count += 1;
        }
    }
    page.gauges(
        "subscriptions",
        "Subscriptions that are held, by their state.",
        SubscriptionState::ALL
            .into_iter()
            .zip(of_state)
            .map(|(state, count)| ([("state", state.name())], f64::from(count))),
    )?;
    if !by_name {
        return Ok(());
    }
    let shown: Vec<Shown> = ids
        .iter()
        .take(*most)
        .filter_map(|id| Some(Shown { id: *id, held: cache.load(Some(id)).ok()? }))
        .collect();
    states(page, &shown, now)?;
    facts(page, &shown, now, |shown| freshness.is_stale(shown.held.as_of, now))?;
    usage(page, &shown)
}

/// A subscription with rows of its own, held for the whole page, so that they say the same.
struct Shown {
    id: SubscriptionId,
    held: Held,
}

impl Shown {
    fn label(&self) -> (&'static str, &str) {
        ("subscription_id", self.id.as_str())
    }
}

fn states(page: &mut Page<'_>, shown: &[Shown], now: Instant) -> fmt::Result {
    let states = shown.iter().flat_map(|shown| {
        let held = shown.held.timeline.at(now).state;
        SubscriptionState::ALL.map(|state| ([shown.label(), ("state", state.name())], flag(state == held)))
    });
    page.gauges("subscription_state", "1 for the state a subscription is in, 0 for all others.", states)?;
    let conditions = shown.iter().flat_map(|shown| {
        let held = shown.held.timeline.at(now).conditions;
        <ConditionKind as crate::names::Named>::ALL.iter().map(move |kind| {
            let holds = held.iter().any(|condition| condition.kind == *kind);
            ([shown.label(), ("condition", kind.name())], flag(holds))
        })
    });
    page.gauges("subscription_condition", "1 for each condition that holds, 0 for all others.", conditions)?;
    let turns = shown.iter().filter_map(|shown| {
        let next = shown.held.timeline.after(now).first()?;
        Some(([shown.label(), ("state", next.state.name())], seconds(next.from)))
    });
    page.gauges(
        "subscription_turn_timestamp_seconds",
        "When time alone will change the conditions of a subscription, in seconds since 1970, and its state from then on.",
        turns,
    )
}

fn facts(
    page: &mut Page<'_>,
    shown: &[Shown],
    now: Instant,
    is_stale: impl Fn(&Shown) -> bool,
) -> fmt::Result {
    page.gauges(
        "facts_age_seconds",
        "How old the facts of a subscription are; none when they are dated after the present.",
        shown.iter().filter_map(|shown| {
            Some(([shown.label()], freshness::age(shown.held.as_of, now)?.as_secs_f64()))
        }),
    )?;
    page.gauges(
        "facts_stale",
        "Whether the facts of a subscription are stale (`staleness.stale_after`).",
        shown.iter().map(|shown| ([shown.label()], flag(is_stale(shown)))),
    )?;
    page.gauges(
        "facts_revision",
        "The number of the facts of a subscription.",
        shown.iter().map(|shown| ([shown.label()], shown.held.revision as f64)),
    )
}

fn usage(page: &mut Page<'_>, shown: &[Shown]) -> fmt::Result {
    page.gauges(
        "users_active",
        "Users for whom 2FA is on.",
        shown.iter().map(|shown| ([shown.label()], shown.held.facts.users.active.0 as f64)),
    )?;
    page.gauges(
        "users_licensed",
        "Users for whom 2FA may be on.",
        shown.iter().map(|shown| ([shown.label()], shown.held.facts.users.licensed.0 as f64)),
    )?;
    page.gauges(
        "sms_credits",
        "SMS credits that remain, where they are bought.",
        shown.iter().filter_map(|shown| {
            let SmsCredits(credits) = shown.held.facts.sms_credits?;
            Some(([shown.label()], credits as f64))
        }),
    )
}
