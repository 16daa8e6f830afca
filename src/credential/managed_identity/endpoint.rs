//! What the endpoints have in common: a query, a token or a refusal.

use std::time::Instant;

use serde_json::Value;

use crate::credential::place::{CHECK_ROOTS, Hints, Place};
use crate::credential::retry::{self, Patience};
use crate::credential::{Ask, Failure, Retry, answer, dates, log_failure, log_request};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::http::{self, Answer, Method};
use crate::secret::Secret;
use crate::settings::{Managed, Selector, Settings, config};
use crate::token::{Moment, Token};
use crate::url;

/// One endpoint, as one fetch sees it.
pub(super) struct Endpoint<'a> {
    pub(super) place: Place,
    /// What the log calls it.
    pub(super) source: &'static str,
    pub(super) headers: Vec<(&'static str, &'a str)>,
    /// Never repeated, even where the endpoint repeats it.
    pub(super) secret: Option<&'a Secret>,
    pub(super) managed: &'a Managed,
    /// Statuses that mean: not now.
    pub(super) is_transient: fn(u16) -> bool,
    pub(super) patience: &'a Patience,
    /// Whether it has several identities, of which one can be named.
    pub(super) has_choice: bool,
    /// Whether an answer must say whose token it is, for some endpoints pass over what they don't know.
    pub(super) must_echo: bool,
    /// Whether nothing is here where it can't be reached, rather than something that fails.
    pub(super) may_be_absent: bool,
    /// What refusals mean here that mean something else elsewhere.
    pub(super) refused: fn(&Endpoint<'_>, &Refusal<'_>) -> Option<Failure>,
}

/// An answer without a token.
pub(super) struct Refusal<'a> {
    pub(super) status: u16,
    /// The word for programs, if there is one.
    pub(super) code: &'a str,
    /// The endpoint's own sentence.
    pub(super) said: String,
    /// Its content type.
    pub(super) kind: String,
    pub(super) is_json: bool,
    pub(super) body: &'a [u8],
}

fn nothing_special(_: &Endpoint<'_>, _: &Refusal<'_>) -> Option<Failure> {
    None
}

/// 408, 429 and the 5xx.
fn usually_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

/// How an endpoint spells the parameters that name an identity.
pub(super) struct Spelling {
    pub(super) client_id: &'static str,
    pub(super) object_id: &'static str,
    pub(super) resource_id: &'static str,
}

impl Spelling {
    /// That of the metadata service, and of what follows its example.
    pub(super) const METADATA: Self =
        Self { client_id: "client_id", object_id: "object_id", resource_id: "msi_res_id" };

    fn parameter<'a>(&self, selector: &'a Selector) -> (&'static str, &'a str) {
        match selector {
            Selector::Client(id) => (self.client_id, id),
            Selector::Object(id) => (self.object_id, id),
            Selector::Resource(id) => (self.resource_id, id),
        }
    }
}

/// The endpoint's URL with what is asked of it; None: no identity can be named there.
pub(super) fn url(
    base: &str,
    version: &str,
    ask: &Ask<'_>,
    identity: Option<(&Managed, &Spelling)>,
) -> String {
    let mut query = vec![("api-version", version), ("resource", ask.resource())];
    let selector =
        identity.and_then(|(managed, spelling)| Some(spelling.parameter(managed.selector.as_ref()?)));
    query.extend(selector);
    url::with_query(base, &query)
}

/// The endpoint that a platform's variable names.
pub(super) fn platform_place(
    settings: &Settings,
    variable: &'static str,
    base: &str,
    url: String,
) -> Result<Place, Error> {
    check_url(variable, base)?;
    Place::near(settings, url, platform_name(variable, base), None, PLATFORM_HINTS)
}

pub(super) const PLATFORM_HINTS: Hints = Hints {
    network: "The platform's variables name it: are they those of this machine, and does the service run?",
    untrusted: CHECK_ROOTS,
    stranger: "The platform's variables name it: are they those of this machine?",
};

pub(super) fn platform_name(variable: &str, base: &str) -> String {
    format!("the identity endpoint {} ({variable})", base.split('?').next().unwrap_or_default())
}

pub(super) fn check_url(variable: &str, base: &str) -> Result<(), Error> {
    match url::is_sound(base) {
        true => Ok(()),
        false => Err(config(format!("{variable} must be an http or https URL."))),
    }
}

