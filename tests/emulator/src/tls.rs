//! Certificate authorities made for one run, and what they sign.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate as Certified, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ResolvesServerCert, ResolvesServerCertUsingSni};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use time::{Duration, OffsetDateTime};

/// Which certificate the token service shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// Signed by the authority in [`ca_file`](crate::Emulator::ca_file), for all of the service's names.
    #[default]
    Good,
    /// In order but for its authority, which is another one.
    Stranger,
    /// In order but for its name, `elsewhere.example`.
    WrongName,
    /// In order, until yesterday.
    Expired,
}

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let mut params = params(name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let pem = params.self_signed(&key).map_err(io::Error::other)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// The authority's own certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's certificate for these names and addresses.
    pub(crate) fn sign(&self, names: &[&str], expired: bool) -> io::Result<Identity> {
        let mut params = params(names[0], names)?;
        if expired {
            params.not_before = OffsetDateTime::now_utc() - Duration::days(30);
            params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        Ok(Identity::new(&certificate, &key))
    }
}

fn params(name: &str, names: &[&str]) -> io::Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::OrganizationName, "pgaad tests");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(30);
    Ok(params)
}

impl Identity {
    fn new(certificate: &Certified, key: &KeyPair) -> Self {
        Self {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }

    /// A server's certificate for these names that no authority signed.
    pub(crate) fn self_signed(names: &[&str]) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params(names[0], names)?.self_signed(&key).map_err(io::Error::other)?;
        Ok(Self::new(&certificate, &key))
    }

    /// The certificate in DER.
    pub(crate) fn der(&self) -> &[u8] {
        &self.certificate
    }

    /// TLS 1.2 and 1.3, HTTP/1.1 only.
    pub(crate) fn server_config(&self) -> io::Result<Arc<ServerConfig>> {
        let certified = Arc::new(self.certified()?);
        config(Arc::new(SingleCertAndKey::from(certified)))
    }

    /// The same, for clients that ask for this name and no others.
    pub(crate) fn server_config_for(&self, name: &str) -> io::Result<Arc<ServerConfig>> {
        let mut resolver = ResolvesServerCertUsingSni::new();
        resolver.add(name, self.certified()?).map_err(io::Error::other)?;
        config(Arc::new(resolver))
    }

    fn certified(&self) -> io::Result<CertifiedKey> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        CertifiedKey::from_der(vec![self.certificate.clone()], key, &default_provider())
            .map_err(io::Error::other)
    }
}

fn config(resolver: Arc<dyn ResolvesServerCert>) -> io::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
