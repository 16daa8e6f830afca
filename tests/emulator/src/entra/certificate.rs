//! Assertions that the client signed with the key of a certificate.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest;
use ring::signature::RSA_PSS_2048_8192_SHA256;
use serde_json::Value;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::assertion::{Shown, check_times, client, malformed};
use super::directory::App;
use super::grant::Refusal;
use crate::clock::unix;
use crate::jwt::Parts;
use crate::random;
use crate::sync::lock;

/// The longest life of an assertion, with a minute for a clock that is ahead.
const LONGEST: i64 = 660;

/// Certificates in DER, by client id.
type Known = Mutex<HashMap<&'static str, Vec<Vec<u8>>>>;

/// What the service knows of the applications' certificates.
#[derive(Default)]
pub(super) struct Certificates {
    /// Those of the applications themselves.
    registered: Known,
    /// Those of authorities whose certificates an application may use.
    trusted: Known,
    shown: Shown,
}

impl Certificates {
    pub(super) fn register(&self, app: &App, der: &[u8]) {
        add(&self.registered, app, der);
    }

    pub(super) fn trust(&self, app: &App, der: &[u8]) {
        add(&self.trusted, app, der);
    }

    /// Whether an assertion that was posted to `url` proves that the client is `id`.
    pub(super) fn judge(
        &self,
        id: &str,
        parts: &Parts<'_>,
        url: &str,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        parts.header_is("typ", "JWT").map_err(|why| malformed(&why))?;
        let thumbprint = parts.header.get("x5t#S256").and_then(Value::as_str);
        if parts.header_is("alg", "PS256").is_err() || thumbprint.is_none() {
            // The real service takes RS256 with x5t too.
            return Err(refuse(id, "The emulator wants alg PS256, and x5t#S256", ""));
        }
        let thumbprint = thumbprint.unwrap_or_default();
        let chain = chain(parts, thumbprint)?;
        let leaf = self.find(id, thumbprint, &chain)?;
        let leaf = parse(&leaf)?;
        if !parts.signed_by(&RSA_PSS_2048_8192_SHA256, &leaf.public_key().subject_public_key.data) {
            let reason = "Key was found, but use of the key to verify the signature failed";
            return Err(refuse(id, reason, thumbprint));
        }
        for certificate in chain.iter().map(|der| parse(der)).chain([Ok(leaf)]) {
            let validity = certificate?.validity().clone();
            let time = ASN1Time::from_timestamp(unix(now)).map_err(|_| malformed("no time"))?;
            if time > validity.not_after {
                return Err(refuse(id, "The key used is expired", thumbprint));
            }
            if time < validity.not_before {
                return Err(refuse(id, "The key used is not yet valid", thumbprint));
            }
        }
        self.check_claims(id, parts, url, now)
    }

    fn check_claims(&self, id: &str, parts: &Parts<'_>, url: &str, now: SystemTime) -> Result<(), Refusal> {
        let text = |name: &str| parts.claims.get(name).and_then(Value::as_str);
        if ["iss", "sub"].iter().any(|name| text(name).is_none_or(|value| !value.eq_ignore_ascii_case(id))) {
            let text = "Client assertion application identifier doesn't match 'client_id' parameter.";
            return Err(client(700021, text));
        }
        if text("aud") != Some(url) {
            let text = "Client assertion audience claim does not match Realm issuer.";
            return Err(client(700023, text));
        }
        check_times(&parts.claims, now, LONGEST)?;
        if !text("jti").is_some_and(random::is_guid) {
            return Err(malformed("jti is not a GUID"));
        }
        self.shown.once(&parts.claims)
    }

    /// The certificate by this name: one of the application's own, or the first of a chain that it trusts.
    fn find(&self, id: &str, thumbprint: &str, chain: &[Vec<u8>]) -> Result<Vec<u8>, Refusal> {
        let of = |known: &Known| lock(known).get(id).cloned().unwrap_or_default();
        if let Some(own) = of(&self.registered).into_iter().find(|der| name(der) == thumbprint) {
            return Ok(own);
        }
        let trusted = of(&self.trusted);
        let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
            return Err(refuse(id, "The key was not found", thumbprint));
        };
        if trusted.is_empty() {
            return Err(refuse(id, "The key was not found", thumbprint));
        }
        if trusted.iter().any(|authority| authority == last || is_signed(last, authority)) {
            return Ok(first.clone());
        }
        let subject = parse(first)?.subject().to_string();
        let text = format!(
            "Invalid certificate - subject name in certificate is not authorized. SubjectNames/\
             SubjectAlternativeNames (up to 10) in token certificate are: '{subject}'."
        );
        Err(client(700030, text))
    }
}

fn add(known: &Known, app: &App, der: &[u8]) {
    assert!(parse(der).is_ok(), "not a certificate in DER");
    lock(known).entry(app.client_id).or_default().push(der.to_owned());
}

/// A certificate's name in `x5t#S256`.
fn name(der: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, der))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Refusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(malformed("not a certificate")),
    }
}

/// Whether the holder of `authority` signed a certificate.
fn is_signed(der: &[u8], authority: &[u8]) -> bool {
    let (Ok(certificate), Ok(authority)) = (parse(der), parse(authority)) else { return false };
    authority.is_ca()
        && certificate.issuer() == authority.subject()
        && certificate.verify_signature(Some(authority.public_key())).is_ok()
}

/// The certificates of `x5c`: that of the thumbprint first, each signed by the next. Empty if there is no `x5c`.
fn chain(parts: &Parts<'_>, thumbprint: &str) -> Result<Vec<Vec<u8>>, Refusal> {
    let Some(list) = parts.header.get("x5c") else { return Ok(Vec::new()) };
    let list = list.as_array().filter(|list| !list.is_empty()).ok_or_else(|| malformed("x5c is no list"))?;
    let decode = |value: &Value| STANDARD.decode(value.as_str()?).ok().filter(|der| parse(der).is_ok());
    let chain: Option<Vec<_>> = list.iter().map(decode).collect();
    let chain = chain.ok_or_else(|| malformed("x5c: not certificates in base64"))?;
    if name(&chain[0]) != thumbprint {
        return Err(malformed("x5c does not begin with the certificate of x5t#S256"));
    }
    match chain.windows(2).all(|pair| is_signed(&pair[0], &pair[1])) {
        true => Ok(chain),
        false => Err(malformed("x5c is not in order")),
    }
}

/// AADSTS700027.
fn refuse(id: &str, reason: &str, thumbprint: &str) -> Refusal {
    let text = format!(
        "The certificate with identifier used to sign the client assertion is not registered on application. \
         [Reason - {reason}., Thumbprint of key used by client: '{thumbprint}', Please visit the Azure Portal, Graph \
         Explorer or directly use MS Graph to see configured keys for app Id '{id}'.]"
    );
    client(700027, text)
}
