//! Forged, edited, replayed and foreign facts are refused; keys change in two steps and stay their owner's.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use prost::Message as _;

use super::*;
use crate::{
    domain::{
        Activation, Facts, Instant,
        facts::{ActiveUsers, FairUse, LicensedUsers, Users},
    },
    proto::{
        enforcement,
        licensing::{self as api, SignedFacts},
    },
    wire,
};

const T: Instant = Instant::from_unix_nanos(1_800_000_000_000_000_001);
const NONCE: [u8; 16] = [7; 16];

fn facts() -> Facts {
    Facts {
        subscription_id: "3A8-WN7-7TD".parse().unwrap(),
        activation: Activation::Deactivated { since: T },
        expires_at: T,
        disabled_by_licensing: None,
        users: Users { active: ActiveUsers(1), licensed: LicensedUsers(2), overused_since: None },
        all_users: FairUse { count: 3, limit: 4 },
        components: FairUse { count: 5, limit: 6 },
        sms_credits: None,
    }
}

fn payload() -> api::SubscriptionFacts {
    api::SubscriptionFacts {
        sequence: 9,
        issued_at: wire::timestamp(T),
        nonce: NONCE.to_vec(),
        unit_id: "unit".to_owned(),
        facts: Some((&facts()).into()),
    }
}

/// Keys in a new folder, which goes when the first of the two is dropped.
fn keys() -> (tempfile::TempDir, SigningKeys) {
    let folder = tempfile::tempdir().unwrap();
    let keys = SigningKeys::open(&folder.path().join("made/on/the/way")).unwrap();
    (folder, keys)
}

