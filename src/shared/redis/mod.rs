//! A Redis server, shared by machines. What it does for us is small, so its client is: ten commands in RESP 2.
//!
//! Redis may always be slow, full or gone; that costs a call a second at most, once in a growing while, and never the
//! token: a session's operations have a second together, the looks of those who wait for another's fetch aside. An entry is `pgaad:1:NAME`, and ends with its token. The right to fetch is `pgaad:1:NAME:lease`, which holds a
//! number that only its holder knows. It ends by itself ten seconds later: a fetch takes a fraction of one, and where
//! it takes longer, another machine may as well try. So it is never renewed, and a holder that dies costs the others ten
//! seconds and not their deadline.
//!
//! A connection is open for a session, not from one token to the next: ten thousand machines with a few processes each
//! would need more connections than a server has.

mod connection;
#[cfg(test)]
mod tests;
mod url;
mod wire;

use std::path::Path;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;

use super::{LONGEST_ENTRY, Session, Store, Trouble};
use crate::error::{Error, ErrorKind};
use crate::http::{Roots, Trust, tls_config};
use crate::os::fork;
use crate::random;
use connection::{Connection, Failure, Tls};
use url::Place;
pub(crate) use url::Url;
use wire::Reply;

/// What the operations of a session may take together, and each look of one who waits.
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

/// So much of a sealed entry tells it from all others: its version and nonce.
const MARK: usize = 13;

/// How PTTL says that there is no such key.
const NOT_THERE: i64 = -2;

/// Tokens of one Redis.
pub(crate) struct RedisStore {
    url: Url,
    tls: Option<Tls>,
    state: fork::Lock<State>,
}

#[derive(Default)]
struct State {
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
        Ok(Self { url, tls, state: fork::Lock::default() })
    }

    fn begin(&self, deadline: Instant) -> RedisSession<'_> {
        RedisSession {
            server: self,
            connection: None,
            deadline,
            left: PATIENCE,
            insists: false,
            is_good: true,
            lease: None,
        }
    }

    /// It is there, but does not do what it was asked; to ask costs nothing, so it is not left alone.
    fn refusal(&self, reply: Reply) -> Trouble {
        let why = match reply {
            Reply::Refused(why) if why.starts_with("MOVED") || why.starts_with("ASK") => {
                "is one node of a cluster, which pgaad cannot use; it needs a server, or an address that stands for all \
                 nodes"
                    .into()
            }
            Reply::Refused(why) => format!("refused: {why}"),
            _ => "gave an answer to something else".into(),
        };
        Trouble::of_moment(format!("{} {why}", self.url))
    }
}

impl Store for RedisStore {
    fn session(&self, deadline: Instant) -> Box<dyn Session + '_> {
        Box::new(self.begin(deadline))
    }
}

struct RedisSession<'a> {
    server: &'a RedisStore,
    connection: Option<Connection>,
    deadline: Instant,
    /// What its operations may still take.
    left: Duration,
    /// Whether it asks also a server that is left alone.
    insists: bool,
    /// Whether all went well so far.
    is_good: bool,
    lease: Option<Lease>,
}

/// The right to fetch, and the number that proves it.
struct Lease {
    key: String,
    holder: String,
    generation: u64,
}

