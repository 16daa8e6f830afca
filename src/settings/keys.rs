//! Every setting there is: its key, and the environment variables that stand for it.

use crate::error::{Error, ErrorKind};

/// Where a value can come from, in the order in which they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// The settings string.
    Given,
    /// `PGAAD_*`.
    Pgaad,
    /// `DB_SP_*`, the original backend's.
    DbSp,
    /// `AZURE_*`, shared with the Azure SDKs, and other programs' names.
    Azure,
}

impl Family {
    pub(crate) const ALL: [Self; 4] = [Self::Given, Self::Pgaad, Self::DbSp, Self::Azure];
}

/// One setting. `PGAAD_` and the key in capitals is its own variable, unless `own_variable` is false.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [(Family, &'static str)],
    own_variable: bool,
}

const fn key(name: &'static str, aliases: &'static [(Family, &'static str)]) -> Key {
    Key { name, aliases, own_variable: true }
}

use Family::{Azure, DbSp};

pub(super) const KEYS: &[Key] = &[
    key("auth", &[]),
    key("tenant_id", &[(DbSp, "DB_SP_TENANT_ID"), (Azure, "AZURE_TENANT_ID")]),
    key("client_id", &[(DbSp, "DB_SP_CLIENT_ID"), (Azure, "AZURE_CLIENT_ID")]),
    key("object_id", &[]),
    key("resource_id", &[]),
    key("client_secret", &[(DbSp, "DB_SP_CLIENT_SECRET"), (Azure, "AZURE_CLIENT_SECRET")]),
    key("client_secret_file", &[]),
    key("client_certificate_path", &[(Azure, "AZURE_CLIENT_CERTIFICATE_PATH")]),
    key("client_certificate_password", &[(Azure, "AZURE_CLIENT_CERTIFICATE_PASSWORD")]),
    key("send_certificate_chain", &[(Azure, "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN")]),
    key("federated_token_file", &[(Azure, "AZURE_FEDERATED_TOKEN_FILE")]),
    key("service_connection_id", &[(Azure, "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID")]),
    key("authority_host", &[(Azure, "AZURE_AUTHORITY_HOST")]),
    key("cloud", &[]),
    key("imds_host", &[(Azure, "AZURE_POD_IDENTITY_AUTHORITY_HOST")]),
    key("scope", &[]),
    key("server_hosts", &[]),
    key("refresh_before_minutes", &[(DbSp, "DB_REFRESH_BEFORE_MINUTES")]),
    key("timeout_ms", &[]),
    key("cache", &[]),
    key("cache_key", &[]),
    key("cache_key_file", &[]),
    key("cache_id", &[]),
    key("cache_ca_file", &[]),
    key("callback_thread", &[]),
    key("ca_file", &[]),
    key("proxy", &[(Azure, "HTTPS_PROXY"), (Azure, "https_proxy")]),
    key("no_proxy", &[(Azure, "NO_PROXY"), (Azure, "no_proxy")]),
    key("allow_plaintext", &[]),
    Key { own_variable: false, ..key("trust_environment", &[]) },
    key("log", &[]),
];

impl Key {
    /// The key of that name; a name that isn't in the table is a bug.
    pub(crate) fn named(name: &str) -> &'static Key {
        KEYS.iter().find(|key| key.name == name).unwrap_or_else(|| unreachable!("no setting {name}"))
    }

    /// Its variables, with the family of each, in the order in which they count.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (Family, String)> {
        let own =
            self.own_variable.then(|| (Family::Pgaad, format!("PGAAD_{}", self.name.to_ascii_uppercase())));
        own.into_iter().chain(self.aliases.iter().map(|&(family, name)| (family, name.to_string())))
    }

    /// For messages: `tenant_id (PGAAD_TENANT_ID, DB_SP_TENANT_ID or AZURE_TENANT_ID)`.
    pub(crate) fn with_variables(&self) -> String {
        let mut names: Vec<String> = self.variables().map(|(_, name)| name).collect();
        match (names.pop(), names.is_empty()) {
            (None, _) => self.name.into(),
            (Some(last), true) => format!("{} ({last})", self.name),
            (Some(last), false) => format!("{} ({} or {last})", self.name, names.join(", ")),
        }
    }
}

/// Refuses a key that isn't in the table, and names the one that was probably meant.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    if KEYS.iter().any(|key| key.name == name) {
        return Ok(());
    }
    let distance = |known: &str| strsim::osa_distance(known, name);
    let nearest = KEYS.iter().map(|key| key.name).min_by_key(|known| distance(known)).unwrap_or_default();
    // A word that is like none of ours may be a piece of a value, and that of a secret.
    let typed = if distance(nearest) <= 3 { format!(" \"{name}\"") } else { String::new() };
    Err(Error::new(ErrorKind::Config, format!("Unknown setting{typed}: did you mean {nearest}?")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_key_is_named() {
        for (typed, meant) in [
            ("clientid", "client_id"),
            ("tennant_id", "tenant_id"),
            ("client_secrt", "client_secret"),
            ("Auth", "auth"),
        ] {
            let error = check(typed).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().ends_with(&format!("did you mean {meant}?")), "{error}");
        }
    }

    #[test]
    fn a_missing_key_is_named_with_its_variables() {
        assert_eq!(
            Key::named("tenant_id").with_variables(),
            "tenant_id (PGAAD_TENANT_ID, DB_SP_TENANT_ID or AZURE_TENANT_ID)"
        );
        assert_eq!(Key::named("scope").with_variables(), "scope (PGAAD_SCOPE)");
        assert_eq!(Key::named("trust_environment").with_variables(), "trust_environment");
    }
}