impl<'a> Endpoint<'a> {
    /// One that has no ways of its own.
    pub(super) fn usual(place: Place, source: &'static str, managed: &'a Managed) -> Self {
        Self {
            place,
            source,
            headers: Vec::new(),
            secret: None,
            managed,
            is_transient: usually_transient,
            patience: &retry::USUAL,
            has_choice: true,
            must_echo: false,
            may_be_absent: false,
            refused: nothing_special,
        }
    }

    /// Asks for the token, again where that helps.
    pub(super) fn token(&self, ask: &Ask<'_>, method: &Method<'_>) -> Result<Token, Failure> {
        self.retrying(ask, || self.once(ask, method, &[], self.secret))
    }

    /// Tries as often as the endpoint wants it.
    pub(super) fn retrying(
        &self,
        ask: &Ask<'_>,
        attempt: impl FnMut() -> Result<Token, Failure>,
    ) -> Result<Token, Failure> {
        retry::until(self.patience, ask.deadline, attempt).map_err(|failure| match failure.error.kind() {
            ErrorKind::Unavailable | ErrorKind::Denied | ErrorKind::Config | ErrorKind::Throttled => failure,
            // Where Azure says that it is Azure, what fails is here, and no other identity may slip in.
            _ => failure.here(is_azure(ask.settings.environment())),
        })
    }

    /// Asks for the token with more headers than the usual ones. `secret`: never repeated.
    pub(super) fn once(
        &self,
        ask: &Ask<'_>,
        method: &Method<'_>,
        more: &[(&str, &str)],
        secret: Option<&Secret>,
    ) -> Result<Token, Failure> {
        let (begun, headers) = (Instant::now(), [&self.headers[..], more].concat());
        let result = match self.place.send(method, &headers, ask.deadline) {
            Ok((answer, started)) => self.read(&answer, started, secret),
            Err(failure) if self.may_be_absent && failure.is_unreached() => Err(self.absent(&failure)),
            Err(failure) => Err(self.place.no_answer(failure)),
        };
        log_request(ask, &[("source", self.source), ("scope", ask.scope)], begun, &result);
        result
    }

    /// For what fails before the token is asked for.
    pub(super) fn log_failure(&self, ask: &Ask<'_>, begun: Instant, failure: Failure) -> Failure {
        log_failure(ask, &[("source", self.source), ("scope", ask.scope)], begun, &failure);
        failure
    }

    fn absent(&self, failure: &http::Failure) -> Failure {
        Failure::nothing_here(format!("There is no managed identity here: {}", self.place.describe(failure)))
    }

    pub(super) fn read(
        &self,
        answer: &Answer,
        started: Moment,
        secret: Option<&Secret>,
    ) -> Result<Token, Failure> {
        let json = answer::object(answer);
        match (answer.status, json) {
            (200, Some(json)) => {
                self.check_echo(&json)?;
                answer::token(with_seconds(json), started, answer).map_err(|why| {
                    self.place.protocol(&format!("answered with a token that cannot be used: {why}"))
                })
            }
            (status, json) => {
                let json = json.unwrap_or_default();
                let error = &json["error"];
                let texts = [&json["error_description"], &json["message"], &error["message"], error];
                let secrets: Vec<&Secret> = secret.into_iter().collect();
                let said = answer::sentence(texts, &secrets);
                let kind = answer::content_type(answer, &secrets);
                if (self.is_transient)(status) {
                    return Err(self.place.try_later(answer, &said));
                }
                let code = error.as_str().or(error["code"].as_str()).unwrap_or_default();
                let refusal =
                    Refusal { status, code, said, kind, is_json: json.is_object(), body: &answer.body };
                Err((self.refused)(self, &refusal).unwrap_or_else(|| self.refusal(&refusal)))
            }
        }
    }

