//! Facts as JSON: nothing panics, and what is read is written and read again unchanged, with a timeline that equals
//! the rules.

#![no_main]

use esa_sidecar::{
    domain::{Instant, Timeline, rules},
    source::facts_json::{FactsJson, read, read_all},
};

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    let Ok(all) = read_all(json) else { return };
    for facts in all {
        let written = serde_json_of(&facts);
        assert_eq!(read::<FactsJson>(&written).map(Into::into), Ok(facts.clone()));
        let timeline = Timeline::of(&facts);
        for turn in timeline.after(Instant::BEGINNING) {
            assert_eq!(turn.conditions, rules::conditions(&facts, turn.from));
        }
    }
});

fn serde_json_of(facts: &esa_sidecar::domain::Facts) -> Vec<u8> {
    serde_json::to_vec(&FactsJson::from(facts)).unwrap()
}
