//! Servers that ask for OAUTHBEARER rather than a password get the token of the client that opened the connection.

use std::cell::RefCell;
use std::time::Duration;

use super::libpq_for_connect;
use super::note::{Note, Remembered, Signed};
use crate::client::{AccessToken, Client, Purpose};
use crate::conninfo::Options;
use crate::environment::Environment;
use crate::error::Error;
use crate::issued;
use crate::libpq::{self, Connection, Libpq, Supply};
use crate::prefetch::Ahead;
use crate::secret::Secret;

/// `pgaad_use_oauth`.
pub(crate) fn use_oauth() -> Result<(), Error> {
    libpq::install(libpq_for_connect(Environment::process())?, supply)
}

thread_local! {
    /// The token of the connection that this thread opens, which has no note yet.
    static CURRENT: RefCell<Option<AccessToken>> = const { RefCell::new(None) };
}

/// Opens a connection that libpq may ask the token for.
pub(super) fn during<T>(libpq: &Libpq, token: &AccessToken, open: impl FnOnce() -> T) -> T {
    /// A hook of others may itself open connections.
    struct Restore(Option<AccessToken>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    if !libpq.has_our_hook() {
        return open();
    }
    let _restore = Restore(CURRENT.replace(Some(token.clone())));
    open()
}

/// What libpq wants to know before it asks for a token at all: who made it, and for whom.
pub(super) fn complete(options: &mut Options, client: &Client, token: &AccessToken, purpose: Purpose) {
    let Some((issuer, client_id)) = client.origin_of(token, purpose) else { return };
    for (keyword, value) in [("oauth_issuer", issuer), ("oauth_client_id", client_id)] {
        if options.get(keyword).is_none_or(<[u8]>::is_empty) {
            options.set(keyword, value);
        }
    }
}

fn secret(token: &AccessToken) -> Secret {
    Secret::new(token.secret())
}

/// The token for a connection that is ours: one that we open now, or that holds a token.
fn supply(libpq: &'static Libpq, conn: &Connection) -> Option<Supply> {
    let held = libpq.password(conn).filter(|password| issued::is_issued(password))?;
    let current = CURRENT.with_borrow(|current| {
        current.as_ref().filter(|token| token.secret().as_bytes() == held.as_slice()).map(secret)
    });
    if let Some(token) = current {
        return Some(Supply::Now(Ok(token)));
    }
    let signed = Note::of(libpq, conn).and_then(|note| match &*note {
        Remembered::Signed(signed) => Some(signed.clone()),
        Remembered::Failed(..) => None,
    });
    match signed {
        Some(signed) => Some(fresh(signed).unwrap_or_else(|error| Supply::Now(Err(error)))),
        // Of pgaad_connstring, if it still demands what was written there.
        None => {
            let sslmode = libpq.values(conn, &|keyword| keyword == "sslmode");
            let is_safe = sslmode.get("sslmode") == Some(b"verify-full");
            let token = || String::from_utf8(held.to_vec()).ok().map(Secret::new);
            is_safe.then(token).flatten().map(|token| Supply::Now(Ok(token)))
        }
    }
}

/// The client's token of now: the connection may be older than its own.
fn fresh(signed: Signed) -> Result<Supply, Error> {
    let client = signed.home.client()?;
    let purpose = signed.purpose;
    if let Ok(token) = client.token_for(purpose, Some(Duration::ZERO)) {
        return Ok(Supply::Now(Ok(secret(&token))));
    }
    if client.check_prefetch().is_err() {
        return Ok(Supply::Now(Ok(secret(&client.token_for(purpose, None)?))));
    }
    let (event, ahead) = Ahead::start(move || Ok(secret(&client.token_for(purpose, None)?)))?;
    Ok(Supply::Later(event, Box::new(move || ahead.take())))
}
