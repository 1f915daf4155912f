//! PEM files, read strictly: each block that begins is read or the file is refused, with the line.
//!
//! What is skipped in silence is worse than what is refused: a revocation list that is not read revokes nobody. Not here:
//! what is in the blocks.

use std::path::{Path, PathBuf};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD as STRICT,
};

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

use super::TlsError;

/// What a file of blocks is for: what is read of it, what may stand beside that, and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A certificate and those that lead to its authority; its key may be in the same file.
    Chain,
    /// Certificates of authorities.
    Authorities,
    /// Revocation lists.
    Revocations,
    /// A private key; its certificate may be in the same file.
    Key,
}

/// What stands between two lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) label: String,
    pub(super) der: Vec<u8>,
    /// Where it begins, counted from 1.
    pub(super) line: usize,
}

const MARK: &str = "-----";
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const KEYS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
const PARAMETERS: [&str; 2] = ["EC PARAMETERS", "DH PARAMETERS"];

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Kind {
    fn reads(self, label: &str) -> bool {
        match self {
            Self::Chain | Self::Authorities => label == "CERTIFICATE",
            Self::Revocations => label == "X509 CRL",
            Self::Key => KEYS.contains(&label),
        }
    }

    fn passes_over(self, label: &str) -> bool {
        let is_key = KEYS.contains(&label) || label == ENCRYPTED;
        match self {
            Self::Chain => is_key || PARAMETERS.contains(&label),
            Self::Authorities | Self::Revocations => false,
            Self::Key => label == "CERTIFICATE" || PARAMETERS.contains(&label),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Chain | Self::Authorities => "certificate",
            Self::Revocations => "revocation list",
            Self::Key => "private key",
        }
    }
}

/// The blocks of a file that are what it is for, one at least.
pub(super) fn read(bytes: &[u8], path: &Path, kind: Kind) -> Result<Vec<Block>, TlsError> {
    let at = |line, what: &str| TlsError::Malformed(path.to_owned(), format!("line {line}: {what}"));
    let mut found = Vec::new();
    for block in blocks(bytes).map_err(|(line, what)| at(line, &what))? {
        if kind.reads(&block.label) {
            found.push(block);
        } else if kind == Kind::Key && block.label == ENCRYPTED {
            return Err(TlsError::Encrypted(path.to_owned()));
        } else if !kind.passes_over(&block.label) {
            let what = format!("a {} is expected here, not `{}`", kind.name(), block.label);
            return Err(at(block.line, &what));
        }
    }
    match found.first() {
        None => Err(missing(bytes, path, kind)),
        Some(_) => Ok(found),
    }
}

/// The one private key of a file.
pub(super) fn private_key(bytes: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let mut found = read(bytes, path, Kind::Key)?.into_iter();
    let key = found.next().ok_or_else(|| missing(bytes, path, Kind::Key))?;
    if let Some(second) = found.next() {
        let what = format!("line {}: a second private key; leave one of them", second.line);
        return Err(TlsError::Malformed(path.to_owned(), what));
    }
    Ok(match key.label.as_str() {
        "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(key.der).into(),
        "EC PRIVATE KEY" => PrivateSec1KeyDer::from(key.der).into(),
        _ => PrivatePkcs8KeyDer::from(key.der).into(),
    })
}

/// A block, as it is written.
pub(super) fn write(label: &str, der: &[u8]) -> String {
    let text = STRICT.encode(der);
    let ends = (0..text.len()).step_by(64);
    let lines = ends.filter_map(|at| text.get(at..text.len().min(at + 64)));
    format!("{BEGIN}{label}{MARK}\n{}\n{END}{label}{MARK}\n", lines.collect::<Vec<_>>().join("\n"))
}

/// A private key, as it is written.
pub(super) fn write_key(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        PrivateKeyDer::Pkcs8(_) | _ => "PRIVATE KEY",
    };
    write(label, key.secret_der())
}

fn missing(bytes: &[u8], path: &Path, kind: Kind) -> TlsError {
    let path: PathBuf = path.to_owned();
    // A sequence of DER that is longer than 127 bytes.
    if matches!(bytes, [0x30, 0x81..=0x84, ..]) {
        return TlsError::Malformed(path, format!("it is a {} in DER; convert it to PEM", kind.name()));
    }
    TlsError::Missing(path, kind.name())
}

