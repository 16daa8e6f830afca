//! Connections: what the caller asked for is resolved, judged, and made with a token or left to libpq.

mod note;
mod oauth;
#[cfg(feature = "command")]
pub(crate) mod outside;
mod reset;
mod resolve;

use std::borrow::Cow;
use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::{AccessToken, Client, Home, Purpose};
use crate::conninfo::{self, Effective, Options, Source};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::issued;
use crate::libpq::{self, Arguments, Connection, Libpq, Way};
use crate::log::Level;
use crate::policy::{Judge, Surroundings};
use crate::settings::{Auth, config};
use note::{Note, Signed};
use resolve::{Files, effective};
#[cfg(feature = "capi")]
pub(crate) use {note::failure_of, oauth::use_oauth, reset::reset};

/// What the caller of a connect function gave.
pub(crate) enum Request<'a> {
    Conninfo(Cow<'a, CStr>),
    Arrays { arguments: Arguments<'a>, expand_dbname: bool },
}

impl Request<'_> {
    /// The same, to be kept.
    fn to_owned(&self) -> Request<'static> {
        match self {
            Self::Conninfo(conninfo) => Request::Conninfo(Cow::Owned(conninfo.clone().into_owned())),
            Self::Arrays { arguments, expand_dbname } => {
                Request::Arrays { arguments: arguments.to_owned(), expand_dbname: *expand_dbname }
            }
        }
    }
}

/// What is to be done for a request.
enum Plan {
    /// As libpq would; with other options where `DB_*` variables fill in for the caller.
    Unchanged(Option<Options>),
    /// With these options and a token; the caller waits for it no longer than that.
    Entra { options: Options, purpose: Purpose, patience: Option<Duration> },
}

/// Where no libpq is at hand: as which one we read, and whose keywords are added.
const NEWEST_READING: i32 = 190_000;
const OLDEST_KEYWORDS: i32 = 120_000;

/// `pgaad_connstring`: the caller's options as a conninfo string, with a token where Entra is on.
pub(crate) fn connstring(client: &Client, conninfo: &[u8]) -> Result<Vec<u8>, Error> {
    write_connstring(client, conninfo).inspect_err(|_| client.note_failure())
}

fn write_connstring(client: &Client, conninfo: &[u8]) -> Result<Vec<u8>, Error> {
    let env = client.environment();
    // Of several that are loaded none is the one at hand.
    let libpq = libpq::loaded(|name| env.text(name).ok().flatten()).ok().flatten();
    let version = libpq.map(Libpq::version);
    let reading = version.unwrap_or(NEWEST_READING);
    let given = conninfo::parse(conninfo, reading)?;
    let keywords = version.unwrap_or(OLDEST_KEYWORDS);
    let knows = |keyword: &str| conninfo::keyword(keyword).is_some_and(|known| known.is_known_to(keywords));
    let files = Files::new(env, reading);
    let in_service = given.contains("service") || env.libpq("PGSERVICE").is_some();
    let resolve = |given: &Options| match libpq {
        // It knows its own directories, and follows services to where we don't. Of those that it does not find it says
        // nothing here.
        Some(libpq) if in_service => effective(libpq, given, env, &files)
            .or_else(|stop| files.effective(given, reading).map_err(Stop::from).and(Err(stop))),
        _ => Ok(files.effective(given, reading)?),
    };
    let planned = plan(client, given.clone(), resolve, &files.surroundings(&knows, keywords, false));
    let planned = match planned {
        // Without Entra it is libpq's to complain of.
        Err(_) if client.settings().auth == Auth::Off => Plan::Unchanged(None),
        planned => planned?,
    };
    match planned {
        Plan::Unchanged(options) => Ok(options.unwrap_or(given).to_conninfo()),
        Plan::Entra { mut options, purpose, patience } => {
            let token = sign_in(libpq, client, &mut options, purpose, patience)?;
            options.set("password", token.secret());
            Ok(options.to_conninfo())
        }
    }
}

