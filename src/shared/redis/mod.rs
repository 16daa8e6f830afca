//! A Redis server, shared by machines. What it does for us is small, so its client is: five commands in RESP 2.
//!
//! Redis may always be slow, full or gone; that costs a call a second at most, once in a growing while, and never the
//! token. An entry is `pgaad:1:NAME`, and ends with its token. The right to fetch is `pgaad:1:NAME:lease`, which holds a
//! number that only its holder knows. It ends by itself ten seconds later: a fetch takes a fraction of one, and where
//! it takes longer, another machine may as well try. So it is never renewed, and a holder that dies costs the others ten
//! seconds and not their deadline.
//!
//! A connection is open from a miss until the token is there, not from one token to the next: ten thousand machines
//! with a few processes each would need more connections than a server has.

mod connection;
#[cfg(test)]
mod tests;
mod url;
mod wire;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;

use super::{Lease, Store, Trouble};
use crate::error::{Error, ErrorKind};
use crate::http::{Roots, Trust, tls_config};
use crate::os::fork;
use crate::random;
use connection::{Connection, Failure, Tls};
use url::Place;
pub(crate) use url::Url;
use wire::Reply;

/// What one operation may take, whatever the deadline.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who had less time than this has not shown that Redis is slow.
const FAIR_CHANCE: Duration = Duration::from_millis(100);

/// The rest after a failure; it doubles up to the longest.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

const LONGEST_LEASE: Duration = Duration::from_secs(10);
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// How often those who wait ask whether the holder is done: soon at first, for a fetch is short, then less often. Of
/// ten thousand, each asks four times in the first second and once a second later, out of step with the others.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// How PTTL says that there is no such key.
const NOT_THERE: i64 = -2;

/// Tokens of one Redis.
pub(crate) struct RedisStore(Arc<Server>);

struct Server {
    url: Url,
    tls: Option<Tls>,
    state: fork::Lock<State>,
}

#[derive(Default)]
struct State {
    idle: Option<Connection>,
    failures: u32,
    rest: Option<Rest>,
}

/// Nothing is asked until then.
struct Rest {
    until: Instant,
    why: String,
}

impl RedisStore {
    /// `ca_file` alone may vouch for `rediss://` where it is given, else the built-in roots and the system's: the bundle
    /// that is named, or the distribution's.
    pub(crate) fn new(url: Url, ca_file: Option<&Path>, system: Option<&Path>) -> Result<Self, Error> {
        let usual = Roots { extra: None, system: system.map(Path::to_path_buf) };
        let trust = match ca_file {
            Some(path) => Trust::File { path, setting: "cache_ca_file (PGAAD_CACHE_CA_FILE)" },
            None => Trust::Roots { roots: &usual, name: None },
        };
        let tls = match &url.place {
            Place::Tcp { host, tls: true, .. } => {
                let name = ServerName::try_from(host.clone()).map_err(|_| {
                    let text =
                        format!("cache (PGAAD_CACHE) names the host {host}, which can be no host's name.");
                    Error::new(ErrorKind::Config, text)
                })?;
                tls_config(&trust)?.map(|config| Tls { config, name })
            }
            _ => None,
        };
        Ok(Self(Arc::new(Server { url, tls, state: fork::Lock::default() })))
    }
}

impl Store for RedisStore {
    fn get(&self, name: &str, deadline: Instant) -> Result<Option<Vec<u8>>, Trouble> {
        // What is longer is no entry; the beginning of it is none either, and is then replaced.
        match self.0.ask(&[b"GETRANGE", key(name).as_bytes(), b"0", b"65535"], deadline)? {
            (Reply::Bytes(Some(entry)), connection) if entry.is_empty() => {
                self.0.keep(connection);
                Ok(None)
            }
            (Reply::Bytes(entry), _) => Ok(entry),
            // Something else of that name: no entry, and replaced by one.
            (Reply::Refused(why), connection) if why.starts_with("WRONGTYPE") => {
                self.0.keep(connection);
                Ok(None)
            }
            (other, _) => Err(self.0.refusal(other)),
        }
    }

