//! No authorities at all; see `Cargo.toml` for why.

/// The authorities that are trusted without being named: none.
pub const TLS_SERVER_ROOTS: &[rustls_pki_types::TrustAnchor<'static>] = &[];
