//! The C interface, in the order of the header. No decisions here: pointers in, one call, ownership out.
#![allow(unsafe_code)] // pointers of C callers
#![allow(clippy::missing_safety_doc)] // the comments are the header's, for C programmers
#![allow(non_camel_case_types)]

mod callback;
mod guard;
mod ptr;
mod status;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "command")]
pub(crate) use status::of as status_of;
pub use status::*;

use crate::client::{Client, Held, Home, Shared};
use crate::connection::{self, Request};
use crate::error::Error;
use crate::libpq::{self, Arguments, Connection, Way};
use crate::os::fork::Lock;
use guard::call;
use ptr::{Out, give};

/// When the library is loaded, since a panic may come at any call.
#[ctor::ctor(unsafe)]
fn keep_panics_quiet() {
    crate::bug::keep_quiet();
}

/// libpq's connection object, `PGconn`.
pub type pg_conn = libpq::PgConn;

/// One identity with its settings and its tokens. Any number of threads may use one client at the same time.
pub struct pgaad_client(Shared);

const _: () = {
    const fn any_thread<T: Send + Sync>() {}
    any_thread::<pgaad_client>();
};

/// The client behind the functions that take none.
static DEFAULT: pgaad_client = pgaad_client(Shared::empty());

/// Handles of clients that were freed, to be used again: the memory of a handle stays a handle, so that a call
/// that still runs finds the client gone, not the memory.
static FREED: Lock<VecDeque<&'static pgaad_client>> = Lock::new(VecDeque::new());

fn default_client() -> *mut pgaad_client {
    (&raw const DEFAULT).cast_mut()
}

/// A handle for a new client.
fn handle_of(client: Client) -> *mut pgaad_client {
    let unused = FREED.with(VecDeque::pop_front);
    let handle = unused.unwrap_or_else(|| Box::leak(Box::new(pgaad_client(Shared::empty()))));
    handle.0.put(client);
    std::ptr::from_ref(handle).cast_mut()
}

/// # Safety
/// `client` is NULL or came from one of the functions that make clients.
unsafe fn handle(client: *const pgaad_client) -> Result<&'static pgaad_client, Error> {
    // SAFETY: the caller says so, and handles are never unmapped.
    unsafe { client.as_ref() }.ok_or_else(|| ptr::is_null("client"))
}

impl pgaad_client {
    fn is_default(&self) -> bool {
        std::ptr::eq(self, &DEFAULT)
    }

    /// The client, for as long as a call runs on it.
    fn get(&self) -> Result<Arc<Client>, Error> {
        self.keep(self.0.hold())
    }

    fn keep(&self, held: Held) -> Result<Arc<Client>, Error> {
        if self.is_default() {
            return self.0.get_or_make();
        }
        held.keep().ok_or_else(|| ptr::invalid("client was given back with pgaad_client_free.".into()))
    }

    /// Where the client is found when the call is over.
    fn home(&'static self) -> Result<Home, Error> {
        if self.is_default() { Ok(Home::of_default(&self.0)) } else { Home::of(&self.0) }
    }
}

/// The library's version, "1.2.3", to compare with PGAAD_VERSION, which is the header's. Static: not given back.
#[unsafe(no_mangle)]
pub extern "C" fn pgaad_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// The library's version as one number: 10203 is 1.2.3.
#[unsafe(no_mangle)]
pub extern "C" fn pgaad_version_number() -> c_int {
    let part = |text: &str| text.parse::<c_int>().unwrap_or(0);
    part(env!("CARGO_PKG_VERSION_MAJOR")) * 10_000
        + part(env!("CARGO_PKG_VERSION_MINOR")) * 100
        + part(env!("CARGO_PKG_VERSION_PATCH"))
}

/// The name of a status, such as "PGAAD_DENIED"; a number that is no status has the name "PGAAD_UNKNOWN". Static,
/// never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn pgaad_status_name(status: pgaad_status) -> *const c_char {
    status::name(status).as_ptr()
}

/// Gives back a string that one of these functions handed out through a char **: wipes it, then frees it. Not
/// free(3), which would leave a token in memory.
///
/// string: to be given back once. NULL is fine; static strings (pgaad_version, pgaad_status_name) are not given back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_free(string: *mut c_void) {
    // SAFETY: the header asks for a string of ours, once.
    unsafe { ptr::take_back(string) }
}

