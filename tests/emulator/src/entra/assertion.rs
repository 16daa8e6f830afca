//! Client assertions: what those of certificates and those of issuers have in common.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::State;
use super::grant::{Refusal, missing, timestamp};
use crate::clock::{shifted, unix};
use crate::jwt::{Claims, Parts};
use crate::sync::lock;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How far the client's clock may be ahead.
const SKEW: i64 = 300;

impl State {
    /// Whether a client assertion, posted to this URL, proves that the client is `id`.
    pub(super) fn check_assertion(
        &self,
        id: &str,
        kind: Option<&str>,
        assertion: Option<&str>,
        url: &str,
    ) -> Result<(), Refusal> {
        let kind = kind.ok_or_else(|| missing("client_assertion_type"))?;
        let assertion = assertion.filter(|a| !a.is_empty()).ok_or_else(|| missing("client_assertion"))?;
        if kind != JWT_BEARER {
            let text = format!("The client_assertion_type '{kind}' is not supported.");
            return Err(Refusal::new(400, "invalid_request", 9002313, text));
        }
        let parts = Parts::of(assertion).map_err(|why| malformed(&why))?;
        let issuer = parts.claims.get("iss").and_then(Value::as_str).ok_or_else(|| malformed("no iss"))?;
        let now = shifted(self.config().clock_skew);
        match issuer.starts_with("https://") {
            true => self.federation.judge(id, issuer, &parts, now),
            false => self.certificates.judge(id, &parts, url, now),
        }
    }
}

/// AADSTS50027.
pub(super) fn malformed(why: &str) -> Refusal {
    Refusal::new(
        400,
        "invalid_request",
        50027,
        format!("JWT token is invalid or malformed. [Reason - {why}.]"),
    )
}

/// A refusal of the client, as most are.
pub(super) fn client(code: u32, text: impl Into<String>) -> Refusal {
    Refusal::new(401, "invalid_client", code, text)
}

/// An integer among the claims; not a float, not a string.
pub(super) fn integer(claims: &Claims, name: &str) -> Result<i64, Refusal> {
    let value = claims.get(name).and_then(Value::as_i64);
    value.ok_or_else(|| malformed(&format!("{name} is not an integer")))
}

/// AADSTS700024, unless now is between `nbf` and `exp`, and `exp` at most `longest` seconds away.
pub(super) fn check_times(claims: &Claims, now: SystemTime, longest: i64) -> Result<(), Refusal> {
    let (begin, end) = (integer(claims, "nbf")?, integer(claims, "exp")?);
    let issued = if claims.contains_key("iat") { integer(claims, "iat")? } else { begin };
    let unix = unix(now);
    if begin.max(issued) <= unix + SKEW && unix < end && end <= unix + longest {
        return Ok(());
    }
    let show = |time: SystemTime| timestamp(time).replace(' ', "T");
    let at = |seconds: i64| show(UNIX_EPOCH + Duration::from_secs(seconds.clamp(0, 253_402_300_799) as u64));
    Err(client(
        700024,
        format!(
            "Client assertion is not within its valid time range. Current time: {}, assertion valid from {}, expiry \
             time of assertion {}.",
            show(now),
            at(begin.max(issued)),
            at(end)
        ),
    ))
}

/// The ids of the assertions that were shown.
#[derive(Default)]
pub(super) struct Shown(Mutex<HashSet<String>>);

impl Shown {
    /// Refuses an assertion that was shown before.
    pub(super) fn once(&self, claims: &Claims) -> Result<(), Refusal> {
        let id = claims.get("jti").and_then(Value::as_str).ok_or_else(|| malformed("no jti"))?;
        match lock(&self.0).insert(id.to_owned()) {
            true => Ok(()),
            false => Err(malformed("jti was used before")),
        }
    }
}