fn trusting(keys: &SigningKeys) -> TrustedKeys {
    TrustedKeys::of(keys.public_keys()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_is_signed_is_what_is_verified() {
    let (_folder, keys) = keys();
    let signed = keys.sign(payload().encode_to_vec());
    let told = VerifiedFacts {
        sequence: 9,
        issued_at: T,
        nonce: NONCE.to_vec(),
        unit_id: "unit".to_owned(),
        facts: facts(),
    };
    assert_eq!(trusting(&keys).verify(&signed), Ok(told));
    assert_eq!(signed.key_id, keys.public_keys()[0].key_id());
}

/// The key of the first test of RFC 8032, as OpenSSL writes it; the signature and the key ID are OpenSSL's, too.
#[test]
fn what_is_signed_is_signed_as_the_contract_says() {
    let folder = tempfile::tempdir().unwrap();
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
               -----END PRIVATE KEY-----\n";
    let path = folder.path().join("signing.pem");
    fs::write(&path, pem).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let keys = SigningKeys::open(folder.path()).unwrap();
    let SignedFacts { signature, key_id, .. } = keys.sign(b"payload".to_vec());
    let expected = "V3AQCFH1McLF/CYU6fTdscwTcLMdPWRaADgnCA6OmcVJdD/uLVoJDR6LJTj7GGnmBfZN57YoejaQyCd6B70SBQ==";
    assert_eq!((STANDARD.encode(signature).as_str(), key_id.as_str()), (expected, "21fe31dfa154a261"));
    assert_eq!(keys.public_keys()[0].to_string(), "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    keys.prepare().unwrap();
    keys.switch().unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("previous.pem")).unwrap(), pem, "every tool reads it");
}

#[test]
fn any_flipped_bit_of_signed_facts_is_refused() {
    let (_folder, keys) = keys();
    let trusted = trusting(&keys);
    let signed = keys.sign(payload().encode_to_vec());
    for bit in 0..signed.payload.len() * 8 {
        let mut flipped = signed.clone();
        flipped.payload[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(trusted.verify(&flipped), Err(Refused::BadSignature), "bit {bit} of the payload");
    }
    for bit in 0..signed.signature.len() * 8 {
        let mut flipped = signed.clone();
        flipped.signature[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(trusted.verify(&flipped), Err(Refused::BadSignature), "bit {bit} of the signature");
    }
    for bit in 0..signed.key_id.len() * 8 {
        let mut flipped = signed.key_id.clone().into_bytes();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // What is no text is refused by whoever decodes the message.
        let Ok(key_id) = String::from_utf8(flipped) else { continue };
        let flipped = SignedFacts { key_id: key_id.clone(), ..signed.clone() };
        assert_eq!(trusted.verify(&flipped), Err(Refused::UnknownKey(key_id)), "bit {bit} of the key ID");
    }
}

#[test]
fn a_signature_of_something_else_is_none_of_facts() {
    let (_folder, keys) = keys();
    let payload = payload().encode_to_vec();
    // The prefix is part of what is signed: without it, or with it twice, it is another message.
    let twice = keys.sign(signed_bytes(&payload));
    let SignedFacts { signature, key_id, .. } = twice;
    let moved = SignedFacts { payload, signature, key_id };
    assert_eq!(trusting(&keys).verify(&moved), Err(Refused::BadSignature));
}

#[test]
fn nothing_in_a_payload_is_looked_at_before_its_signature_holds() {
    let (_folder, keys) = keys();
    let trusted = trusting(&keys);
    let nonsense = keys.sign(b"nonsense".to_vec());
    assert!(matches!(trusted.verify(&nonsense), Err(Refused::Unreadable(_))), "signed, but nonsense");
    let unsigned = SignedFacts { signature: Vec::new(), ..nonsense.clone() };
    assert_eq!(trusted.verify(&unsigned), Err(Refused::Unsigned));
    let forged = SignedFacts { signature: vec![1; 64], ..nonsense.clone() };
    assert_eq!(trusted.verify(&forged), Err(Refused::BadSignature));
    let short = SignedFacts { signature: vec![1; 63], ..nonsense.clone() };
    assert_eq!(trusted.verify(&short), Err(Refused::BadSignature));
    assert!(matches!(TrustedKeys::default().verify(&nonsense), Err(Refused::UnknownKey(_))));
}

#[test]
fn signed_facts_that_do_not_read_are_refused_with_the_field() {
    let (_folder, keys) = keys();
    let trusted = trusting(&keys);
    let check = |change: fn(&mut api::SubscriptionFacts), field: &str| {
        let mut changed = payload();
        change(&mut changed);
        let refused = trusted.verify(&keys.sign(changed.encode_to_vec())).unwrap_err();
        assert!(matches!(&refused, Refused::Unreadable(what) if what.starts_with(field)), "{refused}");
    };
    check(|payload| payload.issued_at = None, "issued_at: missing");
    check(|payload| payload.issued_at.as_mut().unwrap().nanos = -1, "issued_at: ");
    check(|payload| payload.facts = None, "facts: missing");
    // All of it has to be told, but to a unit that was deactivated (semantics 7.27).
    let check_active = |leave_out: fn(&mut enforcement::SubscriptionFacts), field: &str| {
        let mut changed = payload();
        let told = changed.facts.insert((&Facts { activation: Activation::Active, ..facts() }).into());
        leave_out(told);
        let refused = trusted.verify(&keys.sign(changed.encode_to_vec())).unwrap_err();
        assert!(matches!(&refused, Refused::Unreadable(what) if what.starts_with(field)), "{refused}");
    };
    check_active(|facts| facts.users = None, "facts.users: missing");
    check_active(|facts| facts.expires_at = None, "facts.expires_at: missing");
    check_active(|facts| facts.all_users = None, "facts.all_users: missing");
    check_active(|facts| facts.components = None, "facts.components: missing");
}

#[test]
fn a_unit_that_was_deactivated_is_told_so_and_need_be_told_nothing_else() {
    let (_folder, keys) = keys();
    let mut told = payload();
    let facts = told.facts.as_mut().unwrap();
    (facts.users, facts.expires_at, facts.all_users, facts.components) = (None, None, None, None);
    let read = trusting(&keys).verify(&keys.sign(told.encode_to_vec())).unwrap();
    assert_eq!(read.facts.activation, Activation::Deactivated { since: T });
}

#[test]
fn facts_that_were_not_expected_are_refused() {
    let verified = VerifiedFacts {
        sequence: 9,
        issued_at: T,
        nonce: NONCE.to_vec(),
        unit_id: "unit".to_owned(),
        facts: facts(),
    };
    let id = facts().subscription_id;
    let other = "BBB-BBB-BBB".parse().unwrap();
    let expected = Expected { nonce: &NONCE, unit_id: "unit", subscription_id: Some(id), held: None };
    let unit = Refused::OtherUnit { expected: "mine".to_owned(), told: "unit".to_owned() };
    for (expected, answer) in [
        (expected, Ok(())),
        (Expected { subscription_id: None, ..expected }, Ok(())),
        (Expected { unit_id: "mine", ..expected }, Err(unit)),
        (
            Expected { subscription_id: Some(other), ..expected },
            Err(Refused::OtherSubscription { expected: other, told: id }),
        ),
        (Expected { nonce: &[8; 16], ..expected }, Err(Refused::OtherNonce)),
        (Expected { nonce: &[], ..expected }, Err(Refused::OtherNonce)),
        (Expected { held: Some((8, T.next())), ..expected }, Ok(())),
        (Expected { held: Some((9, T)), ..expected }, Ok(())),
        (Expected { held: Some((10, T)), ..expected }, Err(Refused::OlderSequence { held: 10, told: 9 })),
        (
            Expected { held: Some((9, T.next())), ..expected },
            Err(Refused::Replayed { held: T.next(), told: T }),
        ),
    ] {
        assert_eq!(verified.check(&expected), answer, "{expected:?}");
    }
}

/// Something an attacker may do to bytes on their way.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, Index),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            (any::<Index>(), 1..=u8::MAX).prop_map(|(at, bits)| Self::Flip(at, bits)),
            any::<Index>().prop_map(Self::Cut),
            (any::<Index>(), proptest::collection::vec(any::<u8>(), 1..20))
                .prop_map(|(at, bytes)| Self::Insert(at, bytes)),
            (any::<Index>(), 1..20usize).prop_map(|(at, count)| Self::Remove(at, count)),
            (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Self::Repeat(from, to)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Flip(at, bits) => *at.get_mut(bytes) ^= bits,
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Insert(at, more) => {
                let at = at.index(length);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..(at + count).min(length));
            }
            Self::Repeat(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(to..to, piece);
            }
        }
    }
}

