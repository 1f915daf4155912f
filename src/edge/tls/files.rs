//! What is in the files, and the configuration that follows.
//!
//! Not here: when they are read.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{
        NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{
    Files,
    present::Present,
    revocation::{self, List, Outlook},
    validity,
};
use crate::domain::Instant;

/// The bytes of all files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    revocations: Option<Vec<u8>>,
}

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One cannot be read.
    #[error("`{0}`: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// What should be in it is not.
    #[error("`{0}` holds no {1} in PEM form")]
    Missing(PathBuf, &'static str),
    /// What is in it does not read.
    #[error("`{0}`: {1}")]
    Malformed(PathBuf, String),
    /// Certificate and key do not belong together, or their kind is not known.
    #[error("`{0}` and `{1}` do not go together: {2}")]
    Pair(PathBuf, PathBuf, rustls::Error),
    /// Certificates cannot be judged by these.
    #[error("`{0}`: {1}")]
    Trust(PathBuf, VerifierBuilderError),
    /// Nobody's certificate can be verified here.
    #[error(
        "this machine trusts no authorities (on Debian, install `ca-certificates`); name those of the server's \
         certificate in a file"
    )]
    NoAuthorities,
    /// There is no calling over TLS.
    #[error("TLS cannot be spoken: {0}")]
    Client(String),
}

impl Contents {
    pub(super) fn read(files: &Files) -> Result<Self, TlsError> {
        let read = |path: &Path| fs::read(path).map_err(|error| TlsError::Unreadable(path.to_owned(), error));
        let optional = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            client_ca: optional(&files.client_ca)?,
            revocations: optional(&files.revocations)?,
        })
    }

    /// When the first certificate of each file expires, under the name of its key.
    pub(super) fn certificates_expire(&self) -> impl Iterator<Item = (&'static str, Instant)> {
        let files = [("certificate", Some(&self.certificate)), ("client_ca", self.client_ca.as_ref())];
        files.into_iter().filter_map(|(name, pem)| {
            let ends = CertificateDer::pem_slice_iter(pem?)
                .filter_map(|certificate| validity::end_of_certificate(&certificate.ok()?).ok());
            Some((name, ends.min()?))
        })
    }

    /// Whether the same certificates of callers are believed.
    pub(super) fn trusts_as(&self, other: &Self) -> bool {
        self.client_ca == other.client_ca && self.revocations == other.revocations
    }

    /// TLS with them, and what time can bring about.
    pub(super) fn config(
        &self,
        files: &Files,
        present: &Present,
    ) -> Result<(Arc<ServerConfig>, Outlook), TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[_] = if files.allow_tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
        let chain = certificates(&self.certificate, &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| TlsError::Missing(files.key.clone(), "private key"))?;
        let pair = |error| TlsError::Pair(files.certificate.clone(), files.key.clone(), error);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(pair)?;
        let (builder, outlook) = match (&self.client_ca, &files.client_ca) {
            (Some(authorities), Some(path)) => {
                let (verifier, outlook) = self.verifier(files, authorities, path, provider)?;
                (builder.with_client_cert_verifier(verifier), outlook)
            }
            _ => (builder.with_no_client_auth(), Outlook::default()),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.time_provider = Arc::new(present.clone());
        if self.client_ca.is_some() {
            // A session that is resumed shows no certificate: one that has expired would be believed for ever.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok((Arc::new(config), outlook))
    }

    fn verifier(
        &self,
        files: &Files,
        authorities: &[u8],
        path: &Path,
        provider: Arc<CryptoProvider>,
    ) -> Result<(Arc<dyn ClientCertVerifier>, Outlook), TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities, path)? {
            roots.add(authority).map_err(|error| TlsError::Malformed(path.to_owned(), error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider);
        let mut outlook = Outlook::default();
        if let (Some(lists), Some(path)) = (&self.revocations, &files.revocations) {
            let lists = revocation::read(lists, path)?;
            outlook = Outlook::of(&lists, &roots);
            // Unless it is told otherwise rustls looks at the whole chain, up to an authority that is believed.
            builder = builder.with_crls(lists.into_iter().map(List::into_der));
            builder = if files.require_revocations {
                builder.enforce_revocation_expiration()
            } else {
                builder.allow_unknown_revocation_status()
            };
        }
        let verifier = builder.build().map_err(|error| TlsError::Trust(path.to_owned(), error))?;
        Ok((verifier, outlook))
    }
}

pub(super) fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| TlsError::Malformed(path.to_owned(), error.to_string()))?;
    if read.is_empty() { Err(TlsError::Missing(path.to_owned(), "certificate")) } else { Ok(read) }
}
