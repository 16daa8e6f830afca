//! `pgaad exec`: a program that signs in by itself.

mod place; //     the directory with the password file
mod supervise; // the program, its signals and its end
mod variables; // what the program finds in its environment

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::ArgMatches;
use zeroize::Zeroizing;

use super::arguments::{self, bytes};
use super::fresh::{Fresh, Keeper, no_system};
use super::rule::why;
use super::{pgpass, say};
use crate::client::{AccessToken, Client};
use crate::connection::outside;
use crate::error::{Error, ErrorKind};
use crate::log::Level;
use crate::os::signals::{self, Signals};
use place::Place;

/// As shells say that a program cannot be run, or is not there.
const NOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

pub(super) fn exec(client: Client, matches: &ArgMatches) -> Result<ExitCode, Error> {
    let log = client.settings().log;
    let judged = outside::judge(&client, bytes(matches.get_one("conninfo")))?;
    let (program, its_arguments) = arguments::program(matches)?;
    let mut command = Command::new(program);
    command.args(its_arguments);
    variables::set(&mut command, &judged)?;
    if !judged.rule.is_on() {
        Level::Info.log(log, "entra_off", &[("rule", why(judged.rule))]);
        let signals = block_signals()?;
        return Ok(run(&mut command, &signals, || {}));
    }
    Level::Debug.log(log, "entra_on", &[("rule", why(judged.rule))]);
    let servers =
        judged.servers().iter().map(|server| pgpass::places(server, None)).collect::<Result<Vec<_>, _>>()?;
    let fresh = Fresh::fetch(Arc::new(client), vec![judged])?;
    let user = user(&fresh)?;
    match &user {
        Some(user) => {
            command.env("PGUSER", OsStr::from_bytes(user));
        }
        None => Level::Info.log(log, "user_unknown", &[("hint", "the program names it, or PGUSER does")]),
    }
    if matches.get_flag("password-env") {
        for token in fresh.tokens() {
            command.env("PGPASSWORD", token.secret());
        }
    }
    let signals = block_signals()?;
    let places = servers.concat();
    let place = Place::make(&lines(&places, fresh.tokens()))?;
    command.env("PGPASSFILE", place.passfile());
    Level::Info.log(log, "passfile_made", &[("path", &place.passfile().to_string_lossy())]);
    let held = Arc::new(Mutex::new(Some(place)));
    // Without it the program goes on, as long as the token lives.
    fresh.keep_on(Passfile { place: held.clone(), places }, |bug| say(&bug))?;
    Ok(run(&mut command, &signals, || drop(held.lock().unwrap_or_else(PoisonError::into_inner).take())))
}

fn block_signals() -> Result<Signals, Error> {
    Signals::block(&signals::all()).map_err(|error| no_system("wait for signals", &error))
}

/// Who is named, else who the token is for; None where it does not say, for the program may name one itself.
fn user(fresh: &Fresh) -> Result<Option<Vec<u8>>, Error> {
    let Some((judged, token)) = fresh.all().next() else { return Ok(None) };
    match judged.user(fresh.client(), token) {
        Err(error) if error.kind() == ErrorKind::Config => Ok(None),
        user => user.map(Some),
    }
}

/// Runs the program to its end, cleans up, and ends as it did.
fn run(command: &mut Command, signals: &Signals, clean: impl FnOnce()) -> ExitCode {
    // Whoever wanted to end this command before there is a program meant all of it.
    while let Ok(Some(early)) = signals.next(Some(Duration::ZERO)) {
        if signals::ENDING.contains(&early.number) && !signals::is_ignored(early.number) {
            clean();
            return supervise::die(early.number);
        }
        if signals::is_of_job_control(early.number) {
            signals::yield_to(early.number);
        }
    }
    signals.hand_on(command);
    let started = command.spawn();
    let end = started.map(|program| supervise::wait(program.id(), signals));
    clean();
    match end {
        Ok(end) => supervise::end(end),
        Err(error) => {
            let program = command.get_program().display();
            let (code, how) = match error.kind() {
                io::ErrorKind::NotFound => (NOT_FOUND, "was not found".into()),
                _ => (NOT_RUN, format!("cannot be run: {error}")),
            };
            say(&format!("The program {program} {how}."));
            ExitCode::from(code)
        }
    }
}

fn lines(places: &[Vec<u8>], tokens: &[AccessToken]) -> Vec<Zeroizing<Vec<u8>>> {
    let tokens = tokens.iter().map(|token| token.secret().as_bytes());
    tokens.flat_map(|token| places.iter().map(|place| pgpass::line(place, token))).collect()
}

/// The private password file, until the program has ended.
struct Passfile {
    place: Arc<Mutex<Option<Place>>>,
    /// What its lines begin with.
    places: Vec<Vec<u8>>,
}

impl Keeper for Passfile {
    fn put(&mut self, tokens: &[AccessToken]) -> Result<(), Error> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = &mut *place else { return Ok(()) };
        place.put(&lines(&self.places, tokens))
    }

    fn say(&mut self, what: &str) {
        say(&what);
    }
}
