//! The certificate that is shown, and whose certificates are believed.

use std::time::Duration;

use super::Reader;
use crate::edge::tls::Files;

/// TLS on the listeners of questions and of the licensing backend, where those are on TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `tls.certificate`, `tls.key`: what is shown, and its private key (PEM); without them there is no TLS.
    /// `tls.client_ca`: authorities of callers' certificates (PEM); with them, whoever asks questions has to show one.
    /// `tls.revocations`: revocation lists for these (PEM).
    /// `tls.require_revocations`: whether a caller is refused unless each authority of its certificate has a list there
    /// that is not out of date, default `false`.
    /// `tls.minimum_version`: `1.3` or `1.2`, default `1.3`.
    pub files: Option<Files>,
    /// `tls.reload_interval`: how often the files are looked at, default `1s`.
    pub reload_interval: Duration,
}

impl Tls {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let version = |text: &str| match text {
            "1.3" => Ok(false),
            "1.2" => Ok(true),
            _ => Err(format!("`{text}` is neither `1.3` nor `1.2`")),
        };
        let [certificate, key, client_ca, revocations] =
            ["tls.certificate", "tls.key", "tls.client_ca", "tls.revocations"].map(|key| reader.path(key));
        let allow_tls12 = reader.parsed("tls.minimum_version", false, version);
        if certificate.is_none() && client_ca.is_some() {
            reader.fault("tls.client_ca", "it goes with `tls.certificate`".to_owned());
        }
        if client_ca.is_none() && revocations.is_some() {
            reader.fault("tls.revocations", "they go with `tls.client_ca`".to_owned());
        }
        let require_revocations = reader.truth("tls.require_revocations");
        if revocations.is_none() && require_revocations {
            reader.fault("tls.require_revocations", "it goes with `tls.revocations`".to_owned());
        }
        let files = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Some(Files { certificate, key, client_ca, revocations, require_revocations, allow_tls12 })
            }
            (Some(_), None) => {
                reader.fault("tls.certificate", "it goes with `tls.key`".to_owned());
                None
            }
            (None, Some(_)) => {
                reader.fault("tls.key", "it goes with `tls.certificate`".to_owned());
                None
            }
            (None, None) => None,
        };
        Self { files, reload_interval: reader.duration("tls.reload_interval", Duration::from_secs(1)) }
    }
}
