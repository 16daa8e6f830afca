//! A service principal with a client secret.
//!
//! Needs a tenant, a client id and the secret, or a file that holds it. The request is the client credentials
//! grant (RFC 6749 section 4.4; Microsoft Learn: "OAuth 2.0 client credentials flow on the Microsoft identity
//! platform").

use std::io::Read;
use std::time::Instant;

use super::Failure;
use super::entra::{self, Application};
use crate::error::Error;
use crate::os;
use crate::secret::Secret;
use crate::settings::{Identity, Proof, Settings, config};
use crate::token::Token;

/// Longer than any secret: a file that is more than this is not the file that was meant.
const LONGEST_SECRET_FILE: u64 = 64 * 1024;

pub(super) fn fetch(
    settings: &Settings,
    identity: &Identity,
    scope: &str,
    deadline: Instant,
) -> Result<Token, Failure> {
    let (secret, name) = match &identity.proof {
        Proof::Secret(value) => (value.text.clone(), value.name.as_str()),
        Proof::SecretFile { path, name } => (read_file(path, name)?, name.as_str()),
    };
    let application = Application {
        tenant: &identity.tenant,
        client_id: &identity.client_id,
        proof: "client secret",
        proof_name: name,
        secret: &secret,
    };
    entra::fetch(settings, &application, &[("client_secret", secret.reveal())], scope, deadline)
}

/// The secret is the file's text without blanks around it: editors and `echo` end files with a line break.
fn read_file(path: &std::path::Path, name: &str) -> Result<Secret, Error> {
    let unusable = |why: &str| config(format!("{name} names {}, which {why}.", path.display()));
    let mut bytes = Vec::new();
    let read =
        os::open_plain(path).and_then(|file| file.take(LONGEST_SECRET_FILE + 1).read_to_end(&mut bytes));
    let length = read.map_err(|error| unusable(&format!("cannot be read: {error}")))?;
    if length as u64 > LONGEST_SECRET_FILE {
        return Err(unusable("is too long to be a client secret"));
    }
    let text = Secret::new(String::from_utf8(bytes).map_err(|_| unusable("is not UTF-8"))?);
    match text.reveal().trim() {
        "" => Err(unusable("is empty")),
        secret => Ok(Secret::new(secret)),
    }
}
