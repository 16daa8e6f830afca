//! `pgaad token`, `pgaad user` and `pgaad connstring`.

use clap::ArgMatches;
use serde_json::json;

use super::arguments::bytes;
use super::print;
use crate::client::Client;
use crate::connection;
use crate::error::Error;

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
    print(client.user()?.as_bytes())
}

pub(super) fn connstring(client: &Client, matches: &ArgMatches) -> Result<(), Error> {
    print(&connection::connstring(client, bytes(matches.get_one("conninfo")))?)
}
