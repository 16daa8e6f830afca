//! A token that processes and machines share: one of them fetches it, all have it, and while it lives nobody is without.
//!
//! Whoever needs a token looks for one in the store, then asks for the right to fetch; who has it looks once more,
//! fetches, and puts the token there; the others wait for that and look again. A fetch that failed is told to those who
//! were waiting, so that ten thousand machines don't fail one after the other. Nothing that the store does or doesn't do
//! costs the token: without it, everybody fetches alone.
//!
//! Ten thousand machines that start together: each asks the store three times (entry, last failure, lease), one asks Entra; the
//! others look four times in the first second, so the store sees some 70,000 small commands in it, and all have the token
//! a second after it is there. A Redis on two cores answers 100,000 a second, and 2,800 new connections by TLS: there,
//! those who get none within a second fetch by themselves.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use once_cell::race::OnceBox;

use crate::credential::{Credential, Failure, Retry};
use crate::error::{Error, ErrorKind};
use crate::log::Level;
use crate::os::{self, fork::Lock};
use crate::settings::{CachePlace, Settings, SharedCache, config};
use crate::shared::entry::Entry;
use crate::shared::file::{FileStore, default_directory};
use crate::shared::redis::{RedisStore, Url};
use crate::shared::seal::Key;
use crate::shared::{Store, Trouble};
use crate::token::{Moment, Origin, Schedule, Token};

/// How long a failure is told to those who waited for it.
const FAILURE_LIFE: Duration = Duration::from_secs(30);

/// A store that answers slowly may take so much of a fetch's time at most.
const TIME_TO_PUT: Duration = Duration::from_secs(1);

