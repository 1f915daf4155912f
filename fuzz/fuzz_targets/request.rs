//! Requests as they come off the wire: nothing panics, and what reads goes through the domain and back unchanged.

#![no_main]

use esa_sidecar::{enforcement::convert, proto::enforcement as api};
use prost::Message as _;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = api::AuthorizeRequest::decode(bytes) {
        let _ = convert::subscription_id(&request.subscription_id);
        let _ = convert::operation(request.operation);
        let _ = convert::role(request.actor.map_or(0, |actor| actor.role));
        let _ = convert::sms_delivery(request.sms_delivery);
    }
    if let Ok(request) = api::SimulateRequest::decode(bytes)
        && let Some(given) = request.facts
        && let Ok(facts) = convert::facts(&given, "facts")
    {
        assert_eq!(convert::facts(&(&facts).into(), "facts"), Ok(facts));
    }
});
