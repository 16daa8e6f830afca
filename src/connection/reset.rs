//! A connection anew, with a fresh token: what `PQreset` would do, if tokens lived as long as passwords.

use std::sync::Arc;
use std::time::Instant;

use crate::client::{AccessToken, Client, Home};
use crate::conninfo::{self, Effective, Options, Source};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::issued;
use crate::libpq::{Connection, Libpq, Way};
use crate::policy::Judge;

use super::note::{Note, Remembered, Signed};
use super::resolve::Files;
use super::{Request, as_arrays, libpq_for_connect, open, open_with, other_token, patience, sign_in};
use crate::settings::config;

/// What is to be done.
enum Step {
    /// As `PQreset` does it.
    Plainly,
    /// As it was asked for at first.
    Anew(Home, Request<'static>),
    /// With a token; whether the user was named.
    SignIn(Home, bool),
}

/// `pgaad_reset`, or with a client `pgaad_client_reset`: the same connection, or another one in its place. After an error
/// it is as it was.
pub(crate) fn reset(conn: Connection, by: Option<Home>) -> Result<Connection, Error> {
    let libpq = libpq_for_connect(Environment::process())?;
    let holds_token = || libpq.password(&conn).is_some_and(|password| issued::is_issued(&password));
    let step = match (Note::of(libpq, &conn).as_deref(), by) {
        (Some(Remembered::Failed(_, home, request)), by) => {
            let (home, request) =
                by.as_ref().or(home.as_ref()).zip(request.as_ref()).ok_or_else(nothing_to_repeat)?;
            Step::Anew(home.clone(), request.to_owned())
        }
        (Some(Remembered::Signed(signed)), by) => {
            Step::SignIn(by.unwrap_or_else(|| signed.home.clone()), signed.names_user)
        }
        // Opened with pgaad_connstring, perhaps.
        (None, Some(by)) if holds_token() => Step::SignIn(by, true),
        (None, _) => Step::Plainly,
    };
    match step {
        Step::Plainly => {
            libpq.reset(&conn);
            Ok(conn)
        }
        Step::Anew(home, request) => {
            let client = home.client()?;
            let opened = open(libpq, &client, &home, &request, Way::Connect);
            let opened = opened.inspect_err(|_| client.note_failure())?.ok_or_else(no_memory)?;
            libpq.finish(conn);
            Ok(opened)
        }
        Step::SignIn(home, names_user) => {
            let client = home.client()?;
            sign_in_again(libpq, &client, home, conn, names_user).inspect_err(|_| client.note_failure())
        }
    }
}

fn sign_in_again(
    libpq: &Libpq,
    client: &Arc<Client>,
    home: Home,
    conn: Connection,
    names_user: bool,
) -> Result<Connection, Error> {
    let (begun, env) = (Instant::now(), client.environment());
    let had = options_of(libpq, &conn);
    let mut effective = Effective::default();
    for (keyword, value) in had.iter() {
        effective.set(&String::from_utf8_lossy(keyword), value, Source::Given);
    }
    let mut options = had.clone();
    if !names_user {
        options.remove("user");
        client.check_for_name()?;
    }
    let files = Files::new(env, libpq.version());
    let knows = |keyword: &str| libpq.knows(keyword);
    let judge = Judge::new(client.settings(), &effective, client.has_proof());
    let purpose = judge.secure(&mut options, &files.surroundings(&knows, libpq.version(), true))?;
    let patience = patience(&effective, client.settings().timeout);
    let token = sign_in(Some(libpq), client, &mut options, purpose, patience)?;

    let is_same = options.iter().all(|(keyword, value)| {
        let keyword = std::str::from_utf8(keyword).unwrap_or_default();
        had.get(keyword).unwrap_or_default() == value
    });
    keep_out(&mut options, libpq, env);
    let signed = Signed { home: home.of_signed_in(client), purpose, names_user };
    // Into the same connection, or None: another one is opened in its place.
    let attempt = |token: &AccessToken| -> Result<Option<Connection>, Error> {
        if is_same && libpq.put_password(&conn, token.secret().as_bytes()) {
            Note::sign(libpq, &conn, signed.clone());
            libpq.reset(&conn);
            return Ok(None);
        }
        check_service(libpq, &options, env)?;
        // The role, or the server, may have room for one only.
        libpq.hang_up(&conn);
        let opened = open_with(libpq, &options, token, Way::Connect, signed.clone())?;
        opened.ok_or_else(no_memory).map(Some)
    };
    let mut opened = attempt(&token)?;
    let tried = opened.as_ref().unwrap_or(&conn);
    if let Some(other) = other_token(libpq, client, tried, &token, (purpose, patience), begun)
        && let Ok(second) = attempt(&other)
    {
        std::mem::replace(&mut opened, second).into_iter().for_each(|refused| libpq.finish(refused));
    }
    Ok(match opened {
        None => conn,
        Some(opened) => {
            libpq.finish(conn);
            opened
        }
    })
}

/// A service that the environment names now must say nothing else than the connection was opened with: libpq can't be
/// told to leave it alone.
fn check_service(libpq: &Libpq, options: &Options, env: Environment<'_>) -> Result<(), Error> {
    if env.libpq("PGSERVICE").is_none() {
        return Ok(());
    }
    let (arguments, expand_dbname) = as_arrays(options)?;
    // Where there is a password, no file is looked into.
    let elsewhere = ["service", "servicefile", "password", "passfile", "target_session_attrs"];
    let resolved = libpq.resolve(&arguments, expand_dbname, &|keyword| !elsewhere.contains(&keyword));
    let is_as_it_was = resolved.is_some_and(|resolved| {
        let mut there = resolved.options.iter().filter(|option| !option.is_default);
        there.all(|option| options.get(option.keyword).unwrap_or_default() == option.value)
    });
    match is_as_it_was {
        true => Ok(()),
        false => Err(config(
            "PGSERVICE is set, and its service is missing or names options that the connection was not opened with, which \
             libpq would take for a reset. Unset it, or connect anew.",
        )),
    }
}

/// All that a connection was opened with, wherever it came from then, but its password.
fn options_of(libpq: &Libpq, conn: &Connection) -> Options {
    let mut options = Options::default();
    let elsewhere = ["password", "service", "servicefile"];
    for option in libpq.values(conn, &|keyword| !elsewhere.contains(&keyword)).iter() {
        if !option.value.is_empty() {
            options.set(option.keyword, option.value);
        }
    }
    options
}

/// What it was opened without stays away, though the environment may name it now.
fn keep_out(options: &mut Options, libpq: &Libpq, env: Environment<'_>) {
    for known in conninfo::keywords().filter(|known| libpq.knows(known.name)) {
        let is_set = known.env.is_some_and(|name| env.libpq(name).is_some());
        let nothing = match known.name {
            // Read from files or by their own rules; or there is no way to say nothing.
            "service" | "servicefile" | "password" | "min_protocol_version" | "max_protocol_version" => {
                continue;
            }
            "connect_timeout" => "0",
            _ => "",
        };
        if is_set && !options.contains(known.name) {
            options.set(known.name, nothing);
        }
    }
}

fn nothing_to_repeat() -> Error {
    let why = "The connection was never asked for properly (no client, or arrays that are NULL), so there is nothing to do \
               anew. Connect again.";
    Error::new(ErrorKind::InvalidArgument, why)
}

fn no_memory() -> Error {
    Error::new(ErrorKind::Internal, "Out of memory.")
}
