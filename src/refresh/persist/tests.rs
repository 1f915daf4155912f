//! What is kept is what is read back, and damage is seen.

use prost::Message as _;

use super::{
    format::{parse, render},
    *,
};
use crate::{
    domain::{
        Activation, Facts,
        facts::{ActiveUsers, DisabledByLicensing, FairUse, LicensedUsers, SmsCredits, Users},
    },
    proto::licensing,
    signing::{Refused, SigningKeys},
    source::Proof,
    wire,
};

const T: Instant = Instant::from_unix_nanos(1_800_000_000_000_000_001);

fn facts() -> Facts {
    Facts {
        subscription_id: "3A8-WN7-7TD".parse().unwrap(),
        activation: Activation::Deactivated { since: T },
        expires_at: T,
        disabled_by_licensing: Some(DisabledByLicensing { reason: "suspended".into(), since: T }),
        users: Users { active: ActiveUsers(1), licensed: LicensedUsers(2), overused_since: Some(T) },
        all_users: FairUse { count: 3, limit: 4 },
        components: FairUse { count: 5, limit: 6 },
        sms_credits: Some(SmsCredits(7)),
    }
}

fn persisted() -> Persisted {
    let record = PersistedRecord { told: facts().into(), as_of: T, revision: 8, overuse_seen: Some(T) };
    Persisted { source: "scripted".to_owned(), revision: 9, records: vec![record] }
}

/// The same, signed by two backends.
fn signed() -> (Persisted, [TrustedKeys; 2]) {
    let keys = [(); 2].map(|()| SigningKeys::open(tempfile::tempdir().unwrap().path()).unwrap());
    let trusted = keys.each_ref().map(|keys| TrustedKeys::of(keys.public_keys()).unwrap());
    let records = keys.iter().zip(["AAA-AAA-AAA", "BBB-BBB-BBB"]).map(|(keys, id)| {
        let facts = Facts { subscription_id: id.parse().unwrap(), ..facts() };
        let payload = licensing::SubscriptionFacts {
            sequence: 3,
            issued_at: wire::timestamp(T),
            nonce: vec![1; 16],
            unit_id: format!("unit of {id}"),
            facts: Some((&facts).into()),
        };
        let signed = keys.sign(payload.encode_to_vec());
        let proof = Some(Proof { signed, sequence: 3, issued_at: T });
        PersistedRecord { told: Told { facts, proof }, as_of: T, revision: 8, overuse_seen: None }
    });
    let records = records.collect();
    (Persisted { source: "licensing".to_owned(), revision: 9, records }, trusted)
}

/// This server has a unit of each of these subscriptions.
fn units_of(ids: &[&str]) -> IssuedTo {
    IssuedTo::these(ids.iter().map(|id| (format!("unit of {id}"), id.parse().unwrap())), None)
}

fn ours() -> IssuedTo {
    units_of(&["AAA-AAA-AAA", "BBB-BBB-BBB"])
}