/// The connect functions. None: no libpq, or no memory left.
pub(crate) fn connect(
    home: Result<Home, Error>,
    request: Result<Request<'_>, Error>,
    way: Way,
) -> Option<Connection> {
    let client = home.as_ref().map_err(Clone::clone).and_then(Home::client);
    let env = client.as_ref().map_or_else(|_| Environment::process(), |client| client.environment());
    let libpq = libpq_for_connect(env).ok()?;
    let opened = match (&client, &home, &request) {
        (Ok(client), Ok(home), Ok(request)) => open(libpq, client, home, request, way),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => Err(error.clone()),
    };
    opened.unwrap_or_else(|error| {
        if let Ok(client) = &client {
            client.note_failure();
        }
        failed(libpq, &error, home.ok(), request.as_ref().ok().map(Request::to_owned))
    })
}

fn open(
    libpq: &Libpq,
    client: &Arc<Client>,
    home: &Home,
    request: &Request<'_>,
    way: Way,
) -> Result<Option<Connection>, Error> {
    let (mut options, purpose, patience) = match plan_with(libpq, client, request)? {
        Plan::Unchanged(None) => return Ok(as_asked(libpq, request, way)),
        Plan::Unchanged(Some(options)) => {
            let (arguments, expand_dbname) = as_arrays(&options)?;
            return Ok(libpq.open(way, &arguments, expand_dbname));
        }
        Plan::Entra { options, purpose, patience } => (options, purpose, patience),
    };
    let begun = Instant::now();
    let names_user = !options.get("user").is_none_or(<[u8]>::is_empty);
    let never_waits = way == Way::Start && home.is_prefetched();
    let patience = if never_waits { Some(Duration::ZERO) } else { patience };
    let token = sign_in(Some(libpq), client, &mut options, purpose, patience).map_err(|error| {
        let of_prefetch = || home.prefetch_failure().filter(|_| never_waits);
        (error.kind() == ErrorKind::Timeout).then(of_prefetch).flatten().unwrap_or(error)
    })?;
    let signed = Signed { home: home.of_signed_in(client), purpose, names_user };
    let attempt = |token: &AccessToken| open_with(libpq, &options, token, way, signed.clone());
    let opened = attempt(&token)?;
    if way == Way::Connect
        && let Some(refused) = &opened
        && let Some(other) = other_token(libpq, client, refused, &token, (purpose, patience), begun)
        && let Ok(Some(second)) = attempt(&other)
    {
        opened.into_iter().for_each(|refused| libpq.finish(refused));
        return Ok(Some(second));
    }
    Ok(opened)
}

/// For a second attempt, where a server refused a token that was cached: a fresh one.
fn other_token(
    libpq: &Libpq,
    client: &Client,
    conn: &Connection,
    token: &AccessToken,
    (purpose, patience): (Purpose, Option<Duration>),
    begun: Instant,
) -> Option<AccessToken> {
    let is_due = token.is_cached() && libpq.refused_the_password(conn);
    let other = is_due.then(|| client.replace(token, purpose, patience, begun)).flatten()?;
    Level::Info.log(client.settings().log, "refused_token_replaced", &[]);
    Some(other)
}

/// How long a token may become without a new connection, where a connection is started: there is room to be made then.
const ROOM: usize = 16 * 1024;

/// Opens a connection with a token, and notes whose it is.
fn open_with(
    libpq: &Libpq,
    options: &Options,
    token: &AccessToken,
    way: Way,
    signed: Signed,
) -> Result<Option<Connection>, Error> {
    let secret = token.secret().as_bytes();
    let (mut arguments, expand_dbname) = as_arrays(options)?;
    let mut password = secret.to_vec();
    if way == Way::Start {
        // Nothing of it is sent before the first poll, and by then the token stands in its place.
        password.resize(ROOM.max(secret.len()), b'~');
    }
    arguments.push(b"password", &password)?;
    let opened = oauth::during(libpq, token, || libpq.open(way, &arguments, expand_dbname));
    let Some(conn) = opened else { return Ok(None) };
    libpq.attach(&conn, Note::signed(signed));
    if way == Way::Start && !libpq.is_bad(&conn) && !libpq.put_password(&conn, secret) {
        // Not as libpq was ever seen to be: then without room.
        libpq.finish(conn);
        return Ok(None);
    }
    Ok(Some(conn))
}

