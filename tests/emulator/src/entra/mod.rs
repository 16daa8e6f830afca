//! The token service: its settings and state around [`grant`] and [`answer`].

mod answer;
mod assertion;
mod certificate;
mod directory;
mod federated;
mod grant;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use serde_json::Value;

use answer::claims as claims_for;
pub use directory::*;
pub(crate) use grant::tenant_of;

use certificate::Certificates;
use federated::Federation;

use crate::clock::{shifted, unix};
use crate::faults::{Fault, Faults, REDIRECT_PREFIX};
use crate::front::{Counters, Desk, Front, Seen};
use crate::http::{self, Response};
use crate::issuer::Issuer;
use crate::jwt::{Claims, Key};
use crate::random;
use crate::sync::lock;

/// How answers spell numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// `3599`
    Integers,
    /// `"3599"`
    Strings,
    /// `3599.0`
    Floats,
}

/// What stands between the parts of an error description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// `\r\n`
    Lines,
    /// A space.
    Spaces,
    /// One, then the other.
    Alternating,
}

/// How the service answers, as long as no fault says otherwise.
#[derive(Clone, Debug)]
pub struct Config {
    /// Path before the tenant, such as `/prefix`; empty by default.
    pub prefix: String,
    /// `expires_in`, and the life of tokens from now; 3599 by default.
    pub lifetime: i64,
    /// `refresh_in`; none by default.
    pub refresh_in: Option<i64>,
    /// How numbers are spelt.
    pub numbers: Numbers,
    /// How error descriptions are spelt.
    pub separator: Separator,
    /// The least length of a token in bytes; 1700 by default.
    pub token_size: usize,
    /// How many seconds the service's clock is ahead, for all times that it tells.
    pub clock_skew: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            lifetime: 3599,
            refresh_in: None,
            numbers: Numbers::Integers,
            separator: Separator::Alternating,
            token_size: 1700,
            clock_skew: 0,
        }
    }
}

pub(crate) struct State {
    key: Key,
    desk: Arc<Desk>,
    config: Mutex<Config>,
    secrets: Mutex<HashMap<&'static str, String>>,
    certificates: Certificates,
    federation: Federation,
    /// The `uti` of each token ever signed here.
    signed: Mutex<Vec<String>>,
    lines: AtomicBool,
}

impl State {
    pub(crate) fn config(&self) -> Config {
        lock(&self.config).clone()
    }

    fn secret(&self, app: &App) -> String {
        lock(&self.secrets).get(app.client_id).map_or_else(|| app.secret.to_owned(), String::clone)
    }

    /// The secret of whoever has one.
    fn secret_of(&self, who: &Subject<'_>) -> Option<String> {
        match who {
            Subject::App(app) => Some(self.secret(app)),
            Subject::Principal(_) => None,
        }
    }

    fn break_lines(&self, config: &Config) -> bool {
        match config.separator {
            Separator::Lines => true,
            Separator::Spaces => false,
            Separator::Alternating => !self.lines.fetch_not(Ordering::Relaxed),
        }
    }

    fn sign(&self, claims: Claims, size: usize) -> String {
        if let Some(Value::String(uti)) = claims.get("uti") {
            lock(&self.signed).push(uti.clone());
        }
        self.key.sign_padded(claims, size)
    }

    /// The claims of a token of ours, or what is wrong with its signature.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, String> {
        self.key.verify(token)
    }

    /// The `uti` of each token signed so far.
    pub(crate) fn signed(&self) -> Vec<String> {
        lock(&self.signed).clone()
    }

    fn answer(&self, request: &http::Request, fault: &Fault) -> Response {
        let prefix = match request.target.starts_with(&format!("{REDIRECT_PREFIX}/")) {
            true => format!("{REDIRECT_PREFIX}{}", self.config().prefix),
            false => self.config().prefix,
        };
        let served = request.header("host").is_some_and(is_ours);
        match tenant_of(&request.target, &prefix).filter(|_| served) {
            Some(tenant) => self.answer_for(tenant, request, fault),
            None => Response::new(
                404,
                "text/html",
                "<html><body>404 - File or directory not found.</body></html>",
            ),
        }
    }

    /// The answer to a token request, however it came, for this tenant.
    pub(crate) fn answer_for(&self, tenant: &str, request: &http::Request, fault: &Fault) -> Response {
        self.respond(request, grant::decide(request, tenant, self), fault)
    }

    pub(crate) fn cluster(&self) -> &Issuer {
        &self.federation.cluster
    }

    pub(crate) fn github(&self) -> &Issuer {
        &self.federation.github
    }

    pub(crate) fn pipelines(&self) -> &Issuer {
        &self.federation.pipelines
    }
}