pub(crate) struct Sharing {
    settings: Arc<Settings>,
    credential: Arc<Credential>,
    /// Who the entries are for.
    identity: String,
    origin: Origin,
    store: OnceBox<Box<dyn Store>>,
    /// What each scope's token was when it was dropped; with the hashes' key.
    dropped: Lock<HashMap<String, u64>>,
    hasher: RandomState,
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
            dropped: Lock::default(),
            hasher: RandomState::new(),
        }))
    }

    fn cache(&self) -> &SharedCache {
        self.settings.cache.as_ref().unwrap_or_else(|| unreachable!("it was made with one"))
    }

    /// Opened at first use; a store that can't be opened is tried again.
    fn store(&self) -> Result<&dyn Store, Failure> {
        let open = || -> Result<Box<Box<dyn Store>>, Failure> {
            let store: Box<dyn Store> = match &self.cache().place {
                CachePlace::Directory(path) => {
                    let path = match path {
                        Some(path) => path.clone(),
                        None => default_directory(self.settings.environment()).map_err(failure)?,
                    };
                    Box::new(FileStore::open(path).map_err(failure)?)
                }
                CachePlace::Redis(value) => {
                    let roots = self.settings.system_roots.as_deref();
                    Box::new(RedisStore::new(parse(value)?, self.cache().ca_file.as_deref(), roots)?)
                }
            };
            Ok(Box::new(store))
        };
        self.store.get_or_try_init(open).map(|store| &**store)
    }

    /// What seals the entries.
    fn key(&self, store: &dyn Store) -> Result<Key, Failure> {
        let set = self.cache().key()?.and_then(|text| STANDARD.decode(text.reveal()).ok());
        if let Some(bytes) = set.map(zeroize::Zeroizing::new) {
            return Ok(Key::of(&bytes));
        }
        if let Some(secret) = self.credential.stable_secret()? {
            return Ok(Key::of(secret.reveal().as_bytes()));
        }
        store.own_key().map(|key| Key::of(&key)).map_err(failure)
    }

    /// An entry's name tells nothing, and is another one for each identity, scope and authority.
    fn name(&self, scope: &str) -> String {
        let what = format!("1\0{}\0{}\0{scope}", self.settings.authority, self.identity);
        let hash = ring::digest::digest(&ring::digest::SHA256, what.as_bytes());
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A token that needs no newer one yet: from the store, or fetched for all. `found` gets what is there meanwhile.
    pub(crate) fn token(
        &self,
        scope: &str,
        deadline: Instant,
        found: &dyn Fn(Token),
    ) -> Result<Token, Failure> {
        let store = match self.store() {
            Ok(store) => store,
            Err(failure) => return self.without(failure, scope, deadline),
        };
        match self.key(store) {
            Ok(key) => self.round(store, key, scope, deadline).token(found),
            Err(failure) => self.without(failure, scope, deadline),
        }
    }

    fn round<'a>(&'a self, store: &'a dyn Store, key: Key, scope: &'a str, deadline: Instant) -> Round<'a> {
        Round { sharing: self, store, key, name: self.name(scope), scope, deadline, user: RefCell::default() }
    }

    /// The token in the store, without a fetch.
    pub(crate) fn held(&self, scope: &str, deadline: Instant) -> Option<Token> {
        let store = self.store().ok()?;
        self.round(store, self.key(store).ok()?, scope, deadline).held().ok()?
    }

    /// What the database calls the token's owner, where somebody found that out by a second token.
    pub(crate) fn user(&self, scope: &str, deadline: Instant) -> Option<(String, Token)> {
        let store = self.store().ok()?;
        let round = self.round(store, self.key(store).ok()?, scope, deadline);
        let token = round.held().ok()??;
        round.user.take().map(|user| (user, token))
    }

    /// Keeps that with the token.
    pub(crate) fn keep_user(&self, scope: &str, user: &str, deadline: Instant) {
        let Ok(store) = self.store() else { return };
        let Ok(key) = self.key(store) else { return };
        let round = self.round(store, key, scope, deadline);
        // Nobody puts a newer token there meanwhile.
        let Ok(Some(_lease)) = store.try_lease(&round.name, deadline) else { return };
        if let Ok(Some(token)) = round.held() {
            round.user.replace(Some(user.into()));
            round.tell(&Ok(token));
        }
    }

    /// Where the store is of no use: a wrong setting is said, anything else is gone without.
    fn without(&self, failure: Failure, scope: &str, deadline: Instant) -> Result<Token, Failure> {
        if failure.error.kind() == ErrorKind::Config {
            return Err(failure);
        }
        self.warn(failure.error.message());
        self.fetch(scope, deadline)
    }

    fn fetch(&self, scope: &str, deadline: Instant) -> Result<Token, Failure> {
        self.credential.fetch(&self.settings, scope, deadline)
    }

    fn warn(&self, why: &str) {
        Level::Warn.log(self.settings.log, "shared_cache_failed", &[("error", why)]);
    }

    /// Drops the entry, so that whoever asks next fetches.
    /// `token`: the one that was in use.
    pub(crate) fn forget(&self, scope: &str, token: Option<&str>) {
        // Whatever the store does, this one is not taken from it again.
        if let Some(token) = token {
            let mark = self.hasher.hash_one(token);
            self.dropped.with(|dropped| dropped.insert(scope.into(), mark));
        }
        let deadline = Instant::now() + TIME_TO_PUT;
        let forgotten =
            self.store().map_err(|failure| failure.error.message().to_string()).and_then(|store| {
                store.remove(&self.name(scope), deadline).map_err(|trouble| trouble.to_string())
            });
        if let Err(why) = forgotten {
            self.warn(&why);
        }
    }
}

fn parse(value: &crate::settings::Value) -> Result<Url, Error> {
    Url::parse(value.as_str()).map_err(|why| value.bad(&format!("{why}.")))
}

fn failure(trouble: Trouble) -> Failure {
    let kind = if trouble.is_of_settings() { ErrorKind::Config } else { ErrorKind::Unavailable };
    Error::new(kind, trouble.to_string()).into()
}

/// One need for a token.
struct Round<'a> {
    sharing: &'a Sharing,
    store: &'a dyn Store,
    key: Key,
    name: String,
    scope: &'a str,
    deadline: Instant,
    /// The user that the entry names.
    user: RefCell<Option<String>>,
}