/// Mutants; `ESA_SIDECAR_MUTANTS` asks for more.
const MUTANTS: u32 = 4_096;

#[test]
fn no_mutant_of_signed_facts_verifies() {
    let mutants = std::env::var("ESA_SIDECAR_MUTANTS").map_or(MUTANTS, |mutants| mutants.parse().unwrap());
    let (_folder, keys) = keys();
    let (trusted, signed) = (trusting(&keys), keys.sign(payload().encode_to_vec()));
    let whole = signed.encode_to_vec();
    let config = ProptestConfig { cases: mutants, failure_persistence: None, ..ProptestConfig::default() };
    let changes = proptest::collection::vec(Change::any(), 1..6);
    let held = TestRunner::new(config).run(&changes, |changes| {
        let mut bytes = whole.clone();
        changes.iter().for_each(|change| change.apply(&mut bytes));
        if let Ok(mutant) = SignedFacts::decode(bytes.as_slice()) {
            // What reads as the same three values says the same, however it is written.
            prop_assert!(mutant == signed || trusted.verify(&mutant).is_err());
        }
        Ok(())
    });
    held.unwrap();
}

#[test]
fn the_first_key_is_made_once_and_is_its_owner_s_alone() {
    let (folder, keys) = keys();
    let path = folder.path().join("made/on/the/way");
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("signing.pem")), 0o600);
    assert_eq!(SigningKeys::open(&path).unwrap().public_keys(), keys.public_keys());
    assert!(fs::read_to_string(path.join("signing.pem")).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(!format!("{keys:?}").contains("secret"));
    let nothing = SigningKeys::open_existing(folder.path());
    assert!(matches!(nothing, Err(KeyError::NoSigningKey(_))), "a question makes no key");
}

