//! Cloud Shell, where the token is that of the person who sits at it.

use serde_json::{Value, json};

use super::ask::{Ask, Contract, Denial, metadata};
use super::{Grant, Identities, Platform};
use crate::entra::DEVELOPER;
use crate::http::Request;

/// Cloud Shell.
pub struct CloudShell;

const CONTRACT: Contract = Contract { method: "POST", path: "/oauth2/token", versions: &[], selectors: &[] };

impl Platform for CloudShell {
    const SECRET: Option<&'static str> = None;

    fn identities(&self) -> Identities {
        Identities { system: Some(&DEVELOPER), user_assigned: Vec::new(), lifetime: 3599 }
    }

    fn env(&self, origin: &str) -> Vec<(&'static str, String)> {
        vec![
            ("MSI_ENDPOINT", format!("{origin}{}", CONTRACT.path)),
            ("AZUREPS_HOST_ENVIRONMENT", "cloud-shell/1.0".to_owned()),
        ]
    }

    fn read(&self, request: &Request) -> Result<Ask, Denial> {
        metadata(request)?;
        CONTRACT.read(request)
    }

    fn code(&self, denial: &Denial) -> (u16, &'static str) {
        match denial {
            Denial::Path => (404, "not_found"),
            Denial::Method(_) => (405, "method_not_allowed"),
            Denial::UnknownResource(_) => (400, "invalid_resource"),
            _ => (400, "invalid_request"),
        }
    }

    /// The service's own words lie one level below.
    fn error(&self, _: u16, error: &str, text: &str) -> Value {
        json!({"error": {"code": error, "message": text}})
    }

    fn answer(&self, grant: &Grant) -> Value {
        let mut body = grant.in_strings();
        body["scope"] = json!("user_impersonation");
        body.as_object_mut().map(|body| body.remove("client_id"));
        body
    }
}
