//! Azure Arc: a machine elsewhere, whose agent proves by a file that it is the agent (Microsoft Learn: "Authenticate
//! against Azure resources with Azure Arc-enabled servers").

use std::io::ErrorKind::PermissionDenied;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::endpoint::{Endpoint, Spelling, platform_place, url};
use crate::credential::{Ask, Failure};
use crate::http::{Answer, Method};
use crate::os;
use crate::secret::Secret;
use crate::settings::{Managed, config, is_near};
use crate::token::Token;
use crate::url::host_of;

/// Where the agent listens unless `IDENTITY_ENDPOINT` says otherwise.
pub(super) const URL: &str = "http://localhost:40342/metadata/identity/oauth2/token";
const VERSION: &str = "2020-06-01";

/// Where the agent puts its files, which root and the group himds may read.
const DIRECTORY: &str = "/var/opt/azcmagent/tokens";
const LONGEST_FILE: u64 = 4096;

/// Whether this machine has the agent.
pub(super) fn is_installed() -> bool {
    Path::new("/opt/azcmagent/bin/himds").exists()
}

pub(super) fn fetch(ask: &Ask<'_>, managed: &Managed, base: &str) -> Result<Token, Failure> {
    // The agent is on this machine; what it is shown is nobody else's.
    if !is_near(&host_of(base)) {
        return Err(config("IDENTITY_ENDPOINT must name this machine, where Azure Arc's agent is.").into());
    }
    let url = url(base, VERSION, ask, Some((managed, &Spelling::METADATA)));
    let place = platform_place(ask.settings, "IDENTITY_ENDPOINT", base, url)?;
    let endpoint = Endpoint {
        headers: vec![("Metadata", "true")],
        // Old agents answer for the machine's own identity, whichever is named.
        must_echo: true,
        ..Endpoint::usual(place, "arc", managed)
    };
    endpoint.retrying(ask, || {
        let begun = Instant::now();
        let key = challenge(&endpoint, ask).map_err(|failure| endpoint.log_failure(ask, begun, failure))?;
        let authorization = Secret::new(format!("Basic {}", key.reveal()));
        endpoint.once(ask, &Method::Get, &[("Authorization", authorization.reveal())], Some(&key))
    })
}

/// Asks without proof, and reads the file that the agent then names.
fn challenge(endpoint: &Endpoint<'_>, ask: &Ask<'_>) -> Result<Secret, Failure> {
    let (answer, started) = endpoint.place.ask(&Method::Get, &endpoint.headers, ask.deadline)?;
    if answer.status != 401 {
        return Err(match endpoint.read(&answer, started, None) {
            Ok(_) => endpoint.place.protocol("gave a token without asking for the agent's file"),
            Err(failure) => failure,
        });
    }
    let strange =
        |what: &str| endpoint.place.protocol(&format!("asked for a file that is not the agent's: {what}"));
    let path = realm(&answer).ok_or_else(|| strange("it names none"))?;
    let name = Path::new(&path).file_name().filter(|_| path.ends_with(".key"));
    let name = name.ok_or_else(|| strange("its name does not end in .key"))?;
    // By its real name, so that no link leads elsewhere.
    let folder = Path::new(&path).parent().map(Path::canonicalize).unwrap_or_else(|| Ok(PathBuf::new()));
    let folder = match folder {
        Ok(folder) if is_agents(&folder) && path.starts_with('/') => Ok(folder.join(name)),
        Err(error) if error.kind() == PermissionDenied => Err(error),
        _ => return Err(strange(&format!("it is not in {DIRECTORY}"))),
    };
    folder.and_then(|file| read(&file)).map_err(|error| match error.kind() {
        PermissionDenied => Failure::nothing_here(format!(
            "The file that Azure Arc's agent asks for, {path}, may not be read by this user. Add the user to the group \
             himds."
        ))
        // The agent is here, and wants none of us: nobody else is to answer in its place.
        .here(true),
        _ => strange(&format!("{error}")),
    })
}

fn is_agents(folder: &Path) -> bool {
    PathBuf::from(DIRECTORY).canonicalize().is_ok_and(|agents| agents == folder)
}

/// The file that the challenge names: `Basic realm=/var/opt/azcmagent/tokens/NAME.key`.
fn realm(answer: &Answer) -> Option<String> {
    let challenge = answer.header("www-authenticate")?.trim();
    let (kind, parameters) = challenge.split_once(' ')?;
    let (name, path) = parameters.split_once('=')?;
    let fits = kind.eq_ignore_ascii_case("basic") && name.trim().eq_ignore_ascii_case("realm");
    fits.then(|| path.trim().trim_matches('"').to_string())
}

fn read(path: &Path) -> std::io::Result<Secret> {
    let bytes = os::read_up_to(os::open_unlinked(path)?, LONGEST_FILE)?;
    let text = String::from_utf8(bytes).map_err(|_| std::io::Error::other("it holds no text"))?;
    let text = Secret::new(text);
    let key = text.reveal().trim_end_matches(['\r', '\n']);
    match key.chars().all(|c| c.is_ascii_graphic() || c == ' ') && !key.is_empty() {
        true => Ok(Secret::new(key)),
        false => Err(std::io::Error::other("it holds no key")),
    }
}
