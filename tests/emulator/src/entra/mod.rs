//! The token service: connections, counts and records around [`grant`] and [`answer`].

mod answer;
mod directory;
mod grant;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

pub(crate) use answer::{claims as claims_for, shifted, unix};
pub use directory::*;

use crate::faults::{Act, Fault, Faults, REDIRECT_PREFIX};
use crate::http::{self, Response, Unread};
use crate::jwt::{Claims, Key};
use crate::net::Server;
use crate::random;
use crate::sync::{Stop, Watched, lock};

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

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// TCP connections accepted.
    pub connections: usize,
    /// TLS handshakes completed.
    pub handshakes: usize,
    /// TLS handshakes that failed, by the client's will or otherwise.
    pub failed_handshakes: usize,
    /// Requests read in full.
    pub requests: usize,
    /// Tokens issued in answers.
    pub tokens: usize,
    /// Requests below the path that redirects lead to.
    pub redirected: usize,
}

/// A request as the service saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The connection it came on, counted from 1.
    pub connection: u64,
    /// The request.
    pub http: http::Request,
    /// Names and values of its form, decoded; empty if it has none.
    pub form: Vec<(String, String)>,
}

impl Seen {
    /// The value of a form field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Record {
    counters: Counters,
    requests: Vec<Seen>,
    tokens: Vec<String>,
}

pub(crate) struct State {
    key: Key,
    tls: Arc<ServerConfig>,
    stop: Stop,
    faults: Faults,
    config: Mutex<Config>,
    secrets: Mutex<HashMap<&'static str, String>>,
    record: Watched<Record>,
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

    fn issued(&self, token: &str) {
        self.record.change(|record| {
            record.counters.tokens += 1;
            record.tokens.push(token.to_owned());
        });
    }

    fn count(&self, count: impl FnOnce(&mut Counters)) {
        self.record.change(|record| count(&mut record.counters));
    }

    fn serve(&self, mut tcp: TcpStream, connection: u64) -> io::Result<()> {
        self.count(|c| c.connections += 1);
        if let Some(fault) = self.faults.for_connection() {
            fault.wait(&self.stop);
            if matches!(fault.act, Act::Reset | Act::Close | Act::Garbage) {
                let _ = tcp.read(&mut [0; 16 << 10])?; // after the ClientHello, so that the client knows it is connected
            }
            if act_on_raw(&fault, &mut tcp)? {
                return Ok(());
            }
        }
        let session = ServerConnection::new(Arc::clone(&self.tls)).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(session, tcp);
        while tls.conn.is_handshaking() {
            if let Err(error) = tls.conn.complete_io(&mut tls.sock) {
                self.count(|c| c.failed_handshakes += 1);
                return Err(error);
            }
        }
        self.count(|c| c.handshakes += 1);
        let mut reader = http::Reader::default();
        while !self.stop.is_set() {
            match reader.read(&mut tls) {
                Ok(request) => {
                    if !self.answer(request, connection, &mut tls)? {
                        break;
                    }
                }
                Err(Unread::Gone) => break,
                Err(Unread::Bad(status, why)) => {
                    let response = Response::new(status, "text/plain", why).with("Connection", "close");
                    response.write(&mut tls, |_| {})?;
                    break;
                }
            }
        }
        tls.conn.send_close_notify();
        tls.flush()
    }