    fn put(&self, name: &str, entry: &[u8], life: Duration, deadline: Instant) -> Result<(), Trouble> {
        let (key, life) = (key(name), milliseconds(life));
        match self.0.ask(&[b"SET", key.as_bytes(), entry, b"PX", life.as_bytes()], deadline)? {
            (Reply::Said(_), connection) => {
                self.0.keep(connection);
                Ok(())
            }
            (other, _) => Err(self.0.refusal(other)),
        }
    }

    fn remove(&self, name: &str, deadline: Instant) -> Result<(), Trouble> {
        match self.0.ask(&[b"DEL", key(name).as_bytes()], deadline)? {
            (Reply::Number(_), _) => Ok(()),
            (other, _) => Err(self.0.refusal(other)),
        }
    }

    /// The deadline is that of the fetch: who waits for a holder that died must have time left to fetch.
    fn try_lease(&self, name: &str, deadline: Instant) -> Result<Option<Box<dyn Lease>>, Trouble> {
        let life = milliseconds(lease_life(deadline.saturating_duration_since(Instant::now())));
        let (key, holder) = (lease_key(name), random::guid());
        let command = [b"SET", key.as_bytes(), holder.as_bytes(), b"NX", b"PX", life.as_bytes()];
        let (reply, connection) = self.0.ask(&command, deadline)?;
        match reply {
            Reply::Said(_) => {
                self.0.keep(connection);
                let server = self.0.clone();
                Ok(Some(Box::new(RedisLease { server, key, holder, generation: fork::generation() })))
            }
            Reply::Bytes(None) => {
                self.0.keep(connection);
                Ok(None)
            }
            other => Err(self.0.refusal(other)),
        }
    }

    fn wait(&self, name: &str, deadline: Instant) -> Result<(), Trouble> {
        let key = lease_key(name);
        let mut pause = FIRST_LOOK;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            std::thread::sleep(pause.mul_f64(0.75 + random::fraction() / 2.0).min(left));
            if deadline <= Instant::now() {
                return Ok(());
            }
            match self.0.ask(&[b"PTTL", key.as_bytes()], deadline)? {
                (Reply::Number(NOT_THERE), connection) => {
                    self.0.keep(connection);
                    return Ok(());
                }
                (Reply::Number(left), connection)
                    if (0..=LONGEST_LEASE.as_millis() as i64).contains(&left) =>
                {
                    self.0.keep(connection);
                }
                (Reply::Number(_), _) => {
                    let text = format!(
                        "{} holds {key}, which none of us made: it would not end in time",
                        self.0.url
                    );
                    return Err(Trouble::of_moment(text));
                }
                (other, _) => return Err(self.0.refusal(other)),
            }
            pause = (pause + pause / 2).min(LONGEST_LOOK);
        }
    }
}

struct RedisLease {
    server: Arc<Server>,
    key: String,
    holder: String,
    generation: u64,
}

impl Lease for RedisLease {}

impl Drop for RedisLease {
    fn drop(&mut self) {
        // A child has a copy of its parent's.
        if self.generation != fork::generation() {
            return;
        }
        let (key, holder) = (self.key.as_bytes(), self.holder.as_bytes());
        // If this does not succeed, the lease ends with its time.
        let _ = self.server.with_connection(Instant::now() + PATIENCE, |connection| {
            // Not a script: many servers forbid those. If another gets the lease in between, EXEC does nothing.
            let [_, reply] = connection.ask_all([&[b"WATCH", key], &[b"GET", key]])?;
            match reply {
                Reply::Bytes(Some(current)) if current == holder => {
                    connection.ask_all([&[b"MULTI"], &[b"DEL", key], &[b"EXEC"]]).map(drop)
                }
                _ => Ok(()),
            }
        });
    }
}

