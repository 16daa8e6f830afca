//! The first source that is here: what `auth=default` asks, and `auth=auto` where no identity is named on purpose
//! (Microsoft Learn: "DefaultAzureCredential overview").

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Ask, Failure, Group, Link, SOURCES, Source, client_certificate, client_secret};
use crate::error::Error;
use crate::secret::Secret;
use crate::settings::{Lack, Settings, config};
use crate::token::Token;

pub(super) struct Chain {
    members: Result<Vec<Member>, Error>,
    /// Whether `AZURE_TOKEN_CREDENTIALS` left some out.
    is_narrowed: bool,
    /// The one that answered: it is kept, so that the identity does not change. Beyond the end: none yet.
    found: AtomicUsize,
}

struct Member {
    name: &'static str,
    source: Result<Box<dyn Source>, Lack>,
}

/// A secret or certificate in the environment, as the Azure SDKs have it.
pub(super) fn environment(settings: &Settings) -> Result<Box<dyn Source>, Lack> {
    let proofs = [client_secret::PROOFS, client_certificate::PROOFS].concat();
    let principal = settings.identities.principal(&proofs)?;
    match principal.proof {
        Some((key, _)) if client_certificate::PROOFS.contains(&key) => client_certificate::make(settings),
        _ => client_secret::make(settings),
    }
}

impl Chain {
    pub(super) fn of(settings: &Settings) -> Self {
        let filter = settings.chain_filter.as_deref().unwrap_or_default().trim();
        let members = wanted(filter).map(|wanted| {
            let links = SOURCES.iter().filter(|entry| entry.link.as_ref().is_some_and(&wanted));
            links.map(|entry| Member { name: entry.name, source: (entry.make)(settings) }).collect()
        });
        Self { members, is_narrowed: !filter.is_empty(), found: AtomicUsize::new(usize::MAX) }
    }

    /// Keeps the source that answered, unless another call settled on a different one meanwhile: then it is that.
    fn settle(
        &self,
        position: usize,
        members: &[Member],
        token: Token,
        ask: &Ask<'_>,
    ) -> Result<Token, Failure> {
        match self.found.compare_exchange(usize::MAX, position, Relaxed, Relaxed) {
            Err(kept) if kept != position => match members.get(kept) {
                Some(Member { source: Ok(source), .. }) => source.fetch(ask),
                _ => Ok(token),
            },
            _ => Ok(token),
        }
    }

    /// The first that is here, if a proof in the settings makes it.
    fn first_of_proof(&self) -> Option<&dyn Source> {
        let members = self.members.as_deref().unwrap_or_default();
        let first = members.iter().find_map(|member| member.source.as_deref().ok())?;
        first.has_proof().then_some(first)
    }

    /// Of the one that answered, or, as long as none did, of any that may.
    fn any(&self, holds: impl Fn(&dyn Source) -> bool) -> bool {
        let members = self.members.as_deref().unwrap_or_default();
        let sources = match members.get(self.found.load(Relaxed)) {
            Some(found) => std::slice::from_ref(found),
            None => members,
        };
        sources.iter().filter_map(|member| member.source.as_ref().ok()).any(|source| holds(&**source))
    }
}

impl Source for Chain {
    fn name(&self) -> &'static str {
        let members = self.members.as_deref().unwrap_or_default();
        members.get(self.found.load(Relaxed)).map_or("default", |member| member.name)
    }

    fn fetch(&self, ask: &Ask<'_>) -> Result<Token, Failure> {
        let members = self.members.as_ref().map_err(Error::clone)?;
        if let Some(Member { source: Ok(source), .. }) = members.get(self.found.load(Relaxed)) {
            return source.fetch(ask);
        }
        let ask = Ask { in_chain: members.len() > 1, ..*ask };
        let mut reasons = Vec::new();
        for (position, member) in members.iter().enumerate() {
            let reason = match &member.source {
                Ok(source) => match source.fetch(&ask) {
                    Ok(token) => return self.settle(position, members, token, &ask),
                    Err(failure) if failure.is_here => return Err(failure),
                    Err(failure) => failure.error.message().to_string(),
                },
                Err(Lack::Keys { set: None, .. }) => "none of its variables are set".into(),
                Err(lack @ Lack::Keys { .. }) => Error::from(lack.clone()).message().to_string(),
                Err(Lack::Wrong(error)) => return Err(error.clone().into()),
            };
            reasons.push(format!("{}: {}", member.name, reason.trim_end_matches('.')));
        }
        let of_which = if self.is_narrowed { ", of those that AZURE_TOKEN_CREDENTIALS leaves" } else { "" };
        Err(Failure::nothing_here(format!(
            "No credential source is here{of_which}. {}. Set PGAAD_TENANT_ID, PGAAD_CLIENT_ID and PGAAD_CLIENT_SECRET, or make one \
             of these work.",
            reasons.join("; ")
        )))
    }

    /// The settings fix it where they prove it: then nobody else answers.
    fn fixed_identity(&self) -> Option<String> {
        self.first_of_proof()?.fixed_identity()
    }

    fn stable_secret(&self) -> Result<Option<Secret>, Error> {
        self.first_of_proof().map_or(Ok(None), |source| source.stable_secret())
    }

    fn mark_of_proof(&self) -> u64 {
        self.first_of_proof().map_or(0, |source| source.mark_of_proof())
    }

    fn has_proof(&self) -> bool {
        self.any(|source| source.has_proof())
    }

    fn is_named_in_management(&self) -> bool {
        self.any(|source| source.is_named_in_management())
    }
}

/// Which links of the chain `AZURE_TOKEN_CREDENTIALS` leaves.
fn wanted(filter: &str) -> Result<impl Fn(&Link) -> bool, Error> {
    let is = |name: &str| filter.eq_ignore_ascii_case(name);
    let group =
        [("prod", Group::Production), ("dev", Group::Development)].into_iter().find(|(name, _)| is(name));
    let known: Vec<&str> = SOURCES.iter().filter_map(|entry| Some(entry.link.as_ref()?.sdk_name)).collect();
    if !filter.is_empty() && group.is_none() && !known.iter().any(|name| is(name)) {
        return Err(config(format!(
            "AZURE_TOKEN_CREDENTIALS takes prod, dev or one of {}.",
            known.join(", ")
        )));
    }
    Ok(move |link: &Link| match group {
        Some((_, group)) => link.group == group,
        None => filter.is_empty() || link.sdk_name.eq_ignore_ascii_case(filter),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_narrows_the_chain() {
        let all =
            ["environment", "workload_identity", "managed_identity", "azure_cli", "azure_developer_cli"];
        for (filter, left) in [
            ("", &all[..]),
            ("prod", &all[..3]),
            ("DEV", &all[3..]),
            ("EnvironmentCredential", &all[..1]),
            ("managedidentitycredential", &all[2..3]),
            ("AZUREDEVELOPERCLICREDENTIAL", &all[4..]),
        ] {
            let wanted = wanted(filter).unwrap();
            let links = SOURCES.iter().filter(|entry| entry.link.as_ref().is_some_and(&wanted));
            assert_eq!(links.map(|entry| entry.name).collect::<Vec<_>>(), left, "{filter}");
        }
        assert!(wanted("VisualStudioCodeCredential").is_err());
    }
}
