//! A service principal with a client secret.
//!
//! Needs a tenant, a client id and the secret, or a file that holds it.

use std::path::Path;

use super::entra::{self, Application, Proof};
use super::{Ask, Failure, Source, file};
use crate::settings::{Lack, Principal, Settings};
use crate::token::Token;

pub(super) const PROOFS: &[&str] = &["client_secret", "client_secret_file"];

struct ClientSecret(Principal);

pub(super) fn make(settings: &Settings) -> Result<Box<dyn Source>, Lack> {
    let principal = settings.identities.principal(PROOFS)?;
    Ok(Box::new(ClientSecret(principal)))
}

impl Source for ClientSecret {
    fn fetch(&self, ask: &Ask<'_>) -> Result<Token, Failure> {
        let Some((key, value)) = &self.0.proof else { unreachable!("it was made with one") };
        let secret = match *key {
            "client_secret" => value.text.clone(),
            // Read at each fetch, since a mounted secret rotates.
            _ => file::read_secret(&value.name, Path::new(value.as_str()))?,
        };
        let application = Application { principal: &self.0, proof: "client secret", proof_name: &value.name };
        let place = entra::place(ask.settings, &self.0.tenant)?;
        entra::fetch(&place, ask, &application, || Ok(Proof::ClientSecret(secret.clone())))
    }

    fn has_proof(&self) -> bool {
        true
    }

    fn is_nameless(&self) -> bool {
        true
    }
}
