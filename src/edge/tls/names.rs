//! The names in a caller's certificate, each kind apart from the others.
//!
//! An authority may be allowed to vouch for names of one kind alone (name constraints), and the same text may be a name
//! of several kinds: a DNS name is compared with DNS names and a URI with URIs. No other kind (common name, email
//! address, IP address) names a caller. Not here: who has a name (see `enforcement::callers`).

use std::{fmt, str::FromStr};

use rustls::pki_types::CertificateDer;

/// DNS names and URIs (SPIFFE IDs) of a certificate that is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Names {
    /// Its DNS names. One with a wildcard is none: it stands for many callers.
    pub dns: Vec<DnsName>,
    /// Its URIs, as they are written.
    pub uris: Vec<String>,
}

/// A DNS name in the form in which names are compared: lower case, without a dot at the end (RFC 5280, 7.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(String);

/// A text that is no DNS name of one host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsNameError {
    /// It stands for many names.
    #[error("`{0}` stands for many names; add a row for each of them")]
    Wildcard(String),
    /// It is written with letters beyond ASCII.
    #[error("`{0}` has letters beyond a to z; write it as it is in the certificate, with `xn--`")]
    NotAscii(String),
    /// It is none for another reason.
    #[error("`{0}` is not a DNS name; it looks like `auth-1.example.org`")]
    Malformed(String),
}

impl Names {
    /// The names of `certificate`. One that does not parse has none.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Self::default() };
        Self {
            dns: certificate.valid_dns_names().filter_map(|name| name.parse().ok()).collect(),
            uris: certificate.valid_uri_names().map(str::to_owned).collect(),
        }
    }
}

impl FromStr for DnsName {
    type Err = DnsNameError;

    fn from_str(text: &str) -> Result<Self, DnsNameError> {
        if text.contains('*') {
            return Err(DnsNameError::Wildcard(text.to_owned()));
        }
        if !text.is_ascii() {
            return Err(DnsNameError::NotAscii(text.to_owned()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // An IPv4 address ends in a number, which no DNS name does.
        let ends_in_number =
            name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
        if 253 < name.len() || !name.split('.').all(is_label) || ends_in_number {
            return Err(DnsNameError::Malformed(text.to_owned()));
        }
        Ok(Self(name))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_name_is_the_same_in_any_case_and_with_a_dot_at_its_end() {
        let name: DnsName = "auth-1.example.org".parse().unwrap();
        for text in ["auth-1.example.org", "Auth-1.Example.ORG", "AUTH-1.EXAMPLE.ORG."] {
            assert_eq!(text.parse::<DnsName>().as_ref(), Ok(&name), "{text}");
        }
        for text in ["a", "a.b", "_esa._tcp.example.org", "1.example.org", "xn--bcher-kva.example.org"] {
            assert_eq!(text.parse::<DnsName>().map(|name| name.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_dns_name_of_one_host_is_refused() {
        let long = format!("{}.org", "a".repeat(64));
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "-a.org",
            "a-.org",
            "10.0.0.1",
            "::1",
            "a b",
            "a/b",
            "a:1",
            "spiffe://example.org/a",
            "mailto:a@b.org",
            "a@b.org",
            "a\0.org",
            "a\n",
            &long,
        ] {
            let refused = text.parse::<DnsName>();
            assert_eq!(refused, Err(DnsNameError::Malformed(text.to_owned())));
        }
        assert!(matches!("*.example.org".parse::<DnsName>(), Err(DnsNameError::Wildcard(_))));
        assert!(matches!("bücher.example.org".parse::<DnsName>(), Err(DnsNameError::NotAscii(_))));
    }
}