/// A token, and whoever it is for as the user where none is named.
fn sign_in(
    libpq: Option<&Libpq>,
    client: &Client,
    options: &mut Options,
    purpose: Purpose,
    patience: Option<Duration>,
) -> Result<AccessToken, Error> {
    let begun = Instant::now();
    let token = client.token_for(purpose, patience)?;
    if options.get("user").is_none_or(<[u8]>::is_empty) {
        options.set("user", client.user_of(&token, purpose, patience, begun)?);
    }
    if libpq.is_some_and(Libpq::has_our_hook) {
        oauth::complete(options, client, &token, purpose);
    }
    Ok(token)
}

/// A connection that failed before anything was known of it.
pub(crate) fn refused(error: Error) -> Option<Connection> {
    failed(libpq_for_connect(Environment::process()).ok()?, &error, None, None)
}

fn failed(
    libpq: &Libpq,
    error: &Error,
    home: Option<Home>,
    request: Option<Request<'static>>,
) -> Option<Connection> {
    let conn = libpq.failed(&format!("pgaad: {error}"))?;
    libpq.attach(&conn, Note::failed(error.kind(), home, request));
    Some(conn)
}

fn libpq_for_connect(env: Environment<'_>) -> Result<&'static Libpq, Error> {
    libpq::get(|name| env.text(name).ok().flatten())
}

/// The libpq that a connect would use.
pub(crate) fn libpq_at_hand() -> Result<&'static Libpq, Error> {
    let env = Environment::process();
    libpq::peek(|name| env.text(name).ok().flatten())
}

fn as_asked(libpq: &Libpq, request: &Request<'_>, way: Way) -> Option<Connection> {
    match request {
        Request::Conninfo(conninfo) => libpq.open_string(way, conninfo),
        Request::Arrays { arguments, expand_dbname } => libpq.open(way, arguments, *expand_dbname),
    }
}

/// The options as arrays, and whether their first `dbname` is to be expanded. In arrays an empty value is none; in a
/// string it counts, and keeps the environment out. So the empty ones go first, as a string; a `dbname` behind that
/// is a name, whatever it looks like.
fn as_arrays(options: &Options) -> Result<(Arguments<'static>, bool), Error> {
    let mut arguments = Arguments::new();
    let mut empty = Options::default();
    for (keyword, value) in options.iter().filter(|(_, value)| value.is_empty()) {
        empty.set(keyword, value);
    }
    if !empty.is_empty() {
        arguments.push(b"dbname", &empty.to_conninfo())?;
    }
    for (keyword, value) in options.iter().filter(|(_, value)| !value.is_empty()) {
        arguments.push(keyword, value)?;
    }
    Ok((arguments, !empty.is_empty()))
}

fn plan_with(libpq: &Libpq, client: &Client, request: &Request<'_>) -> Result<Plan, Error> {
    let env = client.environment();
    let given = match request {
        // A string that libpq refuses is libpq's to complain of.
        Request::Conninfo(conninfo) => conninfo::parse(conninfo.to_bytes(), libpq.version()),
        Request::Arrays { arguments, expand_dbname } => {
            let pairs: Vec<_> = arguments
                .iter()
                .map(|(keyword, value)| (keyword.to_bytes(), value.map(CStr::to_bytes)))
                .collect();
            conninfo::from_arrays(&pairs, *expand_dbname, libpq.version())
        }
    };
    let Ok(given) = given else { return Ok(Plan::Unchanged(None)) };
    let files = Files::new(env, libpq.version());
    let resolve = |given: &Options| effective(libpq, given, env, &files);
    let knows = |keyword: &str| libpq.knows(keyword);
    match plan(client, given, resolve, &files.surroundings(&knows, libpq.version(), true)) {
        // Refused by libpq before any contact, in its own words.
        Err(Stop::Unresolved) => Ok(Plan::Unchanged(None)),
        Err(Stop::Refused(error)) => Err(error),
        Ok(plan) => Ok(plan),
    }
}

