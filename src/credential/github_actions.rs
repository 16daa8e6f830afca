//! A job of GitHub Actions (GitHub Docs: "OpenID Connect reference"): GitHub vouches for it, anew for each request.
//!
//! Needs a tenant, a client id, and the job's permission `id-token: write`.

use std::time::Instant;

use super::entra::{self, Application, Proof};
use super::oidc::{self, Provider};
use super::place::header_value;
use super::{Ask, Failure, Source, log_failure};
use crate::http::Method;
use crate::secret::Secret;
use crate::settings::{Lack, Principal, Settings};
use crate::token::Token;

const NAME: &str = "GitHub Actions";
const URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// Whom the job's token is for (Microsoft Learn: "Workload identity federation").
const AUDIENCE: &str = "api://AzureADTokenExchange";

struct GithubActions(Principal);

pub(super) fn make(settings: &Settings) -> Result<Box<dyn Source>, Lack> {
    Ok(Box::new(GithubActions(settings.identities.principal(&[])?)))
}

impl Source for GithubActions {
    fn name(&self) -> &'static str {
        "github_actions"
    }

    fn fetch(&self, ask: &Ask<'_>) -> Result<Token, Failure> {
        let env = ask.settings.environment();
        let (url, bearer) = (env.text(URL)?, header_value(env, TOKEN)?);
        let missing: Vec<&str> = [(URL, url.is_none()), (TOKEN, bearer.is_none())]
            .iter()
            .filter(|(_, is)| *is)
            .map(|(name, _)| *name)
            .collect();
        let (Some(url), Some(bearer)) = (url, bearer) else {
            return Err(Failure::nothing_here(format!(
                "This is no job of GitHub Actions that may have a token: missing {}. Give the job the permission \
                 id-token: write.",
                missing.join(" and ")
            )));
        };
        let github = Provider {
            place: oidc::place(ask.settings, NAME, URL, &url, &[("audience", AUDIENCE)])?,
            name: NAME,
            member: "value",
            secret: bearer,
        };
        let application =
            Application { principal: &self.0, proof: "federated token", proof_name: "the job's token" };
        let place = entra::place(ask.settings, &self.0.tenant)?;
        entra::fetch(&place, ask, &application, || {
            let begun = Instant::now();
            assertion(&github, ask).map(Proof::Assertion).inspect_err(|failure| {
                log_failure(ask, &[("source", "github_actions"), ("scope", ask.scope)], begun, failure);
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

fn assertion(github: &Provider, ask: &Ask<'_>) -> Result<Secret, Failure> {
    let authorization = Secret::new(format!("bearer {}", github.secret.reveal()));
    let headers = [("Accept", "application/json"), ("Authorization", authorization.reveal())];
    let (answer, _) = github.place.ask(&Method::Get, &headers, ask.deadline)?;
    github.read(
        &answer,
        "gave no token for this job",
        "Check that the job has the permission id-token: write, and that it still runs.",
    )
}
