//! Signed facts as they come off the wire: nothing panics, nothing that was not signed verifies, and what is signed is
//! read, whatever it says, without a panic.

#![no_main]

use std::sync::LazyLock;

use esa_sidecar::{
    proto::{enforcement as api, licensing},
    signing::{Expected, Refused, SigningKeys, TrustedKeys},
    wire,
};
use prost::Message as _;

/// A backend with a key of its own, and who trusts it.
static BACKEND: LazyLock<(SigningKeys, TrustedKeys)> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("esa-sidecar-fuzz-{}", std::process::id()));
    let keys = SigningKeys::open(&folder).unwrap();
    let trusted = TrustedKeys::of(keys.public_keys()).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    (keys, trusted)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (keys, trusted) = &*BACKEND;
    // As an envelope: no key that is trusted has signed it, even if it names one.
    if let Ok(mut envelope) = licensing::SignedFacts::decode(bytes) {
        assert!(trusted.verify(&envelope).is_err());
        envelope.key_id = trusted.keys()[0].key_id();
        assert!(matches!(trusted.verify(&envelope), Err(Refused::BadSignature | Refused::Unsigned)));
    }
    // As a payload that was signed.
    let signed = keys.sign(bytes.to_vec());
    match trusted.verify(&signed) {
        Ok(verified) => {
            let expected = Expected {
                nonce: &verified.nonce,
                unit_id: &verified.unit_id,
                subscription_id: Some(verified.facts.subscription_id),
                held: Some((verified.sequence, verified.issued_at)),
            };
            assert_eq!(verified.check(&expected), Ok(()));
            let again = api::SubscriptionFacts::from(&verified.facts);
            assert_eq!(wire::facts(&again, "facts"), Ok(verified.facts.clone()));
        }
        Err(refused) => assert!(matches!(refused, Refused::Unreadable(_)), "{refused}"),
    }
    // With one bit of the signed payload turned it is nobody's.
    if let Some(first) = bytes.first() {
        let mut payload = bytes.to_vec();
        payload[0] = first ^ 1;
        let forged = licensing::SignedFacts { payload, ..signed };
        assert_eq!(trusted.verify(&forged), Err(Refused::BadSignature));
    }
});
