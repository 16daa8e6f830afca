//! App Service, Functions, Container Apps and Automation (Microsoft Learn: "Use managed identities for App Service and
//! Azure Functions", REST endpoint reference).

use super::endpoint::{Endpoint, Spelling, nothing_special, platform_place, url, usually_transient};
use crate::credential::{Ask, Failure, retry};
use crate::http::Method;
use crate::secret::Secret;
use crate::settings::Managed;
use crate::token::Token;

const VERSION: &str = "2019-08-01";

const SPELLING: Spelling =
    Spelling { client_id: "client_id", object_id: "principal_id", resource_id: "mi_res_id" };

pub(super) fn fetch(ask: &Ask<'_>, managed: &Managed, base: &str, secret: &Secret) -> Result<Token, Failure> {
    let url = url(base, VERSION, ask, managed, &SPELLING);
    let endpoint = Endpoint {
        place: platform_place(ask.settings, "IDENTITY_ENDPOINT", base, url)?,
        source: "app_service",
        // Automation wants the second.
        headers: vec![("X-IDENTITY-HEADER", secret.reveal()), ("Metadata", "true")],
        secret: Some(secret),
        managed,
        is_transient: usually_transient,
        patience: &retry::USUAL,
        has_choice: true,
        must_echo: false,
        may_be_absent: false,
        refused: nothing_special,
    };
    endpoint.token(ask, &Method::Get)
}
