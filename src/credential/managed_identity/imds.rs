//! The metadata service of virtual machines, scale sets and Kubernetes nodes (Microsoft Learn: "How to use managed
//! identities for Azure resources on an Azure VM to acquire an access token").

use std::time::{Duration, Instant};

use super::endpoint::{Endpoint, Refusal, Spelling, is_azure, url};
use crate::credential::place::{CHECK_ROOTS, Hints, Place};
use crate::credential::retry::{self, Patience};
use crate::credential::{Ask, Failure};
use crate::error::{Error, ErrorKind};
use crate::http::{Answer, Method};
use crate::os::{self, fork::Lock};
use crate::settings::{Managed, Settings};
use crate::token::Token;

/// A link-local address, the same on every machine of Azure's.
pub(super) const HOST: &str = "http://169.254.169.254";
const PATH: &str = "/metadata/identity/oauth2/token";
const VERSION: &str = "2018-02-01";

/// An update takes it away for up to 70 seconds; the pauses add up to more.
const PATIENCE: Patience = Patience { tries: 8, first_pause: Duration::from_secs(1) };

/// How long a chain waits to see whether it is there, and for how long it remembers that it is not.
const PROBE_TIME: Duration = Duration::from_secs(1);
const REMEMBERED: Duration = Duration::from_secs(60);

/// What a chain knows of the metadata service.
#[derive(Default)]
pub(super) struct Probe(Lock<Known>);

#[derive(Clone, Copy, Default)]
enum Known {
    #[default]
    Nothing,
    There,
    /// It did not answer; until then, on the boot clock, it is not asked again.
    Silent(Duration),
}

pub(super) fn fetch(ask: &Ask<'_>, managed: &Managed, host: &str, probe: &Probe) -> Result<Token, Failure> {
    let on_azure = is_azure(ask.settings.environment());
    let in_doubt = ask.in_chain && !on_azure;
    if in_doubt {
        probe.ask(ask, host)?;
    }
    let url = url(&format!("{host}{PATH}"), VERSION, ask, Some((managed, &Spelling::METADATA)));
    let endpoint = Endpoint {
        headers: vec![("Metadata", "true")],
        is_transient: |status| matches!(status, 404 | 410 | 429 | 500..),
        patience: if in_doubt { &retry::USUAL } else { &PATIENCE },
        may_be_absent: !on_azure,
        refused,
        ..Endpoint::usual(place(ask.settings, host, url)?, "imds", managed)
    };
    endpoint.token(ask, &Method::Get)
}

fn place(settings: &Settings, host: &str, url: String) -> Result<Place, Error> {
    let hints = Hints {
        network: "Is this a machine of Azure's? If something else stands for the service, set PGAAD_IMDS_HOST.",
        untrusted: CHECK_ROOTS,
        stranger: "Another program, such as a proxy, answers in its place.",
    };
    Place::near(settings, url, format!("the instance metadata service ({host})"), None, hints)
}

fn refused(endpoint: &Endpoint<'_>, refusal: &Refusal<'_>) -> Option<Failure> {
    let name = endpoint.place.name();
    let unreachable = String::from_utf8_lossy(refusal.body).to_ascii_lowercase().contains("unreachable");
    match (refusal.status, refusal.code) {
        // Docker Desktop's proxy, for an address where nothing is.
        (403, _) if unreachable => Some(Failure::nothing_here(format!(
            "{name} is not here: a proxy answered that it cannot be reached{}.",
            refusal.words()
        ))),
        (400, "bad_request_102") => Some(endpoint.place.protocol("did not get the header Metadata")),
        (401, "unknown_source") => {
            Some(Failure::nothing_here(format!("{name} does not answer this machine{}.", refusal.words())))
        }
        _ => None,
    }
}

impl Probe {
    /// Finds out, in a second at most and once, whether the service is there: it answers a request without its header
    /// too, with a complaint.
    fn ask(&self, ask: &Ask<'_>, host: &str) -> Result<(), Failure> {
        let silent = |why: &str| {
            Failure::nothing_here(format!("The instance metadata service ({host}) is not here: {why}."))
        };
        match self.0.with(|known| *known) {
            Known::There => return Ok(()),
            Known::Silent(until) if os::since_boot() < until => {
                return Err(silent("it did not answer a moment ago"));
            }
            _ => {}
        }
        let enough = Instant::now() + PROBE_TIME;
        let deadline = ask.deadline.min(enough);
        let place = place(ask.settings, host, format!("{host}{PATH}?api-version={VERSION}"))?;
        match place.ask(&Method::Get, &[], deadline) {
            Ok((answer, _)) if is_page(&answer) => Err(silent("something else answers in its place")),
            Ok(_) => {
                self.0.with(|known| *known = Known::There);
                Ok(())
            }
            Err(failure) if failure.error.kind() != ErrorKind::Timeout => Err(silent("no connection")),
            // Not silence, but impatience.
            Err(failure) if deadline < enough => Err(failure),
            Err(_) => {
                let until = os::since_boot() + REMEMBERED;
                self.0.with(|known| *known = Known::Silent(until));
                Err(silent("it did not answer within a second"))
            }
        }
    }
}

/// A page for people comes from a proxy, or from the metadata service of another cloud.
fn is_page(answer: &Answer) -> bool {
    let kind = answer.header("content-type").unwrap_or_default();
    kind.to_ascii_lowercase().starts_with("text/html")
}