fn key(name: &str) -> String {
    format!("pgaad:1:{name}")
}

fn lease_key(name: &str) -> String {
    format!("pgaad:1:{name}:lease")
}

/// Of whoever has so much time left.
fn lease_life(left: Duration) -> Duration {
    (left / 2).clamp(SHORTEST_LEASE, LONGEST_LEASE)
}

/// Redis takes whole ones, from 1 on.
fn milliseconds(time: Duration) -> String {
    time.as_millis().clamp(1, i64::MAX as u128 / 4).to_string()
}

impl Server {
    /// The answer, and the connection for those who will ask more.
    fn ask(&self, command: wire::Command<'_>, deadline: Instant) -> Result<(Reply, Connection), Trouble> {
        self.with_connection(deadline, |connection| connection.ask(command))
    }

    fn with_connection<T>(
        &self,
        deadline: Instant,
        work: impl Fn(&mut Connection) -> Result<T, Failure>,
    ) -> Result<(T, Connection), Trouble> {
        let begun = Instant::now();
        let kept = self.state.with(|state| match &state.rest {
            Some(rest) if begun < rest.until => {
                let seconds = (rest.until - begun).as_secs() + 1;
                Err(Trouble::of_moment(format!(
                    "{} {}; it is left alone for {seconds} s",
                    self.url, rest.why
                )))
            }
            _ => Ok(state.idle.take()),
        })?;
        let until = deadline.min(begun + PATIENCE);
        match self.attempt(kept, until, &work) {
            Ok(done) => {
                self.state.with(|state| (state.failures, state.rest) = (0, None));
                Ok(done)
            }
            Err(failure) => {
                let why = failure.to_string();
                if until - begun >= FAIR_CHANCE {
                    self.state.with(|state| state.fail(&why));
                }
                Err(Trouble::of_moment(format!("{} {why}", self.url)))
            }
        }
    }

    fn attempt<T>(
        &self,
        kept: Option<Connection>,
        until: Instant,
        work: impl Fn(&mut Connection) -> Result<T, Failure>,
    ) -> Result<(T, Connection), Failure> {
        if let Some(mut connection) = kept.filter(Connection::is_good) {
            connection.set_deadline(until);
            match work(&mut connection) {
                // The server closed it meanwhile. A new one will tell whether that is all.
                Err(Failure::Broken(_)) => {}
                result => return result.map(|value| (value, connection)),
            }
        }
        let mut connection = Connection::open(&self.url, self.tls.as_ref(), until)?;
        Ok((work(&mut connection)?, connection))
    }

    /// For the next operation, which is to come soon. One is enough: a client fetches one token at a time.
    fn keep(&self, connection: Connection) {
        // The other one is closed outside the lock.
        let _other = self.state.with(|state| state.idle.replace(connection));
    }

    /// It is there, but does not do what it was asked; to ask costs nothing, so it is not left alone.
    fn refusal(&self, reply: Reply) -> Trouble {
        let why = match reply {
            Reply::Refused(why) if why.starts_with("MOVED") || why.starts_with("ASK") => {
                "is one node of a cluster, which pgaad cannot use; it needs a server, or an address that stands for all \
                 nodes"
                    .into()
            }
            Reply::Refused(why) => format!("refused: {}", why.chars().take(200).collect::<String>()),
            _ => "gave an answer to something else".into(),
        };
        Trouble::of_moment(format!("{} {why}", self.url))
    }
}

impl State {
    fn fail(&mut self, why: &str) {
        let now = Instant::now();
        // Those who failed together failed once.
        if self.rest.as_ref().is_some_and(|rest| now < rest.until) {
            return;
        }
        self.rest = Some(Rest { until: now + rest_after(self.failures), why: why.into() });
        self.failures += 1;
    }
}

fn rest_after(failures: u32) -> Duration {
    (FIRST_REST * 2_u32.pow(failures.min(8))).min(LONGEST_REST)
}
