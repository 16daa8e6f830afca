//! Cloud Shell, whose tokens are those of the user before it (Microsoft Learn: "Azure Cloud Shell, acquire a token").

use super::endpoint::{Endpoint, nothing_special, platform_place, usually_transient};
use crate::credential::{Ask, Failure, entra, retry};
use crate::http::{FORM, Method};
use crate::settings::Managed;
use crate::token::Token;

pub(super) fn fetch(ask: &Ask<'_>, managed: &Managed, base: &str) -> Result<Token, Failure> {
    let endpoint = Endpoint {
        place: platform_place(ask.settings, "MSI_ENDPOINT", base, base.to_string())?,
        source: "cloud_shell",
        headers: vec![("Metadata", "true")],
        secret: None,
        managed,
        is_transient: usually_transient,
        patience: &retry::USUAL,
        has_choice: false,
        must_echo: false,
        may_be_absent: false,
        refused: nothing_special,
    };
    if managed.selector.is_some() {
        return Err(endpoint.unknown_identity(": Cloud Shell has its user's identity alone"));
    }
    let form = entra::form(&[("resource", ask.resource())]);
    endpoint.token(ask, &Method::Post { content_type: FORM, body: &form })
}