fn names(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
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
    let parse = |contents: &[u8]| parse(contents, None).map(|parsed| parsed.persisted);
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

#[test]
fn signed_facts_are_kept_as_they_came_and_verified_again() {
    let folder = tempfile::tempdir().unwrap();
    let (kept, [one, other]) = signed();
    let both = one.and(&other).unwrap();
    let store = Store::open(folder.path().to_owned()).unwrap().trusting(both, ours());
    store.save(&kept).unwrap();
    assert_eq!(store.load().unwrap(), Some(kept.clone()));
    assert_eq!(kept.issued_at(), Some(T));
    assert_eq!(names(folder.path()), ["facts.jsonl", "lock"], "nothing is set aside");
}

#[test]
fn what_no_trusted_key_vouches_for_any_more_is_not_used_and_the_rest_is() {
    let folder = tempfile::tempdir().unwrap();
    let (kept, [one, _other]) = signed();
    let store = Store::open(folder.path().to_owned()).unwrap().trusting(one, ours());
    store.save(&kept).unwrap();
    for _ in 0..2 {
        let held = store.load().unwrap().unwrap();
        assert_eq!(held.records, kept.records[..1]);
        assert_eq!(names(folder.path()), ["facts.jsonl", "facts.jsonl.refused", "lock"], "kept once");
    }
    store.save(&persisted()).unwrap();
    assert_eq!(store.load().unwrap().unwrap().records, [], "whoever trusts keys takes nothing unsigned");
    assert_eq!(names(folder.path()).len(), 4);
    let store = store.trusting(TrustedKeys::default(), ours());
    assert_eq!(store.load().unwrap().unwrap().records, [], "no more so without any key");
    drop(store);
    let store = Store::open(folder.path().to_owned()).unwrap();
    assert_eq!(store.load().unwrap(), Some(persisted()), "nobody told of keys: nothing has to be signed");
}

/// Whoever copies the file of another server, or removes units.json, is answered from nothing.
#[test]
fn facts_that_were_issued_to_no_unit_of_this_server_are_not_used_however_well_signed() {
    let folder = tempfile::tempdir().unwrap();
    let (kept, [one, other]) = signed();
    let keys = one.and(&other).unwrap();
    let elsewhere = [("unit of AAA-AAA-AAA".to_owned(), "BBB-BBB-BBB".parse().unwrap())];
    let not_activated = IssuedTo::these([], Some("AAA-AAA-AAA".parse().unwrap()));
    for (ours, used) in [
        (units_of(&["AAA-AAA-AAA"]), &kept.records[..1]),
        (units_of(&["CCC-CCC-CCC"]), &[]),
        (IssuedTo::these(elsewhere, None), &[]),
        (not_activated, &[]),
        (IssuedTo::default(), &[]),
    ] {
        let store = Store::open(folder.path().to_owned()).unwrap().trusting(keys.clone(), ours);
        store.save(&kept).unwrap();
        assert_eq!(store.load().unwrap().unwrap().records, used);
    }
    assert!(names(folder.path()).contains(&"facts.jsonl.refused".to_owned()), "they are kept beside");
}

#[test]
fn an_edited_line_of_signed_facts_is_never_used_though_its_sum_be_right() {
    let (kept, [one, other]) = signed();
    let trusted = one.and(&other).unwrap();
    let (_, body) = render(&kept).unwrap();
    for bit in 0..body.len() * 8 {
        let mut edited = body.clone();
        edited[bit / 8] ^= 1 << (bit % 8);
        let header = serde_json::json!({"format": "esa-sidecar facts 2", "source": "licensing", "revision": 9,
            "subscriptions": 2, "sha256": crate::sha256::hex(&edited)});
        let whole = [format!("{header}\n").as_bytes(), &edited].concat();
        let Ok(Parsed { persisted, refused }) =
            parse(&whole, Some(&Trusted { keys: trusted.clone(), issued_to: ours() }))
        else {
            continue;
        };
        for record in &persisted.records {
            // The number of this sidecar's own is nobody's but its own; facts and their proof are the backend's.
            assert!(kept.records.iter().any(|kept| kept.told == record.told), "bit {bit}");
        }
        assert_eq!(persisted.records.len() + refused.len(), 2, "bit {bit}");
    }
}

#[test]
fn facts_of_a_version_without_signatures_still_load() {
    let header = |body: &str| {
        serde_json::json!({"format": "esa-sidecar facts 1", "source": "scripted", "as_of": "2027-01-15T08:00:00.000000001Z",
            "issued_at": null, "revision": 9, "subscriptions": 1, "sha256": crate::sha256::hex(body.as_bytes())})
    };
    let facts = serde_json::to_string(&crate::source::facts_json::FactsJson::from(&facts())).unwrap();
    let seen = "2027-01-15T08:00:00.000000001Z";
    let body = format!("{{\"revision\":8,\"overuse_seen\":\"{seen}\",\"facts\":{facts}}}\n");
    let whole = format!("{}\n{body}", header(&body));
    let parsed = parse(whole.as_bytes(), None).unwrap();
    assert_eq!((parsed.persisted, parsed.refused), (persisted(), Vec::new()));
    // Where facts are signed, what was told before there were signatures is not verified.
    let (_, [trusted, _]) = signed();
    let parsed = parse(whole.as_bytes(), Some(&Trusted { keys: trusted, issued_to: ours() })).unwrap();
    assert_eq!(parsed.refused, [RefusedLine { line: 2, why: Refused::Unsigned }]);
}

#[test]
fn a_data_folder_that_is_made_is_its_owner_s_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("state/data");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let store = Store::open(data.clone()).unwrap();
    assert_eq!((mode(&data), mode(data.parent().unwrap())), (0o700, 0o700));
    fs::remove_dir_all(&data).unwrap();
    store.save(&persisted()).unwrap();
    assert_eq!(mode(&data), 0o700);
}
