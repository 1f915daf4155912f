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
use rustls_pki_types::CertificateDer;

use super::{
    Files,
    pem::{self, Block, Kind},
    present::Present,
    refused,
    revocation::{self, List, Outlook},
    short_chain::ShortChains,
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
    /// The key in it takes a password, and there is nobody to ask for one.
    #[error(
        "the private key in `{path}` is encrypted; decrypt it (`openssl pkey -in '{path}' -out NEW-FILE`) into a file of \
         mode 600",
        path = .0.display()
    )]
    Encrypted(PathBuf),
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
        let files = [
            ("certificate", Some(&self.certificate), Kind::Chain),
            ("client_ca", self.client_ca.as_ref(), Kind::Authorities),
        ];
        files.into_iter().filter_map(|(name, bytes, kind)| {
            // They were read once; the path is in what would be said otherwise.
            let blocks = pem::read(bytes?, Path::new(""), kind).ok()?;
            let ends = blocks.iter().filter_map(|block| validity::end_of_certificate(&block.der).ok());
            Some((name, ends.min()?))
        })
    }

    /// What callers will find wrong with the certificate that is shown, which is in `path`.
    pub(super) fn faults(&self, path: &Path, now: Instant) -> Vec<String> {
        let chain = certificates(&self.certificate, path, Kind::Chain).unwrap_or_default();
        chain.first().map(|shown| refused::of_server(shown, now)).unwrap_or_default()
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
        let chain = certificates(&self.certificate, &files.certificate, Kind::Chain)?;
        let key = pem::private_key(&self.key, &files.key)?;
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
        for authority in certificates(authorities, path, Kind::Authorities)? {
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
        Ok((Arc::new(ShortChains(verifier)), outlook))
    }
}

/// The certificates of a file, each of which reads as one.
pub(super) fn certificates(
    bytes: &[u8],
    path: &Path,
    kind: Kind,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = pem::read(bytes, path, kind)?.into_iter().map(|Block { der, line, .. }| {
        let der = CertificateDer::from(der);
        let Err(error) = webpki::EndEntityCert::try_from(&der) else { return Ok(der) };
        // Old authorities have certificates of version 1, which are good for nothing else.
        if webpki::anchor_from_trusted_cert(&der).is_ok() {
            return Ok(der);
        }
        let what = format!("line {line}: the certificate that begins here does not read ({error})");
        Err(TlsError::Malformed(path.to_owned(), what))
    });
    read.collect()
}
