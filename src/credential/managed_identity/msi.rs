//! Azure Machine Learning, and App Service before 2019 (Microsoft Learn: "Use managed identities for App Service and
//! Azure Functions", version 2017-09-01).

use super::endpoint::{Endpoint, Spelling, platform_place, url};
use crate::credential::{Ask, Failure};
use crate::http::Method;
use crate::secret::Secret;
use crate::settings::Managed;
use crate::token::Token;

const VERSION: &str = "2017-09-01";

const SPELLING: Spelling =
    Spelling { client_id: "clientid", object_id: "principal_id", resource_id: "mi_res_id" };

pub(super) fn fetch(ask: &Ask<'_>, managed: &Managed, base: &str, secret: &Secret) -> Result<Token, Failure> {
    let url = url(base, VERSION, ask, Some((managed, &SPELLING)));
    let place = platform_place(ask.settings, "MSI_ENDPOINT", base, url)?;
    let endpoint = Endpoint {
        headers: vec![("secret", secret.reveal())],
        secret: Some(secret),
        ..Endpoint::usual(place, "msi", managed)
    };
    endpoint.token(ask, &Method::Get)
}
