//! The user who is signed in to the Azure CLI.
//!
//! Needs `az` on PATH, and `az login`. A tenant, where one is set, is handed on.

use serde_json::Value;

use super::tool::Tool;
use super::{Ask, Failure, Source, dates};
use crate::settings::{Lack, Settings};
use crate::token::Token;

const AZ: Tool = Tool {
    name: "az",
    title: "the Azure CLI",
    login: "az login",
    variable: ("AZURE_CORE_NO_COLOR", "true"),
    not_signed_in: &["az login", "az account set"],
    token: "accessToken",
    expires_on,
};

struct AzureCli {
    tenant: Option<String>,
}

pub(super) fn make(settings: &Settings) -> Result<Box<dyn Source>, Lack> {
    Ok(Box::new(AzureCli { tenant: settings.identities.checked_tenant()? }))
}

impl Source for AzureCli {
    fn name(&self) -> &'static str {
        "azure_cli"
    }

    fn fetch(&self, ask: &Ask<'_>) -> Result<Token, Failure> {
        let mut arguments =
            vec!["account", "get-access-token", "--output", "json", "--resource", ask.resource()];
        if let Some(tenant) = &self.tenant {
            arguments.extend(["--tenant", tenant]);
        }
        AZ.fetch(ask, &arguments)
    }
}

/// `expires_on` in Unix seconds; before az 2.54 there is only `expiresOn`, in local time.
fn expires_on(json: &Value) -> Option<i64> {
    let seconds = &json["expires_on"];
    let seconds = seconds.as_f64().map(|seconds| seconds as i64).or_else(|| seconds.as_str()?.parse().ok());
    seconds.or_else(|| dates::local(json["expiresOn"].as_str()?))
}
