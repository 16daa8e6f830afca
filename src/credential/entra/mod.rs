//! The token endpoint of Microsoft Entra ID, v2.0: the client credentials grant (RFC 6749 section 4.4; Microsoft
//! Learn: "OAuth 2.0 client credentials flow on the Microsoft identity platform").

mod aadsts; //  what error codes mean
mod refusal; // what the endpoint says no with

use std::time::Instant;

use super::place::{CHECK_ROOTS, Hints, Place};
use super::{Ask, Failure, answer, log_request, retry};
use crate::error::Error;
use crate::http::{Answer, FORM, Method};
use crate::random;
use crate::secret::Secret;
use crate::settings::{Principal, Settings};
use crate::token::{Moment, Token};
use crate::url;

pub(super) use refusal::{STALE_ASSERTION, code_in, has_code, hint};

/// Who asks, and how the messages call the proof.
pub(super) struct Application<'a> {
    pub(super) principal: &'a Principal,
    /// "client secret"
    pub(super) proof: &'static str,
    /// The setting or variable that holds it.
    pub(super) proof_name: &'a str,
}

/// What one request carries to prove who asks. Never repeated, even where the service repeats it.
pub(super) enum Proof {
    ClientSecret(Secret),
    /// A signed statement of who it is (RFC 7523).
    Assertion(Secret),
}

impl Proof {
    fn secret(&self) -> &Secret {
        match self {
            Self::ClientSecret(secret) | Self::Assertion(secret) => secret,
        }
    }
}

/// The token endpoint of the application's tenant, where the settings say it is.
pub(super) fn place(settings: &Settings, tenant: &str) -> Result<Place, Error> {
    let hints = Hints {
        network: "Check the network, PGAAD_PROXY and PGAAD_AUTHORITY_HOST.",
        untrusted: CHECK_ROOTS,
        stranger: "Check PGAAD_AUTHORITY_HOST, and whether a proxy or login page answers in its place.",
    };
    let authority = &settings.authority;
    Place::public(settings, authority.token_url(tenant), authority.to_string(), hints)
}

/// Asks for a token, again where that helps. Each request has a proof of its own.
pub(super) fn fetch(
    place: &Place,
    ask: &Ask<'_>,
    application: &Application<'_>,
    mut prove: impl FnMut() -> Result<Proof, Failure>,
) -> Result<Token, Failure> {
    retry::until(&retry::USUAL, ask.deadline, || {
        let proof = prove()?;
        let form = url::form(&fields(application, &proof, ask.scope));
        let (begun, request_id) = (Instant::now(), random::guid());
        let headers = [("Accept", "application/json"), ("client-request-id", request_id.as_str())];
        let post = Method::Post { content_type: FORM, body: &form };
        let (result, correlation_id) = match place.ask(&post, &headers, ask.deadline) {
            Ok((answer, started)) => (
                read(&answer, started, place, application, &proof),
                refusal::correlation_id(&answer).unwrap_or(request_id),
            ),
            Err(failure) => (Err(failure), request_id),
        };
        let who = [
            ("authority", place.name()),
            ("tenant", &application.principal.tenant),
            ("client_id", &application.principal.client_id),
            ("scope", ask.scope),
            ("correlation_id", &correlation_id),
        ];
        log_request(ask, &who, begun, &result);
        result
    })
}

/// What an answer says.
fn read(
    answer: &Answer,
    started: Moment,
    place: &Place,
    application: &Application<'_>,
    proof: &Proof,
) -> Result<Token, Failure> {
    match (answer.status, answer::object(answer)) {
        (200, Some(json)) => answer::token(json, started, answer).map_err(|why| {
            place.protocol(&format!("answered with a token that cannot be used: {why}"))
        }),
        (status @ 300..400, _) => Err(place.protocol(&format!(
            "answered with a redirect (HTTP {status}), which is not followed: it would carry the secret elsewhere"
        ))),
        (_, json) => Err(refusal::read(answer, json.as_ref(), place, application, proof.secret())),
    }
}

fn fields<'a>(
    application: &Application<'a>,
    proof: &'a Proof,
    scope: &'a str,
) -> Vec<(&'static str, &'a str)> {
    let mut fields = vec![
        ("grant_type", "client_credentials"),
        ("client_id", &application.principal.client_id),
        ("scope", scope),
    ];
    match proof {
        Proof::ClientSecret(secret) => fields.push(("client_secret", secret.reveal())),
        Proof::Assertion(assertion) => {
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            fields.push(("client_assertion_type", kind));
            fields.push(("client_assertion", assertion.reveal()));
        }
    }
    fields
}
