//! The front of a server: connections, with TLS or without, faults, counts and a record of the requests.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::faults::{Act, Fault, Faults, REDIRECT_PREFIX};
use crate::http::{self, Request, Response, Unread};
use crate::net::Server;
use crate::sync::{Stop, Watched, lock};

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

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The connection it came on, counted from 1.
    pub connection: u64,
    /// The request.
    pub http: Request,
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

/// What the threads of one server share.
pub(crate) struct Desk {
    /// None speaks plain HTTP.
    tls: Option<Mutex<Arc<ServerConfig>>>,
    stop: Stop,
    faults: Faults,
    record: Watched<Record>,
}

/// The public side of a running server: its faults, and what it has seen. Dropping it ends the server.
pub struct Front {
    desk: Arc<Desk>,
    server: Server,
}

impl Front {
    /// Starts a server whose requests are answered by `answer`. It gets the fault that they meet; what a fault does to
    /// a connection is done already.
    pub(crate) fn start(
        name: &str,
        desk: Arc<Desk>,
        answer: impl Fn(&Request, &Fault) -> Response + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let serving = Arc::clone(&desk);
        let server = Server::start(name, desk.stop.clone(), move |tcp, number| {
            let _ = serving.serve(tcp, number, &answer); // clients come and go as they like
        })?;
        Ok(Self { desk, server })
    }

    /// The port it listens on, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The faults to come.
    pub fn faults(&self) -> &Faults {
        &self.desk.faults
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.desk.record.get().counters
    }

    /// Blocks until the counters are as wanted; false if they are not within `patience`.
    #[must_use]
    pub fn wait_until(&self, done: impl Fn(&Counters) -> bool, patience: Duration) -> bool {
        self.desk.record.wait_until(patience, |record| done(&record.counters))
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.desk.record.get().requests.clone()
    }

    /// All tokens issued in answers so far.
    pub fn tokens(&self) -> Vec<String> {
        self.desk.record.get().tokens.clone()
    }

    /// Shows another certificate from the next connection on.
    pub(crate) fn set_tls(&self, config: Arc<ServerConfig>) {
        if let Some(tls) = &self.desk.tls {
            *lock(tls) = config;
        }
    }
}

impl Desk {
    /// Over TLS with this configuration, or without.
    pub(crate) fn new(tls: Option<Arc<ServerConfig>>) -> Arc<Self> {
        let (stop, faults) = (Stop::new(), Faults::default());
        Arc::new(Self { tls: tls.map(Mutex::new), stop, faults, record: Watched::new(Record::default()) })
    }

    /// Records a token that an answer carries.
    pub(crate) fn issued(&self, token: &str) {
        self.record.change(|record| {
            record.counters.tokens += 1;
            record.tokens.push(token.to_owned());
        });
    }

    fn count(&self, count: impl FnOnce(&mut Counters)) {
        self.record.change(|record| count(&mut record.counters));
    }

    fn serve(
        &self,
        mut tcp: TcpStream,
        connection: u64,
        answer: &dyn Fn(&Request, &Fault) -> Response,
    ) -> io::Result<()> {
        self.count(|c| c.connections += 1);
        if let Some(fault) = self.faults.for_connection() {
            fault.wait(&self.stop);
            if matches!(fault.act, Act::Reset | Act::Close | Act::Garbage) {
                let _ = tcp.read(&mut [0; 16 << 10])?; // the client speaks first: then it knows it is connected
            }
            if act_on_raw(&fault, &mut tcp)? {
                return Ok(());
            }
        }
        let mut wire = self.shake_hands(tcp)?;
        let mut reader = http::Reader::default();
        while !self.stop.is_set() {
            match reader.read(&mut wire) {
                Ok(mut request) => {
                    request.secure = self.tls.is_some();
                    if !self.exchange(request, connection, &mut wire, answer)? {
                        break;
                    }
                }
                Err(Unread::Gone) => break,
                Err(Unread::Bad(status, why)) => {
                    let response = Response::new(status, "text/plain", why).with("Connection", "close");
                    response.write(&mut wire, |_| {})?;
                    break;
                }
            }
        }
        wire.end()
    }

    fn shake_hands(&self, tcp: TcpStream) -> io::Result<Wire> {
        let Some(config) = &self.tls else { return Ok(Wire::Plain(tcp)) };
        let session = ServerConnection::new(Arc::clone(&lock(config))).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(session, tcp);
        while tls.conn.is_handshaking() {
            if let Err(error) = tls.conn.complete_io(&mut tls.sock) {
                self.count(|c| c.failed_handshakes += 1);
                return Err(error);
            }
        }
        self.count(|c| c.handshakes += 1);
        Ok(Wire::Tls(Box::new(tls)))
    }

    /// Answers a request; false if the connection ends with that.
    fn exchange(
        &self,
        request: Request,
        connection: u64,
        wire: &mut Wire,
        answer: &dyn Fn(&Request, &Fault) -> Response,
    ) -> io::Result<bool> {
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
                wire.write_all(GARBAGE)?;
                return Ok(false);
            }
            Act::Reset | Act::Hang => {
                act_on_raw(&fault, wire.tcp())?;
                return Err(io::ErrorKind::ConnectionAborted.into()); // without a close_notify
            }
            _ => {}
        }
        let mut response = answer(&request, &fault);
        let close = request.wants_close();
        if close {
            response = response.with("Connection", "close");
        }
        let reusable = response.write(wire, |ms| self.stop.pause(Duration::from_millis(ms)))?;
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

/// A connection whose handshake is done.
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &mut tls.sock,
        }
    }

    fn end(mut self) -> io::Result<()> {
        if let Self::Tls(tls) = &mut self {
            tls.conn.send_close_notify();
        }
        self.flush()
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(buffer),
            Self::Tls(tls) => tls.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}
