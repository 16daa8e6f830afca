//! Connections: what the caller asked for is resolved, judged, and made with a token or left to libpq.

mod resolve;

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use crate::client::{AccessToken, Client, Purpose};
use crate::conninfo::{self, Effective, Options, Source};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::issued;
use crate::libpq::{self, Arguments, Connection, Libpq};
use crate::log::Level;
use crate::policy::{Judge, Surroundings};
use crate::settings::{Auth, config};
use resolve::{Files, effective};

/// What the caller of a connect function gave.
pub(crate) enum Request<'a> {
    Conninfo(&'a CStr),
    Arrays { arguments: Arguments<'a>, expand_dbname: bool },
}

/// What is to be done for a request.
enum Plan {
    /// As libpq would; with other options where `DB_*` variables fill in for the caller.
    Unchanged(Option<Options>),
    /// With these options and a token; the caller waits for it no longer than that.
    Entra { options: Options, purpose: Purpose, patience: Option<Duration> },
}

/// The grammar that is read where no libpq is at hand, and the keywords that are added there.
const NEWEST_GRAMMAR: i32 = 180_000;
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
    let given = conninfo::parse(conninfo, version.unwrap_or(NEWEST_GRAMMAR))?;
    let keywords = version.unwrap_or(OLDEST_KEYWORDS);
    let knows = |keyword: &str| conninfo::keyword(keyword).is_some_and(|known| known.is_known_to(keywords));
    let files = Files::new(env, keywords);
    if client.settings().auth != Auth::Off && (given.contains("service") || env.libpq("PGSERVICE").is_some())
    {
        return Err(config(
            "A connection service (service, PGSERVICE) cannot be resolved by pgaad_connstring in this version: write \
             its options into the connection string, or use pgaad_connectdb.",
        ));
    }
    let resolve = |given: &Options| {
        let effective = conninfo::resolve(given, None, &|name| env.libpq(name), keywords, &|effective| {
            files.password_for(effective)
        });
        Ok(effective)
    };
    match plan(client, given.clone(), resolve, &files.surroundings(&knows, keywords, false))? {
        Plan::Unchanged(options) => Ok(options.unwrap_or(given).to_conninfo()),
        Plan::Entra { mut options, purpose, patience } => {
            let token = sign_in(client, &mut options, purpose, patience)?;
            options.set("password", token.secret());
            Ok(options.to_conninfo())
        }
    }
}

/// The connect functions. None: no libpq, or no memory left.
pub(crate) fn connect(client: &Client, request: &Request<'_>) -> Option<Connection> {
    let env = client.environment();
    let libpq = libpq_for_connect(env).ok()?;
    open(libpq, client, env, request).unwrap_or_else(|error| {
        client.note_failure();
        failed(libpq, &error)
    })
}

fn open(
    libpq: &Libpq,
    client: &Client,
    env: Environment<'_>,
    request: &Request<'_>,
) -> Result<Option<Connection>, Error> {
    match plan_with(libpq, client, env, request)? {
        Plan::Unchanged(None) => Ok(as_asked(libpq, request)),
        Plan::Unchanged(Some(options)) => {
            let (arguments, expand_dbname) = as_arrays(&options)?;
            Ok(libpq.connect(&arguments, expand_dbname))
        }
        Plan::Entra { mut options, purpose, patience } => {
            let token = sign_in(client, &mut options, purpose, patience)?;
            let (mut arguments, expand_dbname) = as_arrays(&options)?;
            arguments.push(b"password", token.secret().as_bytes())?;
            Ok(libpq.connect(&arguments, expand_dbname))
        }
    }
}

/// A token, and whoever it is for as the user where none is named.
fn sign_in(
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
    Ok(token)
}

/// A connection that failed before there was a client to make it.
pub(crate) fn refused(error: Error) -> Option<Connection> {
    failed(libpq_for_connect(Environment::process()).ok()?, &error)
}

fn failed(libpq: &Libpq, error: &Error) -> Option<Connection> {
    libpq.failed(&format!("pgaad: {error}"), error.kind() as usize + 1)
}

fn libpq_for_connect(env: Environment<'_>) -> Result<&'static Libpq, Error> {
    libpq::get(|name| env.text(name).ok().flatten())
}

/// The libpq that a connect would use.
pub(crate) fn libpq_at_hand() -> Result<&'static Libpq, Error> {
    let env = Environment::process();
    libpq::peek(|name| env.text(name).ok().flatten())
}

fn as_asked(libpq: &Libpq, request: &Request<'_>) -> Option<Connection> {
    match request {
        Request::Conninfo(conninfo) => libpq.connect_string(conninfo),
        Request::Arrays { arguments, expand_dbname } => libpq.connect(arguments, *expand_dbname),
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

fn plan_with(
    libpq: &Libpq,
    client: &Client,
    env: Environment<'_>,
    request: &Request<'_>,
) -> Result<Plan, Error> {
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
    mut given: Options,
    resolve: impl Fn(&Options) -> Result<Effective, Stop>,
    around: &Surroundings<'_>,
) -> Result<Plan, Stop> {
    let settings = client.settings();
    let mut effective = resolve(&given)?;
    let filled_in = fill_in(&mut given, &effective, client.environment())?;
    if filled_in {
        effective = resolve(&given)?;
    }
    if settings.auth == Auth::Off {
        return Ok(Plan::Unchanged(filled_in.then_some(given)));
    }
    let password = effective.value("password");
    let password_at_hand = !password.is_empty() && !issued::is_issued(password);
    let judge = Judge::new(settings, &effective, client.has_proof());
    let entra = judge.is_entra_on(password_at_hand)?;
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

/// `pgaad_connection_status`: the kind of our failure that a connection carries.
pub(crate) fn failure_of(connection: &Connection) -> Option<ErrorKind> {
    let libpq = libpq::settled()?;
    let kind = libpq.status_of(connection).checked_sub(1)?;
    ErrorKind::ALL.into_iter().find(|known| *known as usize == kind)
}
