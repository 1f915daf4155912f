//! Who may vouch.

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    config,
    domain::{
        Activation, Facts, Operation, Span, Timeline,
        facts::{ActiveUsers, FairUse, LicensedUsers, Users},
    },
    source::Origin,
};

const T: Instant = Instant::from_unix_seconds(1_800_000_000);

fn disabled() -> Snapshot {
    let facts = Facts {
        subscription_id: "3A8-WN7-7TD".parse().unwrap(),
        activation: Activation::Deactivated { since: T },
        expires_at: T + Span::days(400),
        disabled_by_licensing: None,
        users: Users { active: ActiveUsers(1), licensed: LicensedUsers(100), overused_since: None },
        all_users: FairUse { count: 0, limit: 0 },
        components: FairUse { count: 0, limit: 0 },
        sms_credits: None,
    };
    Snapshot { timeline: Timeline::of(&facts), facts, as_of: T, revision: 1, origin: Origin::Live }
}

fn freshness() -> Freshness {
    Freshness::new(&config::Staleness {
        stale_after: Duration::from_secs(1),
        unavailable_after: None,
        operations: BTreeMap::new(),
    })
}

/// An authentication server that may vouch for administrators, or not.
fn caller(vouches_for_administrators: bool) -> Caller {
    Caller::of_row(&config::Caller {
        name: "caller".to_owned(),
        identity: config::Identity::Loopback,
        operations: Operation::ALL.into_iter().map(|operation| operation.name()).collect(),
        subscriptions: None,
        vouches_for_administrators,
        reads: true,
        reports_usage: true,
        refreshes: true,
        quota: None,
    })
}

/// Every operation, role and caller: only an administrator a trusted caller vouches for gains the exception, and
/// only whoever claims to be one in vain is told so.
#[test]
fn a_role_that_is_not_vouched_for_counts_as_user_and_the_answer_says_so() {
    for vouches in [true, false] {
        let caller = &caller(vouches);
        for operation in 1..=12 {
            for role in 0..=3 {
                let actor = Some(api::Actor { role, id: String::new() });
                let request = api::AuthorizeRequest { operation, actor, ..api::AuthorizeRequest::default() };
                let asked = Asked::read(&request, caller).unwrap();
                let claims = role == i32::from(api::ActorRole::Administrator);
                let excepted = claims && vouches && [2, 11].contains(&operation);
                let with_facts = asked.answer(Ok(&disabled()), &freshness(), T).unwrap();
                assert_eq!(with_facts.access() == api::Access::Allowed, excepted, "{request:?} {caller:?}");
                assert_eq!(with_facts.role_not_vouched, claims && !vouches);
                let without = asked.answer(Err(Missing::NoFacts), &freshness(), T);
                assert_eq!(without.is_ok(), excepted, "{request:?} {caller:?}");
            }
        }
    }
}
