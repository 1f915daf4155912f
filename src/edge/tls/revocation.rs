//! Revocation lists: whose they are, when they were made, and when the next is due.
//!
//! Not here: whether a certificate is on one, and whether its authority signed it; rustls looks at both when a caller
//! comes.

use std::{cmp::Reverse, path::Path, time::Duration};

use der::{
    Decode as _, Reader, SliceReader, Tag,
    asn1::{GeneralizedTime, UtcTime},
};
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject as _};
use webpki::{BorrowedCertRevocationList, CertRevocationList};

use super::TlsError;
use crate::domain::{Instant, Span};

/// A list, and what it says of itself.
#[derive(Debug)]
pub(super) struct List {
    der: CertificateRevocationListDer<'static>,
    /// The name of its authority (DER, as it stands in certificates).
    issuer: Vec<u8>,
    /// Which of the authority's certificates it is about, if not all of them (issuing distribution point, DER).
    scope: Option<Vec<u8>>,
    made: Instant,
}

/// The lists that count in a file. rustls takes the first that is about a certificate, so of several that are about the
/// same ones the newest is left: it is enough to append it.
pub(super) fn read(pem: &[u8], path: &Path) -> Result<Vec<List>, TlsError> {
    let malformed = |error: String| TlsError::Malformed(path.to_owned(), error);
    let mut lists = CertificateRevocationListDer::pem_slice_iter(pem)
        .map(|der| List::read(der.map_err(|error| malformed(error.to_string()))?).map_err(malformed))
        .collect::<Result<Vec<_>, _>>()?;
    if lists.is_empty() {
        return Err(TlsError::Missing(path.to_owned(), "revocation list"));
    }
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
        let made = made(&der).map_err(|error| error.to_string())?;
        Ok(Self { der, issuer, scope, made })
    }

    /// The list itself.
    pub(super) fn into_der(self) -> CertificateRevocationListDer<'static> {
        self.der
    }

    fn is_about_the_same_as(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.scope == other.scope
    }
}

/// When a list was made (RFC 5280 5.1.2.4), which webpki reads and does not tell. What comes after it is not looked at:
/// a list may have very many entries.
fn made(list: &[u8]) -> der::Result<Instant> {
    SliceReader::new(list)?.sequence(|list| {
        let made = list.sequence(|head| {
            let (_version, _algorithm, _issuer) = (head.tlv_bytes()?, head.tlv_bytes()?, head.tlv_bytes()?);
            let made = instant(head)?;
            head.drain(head.remaining_len())?;
            Ok::<_, der::Error>(made)
        })?;
        list.drain(list.remaining_len())?;
        Ok(made)
    })
}

/// UTC time until 2049, generalized time from then on.
fn instant<'r>(reader: &mut impl Reader<'r>) -> der::Result<Instant> {
    let since_1970: Duration = if Tag::peek(reader)? == Tag::UtcTime {
        UtcTime::decode(reader)?.to_unix_duration()
    } else {
        GeneralizedTime::decode(reader)?.to_unix_duration()
    };
    Ok(Instant::from_unix_seconds(0) + Span::from(since_1970))
}
