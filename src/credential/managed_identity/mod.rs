//! The managed identity of the machine or service that the program runs on (Microsoft Learn: "Managed identities for
//! Azure resources").
//!
//! Needs nothing: the platform's variables say which endpoint to ask, and without any it is the metadata service.
//! They are read at each fetch, since platforms rotate their secrets. Never through a proxy.

mod endpoint; // what the endpoints have in common

mod app_service;
mod arc;
mod cloud_shell;
mod imds;
mod msi;
mod service_fabric;

use super::place::header_value;
use super::{Ask, Failure, Source};
use crate::environment::Environment;
use crate::error::Error;
use crate::secret::Secret;
use crate::settings::{Lack, Managed, Selector, Settings};
use crate::token::Token;

struct ManagedIdentity {
    managed: Managed,
    probe: imds::Probe,
}

pub(super) fn make(settings: &Settings) -> Result<Box<dyn Source>, Lack> {
    let managed = settings.identities.managed()?;
    Ok(Box::new(ManagedIdentity { managed, probe: imds::Probe::default() }))
}

/// Whom to ask.
#[derive(Debug, PartialEq)]
enum Platform {
    ServiceFabric {
        url: String,
        secret: Secret,
        thumbprint: String,
    },
    AppService {
        url: String,
        secret: Secret,
    },
    Arc {
        url: String,
    },
    /// Azure Machine Learning, and App Service before 2019.
    Msi {
        url: String,
        secret: Secret,
    },
    CloudShell {
        url: String,
    },
    Imds {
        host: String,
    },
    /// Variables of some platform, but not all of them.
    Incomplete(&'static str),
}

impl Platform {
    fn of(env: Environment<'_>, settings: &Settings) -> Result<Self, Error> {
        let secret = |name| header_value(env, name);
        if let Some(url) = env.text("IDENTITY_ENDPOINT")? {
            return Ok(match (secret("IDENTITY_HEADER")?, env.text("IDENTITY_SERVER_THUMBPRINT")?) {
                (Some(secret), Some(thumbprint)) => Self::ServiceFabric { url, secret, thumbprint },
                (Some(secret), None) => Self::AppService { url, secret },
                (None, _) if env.var("IMDS_ENDPOINT").is_some() => Self::Arc { url },
                (None, _) => Self::Incomplete(
                    "IDENTITY_ENDPOINT is set, but neither IDENTITY_HEADER (App Service) nor IMDS_ENDPOINT (Azure Arc).",
                ),
            });
        }
        if let Some(url) = env.text("MSI_ENDPOINT")? {
            return Ok(match secret("MSI_SECRET")? {
                Some(secret) => Self::Msi { url, secret },
                None => Self::CloudShell { url },
            });
        }
        match &settings.imds_host {
            Some(host) => Ok(Self::Imds { host: host.clone() }),
            // Services do not get the variables that a log-in shell has.
            None if arc::is_installed() => Ok(Self::Arc { url: arc::URL.into() }),
            None => Ok(Self::Imds { host: imds::HOST.into() }),
        }
    }
}

impl Source for ManagedIdentity {
    fn name(&self) -> &'static str {
        "managed_identity"
    }

    fn fetch(&self, ask: &Ask<'_>) -> Result<Token, Failure> {
        let managed = &self.managed;
        match Platform::of(ask.settings.environment(), ask.settings)? {
            Platform::ServiceFabric { url, secret, thumbprint } => {
                service_fabric::fetch(ask, managed, &url, &secret, &thumbprint)
            }
            Platform::AppService { url, secret } => app_service::fetch(ask, managed, &url, &secret),
            Platform::Arc { url } => arc::fetch(ask, managed, &url),
            Platform::Msi { url, secret } => msi::fetch(ask, managed, &url, &secret),
            Platform::CloudShell { url } => cloud_shell::fetch(ask, managed, &url),
            Platform::Imds { host } => imds::fetch(ask, managed, &host, &self.probe),
            Platform::Incomplete(why) => Err(Failure::nothing_here(why)),
        }
    }

    fn is_named_in_management(&self) -> bool {
        true
    }

    fn fixed_identity(&self) -> Option<String> {
        let (kind, id) = match self.managed.selector.as_ref()? {
            Selector::Client(id) => ("client", id),
            Selector::Object(id) => ("object", id),
            Selector::Resource(id) => ("resource", id),
        };
        Some(format!("managed identity {kind} {id}").to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn platform(variables: &[(&str, &str)]) -> Platform {
        let lookup = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        let env = Environment::of(&lookup);
        Platform::of(env, &Settings::read("", env).unwrap()).unwrap()
    }

    #[test]
    fn the_variables_choose_the_platform_in_order() {
        let (url, secret) = (|| "u".to_string(), || Secret::new("h"));
        let all = [
            ("IDENTITY_ENDPOINT", "u"),
            ("IDENTITY_HEADER", "h"),
            ("IDENTITY_SERVER_THUMBPRINT", "t"),
            ("IMDS_ENDPOINT", "i"),
            ("MSI_ENDPOINT", "u"),
            ("MSI_SECRET", "h"),
            ("PGAAD_IMDS_HOST", "http://127.0.0.1:1/"),
        ];
        let without = |names: &[&str]| {
            let left: Vec<_> = all.into_iter().filter(|(name, _)| !names.contains(name)).collect();
            platform(&left)
        };
        let fabric = Platform::ServiceFabric { url: url(), secret: secret(), thumbprint: "t".into() };
        assert_eq!(without(&[]), fabric);
        assert_eq!(
            without(&["IDENTITY_SERVER_THUMBPRINT"]),
            Platform::AppService { url: url(), secret: secret() }
        );
        assert_eq!(without(&["IDENTITY_HEADER"]), Platform::Arc { url: url() });
        assert!(matches!(without(&["IDENTITY_HEADER", "IMDS_ENDPOINT"]), Platform::Incomplete(_)));
        assert_eq!(without(&["IDENTITY_ENDPOINT"]), Platform::Msi { url: url(), secret: secret() });
        assert_eq!(without(&["IDENTITY_ENDPOINT", "MSI_SECRET"]), Platform::CloudShell { url: url() });
        let host = "http://127.0.0.1:1".to_string();
        assert_eq!(without(&["IDENTITY_ENDPOINT", "MSI_ENDPOINT"]), Platform::Imds { host });
    }

    #[test]
    fn without_any_variable_it_is_the_metadata_service() {
        // On a machine with the agent of Azure Arc it is that.
        if !arc::is_installed() {
            assert_eq!(platform(&[]), Platform::Imds { host: "http://169.254.169.254".into() });
        }
    }
}
