//! The user who is signed in to the Azure Developer CLI.
//!
//! Needs `azd` on PATH, and `azd auth login`. A tenant, where one is set, is handed on.

use serde_json::Value;

use super::tool::Tool;
use super::{Ask, Failure, Source, dates};
use crate::settings::{Lack, Settings};
use crate::token::Token;

const AZD: Tool = Tool {
    name: "azd",
    title: "the Azure Developer CLI",
    login: "azd auth login",
    variable: ("NO_COLOR", "true"),
    not_signed_in: &["azd auth login", "not logged in"],
    token: "token",
    expires_on,
};

struct AzureDeveloperCli {
    tenant: Option<String>,
}

pub(super) fn make(settings: &Settings) -> Result<Box<dyn Source>, Lack> {
    Ok(Box::new(AzureDeveloperCli { tenant: settings.identities.checked_tenant()? }))
}

impl Source for AzureDeveloperCli {
    fn name(&self) -> &'static str {
        "azure_developer_cli"
    }

    fn fetch(&self, ask: &Ask<'_>) -> Result<Token, Failure> {
        let mut arguments = vec!["auth", "token", "--output", "json", "--no-prompt", "--scope", ask.scope];
        if let Some(tenant) = &self.tenant {
            arguments.extend(["--tenant-id", tenant]);
        }
        AZD.fetch(ask, &arguments)
    }
}

/// Unlike az's, this time is UTC.
fn expires_on(json: &Value) -> Option<i64> {
    dates::utc(json.get("expiresOn")?.as_str()?)
}
