//! Bearer tokens: what kind each is, what it names, and its secret.
//!
//! A secret is 256 random bits, of which only the SHA-256 is kept; looking one up by its hash tells nothing of others.
//! Not here: what a token opens (see `caller` and `units`).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tonic::metadata::MetadataMap;

use super::refusal::Refusal;
use crate::sha256;

/// A token: what kind it is, what it names, and its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `esas_<secret>`
    Session(&'a str),
    /// `esac_<ID>_<secret>`
    Credential { id: &'a str, secret: &'a str },
    /// `esau_<ID>_<secret>`
    Unit { id: &'a str, secret: &'a str },
}

const NONE: &str = "no credential: send `authorization: Bearer <token>`; a token comes from signing in";
/// The unit a call is made by: its ID and the hash of its secret.
pub(super) fn unit(metadata: &MetadataMap) -> Result<(&str, String), Refusal> {
    match token(metadata)? {
        Token::Unit { id, secret } => Ok((id, sha256::hex(secret.as_bytes()))),
        Token::Session(_) | Token::Credential { .. } => {
            Err(Refusal::Unauthenticated("this is an account's credential; a unit's is needed here"))
        }
    }
}

/// Whether the call comes with any credential.
pub(super) fn is_anonymous(metadata: &MetadataMap) -> bool {
    metadata.get("authorization").is_none()
}

/// 256 random bits, as text.
pub(super) fn secret() -> Result<String, Refusal> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Refusal::Precondition(format!("the operating system has no random bytes: {error}"))
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The token a call comes with.
pub(super) fn token(metadata: &MetadataMap) -> Result<Token<'_>, Refusal> {
    let header = metadata.get("authorization").ok_or(Refusal::Unauthenticated(NONE))?;
    let bearer = header.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    bearer.and_then(read).ok_or(Refusal::Unauthenticated(NONE))
}

fn read(token: &str) -> Option<Token<'_>> {
    let (kind, rest) = token.split_once('_')?;
    match kind {
        "esas" => Some(Token::Session(rest)),
        "esac" => rest.split_once('_').map(|(id, secret)| Token::Credential { id, secret }),
        "esau" => rest.split_once('_').map(|(id, secret)| Token::Unit { id, secret }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_it_is_and_its_secret_may_hold_underscores() {
        assert_eq!(read("esas_a_b"), Some(Token::Session("a_b")));
        assert_eq!(read("esac_1_b_c"), Some(Token::Credential { id: "1", secret: "b_c" }));
        assert_eq!(read("esau_1_b"), Some(Token::Unit { id: "1", secret: "b" }));
        for token in ["", "esas", "esac_1", "esax_1_b", "b"] {
            assert_eq!(read(token), None, "{token}");
        }
    }
}
