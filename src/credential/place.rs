//! A service that is asked for something: how it is reached, and what messages call it.

use std::time::{Duration, Instant};

use super::answer::{behind, retry_after};
use super::{Failure, Retry};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::http::{self, Answer, Http, Method, Roots, Trust, Way};
use crate::secret::Secret;
use crate::settings::{Settings, config};
use crate::token::Moment;
use crate::url;

pub(super) struct Place {
    http: Http,
    url: String,
    /// For messages.
    name: String,
    /// " through the proxy of X"
    way: String,
    is_near: bool,
    hints: Hints,
}

/// What to look at when something goes wrong, as sentences.
#[derive(Clone, Copy)]
pub(super) struct Hints {
    /// It can't be reached.
    pub(super) network: &'static str,
    /// Its certificate is not trusted.
    pub(super) untrusted: &'static str,
    /// What answers is something else.
    pub(super) stranger: &'static str,
}

pub(super) const CHECK_ROOTS: &str = "If that is meant to be so (a proxy that opens TLS, a private cloud), name its root's PEM file in PGAAD_CA_FILE.";

/// How long TCP may take to a place that is this machine or its host.
const NEAR: Duration = Duration::from_secs(2);

fn no_connection() -> String {
    format!("no connection within {} s", NEAR.as_secs())
}

/// A secret from a platform's variable that is to stand in a header.
pub(super) fn header_value(env: Environment<'_>, name: &str) -> Result<Option<Secret>, Error> {
    let Some(value) = env.text(name)?.map(Secret::new) else { return Ok(None) };
    let text = value.reveal().trim();
    match text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        true => Ok(Some(Secret::new(text)).filter(|value| !value.reveal().is_empty())),
        false => Err(config(format!("{name} holds characters that cannot be sent, such as a line break."))),
    }
}

/// Who may vouch for a service.
pub(super) fn usual_roots(settings: &Settings) -> Roots {
    Roots { extra: settings.ca_file.clone(), system: settings.system_roots.clone() }
}

fn usual_trust<'a>(url: &str, roots: &'a Roots) -> Trust<'a> {
    if url::is_plain(url) { Trust::Plain } else { Trust::Roots { roots, name: None } }
}

impl Place {
    /// A service of the internet's, reached as the settings say.
    pub(super) fn public(
        settings: &Settings,
        url: String,
        name: String,
        hints: Hints,
    ) -> Result<Self, Error> {
        let host = url::host_of(&url);
        let proxy = settings.proxy.as_ref().and_then(|proxy| Some((proxy, proxy.url_for(&host)?)));
        let roots = usual_roots(settings);
        let trust = usual_trust(&url, &roots);
        let way = Way { trust, proxy: proxy.map(|(_, url)| url), connect_timeout: None };
        let through =
            proxy.map(|(proxy, _)| format!(" through the proxy of {}", proxy.name)).unwrap_or_default();
        Ok(Self { http: Http::new(&way)?, url, name, way: through, is_near: false, hints })
    }

    /// A service of this machine's, its host's or its cluster's: never through a proxy. `trust`: whom else to trust there
    /// than whom the settings say.
    pub(super) fn near(
        settings: &Settings,
        url: String,
        name: String,
        trust: Option<Trust<'_>>,
        hints: Hints,
    ) -> Result<Self, Error> {
        let roots = usual_roots(settings);
        let trust = trust.unwrap_or_else(|| usual_trust(&url, &roots));
        let way = Way { trust, proxy: None, connect_timeout: Some(NEAR) };
        Ok(Self { http: Http::new(&way)?, url, name, way: String::new(), is_near: true, hints })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What messages call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Asks, and says when it did.
    pub(super) fn ask(
        &self,
        method: &Method<'_>,
        headers: &[(&str, &str)],
        deadline: Instant,
    ) -> Result<(Answer, Moment), Failure> {
        self.send(method, headers, deadline).map_err(|failure| self.no_answer(failure))
    }

    /// The same, for those who look at what went wrong.
    pub(super) fn send(
        &self,
        method: &Method<'_>,
        headers: &[(&str, &str)],
        deadline: Instant,
    ) -> Result<(Answer, Moment), http::Failure> {
        let started = Moment::now();
        Ok((self.http.send(method, &self.url, headers, deadline)?, started))
    }

    pub(super) fn no_answer(&self, failure: http::Failure) -> Failure {
        let (name, way) = (&self.name, &self.way);
        let network = |why: String, what_to_do: &str, retry| {
            let text = format!("No token from {name}{way}: {why}. {what_to_do}");
            Failure::new(ErrorKind::Network, text, retry)
        };
        match failure {
            http::Failure::Timeout(http::CONNECTING) if self.is_near => {
                network(no_connection(), self.hints.network, Retry::Soon)
            }
            http::Failure::Timeout(doing) => {
                let text = format!(
                    "No token from {name}{way} in time: the deadline (PGAAD_TIMEOUT_MS) passed while {doing}."
                );
                Failure::new(ErrorKind::Timeout, text, Retry::Soon)
            }
            http::Failure::Unreached(why) | http::Failure::Network(why) => {
                network(why, self.hints.network, Retry::Soon)
            }
            http::Failure::Proxy(why) => network(
                format!("the proxy refused: {why}"),
                "Check the proxy's user and password.",
                Retry::Never,
            ),
            http::Failure::Untrusted(why) => network(why, self.hints.untrusted, Retry::Never),
            http::Failure::Protocol(why) => Failure::new(
                ErrorKind::Protocol,
                format!("{name}{way} did not answer as a token service does: {why}. {}", self.hints.stranger),
                Retry::Never,
            ),
        }
    }

    /// What went wrong on the way to it, in a few words.
    pub(super) fn describe(&self, failure: &http::Failure) -> String {
        let why = match failure {
            http::Failure::Timeout(_) => no_connection(),
            http::Failure::Unreached(why) | http::Failure::Network(why) => why.clone(),
            _ => "no answer".into(),
        };
        format!("{} cannot be reached: {why}. {}", self.name, self.hints.network)
    }

    /// An answer that is none of such a service's: `what` it did.
    pub(super) fn protocol(&self, what: &str) -> Failure {
        let text = format!("{} {what}. {}", self.name, self.hints.stranger);
        Failure::new(ErrorKind::Protocol, text, Retry::Never)
    }

    /// A status that means: not now. `said` is the service's own sentence, or empty.
    pub(super) fn try_later(&self, answer: &Answer, said: &str) -> Failure {
        let (name, status) = (&self.name, answer.status);
        let said = behind(said);
        let after = retry_after(answer);
        let (kind, text) = match after {
            Some(after) => {
                let then = httpdate::fmt_http_date(std::time::SystemTime::now() + after);
                let seconds = after.as_millis().div_ceil(1000);
                let text = format!(
                    "{name} said to come back in {seconds} s, at {then} (HTTP {status}{said}). Until then nothing is \
                     asked of it."
                );
                (ErrorKind::Throttled, text)
            }
            None if status == 429 => (
                ErrorKind::Throttled,
                format!("{name} had too many requests (HTTP 429{said}). Try again in a few seconds."),
            ),
            None => (
                ErrorKind::Network,
                format!("No token from {name}: it failed (HTTP {status}{said}). Try again later."),
            ),
        };
        Failure::new(kind, text, after.map_or(Retry::Soon, Retry::After))
    }
}
