//! Whom we believe when we call over TLS, and the certificate we show.
//!
//! Not here: how a listener speaks TLS (see `files`).

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tonic::transport::{ClientTlsConfig, Endpoint, Identity};

use super::{
    TlsError,
    files::certificates,
    pem::{self, Kind},
    refused::in_certificate,
    short_chain,
};

/// Whom a client believes, and who it says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Authorities that are believed (PEM), in place of those of this machine. The file is read at each handshake, so
    /// that one that is renewed counts.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown and its private key (PEM).
    pub shown: Option<(PathBuf, PathBuf)>,
}

/// What to do about a server that is not believed, where it is called from.
#[derive(Clone, Copy, Debug)]
pub struct Advice {
    /// How its authority is named.
    pub authority: &'static str,
    /// How a certificate is shown to it.
    pub certificate: &'static str,
    /// What to write where it speaks no TLS.
    pub plaintext: &'static str,
}

/// For the calls of the sidecar and of the command line.
const CALLING: Advice = Advice {
    authority: "with --ca, or as `licensing.ca` in the configuration",
    certificate: "with --certificate and --key",
    plaintext: "write `http://`, or set `tls.certificate` where it runs",
};

/// Believes certificates of the authorities that are in a file at the time.
#[derive(Debug)]
struct Authorities {
    path: PathBuf,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// Speaks TLS on the connections of `endpoint`.
    pub(in crate::edge) fn speak(&self, endpoint: Endpoint) -> Result<Endpoint, TlsError> {
        let mut config = ClientTlsConfig::new();
        if let Some((certificate, key)) = &self.shown {
            config = config.identity(identity(certificate, key)?);
        }
        let spoken = match &self.ca {
            Some(path) => {
                let provider = Arc::new(aws_lc_rs::default_provider());
                let authorities = Authorities { path: path.clone(), provider };
                // What is wrong with the file is told before anybody is called.
                authorities.read()?;
                endpoint.tls_config_with_verifier(config, Arc::new(authorities))
            }
            None => endpoint.tls_config(config.with_native_roots()),
        };
        spoken.map_err(|error| {
            let source = error.source();
            match (&self.shown, source.and_then(|source| source.downcast_ref::<rustls::Error>())) {
                (Some((certificate, key)), Some(error)) => {
                    TlsError::Pair(certificate.clone(), key.clone(), error.clone())
                }
                _ => TlsError::Client(source.map_or_else(|| error.to_string(), ToString::to_string)),
            }
        })
    }
}

impl Trust {
    /// Reads the files, so that what is wrong with them is told before anybody is called.
    pub fn check(&self) -> Result<(), TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        if let Some(path) = &self.ca {
            Authorities { path: path.clone(), provider: Arc::clone(&provider) }.read()?;
        }
        let Some((certificate, key)) = &self.shown else { return Ok(()) };
        let (chain, private) = (read(certificate)?, read(key)?);
        let pair = |error| TlsError::Pair(certificate.clone(), key.clone(), error);
        let chain = certificates(&chain, certificate, Kind::Chain)?;
        CertifiedKey::from_der(chain, pem::private_key(&private, key)?, &provider).map_err(pair).map(drop)
    }
}

/// The authorities of this machine (PEM).
pub fn machine_authorities() -> Result<String, TlsError> {
    let loaded = rustls_native_certs::load_native_certs();
    // Those that do not read are no authorities, as for everybody else on the machine.
    let usable = loaded.certs.iter().filter(|der| RootCertStore::empty().add((*der).clone()).is_ok());
    let pem: String = usable.map(|der| pem::write("CERTIFICATE", der)).collect();
    if pem.is_empty() { Err(TlsError::NoAuthorities) } else { Ok(pem) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Unreadable(path.to_owned(), error))
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, TlsError> {
    let (chain, private) = (read(certificate)?, read(key)?);
    // What is read here is what is shown, whatever tonic makes of the files.
    let chain = certificates(&chain, certificate, Kind::Chain)?;
    let chain: String = chain.iter().map(|der| pem::write("CERTIFICATE", der)).collect();
    Ok(Identity::from_pem(chain, pem::write_key(&pem::private_key(&private, key)?)))
}

impl Authorities {
    fn read(&self) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
        let Self { path, provider } = self;
        let bytes = read(path)?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(&bytes, path, Kind::Authorities)? {
            roots.add(authority).map_err(|error| TlsError::Malformed(path.clone(), error.to_string()))?;
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| TlsError::Trust(path.clone(), error))
    }
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        short_chain::check(intermediates)?;
        let now_believed = self.read().map_err(|error| OtherError(Arc::new(error)))?;
        now_believed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What went wrong between two ends that do not come to speak TLS, and what to do about it; nothing if `error` is of
/// another kind.
pub(in crate::edge) fn in_words(error: &(dyn Error + 'static)) -> Option<String> {
    in_words_for(error, CALLING)
}

/// The same for whoever calls with other settings than these.
#[must_use]
pub fn in_words_for(error: &(dyn Error + 'static), advice: Advice) -> Option<String> {
    // An error of input and output hides what it carries from those who ask for its source.
    let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let error = carried.map_or(error, |carried| carried);
    let error = error.downcast_ref::<rustls::Error>()?;
    if let rustls::Error::InvalidCertificate(why) = error {
        return Some(refused_certificate(why, advice));
    }
    if let rustls::Error::InvalidMessage(_) = error {
        return Some(format!("no TLS is spoken there; {}", advice.plaintext));
    }
    if let rustls::Error::Other(OtherError(ours)) = error {
        return Some(ours.to_string());
    }
    if let rustls::Error::AlertReceived(alert) = error {
        return Some(format!(
            "it breaks TLS off ({alert:?}); if that is for want of a certificate, show one {}",
            advice.certificate
        ));
    }
    Some(error.to_string())
}

fn refused_certificate(why: &CertificateError, advice: Advice) -> String {
    // An authority that has another key now, under its old name, is another one, too.
    if let CertificateError::UnknownIssuer | CertificateError::BadSignature = why {
        return format!(
            "its certificate is of an authority that is not believed here; name that authority's certificate {}",
            advice.authority
        );
    }
    if let CertificateError::Expired | CertificateError::ExpiredContext { .. } = why {
        return "its certificate has expired; it needs another, or the clock of this machine is wrong"
            .to_owned();
    }
    if let CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } = why {
        return "its certificate is not valid yet; the clock of this machine or of the one that made it is wrong"
            .to_owned();
    }
    if let CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } = why {
        return format!("{why}; call it by a name that its certificate is for, or give it one for this name");
    }
    in_certificate(why).unwrap_or_else(|| format!("its certificate is not believed: {why}"))
}
