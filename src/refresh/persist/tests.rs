//! What is kept is what is read back, and damage is seen.

use super::*;
use crate::domain::{
    Activation,
    facts::{ActiveUsers, DisabledByLicensing, FairUse, LicensedUsers, SmsCredits, Users},
};

const T: Instant = Instant::from_unix_nanos(1_800_000_000_000_000_001);

fn persisted() -> Persisted {
    let facts = Facts {
        subscription_id: "3A8-WN7-7TD".parse().unwrap(),
        activation: Activation::Deactivated { since: T },
        expires_at: T,
        disabled_by_licensing: Some(DisabledByLicensing { reason: "suspended".into(), since: T }),
        users: Users { active: ActiveUsers(1), licensed: LicensedUsers(2), overused_since: Some(T) },
        all_users: FairUse { count: 3, limit: 4 },
        components: FairUse { count: 5, limit: 6 },
        sms_credits: Some(SmsCredits(7)),
    };
    let record = PersistedRecord { facts, revision: 8, overuse_seen: Some(T) };
    Persisted {
        source: "scripted".to_owned(),
        as_of: T,
        issued_at: Some(T),
        revision: 9,
        records: vec![record],
    }
}

#[test]
fn what_is_kept_is_what_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("made on the way")).unwrap();
    assert_eq!(store.load().unwrap(), None);
    store.save(&persisted()).unwrap();
    assert_eq!(store.load().unwrap(), Some(persisted()));
}

#[test]
fn any_flipped_bit_and_any_missing_end_is_seen_and_the_file_set_aside() {
    let (header, body) = render(&persisted()).unwrap();
    let whole = [header, body].concat();
    assert_eq!(parse(&whole), Ok(persisted()));
    for length in 0..whole.len() {
        assert!(parse(&whole[..length]).is_err(), "cut to {length} bytes");
    }
    let body_begins = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for bit in body_begins * 8..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(parse(&flipped).is_err(), "bit {bit} flipped");
    }

    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_owned()).unwrap();
    fs::write(folder.path().join(FACTS), &whole[..whole.len() - 1]).unwrap();
    let error = store.load().unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
    assert!(folder.path().join("facts.jsonl.damaged").exists(), "nothing is lost");
    assert_eq!(store.load().unwrap(), None, "and the next start is not kept from starting");
}

#[test]
fn what_is_set_aside_stays_when_more_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_owned()).unwrap();
    for (damage, aside) in [("one", "facts.jsonl.damaged"), ("two", "facts.jsonl.damaged.1")] {
        fs::write(folder.path().join(FACTS), damage).unwrap();
        assert!(matches!(store.load(), Err(PersistError::Damaged { .. })));
        assert_eq!(fs::read_to_string(folder.path().join(aside)).unwrap(), damage);
    }
}

#[test]
fn a_folder_that_was_tidied_away_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("data")).unwrap();
    fs::remove_dir_all(folder.path().join("data")).unwrap();
    store.save(&persisted()).unwrap();
    assert_eq!(store.load().unwrap(), Some(persisted()));
}
