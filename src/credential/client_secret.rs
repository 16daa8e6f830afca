//! A service principal with a client secret.
//!
//! Needs a tenant, a client id and the secret, or a file that holds it.

use std::path::Path;

use super::entra::{self, Application, Proof};
use super::{Ask, Failure, Source, file, mark_of};
use crate::error::Error;
use crate::secret::Secret;
use crate::settings::{Lack, Principal, Settings, Value};
use crate::token::Token;

pub(super) const PROOFS: &[&str] = &["client_secret", "client_secret_file"];

struct ClientSecret(Principal);

pub(super) fn make(settings: &Settings) -> Result<Box<dyn Source>, Lack> {
    let principal = settings.identities.principal(PROOFS)?;
    Ok(Box::new(ClientSecret(principal)))
}

impl ClientSecret {
    /// The secret of the moment, and the setting that it comes from.
    fn read(&self) -> Result<(Secret, &Value), Error> {
        let Some((key, value)) = &self.0.proof else { unreachable!("it was made with one") };
        let secret = match *key {
            "client_secret" => value.text.clone(),
            // Read at each fetch, since a mounted secret rotates.
            _ => file::read_secret(&value.name, Path::new(value.as_str()))?,
        };
        Ok((secret, value))
    }
}

impl Source for ClientSecret {
    fn name(&self) -> &'static str {
        "client_secret"
    }

    fn fetch(&self, ask: &Ask<'_>) -> Result<Token, Failure> {
        let (secret, value) = self.read()?;
        let application = Application { principal: &self.0, proof: "client secret", proof_name: &value.name };
        let place = entra::place(ask.settings, &self.0.tenant)?;
        entra::fetch(&place, ask, &application, || Ok(Proof::ClientSecret(secret.clone())))
    }

    fn has_proof(&self) -> bool {
        true
    }

    fn fixed_identity(&self) -> Option<String> {
        Some(self.0.id())
    }

    fn stable_secret(&self) -> Result<Option<Secret>, Error> {
        Ok(Some(self.read()?.0))
    }

    fn mark_of_proof(&self) -> u64 {
        match &self.0.proof {
            Some(("client_secret_file", value)) => mark_of(Path::new(value.as_str())),
            _ => 0,
        }
    }

    fn is_nameless(&self) -> bool {
        true
    }
}
