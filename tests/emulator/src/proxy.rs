//! A forward proxy (HTTP CONNECT) that leads nowhere but to this machine.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Emulator;
use crate::entra::NAMES;
use crate::http::{Reader, Request, Response, Unread};
use crate::net::Server;
use crate::sync::{Stop, Watched, lock};

/// A request to the proxy.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The request.
    pub http: Request,
    /// The status it was answered with: 200, or why there is no tunnel.
    pub status: u16,
}

impl Connect {
    /// The host and port asked for.
    pub fn target(&self) -> &str {
        &self.http.target
    }
}

#[derive(Default)]
struct Rules {
    /// The value that Proxy-Authorization must have.
    authorization: Option<String>,
    hosts: HashMap<String, SocketAddr>,
    refuse: Option<u16>,
    hang: bool,
}

struct State {
    rules: Mutex<Rules>,
    connects: Watched<Vec<Connect>>,
}

/// A running proxy. It tunnels to loopback addresses, and to hosts that are mapped to one.
pub struct Proxy {
    state: Arc<State>,
    server: Server,
}

impl Proxy {
    /// Starts one.
    ///
    /// # Panics
    /// If there is no port for it.
    pub fn start() -> Self {
        let state = Arc::new(State { rules: Mutex::default(), connects: Watched::new(Vec::new()) });
        let serving = Arc::clone(&state);
        let server = Server::start("proxy", Stop::new(), move |tcp, _| {
            let _ = serving.serve(tcp); // clients come and go as they like
        });
        Self { state, server: server.unwrap_or_else(|error| panic!("cannot start the proxy: {error}")) }
    }

    /// Its URL, for `HTTPS_PROXY`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Leads the names of Microsoft's authorities and `login.pgaad.test` to this emulator.
    pub fn map_to(&self, emulator: &Emulator) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, emulator.entra().port()));
        for name in NAMES.iter().filter(|name| name.starts_with("login.")) {
            self.map(name, address);
        }
    }

    /// Leads one name, at any port, to an address of this machine.
    pub fn map(&self, host: &str, address: SocketAddr) {
        lock(&self.state.rules).hosts.insert(host.to_ascii_lowercase(), address);
    }

    /// Lets only those in who give this name and password (Basic); 407 for the others.
    pub fn require_auth(&self, user: &str, password: &str) {
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        lock(&self.state.rules).authorization = Some(format!("Basic {credentials}"));
    }

    /// Refuses all with this status from now on; None to stop that.
    pub fn refuse(&self, status: Option<u16>) {
        lock(&self.state.rules).refuse = status;
    }

    /// Accepts, and never answers, from now on.
    pub fn hang(&self, hang: bool) {
        lock(&self.state.rules).hang = hang;
    }

    /// The requests so far.
    pub fn connects(&self) -> Vec<Connect> {
        self.state.connects.get().clone()
    }

    /// Blocks until the requests are as wanted; false if they are not within `patience`.
    #[must_use]
    pub fn wait_until(&self, done: impl Fn(&[Connect]) -> bool, patience: Duration) -> bool {
        self.state.connects.wait_until(patience, |connects| done(connects))
    }
}

impl State {
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut reader = Reader::default();
        let request = match reader.read_head(&mut client) {
            Ok(request) => request,
            Err(Unread::Gone) => return Ok(()),
            Err(Unread::Bad(status, why)) => {
                return Response::new(status, "text/plain", why).write(&mut client, |_| {}).map(drop);
            }
        };
        let goal = if lock(&self.rules).hang { Err(0) } else { self.decide(&request) };
        let opened = goal.and_then(|address| {
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(|_| 502)
        });
        let status = *opened.as_ref().err().unwrap_or(&200);
        self.connects.change(|connects| connects.push(Connect { http: request, status }));
        match opened {
            Ok(server) => {
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                tunnel(client, server, &reader.rest())
            }
            Err(0) => {
                let mut sink = [0; 4096];
                while client.read(&mut sink)? > 0 {}
                Ok(())
            }
            Err(status) => {
                let mut response =
                    Response::new(status, "text/plain", "no tunnel\n").with("Connection", "close");
                if status == 407 {
                    response = response.with("Proxy-Authenticate", "Basic realm=\"pgaad\"");
                }
                response.write(&mut client, |_| {}).map(drop)
            }
        }
    }

    /// Where a request leads, or the status that refuses it.
    fn decide(&self, request: &Request) -> Result<SocketAddr, u16> {
        let rules = lock(&self.rules);
        if let Some(status) = rules.refuse {
            return Err(status);
        }
        if request.method != "CONNECT" {
            return Err(405);
        }
        if rules
            .authorization
            .as_deref()
            .is_some_and(|wanted| request.header("proxy-authorization") != Some(wanted))
        {
            return Err(407);
        }
        if !request.header("host").is_some_and(|host| host.eq_ignore_ascii_case(&request.target)) {
            return Err(400);
        }
        let (host, port) = request.target.rsplit_once(':').ok_or(400u16)?;
        let port: u16 = port.parse().map_err(|_| 400u16)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if let Some(address) = rules.hosts.get(&host) {
            return Ok(*address);
        }
        match host.parse::<IpAddr>() {
            Ok(address) if address.is_loopback() => Ok((address, port).into()),
            _ if host == "localhost" => Ok((Ipv4Addr::LOCALHOST, port).into()),
            _ => Err(403),
        }
    }
}

/// Copies both ways until both sides are done.
fn tunnel(mut client: TcpStream, mut server: TcpStream, early: &[u8]) -> io::Result<()> {
    server.write_all(early)?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    thread::scope(|scope| {
        scope.spawn(move || {
            let _ = io::copy(&mut from_server, &mut to_client);
            let _ = to_client.shutdown(Shutdown::Both);
        });
        let _ = io::copy(&mut client, &mut server);
        let _ = server.shutdown(Shutdown::Both);
    });
    Ok(())
}
