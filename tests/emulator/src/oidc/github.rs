//! GitHub Actions: `GET` with the audience behind the query that the runner's URL has already.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use serde_json::json;

use super::{answer, bearer, json_response, parameters, variables};
use crate::Emulator;
use crate::entra::State;
use crate::front::{Desk, Front};
use crate::http::{Request, Response};
use crate::issuer::GITHUB_SUBJECT;
use crate::random;

/// The endpoint of one job, which speaks for [`GITHUB_SUBJECT`].
pub struct GitHub {
    front: Front,
    token: String,
}

/// Two slashes in a row, as in the real one.
const PATH: &str =
    "/k7Wc2n9Q//idtoken/6f1c2a30-0000-4000-8000-000000000001/6f1c2a30-0000-4000-8000-000000000002";

impl GitHub {
    /// Starts one, with a certificate of the token service's authority.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(emulator: &Emulator) -> Self {
        Self::try_start(emulator).unwrap_or_else(|error| panic!("cannot start the GitHub endpoint: {error}"))
    }

    fn try_start(emulator: &Emulator) -> io::Result<Self> {
        let token = format!("ghs_{}", random::text::<60>());
        let desk = Desk::new(Some(emulator.certificate()?));
        let (entra, secret, serving) =
            (Arc::clone(emulator.entra().state()), token.clone(), Arc::clone(&desk));
        let front = Front::start("github", desk, move |request, fault| {
            answer(&serving, request, fault, "value", |lifetime| decide(request, &secret, &entra, lifetime))
        })?;
        Ok(Self { front, token })
    }

    /// Its faults, and what it has seen.
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// What the runner sets for a job that may have an assertion.
    pub fn env(&self) -> Vec<(String, OsString)> {
        let url = format!("https://localhost:{}{PATH}?api-version=2.0", self.front.port());
        variables([
            ("ACTIONS_ID_TOKEN_REQUEST_URL", url),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", self.token.clone()),
        ])
    }
}

fn decide(request: &Request, token: &str, entra: &State, lifetime: i64) -> Result<String, Response> {
    let refuse = |status, text: &str| json_response(status, &json!({"message": text}));
    let Some((PATH, list)) = parameters(request) else { return Err(refuse(404, "Not Found")) };
    if request.method != "GET" {
        return Err(refuse(405, "Method Not Allowed").with("Allow", "GET"));
    }
    if bearer(request) != Some(token) {
        return Err(refuse(401, "Invalid or missing token"));
    }
    let list: Vec<(&str, &str)> = list.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let audience = match list[..] {
        [("api-version", "2.0")] => "https://github.com/contoso", // its own idea, when none is named
        [("api-version", "2.0"), ("audience", audience)] => audience,
        _ => return Err(refuse(400, "The parameters are not api-version=2.0 and audience")),
    };
    Ok(entra.github().assertion_with(GITHUB_SUBJECT, lifetime, |claims| {
        claims.insert("aud".to_owned(), json!(audience));
        claims.insert("ref".to_owned(), json!("refs/heads/main"));
        claims.insert("repository".to_owned(), json!("contoso/shop"));
    }))
}