/// Gets a token for the database, from memory while it is fresh, else from Entra or wherever the identity has its
/// tokens; of many threads that ask, one fetches. Needs no libpq.
///
/// token: out, to be given back with pgaad_free.
/// Waits: up to the setting timeout_ms.
/// Fails: with PGAAD_CONFIG, PGAAD_DISABLED, PGAAD_UNAVAILABLE, PGAAD_DENIED, PGAAD_THROTTLED, PGAAD_NETWORK,
///   PGAAD_TIMEOUT or PGAAD_PROTOCOL, which say why there is no token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_get_token(token: *mut *mut c_char, errmsg: *mut *mut c_char) -> pgaad_status {
    // SAFETY: the pointers are passed on as they came.
    unsafe { get_token(&DEFAULT, -1, token, None, errmsg) }
}

/// Writes a conninfo string for libpq: the caller's options, and, where Entra is on for this server, a token as
/// password and what keeps it safe (verified TLS, no other host than the one that was judged). Where Entra is off for
/// this server it is the caller's options without a token. Needs no libpq.
///
/// conninfo: as for PQconnectdb, key=value or a URI; NULL or "" is the environment alone. Options that pgaad does not
///   know are passed on.
/// connstring: out, to be given back with pgaad_free; it holds a secret.
/// Waits: as pgaad_connectdb does for a token.
/// PGAAD_CONFIG: the string or its connection service cannot be read, or an option contradicts a token.
/// PGAAD_INSECURE: the token may not go there.
/// Fails: else as pgaad_get_token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_connstring(
    conninfo: *const c_char,
    connstring: *mut *mut c_char,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    // SAFETY: the pointers are passed on as they came.
    unsafe { pgaad_client_connstring(default_client(), conninfo, connstring, errmsg) }
}

/// PQconnectdb, signed in with Entra where it is on for this server.
///
/// Keeps libpq's contract: the result is NULL only for lack of memory or of libpq itself (pgaad_libpq says why); on
/// any failure PQstatus is CONNECTION_BAD, PQerrorMessage says why (ours begins with "pgaad: "), and PQfinish
/// releases everything.
///
/// A server that refuses a token that was not fetched for this call is asked once more with a fresh one, at most once
/// a minute for each client. The token is good for this connect: PQreset would send the same one again, pgaad_reset
/// sends a fresh one.
///
/// conninfo: as for PQconnectdb, key=value or a URI; NULL or "" is the environment alone.
/// Waits: for a token up to the setting timeout_ms or the connection's connect_timeout, whichever is shorter; then
///   libpq's connect_timeout runs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_connectdb(conninfo: *const c_char) -> *mut pg_conn {
    // SAFETY: the pointers are passed on as they came.
    unsafe { pgaad_client_connectdb(default_client(), conninfo) }
}

/// PQconnectdbParams, signed in with Entra where it is on for this server.
///
/// keywords: read as libpq reads them: up to a NULL, and the last of equal ones counts. The array itself NULL: a BAD
///   connection with PGAAD_INVALID_ARGUMENT.
/// values: one for each keyword; an empty one, or NULL, is none. The array itself NULL: as for keywords.
/// expand_dbname: not 0: a connection string in the first dbname is expanded.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_connectdb_params(
    keywords: *const *const c_char,
    values: *const *const c_char,
    expand_dbname: c_int,
) -> *mut pg_conn {
    // SAFETY: the pointers are passed on as they came.
    unsafe { pgaad_client_connectdb_params(default_client(), keywords, values, expand_dbname) }
}

/// PQconnectStart, signed in with Entra where it is on for this server; the caller goes on with PQconnectPoll. On any
/// failure the result is BAD as that of pgaad_connectdb.
///
/// Waits: for the lookup of a host name, as PQconnectStart does; and, where no token is there, for one as
///   pgaad_connectdb does, unless pgaad_client_prefetch was called for this client: then never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_connect_start(conninfo: *const c_char) -> *mut pg_conn {
    // SAFETY: the pointers are passed on as they came.
    unsafe { pgaad_client_connect_start(default_client(), conninfo) }
}

/// PQconnectStartParams, as pgaad_connect_start is PQconnectStart; the arrays are those of pgaad_connectdb_params.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_connect_start_params(
    keywords: *const *const c_char,
    values: *const *const c_char,
    expand_dbname: c_int,
) -> *mut pg_conn {
    // SAFETY: the pointers are passed on as they came.
    unsafe { pgaad_client_connect_start_params(default_client(), keywords, values, expand_dbname) }
}

