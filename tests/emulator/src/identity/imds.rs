//! The instance metadata service of virtual machines, scale sets and AKS nodes.

use serde_json::{Value, json};

use super::ask::{Ask, By, Contract, Denial, metadata};
use super::{Grant, Platform};
use crate::faults::Fault;
use crate::http::Request;

/// The instance metadata service.
pub struct Imds;

pub(super) const PATH: &str = "/metadata/identity/oauth2/token";

const CONTRACT: Contract = Contract {
    method: "GET",
    path: PATH,
    versions: &["2018-02-01"],
    selectors: &[("client_id", By::Client), ("object_id", By::Object), ("msi_res_id", By::Resource)],
};

impl Imds {
    /// An origin where none is, nor anything else.
    pub const NONE: &str = "http://127.0.0.1:1";

    /// What Docker Desktop's proxy says for an address where nobody is.
    pub fn unreachable() -> Fault {
        let text = "connecting to 169.254.169.254:80: connecting to 169.254.169.254:80: dial tcp \
                    169.254.169.254:80: connectex: A socket operation was attempted to an unreachable network.";
        Fault::body(403, "text/plain", text)
    }
}

impl Platform for Imds {
    const SECRET: Option<&'static str> = None;

    fn env(&self, origin: &str) -> Vec<(&'static str, String)> {
        vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", origin.to_owned())]
    }

    fn read(&self, request: &Request) -> Result<Ask, Denial> {
        if request.all("x-forwarded-for").next().is_some() {
            return Err(Denial::Forwarded);
        }
        let asked = CONTRACT.read(request);
        if let Err(Denial::Path) = asked {
            return asked;
        }
        metadata(request)?;
        asked
    }

    fn code(&self, denial: &Denial) -> (u16, &'static str) {
        match denial {
            Denial::Path => (401, "unknown_source"),
            Denial::Method(_) => (405, "method_not_allowed"),
            Denial::Header(_) => (400, "bad_request_102"),
            Denial::UnknownResource(_) => (400, "invalid_resource"),
            _ => (400, "invalid_request"),
        }
    }

    fn error(&self, _: u16, error: &str, text: &str) -> Value {
        json!({"error": error, "error_description": text})
    }

    fn answer(&self, grant: &Grant) -> Value {
        grant.in_strings()
    }
}
