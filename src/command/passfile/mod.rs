//! `pgaad passfile`: password files that hold tokens.

mod lines; //  what stands in them
mod notify; // what systemd is told
mod reload; // what a program is told
mod target; // the file itself

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::ArgMatches;

use super::arguments::bytes;
use super::fresh::{Fresh, Keeper, clock, no_system};
use super::rule::why;
use super::{pgpass, say};
use crate::client::{AccessToken, Client};
use crate::connection::outside::{self, Judged};
use crate::error::{Error, ErrorKind};
use crate::os::signals::{self, Signals};
use crate::settings::config;
use lines::{Format, Line, userlist_line};
use notify::Notify;
use reload::Reload;
use target::Target;

/// How often is looked whether all goes on.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What Debian 12's takes of a password.
const LONGEST_OF_PGBOUNCER: usize = 2047;

pub(super) fn passfile(client: Client, matches: &ArgMatches) -> Result<(), Error> {
    let format = match matches.get_one::<String>("format").map(String::as_str) {
        Some("userlist") => Format::Userlist,
        _ => Format::Pgpass,
    };
    let path = |name| matches.get_one::<OsString>(name).map(PathBuf::from);
    let conninfos = matches.get_many::<OsString>("conninfo").into_iter().flatten();
    let judged =
        conninfos.map(|conninfo| judge(&client, bytes(Some(conninfo)))).collect::<Result<Vec<_>, _>>()?;
    let mut target = Target::find(&path("file").unwrap_or_default(), format)?;
    let patience = client.settings().timeout * u32::try_from(judged.len()).unwrap_or(u32::MAX);
    let fresh = Fresh::fetch(Arc::new(client), judged)?;
    let places = fresh.all().map(|(judged, token)| places(&fresh, judged, token, format));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    if format == Format::Userlist
        && let Some(length) = fresh.tokens().iter().map(|token| token.secret().len()).max()
        && length > LONGEST_OF_PGBOUNCER
    {
        say(&format!(
            "The token has {length} bytes. There are PgBouncers that take no more than {LONGEST_OF_PGBOUNCER}, and read no \
             further in the file where a password has more: 1.18 for one."
        ));
    }
    let reload = path("reload").map(Reload);
    // From now on there is something to clean up.
    let ending: Vec<_> = signals::ENDING.into_iter().filter(|signal| !signals::is_ignored(*signal)).collect();
    let signals = Signals::block(&ending).map_err(|error| no_system("wait for signals", &error))?;
    target.take()?;
    let passfile = Passfile {
        target: Arc::new(Mutex::new(target)),
        places,
        reload,
        is_reload_failing: false,
        notify: Arc::new(Notify::new()),
        heard: Arc::new(Mutex::new(Instant::now())),
    };
    if matches.get_flag("watch") {
        return watch(fresh, passfile, &signals, patience);
    }
    passfile.write(fresh.tokens()).and_then(|_| passfile.tell_reload())
}

fn judge(client: &Client, conninfo: &[u8]) -> Result<Judged, Error> {
    let judged = outside::judge(client, conninfo)?;
    match judged.rule.is_on() {
        true => Ok(judged),
        false => Err(config(format!(
            "No token goes to the server of a --conninfo, so its line would be of no use: {}. See pgaad settings.",
            why(judged.rule)
        ))),
    }
}

/// What the lines of a connection begin with.
enum Place {
    Pgpass(Vec<u8>),
    User(Vec<u8>),
}

fn places(fresh: &Fresh, judged: &Judged, token: &AccessToken, format: Format) -> Result<Vec<Place>, Error> {
    let user = match judged.user(fresh.client(), token) {
        // libpq takes a line for any user, PgBouncer does not.
        Err(error) if error.kind() == ErrorKind::Config && format == Format::Pgpass => None,
        user => Some(user?),
    };
    match (format, user) {
        (Format::Userlist, Some(user)) if user.contains(&b'\n') => {
            Err(config("A line break in user has no place in a password file."))
        }
        (Format::Userlist, user) => Ok(user.map(Place::User).into_iter().collect()),
        (Format::Pgpass, user) => {
            let of_server = |server| pgpass::places(server, user.as_deref());
            let all = judged.servers().iter().map(of_server).collect::<Result<Vec<_>, _>>()?;
            Ok(all.into_iter().flatten().map(Place::Pgpass).collect())
        }
    }
}

