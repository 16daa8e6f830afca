//! One HTTP request and its answer. Knows nothing of tokens.

mod resolver;
mod tls;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ureq::http::HeaderMap;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, RequestBuilder, Timeout};

pub(crate) use tls::{Pin, Roots, Trust, config as tls_config, own_roots};

use crate::error::Error;
use crate::secret::Secret;

/// No answer that is read is longer; nor is any token answer.
const LONGEST_ANSWER: u64 = 1024 * 1024;

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Why nothing came back.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The time was up, while doing what is said.
    Timeout(&'static str),
    /// No connection; another try may help.
    Unreached(String),
    /// A connection that broke; another try may help.
    Network(String),
    /// The proxy wants none of it, and will not the next time.
    Proxy(String),
    /// A TLS peer that is not to be trusted: another try will not help.
    Untrusted(String),
    /// Something answered, but not in HTTP, or at too great length.
    Protocol(String),
}

/// What takes too long where nobody answers at all.
pub(crate) const CONNECTING: &str = "connecting";

impl Failure {
    /// Whether there may be nobody at all.
    pub(crate) fn is_unreached(&self) -> bool {
        matches!(self, Self::Unreached(_) | Self::Timeout(CONNECTING))
    }
}

/// What a request says beside its URL and headers.
pub(crate) enum Method<'a> {
    Get,
    /// With a body, which may be empty, of this type.
    Post {
        content_type: &'static str,
        body: &'a str,
    },
}

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// How a host is reached.
pub(crate) struct Way<'a> {
    pub(crate) trust: Trust<'a>,
    pub(crate) proxy: Option<&'a Secret>,
    /// How long TCP may take, where that is less than the request may.
    pub(crate) connect_timeout: Option<Duration>,
}

/// Sends requests to one host, over one connection as long as that stays open.
pub(crate) struct Http {
    agent: Agent,
}

impl Http {
    pub(crate) fn new(way: &Way<'_>) -> Result<Self, Error> {
        let tls = tls::TlsConnector::new(&way.trust)?;
        // The URL was checked when the settings were read.
        let proxy = way.proxy.and_then(|url| ureq::Proxy::new(url.reveal()).ok());
        let settings = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .timeout_connect(way.connect_timeout)
            .user_agent(concat!("pgaad/", env!("CARGO_PKG_VERSION")))
            .input_buffer_size(tls::BUFFER)
            .output_buffer_size(tls::BUFFER)
            .build();
        let connector = ConnectProxyConnector::default().chain(TcpConnector::default()).chain(tls);
        Ok(Self { agent: Agent::with_parts(settings, connector, resolver::Resolver) })
    }

    /// All of it, from the name's look-up to the last byte, happens before the deadline.
    pub(crate) fn send(
        &self,
        method: &Method<'_>,
        url: &str,
        headers: &[(&str, &str)],
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left < Duration::from_millis(1) {
            return Err(Failure::Timeout("starting"));
        }
        let mut response = match method {
            Method::Get => {
                let request = with_headers(self.agent.get(url), headers);
                request.config().timeout_global(Some(left)).build().call()
            }
            Method::Post { content_type, body } => {
                let request = with_headers(self.agent.post(url).content_type(*content_type), headers);
                request.config().timeout_global(Some(left)).build().send(*body)
            }
        }
        .map_err(failure)?;
        let body = response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec().map_err(failure)?;
        let (parts, _) = response.into_parts();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

/// The addresses of a host, which may be one itself, within the time.
pub(crate) fn look_up(host: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>, Failure> {
    resolver::look_up(host, port, limit).map_err(failure)
}

fn with_headers<T>(mut request: RequestBuilder<T>, headers: &[(&str, &str)]) -> RequestBuilder<T> {
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
}

fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(timeout) => Failure::Timeout(match timeout {
            Timeout::Resolve => "looking up its name",
            Timeout::Connect => CONNECTING,
            Timeout::SendRequest | Timeout::SendBody => "sending the request",
            _ => "waiting for the answer",
        }),
        ureq::Error::Io(error) => error.into(),
        ureq::Error::HostNotFound => Failure::Unreached("its name has no address".into()),
        ureq::Error::ConnectProxyFailed(why) if why.contains("responded 4") => Failure::Proxy(why),
        ureq::Error::ConnectProxyFailed(why) => Failure::Network(format!("the proxy failed: {why}")),
        ureq::Error::ConnectionFailed => Failure::Unreached("no connection".into()),
        // The look-up of its name failed.
        ureq::Error::Other(error) => Failure::Unreached(error.to_string()),
        ureq::Error::BodyExceedsLimit(limit) => {
            Failure::Protocol(format!("an answer of more than {limit} bytes"))
        }
        other => Failure::Protocol(other.to_string()),
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => tls_failure(tls),
            None if is_about_connecting(error.kind()) => Self::Unreached(error.to_string()),
            None => Self::Network(error.to_string()),
        }
    }
}

/// Whether there was no connection yet when this happened.
fn is_about_connecting(kind: ErrorKind) -> bool {
    use ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable, PermissionDenied};
    matches!(kind, ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable | PermissionDenied)
}

fn tls_failure(error: &rustls::Error) -> Failure {
    use rustls::CertificateError::{ApplicationVerificationFailure, BadSignature, UnknownIssuer};
    match error {
        // The second: a root of that name is trusted, but it is another one.
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            Failure::Untrusted("its certificate ends in no root that is trusted here".into())
        }
        rustls::Error::InvalidCertificate(ApplicationVerificationFailure) => {
            Failure::Untrusted("its certificate is not the one that was announced".into())
        }
        rustls::Error::InvalidCertificate(why) => {
            Failure::Untrusted(format!("its certificate is not valid: {why}"))
        }
        other => Failure::Network(format!("TLS: {other}")),
    }
}
