//! The sample company shows what it says.

use super::*;
use crate::{
    cli::output,
    domain::{SubscriptionState, Timeline},
};

#[test]
fn the_sample_company_has_a_subscription_in_every_state() {
    let now = Instant::from_unix_seconds(1_800_000_000);
    let mut shown = Vec::new();
    for Sample { facts, shows } in samples(now).unwrap() {
        let state = Timeline::of(&facts).at(now).state;
        assert!(shows.starts_with(output::state_title(state)), "{shows}: {state:?}");
        shown.push(state);
    }
    shown.sort_unstable();
    assert_eq!(shown, SubscriptionState::ALL);
}
