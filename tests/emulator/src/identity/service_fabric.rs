//! Service Fabric: TLS with a certificate that nobody signed, so that clients go by its thumbprint.

use std::io;
use std::sync::Arc;

use ring::digest;
use rustls::ServerConfig;
use serde_json::{Value, json};

use super::ask::{Ask, Contract, Denial, secret};
use super::{Grant, Platform, imds, new_secret};
use crate::http::Request;
use crate::random::{guid, hex};
use crate::tls::Identity;

/// A Service Fabric node.
pub struct ServiceFabric {
    secret: String,
    announced: Identity,
    stranger: Identity,
}

const HEADER: &str = "Secret";
const VERSION: &str = "2019-07-01-preview";

const CONTRACT: Contract = Contract { method: "GET", path: imds::PATH, versions: &[VERSION], selectors: &[] };

impl ServiceFabric {
    /// One with a certificate of its own.
    ///
    /// # Panics
    /// If there are no certificates to be had.
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Self {
        let certificate = || {
            Identity::self_signed(&["ServiceFabricNode"])
                .unwrap_or_else(|error| panic!("cannot make a certificate: {error}"))
        };
        Self { secret: new_secret(), announced: certificate(), stranger: certificate() }
    }

    /// The SHA-1 of the certificate that the variables announce.
    pub fn thumbprint(&self) -> String {
        let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.announced.der());
        hex(sha1.as_ref()).to_uppercase()
    }

    pub(super) fn certificate(&self, announced: bool) -> io::Result<Arc<ServerConfig>> {
        if announced { self.announced.server_config() } else { self.stranger.server_config() }
    }
}

impl Platform for ServiceFabric {
    const SECRET: Option<&'static str> = Some(HEADER);

    fn tls(&self) -> io::Result<Option<Arc<ServerConfig>>> {
        self.certificate(true).map(Some)
    }

    fn env(&self, origin: &str) -> Vec<(&'static str, String)> {
        vec![
            ("IDENTITY_ENDPOINT", format!("{origin}{}", CONTRACT.path)),
            ("IDENTITY_HEADER", self.secret.clone()),
            ("IDENTITY_SERVER_THUMBPRINT", self.thumbprint()),
            ("IDENTITY_API_VERSION", VERSION.to_owned()),
        ]
    }

    fn read(&self, request: &Request) -> Result<Ask, Denial> {
        secret(request, HEADER, &self.secret)?;
        CONTRACT.read(request)
    }

    fn code(&self, denial: &Denial) -> (u16, &'static str) {
        match denial {
            Denial::Path => (404, "NotFound"),
            Denial::Method(_) => (405, "MethodNotAllowed"),
            Denial::Header(_) => (400, "SecretHeaderNotFound"),
            Denial::Secret(_) | Denial::UnknownIdentity => (404, "ManagedIdentityNotFound"),
            Denial::Version => (400, "InvalidApiVersion"),
            Denial::NoResource => (400, "ArgumentNullOrEmpty"),
            Denial::UnknownResource(_) => (500, "InternalServerError"),
            _ => (400, "BadRequest"),
        }
    }

    fn error(&self, _: u16, error: &str, text: &str) -> Value {
        json!({"error": {"correlationId": guid(), "code": error, "message": text}})
    }

    fn answer(&self, grant: &Grant) -> Value {
        json!({
            "token_type": "Bearer",
            "access_token": grant.token,
            "expires_on": grant.expires_on(),
            "resource": grant.resource,
        })
    }
}
