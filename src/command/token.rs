//! `pgaad token`, `pgaad user` and `pgaad connstring`.

use clap::ArgMatches;
use serde_json::json;

use super::arguments::bytes;
use super::print;
use crate::client::Client;
use crate::connection;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};

pub(super) fn token(client: &Client, matches: &ArgMatches) -> Result<(), Error> {
    let token = client.token()?;
    if !matches.get_flag("json") {
        return print(token.secret().as_bytes());
    }
    let about = json!({
        "token": token.secret(),
        "expires_on": token.expires_on(),
        "scope": client.scope(),
        "origin": token.origin(),
    });
    print(about.to_string().as_bytes())
}

pub(super) fn user(client: &Client) -> Result<(), Error> {
    print(client.user().map_err(of_tokens_alone)?.as_bytes())
}

/// Whoever is named elsewhere does not count here.
fn of_tokens_alone(error: Error) -> Error {
    let is_named = Environment::process().libpq("PGUSER").is_some_and(|user| !user.is_empty());
    match error.kind() {
        ErrorKind::Config if is_named => Error::new(
            ErrorKind::Config,
            "The identity's token names no user, as no application's does. Connections take the one in PGUSER.",
        ),
        _ => error,
    }
}

pub(super) fn connstring(client: &Client, matches: &ArgMatches) -> Result<(), Error> {
    print(&connection::connstring(client, bytes(matches.get_one("conninfo")))?)
}