/// Whether a Host header names this service.
fn is_ours(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    NAMES.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

/// The running token service.
pub struct Entra {
    state: Arc<State>,
    front: Front,
}

impl Entra {
    pub(crate) fn start(tls: Arc<ServerConfig>) -> io::Result<Self> {
        let desk = Desk::new(Some(tls));
        let state = Arc::new(State {
            key: Key::of_this_process()?,
            desk: Arc::clone(&desk),
            config: Mutex::default(),
            secrets: Mutex::default(),
            certificates: Certificates::default(),
            federation: Federation::new()?,
            signed: Mutex::default(),
            lines: AtomicBool::new(false),
        });
        let serving = Arc::clone(&state);
        let front = Front::start("entra", desk, move |request, fault| serving.answer(request, fault))?;
        Ok(Self { state, front })
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The port it listens on, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.front.port()
    }

    /// The faults to come.
    pub fn faults(&self) -> &Faults {
        self.front.faults()
    }

    /// How it answers.
    pub fn config(&self) -> Config {
        self.state.config()
    }

    /// Changes how it answers from now on.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        change(&mut lock(&self.state.config));
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.front.counters()
    }

    /// Blocks until the counters are as wanted; false if they are not within `patience`.
    #[must_use]
    pub fn wait_until(&self, done: impl Fn(&Counters) -> bool, patience: Duration) -> bool {
        self.front.wait_until(done, patience)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.front.requests()
    }

    /// All tokens issued in answers so far.
    pub fn tokens(&self) -> Vec<String> {
        self.front.tokens()
    }

    /// An application's secret as of now.
    pub fn secret(&self, app: &App) -> String {
        self.state.secret(app)
    }

    /// Replaces an application's secret, and returns the new one. The old one is wrong from now on.
    pub fn rotate_secret(&self, app: &App) -> String {
        let secret = format!("Rot8Q~{}", random::text::<24>());
        lock(&self.state.secrets).insert(app.client_id, secret.clone());
        secret
    }

    /// Adds a certificate, in DER, to those of an application.
    ///
    /// # Panics
    /// If it is no certificate.
    pub fn register_certificate(&self, app: &App, der: &[u8]) {
        self.state.certificates.register(app, der);
    }

    /// Lets an application use any certificate of this authority, as long as it sends the chain.
    ///
    /// # Panics
    /// If it is no certificate in DER.
    pub fn trust_issuer(&self, app: &App, der: &[u8]) {
        self.state.certificates.trust(app, der);
    }

    /// The issuer of a Kubernetes cluster's service account tokens.
    pub fn cluster(&self) -> &Issuer {
        self.state.cluster()
    }

    /// The issuer of GitHub's workflow tokens.
    pub fn github(&self) -> &Issuer {
        self.state.github()
    }

    /// The issuer of Azure Pipelines' service connections.
    pub fn pipelines(&self) -> &Issuer {
        self.state.pipelines()
    }

    /// Lets an application or user-assigned identity trust an issuer's assertions about a subject, beside those that
    /// [`APP_ONE`], [`APP_TWO`] and [`IDENTITY_ONE`] trust from the start.
    pub fn federate(&self, client_id: &str, issuer: &Issuer, subject: &str) {
        self.state.federation.add(client_id, issuer.url(), subject);
    }

    /// A token for PostgreSQL as the service would issue it, without a request.
    pub fn mint(&self, app: &App) -> String {
        self.mint_with(app, |_| {})
    }

    /// The same, with its claims changed before it is signed.
    pub fn mint_with(&self, app: &App, change: impl FnOnce(&mut Claims)) -> String {
        let config = self.state.config();
        let now = unix(shifted(config.clock_skew));
        let mut claims = claims_for(app.into(), POSTGRESQL, now, config.lifetime);
        change(&mut claims);
        self.state.sign(claims, config.token_size)
    }

    /// A token of a managed identity or a user for this resource, that lives for so many seconds from now.
    pub fn token_of(&self, who: &Principal, resource: &str, lifetime: i64) -> String {
        self.state.token_of(who, resource, lifetime)
    }

    /// The service's clock.
    pub fn now(&self) -> SystemTime {
        shifted(self.state.config().clock_skew)
    }
}
