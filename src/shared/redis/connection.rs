//! One connection to Redis, logged in.

use std::fmt;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use zeroize::Zeroizing;

use super::url::{Login, Place, Url};
use super::wire::{self, Command, Reply};
use crate::http::{self, CONNECTING};
use crate::os::{fork, unix_socket};

/// Longer than this, what is in between may have forgotten a silent connection.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// Whom to expect.
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

/// Why there is none, or no answer on it.
#[derive(Debug)]
pub(super) enum Failure {
    /// The time was up, while doing what is said.
    Late(&'static str),
    /// It ended, or never began; a new one may do better.
    Broken(String),
    /// Who is there is not to be talked to, or does not talk to us.
    Refused(String),
}

impl From<http::Failure> for Failure {
    fn from(failure: http::Failure) -> Self {
        match failure {
            http::Failure::Timeout(doing) => Self::Late(doing),
            http::Failure::Unreached(why) | http::Failure::Network(why) => Self::Broken(why),
            http::Failure::Proxy(why) | http::Failure::Untrusted(why) | http::Failure::Protocol(why) => {
                Self::Refused(why)
            }
        }
    }
}

/// What follows the server's name.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(doing) => write!(f, "did not answer in time, while {doing}"),
            Self::Broken(why) => write!(f, "cannot be reached: {why}"),
            Self::Refused(why) => write!(f, "cannot be used: {why}"),
        }
    }
}

pub(super) struct Connection {
    stream: BufReader<Stream>,
    pub(super) used: Instant,
    /// A child shares its parent's sockets, and must not touch them.
    generation: u64,
}

impl Connection {
    pub(super) fn open(url: &Url, tls: Option<&Tls>, deadline: Instant) -> Result<Self, Failure> {
        let socket = match &url.place {
            Place::Tcp { host, port, .. } => connect(host, *port, deadline)?,
            Place::Unix(path) => {
                unix_socket::connect(path, deadline).map_err(|error| failure(error, CONNECTING))?
            }
        };
        let socket = Timed { socket, deadline };
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(tls) => {
                let mut socket = socket;
                let mut session = ClientConnection::new(tls.config.clone(), tls.name.clone())
                    .map_err(|error| failure(io::Error::other(error), CONNECTING))?;
                session.complete_io(&mut socket).map_err(|error| failure(error, "agreeing on TLS"))?;
                Stream::Tls(Box::new(StreamOwned::new(session, socket)))
            }
        };
        let mut connection =
            Self { stream: BufReader::new(stream), used: Instant::now(), generation: fork::generation() };
        if let Some(login) = &url.login {
            connection.log_in(login)?;
        }
        if url.database != 0 {
            connection.select(url.database)?;
        }
        Ok(connection)
    }

    /// What the server says to this is not repeated: it may quote the password.
    fn log_in(&mut self, login: &Login) -> Result<(), Failure> {
        let password = login.password.reveal().as_bytes();
        let reply = match &login.user {
            Some(user) => self.ask(&[b"AUTH", user.as_bytes(), password])?,
            None => self.ask(&[b"AUTH", password])?,
        };
        let why = match reply {
            Reply::Said(_) => return Ok(()),
            Reply::Refused(why)
                if why.starts_with("WRONGPASS") || why.starts_with("ERR invalid password") =>
            {
                "it refused the user or password"
            }
            Reply::Refused(why)
                if why.contains("without any password") || why.contains("no password is set") =>
            {
                "it has no password, but one is set here"
            }
            _ => "it refused the login",
        };
        Err(Failure::Refused(why.into()))
    }

    fn select(&mut self, database: u32) -> Result<(), Failure> {
        match self.ask(&[b"SELECT", database.to_string().as_bytes()])? {
            Reply::Said(_) => Ok(()),
            Reply::Refused(why) => Err(Failure::Refused(format!("it refused database {database}: {why}"))),
            _ => Err(Failure::Refused("it answered something else".into())),
        }
    }

    /// Whether an operation may begin with it.
    pub(super) fn is_good(&self) -> bool {
        self.generation == fork::generation() && self.used.elapsed() < LONGEST_SILENCE
    }

    /// What is asked from now on must be answered by then.
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.stream.get_mut().socket().deadline = deadline;
    }

    pub(super) fn ask(&mut self, command: Command<'_>) -> Result<Reply, Failure> {
        let [reply] = self.ask_all([command])?;
        Ok(reply)
    }

    /// All of them at once: one way there and back.
    pub(super) fn ask_all<const N: usize>(
        &mut self,
        commands: [Command<'_>; N],
    ) -> Result<[Reply; N], Failure> {
        let mut out = Zeroizing::new(Vec::with_capacity(4096));
        commands.iter().for_each(|command| wire::write(command, &mut out));
        let sent = self.stream.get_mut().write_all(&out).and_then(|()| self.stream.get_mut().flush());
        sent.map_err(|error| failure(error, "sending a command"))?;
        let mut replies = [const { Reply::Bytes(None) }; N];
        for reply in &mut replies {
            *reply =
                wire::read(&mut self.stream).map_err(|error| failure(error, "waiting for its answer"))?;
        }
        if !self.stream.buffer().is_empty() {
            return Err(Failure::Refused("it answered what nobody asked".into()));
        }
        self.used = Instant::now();
        Ok(replies)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A child that was forked meanwhile holds the socket too: closing it here would not end the connection.
        if self.generation == fork::generation() {
            let _ = self.stream.get_mut().socket().socket.shutdown(Shutdown::Both);
        }
    }
}

fn connect(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, Failure> {
    let addresses = http::look_up(host, port, left(deadline)?)?;
    let mut trouble = Failure::Broken("its name has no address".into());
    for (at, address) in addresses.iter().enumerate() {
        // The first of several may not answer at all.
        let share = left(deadline)? / u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, share) {
            Ok(socket) => {
                let _ = socket.set_nodelay(true);
                return Ok(socket);
            }
            Err(error) => trouble = failure(error, CONNECTING),
        }
    }
    Err(trouble)
}

fn left(deadline: Instant) -> Result<Duration, Failure> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left < Duration::from_millis(1) { Err(Failure::Late("starting")) } else { Ok(left) }
}

fn failure(error: io::Error, doing: &'static str) -> Failure {
    match error.kind() {
        ErrorKind::TimedOut => Failure::Late(doing),
        ErrorKind::UnexpectedEof => Failure::Broken("it closed the connection".into()),
        // Words of ours (wire.rs), unless they are of TLS.
        ErrorKind::InvalidData if error.get_ref().is_some_and(|inner| !inner.is::<rustls::Error>()) => {
            Failure::Refused(error.to_string())
        }
        _ => http::Failure::from(error).into(),
    }
}

/// A socket that gives up at the deadline.
struct Timed {
    socket: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn in_time<T>(
        &mut self,
        limit: impl FnOnce(&TcpStream, Option<Duration>) -> io::Result<()>,
        act: impl FnOnce(&mut TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        limit(&self.socket, Some(left))?;
        act(&mut self.socket).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        })
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.in_time(TcpStream::set_read_timeout, |socket| socket.read(buffer))
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.in_time(TcpStream::set_write_timeout, |socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Stream {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

impl Stream {
    fn socket(&mut self) -> &mut Timed {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_mut(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
