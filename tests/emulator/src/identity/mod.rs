//! The endpoints that give a program on Azure its managed identity: what they share. Each platform has a file.
//!
//! ```no_run
//! let emulator = emulator::Emulator::start();
//! let imds = emulator::Endpoint::start(&emulator, emulator::Imds);
//! imds.configure(|host| host.system = None);
//! imds.front().faults().next(emulator::Fault::status_without_code(410, "gone"));
//! // Run something with imds.env(), then look at imds.front().requests().
//! ```

mod app_service;
mod arc;
mod ask;
mod cloud_shell;
mod imds;
mod nowhere;
mod old_app_service;
mod service_fabric;

use std::ffi::OsString;
use std::io;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use serde_json::{Value, json};

pub use app_service::AppService;
pub use arc::{ArcAgent, Challenge};
pub use cloud_shell::CloudShell;
pub use imds::Imds;
pub use nowhere::Nowhere;
pub use old_app_service::{Clock, OldAppService};
pub use service_fabric::ServiceFabric;

use crate::Emulator;
use crate::clock::{shifted, unix};
use crate::entra::{IDENTITY_ONE, IDENTITY_TWO, Kind, Principal, SYSTEM_IDENTITY, State};
use crate::faults::{Act, Edit, Fault, REDIRECT_PREFIX};
use crate::front::{Desk, Front};
use crate::http::{Request, Response};
use crate::random;
use crate::sync::lock;
use ask::{Ask, By, Denial, Selector};

/// The identities that a machine has, and how long their tokens live.
#[derive(Clone, Debug)]
pub struct Identities {
    /// Its own.
    pub system: Option<&'static Principal>,
    /// Those that were assigned to it.
    pub user_assigned: Vec<&'static Principal>,
    /// In seconds; a day by default, an hour in Cloud Shell.
    pub lifetime: i64,
}

impl Default for Identities {
    fn default() -> Self {
        Self {
            system: Some(&SYSTEM_IDENTITY),
            user_assigned: vec![&IDENTITY_ONE, &IDENTITY_TWO],
            lifetime: 86400,
        }
    }
}

impl Identities {
    /// The one that is named; without a name the machine's own, or the only one there is.
    fn choose(&self, selector: Option<&Selector>) -> Result<&'static Principal, Denial> {
        let Some(Selector { by, value }) = selector else {
            return match (self.system, self.user_assigned.as_slice()) {
                (Some(own), _) => Ok(own),
                (None, [only]) => Ok(only),
                (None, []) => Err(Denial::UnknownIdentity),
                (None, _) => Err(Denial::SeveralIdentities),
            };
        };
        let is_named = |who: &Principal| match by {
            By::Client => who.client_id.eq_ignore_ascii_case(value),
            By::Object => who.object_id.eq_ignore_ascii_case(value),
            // That of a system-assigned identity names its machine.
            By::Resource => {
                who.kind == Kind::UserAssigned
                    && who.resource_id.is_some_and(|id| id.eq_ignore_ascii_case(value))
            }
        };
        let mut all = self.system.iter().chain(&self.user_assigned).copied();
        all.find(|who| is_named(who)).ok_or(Denial::UnknownIdentity)
    }
}

/// What a platform answers with.
pub struct Grant {
    who: &'static Principal,
    token: String,
    resource: String,
    selector: Option<Selector>,
    now: i64,
    lifetime: i64,
}

impl Grant {
    fn expires_on(&self) -> i64 {
        self.now + self.lifetime
    }

    /// The answer of those whose numbers are all strings.
    fn in_strings(&self) -> Value {
        json!({
            "access_token": self.token,
            "client_id": self.who.client_id,
            "expires_in": self.lifetime.to_string(),
            "expires_on": self.expires_on().to_string(),
            "ext_expires_in": self.lifetime.to_string(),
            "not_before": (self.now - 300).to_string(),
            "refresh_token": "",
            "resource": self.resource,
            "token_type": "Bearer",
        })
    }
}

