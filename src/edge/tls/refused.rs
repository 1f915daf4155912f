//! Why a certificate does not do, in words an operator knows.
//!
//! Not here: what is to be done about it, which depends on who looks (see `trust`).

use std::io;

use rustls::{CertificateError, OtherError};

use super::validity;
use crate::{domain::Instant, rfc3339};

/// What rustls has no word of its own for; none where it has.
pub(super) fn in_certificate(why: &CertificateError) -> Option<String> {
    let CertificateError::Other(OtherError(error)) = why else { return None };
    Some(match error.downcast_ref::<webpki::Error>() {
        Some(webpki::Error::CaUsedAsEndEntity) => {
            "its certificate is an authority's (CA:TRUE), which nobody takes for that of a server or a caller; issue one \
             with `basicConstraints = CA:FALSE`"
                .to_owned()
        }
        _ => format!("its certificate cannot be judged ({error})"),
    })
}

/// The same of a caller's certificate, in place of what rustls says.
pub(super) fn of_caller(error: io::Error) -> io::Error {
    let rustls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let words = match rustls {
        Some(rustls::Error::InvalidCertificate(why)) => in_certificate(why),
        _ => None,
    };
    words.map_or_else(
        || io::Error::new(error.kind(), error.to_string()),
        |words| io::Error::new(error.kind(), words),
    )
}

/// What whoever comes will find wrong with the certificate that is shown, at `now`.
pub(super) fn of_server(certificate: &[u8], now: Instant) -> Vec<String> {
    let mut faults = Vec::new();
    if let Ok((from, until)) = validity::of_certificate(certificate) {
        if until < now {
            faults.push(format!(
                "it has expired at {}: nobody who looks at it will go on",
                rfc3339::format(until)
            ));
        }
        if now < from {
            faults.push(format!(
                "it is not valid before {}: nobody who looks at it will go on",
                rfc3339::format(from)
            ));
        }
    }
    if validity::is_authority(certificate) {
        faults.push(
            "it is an authority's (CA:TRUE), which most callers do not take for a server's; issue one with \
             `basicConstraints = CA:FALSE`"
                .to_owned(),
        );
    }
    faults
}
