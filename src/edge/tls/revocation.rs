//! Revocation lists: whose they are, when the next is due, and what is wrong with them at an instant.
//!
//! Not here: whether a certificate is on one, and whether its authority signed it; rustls looks at both when a caller
//! comes.

use std::{cmp::Reverse, collections::BTreeSet, path::Path};

use der::{
    Decode as _, Reader as _, SliceReader,
    asn1::{AnyRef, ObjectIdentifier},
};
use rustls::RootCertStore;
use rustls_pki_types::CertificateRevocationListDer;
use tracing::{info, warn};
use webpki::{BorrowedCertRevocationList, CertRevocationList};

use super::{
    TlsError,
    pem::{self, Block, Kind},
    validity,
};
use crate::{domain::Instant, rfc3339};

/// What is wrong with revocation lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum RevocationFault {
    /// The next was due.
    #[error("the revocation list of `{issuer}` is out of date since {}", rfc3339::format(*.since))]
    OutOfDate {
        /// The authority's name (RFC 4514).
        issuer: String,
        /// When the next was due.
        since: Instant,
    },
    /// This authority of callers' certificates (RFC 4514) has none.
    #[error("there is no revocation list of `{0}`")]
    Missing(String),
}

/// A list, and what it says of itself.
#[derive(Debug)]
pub(super) struct List {
    der: CertificateRevocationListDer<'static>,
    /// The name of its authority (DER, as it stands in certificates).
    issuer: Vec<u8>,
    /// Which of the authority's certificates it is about, if not all of them (issuing distribution point, DER).
    scope: Option<Vec<u8>>,
    made: Instant,
    /// From when on it is out of date.
    due: Instant,
}

/// What can be wrong with the lists that count: it is known when they are read, but for the time.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlook {
    /// Authorities, and when their next list is due.
    due: Vec<(String, Instant)>,
    /// Authorities without a list.
    missing: Vec<String>,
}

/// What was told of it, so that it is told once.
#[derive(Debug)]
pub(super) struct Told {
    faults: BTreeSet<RevocationFault>,
    consequence: &'static str,
}

/// The lists that count in a file. rustls takes the first that is about a certificate, so of several that are about the
/// same ones the newest is left, and of those made at the same instant the last: it is enough to append it.
pub(super) fn read(bytes: &[u8], path: &Path) -> Result<Vec<List>, TlsError> {
    let malformed = |error: String| TlsError::Malformed(path.to_owned(), error);
    let mut lists = pem::read(bytes, path, Kind::Revocations)?
        .into_iter()
        .map(|Block { der, line, .. }| {
            let does_not_read =
                |error| malformed(format!("line {line}: the list that begins here does not read ({error})"));
            List::read(der.into()).map_err(does_not_read)
        })
        .collect::<Result<Vec<_>, _>>()?;
    lists.reverse();
    lists.sort_by_key(|list| Reverse(list.made));
    let mut newest: Vec<List> = Vec::new();
    for list in lists {
        if !newest.iter().any(|newer| newer.is_about_the_same_as(&list)) {
            newest.push(list);
        }
    }
    Ok(newest)
}

impl List {
    fn read(der: CertificateRevocationListDer<'static>) -> Result<Self, String> {
        let read = BorrowedCertRevocationList::from_der(&der).map_err(|error| error.to_string())?;
        let read = CertRevocationList::from(read);
        let (issuer, scope) = (read.issuer().to_vec(), read.issuing_distribution_point().map(<[u8]>::to_vec));
        let (made, due) = validity::of_list(&der).map_err(|error| error.to_string())?;
        Ok(Self { der, issuer, scope, made, due })
    }

    /// The list itself.
    pub(super) fn into_der(self) -> CertificateRevocationListDer<'static> {
        self.der
    }

    fn is_about_the_same_as(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.scope == other.scope
    }
}

