//! The token endpoint of Microsoft Entra ID, v2.0: who asks, the request, and what no answer means.

use std::time::Instant;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::answer::{CHECK_AUTHORITY, correlation_id, read};
use super::{Failure, Retry, retry};
use crate::error::{Error, ErrorKind};
use crate::http::{self, Http, Roots};
use crate::log::Level;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::token::{Moment, Token};

/// Who asks, and how the messages call the proof.
pub(super) struct Application<'a> {
    pub(super) tenant: &'a str,
    pub(super) client_id: &'a str,
    /// "client secret"
    pub(super) proof: &'static str,
    /// The setting or variable that holds it.
    pub(super) proof_name: &'a str,
    /// Never repeated, even where the service repeats it.
    pub(super) secret: &'a Secret,
}

/// Asks for a token, again where that helps.
pub(super) fn fetch(
    settings: &Settings,
    application: &Application<'_>,
    proof: &[(&str, &str)],
    scope: &str,
    deadline: Instant,
) -> Result<Token, Failure> {
    let url = settings.authority.token_url(application.tenant);
    let roots = Roots { extra: settings.ca_file.clone(), system: settings.system_roots.clone() };
    let http = Http::new(&http::host_of(&url), &roots, settings.proxy.as_ref())?;
    let mut fields =
        vec![("grant_type", "client_credentials"), ("client_id", application.client_id), ("scope", scope)];
    fields.extend(proof);
    let form = form(&fields);
    let result = retry::until(deadline, random, || {
        let request_id = request_id();
        let started = Moment::now();
        let headers = [("Accept", "application/json"), ("client-request-id", request_id.as_str())];
        let (result, correlation_id) = match http.post(&url, &headers, &form, deadline) {
            Ok(answer) => (read(&answer, started, application, settings), correlation_id(&answer)),
            Err(failure) => (Err(no_answer(failure, settings)), None),
        };
        log(settings, application, scope, &correlation_id.unwrap_or(request_id), started, &result);
        result
    });
    if let Err(failure) = &result {
        Level::Error.log(settings.log, "no_token", &[("error", failure.error.message())]);
    }
    result
}

/// The body of a form post.
fn form(fields: &[(&str, &str)]) -> zeroize::Zeroizing<String> {
    let mut body = zeroize::Zeroizing::new(String::new());
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        body.push_str(&encode(value));
    }
    body
}

/// RFC 3986's unreserved characters are the others.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn encode(value: &str) -> String {
    utf8_percent_encode(value, RESERVED).to_string()
}

fn no_answer(failure: http::Failure, settings: &Settings) -> Failure {
    let authority = &settings.authority;
    let proxy = settings.proxy.as_ref().filter(|proxy| proxy.url_for(authority.host()).is_some());
    let way = proxy.map(|proxy| format!(" through the proxy of {}", proxy.name)).unwrap_or_default();
    let network = |why: String, what_to_do: &str, retry| Failure {
        error: Error::new(ErrorKind::Network, format!("No token from {authority}{way}: {why}. {what_to_do}")),
        retry,
    };
    match failure {
        http::Failure::Timeout(doing) => Failure {
            error: Error::new(
                ErrorKind::Timeout,
                format!(
                    "No token from {authority}{way} in time: the deadline (PGAAD_TIMEOUT_MS) passed while {doing}."
                ),
            ),
            retry: Retry::Soon,
        },
        http::Failure::Network(why) => {
            network(why, "Check the network, PGAAD_PROXY and PGAAD_AUTHORITY_HOST.", Retry::Soon)
        }
        http::Failure::Proxy(why) => {
            network(format!("the proxy refused: {why}"), "Check the proxy's user and password.", Retry::Never)
        }
        http::Failure::Untrusted(why) => network(
            why,
            "If that is meant to be so (a proxy that opens TLS, a private cloud), name its root's PEM file in \
             PGAAD_CA_FILE.",
            Retry::Never,
        ),
        http::Failure::Protocol(why) => Error::new(
            ErrorKind::Protocol,
            format!("{authority}{way} did not answer as a token service does: {why}. {CHECK_AUTHORITY}"),
        )
        .into(),
    }
}

fn log(
    settings: &Settings,
    application: &Application<'_>,
    scope: &str,
    correlation_id: &str,
    started: Moment,
    result: &Result<Token, Failure>,
) {
    let took = Moment::now().boot.saturating_sub(started.boot).as_millis().to_string();
    let authority = settings.authority.to_string();
    let who = [
        ("authority", authority.as_str()),
        ("tenant", application.tenant),
        ("client_id", application.client_id),
        ("scope", scope),
        ("correlation_id", correlation_id),
        ("ms", took.as_str()),
    ];
    match result {
        Ok(token) => {
            let life = token.life.as_secs().to_string();
            Level::Info.log(
                settings.log,
                "token_fetched",
                &[&who[..], &[("expires_in", life.as_str())]].concat(),
            );
        }
        Err(failure) => {
            let error = [("error", failure.error.message())];
            Level::Warn.log(settings.log, "token_request_failed", &[&who[..], &error].concat());
        }
    }
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without randomness there would have been no TLS; the id and the jitter may then be what they are.
    let _ = rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes);
    bytes
}

fn random() -> f64 {
    f64::from(u32::from_ne_bytes(random_bytes())) / f64::from(u32::MAX)
}

/// A random GUID (RFC 9562, version 4), which the service repeats as its correlation id.
fn request_id() -> String {
    let bits = u128::from_be_bytes(random_bytes());
    let bits = bits & !(0xf << 76) | 0x4 << 76;
    let bits = bits & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