/// What makes one platform's endpoint differ from the others.
pub trait Platform: Send + Sync + 'static {
    /// The header that proves to the endpoint who asks, if there is one.
    const SECRET: Option<&'static str>;

    /// What it has at first.
    fn identities(&self) -> Identities {
        Identities::default()
    }

    /// Its certificate, if it speaks TLS.
    fn tls(&self) -> io::Result<Option<Arc<ServerConfig>>> {
        Ok(None)
    }

    /// The variables that the platform sets for the programs on it. `origin` is the endpoint's scheme, host and port.
    fn env(&self, origin: &str) -> Vec<(&'static str, String)>;

    /// Reads a request.
    fn read(&self, request: &Request) -> Result<Ask, Denial>;

    /// Status and `error` of a refusal.
    fn code(&self, denial: &Denial) -> (u16, &'static str);

    /// The body of a refusal.
    fn error(&self, status: u16, error: &str, text: &str) -> Value;

    /// The body that brings a token.
    fn answer(&self, grant: &Grant) -> Value;
}

struct Host<P> {
    platform: P,
    entra: Arc<State>,
    desk: Arc<Desk>,
    identities: Mutex<Identities>,
}

/// The managed identity endpoint of a platform, on loopback.
pub struct Endpoint<P> {
    host: Arc<Host<P>>,
    scheme: &'static str,
    front: Front,
}

impl<P: Platform> Endpoint<P> {
    /// Starts one, whose tokens are of the emulator's Entra.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(emulator: &Emulator, platform: P) -> Self {
        Self::try_start(emulator, platform)
            .unwrap_or_else(|error| panic!("cannot start the identity endpoint: {error}"))
    }

    fn try_start(emulator: &Emulator, platform: P) -> io::Result<Self> {
        let tls = platform.tls()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let desk = Desk::new(tls);
        let identities = Mutex::new(platform.identities());
        let entra = Arc::clone(emulator.entra().state());
        let host = Arc::new(Host { platform, entra, desk: Arc::clone(&desk), identities });
        let serving = Arc::clone(&host);
        let front = Front::start("identity", desk, move |request, fault| serving.answer(request, fault))?;
        Ok(Self { host, scheme, front })
    }

    /// What only this platform has.
    pub fn platform(&self) -> &P {
        &self.host.platform
    }

    /// Its faults, and what it has seen.
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.front.port())
    }

    /// The variables that the platform sets for the programs on it.
    pub fn env(&self) -> Vec<(String, OsString)> {
        let env = self.host.platform.env(&self.origin());
        env.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }

    /// The identities it has.
    pub fn identities(&self) -> Identities {
        lock(&self.host.identities).clone()
    }

    /// Changes the identities it has from now on.
    pub fn configure(&self, change: impl FnOnce(&mut Identities)) {
        change(&mut lock(&self.host.identities));
    }

    /// Whether any request, served or not, brought the header that has the secret.
    pub fn saw_secret(&self) -> bool {
        let name = P::SECRET.expect("a platform with a secret");
        self.front.requests().iter().any(|seen| seen.http.all(name).next().is_some())
    }
}

impl Endpoint<ServiceFabric> {
    /// Shows another certificate than the one announced, or that one again, from the next connection on.
    ///
    /// # Panics
    /// If the certificate is of no use.
    pub fn show_stranger(&self, stranger: bool) {
        let config = self.platform().certificate(!stranger);
        self.front.set_tls(config.unwrap_or_else(|error| panic!("no certificate: {error}")));
    }
}

impl<P: Platform> Host<P> {
    fn answer(&self, request: &Request, fault: &Fault) -> Response {
        let skew = self.entra.config().clock_skew;
        let response = fault.instead(request).unwrap_or_else(|| match &fault.act {
            Act::Refuse { status, error, code } => {
                let code = code.map(|code| format!("AADSTS{code}: ")).unwrap_or_default();
                self.refuse(*status, error, &format!("{code}This answer was made to order."))
            }
            Act::EchoSecret => {
                let sent = P::SECRET.and_then(|name| request.header(name)).unwrap_or_default();
                self.refuse(400, "invalid_request", &format!("Your secret is '{sent}'."))
            }
            _ => self.decide(request, fault).unwrap_or_else(|denial| self.deny(&denial)),
        });
        fault.dress(response, skew)
    }

    fn decide(&self, request: &Request, fault: &Fault) -> Result<Response, Denial> {
        let mut request = request.clone();
        if let Some(target) = request.target.strip_prefix(REDIRECT_PREFIX) {
            request.target = target.to_owned();
        }
        let Ask { resource, selector, .. } = self.platform.read(&request)?;
        let identities = lock(&self.identities).clone();
        let who = identities.choose(selector.as_ref())?;
        let lifetime = if fault.edits.iter().any(|edit| matches!(edit, Edit::Expired)) {
            -3600
        } else {
            identities.lifetime
        };
        let token = match fault.edits.iter().any(|edit| matches!(edit, Edit::Opaque)) {
            true => random::text::<200>(),
            false => self.entra.token_of(who, &resource, lifetime),
        };
        self.desk.issued(&token);
        if let Act::Template(text) = &fault.act {
            return Ok(json_response(200, text.replace("{token}", &token)));
        }
        let now = unix(shifted(self.entra.config().clock_skew + fault.skew));
        let lifetime = identities.lifetime;
        let mut body =
            self.platform.answer(&Grant { who, token: token.clone(), resource, selector, now, lifetime });
        fault.change(&mut body, &token);
        Ok(json_response(200, body.to_string()))
    }

    fn deny(&self, denial: &Denial) -> Response {
        let (status, error) = self.platform.code(denial);
        let response = self.refuse(status, error, &denial.text());
        match denial {
            Denial::Method(allowed) => response.with("Allow", *allowed),
            Denial::Unproven(Some(challenge)) => response.with("WWW-Authenticate", challenge),
            _ => response,
        }
    }

    fn refuse(&self, status: u16, error: &str, text: &str) -> Response {
        json_response(status, self.platform.error(status, error, text).to_string())
    }
}

fn json_response(status: u16, body: String) -> Response {
    Response::new(status, "application/json; charset=utf-8", body)
}

/// A secret as the platforms make them up.
fn new_secret() -> String {
    random::guid().replace('-', "").to_uppercase()
}
