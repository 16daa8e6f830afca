//! TLS to the token service: which roots count, and the connection that ureq talks through.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, StreamOwned,
};
use ureq::unversioned::transport::time::Instant;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::bundle;
use crate::error::{Error, ErrorKind};
use crate::os;

/// How much of an answer is held at once; its headers must fit.
pub(super) const BUFFER: usize = 16 * 1024;

/// Who may vouch for the token service, beside the built-in roots.
#[derive(Default)]
pub(crate) struct Roots {
    /// `ca_file`.
    pub(crate) extra: Option<PathBuf>,
    /// The system's bundle, where another than the distribution's is named.
    pub(crate) system: Option<PathBuf>,
}

/// The SHA-1 of a certificate's DER, by which a platform announces it.
pub(crate) type Pin = [u8; 20];

/// Whom to talk to.
pub(crate) enum Trust<'a> {
    /// No TLS: the address itself is trusted.
    Plain,
    /// Who has a certificate for this name, without one for the URL's host, that ends in one of these roots.
    Roots { roots: &'a Roots, name: Option<&'a str> },
    /// The same, with these roots and no others.
    Only { roots: &'a RootCertStore, name: Option<&'a str> },
    /// The same, with the roots of a file, and the setting that names it.
    File { path: &'a Path, setting: &'static str },
    /// Who has this very certificate.
    Pinned(Pin),
}

/// The roots in PEM text, each of which must be one.
pub(crate) fn own_roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        store.add(certificate).map_err(|_| "a certificate in it cannot be read")?;
    }
    if store.is_empty() { Err("it holds no PEM certificate".into()) } else { Ok(store) }
}

fn internal(error: &dyn fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format!("TLS cannot be set up: {error}"))
}

/// What verifies the peer; None: nothing does, for there is no TLS.
fn verifier_for(trust: &Trust<'_>, provider: &Arc<CryptoProvider>) -> Result<Option<Verifier>, Error> {
    let of = |store, system| match verifier(store, provider) {
        Ok(roots) => Ok(Accepted::Valid { roots, system }),
        Err(error) => Err(internal(&error)),
    };
    let accepted = match trust {
        Trust::Plain => return Ok(None),
        Trust::Roots { roots, .. } => {
            let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            if let Some(path) = &roots.extra {
                add_file(&mut store, path, "ca_file (PGAAD_CA_FILE)")?;
            }
            of(store, roots.system.clone().or_else(bundle::find))?
        }
        Trust::Only { roots, .. } => of((*roots).clone(), None)?,
        Trust::File { path, setting } => {
            let mut store = RootCertStore::empty();
            add_file(&mut store, path, setting)?;
            of(store, None)?
        }
        Trust::Pinned(pin) => Accepted::Announced(*pin),
    };
    Ok(Some(Verifier { accepted, provider: provider.clone() }))
}

/// The distributions' bundles have a quarter of a megabyte.
const LONGEST_BUNDLE: u64 = 16 * 1024 * 1024;

fn add_file(store: &mut RootCertStore, path: &Path, setting: &str) -> Result<(), Error> {
    let unusable = |why: &dyn fmt::Display| {
        let text = format!("{setting} names {}, which cannot be used: {why}.", path.display());
        Error::new(ErrorKind::Config, text)
    };
    let pem = os::read_plain(path, LONGEST_BUNDLE).map_err(|error| unusable(&error))?;
    store.extend(own_roots(&pem).map_err(|why| unusable(&why))?.roots);
    Ok(())
}

fn verifier(
    store: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, rustls::client::VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone()).build()
}

/// Which peer is accepted. How it signs is checked by the provider in any case.
#[derive(Debug)]
struct Verifier {
    accepted: Accepted,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Accepted {
    /// Who has a valid certificate by webpki's rules. `system`: a further bundle, which is only read where a chain ends in
    /// none of the other roots, since reading it costs more than the handshake.
    Valid { roots: Arc<WebPkiServerVerifier>, system: Option<PathBuf> },
    /// Who has this certificate, whoever signed it and whatever its name: the platform announced it.
    Announced(Pin),
}

impl Verifier {
    fn of_bundle(&self, path: &Path) -> Option<Arc<WebPkiServerVerifier>> {
        let mut store = RootCertStore::empty();
        // As other programs do, what can't be read in a bundle is passed over.
        store.add_parsable_certificates(CertificateDer::pem_file_iter(path).ok()?.flatten());
        verifier(store, &self.provider).ok()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |verifier: &WebPkiServerVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
        };
        match &self.accepted {
            Accepted::Valid { roots, system } => match verify(roots) {
                Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                    let further = system.as_deref().and_then(|path| self.of_bundle(path));
                    further.map_or(Err(CertificateError::UnknownIssuer.into()), |further| verify(&further))
                }
                verdict => verdict,
            },
            Accepted::Announced(pin) => {
                let shown = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, end_entity);
                match shown.as_ref() == pin {
                    true => Ok(ServerCertVerified::assertion()),
                    false => Err(CertificateError::ApplicationVerificationFailure.into()),
                }
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS as it is spoken to whom is trusted so; None: it is not spoken.
pub(crate) fn config(trust: &Trust<'_>) -> Result<Option<Arc<ClientConfig>>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Some(verifier) = verifier_for(trust, &provider)? else { return Ok(None) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| internal(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // One connection fetches one token.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Some(Arc::new(config)))
}

/// Wraps a connection in TLS where the URL is https. ureq's own connector can't be given a verifier.
pub(super) struct TlsConnector {
    config: Option<Arc<ClientConfig>>,
    /// The peer's name, where it is not the URL's host.
    name: Option<String>,
}

impl TlsConnector {
    pub(super) fn new(trust: &Trust<'_>) -> Result<Self, Error> {
        let name = match trust {
            Trust::Only { name, .. } | Trust::Roots { name, .. } => name.map(str::to_string),
            _ => None,
        };
        Ok(Self { config: config(trust)?, name })
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnector")
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = self.name.as_deref().or(details.uri.host()).unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_string()).map_err(|_| ureq::Error::Tls("not a host name"))?;
        let config = self.config.clone().ok_or(ureq::Error::Tls("a place that was not to speak TLS does"))?;
        let mut conn = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let transport: Box<dyn Transport> = Box::new(transport);
        let mut sock = TransportAdapter::new(transport, details.current_time.clone());
        sock.set_timeout(left(details));
        conn.complete_io(&mut sock)?;
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        let buffers = LazyBuffers::new(input, output);
        Ok(Some(Either::B(TlsTransport { buffers, stream: StreamOwned { conn, sock } })))
    }
}

/// What is left of the time that the connection has, once TCP and the proxy took their part.
fn left(details: &ConnectionDetails) -> NextTimeout {
    let spent = match details.now {
        Instant::Exact(begun) => begun.elapsed(),
        _ => Duration::ZERO,
    };
    let mut timeout = details.timeout;
    timeout.after = timeout.after.saturating_sub(spent).into();
    timeout
}

pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let room = self.buffers.input_append_buf();
        // Headers fill the buffer and go on. A read into no room would look like the connection's end.
        if room.is_empty() {
            return Err(ureq::Error::LargeResponseHeader(self.buffers.input().len(), BUFFER));
        }
        let amount = self.stream.read(room)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
