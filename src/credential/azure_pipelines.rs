//! A service connection of Azure Pipelines (Microsoft Learn: "Azure Pipelines, workload identity federation"): the
//! pipeline vouches for its job, anew for each request.
//!
//! Needs the service connection's id, tenant and client id, which Azure's own tasks set, and `SYSTEM_ACCESSTOKEN`,
//! which the pipeline maps into the step.

use std::time::Instant;

use super::answer::short;
use super::entra::{self, Application, Proof};
use super::oidc::{self, Provider};
use super::place::header_value;
use super::{Ask, Failure, Source, log_failure};
use crate::environment::Environment;
use crate::error::Error;
use crate::http::{Answer, Method};
use crate::secret::Secret;
use crate::settings::{Family, Lack, Principal, Settings, Value, config};
use crate::token::Token;

const NAME: &str = "Azure Pipelines";
const URL: &str = "SYSTEM_OIDCREQUESTURI";
const TOKEN: &str = "SYSTEM_ACCESSTOKEN";

struct AzurePipelines {
    principal: Principal,
    connection: String,
}

pub(super) fn make(settings: &Settings) -> Result<Box<dyn Source>, Lack> {
    let principal = match settings.identities.principal(&[]) {
        // Nothing else is set: an identity that is named is not exchanged for another one.
        Err(lack @ Lack::Keys { set: None, .. }) => of_connection(settings.environment())?.ok_or(lack)?,
        found => found?,
    };
    let Some(connection) = &settings.service_connection else {
        return Err(Lack::Keys {
            set: Some("auth=azure_pipelines".into()),
            missing: vec!["service_connection_id"],
            unused: None,
        });
    };
    Ok(Box::new(AzurePipelines { principal, connection: connection.as_str().to_string() }))
}

/// The identity of the connection that a task of Azure's was given.
fn of_connection(env: Environment<'_>) -> Result<Option<Principal>, Error> {
    let value = |name: &'static str| {
        let text = env.text(name)?;
        let value = |text| Value { text: Secret::new(text), family: Family::Azure, name: name.into() };
        Ok::<_, Error>(text.map(value))
    };
    let (tenant, client_id) = ("AZURESUBSCRIPTION_TENANT_ID", "AZURESUBSCRIPTION_CLIENT_ID");
    match (value(tenant)?, value(client_id)?) {
        (Some(tenant), Some(client_id)) => Principal::new(&tenant, &client_id, None).map(Some),
        (None, None) => Ok(None),
        (Some(_), None) => Err(config(format!("{tenant} is set, but {client_id} is not: set both."))),
        (None, Some(_)) => Err(config(format!("{client_id} is set, but {tenant} is not: set both."))),
    }
}

impl Source for AzurePipelines {
    fn name(&self) -> &'static str {
        "azure_pipelines"
    }

    fn fetch(&self, ask: &Ask<'_>) -> Result<Token, Failure> {
        let env = ask.settings.environment();
        let Some(url) = env.text(URL)? else {
            return Err(Failure::nothing_here(format!(
                "This is no job of Azure Pipelines: {URL} is not set."
            )));
        };
        let Some(bearer) = header_value(env, TOKEN)? else {
            return Err(config(format!(
                "{TOKEN} is not set: map it into the step (env: {TOKEN}: $(System.AccessToken))."
            ))
            .into());
        };
        let query = [("api-version", "7.1"), ("serviceConnectionId", self.connection.as_str())];
        let pipeline = Provider {
            place: oidc::place(ask.settings, NAME, URL, &url, &query)?,
            name: NAME,
            member: "oidcToken",
            secret: bearer,
        };
        let application = Application {
            principal: &self.principal,
            proof: "federated token",
            proof_name: "the service connection",
        };
        let place = entra::place(ask.settings, &self.principal.tenant)?;
        entra::fetch(&place, ask, &application, || {
            let begun = Instant::now();
            let made = self.assertion(&pipeline, ask);
            made.map(Proof::Assertion).inspect_err(|failure| {
                log_failure(ask, &[("source", "azure_pipelines"), ("scope", ask.scope)], begun, failure);
            })
        })
    }

    fn has_proof(&self) -> bool {
        true
    }

    // It may stand for a user-assigned identity.
    fn is_named_in_management(&self) -> bool {
        true
    }
}

impl AzurePipelines {
    fn assertion(&self, pipeline: &Provider, ask: &Ask<'_>) -> Result<Secret, Failure> {
        let authorization = Secret::new(format!("Bearer {}", pipeline.secret.reveal()));
        let headers = [
            ("Accept", "application/json"),
            ("Authorization", authorization.reveal()),
            // Else who is not let in is sent to a page for people.
            ("X-TFS-FedAuthRedirect", "Suppress"),
        ];
        let post = Method::Post { content_type: "application/json", body: "" };
        let (answer, _) = pipeline.place.ask(&post, &headers, ask.deadline)?;
        let ids = ids(&answer, &pipeline.secret);
        match answer.status {
            300..=399 | 401 | 403 => pipeline.read(
                &answer,
                &format!("did not accept {TOKEN}{ids}"),
                "Map the job's own $(System.AccessToken) into the step; it ends with the job.",
            ),
            _ => pipeline.read(
                &answer,
                &format!("gave no token for the service connection {}{ids}", self.connection),
                "Check the connection's id, and that the pipeline may use it.",
            ),
        }
    }
}

/// What its support asks for.
fn ids(answer: &Answer, secret: &Secret) -> String {
    let id = |name: &&str| Some(format!("{name} {}", short(answer.header(name)?, &[secret])));
    let ids: Vec<String> = ["x-vss-e2eid", "x-msedge-ref"].iter().filter_map(id).collect();
    if ids.is_empty() { String::new() } else { format!(" ({})", ids.join(", ")) }
}
