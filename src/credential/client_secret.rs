//! A service principal with a client secret.
//!
//! Needs a tenant, a client id and the secret, or a file that holds it.

use std::path::Path;

use super::entra::{self, Application, Proof};
use super::{Ask, Failure, Source};
use crate::error::Error;
use crate::os;
use crate::secret::Secret;
use crate::settings::{Lack, Principal, Settings, config};
use crate::token::Token;

pub(super) const PROOFS: &[&str] = &["client_secret", "client_secret_file"];

/// What to do about a file that cannot be read, without the stop.
pub(super) const CHECK_FILE: &str = "Check the path, and whether this program's user may read it";

/// Longer than any secret: a file that is more than this is not the file that was meant.
const LONGEST_SECRET_FILE: u64 = 64 * 1024;

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
            _ => read_file(Path::new(value.as_str()), &value.name)?,
        };
        let application = Application::of(&self.0, "client secret", &value.name);
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

/// The secret is the file's text without blanks around it: editors and `echo` end files with a line break.
pub(super) fn read_file(path: &Path, name: &str) -> Result<Secret, Error> {
    let unusable = |why: &str| config(format!("{name} names {}, which {why}.", path.display()));
    let bytes = os::read_plain(path, LONGEST_SECRET_FILE)
        .map_err(|error| unusable(&format!("cannot be read: {error}. {CHECK_FILE}")))?;
    let text = Secret::new(String::from_utf8(bytes).map_err(|_| unusable("is not UTF-8"))?);
    match text.reveal().trim() {
        "" => Err(unusable("is empty")),
        secret => Ok(Secret::new(secret)),
    }
}