/// PQreset with a fresh token, for a connection that one of these functions returned, and by the identity that opened
/// it; with a second attempt as pgaad_connectdb. In an event loop, PQfinish and pgaad_connect_start; PQresetStart would
/// send the old token.
///
/// Options stay what they were when the connection was opened, wherever they came from; host and TLS are judged anew.
/// A connection without Entra is reset as by PQreset; one that pgaad failed to open is opened anew with its first
/// arguments.
///
/// conn: in and out. The same connection as long as the new token fits in the place of the old one; else a new one with
///   the same options, and the old one is finished (notice receivers, event procedures, verbosity and trace are then
///   the caller's to set again). On failure it is as it was.
/// Waits: for a token as pgaad_connectdb, then for the server as PQreset.
/// PGAAD_OK: it was tried, see PQstatus.
/// PGAAD_INVALID_ARGUMENT: the client that opened the connection is gone.
/// PGAAD_CONFIG: PGSERVICE now says something else, or an option contradicts a token.
/// PGAAD_INSECURE: the token may not go there.
/// Fails: else as pgaad_get_token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_reset(conn: *mut *mut pg_conn, errmsg: *mut *mut c_char) -> pgaad_status {
    // SAFETY: the pointers are passed on as they came.
    unsafe { reset(None, conn, errmsg) }
}

/// Makes a client of its own settings. Sends nothing yet.
///
/// settings: in the grammar of a conninfo string: "tenant_id=... client_id=... client_secret_file=/run/secrets/db".
///   What they leave out comes from the environment; NULL or "" is the environment alone.
/// client: out, to be given back with pgaad_client_free.
/// PGAAD_CONFIG: a setting is unknown, missing, malformed or contradicts another one; the message names it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_new(
    settings: *const c_char,
    client: *mut *mut pgaad_client,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    let body = || {
        // SAFETY: the header asks for a place to write to, and for a string.
        let (client, settings) =
            unsafe { (Out::new(client, std::ptr::null_mut(), "client")?, ptr::utf8(settings, "settings")?) };
        client.put(handle_of(Client::new(settings)?));
        Ok(())
    };
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, body) }
}

/// The place for the answer of a token callback. It ends when the callback returns.
pub struct pgaad_answer(callback::Answer);

/// Gets a token for a client, from wherever the program has tokens, and answers with pgaad_answer_token or
/// pgaad_answer_error, once, before it returns. It must return: no longjmp, no exception.
///
/// The function may call pgaad for other clients, and give its own client back; what else it calls for its own client
/// answers PGAAD_INVALID_ARGUMENT.
///
/// userdata: what pgaad_client_new_callback was given.
/// scope: what the token is for, such as "https://ossrdbms-aad.database.windows.net/.default"; valid during the call.
/// timeout_ms: how long the caller waits, in milliseconds; a call that allows no time (0) does not get here. A function
///   that takes longer holds up the call that runs it.
/// answer: valid until the function returns; another thread may answer meanwhile.
pub type pgaad_token_fn = Option<
    unsafe extern "C" fn(
        userdata: *mut c_void,
        scope: *const c_char,
        timeout_ms: c_int,
        answer: *mut pgaad_answer,
    ),
>;

/// Releases the userdata of a callback. NULL: there is nothing to release.
pub type pgaad_release_fn = Option<unsafe extern "C" fn(userdata: *mut c_void)>;

/// Answers a token callback with a token. An answer with NULL, with what cannot be a token, with one that has expired,
/// or a second answer makes the call that needs the token fail with PGAAD_PROTOCOL.
///
/// token: the token; it is copied.
/// expires_on: until when it is good, in Unix seconds (UTC); 0: as the token's own claim "exp" says; of both the
///   earlier counts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_answer_token(
    answer: *mut pgaad_answer,
    token: *const c_char,
    expires_on: i64,
) {
    // SAFETY: the header asks for the answer of a callback that runs, and for NULL or a string.
    let (answer, token) = unsafe { (answer.as_ref(), ptr::string(token)) };
    if let Some(pgaad_answer(answer)) = answer {
        answer.token(token, expires_on);
    }
}

