//! A service principal with a certificate.
//!
//! Needs a tenant, a client id and a file with the certificate and its private key. Each request carries a statement
//! signed with the key; the file is read at each fetch, so that a renewed certificate needs no restart.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::certificate::{Certificate, PASSWORD_SETTING};
use super::entra::{self, Application, Proof};
use super::{Ask, Failure, Source, assertion, file, mark_of};
use crate::error::Error;
use crate::os;
use crate::secret::Secret;
use crate::settings::{Lack, Principal, Settings, Value, config};
use crate::token::Token;

pub(super) const PROOFS: &[&str] = &["client_certificate_path"];

/// Longer than any certificate with its chain and key.
const LONGEST_FILE: u64 = 1024 * 1024;

struct ClientCertificate(Principal);

pub(super) fn make(settings: &Settings) -> Result<Box<dyn Source>, Lack> {
    let principal = settings.identities.principal(PROOFS)?;
    Ok(Box::new(ClientCertificate(principal)))
}

impl ClientCertificate {
    fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (path, name) = self.0.proof_file();
        file::read(name, &path, LONGEST_FILE)
    }

    fn read(&self, settings: &Settings) -> Result<Certificate, Error> {
        let (path, name) = self.0.proof_file();
        let bytes = self.bytes()?;
        let password = settings.certificate_password.as_ref();
        Certificate::read(&bytes, password.map(|value| &value.text), os::unix_now()).map_err(|why| {
            // By the name that the person gave it.
            let by_name = |value: &Value| why.replace(PASSWORD_SETTING, &value.variable_or(PASSWORD_SETTING));
            let why = password.map_or(why.clone(), by_name);
            config(format!("{name} names {}, which {why}.", path.display()))
        })
    }
}

impl Source for ClientCertificate {
    fn name(&self) -> &'static str {
        "client_certificate"
    }

    fn fetch(&self, ask: &Ask<'_>) -> Result<Token, Failure> {
        let certificate = self.read(ask.settings)?;
        let (_, name) = self.0.proof_file();
        let application = Application { principal: &self.0, proof: "client certificate", proof_name: name };
        let place = entra::place(ask.settings, &self.0.tenant)?;
        let with_chain = ask.settings.send_certificate_chain;
        entra::fetch(&place, ask, &application, || {
            let now = os::unix_now();
            let made = assertion::make(&certificate, with_chain, &self.0.client_id, place.url(), now)?;
            Ok(Proof::Assertion(made))
        })
    }

    fn has_proof(&self) -> bool {
        true
    }

    fn fixed_identity(&self) -> Option<String> {
        Some(self.0.id())
    }

    /// The file holds the key, so who knows its hash had it.
    fn stable_secret(&self) -> Result<Option<Secret>, Error> {
        let hash = ring::digest::digest(&ring::digest::SHA256, &self.bytes()?);
        Ok(Some(Secret::new(STANDARD.encode(hash))))
    }

    fn mark_of_proof(&self) -> u64 {
        mark_of(&self.0.proof_file().0)
    }

    fn is_nameless(&self) -> bool {
        true
    }
}
