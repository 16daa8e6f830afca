//! `pgaad cache`: what processes share.

use std::time::{Duration, UNIX_EPOCH};

use clap::ArgMatches;

use super::print;
use crate::client::Client;
use crate::error::Error;
use crate::os;
use crate::settings::{CachePlace, SharedCache};

pub(super) fn cache(client: &Client, matches: &ArgMatches) -> Result<(), Error> {
    if client.settings().cache.is_none() {
        return print(b"Nothing is shared: cache=memory. Each process keeps its token to itself.");
    }
    // Whoever only looks makes no directory.
    if let Some(SharedCache { place: CachePlace::Directory(Some(path)), .. }) = &client.settings().cache
        && !path.exists()
    {
        return print(format!("No token is there: {} does not exist yet.", path.display()).as_bytes());
    }
    let Some(tokens) = client.shared_tokens() else {
        return print(
            b"Nothing is shared: the settings do not fix whose tokens these are. Set cache_id (PGAAD_CACHE_ID).",
        );
    };
    match matches.subcommand_name() {
        Some("clear") => {
            client.invalidate()?;
            print(b"Dropped. Processes that have the token in memory keep it until it is to be renewed.")
        }
        _ => show(
            &tokens?
                .iter()
                .map(|token| (&*token.scope, token.expires_on, token.user.as_deref()))
                .collect::<Vec<_>>(),
        ),
    }
}

fn show(tokens: &[(&str, i64, Option<&str>)]) -> Result<(), Error> {
    if tokens.is_empty() {
        return print(b"No token is there.");
    }
    tokens.iter().try_for_each(|(scope, expires_on, user)| {
        let end = UNIX_EPOCH + Duration::from_secs(expires_on.unsigned_abs());
        let left = expires_on - os::unix_now();
        let user = user.map_or(String::new(), |user| format!(", user {user}"));
        print(format!("{scope}: until {} ({left} s left){user}", httpdate::fmt_http_date(end)).as_bytes())
    })
}
