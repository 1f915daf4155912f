//! An authority and the certificates it signs, in files as an operator keeps them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tempfile::TempDir;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// An authority in a folder of its own.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM form.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("authority")
    }

    /// One with a name of its own, which rustls tells it by.
    pub(crate) fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self::of(CertifiedIssuer::self_signed(Self::params(name), key).unwrap())
    }

    /// One that this one vouches for.
    pub(crate) fn beneath(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self::of(CertifiedIssuer::signed_by(Self::params(name), key, &self.issuer).unwrap())
    }

    /// The same, for DNS names under `dns` alone.
    pub(crate) fn beneath_constrained(&self, name: &str, dns: &str) -> Self {
        let mut params = Self::params(name);
        let permitted_subtrees = vec![GeneralSubtree::DnsName(dns.to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        let key = KeyPair::generate().unwrap();
        Self::of(CertifiedIssuer::signed_by(params, key, &self.issuer).unwrap())
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params
    }

    fn of(issuer: CertifiedIssuer<'static, KeyPair>) -> Self {
        let authority = Self { folder: tempfile::tempdir().unwrap(), issuer };
        fs::write(authority.path("ca.pem"), authority.pem()).unwrap();
        authority
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A file of the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate for this DNS name or URI.
    pub(crate) fn issue(&self, name: &str, serial: u64) -> Issued {
        self.issue_until(name, serial, 2096)
    }

    /// One that is not valid any more.
    pub(crate) fn issue_expired(&self, name: &str) -> Issued {
        self.issue_until(name, 1, 2026)
    }

    /// One with this common name and these others, and the authority's own, as a caller shows them.
    pub(crate) fn issue_named(&self, common_name: &str, names: Vec<SanType>) -> Issued {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        let Issued { certificate, key } = self.signed(params, 7, 2096);
        Issued { certificate: certificate + &self.pem(), key }
    }

    fn issue_until(&self, name: &str, serial: u64, year: i32) -> Issued {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![if name.contains("://") {
            SanType::URI(name.try_into().unwrap())
        } else {
            SanType::DnsName(name.try_into().unwrap())
        }];
        self.signed(params, serial, year)
    }

    fn signed(&self, mut params: CertificateParams, serial: u64, year: i32) -> Issued {
        params.not_after = date_time_ymd(year, 1, 1);
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Puts the server's certificate in place, its key first: for an instant the two do not go together.
    pub(crate) fn serve(&self, issued: &Issued) {
        fs::write(self.path("server.key"), &issued.key).unwrap();
        fs::set_permissions(self.path("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(self.path("server.pem"), &issued.certificate).unwrap();
    }

    /// Puts in place a list that revokes the certificates with these serial numbers.
    pub(crate) fn revoke(&self, serials: &[u64]) {
        fs::write(self.path("revoked.pem"), self.list(serials, 2026, 2096)).unwrap();
    }

    /// A list that revokes these, made when one year began and due to be replaced when another does.
    pub(crate) fn list(&self, serials: &[u64], made: i32, due: i32) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(made, 1, 1),
            next_update: date_time_ymd(due, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// The table `[tls]` of a configuration.
    pub(crate) fn table(&self) -> String {
        let path = |name| self.path(name).display().to_string();
        format!(
            "[tls]\ncertificate = '{}'\nkey = '{}'\nclient_ca = '{}'\nrevocations = '{}'\nreload_interval = '10ms'\n",
            path("server.pem"),
            path("server.key"),
            path("ca.pem"),
            path("revoked.pem")
        )
    }

    /// The same by hand.
    pub(crate) fn rustls(&self, issued: &Issued) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.issuer.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// How a client speaks to the server, with a certificate or without.
    pub(crate) fn client(&self, issued: Option<&Issued>) -> ClientTlsConfig {
        let config = ClientTlsConfig::new()
            .domain_name("sidecar.test")
            .ca_certificate(Certificate::from_pem(self.issuer.pem()));
        match issued {
            Some(Issued { certificate, key }) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        }
    }
}
