//! App Service, Functions, Container Apps and Automation (Microsoft Learn: "Use managed identities for App Service and
//! Azure Functions", REST endpoint reference).

use super::endpoint::{Endpoint, Spelling, platform_place, url};
use crate::credential::{Ask, Failure};
use crate::http::Method;
use crate::secret::Secret;
use crate::settings::Managed;
use crate::token::Token;

const VERSION: &str = "2019-08-01";

const SPELLING: Spelling =
    Spelling { client_id: "client_id", object_id: "principal_id", resource_id: "mi_res_id" };

pub(super) fn fetch(ask: &Ask<'_>, managed: &Managed, base: &str, secret: &Secret) -> Result<Token, Failure> {
    let url = url(base, VERSION, ask, Some((managed, &SPELLING)));
    let place = platform_place(ask.settings, "IDENTITY_ENDPOINT", base, url)?;
    let endpoint = Endpoint {
        // Automation wants the second.
        headers: vec![("X-IDENTITY-HEADER", secret.reveal()), ("Metadata", "true")],
        secret: Some(secret),
        ..Endpoint::usual(place, "app_service", managed)
    };
    endpoint.token(ask, &Method::Get)
}