#[test]
fn a_key_others_can_read_is_refused_with_what_to_do() {
    let (folder, _keys) = keys();
    let path = folder.path().join("made/on/the/way/signing.pem");
    for open_to in [0o640, 0o604, 0o620, 0o610, 0o644] {
        fs::set_permissions(&path, fs::Permissions::from_mode(open_to)).unwrap();
        let refused = SigningKeys::open(path.parent().unwrap()).unwrap_err().to_string();
        assert!(refused.contains(&format!("mode {open_to:04o}")), "{refused}");
        assert!(refused.ends_with(&format!("chmod 600 '{}'", path.display())), "{refused}");
    }
    for closed in [0o600, 0o400] {
        fs::set_permissions(&path, fs::Permissions::from_mode(closed)).unwrap();
        assert!(SigningKeys::open(path.parent().unwrap()).is_ok());
    }
}

#[test]
fn a_damaged_key_is_refused_and_not_replaced() {
    let (folder, _keys) = keys();
    let path = folder.path().join("made/on/the/way/signing.pem");
    fs::write(&path, "nonsense").unwrap();
    assert!(matches!(SigningKeys::open(path.parent().unwrap()), Err(KeyError::Malformed(..))));
    assert_eq!(fs::read_to_string(path).unwrap(), "nonsense");
}

