//! Service Fabric: a cluster's own endpoint, known by its certificate (Microsoft Learn: "Leverage a managed identity of
//! a Service Fabric application").

use std::time::Duration;

use super::endpoint::{Endpoint, PLATFORM_HINTS, check_url, platform_name, url};
use crate::credential::place::{Hints, Place};
use crate::credential::retry::Patience;
use crate::credential::{Ask, Failure};
use crate::error::Error;
use crate::http::{Method, Pin, Trust};
use crate::secret::Secret;
use crate::settings::{Managed, config};
use crate::token::Token;

const VERSION: &str = "2019-07-01-preview";

const PATIENCE: Patience = Patience { tries: 5, first_pause: Duration::from_secs(1) };

const HINTS: Hints = Hints {
    untrusted: "The secret was not sent. Are IDENTITY_ENDPOINT and IDENTITY_SERVER_THUMBPRINT those of this service?",
    ..PLATFORM_HINTS
};

pub(super) fn fetch(
    ask: &Ask<'_>,
    managed: &Managed,
    base: &str,
    secret: &Secret,
    thumbprint: &str,
) -> Result<Token, Failure> {
    check_url("IDENTITY_ENDPOINT", base)?;
    if !base.starts_with("https://") {
        return Err(config(
            "IDENTITY_ENDPOINT must be an https URL where IDENTITY_SERVER_THUMBPRINT names its certificate.",
        )
        .into());
    }
    let pin = pin(thumbprint)?;
    let url = url(base, VERSION, ask, None);
    let name = platform_name("IDENTITY_ENDPOINT", base);
    let place = Place::near(ask.settings, url, name, Some(Trust::Pinned(pin)), HINTS)?;
    let endpoint = Endpoint {
        headers: vec![("Secret", secret.reveal())],
        secret: Some(secret),
        // An identity that is not there stays away.
        is_transient: |status| matches!(status, 429 | 500..),
        patience: &PATIENCE,
        has_choice: false,
        ..Endpoint::usual(place, "service_fabric", managed)
    };
    if managed.selector.is_some() {
        return Err(endpoint.unknown_identity(": in Service Fabric the cluster chooses the identity"));
    }
    endpoint.token(ask, &Method::Get)
}

/// 40 hexadecimal digits, with blanks or colons between them.
fn pin(thumbprint: &str) -> Result<Pin, Error> {
    let digits: String = thumbprint.chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    bytes.filter(|_| plain).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        config("IDENTITY_SERVER_THUMBPRINT must be the SHA-1 of a certificate: 40 hexadecimal digits.")
    })
}