/// Answers a token callback with a failure.
///
/// status: what the call that needs the token is to fail with, such as PGAAD_DENIED or PGAAD_NETWORK; a number that is
///   no failure becomes PGAAD_PROTOCOL.
/// message: a line for people, UTF-8, without secrets; is copied. NULL: there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_answer_error(
    answer: *mut pgaad_answer,
    status: pgaad_status,
    message: *const c_char,
) {
    // SAFETY: the header asks for the answer of a callback that runs, and for NULL or a string.
    let (answer, message) = unsafe { (answer.as_ref(), ptr::string(message)) };
    if let Some(pgaad_answer(answer)) = answer {
        answer.error(status, message);
    }
}

/// Makes a client whose tokens the program itself supplies; they are kept and renewed like any other. Entra is on for
/// every connection of such a client, whatever PGAAD_AUTH says.
///
/// settings: as for pgaad_client_new; auth may be "callback" or absent.
/// fetch: called on the thread of a call that needs a token, one call at a time for each client; under
///   callback_thread=any on a thread of ours, which it may never have seen.
/// userdata: handed to fetch and release as it is.
/// release: may be NULL. Called once, on any thread, when the client has been given back and no fetch runs; not if this
///   function fails, and not for a client that is never given back.
/// client: out, to be given back with pgaad_client_free.
/// Fails: as pgaad_client_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_new_callback(
    settings: *const c_char,
    fetch: pgaad_token_fn,
    userdata: *mut c_void,
    release: pgaad_release_fn,
    client: *mut *mut pgaad_client,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    let body = || {
        // SAFETY: the header asks for a place to write to, and for a string.
        let (client, settings) =
            unsafe { (Out::new(client, std::ptr::null_mut(), "client")?, ptr::utf8(settings, "settings")?) };
        let fetch = fetch.ok_or_else(|| ptr::is_null("fetch"))?;
        // SAFETY: the header asks for functions of these types, called here with their own userdata.
        let program = unsafe { callback::Program::new(fetch, userdata) };
        let program = Arc::new(program);
        let asked = program.clone();
        let made = Client::with_callback(settings, move |scope, time| asked.fetch(scope, time))?;
        // Only now is there something to release.
        program.release_with(release);
        client.put(handle_of(made));
        Ok(())
    };
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, body) }
}

/// The client behind the functions that take none, made from the environment at first use. A first use that fails is
/// not remembered: set the environment right and call again.
///
/// client: out. It belongs to the library: freeing it does nothing.
/// Fails: as pgaad_client_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_default(
    client: *mut *mut pgaad_client,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    let body = || {
        // SAFETY: the header asks for a place to write to.
        let client = unsafe { Out::new(client, std::ptr::null_mut(), "client")? };
        DEFAULT.get()?;
        client.put(default_client());
        Ok(())
    };
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, body) }
}

/// Gives a client back. Calls that still run on it finish; none may start after this. Strings and connections taken
/// from it stay valid.
///
/// client: NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_free(client: *mut pgaad_client) {
    // SAFETY: the header asks for NULL or a client.
    let Some(client) = (unsafe { client.as_ref() }).filter(|client| !client.is_default()) else { return };
    // A failure has nobody to go to.
    let _ = crate::bug::contain(|| {
        // Given back twice, it is used again once.
        if client.0.clear() {
            FREED.with(|freed| freed.push_back(client));
        }
    });
}

/// pgaad_get_token for a client.
///
/// timeout_ms: how long this call may wait, in milliseconds; negative: the client's setting; 0: a token that is here
///   already, else PGAAD_TIMEOUT. A caller who gives up leaves the fetch running for others.
/// expires_on: out, may be NULL: until when the token is good, in Unix seconds (UTC).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_get_token(
    client: *mut pgaad_client,
    timeout_ms: c_int,
    token: *mut *mut c_char,
    expires_on: *mut i64,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    // SAFETY: the pointers are passed on as they came.
    unsafe { get_token(client, timeout_ms, token, Some(expires_on), errmsg) }
}