#[test]
fn files_of_keys_are_read_however_an_editor_saved_them() {
    let (folder, keys) = keys();
    keys.prepare().unwrap();
    keys.switch().unwrap();
    keys.retire().unwrap();
    let (before, key) = (keys.files().len(), keys.public_keys()[0]);
    assert_eq!(before, 1);
    let keys = folder.path().join("made/on/the/way");
    let [signing, retired] =
        ["signing.pem", "retired"].map(|name| fs::read_to_string(keys.join(name)).unwrap());
    let gone = retired.trim().to_owned();
    let trusted = TrustedKeys::file_in(folder.path());
    let saved: [fn(&str) -> String; 6] = [
        |text| format!("\u{feff}{text}"),
        |text| text.replace('\n', "\r\n"),
        |text| format!("\u{feff}{}", text.replace('\n', "\r\n")),
        |text| format!("{text}\n\r\n"),
        |text| text.trim_end().to_owned(),
        |text| format!("\r\n\n{text}"),
    ];
    for (number, saved) in saved.into_iter().enumerate() {
        fs::write(keys.join("signing.pem"), saved(&signing)).unwrap();
        fs::write(keys.join("retired"), saved(&retired)).unwrap();
        let read = SigningKeys::open(&keys).unwrap_or_else(|error| panic!("{number}: {error}"));
        assert_eq!((read.public_keys(), read.known(&gone)), (vec![key], Some(Known::Past)), "{number}");
        fs::write(&trusted, saved(&format!("# ours\n{key} \n\u{feff}{key}\n"))).unwrap();
        assert_eq!(TrustedKeys::read(&trusted).unwrap().keys(), [key], "{number}");
    }
    let utf_16: Vec<u8> = format!("\u{feff}{signing}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(keys.join("signing.pem"), &utf_16).unwrap();
    fs::write(&trusted, &utf_16).unwrap();
    for said in [
        SigningKeys::open(&keys).unwrap_err().to_string(),
        TrustedKeys::read(&trusted).unwrap_err().to_string(),
    ] {
        assert!(said.contains("save it as UTF-8"), "{said}");
    }
}

#[test]
fn a_key_changes_in_two_steps_and_every_sidecar_can_follow() {
    let (_folder, keys) = keys();
    let first = keys.public_keys();
    let signed_with = || keys.sign(Vec::new()).key_id;
    assert!(matches!(keys.switch(), Err(KeyError::NotPrepared)));
    assert!(matches!(keys.retire(), Err(KeyError::NoPrevious)));

    keys.prepare().unwrap();
    let both = keys.public_keys();
    assert_eq!((both.len(), both[0]), (2, first[0]), "shown, and not signing yet");
    assert_eq!(signed_with(), first[0].key_id());
    assert!(matches!(keys.prepare(), Err(KeyError::AlreadyPrepared)));

    keys.switch().unwrap();
    assert_eq!(keys.public_keys(), [both[1], both[0]]);
    assert_eq!(signed_with(), both[1].key_id());
    assert!(matches!(keys.switch(), Err(KeyError::NotRetired)));
    assert!(matches!(keys.prepare(), Err(KeyError::NotRetired)), "no sidecar trusts three");

    keys.retire().unwrap();
    assert_eq!(keys.public_keys(), [both[1]]);
}

#[test]
fn a_running_backend_signs_with_the_next_key_once_another_process_switched() {
    let (folder, running) = keys();
    let path = folder.path().join("made/on/the/way");
    assert!(!running.refresh_if_changed().unwrap(), "nothing changed");
    let command = SigningKeys::open(&path).unwrap();
    command.prepare().unwrap();
    assert!(running.refresh_if_changed().unwrap());
    assert_eq!(running.public_keys().len(), 2);
    command.switch().unwrap();
    assert!(running.refresh_if_changed().unwrap());
    assert_eq!(running.public_keys(), command.public_keys());

    fs::write(path.join("signing.pem"), "nonsense").unwrap();
    running.refresh_if_changed().unwrap_err();
    assert_eq!(running.public_keys(), command.public_keys(), "what was held goes on signing");
}

#[test]
fn a_switch_cut_off_half_way_is_read_as_not_begun_and_can_be_repeated() {
    let (folder, keys) = keys();
    let path = folder.path().join("made/on/the/way");
    keys.prepare().unwrap();
    let before = keys.public_keys();
    fs::copy(path.join("signing.pem"), path.join("previous.pem")).unwrap();
    keys.reload().unwrap();
    assert_eq!(keys.public_keys(), before);
    keys.switch().unwrap();
    assert_eq!(keys.public_keys(), [before[1], before[0]]);
}

#[test]
fn a_public_key_is_read_as_it_is_written_and_nothing_else_is() {
    let (_folder, keys) = keys();
    let key = keys.public_keys()[0];
    assert_eq!(key.to_string().parse(), Ok(key));
    assert_eq!(key.key_id().len(), 16);
    let text = key.to_string();
    let weak = format!("ed25519:{}=", "A".repeat(43));
    for wrong in ["", "ed25519:", &text[8..], &text[..text.len() - 1], &format!("{text} "), &weak] {
        assert_eq!(wrong.parse::<PublicKey>().ok(), None, "{wrong}");
    }
}

#[test]
fn at_most_two_keys_are_trusted_each_once() {
    let third = keys().1.public_keys()[0];
    let (folder, keys) = keys();
    keys.prepare().unwrap();
    let both = keys.public_keys();
    let file = TrustedKeys::file_in(folder.path());
    assert_eq!(TrustedKeys::read(&file).unwrap(), TrustedKeys::default(), "no file, no keys");
    let trusted = TrustedKeys::of(both.clone()).unwrap();
    trusted.write(&file).unwrap();
    assert_eq!(TrustedKeys::read(&file).unwrap(), trusted);
    assert_eq!(trusted.and(&trusted).unwrap(), trusted);
    for (mode, is_read) in [(0o644, true), (0o660, false), (0o606, false)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let read = TrustedKeys::read(&file);
        assert!(read.is_ok() == is_read, "mode {mode:o}: {read:?}");
    }
    fs::remove_file(&file).unwrap();

    fs::write(&file, format!("# comment\n\n {} \n{}\n{}\n", both[0], both[1], both[0])).unwrap();
    assert_eq!(TrustedKeys::read(&file).unwrap(), trusted);
    fs::write(&file, format!("{}\n{}\n{third}\n", both[0], both[1])).unwrap();
    assert!(matches!(TrustedKeys::read(&file), Err(TrustError::TooMany(3))));
    fs::write(&file, format!("# comment\n{}\nnonsense\n", both[0])).unwrap();
    assert!(matches!(TrustedKeys::read(&file), Err(TrustError::Malformed { line: 3, .. })));
    let said = TrustedKeys::read(&file).unwrap_err().to_string();
    assert!(!said.contains("nonsense"), "what stands there may be a secret key: {said}");
}
