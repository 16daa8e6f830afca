//! Where tokens come from: one file for each credential, and the retries around them.

mod aadsts; //        what error codes mean
mod redact; //        text without the secret
mod answer; //        what the token endpoint says
mod retry; //         when to ask again
mod entra; //         the request
mod client_secret; // a source: a service principal with a secret

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::settings::{Auth, Identity, Settings};
use crate::token::Token;

/// A fetch that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// When another try may help.
    pub(crate) retry: Retry,
}

/// Whether, and when, the same request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The answer would be the same.
    Never,
    /// After a pause that grows.
    Soon,
    /// Not before this time has passed: the service said so.
    After(Duration),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, retry: Retry::Never }
    }
}

/// Fetches a token for `scope` with the client's credential; everything is over by the deadline.
pub(crate) fn fetch(settings: &Settings, scope: &str, deadline: Instant) -> Result<Token, Failure> {
    let identity = choose(settings)?;
    client_secret::fetch(settings, identity, scope, deadline)
}

/// The credential that the settings ask for. Sends nothing.
pub(crate) fn choose(settings: &Settings) -> Result<&Identity, Error> {
    if settings.auth == Auth::Off {
        return Err(Error::new(
            ErrorKind::Disabled,
            "A token was asked for, but auth=off. Set auth (PGAAD_AUTH) to auto or to a credential.",
        ));
    }
    if let Some(trouble) = &settings.trouble {
        return Err(trouble.clone());
    }
    match settings.auth {
        Auth::ClientSecret => settings.identity.as_ref().ok_or_else(|| nothing_here(settings)),
        Auth::Auto if settings.is_deliberate() => {
            settings.identity.as_ref().ok_or_else(|| nothing_here(settings))
        }
        Auth::Auto | Auth::Chain | Auth::Off => chain(settings),
    }
}

/// The chain of `auth=default`. So far it holds one source, the client secret in the environment.
fn chain(settings: &Settings) -> Result<&Identity, Error> {
    let filter = settings.chain_filter.as_deref().map(|filter| filter.trim().to_ascii_lowercase());
    match filter.as_deref().unwrap_or("prod") {
        "" | "prod" | "environmentcredential" => {
            settings.identity.as_ref().ok_or_else(|| nothing_here(settings))
        }
        "dev"
        | "workloadidentitycredential"
        | "managedidentitycredential"
        | "azureclicredential"
        | "azuredeveloperclicredential" => Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "AZURE_TOKEN_CREDENTIALS={} leaves no credential source that pgaad {} has: unset it, or set it to prod.",
                settings.chain_filter.as_deref().unwrap_or_default().trim(),
                env!("CARGO_PKG_VERSION")
            ),
        )),
        _ => Err(Error::new(
            ErrorKind::Config,
            "AZURE_TOKEN_CREDENTIALS takes prod, dev or the name of one credential, such as EnvironmentCredential.",
        )),
    }
}

fn nothing_here(settings: &Settings) -> Error {
    let reason = settings.incomplete.as_deref().unwrap_or(
        "no tenant, client id and secret are set. Set PGAAD_TENANT_ID, PGAAD_CLIENT_ID and PGAAD_CLIENT_SECRET",
    );
    Error::new(
        ErrorKind::Unavailable,
        format!("No credential source is here: environment: {}.", reason.trim_end_matches('.')),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    #[test]
    fn what_is_wrong_with_shared_variables_is_said_when_a_token_is_wanted() {
        let lookup = |name: &str| (name == "HTTPS_PROXY").then(|| "socks5://p:1".into());
        let settings = Settings::read("", Environment::of(&lookup)).unwrap();
        let error = choose(&settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("HTTPS_PROXY"), "{error}");
    }
}
