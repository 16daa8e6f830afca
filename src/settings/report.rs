//! Every setting as people may see it: secrets are only said to be set.

use super::keys::KEYS;
use super::{Family, Identities, Key, Settings, Sources, Value};
use crate::environment::Environment;
use crate::error::Error;

/// One setting.
pub(crate) struct Row {
    pub(crate) key: &'static str,
    /// None: it is not set, and has no default.
    pub(crate) value: Option<String>,
    /// "settings", or the variable; None: the value is the default.
    pub(crate) origin: Option<String>,
}

/// All of them, in the order of the table, also where some are wrong. Defaults that hang on others are only known where
/// all are right.
pub(crate) fn rows(
    given: &str,
    settings: Option<&Settings>,
    env: Environment<'_>,
) -> Result<Vec<Row>, Error> {
    let sources = Sources::open(given, env)?;
    let names_identity = Identities::read(&sources).is_ok_and(|identities| identities.is_given());
    let row = |key: &'static Key| {
        let counts = |family| !(key.name == "auth" && names_identity && family != Family::Given);
        let found = Family::ALL
            .into_iter()
            .filter(|family| counts(*family))
            .find_map(|family| sources.get_from(family, key).transpose().map(|found| (family, found)));
        match found {
            Some((family, Ok(value))) => {
                let origin = if family == Family::Given { "settings".into() } else { value.name.clone() };
                Row { key: key.name, value: Some(shown(key.name, &value)), origin: Some(origin) }
            }
            Some((_, Err(error))) => {
                Row { key: key.name, value: Some("?".into()), origin: Some(error.to_string()) }
            }
            None => Row { key: key.name, value: default(key.name, settings), origin: None },
        }
    };
    Ok(KEYS.iter().map(row).collect())
}

/// On one line.
fn shown(key: &str, value: &Value) -> String {
    let text = match key {
        "client_secret" | "client_certificate_password" | "cache_key" => "set".into(),
        // URLs, which may hold a password.
        "cache" | "proxy" => without_login(value.as_str()),
        _ => value.as_str().to_string(),
    };
    text.replace(|c: char| c.is_control(), " ")
}

/// Whatever stands before the last `@` but the scheme may be one.
fn without_login(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
            format!("{scheme}...@{host}")
        }
        None => url.into(),
    }
}

fn default(key: &str, settings: Option<&Settings>) -> Option<String> {
    let fixed = match key {
        "auth" => "auto",
        "send_certificate_chain" | "trust_environment" | "log" => "off",
        "cloud" => settings?.cloud.name(),
        "authority_host" => return Some(settings?.authority.to_string()),
        "imds_host" => "http://169.254.169.254",
        "scope" => settings?.scope.as_deref().unwrap_or(settings?.cloud.scope()),
        "refresh_before_minutes" => "5",
        "timeout_ms" => "30000",
        "cache" => "memory",
        "callback_thread" => "caller",
        _ => return None,
    };
    Some(fixed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_password_in_a_url_is_not_shown() {
        for (url, shown) in [
            ("redis://u:hunter2@h:1/2", "redis://...@h:1/2"),
            ("redis://:hunt@er2@h", "redis://...@h"),
            ("u:hunter2@proxy:3128", "...@proxy:3128"),
            ("unix://:hunter2@/run/redis.sock?db=1", "unix://...@/run/redis.sock?db=1"),
            ("redis://h", "redis://h"),
            ("file", "file"),
        ] {
            assert_eq!(without_login(url), shown);
        }
    }

    #[test]
    fn defaults_are_those_of_the_settings() {
        let none = |_: &str| None;
        let settings = Settings::read("", Environment::of(&none)).unwrap();
        let is = |key: &str| default(key, Some(&settings)).unwrap();
        assert_eq!(is("refresh_before_minutes"), (settings.refresh_before.as_secs() / 60).to_string());
        assert_eq!(is("timeout_ms"), settings.timeout.as_millis().to_string());
        assert_eq!(is("authority_host"), "https://login.microsoftonline.com");
        assert_eq!((settings.cache.is_none(), is("cache").as_str()), (true, "memory"));
        assert_eq!((settings.auth == crate::settings::Auth::Auto, is("auth").as_str()), (true, "auto"));
    }
}
