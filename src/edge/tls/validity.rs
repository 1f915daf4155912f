//! Until when certificates and revocation lists are good, which webpki reads and does not tell.
//!
//! Not here: what follows from it.

use std::time::Duration;

use der::{
    Decode as _, Reader, SliceReader, Tag, TagNumber,
    asn1::{GeneralizedTime, UtcTime},
};

use crate::domain::{Instant, Span};

/// The instant after which a certificate has expired.
pub(super) fn end_of_certificate(certificate: &[u8]) -> der::Result<Instant> {
    of_certificate(certificate).map(|(_, until)| until)
}

/// The first and the last instant at which a certificate is valid (RFC 5280 4.1.2.5).
pub(super) fn of_certificate(certificate: &[u8]) -> der::Result<(Instant, Instant)> {
    first_in(certificate, |said| {
        let is_version = matches!(Tag::peek(said)?, Tag::ContextSpecific { number: TagNumber(0), .. });
        if is_version {
            said.tlv_bytes()?;
        }
        let (_serial, _algorithm, _issuer) = (said.tlv_bytes()?, said.tlv_bytes()?, said.tlv_bytes()?);
        said.sequence(|validity| Ok((instant(validity)?, instant(validity)?)))
    })
}

/// Whether it says of itself that it is an authority's: `basicConstraints`, critical or not, with `cA` set.
pub(super) fn is_authority(certificate: &[u8]) -> bool {
    // SEQUENCE { OID 2.5.29.19, [BOOLEAN TRUE,] OCTET STRING { SEQUENCE { BOOLEAN TRUE …
    const OID: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x13];
    let after = certificate.windows(OID.len()).position(|window| window == OID);
    let after = after.and_then(|at| certificate.get(at + OID.len()..)).unwrap_or_default();
    let value = after.strip_prefix(&[0x01, 0x01, 0xff]).unwrap_or(after);
    matches!(value, [0x04, _, 0x30, _, 0x01, 0x01, 0xff, ..])
}

/// When a list was made and when the next is due (RFC 5280 5.1.2.4, 5.1.2.5).
pub(super) fn of_list(list: &[u8]) -> der::Result<(Instant, Instant)> {
    first_in(list, |said| {
        let (_version, _algorithm, _issuer) = (said.tlv_bytes()?, said.tlv_bytes()?, said.tlv_bytes()?);
        Ok((instant(said)?, instant(said)?))
    })
}

/// What `read` finds at the beginning of what an authority signed. What comes after it is not looked at: a list may have
/// very many entries.
fn first_in<T>(signed: &[u8], read: impl FnOnce(&mut SliceReader<'_>) -> der::Result<T>) -> der::Result<T> {
    SliceReader::new(signed)?.sequence(|signed| {
        let found = signed.sequence(|said| {
            let found = read(said)?;
            said.drain(said.remaining_len())?;
            Ok::<_, der::Error>(found)
        })?;
        signed.drain(signed.remaining_len())?;
        Ok(found)
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