/// Why there is no plan.
enum Stop {
    /// libpq cannot make sense of the options.
    Unresolved,
    Refused(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(error) => error,
            Stop::Unresolved => config("libpq cannot make sense of the connection's options."),
        }
    }
}

/// Judges the options that a connection would have.
fn plan(
    client: &Client,
    given: Options,
    resolve: impl Fn(&Options) -> Result<Effective, Stop>,
    around: &Surroundings<'_>,
) -> Result<Plan, Stop> {
    let settings = client.settings();
    let Completed { options: mut given, effective, filled_in } = complete(client, given, resolve)?;
    if settings.auth == Auth::Off {
        return Ok(Plan::Unchanged(filled_in.then_some(given)));
    }
    let password = effective.value("password");
    let password_at_hand = !password.is_empty() && !issued::is_issued(password);
    let judge = Judge::new(settings, &effective, client.has_proof());
    let entra = judge.rule(password_at_hand)?.is_on();
    if settings.log >= Level::Debug {
        let said = [("entra", if entra { "on" } else { "off" }), ("servers", &judge.servers())];
        Level::Debug.log(settings.log, "connection_judged", &said);
    }
    if !entra {
        return Ok(Plan::Unchanged(filled_in.then_some(given)));
    }
    given.remove("password");
    let purpose = judge.secure(&mut given, around)?;
    if given.get("user").is_none_or(<[u8]>::is_empty) {
        client.check_for_name()?;
    }
    Ok(Plan::Entra { options: given, purpose, patience: patience(&effective, settings.timeout) })
}

/// What a connection's options come to.
struct Completed {
    options: Options,
    effective: Effective,
    /// Whether `DB_*` variables are among them.
    filled_in: bool,
}

fn complete(
    client: &Client,
    mut options: Options,
    resolve: impl Fn(&Options) -> Result<Effective, Stop>,
) -> Result<Completed, Stop> {
    let mut effective = resolve(&options)?;
    let filled_in = fill_in(&mut options, &effective, client.environment())?;
    if filled_in {
        effective = resolve(&options)?;
    }
    Ok(Completed { options, effective, filled_in })
}

/// `connect_timeout` bounds the wait for the token too, where it is shorter.
fn patience(effective: &Effective, timeout: Duration) -> Option<Duration> {
    let seconds: i64 = std::str::from_utf8(effective.value("connect_timeout")).ok()?.trim().parse().ok()?;
    let limit = Duration::from_secs(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?);
    (limit < timeout).then_some(limit)
}

/// The original backend's variables: where its principal is set and nothing names a host, they name the server.
fn fill_in(given: &mut Options, effective: &Effective, env: Environment<'_>) -> Result<bool, Error> {
    let principal = ["DB_SP_TENANT_ID", "DB_SP_CLIENT_ID", "DB_SP_CLIENT_SECRET"];
    let named = ["host", "hostaddr"].iter().any(|keyword| !effective.value(keyword).is_empty());
    if named || !principal.iter().any(|name| env.var(name).is_some()) {
        return Ok(false);
    }
    let Some(host) = env.var("DB_HOST") else { return Ok(false) };
    given.set("host", host.as_bytes());
    for (keyword, name) in [("port", "DB_PORT"), ("dbname", "DB_NAME"), ("user", "DB_USERNAME")] {
        if effective.source(keyword) == Source::Default
            && let Some(value) = env.var(name)
        {
            given.set(keyword, value.as_bytes());
        }
    }
    Ok(true)
}
