//! How the connections to a database server are secured.
//!
//! Whoever reads them reads hashes of passwords and of tokens, and whoever changes them changes what the backend signs.
//! So a server on another machine is spoken to over TLS, and has to show a certificate for the name it is called by.

use std::{fmt, path::PathBuf};

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// In the clear.
    Disable,
    /// In the clear, unless the server insists.
    Allow,
    /// Over TLS if the server offers it.
    Prefer,
    /// Over TLS with anybody.
    Require,
    /// Over TLS with whoever has a certificate of an authority that is trusted, for whatever name.
    VerifyCa,
    /// Over TLS with whoever has one for the name it is called by.
    VerifyFull,
}

/// What the configuration says beside the URL, each with its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct TlsKeys {
    /// `backend.database_plaintext`
    pub(in crate::config) plaintext: bool,
    /// `backend.database_ca`
    pub(in crate::config) ca: Option<PathBuf>,
    /// `backend.database_certificate`
    pub(in crate::config) certificate: Option<PathBuf>,
    /// `backend.database_key`
    pub(in crate::config) key: Option<PathBuf>,
}

impl SslMode {
    const ALL: [Self; 6] =
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    pub(super) fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == text)
    }

    /// As libpq writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether the server's certificate is verified.
    #[must_use]
    pub const fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }

    /// Whether TLS may be spoken at all.
    #[must_use]
    pub const fn may_encrypt(self) -> bool {
        !matches!(self, Self::Disable | Self::Allow)
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
