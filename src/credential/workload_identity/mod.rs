//! A workload whose platform vouches for it with a token in a file: Kubernetes, or any other OpenID Connect issuer
//! (Microsoft Learn: "Use Microsoft Entra Workload ID with Azure Kubernetes Service").
//!
//! Needs a tenant, a client id and the file. AKS injects all three, and with identity bindings a proxy in the cluster
//! that takes the place of Entra.

mod proxy;

use super::entra::{self, Application, Proof};
use super::{Ask, Failure, Source, file, mark_of};
use crate::settings::{Family, Lack, Principal, Settings};
use crate::token::Token;

pub(super) const PROOFS: &[&str] = &["federated_token_file"];

struct WorkloadIdentity {
    principal: Principal,
    proxy: proxy::Roots,
}

pub(super) fn make(settings: &Settings) -> Result<Box<dyn Source>, Lack> {
    let principal = settings.identities.principal(PROOFS)?;
    Ok(Box::new(WorkloadIdentity { principal, proxy: proxy::Roots::default() }))
}

impl Source for WorkloadIdentity {
    fn name(&self) -> &'static str {
        "workload_identity"
    }

    fn fetch(&self, ask: &Ask<'_>) -> Result<Token, Failure> {
        let (path, name) = self.principal.proof_file();
        let application =
            Application { principal: &self.principal, proof: "federated token", proof_name: name };
        // The cluster's proxy is for the token that the cluster put there.
        let is_injected =
            self.principal.proof.as_ref().is_some_and(|(_, value)| value.family == Family::Azure);
        let proxy = match is_injected {
            true => proxy::place(ask.settings, &self.principal.tenant, &self.proxy)?,
            false => None,
        };
        let place = match proxy {
            Some(proxy) => proxy,
            None => entra::place(ask.settings, &self.principal.tenant)?,
        };
        // Read for each request: the platform renews it.
        let fetch = || {
            entra::fetch(&place, ask, &application, || Ok(Proof::Assertion(file::read_secret(name, &path)?)))
        };
        match fetch() {
            // It may have been renewed while we asked.
            Err(failure) if entra::has_code(&failure, entra::STALE_ASSERTION) => fetch(),
            result => result,
        }
    }

    fn has_proof(&self) -> bool {
        true
    }

    fn fixed_identity(&self) -> Option<String> {
        Some(self.principal.id())
    }

    fn mark_of_proof(&self) -> u64 {
        mark_of(&self.principal.proof_file().0)
    }

    fn is_named_in_management(&self) -> bool {
        true
    }
}