impl Outlook {
    /// Of these lists for these authorities. Authorities between them and callers are not known before those come.
    pub(super) fn of(lists: &[List], authorities: &RootCertStore) -> Self {
        let has_list = |subject: &[u8]| lists.iter().any(|list| list.issuer == subject);
        let subjects = authorities.roots.iter().map(|authority| authority.subject.as_ref());
        Self {
            due: lists.iter().map(|list| (in_words(&list.issuer), list.due)).collect(),
            missing: subjects.filter(|subject| !has_list(subject)).map(in_words).collect(),
        }
    }

    /// When the first of the lists is out of date.
    pub(super) fn first_due(&self) -> Option<Instant> {
        self.due.iter().map(|(_, due)| *due).min()
    }

    /// What is wrong at `now`. A list is out of date from the instant on at which the next is due, as rustls has it.
    pub(super) fn faults(&self, now: Instant) -> BTreeSet<RevocationFault> {
        let overdue = self.due.iter().filter(|(_, due)| *due <= now);
        let overdue =
            overdue.map(|(issuer, due)| RevocationFault::OutOfDate { issuer: issuer.clone(), since: *due });
        overdue.chain(self.missing.iter().cloned().map(RevocationFault::Missing)).collect()
    }
}

impl Told {
    /// Nothing so far, where lists are required or not.
    pub(super) fn of(required: bool) -> Self {
        let consequence = if required {
            "callers with certificates of this authority are refused"
        } else {
            "certificates of this authority that were revoked may be believed"
        };
        Self { faults: BTreeSet::new(), consequence }
    }

    /// Tells what is wrong now and was not before, and what is not wrong any more; whether anything is wrong now that was
    /// not before.
    pub(super) fn tell(&mut self, now: BTreeSet<RevocationFault>) -> bool {
        let mut is_worse = false;
        for fault in now.difference(&self.faults) {
            warn!("{fault}: {}", self.consequence);
            is_worse = true;
        }
        for fault in self.faults.difference(&now) {
            info!("it is no longer so that {fault}");
        }
        self.faults = now;
        is_worse
    }
}

/// A name as people write it: `CN=callers,O=example`.
fn in_words(name: &[u8]) -> String {
    attributes(name).map_or_else(|_| "a name that does not read".to_owned(), |parts| parts.join(","))
}

/// The parts of a name, the nearest first, as RFC 4514 has it. webpki and rustls hand out what is in its sequence.
fn attributes(name: &[u8]) -> der::Result<Vec<String>> {
    let mut names = SliceReader::new(name)?;
    let mut parts = Vec::new();
    while !names.is_finished() {
        let mut together = SliceReader::new(AnyRef::decode(&mut names)?.value())?;
        while !together.is_finished() {
            parts.push(together.sequence(|attribute| {
                let kind = ObjectIdentifier::decode(attribute)?;
                let value = String::from_utf8_lossy(AnyRef::decode(attribute)?.value());
                // It goes into the log, and stays in its line.
                Ok::<_, der::Error>(format!("{}={}", short(kind), value.replace(char::is_control, " ")))
            })?);
        }
    }
    parts.reverse();
    Ok(parts)
}

/// The letters RFC 4514 has for a kind of name, or its number.
fn short(kind: ObjectIdentifier) -> String {
    let number = kind.to_string();
    let letters = match number.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.25" => "DC",
        _ => return number,
    };
    letters.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_authorities_are_told_as_people_write_them() {
        let name = b"1\x100\x0e\x06\x03U\x04\n\x0c\x07Example1\x0e0\x0c\x06\x03U\x04\x03\x0c\x05a\nb\xc3\xa9";
        for (name, told) in [
            (&name[..], "CN=a bé,O=Example"),
            (&name[..name.len() - 1], "a name that does not read"),
            (&b"1\x140\x08\x06\x03U\x04\x05\x13\x0170\x08\x06\x03U\x04\x0b\x0c\x01x"[..], "OU=x,2.5.4.5=7"),
        ] {
            assert_eq!(in_words(name), told);
        }
    }
}
