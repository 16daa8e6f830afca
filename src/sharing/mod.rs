//! A token that processes and machines share: one of them fetches it, all have it, and while it lives nobody is
//! without.
//!
//! Whoever needs a token looks for one in the store, then asks for the right to fetch; who has it looks once more,
//! fetches, and puts the token there; the others wait for that and look again. Nothing that the store does or doesn't
//! do costs the token.
//!
//! A refusal that holds for all (a wrong secret, too many requests) is told to those who were waiting, so that ten
//! thousand machines don't ask one after the other. Any other failure may be one machine's own: who still has a token
//! goes on with it, and asks again after a pause that grows; who has none asks for itself.
//!
//! Ten thousand machines that start together: each asks the store four times (entry, news, and for the lease, in two
//! commands), one asks Entra; the others look four times in the first second, again with two commands. So the store
//! sees some 140,000 small commands in it, about what a Redis on two cores answers, and all have the token a second or
//! two after it is there. By TLS it takes on 2,800 new connections a second: there, those who get none within a second
//! fetch by themselves. Where the one that asks gets no answer, the lease ends after ten seconds and the next one asks;
//! who has waited for six to nine tenths of its time, each for another part, asks by itself: some 1,100 requests a
//! second for nine seconds, of a timeout of thirty, and not ten thousand at once. Where the one that asks fails, those
//! without a token ask within a second, as they would without a store.
//!
//! A token that was dropped is taken by nobody from the store: it is removed, a note is left for whoever is fetching at
//! that time, and the process that dropped it takes nothing that was asked for before. An old entry that somebody puts
//! back opens, as long as its token lives; who has seen a newer one does not take it, and who has not can't know.

mod news; //  what the others are told
mod round; // one need for a token

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use once_cell::race::OnceBox;

use crate::credential::{Credential, Failure};
use crate::error::{Error, ErrorKind};
use crate::flight::Desk;
use crate::log::Level;
use crate::os::{self, fork::Lock};
use crate::settings::{CachePlace, Settings, SharedCache, config};
use crate::shared::file::FileStore;
use crate::shared::redis::{RedisStore, Url};
use crate::shared::seal::Key;
use crate::shared::{CLOCKS_DIFFER, Store, Trouble};
use crate::token::{Origin, Schedule, Token};
use round::Round;

/// What is told to the others, and dropped, may take so much.
const TIME_TO_TELL: Duration = Duration::from_secs(1);

pub(crate) struct Sharing {
    settings: Arc<Settings>,
    credential: Arc<Credential>,
    /// Who the entries are for.
    identity: String,
    origin: Origin,
    store: OnceBox<Box<dyn Store>>,
    /// Whether the store ever was of use: later, not even a setting that went wrong costs the token.
    has_worked: AtomicBool,
    seen: Lock<Seen>,
}

/// Which entries are not taken any more; on the boot clock.
#[derive(Default)]
struct Seen {
    /// When the newest token of each scope was asked for: much older ones have been put back.
    newest: HashMap<String, Duration>,
    /// When tokens were dropped.
    dropped: Option<Duration>,
}

impl Seen {
    /// Whether a token of that time may be taken from the store. Remembers the newest.
    fn take(&mut self, scope: &str, asked: Duration) -> bool {
        if self.dropped.is_some_and(|dropped| asked <= dropped) {
            return false;
        }
        let newest = self.newest.get(scope).copied().unwrap_or_default();
        if asked > newest {
            self.newest.insert(scope.into(), asked);
        }
        asked + CLOCKS_DIFFER >= newest
    }
}

impl Sharing {
    /// None: tokens stay in this process's memory, because the settings want it so or don't fix whose they are.
    pub(crate) fn of(settings: &Arc<Settings>, credential: &Arc<Credential>) -> Result<Option<Self>, Error> {
        let Some(cache) = &settings.cache else { return Ok(None) };
        let named = cache.id.as_ref().map(|id| format!("id {id}"));
        let Some(identity) = named.or_else(|| credential.fixed_identity()) else { return Ok(None) };
        let origin = match &cache.place {
            CachePlace::Directory(_) => Origin::File,
            CachePlace::Redis(value) => {
                parse(value)?;
                // Of a secret in a file that is not there yet, the first fetch will tell.
                if !cache.has_key() && matches!(credential.stable_secret(), Ok(None)) {
                    return Err(config(
                        "cache (PGAAD_CACHE) names a Redis server, and this credential has no secret to seal entries \
                         with. Set cache_key or cache_key_file (PGAAD_CACHE_KEY, PGAAD_CACHE_KEY_FILE).",
                    ));
                }
                Origin::Redis
            }
        };
        let (settings, credential) = (settings.clone(), credential.clone());
        Ok(Some(Self {
            settings,
            credential,
            identity,
            origin,
            store: OnceBox::new(),
            has_worked: AtomicBool::new(false),
            seen: Lock::default(),
        }))
    }

    fn cache(&self) -> &SharedCache {
        self.settings.cache.as_ref().unwrap_or_else(|| unreachable!("it was made with one"))
    }

    /// Opened at first use; a store that can't be opened is tried again.
    fn store(&self) -> Result<&dyn Store, Failure> {
        let open = || -> Result<Box<Box<dyn Store>>, Failure> {
            Ok(Box::new(match &self.cache().place {
                CachePlace::Directory(path) => {
                    let store = FileStore::open(path.as_deref(), self.settings.environment());
                    Box::new(store.map_err(failure)?)
                }
                CachePlace::Redis(value) => {
                    let roots = self.settings.system_roots.as_deref();
                    Box::new(RedisStore::new(parse(value)?, self.cache().ca_file.as_deref(), roots)?)
                }
            }))
        };
        self.store.get_or_try_init(open).map(|store| &**store)
    }