/// All blocks, or the line that is wrong.
fn blocks(bytes: &[u8]) -> Result<Vec<Block>, (usize, String)> {
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Err((1, "it is written in UTF-16; save it as UTF-8 or ASCII".to_owned()));
    }
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let mut found = Vec::new();
    let mut open: Option<(String, String, usize)> = None;
    for (number, line) in (1..).zip(text.split(['\n', '\r'])) {
        // Files that are put together may each begin with a byte-order mark.
        let line = line.trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}');
        let label = |mark: &str| {
            let label = line.strip_prefix(mark)?.strip_suffix(MARK)?;
            Some(label).filter(|label| !label.contains('-'))
        };
        match (&mut open, label(BEGIN), label(END)) {
            (None, Some(label), _) => open = Some((label.to_owned(), String::new(), number)),
            (Some((begun, encoded, from)), None, Some(label)) if begun == label => {
                let der = LENIENT.decode(&*encoded).map_err(|error| {
                    (*from, format!("the `{label}` that begins here is no base64 ({error})"))
                })?;
                found.push(Block { label: label.to_owned(), der, line: *from });
                open = None;
            }
            (Some((begun, ..)), _, _) if line.contains('-') => {
                // What `openssl rsa -aes256` of old wrote.
                let what = if line.starts_with("Proc-Type:") {
                    format!(
                        "this `{begun}` is encrypted; decrypt it, as with `openssl pkey -in FILE -out NEW-FILE`"
                    )
                } else {
                    format!(
                        "`{MARK}END {begun}{MARK}` is expected before anything else, on a line of its own"
                    )
                };
                return Err((number, what));
            }
            (Some((_, encoded, _)), ..) => {
                encoded.extend(line.chars().filter(|character| !character.is_whitespace()));
            }
            (None, None, Some(label)) => {
                return Err((number, format!("a `{label}` ends here that does not begin")));
            }
            (None, None, None) if line.contains("-BEGIN ") || line.contains("-END ") => {
                let what = format!("`{BEGIN}…{MARK}` and `{END}…{MARK}` stand on lines of their own");
                return Err((number, what));
            }
            (None, None, None) => {}
        }
    }
    match open {
        Some((label, _, from)) => Err((from, format!("the `{label}` that begins here does not end"))),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
    const TWO: &str = "-----BEGIN CERTIFICATE-----\nBAUG\n-----END CERTIFICATE-----\n";

    fn ders(text: &[u8]) -> Vec<Vec<u8>> {
        let read = read(text, Path::new("f"), Kind::Authorities).unwrap();
        read.into_iter().map(|block| block.der).collect()
    }

    #[test]
    fn every_block_is_read_however_its_lines_end_and_whatever_stands_between() {
        let both = vec![vec![1, 2, 3], vec![4, 5, 6]];
        for text in [
            format!("{ONE}{TWO}"),
            format!("\u{feff}{ONE}\u{feff}{TWO}"),
            format!("{ONE}{TWO}").replace('\n', "\r\n"),
            format!("{ONE}{TWO}").replace('\n', "\r"),
            format!("# an authority\nsubject=/CN=a\n\n{ONE}Bag Attributes\n  a-b: c\n{TWO}"),
            format!("{ONE}{}", TWO.trim_end()),
            format!("{ONE}{TWO}").replace("-----\n", "----- \t\n"),
            format!("{ONE}{TWO}").replace("AQID", "A Q\nI D"),
        ] {
            assert_eq!(ders(text.as_bytes()), both, "{text}");
        }
    }

    #[test]
    fn a_file_with_a_block_that_is_not_read_is_refused_with_the_line() {
        let crl = ONE.replace("CERTIFICATE", "X509 CRL");
        for (text, line) in [
            (format!("{}{TWO}", ONE.trim_end()), 3),
            (format!("{ONE}x{TWO}"), 4),
            (format!("{ONE}{}", TWO.replace("-----BEGIN", "----BEGIN")), 4),
            (format!("{ONE}{}", TWO.replace("-----END", "----END")), 6),
            (format!("{ONE}{}", TWO.replace("-----END CERTIFICATE-----\n", "")), 4),
            (format!("{ONE}{}", TWO.replace("-----BEGIN CERTIFICATE-----\n", "")), 5),
            (format!("{ONE}{}", TWO.replace("END CERTIFICATE", "END X509 CRL")), 6),
            (format!("{ONE}{}", TWO.replace("BAUG", "B*UG")), 4),
            (format!("{ONE}{}", TWO.replace("CERTIFICATE", "TRUSTED CERTIFICATE")), 4),
            (format!("{ONE}{crl}"), 4),
            (format!("{ONE}{}", ONE.replace('\n', "")), 4),
        ] {
            let refused = read(text.as_bytes(), Path::new("f"), Kind::Authorities).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("`f`: line {line}: ")), "{text}\n{refused}");
        }
    }

    #[test]
    fn what_a_key_is_not_is_said() {
        let key = ONE.replace("CERTIFICATE", "PRIVATE KEY");
        let old = ONE.replace("CERTIFICATE", "RSA PRIVATE KEY");
        let old_encrypted = old.replace("AQID", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAQID");
        for (text, what) in [
            (String::new(), "holds no private key"),
            (ONE.to_owned(), "holds no private key"),
            (ONE.replace("CERTIFICATE", ENCRYPTED), "is encrypted"),
            (old_encrypted, "is encrypted"),
            (format!("{key}{old}"), "a second private key"),
        ] {
            let refused = private_key(text.as_bytes(), Path::new("f")).unwrap_err().to_string();
            assert!(refused.contains(what), "{text}\n{refused}");
        }
        assert!(private_key(format!("{ONE}{key}").as_bytes(), Path::new("f")).is_ok());
        let der = read(&[0x30, 0x82, 1, 0], Path::new("f"), Kind::Authorities).unwrap_err().to_string();
        assert!(der.contains("in DER"), "{der}");
        let wide: Vec<u8> = ONE.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let utf16 = [&[0xff, 0xfe], &wide[..]].concat();
        let refused = read(&utf16, Path::new("f"), Kind::Authorities).unwrap_err().to_string();
        assert!(refused.contains("UTF-16"), "{refused}");
    }
}