/// Stays until it is told to end, and keeps the file fresh.
fn watch(fresh: Fresh, mut passfile: Passfile, signals: &Signals, patience: Duration) -> Result<(), Error> {
    passfile.write(fresh.tokens())?;
    passfile.reload_or_warn();
    passfile.notify.tell("READY=1");
    let (target, notify, heard) = (passfile.target.clone(), passfile.notify.clone(), passfile.heard.clone());
    let bug = Arc::new(Mutex::new(None));
    let found = bug.clone();
    fresh.keep_on(passfile, move |bug| *lock(&found) = Some(bug))?;
    // As long as a round may take: a pause, and each token's fetch.
    let patience = Duration::from_secs(60) + patience * 2;
    let between = notify.watchdog().map_or(LONGEST_WAIT, |limit| limit / 2).min(LONGEST_WAIT);
    while signals.next(Some(between)).map_err(|error| no_system("wait for signals", &error))?.is_none() {
        if let Some(bug) = lock(&bug).take() {
            return Err(bug);
        }
        if lock(&heard).elapsed() < patience {
            notify.tell("WATCHDOG=1");
        }
    }
    notify.tell("STOPPING=1\nSTATUS=Stopped; the file stays as it is.");
    // What is being written is done, and nothing is written any more.
    let target = lock(&target);
    target.release();
    std::mem::forget(target);
    Ok(())
}

/// Whoever panicked while it was held left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file that is kept fresh.
struct Passfile {
    target: Arc<Mutex<Target>>,
    /// For each token, what its lines begin with.
    places: Vec<Vec<Place>>,
    reload: Option<Reload>,
    is_reload_failing: bool,
    notify: Arc<Notify>,
    /// When the thread that renews was heard of last.
    heard: Arc<Mutex<Instant>>,
}

impl Passfile {
    /// Whether that changed the file.
    fn write(&self, tokens: &[AccessToken]) -> Result<bool, Error> {
        let mut lines: Vec<Line> = Vec::new();
        for (places, token) in self.places.iter().zip(tokens) {
            let token = token.secret().as_bytes();
            for place in places {
                let line = match place {
                    Place::Pgpass(place) => Line { place: place.clone(), text: pgpass::line(place, token) },
                    Place::User(user) => userlist_line(user, token),
                };
                if lines.iter().all(|known| known.place != line.place) {
                    lines.push(line);
                }
            }
        }
        let is_new = lock(&self.target).put(&lines)?;
        if is_new {
            let ends = tokens.iter().map(AccessToken::expires_on).min().unwrap_or_default();
            self.notify.status(&format!("The tokens are good until {}.", clock(ends)));
        }
        Ok(is_new)
    }

    fn tell_reload(&self) -> Result<(), Error> {
        self.reload.as_ref().map_or(Ok(()), Reload::tell)
    }

    /// The program may be started later, and then reads what is there.
    fn reload_or_warn(&mut self) {
        let told = self.tell_reload();
        if let (Err(error), false) = (&told, self.is_reload_failing) {
            say(error);
        }
        self.is_reload_failing = told.is_err();
    }
}

impl Keeper for Passfile {
    fn put(&mut self, tokens: &[AccessToken]) -> Result<(), Error> {
        if self.write(tokens)? {
            self.reload_or_warn();
        }
        Ok(())
    }

    fn say(&mut self, what: &str) {
        say(&what);
        self.notify.status(what);
    }

    fn beat(&mut self) {
        *lock(&self.heard) = Instant::now();
    }
}