    fn refusal(&self, refusal: &Refusal<'_>) -> Failure {
        let Refusal { status, code, said, kind, is_json, .. } = refusal;
        let lower = said.to_ascii_lowercase();
        let name = self.place.name();
        let denied = |what: &str, hint: &str| {
            let text = format!("{name} {what} (HTTP {status}{}). {hint}", refusal.words());
            Failure::new(ErrorKind::Denied, text, Retry::Never)
        };
        if *status < 400 || !is_json {
            let what = format!("answered HTTP {status} with something that is no token answer ({kind})");
            return self.place.protocol(&what);
        }
        if lower.contains("multiple user assigned") {
            let text = format!(
                "{name} has several identities and was told none{}. Set PGAAD_CLIENT_ID to the client id of the one \
                 to use.",
                refusal.words()
            );
            return Failure::new(ErrorKind::Config, text, Retry::Never);
        }
        if *code == "invalid_resource" || lower.contains("aadsts500011") {
            return denied("gives no token for this resource", "Check PGAAD_SCOPE and PGAAD_CLOUD.");
        }
        if matches!(status, 401 | 403) {
            return denied(
                "did not let us in",
                "Are the platform's variables those of this machine, and not old ones?",
            );
        }
        let about_identity = lower.contains("identity") || code.to_ascii_lowercase().contains("identity");
        if matches!(status, 400 | 404) && (about_identity || self.managed.selector.is_some()) {
            return self.unknown_identity(&refusal.words());
        }
        denied("refused", "Show whoever runs this machine the message.")
    }

    /// The endpoint does not know the identity. One that was named on purpose has no substitute.
    pub(super) fn unknown_identity(&self, words: &str) -> Failure {
        let name = self.place.name();
        let text = match &self.managed.selector {
            Some(selector) => {
                let (kind, id) = match selector {
                    Selector::Client(id) => ("client id", id),
                    Selector::Object(id) => ("object id", id),
                    Selector::Resource(id) => ("resource id", id),
                };
                let hint = if self.has_choice {
                    "Assign that identity here, or correct the setting; a new assignment takes minutes to spread."
                } else {
                    "Unset it here."
                };
                format!(
                    "{name} knows no identity with the {kind} {id} ({}){words}. {hint}",
                    self.managed.name
                )
            }
            None => {
                let hint = if self.has_choice {
                    ", and set PGAAD_CLIENT_ID if it is a user-assigned one"
                } else {
                    ""
                };
                format!(
                    "{name} has no identity to give tokens for{words}. Assign one to what the program runs on{hint}."
                )
            }
        };
        Failure::nothing_here(text).here(self.managed.is_deliberate)
    }

    /// Some agents pass over the parameter that names an identity, and answer for another one.
    fn check_echo(&self, json: &Value) -> Result<(), Failure> {
        let Some(selector) = &self.managed.selector else { return Ok(()) };
        let (names, id): (&[&str], _) = match selector {
            Selector::Client(id) => (&["client_id"], id),
            Selector::Object(id) => (&["object_id"], id),
            Selector::Resource(id) => (&["msi_res_id", "mi_res_id"], id),
        };
        let echo = names.iter().find_map(|name| json.get(*name)?.as_str().filter(|echo| !echo.is_empty()));
        match echo {
            Some(echo) if echo.eq_ignore_ascii_case(id) => Ok(()),
            None if !self.must_echo => Ok(()),
            Some(_) => Err(self.unknown_identity(": it answered for another one")),
            None => Err(self.unknown_identity(": it did not say whose token it gave, as an old agent does")),
        }
    }
}

/// The end of a token, where an old endpoint writes it as a date.
fn with_seconds(mut json: Value) -> Value {
    if let Some(seconds) = json["expires_on"].as_str().and_then(dates::american) {
        json["expires_on"] = seconds.into();
    }
    json
}

impl Refusal<'_> {
    /// The endpoint's words, to stand behind ours.
    pub(super) fn words(&self) -> String {
        answer::behind(&self.said)
    }
}

/// Whether the machine says that it is Azure's: then the metadata service is there, slow or failing as it may be.
pub(super) fn is_azure(env: Environment<'_>) -> bool {
    let has_variable = ["IDENTITY_ENDPOINT", "MSI_ENDPOINT"].iter().any(|name| env.var(name).is_some());
    has_variable || has_azures_tag(std::path::Path::new("/sys/class/dmi/id/chassis_asset_tag"))
}

/// Azure's virtual machines carry this tag (Microsoft Learn: "Azure Instance Metadata Service"; cloud-init knows them
/// by it).
fn has_azures_tag(file: &std::path::Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|tag| tag.trim() == "7783-7084-3265-9085-8269-3286-77")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chassis_with_azures_tag_is_azures() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tag");
        for (tag, azures) in
            [("7783-7084-3265-9085-8269-3286-77\n", true), ("", false), ("No Asset Tag\n", false)]
        {
            std::fs::write(&file, tag).unwrap();
            assert_eq!(has_azures_tag(&file), azures, "{tag}");
        }
        assert!(!has_azures_tag(&dir.path().join("none")));
    }
}