/// # Safety
/// The pointers are as the header asks for them.
unsafe fn get_token(
    client: *const pgaad_client,
    timeout_ms: c_int,
    token: *mut *mut c_char,
    expires_on: Option<*mut i64>,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    let body = || {
        // SAFETY: the header asks for places to write to, and for a client.
        let (expires_on, token, client) = unsafe {
            let expires_on = expires_on.and_then(|place| Out::optional(place, 0));
            (expires_on, Out::new(token, std::ptr::null_mut(), "token")?, handle(client)?)
        };
        // Looked at once: the handle may be given back and used anew meanwhile.
        let held = client.0.hold();
        let (copy, end) = match held.warm_token(|secret, end| (give(secret.as_bytes()), end)) {
            Some((copy, end)) => (copy?, end),
            None => {
                let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
                let client = client.keep(held)?;
                let got = match timeout {
                    Some(timeout) => client.token_within(timeout),
                    None => client.token(),
                }?;
                (give(got.secret().as_bytes())?, got.expires_on())
            }
        };
        if let Some(place) = expires_on {
            place.put(end);
        }
        token.put(copy);
        Ok(())
    };
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, body) }
}

/// The user that the client's identity is to the database, as its token says: a user's principal name, or the name of a
/// user-assigned identity. It may take a second token, for Azure Resource Manager, to find out. PGUSER and the like
/// don't count here. Needs no libpq.
///
/// user: out, to be given back with pgaad_free.
/// Waits: up to the setting timeout_ms.
/// PGAAD_CONFIG: no token of this identity holds a name (those of applications and of system-assigned identities
///   don't): set user.
/// Fails: else as pgaad_get_token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_get_user(
    client: *mut pgaad_client,
    user: *mut *mut c_char,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    let body = || {
        // SAFETY: the header asks for a place to write to, and for a client.
        let (user, client) = unsafe { (Out::new(user, std::ptr::null_mut(), "user")?, handle(client)?) };
        user.put(give(client.get()?.user()?.as_bytes())?);
        Ok(())
    };
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, body) }
}

/// pgaad_connstring for a client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_connstring(
    client: *mut pgaad_client,
    conninfo: *const c_char,
    connstring: *mut *mut c_char,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    let body = || {
        // SAFETY: the header asks for a place to write to, a string and a client.
        let (connstring, conninfo, client) = unsafe {
            (
                Out::new(connstring, std::ptr::null_mut(), "connstring")?,
                ptr::string(conninfo),
                handle(client)?,
            )
        };
        let made = connection::connstring(&*client.get()?, conninfo.to_bytes())?;
        connstring.put(give(&made)?);
        Ok(())
    };
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, body) }
}

/// pgaad_connectdb for a client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_connectdb(
    client: *mut pgaad_client,
    conninfo: *const c_char,
) -> *mut pg_conn {
    // SAFETY: the header asks for NULL or a string, and for a client.
    unsafe { connect(client, Way::Connect, || Ok(Request::Conninfo(Cow::Borrowed(ptr::string(conninfo))))) }
}

/// pgaad_connectdb_params for a client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_connectdb_params(
    client: *mut pgaad_client,
    keywords: *const *const c_char,
    values: *const *const c_char,
    expand_dbname: c_int,
) -> *mut pg_conn {
    // SAFETY: the header asks for arrays as libpq wants them, and for a client.
    unsafe { connect(client, Way::Connect, || arrays(keywords, values, expand_dbname)) }
}

/// pgaad_connect_start for a client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_connect_start(
    client: *mut pgaad_client,
    conninfo: *const c_char,
) -> *mut pg_conn {
    // SAFETY: the header asks for NULL or a string, and for a client.
    unsafe { connect(client, Way::Start, || Ok(Request::Conninfo(Cow::Borrowed(ptr::string(conninfo))))) }
}

/// pgaad_connect_start_params for a client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_connect_start_params(
    client: *mut pgaad_client,
    keywords: *const *const c_char,
    values: *const *const c_char,
    expand_dbname: c_int,
) -> *mut pg_conn {
    // SAFETY: the header asks for arrays as libpq wants them, and for a client.
    unsafe { connect(client, Way::Start, || arrays(keywords, values, expand_dbname)) }
}

/// # Safety
/// The arrays are NULL or as the header asks for them.
unsafe fn arrays<'a>(
    keywords: *const *const c_char,
    values: *const *const c_char,
    expand_dbname: c_int,
) -> Result<Request<'a>, Error> {
    if keywords.is_null() {
        return Err(ptr::is_null("keywords"));
    }
    if values.is_null() {
        return Err(ptr::is_null("values"));
    }
    // SAFETY: the caller says so.
    let arguments = unsafe { Arguments::borrow(keywords, values) };
    Ok(Request::Arrays { arguments, expand_dbname: expand_dbname != 0 })
}

