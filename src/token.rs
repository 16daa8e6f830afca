//! A token: the secret, and how long it lives.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::os;
use crate::secret::Secret;

/// One instant, on the clock that tokens age by and on the wall clock.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) boot: Duration,
    /// Since 1970.
    pub(crate) wall: Duration,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { boot: os::since_boot(), wall: os::since_epoch() }
    }

    /// In Unix seconds.
    pub(crate) fn unix(&self) -> i64 {
        os::seconds(self.wall)
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
    pub(crate) origin: Origin,
}

/// Where a token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From whoever makes them.
    Entra,
    File,
    Redis,
}

impl Origin {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::File => "file",
            Self::Redis => "redis",
        }
    }
}

/// What ages, on the boot clock.
pub(crate) trait Aging {
    /// When it was asked for.
    fn asked(&self) -> Duration;
    /// How long it lives from then.
    fn life(&self) -> Duration;
    /// When it is advised to ask for the next one, from then.
    fn refresh_in(&self) -> Option<Duration> {
        None
    }
    /// When it ends by the wall clock, in Unix seconds.
    fn ends_on(&self) -> i64;
}

/// What lives that long is renewed after half of it, where nobody advises otherwise.
const LONG_LIFE: Duration = Duration::from_secs(2 * 60 * 60);

/// When what is to happen with something that ages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// From when on a newer one is fetched behind the callers' backs; on the boot clock.
    pub(crate) refresh_at: Duration,
    /// From when on callers wait for a newer one.
    stale_at: Duration,
    /// From when on it is not handed out, a little before its end, for clocks differ.
    dead_at: Duration,
    /// When it ends by the wall clock, which knows of a machine that was put aside and brought back.
    ends_on: i64,
}

impl Schedule {
    /// `refresh_before`: how much life must be left to be handed out without a try for a newer one.
    pub(crate) fn of(thing: &impl Aging, refresh_before: Duration) -> Self {
        let (asked, life) = (thing.asked(), thing.life());
        let end = asked + life;
        let dead_at = end - (life / 20).min(Duration::from_secs(10));
        let stale_at = (end - refresh_before.min(life / 2)).min(dead_at);
        let half = (life >= LONG_LIFE).then_some(life / 2);
        let advised = thing.refresh_in().or(half).map(|after| asked + after);
        Self {
            refresh_at: advised.unwrap_or(stale_at).min(stale_at),
            stale_at,
            dead_at,
            ends_on: thing.ends_on(),
        }
    }

    /// The same, with nothing to be done before callers must wait for it.
    pub(crate) fn without_advance(self) -> Self {
        Self { refresh_at: self.stale_at, ..self }
    }

    /// Whether nothing is to be done.
    pub(crate) fn is_fresh(&self) -> bool {
        os::since_boot() < self.refresh_at && !self.has_ended_by_the_wall_clock()
    }

    /// Whether callers wait for a newer one.
    pub(crate) fn is_stale(&self) -> bool {
        os::since_boot() >= self.stale_at || self.has_ended_by_the_wall_clock()
    }

    /// Whether it may be handed out. The wall clock may be wrong, so it does not end what lives.
    pub(crate) fn is_alive(&self) -> bool {
        os::since_boot() < self.dead_at
    }

    fn has_ended_by_the_wall_clock(&self) -> bool {
        os::unix_now_coarse() >= self.ends_on
    }
}

impl Aging for Token {
    fn asked(&self) -> Duration {
        self.asked
    }

    fn life(&self) -> Duration {
        self.life
    }

    fn refresh_in(&self) -> Option<Duration> {
        self.refresh_in
    }

    fn ends_on(&self) -> i64 {
        self.expires_on
    }
}

/// The claims of a JWT (RFC 7519), unverified: the database verifies, we only plan by them.
pub(crate) fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?.trim_end_matches('=');
    serde_json::from_slice(&Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?)).ok()
}

/// A number among the claims.
pub(crate) fn claim(token: &str, name: &str) -> Option<i64> {
    claims(token)?.get(name)?.as_f64().map(|number| number as i64)
}

/// The name that a token gives to its owner, for the database to know.
#[derive(Debug, PartialEq)]
pub(crate) enum Name {
    /// A user's, or a user-assigned identity's.
    Own(String),
    /// That of the resource whose system-assigned identity it is: the role's name by custom, but not for sure.
    OfHost(String),
}

/// The owner's name among the claims (Microsoft Learn: "Access token claims reference").
pub(crate) fn name(token: &str) -> Option<Name> {
    let claims = claims(token)?;
    let text = |name: &str| claims.get(name)?.as_str().filter(|text| is_name(text));
    let user = ["upn", "preferred_username", "unique_name"].iter().find_map(|name| text(name));
    if let Some(user) = user {
        return Some(Name::Own(user.into()));
    }
    // The id of a managed identity in Azure Resource Manager.
    let (parent, name) = text("xms_mirid")?.rsplit_once('/')?;
    let user_assigned = "providers/microsoft.managedidentity/userassignedidentities";
    let name = Some(name).filter(|name| is_name(name))?.to_string();
    Some(match parent.to_ascii_lowercase().ends_with(user_assigned) {
        true => Name::Own(name),
        false => Name::OfHost(name),
    })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_where_the_token_has_it() {
        let identity =
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Id";
        let machine = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm";
        let own = |name: &str| Some(Name::Own(name.into()));
        for (claims, expected) in [
            (serde_json::json!({"upn": "ann@x", "unique_name": "b"}), own("ann@x")),
            (serde_json::json!({"upn": "", "preferred_username": "p", "unique_name": "u"}), own("p")),
            (serde_json::json!({"unique_name": "live.com#a@b", "xms_mirid": identity}), own("live.com#a@b")),
            (serde_json::json!({ "xms_mirid": identity }), own("Id")),
            (serde_json::json!({ "xms_mirid": identity.to_uppercase() }), own("ID")),
            (serde_json::json!({ "xms_mirid": machine }), Some(Name::OfHost("vm".into()))),
            (serde_json::json!({"xms_mirid": "Id"}), None),
            (serde_json::json!({"xms_mirid": 1, "upn": 2}), None),
            (serde_json::json!({"upn": "a\nb"}), None),
            (serde_json::json!({"appid": "a", "oid": "o"}), None),
        ] {
            let token = format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()));
            assert_eq!(name(&token), expected, "{claims}");
        }
        assert_eq!(name("no token"), None);
    }
}
