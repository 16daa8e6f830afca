//! A token: the secret, and how long it lives.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::os;
use crate::secret::Secret;

/// One instant, on the clock that tokens age by and on the wall clock.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) boot: Duration,
    pub(crate) unix: i64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { boot: os::since_boot(), unix: os::unix_now() }
    }
}

/// An access token as it was answered. On cache lines of its own, as [`Secret::apart`].
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Token {
    pub(crate) secret: Secret,
    /// Unix seconds.
    pub(crate) expires_on: i64,
    /// When it was asked for, on the boot clock.
    pub(crate) asked: Duration,
    /// How long it lives from then.
    pub(crate) life: Duration,
    /// When the service advises to ask for the next one, from then.
    pub(crate) refresh_in: Option<Duration>,
}

impl Token {
    /// On the boot clock: from when on it is not handed out, a little before its end, for clocks differ.
    pub(crate) fn dead_at(&self) -> Duration {
        self.asked + self.life - (self.life / 20).min(Duration::from_secs(10))
    }
}

/// A number in the claims of a JWT (RFC 7519), unverified: the database verifies, we only plan by it.
pub(crate) fn claim(token: &str, name: &str) -> Option<i64> {
    let payload = token.split('.').nth(1)?.trim_end_matches('=');
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims.get(name)?.as_f64().map(|number| number as i64)
}