/// # Safety
/// `client` is as the header asks for it.
unsafe fn connect<'a>(
    client: *mut pgaad_client,
    way: Way,
    request: impl FnOnce() -> Result<Request<'a>, Error>,
) -> *mut pg_conn {
    let open = || {
        // SAFETY: the caller says so.
        let home = unsafe { handle(client) }.and_then(pgaad_client::home);
        connection::connect(home, request(), way)
    };
    let refused = |bug| crate::bug::contain(|| connection::refused(bug)).unwrap_or_default();
    let opened = crate::bug::contain(open).unwrap_or_else(refused);
    opened.map_or(std::ptr::null_mut(), Connection::into_raw)
}

/// pgaad_reset by this client, whoever opened the connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_reset(
    client: *mut pgaad_client,
    conn: *mut *mut pg_conn,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    // SAFETY: the pointers are passed on as they came.
    unsafe { reset(Some(client), conn, errmsg) }
}

/// # Safety
/// The pointers are as the header asks for them.
unsafe fn reset(
    by: Option<*mut pgaad_client>,
    conn: *mut *mut pg_conn,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    let body = || {
        // SAFETY: the header asks for a client,
        let by = by.map(|client| unsafe { handle(client) }.and_then(pgaad_client::home)).transpose()?;
        // SAFETY: for a place that holds a connection, which no other thread uses meanwhile.
        let opened = unsafe { conn.as_ref().and_then(|conn| Connection::from_raw(*conn)) };
        let opened = connection::reset(opened.ok_or_else(|| ptr::is_null("*conn"))?, by)?;
        // SAFETY: the same place.
        unsafe { conn.write(opened.into_raw()) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, body) }
}

/// Drops the client's tokens, in this process and in a shared cache, so that the next call fetches one, and so does
/// each process that holds none yet; one that has a token in memory keeps it until it is to be refreshed. A token that
/// another process is fetching meanwhile is not shared either. The default client also reads its environment anew;
/// where the environment is not right, the error says so now and at each use.
///
/// Waits: for a shared cache, two seconds at most, also where the cache is left alone after a failure.
/// PGAAD_CONFIG: the default client's environment is not right.
/// PGAAD_NETWORK: dropped here, but the shared cache could not be reached, and others may still take it from there;
///   call again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_invalidate(
    client: *mut pgaad_client,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    let body = || {
        // SAFETY: the header asks for a client.
        let client = unsafe { handle(client)? };
        if client.is_default() { client.0.renew() } else { client.get()?.invalidate() }
    };
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, body) }
}

/// For event loops: makes sure that a token is there or under way.
///
/// To be called before each connection, or whenever the last token may have expired: where a good one is at hand, the
/// descriptor is readable at once. A failure is no reason not to connect: the connect function says why there is no
/// token, and goes to libpq where none is wanted (PGAAD_DISABLED here). A server that refuses a token says so on the
/// connection; then pgaad_client_invalidate, and prefetch again, for a fresh one.
///
/// From the first call on, pgaad_client_connect_start of this client never fetches or waits: it uses the token held,
/// else says why the last prefetch failed, else PGAAD_TIMEOUT. It is a token for the setting scope, which servers of
/// Azure Cosmos DB want another one of.
///
/// fd: out, a descriptor of the caller's own, to be closed with close(2). It becomes readable, and stays so, when a
///   token is there or none could be had; select, poll, epoll and io_uring can wait for that (one that is closed
///   before is to be taken out of an epoll set first). Any number of them wait for one fetch. A child after fork is
///   told nothing by them.
/// Waits: never.
/// PGAAD_CONFIG: a setting is wrong, or a token callback may only be called on the thread of a call
///   (callback_thread=any lets it).
/// PGAAD_DISABLED: no token is wanted (auth=off).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_prefetch(
    client: *mut pgaad_client,
    fd: *mut c_int,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    let body = || {
        // SAFETY: the header asks for a place to write to, and for a client.
        let (fd, client) = unsafe { (Out::new(fd, -1, "fd")?, handle(client)?) };
        fd.put(client.home()?.prefetch()?.into_raw_fd());
        Ok(())
    };
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, body) }
}