    /// Answers a request; false if the connection ends with that.
    fn answer(
        &self,
        request: http::Request,
        connection: u64,
        tls: &mut StreamOwned<ServerConnection, TcpStream>,
    ) -> io::Result<bool> {
        let config = self.config();
        let redirected = request.target.starts_with(&format!("{REDIRECT_PREFIX}/"));
        let form = http::parse_form(&request.body).unwrap_or_default();
        self.record.change(|record| {
            record.counters.requests += 1;
            record.counters.redirected += usize::from(redirected);
            record.requests.push(Seen { connection, http: request.clone(), form });
        });
        let fault = if redirected { Fault::none() } else { self.faults.for_request() };
        fault.wait(&self.stop);
        match fault.act {
            Act::Close => return Ok(false),
            Act::Garbage => {
                tls.write_all(GARBAGE)?;
                return Ok(false);
            }
            Act::Reset | Act::Hang => {
                act_on_raw(&fault, &mut tls.sock)?;
                return Err(io::ErrorKind::ConnectionAborted.into()); // without a close_notify
            }
            _ => {}
        }
        let prefix = config.prefix.as_str();
        let redirect_prefix = format!("{REDIRECT_PREFIX}{prefix}");
        let prefix = if redirected { redirect_prefix.as_str() } else { prefix };
        let served = request.header("host").is_some_and(is_ours);
        let mut response = match grant::tenant_of(&request.target, prefix).filter(|_| served) {
            Some(tenant) => {
                let decision = grant::decide(&request, tenant, |app| self.secret(app));
                self.respond(&request, decision, &fault)
            }
            None => Response::new(
                404,
                "text/html",
                "<html><body>404 - File or directory not found.</body></html>",
            ),
        };
        let close = request.wants_close();
        if close {
            response = response.with("Connection", "close");
        }
        let reusable = response.write(tls, |ms| self.stop.pause(Duration::from_millis(ms)))?;
        Ok(reusable && !close && !fault.then_close)
    }
}

const GARBAGE: &[u8] = b"\x00\xff\x16\x03\x01\r\n\x80\x81\x82 this is not HTTP\r\n\r\n\x00\x01\x02\x03";

/// Does what can be done to a connection without its TLS; true if that was its end.
fn act_on_raw(fault: &Fault, tcp: &mut TcpStream) -> io::Result<bool> {
    match fault.act {
        Act::Hang => {
            let mut sink = [0; 4096];
            while tcp.read(&mut sink)? > 0 {}
        }
        Act::Reset => crate::os::reset_on_close(tcp)?,
        Act::Garbage => tcp.write_all(GARBAGE)?,
        Act::Close => {}
        _ => return Ok(false),
    }
    Ok(true)
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
    server: Server,
}

impl Entra {
    pub(crate) fn start(tls: Arc<ServerConfig>) -> io::Result<Self> {
        let stop = Stop::new();
        let state = Arc::new(State {
            key: Key::of_this_process()?,
            tls,
            stop: stop.clone(),
            faults: Faults::default(),
            config: Mutex::default(),
            secrets: Mutex::default(),
            record: Watched::new(Record::default()),
            signed: Mutex::default(),
            lines: AtomicBool::new(false),
        });
        let serving = Arc::clone(&state);
        let server = Server::start("entra", stop, move |tcp, number| {
            let _ = serving.serve(tcp, number); // clients come and go as they like
        })?;
        Ok(Self { state, server })
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The port it listens on, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The faults to come.
    pub fn faults(&self) -> &Faults {
        &self.state.faults
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
        self.state.record.get().counters
    }

    /// Blocks until the counters are as wanted; false if they are not within `patience`.
    #[must_use]
    pub fn wait_until(&self, done: impl Fn(&Counters) -> bool, patience: Duration) -> bool {
        self.state.record.wait_until(patience, |record| done(&record.counters))
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.state.record.get().requests.clone()
    }

    /// All tokens issued in answers so far.
    pub fn tokens(&self) -> Vec<String> {
        self.state.record.get().tokens.clone()
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

    /// A token for PostgreSQL as the service would issue it, without a request.
    pub fn mint(&self, app: &App) -> String {
        self.mint_with(app, |_| {})
    }

    /// The same, with its claims changed before it is signed.
    pub fn mint_with(&self, app: &App, change: impl FnOnce(&mut Claims)) -> String {
        let config = self.state.config();
        let now = unix(shifted(config.clock_skew));
        let mut claims = claims_for(app, POSTGRESQL, now, config.lifetime);
        change(&mut claims);
        self.state.sign(claims, config.token_size)
    }

    /// The service's clock.
    pub fn now(&self) -> SystemTime {
        shifted(self.state.config().clock_skew)
    }
}
