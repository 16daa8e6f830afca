//! App Service, Functions and Container Apps.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::ask::{Ask, By, Contract, Denial, secret};
use super::{Grant, Platform, new_secret};
use crate::http::Request;
use crate::sync::lock;

/// App Service and its relatives, which know a caller by a header that changes from time to time.
pub struct AppService {
    header: Mutex<String>,
}

const HEADER: &str = "X-IDENTITY-HEADER";

const CONTRACT: Contract = Contract {
    method: "GET",
    path: "/msi/token",
    versions: &["2019-08-01"],
    selectors: &[
        ("client_id", By::Client),
        ("principal_id", By::Object),
        ("object_id", By::Object),
        ("mi_res_id", By::Resource),
    ],
};

impl AppService {
    /// One with a header of its own.
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Self {
        Self { header: Mutex::new(new_secret()) }
    }

    /// Replaces the header's value, and returns the new one. The old one is wrong from now on.
    pub fn rotate(&self) -> String {
        let new = new_secret();
        lock(&self.header).clone_from(&new);
        new
    }
}

impl Platform for AppService {
    const SECRET: Option<&'static str> = Some(HEADER);

    /// With the older pair of variables, which the platform sets too; what they name is not served here.
    fn env(&self, origin: &str) -> Vec<(&'static str, String)> {
        let header = lock(&self.header).clone();
        vec![
            ("IDENTITY_ENDPOINT", format!("{origin}{}", CONTRACT.path)),
            ("IDENTITY_HEADER", header.clone()),
            ("MSI_ENDPOINT", format!("{origin}/MSI/token/")),
            ("MSI_SECRET", header),
        ]
    }

    fn read(&self, request: &Request) -> Result<Ask, Denial> {
        secret(request, HEADER, &lock(&self.header))?;
        CONTRACT.read(request)
    }

    fn code(&self, denial: &Denial) -> (u16, &'static str) {
        code(denial)
    }

    fn error(&self, status: u16, _: &str, text: &str) -> Value {
        error(status, text)
    }

    fn answer(&self, grant: &Grant) -> Value {
        json!({
            "access_token": grant.token,
            "expires_on": grant.expires_on().to_string(),
            "resource": grant.resource,
            "token_type": "Bearer",
            "client_id": grant.who.client_id,
        })
    }
}

/// Statuses, for both contracts.
pub(super) fn code(denial: &Denial) -> (u16, &'static str) {
    let status = match denial {
        Denial::Path => 404,
        Denial::Method(_) => 405,
        Denial::Header(_) | Denial::Secret(_) => 401,
        Denial::UnknownResource(_) => 500,
        _ => 400,
    };
    (status, "")
}

/// An error's body, for both contracts.
pub(super) fn error(status: u16, text: &str) -> Value {
    json!({"statusCode": status, "message": text})
}