/// What a client has, did and failed with, as one JSON object, for people and monitors: "credential" in use, "tid",
/// "appid", "oid", "aud" and "user" of its token, "origin" of the token ("entra", "file", "redis": where this process
/// got it, which then has it in memory), "expires_on", "last_good_fetch", "next_refresh" and "failing_since" (Unix
/// seconds or null), the counts "hits" (calls that had a token at once), "misses" (calls that fetched), "waits" (calls
/// that waited for another's fetch), "refreshes" (fetches, and finds in a shared cache) and "failures" (of them),
/// "last_error", and "settings": where each came from.
///
/// All of it is of the token for databases of the client's own cloud. Members may be added. Never a secret or a token.
///
/// json: out, to be given back with pgaad_free.
/// Waits: never.
/// PGAAD_CONFIG: the default client's environment is not right.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_client_stats(
    client: *mut pgaad_client,
    json: *mut *mut c_char,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    let body = || {
        // SAFETY: the header asks for a place to write to, and for a client.
        let (json, client) = unsafe { (Out::new(json, std::ptr::null_mut(), "json")?, handle(client)?) };
        json.put(give(client.get()?.stats().as_bytes())?);
        Ok(())
    };
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, body) }
}

/// Why a connection that one of these functions returned is BAD: the status of our failure, if it was ours.
///
/// conn: of a connect function; it stays the caller's.
/// Waits: never.
/// PGAAD_OK: the failure is libpq's or the server's; or the connection is good, or none of ours.
/// PGAAD_INVALID_ARGUMENT: conn is NULL, or a NULL is why it is BAD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_connection_status(conn: *mut pg_conn) -> pgaad_status {
    // SAFETY: the header asks for a connection that no other thread uses meanwhile.
    let Some(conn) = (unsafe { Connection::from_raw(conn) }) else { return PGAAD_INVALID_ARGUMENT };
    let failure = crate::bug::contain(|| connection::failure_of(&conn));
    failure.map_or(PGAAD_INTERNAL, |kind| kind.map_or(PGAAD_OK, status::of))
}

/// For libpq 18 and later: servers that ask for OAUTHBEARER get the token of the client that opened the connection,
/// servers that ask for a password get it as before. To be called once, before the first connect; later calls do
/// nothing.
///
/// It puts a hook (PQsetAuthDataHook) before the one that is set, which gets all that isn't ours. oauth_issuer and
/// oauth_client_id are added where they are absent.
///
/// Waits: never.
/// PGAAD_LIBPQ: there is none, or it is older; the message has its version.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_use_oauth(errmsg: *mut *mut c_char) -> pgaad_status {
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, connection::use_oauth) }
}

/// Finds a function of libpq by name. NULL: not found.
pub type pgaad_symbol_fn =
    Option<unsafe extern "C" fn(symbol: *const c_char, userdata: *mut c_void) -> *mut c_void>;

/// For programs with a static, private or second libpq: names the one whose PGconn they use. To be called before the
/// first connect.
///
/// resolve: finds its functions; called only before this returns.
/// userdata: handed to resolve as it is.
/// Waits: never.
/// PGAAD_INVALID_ARGUMENT: too late: after the first connect.
/// PGAAD_LIBPQ: resolve does not know a function of libpq's, or that libpq is too old.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_use_libpq(
    resolve: pgaad_symbol_fn,
    userdata: *mut c_void,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    let body = || {
        let resolve = resolve.ok_or_else(|| ptr::is_null("resolve"))?;
        // SAFETY: the header asks for a function of this type, called here with its own userdata.
        libpq::name(&|symbol: &CStr| unsafe { resolve(symbol.as_ptr(), userdata) })
    };
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, body) }
}

/// Which libpq is in use, or would be at the next connect (one is loaded if there is none); or why there is none.
///
/// version: out, as PQlibVersion (150018).
/// path: out, the file that it is in, to be given back with pgaad_free.
/// Waits: never.
/// PGAAD_LIBPQ: libpq cannot be found or loaded, is older than 12, or several are loaded and none is chosen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgaad_libpq(
    version: *mut c_int,
    path: *mut *mut c_char,
    errmsg: *mut *mut c_char,
) -> pgaad_status {
    let body = || {
        // SAFETY: the header asks for places to write to.
        let (version, path) = unsafe {
            // Both are written to before either may be missed.
            let (version, path) =
                (Out::new(version, 0, "version"), Out::new(path, std::ptr::null_mut(), "path"));
            (version?, path?)
        };
        let libpq = connection::libpq_at_hand()?;
        path.put(give(libpq.path().as_bytes())?);
        version.put(libpq.version());
        Ok(())
    };
    // SAFETY: the header asks for NULL or a place to write to.
    unsafe { call(errmsg, body) }
}
