//! Federated credentials: assertions of an issuer that the application or identity trusts.

use std::io;
use std::sync::Mutex;
use std::time::SystemTime;

use serde_json::Value;

use super::assertion::{Shown, check_times, client, malformed};
use super::directory::{APP_ONE, APP_TWO, IDENTITY_ONE};
use super::grant::Refusal;
use crate::issuer::{CLUSTER_SUBJECT, EXCHANGE, GITHUB_SUBJECT, Issuer, PIPELINES_SUBJECT};
use crate::jwt::Parts;
use crate::sync::lock;

/// Whom a client trusts: an issuer and a subject, both to the letter.
struct Credential {
    client_id: String,
    issuer: String,
    subject: String,
}

/// The issuers, and the credentials of all clients.
pub(super) struct Federation {
    pub(super) cluster: Issuer,
    pub(super) github: Issuer,
    pub(super) pipelines: Issuer,
    credentials: Mutex<Vec<Credential>>,
    shown: Shown,
}

impl Federation {
    pub(super) fn new() -> io::Result<Self> {
        let this = Self {
            cluster: Issuer::cluster()?,
            github: Issuer::github()?,
            pipelines: Issuer::pipelines()?,
            credentials: Mutex::default(),
            shown: Shown::default(),
        };
        for client_id in [APP_ONE.client_id, APP_TWO.client_id, IDENTITY_ONE.client_id] {
            this.add(client_id, this.cluster.url(), CLUSTER_SUBJECT);
        }
        this.add(APP_ONE.client_id, this.github.url(), GITHUB_SUBJECT);
        this.add(APP_ONE.client_id, this.pipelines.url(), PIPELINES_SUBJECT);
        Ok(this)
    }

    pub(super) fn add(&self, client_id: &str, issuer: &str, subject: &str) {
        let [client_id, issuer, subject] = [client_id, issuer, subject].map(str::to_owned);
        lock(&self.credentials).push(Credential { client_id, issuer, subject });
    }

    /// Whether an assertion of this issuer proves that the client is `id`.
    pub(super) fn judge(
        &self,
        id: &str,
        issuer: &str,
        parts: &Parts<'_>,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        let claims = &parts.claims;
        let subject = claims.get("sub").and_then(Value::as_str).ok_or_else(|| malformed("no sub"))?;
        let audience = match claims.get("aud") {
            Some(Value::Array(list)) if list.len() == 1 => list[0].as_str(),
            Some(one) => one.as_str(),
            None => None,
        };
        let audience = audience.ok_or_else(|| malformed("not exactly one aud"))?;
        let credentials = lock(&self.credentials);
        let mine: Vec<_> = credentials.iter().filter(|credential| credential.client_id == id).collect();
        if mine.is_empty() {
            let text = format!(
                "No matching federated identity record found for presented assertion. Assertion Issuer: '{issuer}'. \
                 Assertion Subject: '{subject}'. Assertion Audience: '{audience}'."
            );
            return Err(Refusal::new(400, "invalid_request", 70021, text));
        }
        let no_match = |code, what: &str, value: &str| {
            let text = format!(
                "No matching federated identity record found for presented assertion {what} '{value}'. Check your \
                 federated identity credential Subject, Audience and Issuer against the presented assertion."
            );
            client(code, text)
        };
        let known = [&self.cluster, &self.github, &self.pipelines].into_iter().find(|i| i.url() == issuer);
        let known = known
            .filter(|_| mine.iter().any(|credential| credential.issuer == issuer))
            .ok_or_else(|| no_match(700211, "issuer", issuer))?;
        known.has_signed(parts).map_err(|why| {
            client(50013, format!("Assertion failed signature validation. [Reason - {why}.]"))
        })?;
        if audience != EXCHANGE {
            return Err(no_match(700212, "audience", audience));
        }
        if !mine.iter().any(|credential| credential.issuer == issuer && credential.subject == subject) {
            return Err(no_match(700213, "subject", subject));
        }
        check_times(claims, now, i64::from(u32::MAX))?;
        if known.allows_reuse() { Ok(()) } else { self.shown.once(claims) }
    }
}