impl Round<'_> {
    fn token(&self, found: &dyn Fn(Token)) -> Result<Token, Failure> {
        self.together(found).unwrap_or_else(|trouble| {
            self.sharing.warn(&trouble.to_string());
            self.sharing.fetch(self.scope, self.deadline)
        })
    }

    /// With the others; a trouble of the store's ends that.
    fn together(&self, found: &dyn Fn(Token)) -> Result<Result<Token, Failure>, Trouble> {
        if let Some(token) = self.look(found)? {
            return Ok(Ok(token));
        }
        let told_before = self.told()?;
        loop {
            let lease = self.store.try_lease(&self.name, self.deadline)?;
            // Somebody may have fetched since we looked.
            if lease.is_some()
                && let Some(token) = self.look(found)?
            {
                return Ok(Ok(token));
            }
            let told = self.told()?.filter(|told| Some(told) != told_before.as_ref());
            if let Some(failure) = told.and_then(|sealed| self.failure_in(&sealed)) {
                return Ok(Err(failure));
            }
            // Who waited as long as the others may take fetches without the right to.
            let patience = self.deadline - self.sharing.settings.timeout / 4;
            if lease.is_some() || Instant::now() >= patience {
                let fetched = self.sharing.fetch(self.scope, self.deadline);
                self.tell(&fetched);
                drop(lease);
                return Ok(fetched);
            }
            self.store.wait(&self.name, patience)?;
            if let Some(token) = self.look(found)? {
                return Ok(Ok(token));
            }
        }
    }

    /// The token in the store, if it needs no newer one; else it is what there is meanwhile.
    fn look(&self, found: &dyn Fn(Token)) -> Result<Option<Token>, Trouble> {
        let Some(token) = self.held()? else { return Ok(None) };
        if self.is_fresh(&token) {
            return Ok(Some(token));
        }
        found(token);
        Ok(None)
    }

    fn is_fresh(&self, token: &Token) -> bool {
        Schedule::of(token, self.sharing.settings.refresh_before).is_fresh()
    }

    /// The token in the store; what is none there, is none.
    fn held(&self) -> Result<Option<Token>, Trouble> {
        let Some(sealed) = self.store.get(&self.name, self.deadline)? else { return Ok(None) };
        let now = Moment::now();
        let entry = self.key.open(&self.name, &sealed).and_then(|plain| Entry::from_bytes(&plain, now.unix));
        let dropped = self.sharing.dropped.with(|dropped| dropped.get(self.scope).copied());
        let entry = entry.filter(|entry| Some(self.sharing.hasher.hash_one(entry.token.reveal())) != dropped);
        Ok(entry.map(|entry| {
            let (token, user) = entry.into_token(now);
            self.user.replace(user);
            Token { origin: self.sharing.origin, ..token }
        }))
    }

    /// Tells the others what came of the fetch.
    fn tell(&self, fetched: &Result<Token, Failure>) {
        let deadline = Instant::now() + TIME_TO_PUT;
        let told = match fetched {
            Ok(token) => {
                let left = token.expires_on.saturating_sub(os::unix_now() + 1).max(1);
                let left = Duration::from_secs(left.unsigned_abs());
                // The identity is the same, so its name is.
                let plain = Entry::of(token, self.user.borrow().clone(), Moment::now()).to_bytes();
                let sealed = self.key.seal(&self.name, &plain);
                sealed.and_then(|sealed| self.store.put(&self.name, &sealed, left, deadline))
            }
            Err(failure) => {
                let (name, plain) = (self.name_of_failure(), note(failure));
                let sealed = self.key.seal(&name, plain.as_bytes());
                sealed.and_then(|sealed| self.store.put(&name, &sealed, FAILURE_LIFE, deadline))
            }
        };
        if let Err(trouble) = told {
            self.sharing.warn(&trouble.to_string());
        }
    }

    fn name_of_failure(&self) -> String {
        format!("{}f", self.name)
    }

    /// How the last fetch failed that did, sealed: never twice the same.
    fn told(&self) -> Result<Option<Vec<u8>>, Trouble> {
        self.store.get(&self.name_of_failure(), self.deadline)
    }

    fn failure_in(&self, sealed: &[u8]) -> Option<Failure> {
        read_note(&self.key.open(&self.name_of_failure(), sealed)?)
    }
}

/// `1800000000 5 3600 message`: when, which kind, after how long to ask again (0: the service does not say), why.
fn note(failure: &Failure) -> String {
    let after = if let Retry::After(pause) = failure.retry { pause.as_secs() } else { 0 };
    format!("{} {} {after} {}", os::unix_now(), failure.error.kind() as u8, failure.error.message())
}

fn read_note(plain: &[u8]) -> Option<Failure> {
    let mut parts = std::str::from_utf8(plain).ok()?.splitn(4, ' ');
    let (when, kind, after, message) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let kind = ErrorKind::ALL.into_iter().find(|known| (*known as u8).to_string() == kind)?;
    // Clocks differ; one that is put there again much later is no failure of now.
    let age = os::unix_now().abs_diff(when.parse().ok()?);
    let mut failure = Failure::from(Error::new(kind, message));
    if let after @ 1.. = after.parse().ok()? {
        failure.retry = Retry::After(Duration::from_secs(after));
    }
    (age <= 2 * FAILURE_LIFE.as_secs()).then_some(failure)
}
