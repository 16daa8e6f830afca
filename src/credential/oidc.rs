//! A platform that vouches for its jobs with OpenID Connect tokens, made on request.

use serde_json::Value;
use zeroize::Zeroizing;

use super::place::{CHECK_ROOTS, Hints, Place};
use super::{Failure, Retry, answer};
use crate::error::{Error, ErrorKind};
use crate::http::Answer;
use crate::secret::Secret;
use crate::settings::{Settings, config, is_near};
use crate::url;

pub(super) struct Provider {
    pub(super) place: Place,
    /// For messages.
    pub(super) name: &'static str,
    /// Where in the answer the token is.
    pub(super) member: &'static str,
    /// What the job shows to it.
    pub(super) secret: Secret,
}

/// The platform's URL, as its variable has it, with something more to ask.
pub(super) fn place(
    settings: &Settings,
    name: &str,
    variable: &str,
    url: &str,
    query: &[(&str, &str)],
) -> Result<Place, Error> {
    let is_secure = !url::is_plain(url) || is_near(&url::host_of(url));
    if !url::is_sound(url) || !is_secure {
        return Err(config(format!(
            "{variable} must be an https URL: the job's secret travels on this connection."
        )));
    }
    let hints = Hints {
        network: "Check the network and PGAAD_PROXY.",
        untrusted: CHECK_ROOTS,
        stranger: "Check whether a proxy or login page answers in its place.",
    };
    let origin = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    Place::public(settings, url::with_query(url, query), format!("{name} ({origin})"), hints)
}

impl Provider {
    /// The job's token, or why there is none: what the platform did, and what to do.
    pub(super) fn read(&self, answer: &Answer, did: &str, hint: &str) -> Result<Secret, Failure> {
        let json = answer::object(answer);
        match (answer.status, json) {
            (200, Some(mut json)) => {
                let Some(Value::String(text)) = json.get_mut(self.member).map(Value::take) else {
                    return Err(self.place.protocol(&format!("answered without {}", self.member)));
                };
                answer::secret(&Zeroizing::new(text))
                    .ok_or_else(|| self.place.protocol("answered with a token that cannot be one"))
            }
            (200, None) => Err(self.place.protocol(&format!(
                "answered with no JSON ({})",
                answer::content_type(answer, &[&self.secret])
            ))),
            (408 | 429 | 500.., _) => Err(self.place.try_later(answer, "")),
            (status, json) => {
                let texts = json
                    .iter()
                    .flat_map(|json| ["message", "error_description", "error"].map(|name| &json[name]));
                let said = answer::sentence(texts, &[&self.secret]);
                let said = answer::behind(&said);
                let text = format!("{} {did}: HTTP {status}{said}. {hint}", self.name);
                Err(Failure::new(ErrorKind::Denied, text, Retry::Never))
            }
        }
    }
}
