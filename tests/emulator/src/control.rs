//! The control endpoint: plain HTTP on loopback, for curl and for tests in other languages.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::checker::Checker;
use crate::entra::{APPS, Config, Entra, Numbers, Separator};
use crate::faults::Fault;
use crate::front::Seen;
use crate::http::{Reader, Request, Response, Unread};
use crate::net::Server;
use crate::sync::{Gate, PATIENCE, Stop, lock};

/// The text of `GET /`.
const HELP: &str = "\
GET    /counters               what has happened: connections, handshakes, requests, tokens ...
GET    /counters/NAME/N        waits until the counter is N or more
GET    /requests               each request: method, target, headers, form
GET    /tokens                 each token issued
GET    /binds                  each login PostgreSQL asked about
POST   /revoke                 PostgreSQL refuses all tokens that exist by now
GET    /token/CLIENT_ID        a token without a request, as text
POST   /rotate-secret/CLIENT_ID  a new secret, as text; the old one is wrong from now on
GET    /config, PUT /config    prefix, lifetime, refresh_in, numbers (integers, strings, floats),
                               separator (lines, spaces, alternating), token_size, clock_skew
POST   /faults                 a fault, or an array of them, for the next requests
PUT    /faults                 a standing fault
DELETE /faults                 no faults any more
GET    /gate/N                 waits until N requests are at the gate (of {\"kind\":\"gate\"})
POST   /gate/open, /gate/close

A fault: {\"kind\": K, ...}, K one of
  none                         slow: ms
  status: status, error, code  echo_secret
  body: status, content_type, body        template: body, with {token}
  html: status                 garbage_json, empty_body, garbage
  redirect: status             hang, reset, close, gate
  cut_short, chunked, until_close, gzip, interim, stale        drip: ms
  field: name, value           without: name               expires_on_only: unix
  nul_in_token, newline_in_token, expired_token, opaque_token  token_size: size
  huge_body, huge_header       skew: seconds
With any: ms, before_tls, retry_after, retry_after_date (seconds from now), retry_after_ms,
  x_ms_retry_after_ms, headers (an object).
";

/// The logins' records of the servers that were started.
pub(crate) type Checkers = Arc<Mutex<Vec<Weak<Checker>>>>;

struct Control {
    entra: Arc<Entra>,
    checkers: Checkers,
    gate: Gate,
    stop: Stop,
}

pub(crate) fn start(entra: Arc<Entra>, checkers: Checkers) -> io::Result<Server> {
    let stop = Stop::new();
    let control = Control { entra, checkers, gate: Gate::new(), stop: stop.clone() };
    Server::start("control", stop, move |tcp, _| {
        let _ = control.serve(tcp); // clients come and go as they like
    })
}

impl Control {
    fn serve(&self, mut tcp: TcpStream) -> io::Result<()> {
        let mut reader = Reader::default();
        loop {
            let (response, close) = match reader.read(&mut tcp) {
                Ok(request) => (self.answer(&request), request.wants_close()),
                Err(Unread::Gone) => return Ok(()),
                Err(Unread::Bad(status, why)) => (text(status, why), true),
            };
            let response = if close { response.with("Connection", "close") } else { response };
            response.write(&mut tcp, |_| {})?;
            if close {
                return Ok(());
            }
        }
    }

    fn answer(&self, request: &Request) -> Response {
        let path: Vec<&str> = request.target.trim_start_matches('/').split('/').collect();
        let done = match (request.method.as_str(), &path[..]) {
            ("GET", [""]) => Ok(text(200, HELP)),
            ("GET", ["counters"]) => Ok(json_response(&self.counters())),
            ("GET", ["counters", name, n]) => self.wait_for_counter(name, n),
            ("GET", ["requests"]) => Ok(json_response(&self.entra.requests().iter().map(seen).collect())),
            ("GET", ["tokens"]) => Ok(json_response(&json!(self.entra.tokens()))),
            ("GET", ["binds"]) => Ok(json_response(&self.binds())),
            ("POST", ["revoke"]) => {
                self.checkers().iter().for_each(|checker| checker.revoke_all());
                Ok(ok())
            }
            ("GET", ["token", id]) => find(id).map(|app| text(200, &self.entra.mint(app))),
            ("POST", ["rotate-secret", id]) => find(id).map(|app| text(200, &self.entra.rotate_secret(app))),
            ("GET", ["config"]) => Ok(json_response(&show(&self.entra.config()))),
            ("PUT", ["config"]) => parse(&request.body).and_then(|json| self.configure(&json)).map(|()| ok()),
            ("POST", ["faults"]) => parse(&request.body).and_then(|json| self.queue(&json)).map(|()| ok()),
            ("PUT", ["faults"]) => parse(&request.body)
                .and_then(|json| Fault::from_json(&json, &self.gate))
                .map(|fault| self.entra.faults().always(fault))
                .map(|()| ok()),
            ("DELETE", ["faults"]) => {
                self.entra.faults().clear();
                Ok(ok())
            }
            ("POST", ["gate", "open"]) => {
                self.gate.open();
                Ok(ok())
            }
            ("POST", ["gate", "close"]) => {
                self.gate.close();
                Ok(ok())
            }
            ("GET", ["gate", n]) => {
                count(n).and_then(|n| self.wait(|time| self.gate.arrived_within(n, time)))
            }
            _ => Ok(text(404, "not here; GET / tells what is\n")),
        };
        done.unwrap_or_else(|why| text(400, &format!("{why}\n")))
    }

    fn checkers(&self) -> Vec<Arc<Checker>> {
        lock(&self.checkers).iter().filter_map(Weak::upgrade).collect()
    }

    fn counters(&self) -> Value {
        let c = self.entra.counters();
        json!({
            "connections": c.connections,
            "handshakes": c.handshakes,
            "failed_handshakes": c.failed_handshakes,
            "requests": c.requests,
            "tokens": c.tokens,
            "redirected": c.redirected,
            "faults_pending": self.entra.faults().pending(),
        })
    }

    fn wait_for_counter(&self, name: &str, n: &str) -> Result<Response, String> {
        let n = count(n)?;
        let read: fn(&crate::Counters) -> usize = match name {
            "connections" => |c| c.connections,
            "handshakes" => |c| c.handshakes,
            "failed_handshakes" => |c| c.failed_handshakes,
            "requests" => |c| c.requests,
            "tokens" => |c| c.tokens,
            "redirected" => |c| c.redirected,
            _ => return Err(format!("there is no counter {name}")),
        };
        self.wait(|time| self.entra.wait_until(|c| read(c) >= n, time))
    }

    /// Waits in short spells, so as not to outlast the emulator.
    fn wait(&self, happened_within: impl Fn(Duration) -> bool) -> Result<Response, String> {
        let deadline = Instant::now() + PATIENCE;
        while !happened_within(Duration::from_millis(100)) {
            if self.stop.is_set() || Instant::now() > deadline {
                return Ok(text(504, "not within the time\n"));
            }
        }
        Ok(ok())
    }

    fn binds(&self) -> Value {
        let binds = self.checkers().into_iter().flat_map(|checker| checker.binds());
        binds
            .map(|bind| {
                json!({
                    "role": bind.role,
                    "ok": bind.ok(),
                    "refused": bind.refused,
                    "uti": bind.uti,
                    "length": bind.length,
                    "sha256": bind.sha256,
                })
            })
            .collect()
    }

    fn queue(&self, json: &Value) -> Result<(), String> {
        let one = std::slice::from_ref(json);
        let list = json.as_array().map_or(one, Vec::as_slice);
        let faults =
            list.iter().map(|json| Fault::from_json(json, &self.gate)).collect::<Result<Vec<_>, _>>()?;
        faults.into_iter().for_each(|fault| self.entra.faults().next(fault));
        Ok(())
    }

    fn configure(&self, json: &Value) -> Result<(), String> {
        let mut config = self.entra.config();
        for (name, value) in json.as_object().ok_or("not an object")? {
            let integer = || value.as_i64().ok_or_else(|| format!("{name} is not an integer"));
            match (name.as_str(), value.as_str()) {
                ("prefix", Some(prefix)) => prefix.clone_into(&mut config.prefix),
                ("lifetime", _) => config.lifetime = integer()?,
                ("refresh_in", _) if value.is_null() => config.refresh_in = None,
                ("refresh_in", _) => config.refresh_in = Some(integer()?),
                ("numbers", Some("integers")) => config.numbers = Numbers::Integers,
                ("numbers", Some("strings")) => config.numbers = Numbers::Strings,
                ("numbers", Some("floats")) => config.numbers = Numbers::Floats,
                ("separator", Some("lines")) => config.separator = Separator::Lines,
                ("separator", Some("spaces")) => config.separator = Separator::Spaces,
                ("separator", Some("alternating")) => config.separator = Separator::Alternating,
                ("token_size", _) => config.token_size = integer()?.unsigned_abs() as usize,
                ("clock_skew", _) => config.clock_skew = integer()?,
                _ => return Err(format!("{name}: unknown, or its value is")),
            }
        }
        self.entra.configure(|old| *old = config);
        Ok(())
    }
}

fn text(status: u16, text: &str) -> Response {
    Response::new(status, "text/plain; charset=utf-8", text)
}

fn ok() -> Response {
    text(200, "ok\n")
}

fn json_response(json: &Value) -> Response {
    Response::new(200, "application/json", format!("{json:#}\n"))
}

fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))
}

fn count(n: &str) -> Result<usize, String> {
    n.parse().map_err(|_| format!("{n} is not a number"))
}

fn find(id: &str) -> Result<&'static crate::App, String> {
    APPS.iter()
        .copied()
        .find(|app| app.client_id == id)
        .ok_or_else(|| format!("there is no application {id}"))
}

fn seen(seen: &Seen) -> Value {
    let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(n, v)| json!([n, v])).collect::<Value>();
    json!({
        "connection": seen.connection,
        "method": seen.http.method,
        "target": seen.http.target,
        "headers": pairs(&seen.http.headers),
        "form": pairs(&seen.form),
    })
}

fn show(config: &Config) -> Value {
    json!({
        "prefix": config.prefix,
        "lifetime": config.lifetime,
        "refresh_in": config.refresh_in,
        "numbers": format!("{:?}", config.numbers).to_lowercase(),
        "separator": format!("{:?}", config.separator).to_lowercase(),
        "token_size": config.token_size,
        "clock_skew": config.clock_skew,
    })
}
