//! Cloud Shell, whose tokens are those of the user before it (Microsoft Learn: "Azure Cloud Shell, acquire a token").

use super::endpoint::{Endpoint, platform_place};
use crate::credential::{Ask, Failure};
use crate::http::{FORM, Method};
use crate::settings::Managed;
use crate::token::Token;
use crate::url;

pub(super) fn fetch(ask: &Ask<'_>, managed: &Managed, base: &str) -> Result<Token, Failure> {
    let place = platform_place(ask.settings, "MSI_ENDPOINT", base, base.to_string())?;
    let endpoint = Endpoint {
        headers: vec![("Metadata", "true")],
        has_choice: false,
        ..Endpoint::usual(place, "cloud_shell", managed)
    };
    if managed.selector.is_some() {
        return Err(endpoint.unknown_identity(": Cloud Shell has its user's identity alone"));
    }
    let form = url::form(&[("resource", ask.resource())]);
    endpoint.token(ask, &Method::Post { content_type: FORM, body: &form })
}
