//! Connections that another program makes: what it may be given.

use std::time::{Duration, Instant};

use super::resolve::Files;
use super::{Completed, NEWEST_READING, OLDEST_KEYWORDS, Stop, complete, patience};
use crate::client::{AccessToken, Client, Purpose, Standing};
use crate::conninfo::{self, Effective, Host, Options, Source};
use crate::error::Error;
use crate::log::Level;
use crate::policy::{Judge, Rule};
use crate::settings::config;
use crate::token;

/// What a connection string comes to, once judged.
pub(crate) struct Judged {
    /// The caller's options, the service's, and with Entra on what keeps a token safe. A password only with Entra off.
    pub(crate) options: Options,
    /// Why Entra is on or off.
    pub(crate) rule: Rule,
    effective: Effective,
    /// Which token, and how long the caller waits for it; None: Entra is off.
    wanted: Option<(Purpose, Option<Duration>)>,
}

/// Reads and judges a connection string, and whatever libpq would add to it. Sends nothing.
pub(crate) fn judge(client: &Client, conninfo: &[u8]) -> Result<Judged, Error> {
    let env = client.environment();
    let files = Files::new(env, NEWEST_READING);
    let given = conninfo::parse(conninfo, NEWEST_READING)?;
    check_keywords(&given)?;
    let resolve = |given: &Options| files.effective(given, NEWEST_READING).map_err(Stop::from);
    let Completed { mut options, effective, .. } = complete(client, given, resolve)?;
    let judge = Judge::new(client.settings(), &effective, client.has_proof());
    let rule = judge.rule(is_password(effective.value("password")))?;
    let log = client.settings().log;
    let said = [("entra", if rule.is_on() { "on" } else { "off" }), ("servers", &*judge.servers())];
    Level::Debug.log(log, "connection_judged", &said);
    let wanted = if rule.is_on() {
        options.remove("password");
        let knows = |keyword: &str| {
            conninfo::keyword(keyword).is_some_and(|known| known.is_known_to(OLDEST_KEYWORDS))
        };
        let purpose = judge.secure(&mut options, &files.surroundings(&knows, OLDEST_KEYWORDS, true))?;
        Some((purpose, patience(&effective, client.settings().timeout)))
    } else {
        None
    };
    for known in conninfo::keywords() {
        let is_services = effective.source(known.name) == Source::Service;
        if is_services && !options.contains(known.name) && (known.name != "password" || wanted.is_none()) {
            options.set(known.name, effective.value(known.name));
        }
    }
    options.remove("service");
    options.remove("servicefile");
    Ok(Judged { options, rule, effective, wanted })
}

/// No libpq that we know would take another. A word that nobody knows may be a piece of a password, so only what was
/// probably meant is named.
fn check_keywords(given: &Options) -> Result<(), Error> {
    let Some((word, _)) = given.iter().find(|(word, _)| known(word).is_none()) else { return Ok(()) };
    let word = String::from_utf8_lossy(word);
    let near = |name: &&str| strsim::osa_distance(name, &word) <= 2;
    Err(config(match conninfo::keywords().map(|known| known.name).find(near) {
        Some(meant) => format!("The connection string has an option that libpq does not: did you mean {meant}?"),
        None => "The connection string has an option that libpq does not (not shown, as it may be part of a password: a \
                 value with blanks needs single quotes)."
            .into(),
    }))
}

fn known(word: &[u8]) -> Option<&'static conninfo::Keyword> {
    str::from_utf8(word).ok().and_then(conninfo::keyword)
}

/// Whether it is one that somebody chose, and not a token that was left in a file or a variable.
fn is_password(text: &[u8]) -> bool {
    let is_token = str::from_utf8(text).ok().and_then(token::claims).is_some();
    !text.is_empty() && !is_token
}

impl Judged {
    /// The servers that it may go to, each judged.
    pub(crate) fn servers(&self) -> Vec<Host<'_>> {
        self.effective.hosts()
    }

    /// What libpq would take for an option, wherever it stands.
    pub(crate) fn value(&self, keyword: &str) -> &[u8] {
        self.effective.value(keyword)
    }

    /// Fetches what it wants; None: Entra is off.
    pub(crate) fn token(&self, client: &Client) -> Option<Result<AccessToken, Error>> {
        self.wanted.map(|(purpose, patience)| client.token_for(purpose, patience))
    }

    /// How it is with the token that it wants; None: Entra is off.
    pub(crate) fn standing(&self, client: &Client) -> Option<Standing> {
        self.wanted.map(|(purpose, _)| client.standing(purpose))
    }

    /// The user to connect as: who is named, else who the token is for.
    pub(crate) fn user(&self, client: &Client, token: &AccessToken) -> Result<Vec<u8>, Error> {
        match (self.effective.value("user"), self.wanted) {
            (b"", Some((purpose, patience))) => {
                client.check_for_name()?;
                client.user_of(token, purpose, patience, Instant::now()).map(String::into_bytes)
            }
            (named, _) => Ok(named.to_vec()),
        }
    }
}