impl Session for RedisSession<'_> {
    fn get(&mut self, name: &str) -> Result<Option<Vec<u8>>, Trouble> {
        // What is longer is no entry; the beginning of it is none either, and is then replaced.
        let last = (LONGEST_ENTRY - 1).to_string();
        match self.ask(&[b"GETRANGE", key(name).as_bytes(), b"0", last.as_bytes()])? {
            Reply::Bytes(entry) => Ok(entry.filter(|entry| !entry.is_empty())),
            // Something else of that name: no entry, and replaced by one.
            Reply::Refused(why) if why.starts_with("WRONGTYPE") => Ok(None),
            other => Err(self.server.refusal(other)),
        }
    }

    fn put(&mut self, name: &str, entry: &[u8], life: Duration) -> Result<(), Trouble> {
        let (key, life) = (key(name), milliseconds(life));
        match self.ask(&[b"SET", key.as_bytes(), entry, b"PX", life.as_bytes()])? {
            Reply::Said(_) => Ok(()),
            other => Err(self.server.refusal(other)),
        }
    }

    fn remove(&mut self, name: &str) -> Result<(), Trouble> {
        match self.ask(&[b"DEL", key(name).as_bytes()])? {
            Reply::Number(_) => Ok(()),
            other => Err(self.server.refusal(other)),
        }
    }

    /// The deadline is that of the fetch: who waits for a holder that died must have time left to fetch.
    fn try_lease(&mut self, name: &str) -> Result<bool, Trouble> {
        let life = milliseconds(lease_life(self.deadline.saturating_duration_since(Instant::now())));
        let (key, holder) = (lease_key(name), random::guid());
        // If the answer comes too late, it may be ours.
        self.lease = Some(Lease { key: key.clone(), holder: holder.clone(), generation: fork::generation() });
        // Whose it is is asked, too: the first command may have got through on a connection that then broke.
        let set: wire::Command<'_> =
            &[b"SET", key.as_bytes(), holder.as_bytes(), b"NX", b"PX", life.as_bytes()];
        let replies = self.run(|connection| connection.ask_all([set, &[b"GET", key.as_bytes()]]))?;
        self.got(&holder, replies)
    }

    /// If this does not succeed, it is tried again at the end, and else the lease ends with its time.
    fn release(&mut self) {
        // A child has a copy of its parent's.
        let Some(lease) = self.lease.take().filter(|lease| lease.generation == fork::generation()) else {
            return;
        };
        let (key, holder) = (lease.key.as_bytes(), lease.holder.as_bytes());
        let released = self.run(|connection| {
            // Not a script: many servers forbid those. If another gets the lease in between, EXEC does nothing.
            let [_, reply] = connection.ask_all([&[b"WATCH", key], &[b"GET", key]])?;
            match reply {
                Reply::Bytes(Some(current)) if current == holder => {
                    connection.ask_all([&[b"MULTI"], &[b"DEL", key], &[b"EXEC"]]).map(drop)
                }
                _ => Ok(()),
            }
        });
        if released.is_err() {
            self.lease = Some(lease);
        }
    }

    fn wait(&mut self, name: &str, seen: Option<&[u8]>, until: Instant) -> Result<(), Trouble> {
        let (entry, lease) = (key(name), lease_key(name));
        let (last, seen) = ((MARK - 1).to_string(), seen.unwrap_or_default());
        let seen = &seen[..seen.len().min(MARK)];
        let left = self.left;
        let mut pause = FIRST_LOOK;
        loop {
            let time = until.saturating_duration_since(Instant::now());
            std::thread::sleep(pause.mul_f64(0.75 + random::fraction() / 2.0).min(time));
            if until <= Instant::now() {
                return Ok(());
            }
            // A look of its own time.
            self.left = PATIENCE;
            let look: [wire::Command<'_>; 2] =
                [&[b"GETRANGE", entry.as_bytes(), b"0", last.as_bytes()], &[b"PTTL", lease.as_bytes()]];
            let replies = self.run(|connection| connection.ask_all(look))?;
            self.left = left;
            match replies {
                [_, Reply::Number(NOT_THERE)] => return Ok(()),
                [Reply::Bytes(Some(mark)), _] if mark != seen => return Ok(()),
                [_, Reply::Number(left)] if (0..=LONGEST_LEASE.as_millis() as i64).contains(&left) => {}
                [_, Reply::Number(_)] => {
                    let server = &self.server.url;
                    let text =
                        format!("{server} holds {lease}, which none of us made: it would not end in time");
                    return Err(Trouble::of_moment(text));
                }
                [_, other] => return Err(self.server.refusal(other)),
            }
            pause = (pause + pause / 2).min(LONGEST_LOOK);
        }
    }

    fn extend(&mut self, deadline: Instant) {
        (self.deadline, self.left, self.insists) = (deadline, PATIENCE, true);
    }
}

impl Drop for RedisSession<'_> {
    fn drop(&mut self) {
        self.release();
        // One that answers, but too slowly, is left alone for longer and longer all the same.
        if self.is_good && self.connection.is_some() {
            self.server.state.with(State::succeed);
        }
    }
}

impl RedisSession<'_> {
    /// Whether that holder has the lease, by the answers to SET and GET.
    fn got(&mut self, holder: &str, replies: [Reply; 2]) -> Result<bool, Trouble> {
        match replies {
            [Reply::Said(_) | Reply::Bytes(None), Reply::Bytes(current)] => {
                self.lease.take_if(|_| current.as_deref() != Some(holder.as_bytes()));
                Ok(self.lease.is_some())
            }
            [Reply::Said(_) | Reply::Bytes(None), other] | [other, _] => {
                self.lease = None;
                Err(self.server.refusal(other))
            }
        }
    }

    fn ask(&mut self, command: wire::Command<'_>) -> Result<Reply, Trouble> {
        self.run(|connection| connection.ask(command))
    }

    fn run<T>(&mut self, work: impl Fn(&mut Connection) -> Result<T, Failure>) -> Result<T, Trouble> {
        let (server, begun) = (self.server, Instant::now());
        let rest = server.state.with(|state| {
            let rest = state.rest.as_ref().filter(|rest| begun < rest.until && !self.insists)?;
            Some(((rest.until - begun).as_secs() + 1, rest.why.clone()))
        });
        if let Some((seconds, why)) = rest {
            let text = format!("{} {why}; it is left alone for {seconds} s", server.url);
            return Err(Trouble::of_moment(text));
        }
        let until = self.deadline.min(begun + self.left);
        let result = self.attempt(until, &work);
        self.left = self.left.saturating_sub(begun.elapsed());
        match result {
            Ok(value) => Ok(value),
            Err(failure) => {
                self.is_good = false;
                let why = failure.to_string();
                // Who had less time than others has not shown that Redis is slow.
                if until < self.deadline || until - begun >= FAIR_CHANCE {
                    server.state.with(|state| state.fail(&why));
                }
                Err(Trouble::of_moment(format!("{} {why}", server.url)))
            }
        }
    }

    fn attempt<T>(
        &mut self,
        until: Instant,
        work: impl Fn(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let Some(mut connection) = self.connection.take().filter(Connection::is_good) {
            connection.set_deadline(until);
            match work(&mut connection) {
                // The server closed it meanwhile. A new one will tell whether that is all.
                Err(Failure::Broken(_)) => {}
                Ok(value) => {
                    self.connection = Some(connection);
                    return Ok(value);
                }
                Err(failure) => return Err(failure),
            }
        }
        let mut connection = Connection::open(&self.server.url, self.server.tls.as_ref(), until)?;
        let value = work(&mut connection)?;
        self.connection = Some(connection);
        Ok(value)
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

impl State {
    /// Another session may have failed meanwhile.
    fn succeed(&mut self) {
        if self.rest.as_ref().is_none_or(|rest| rest.until <= Instant::now()) {
            (self.failures, self.rest) = (0, None);
        }
    }

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
