//! A client: one set of settings, one identity, its tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};

use crate::cache::{GRACE, Slot};
use crate::credential;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::issued;
use crate::settings::{COSMOS_SCOPE, Settings};
use crate::token::Token;

/// Signs in as one identity. Share one client between all threads: they then share its token.
pub struct Client {
    settings: Arc<Settings>,
    database: Arc<Slot>,
    cosmos: Arc<Slot>,
    had_token: AtomicBool,
    failed: AtomicBool,
}

/// Which of the tokens a connection needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Azure Database for PostgreSQL, or the scope that is set.
    Database,
    /// Azure Cosmos DB for PostgreSQL.
    Cosmos,
}

/// An access token, to be used as the password of one connection.
pub struct AccessToken(Arc<Token>);

impl AccessToken {
    /// The token itself: whoever has it is the identity, until it expires.
    pub fn secret(&self) -> &str {
        self.0.secret.reveal()
    }

    /// Until when it is good, in Unix seconds (UTC).
    pub fn expires_on(&self) -> i64 {
        self.0.expires_on
    }
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessToken").field("expires_on", &self.expires_on()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with these settings (`key=value`, with the grammar of a libpq connection string), and the
    /// environment's for what they leave out. Sends nothing yet.
    pub fn new(settings: &str) -> Result<Self, Error> {
        Ok(Self::with(Settings::read(settings, Environment::process())?))
    }

    fn with(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let slot = |scope: &str| {
            let (settings, scope) = (settings.clone(), scope.to_string());
            Slot::new(settings.timeout, settings.refresh_before, move |deadline| {
                let token = credential::fetch(&settings, &scope, deadline)?;
                issued::remember(token.secret.reveal().as_bytes());
                Ok(token)
            })
        };
        let scope = settings.scope.as_deref().unwrap_or(settings.cloud.scope());
        let (database, cosmos) = (slot(scope), slot(COSMOS_SCOPE));
        Self { settings, database, cosmos, had_token: AtomicBool::new(false), failed: AtomicBool::new(false) }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The environment as this client may see it.
    pub(crate) fn environment(&self) -> Environment<'static> {
        let process = Environment::process();
        if self.settings.trust_environment { process.trusted() } else { process }
    }

    /// A token for the database: from memory while it is fresh, else from Entra. Waits for the client's
    /// `timeout_ms` at most.
    pub fn token(&self) -> Result<AccessToken, Error> {
        self.token_for(Purpose::Database, None)
    }

    /// The same, but waits no longer than `timeout`; with zero, hands out what is there already or
    /// fails with [`ErrorKind::Timeout`].
    pub fn token_within(&self, timeout: Duration) -> Result<AccessToken, Error> {
        self.token_for(Purpose::Database, Some(timeout))
    }

    pub(crate) fn token_for(
        &self,
        purpose: Purpose,
        timeout: Option<Duration>,
    ) -> Result<AccessToken, Error> {
        let token = self.wait_for_token(purpose, timeout);
        match &token {
            Ok(_) => self.had_token.store(true, Relaxed),
            Err(_) => self.note_failure(),
        }
        token
    }

    /// A call on this client failed.
    pub(crate) fn note_failure(&self) {
        self.failed.store(true, Relaxed);
    }

    /// Whether its first use failed, and nothing has worked since.
    fn is_doubtful(&self) -> bool {
        self.failed.load(Relaxed) && !self.had_token.load(Relaxed)
    }

    fn wait_for_token(&self, purpose: Purpose, timeout: Option<Duration>) -> Result<AccessToken, Error> {
        credential::choose(&self.settings)?;
        let limit = timeout.filter(|timeout| *timeout < self.settings.timeout);
        // A fetch ends itself, and then says what it waited for; who has all the time waits for that.
        let patience = limit.unwrap_or(self.settings.timeout + GRACE);
        let token = self.slot(purpose).get(Instant::now() + patience)?;
        token.map(AccessToken).ok_or_else(|| self.too_late(limit))
    }

    fn too_late(&self, limit: Option<Duration>) -> Error {
        let authority = &self.settings.authority;
        let text = match limit {
            Some(Duration::ZERO) => {
                "No token is here yet, and this call may not wait for one. Call again with more time.".into()
            }
            Some(limit) => format!(
                "No token from {authority} in the {} ms that this call had (its own timeout, or connect_timeout). The \
                 fetch goes on: a later call may find its token.",
                limit.as_millis()
            ),
            None => format!(
                "No token from {authority} in time: the fetch did not end by its deadline (PGAAD_TIMEOUT_MS). Check \
                 the network, and PGAAD_PROXY."
            ),
        };
        Error::new(ErrorKind::Timeout, text)
    }

    /// Calls `give` with the database's token and its end, if that is in memory and fresh. Takes no lock.
    pub(crate) fn warm_token<R>(&self, give: impl FnOnce(&str, i64) -> R) -> Option<R> {
        self.database.warm(|token| give(token.secret.reveal(), token.expires_on))
    }

    fn slot(&self, purpose: Purpose) -> &Arc<Slot> {
        match purpose {
            Purpose::Database => &self.database,
            Purpose::Cosmos => &self.cosmos,
        }
    }

    /// Drops the tokens held, so that the next call fetches one.
    pub fn invalidate(&self) {
        self.database.clear();
        self.cosmos.clear();
    }
}

/// A place for a client that others use while it is replaced or dropped. Reading it takes no lock.
pub(crate) struct Shared(ArcSwapOption<Client>);

impl Shared {
    pub(crate) const fn empty() -> Self {
        Self(ArcSwapOption::const_empty())
    }

    /// What is there now. Counts no references, which threads would fight for.
    pub(crate) fn hold(&self) -> Held {
        Held(self.0.load())
    }

    /// The client; where there is none, one made from the environment. A first use that failed is not remembered:
    /// the environment is read anew, and where it has changed, another client is made.
    pub(crate) fn get_or_make(&self) -> Result<Arc<Client>, Error> {
        let current = self.0.load_full();
        if let Some(client) = current.as_ref().filter(|client| !client.is_doubtful()) {
            return Ok(client.clone());
        }
        let settings = Settings::read("", Environment::process())?;
        if let Some(client) = current.as_ref().filter(|client| *client.settings == settings) {
            return Ok(client.clone());
        }
        let made = Arc::new(Client::with(settings));
        // Of threads that come here together, one's client is kept and all use that.
        let before = self.0.compare_and_swap(&current, Some(made.clone()));
        let replaced = before.as_ref().map(Arc::as_ptr) == current.as_ref().map(Arc::as_ptr);
        Ok(if replaced { made } else { before.as_ref().cloned().unwrap_or(made) })
    }

    pub(crate) fn put(&self, client: Client) {
        self.0.store(Some(Arc::new(client)));
    }

    /// Empties the place; false if it was empty. Calls that run on the client finish.
    pub(crate) fn clear(&self) -> bool {
        self.0.swap(None).is_some()
    }
}

/// A client as it was when it was looked at, or none.
pub(crate) struct Held(Guard<Option<Arc<Client>>>);

impl Held {
    /// See [`Client::warm_token`].
    pub(crate) fn warm_token<R>(&self, give: impl FnOnce(&str, i64) -> R) -> Option<R> {
        self.0.as_ref()?.warm_token(give)
    }

    /// The client, to stay with it whatever happens to the place.
    pub(crate) fn keep(self) -> Option<Arc<Client>> {
        Guard::into_inner(self.0)
    }
}