    /// What seals the entries.
    fn key(&self, store: &dyn Store, deadline: Instant) -> Result<Key, Failure> {
        if let Some(bytes) = self.cache().key()? {
            return Ok(Key::of(&bytes));
        }
        if let Some(secret) = self.credential.stable_secret()? {
            return Ok(Key::of(secret.reveal().as_bytes()));
        }
        store.own_key(deadline).map(|key| Key::of(&key)).map_err(failure)
    }

    /// Hands over a token that needs no newer one yet: from the store, or fetched for all.
    pub(crate) fn token(&self, scope: &str, deadline: Instant, desk: &Desk<'_, Token, Failure>) {
        match self.round(scope, deadline) {
            Ok(round) => round.token(desk),
            // A wrong setting is said at first; anything else is gone without.
            Err(failure) if failure.error.kind() == ErrorKind::Config && !self.has_worked.load(Relaxed) => {
                (desk.done)(Err(failure));
            }
            Err(failure) => {
                self.warn(&failure.error);
                (desk.done)(self.fetch(scope, deadline));
            }
        }
    }

    fn round<'a>(&'a self, scope: &'a str, deadline: Instant) -> Result<Round<'a>, Failure> {
        let store = self.store()?;
        let key = self.key(store, deadline)?;
        Ok(Round::of(self, store.session(deadline), key, scope, deadline))
    }

    /// The token in the store, without a fetch, and what the database calls its owner where somebody found that out by a
    /// second token.
    pub(crate) fn held(&self, scope: &str, deadline: Instant) -> Option<(Token, Option<String>)> {
        self.round(scope, deadline).ok()?.held().ok()?
    }

    /// The same for people, who want to know why there is none.
    #[cfg(feature = "command")]
    pub(crate) fn look(
        &self,
        scope: &str,
        deadline: Instant,
    ) -> Result<Option<(Token, Option<String>)>, Error> {
        let found = self.round(scope, deadline).and_then(|mut round| round.held().map_err(failure));
        found.map_err(|failure| failure.error)
    }

    /// Keeps that name with the token in the store.
    pub(crate) fn keep_user(&self, scope: &str, user: &str, deadline: Instant) {
        let Ok(mut round) = self.round(scope, deadline) else { return };
        round.keep_user(user).unwrap_or_else(|trouble| self.warn(&trouble));
    }

    /// Whether those who share the store ask the same service; a managed identity's is its machine's own.
    fn has_one_service(&self) -> bool {
        self.origin == Origin::File || self.credential.has_proof()
    }

    /// As the client itself will judge a token.
    fn schedule(&self, token: &Token) -> Schedule {
        let schedule = Schedule::of(token, self.settings.refresh_before);
        match self.settings.is_fetched_by_callers() {
            true => schedule.without_advance(),
            false => schedule,
        }
    }

    fn fetch(&self, scope: &str, deadline: Instant) -> Result<Token, Failure> {
        self.credential.fetch(&self.settings, scope, deadline)
    }

    fn warn(&self, why: &dyn fmt::Display) {
        Level::Warn.log(self.settings.log, "shared_cache_failed", &[("error", &why.to_string())]);
    }

    /// From now on this process takes no token from the store that was asked for then or before.
    pub(crate) fn pass_over(&self, asked: Duration) {
        // As its time comes back from an entry, by the wall clock.
        let asked = asked + Duration::from_secs(1);
        self.seen.with(|seen| seen.dropped = seen.dropped.max(Some(asked.min(os::since_boot()))));
    }

    /// Drops the entries, so that whoever asks next fetches; fails where they may still be there.
    pub(crate) fn forget<'a>(&self, scopes: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        // Whatever the store does, this process takes none of these from it again.
        self.seen.with(|seen| seen.dropped = Some(os::since_boot()));
        let deadline = Instant::now() + TIME_TO_TELL;
        let drop = |scope| match self.round(scope, deadline) {
            Ok(mut round) => round.forget().map_err(failure),
            // This process has no part in it.
            Err(failure) if failure.error.kind() == ErrorKind::Unavailable => {
                self.warn(&failure.error);
                Ok(())
            }
            Err(failure) => Err(failure),
        };
        // Each is tried, within that time.
        let results: Vec<_> = scopes.map(drop).collect();
        results.into_iter().collect::<Result<_, _>>().map_err(|failure: Failure| not_dropped(&failure.error))
    }
}

fn not_dropped(error: &Error) -> Error {
    let kind = if error.kind() == ErrorKind::Config { ErrorKind::Config } else { ErrorKind::Network };
    Error::new(
        kind,
        format!(
            "The token was dropped here, but perhaps not in the shared cache, where others may still take it. Drop it \
             again when the cache can be reached. {}",
            error.message()
        ),
    )
}

fn parse(value: &crate::settings::Value) -> Result<Url, Error> {
    Url::parse(value.as_str()).map_err(|why| value.bad(&format!("{why}.")))
}

fn failure(trouble: Trouble) -> Failure {
    Error::new(trouble.kind(), trouble.to_string()).into()
}

#[cfg(test)]
mod tests;
