//! A client: one set of settings, one identity, its tokens.

mod home; // where a client is, while others use it

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cache::{GRACE, Look, Manner, Slot, Thread};
use crate::credential::{Callback, Credential, Failure, Supplied};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::flight::Desk;
use crate::issued;
use crate::os;
use crate::os::thread::Stack;
use crate::settings::{Auth, Authority, COSMOS_SCOPE, Cloud, Settings, config};
use crate::sharing::Sharing;
use crate::token::{self, Aging, Name, Origin, Token};
pub(crate) use home::Home;
#[cfg(feature = "capi")]
pub(crate) use home::{Held, Shared};

/// Signs in as one identity. Share one client between all threads: they then share its token.
///
/// All of it may be called at the same time from any thread, and in a child after `fork`.
pub struct Client {
    settings: Arc<Settings>,
    credential: Arc<Credential>,
    /// Whether a function of the program's supplies the tokens.
    is_supplied: bool,
    database: Arc<Slot<Token>>,
    /// For servers that want other tokens.
    others: [(Purpose, Arc<Slot<Token>>); 3],
    /// The identity's name in each cloud, where its tokens for databases do not say it.
    names: [(Cloud, Arc<Slot<UserName>>); 3],
    sharing: Option<Arc<Sharing>>,
    had_token: AtomicBool,
    failed: AtomicBool,
    /// When a refused token was last replaced, in milliseconds on the boot clock; 0: never.
    replaced: AtomicU64,
}

/// Servers that refuse good tokens must not make a storm of requests.
const BETWEEN_REPLACEMENTS: Duration = Duration::from_secs(60);

/// Which of the tokens a connection needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Azure Database for PostgreSQL in the client's cloud, or the scope that is set.
    Database,
    /// The same in another cloud, which the server's name chose.
    OtherCloud(Cloud),
    /// Azure Cosmos DB for PostgreSQL.
    Cosmos,
}

/// How it is with a token.
#[cfg(feature = "command")]
pub(crate) struct Standing {
    /// When it is to be asked for anew, in Unix seconds, where one is held.
    pub(crate) next_refresh: Option<i64>,
    /// Why the last fetch brought none.
    pub(crate) trouble: Option<Error>,
}

/// A token in the shared cache.
#[cfg(feature = "command")]
pub(crate) struct SharedToken {
    pub(crate) scope: String,
    /// In Unix seconds.
    pub(crate) expires_on: i64,
    /// Where a second token had to say it.
    pub(crate) user: Option<String>,
}

/// What the database calls the identity. It is kept for as long as the token that said it lives.
struct UserName {
    /// Or why there is none, which stays so as long.
    name: Result<String, Error>,
    asked: Duration,
    life: Duration,
    ends_on: i64,
}

impl Aging for UserName {
    fn asked(&self) -> Duration {
        self.asked
    }

    fn life(&self) -> Duration {
        self.life
    }

    fn ends_on(&self) -> i64 {
        self.ends_on
    }
}

/// An access token, to be used as the password of one connection. Its `Debug` does not show it.
#[derive(Clone)]
pub struct AccessToken {
    token: Arc<Token>,
    is_cached: bool,
}

impl AccessToken {
    /// The token itself: whoever has it is the identity, until it expires.
    pub fn secret(&self) -> &str {
        self.token.secret.reveal()
    }

    /// Until when it is good, in Unix seconds (UTC).
    pub fn expires_on(&self) -> i64 {
        self.token.expires_on
    }

    /// Where this process got it: "entra", "file" or "redis".
    #[cfg(feature = "command")]
    pub(crate) fn origin(&self) -> &'static str {
        self.token.origin.name()
    }

    /// Whether it was in some cache when it was asked for, and did not come fresh from Entra.
    pub(crate) fn is_cached(&self) -> bool {
        self.is_cached
    }
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessToken").field("expires_on", &self.expires_on()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with these settings (`key=value`, with the grammar of a libpq connection string), and the
    /// environment's for what they leave out; `""` is the environment alone. Sends nothing yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`]: the setting that the message names is unknown, missing, malformed or contradicts another one.
    pub fn new(settings: &str) -> Result<Self, Error> {
        Self::with(Settings::read(settings, Environment::process())?)
    }

    /// A client whose tokens `fetch` supplies, for a scope and within a time.
    pub(crate) fn with_callback(
        settings: &str,
        fetch: impl Fn(&str, Duration) -> Result<Supplied, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let settings = Settings::read_for_callback(settings, Environment::process())?;
        Self::made(settings, Credential::of_callback(Callback::new(fetch)))
    }

    fn with(settings: Settings) -> Result<Self, Error> {
        let credential = Credential::of(&settings)?;
        Self::made(settings, credential)
    }

    fn made(settings: Settings, credential: Credential) -> Result<Self, Error> {
        let (settings, credential) = (Arc::new(settings), Arc::new(credential));
        let manner = Manner {
            fetch_time: settings.timeout,
            refresh_before: settings.refresh_before,
            thread: match settings.auth {
                Auth::Callback if !settings.callback_on_any_thread => Thread::Callers,
                Auth::Callback => Thread::Ours(Stack::Anybodys),
                _ => Thread::Ours(Stack::Ours),
            },
        };
        let sharing = Sharing::of(&settings, &credential)?.map(Arc::new);
        let mark = || {
            let credential = credential.clone();
            move || credential.mark_of_proof()
        };
        let tokens = |scope: &str| {
            let (settings, credential, scope) = (settings.clone(), credential.clone(), scope.to_string());
            let remember = |token: &Token| issued::remember(token.secret.reveal().as_bytes());
            let look = sharing.clone().map(|sharing| -> Box<Look<Token>> {
                let scope = scope.clone();
                Box::new(move |deadline| {
                    sharing.held(&scope, deadline).map(|(token, _)| token).inspect(remember)
                })
            });
            let sharing = sharing.clone();
            let fetch = move |deadline, desk: &Desk<'_, Token, Failure>| {
                let meanwhile = |token: Token| {
                    remember(&token);
                    (desk.meanwhile)(token);
                };
                let done = |fetched: Result<Token, Failure>| (desk.done)(fetched.inspect(remember));
                let desk = Desk { can_wait: desk.can_wait, meanwhile: &meanwhile, done: &done };
                match &sharing {
                    Some(sharing) => sharing.token(&scope, deadline, &desk),
                    None => done(credential.fetch(&settings, &scope, deadline)),
                }
            };
            Slot::new(manner, mark(), fetch, look)
        };
        let names = |cloud: Cloud| {
            let (settings, credential, sharing) = (settings.clone(), credential.clone(), sharing.clone());
            let fetch = move |deadline, desk: &Desk<'_, UserName, Failure>| {
                let of_token = |name: Result<String, Error>, token: &Token| UserName {
                    name,
                    asked: token.asked,
                    life: token.life,
                    ends_on: token.expires_on,
                };
                let scope = settings.scope.as_deref().unwrap_or(cloud.scope());
                let held = sharing.as_ref().and_then(|sharing| sharing.held(scope, deadline));
                if let Some((token, Some(user))) = held {
                    return (desk.done)(Ok(of_token(Ok(user), &token)));
                }
                match credential.fetch(&settings, cloud.management_scope(), deadline) {
                    Err(failure) => (desk.done)(Err(failure)),
                    Ok(token) => {
                        let name = own_name(&token, " for Azure Resource Manager");
                        if let (Some(sharing), Ok(name)) = (&sharing, &name) {
                            sharing.keep_user(scope, name, deadline);
                        }
                        (desk.done)(Ok(of_token(name, &token)));
                    }
                }
            };
            (cloud, Slot::new(manner, mark(), fetch, None))
        };
        let in_cloud = |cloud: Cloud| (Purpose::OtherCloud(cloud), tokens(cloud.scope()));
        Ok(Self {
            database: tokens(scope_of(&settings)),
            others: [in_cloud(Cloud::UsGov), in_cloud(Cloud::China), (Purpose::Cosmos, tokens(COSMOS_SCOPE))],
            names: Cloud::ALL.map(names),
            is_supplied: settings.auth == Auth::Callback,
            settings,
            credential,
            sharing,
            had_token: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            replaced: AtomicU64::new(0),
        })
    }

    /// What a token for the database is asked for.
    pub(crate) fn scope(&self) -> &str {
        scope_of(&self.settings)
    }

    fn scope_for(&self, purpose: Purpose) -> &str {
        match purpose {
            Purpose::Database => self.scope(),
            Purpose::OtherCloud(cloud) => cloud.scope(),
            Purpose::Cosmos => COSMOS_SCOPE,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The environment as this client may see it.
    pub(crate) fn environment(&self) -> Environment<'static> {
        self.settings.environment()
    }

    /// Whether a proof in the settings says who it is, so that no server's name may choose the cloud.
    pub(crate) fn has_proof(&self) -> bool {
        self.credential.has_proof()
    }

    /// A token for the database: from memory while it is fresh, else from Entra. Waits for the client's
    /// `timeout_ms` at most.
    ///
    /// # Errors
    ///
    /// Why there is none: [`ErrorKind::Config`], [`Disabled`](ErrorKind::Disabled),
    /// [`Unavailable`](ErrorKind::Unavailable), [`Denied`](ErrorKind::Denied), [`Throttled`](ErrorKind::Throttled),
    /// [`Network`](ErrorKind::Network), [`Timeout`](ErrorKind::Timeout) or [`Protocol`](ErrorKind::Protocol). An old token
    /// that still lives is handed out all the same.
    pub fn token(&self) -> Result<AccessToken, Error> {
        self.token_for(Purpose::Database, None)
    }

    /// The same, but waits no longer than `timeout`; with zero, hands out what is there already or
    /// fails with [`ErrorKind::Timeout`]. The fetch goes on for others.
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
        let slot = self.slot(purpose);
        let held = slot.held();
        let token = self.wait_for(slot, timeout, Instant::now())?;
        let was_held = held.is_some_and(|held| Arc::ptr_eq(&held, &token));
        let is_cached = was_held || token.origin != Origin::Entra;
        Ok(AccessToken { token, is_cached })
    }

    /// A fresh token in the place of a cached one that a server refused, for a call that may wait so long since it began.
    /// None: there is no other in that time, or the last that was replaced is too recent.
    pub(crate) fn replace(
        &self,
        refused: &AccessToken,
        purpose: Purpose,
        timeout: Option<Duration>,
        begun: Instant,
    ) -> Option<AccessToken> {
        let now = u64::try_from(os::since_boot().as_millis()).ok()?;
        let last = self.replaced.load(Relaxed);
        let is_due = last == 0 || now.saturating_sub(last) >= BETWEEN_REPLACEMENTS.as_millis() as u64;
        let is_mine = || self.replaced.compare_exchange(last, now.max(1), Relaxed, Relaxed).is_ok();
        if !refused.is_cached || !is_due || !is_mine() {
            return None;
        }
        if let Some(sharing) = &self.sharing {
            sharing.pass_over(refused.token.asked);
        }
        let patience =
            timeout.filter(|timeout| *timeout < self.settings.timeout).unwrap_or(self.settings.timeout);
        let token = self.slot(purpose).replace(&refused.token, begun + patience)?;
        (token.secret != refused.token.secret).then_some(AccessToken { token, is_cached: false })
    }

    /// Who made a token, as OAuth names them, and for which application; None where the token doesn't say.
    pub(crate) fn origin_of(&self, token: &AccessToken, purpose: Purpose) -> Option<(String, String)> {
        let claims = token::claims(token.secret())?;
        let text = |name: &str| claims.get(name)?.as_str().map(str::to_string);
        let authority = match purpose {
            Purpose::OtherCloud(cloud) => &Authority::of_cloud(cloud),
            _ => &self.settings.authority,
        };
        let application = text("appid").or_else(|| text("azp"))?;
        Some((format!("{authority}/{}/v2.0", text("tid")?), application))
    }

    /// Whether there can be a token before a call needs one: not where only a call's own thread gets it.
    pub(crate) fn check_prefetch(&self) -> Result<(), Error> {
        self.credential.check(&self.settings)?;
        match self.is_supplied && !self.settings.callback_on_any_thread {
            true => Err(config(
                "pgaad_client_prefetch has no thread to call the token callback on: set callback_thread=any, if the \
                 callback may run on any thread.",
            )),
            false => Ok(()),
        }
    }

    /// Whether there is nothing to fetch ahead.
    fn is_ready(&self) -> bool {
        let named =
            |token: &Token| !self.needs_name(token) || self.names_of(self.settings.cloud).held().is_some();
        self.database.warm(named).unwrap_or(false)
    }

    /// Whether only a second token says who the user is.
    fn needs_name(&self, token: &Token) -> bool {
        self.credential.is_named_in_management()
            && own_name(token, "").is_err()
            && self.environment().libpq("PGUSER").is_none()
    }

    /// What a connection needs: a token, and the user.
    fn fetch_ahead(&self) -> Result<(), Error> {
        let token = self.token()?;
        if self.needs_name(&token.token) {
            self.user_of(&token, Purpose::Database, None, Instant::now())?;
        }
        Ok(())
    }

    fn wait_for<T: Aging + Send + Sync + 'static>(
        &self,
        slot: &Arc<Slot<T>>,
        timeout: Option<Duration>,
        begun: Instant,
    ) -> Result<Arc<T>, Error> {
        self.credential.check(&self.settings)?;
        let limit = timeout.filter(|timeout| *timeout < self.settings.timeout);
        // A fetch ends itself, and then says what it waited for; who has all the time waits for that.
        let patience = limit.unwrap_or(self.settings.timeout + GRACE);
        slot.get(begun + patience)?.ok_or_else(|| too_late(limit))
    }

    /// The user that the identity is to the database: the one that its token names. It may take a second token, for Azure
    /// Resource Manager, to find out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`]: no token of this identity holds a name, for it is an application or a system-assigned
    /// identity. Otherwise those of [`Client::token`].
    pub fn user(&self) -> Result<String, Error> {
        self.check_for_name()?;
        let begun = Instant::now();
        let token = self.token()?;
        self.user_of(&token, Purpose::Database, None, begun)
    }

    /// Why there is no user to be had from a token, where that is known before one is asked for.
    pub(crate) fn check_for_name(&self) -> Result<(), Error> {
        match self.credential.is_nameless() {
            true => Err(no_user("an application's token holds no name")),
            false => Ok(()),
        }
    }

    /// The user that a token of this client's is for, for a call that may wait so long since it began.
    pub(crate) fn user_of(
        &self,
        token: &AccessToken,
        purpose: Purpose,
        timeout: Option<Duration>,
        begun: Instant,
    ) -> Result<String, Error> {
        match own_name(&token.token, "") {
            Err(_) if self.credential.is_named_in_management() => {}
            named => return named,
        }
        let cloud = match purpose {
            Purpose::OtherCloud(cloud) => cloud,
            _ => self.settings.cloud,
        };
        match self.wait_for(self.names_of(cloud), timeout, begun) {
            Ok(user) => user.name.clone(),
            Err(error) => Err(match error.kind() {
                ErrorKind::Denied | ErrorKind::Unavailable | ErrorKind::Protocol => no_user(&format!(
                    "this identity's token holds no name, and the one that would was refused: {error}"
                )),
                _ => error,
            }),
        }
    }

    fn names_of(&self, cloud: Cloud) -> &Arc<Slot<UserName>> {
        let names = self.names.iter().find(|(of, _)| *of == cloud);
        names.map(|(_, names)| names).unwrap_or_else(|| unreachable!("each cloud has one"))
    }

    /// Calls `give` with the database's token and its end, if that is in memory and fresh. Takes no lock.
    pub(crate) fn warm_token<R>(&self, give: impl FnOnce(&str, i64) -> R) -> Option<R> {
        if self.is_supplied && self.credential.check_caller().is_err() {
            return None;
        }
        self.database.warm(|token| give(token.secret.reveal(), token.expires_on))
    }

    /// What the shared cache holds for this identity, by scope; None: nothing of it is shared.
    #[cfg(feature = "command")]
    pub(crate) fn shared_tokens(&self) -> Option<Result<Vec<SharedToken>, Error>> {
        let sharing = self.sharing.as_ref()?;
        let look = |purpose| {
            let scope = self.scope_for(purpose);
            let found = sharing.look(scope, Instant::now() + self.settings.timeout)?;
            Ok(found.map(|(token, user)| SharedToken {
                scope: scope.into(),
                expires_on: token.expires_on,
                user,
            }))
        };
        Some(self.purposes().filter_map(|purpose| look(purpose).transpose()).collect())
    }

    fn purposes(&self) -> impl Iterator<Item = Purpose> {
        [Purpose::Database].into_iter().chain(self.others.iter().map(|(purpose, _)| *purpose))
    }

    /// Which kind of credential it is, and what keeps it from being one.
    #[cfg(feature = "command")]
    pub(crate) fn credential(&self) -> (&'static str, Result<(), Error>) {
        (self.credential.name(), self.credential.check(&self.settings))
    }

    /// How it is with a token, for who asks again and again.
    #[cfg(feature = "command")]
    pub(crate) fn standing(&self, purpose: Purpose) -> Standing {
        let report = self.slot(purpose).report();
        let trouble = report.failing_since.and(report.last_error);
        Standing { next_refresh: report.next_refresh, trouble }
    }

    /// What this client has, did and failed with, as a JSON object, whose members `pgaad.h` describes; never a secret.
    pub fn stats(&self) -> String {
        let report = self.database.report();
        let token = report.token.as_deref();
        let claims = token.and_then(|token| token::claims(token.secret.reveal()));
        let claim = |name: &str| claims.as_ref().and_then(|claims| claims.get(name)).cloned();
        let user = token.and_then(|token| own_name(token, "").ok());
        let names = self.names_of(self.settings.cloud);
        let found = names.report().token.and_then(|user| user.name.clone().ok());
        let counters = &self.database.counters;
        let error = report.last_error.as_ref();
        json!({
            "credential": self.credential.name(),
            "scope": scope_of(&self.settings),
            "tid": claim("tid"),
            "appid": claim("appid"),
            "oid": claim("oid"),
            "aud": claim("aud"),
            "user": user.or(found),
            "origin": token.map(|token| token.origin.name()),
            "expires_on": token.map(|token| token.expires_on),
            "last_good_fetch": report.last_good,
            "next_refresh": report.next_refresh,
            "failing_since": report.failing_since,
            "last_error": error.map(Error::message),
            "hits": counters.hits.sum(),
            "misses": counters.misses.sum(),
            "waits": counters.waits.sum(),
            "refreshes": counters.refreshes.sum(),
            "failures": counters.failures.sum(),
            "settings": self.settings.origins,
        })
        .to_string()
    }

    fn slot(&self, purpose: Purpose) -> &Arc<Slot<Token>> {
        let other = self.others.iter().find(|(of, _)| *of == purpose);
        other.map_or(&self.database, |(_, slot)| slot)
    }

    /// Drops the tokens held, here and in a shared cache, so that whoever has none yet fetches one: for a token that a
    /// server refuses.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Network`]: the shared cache can't be reached. Here they are dropped all the same.
    pub fn invalidate(&self) -> Result<(), Error> {
        self.credential.check_caller()?;
        // First where another thread would take it from.
        let forgotten = self
            .sharing
            .as_ref()
            .map_or(Ok(()), |sharing| sharing.forget(self.purposes().map(|purpose| self.scope_for(purpose))));
        self.database.clear();
        self.others.iter().for_each(|(_, slot)| slot.clear());
        self.names.iter().for_each(|(_, slot)| slot.clear());
        forgotten
    }
}

fn scope_of(settings: &Settings) -> &str {
    settings.scope.as_deref().unwrap_or(settings.cloud.scope())
}

fn too_late(limit: Option<Duration>) -> Error {
    let text = match limit {
        Some(Duration::ZERO) => {
            "No token is here, and this call may not wait for one. Call again with more time; in an event loop, call \
             pgaad_client_prefetch, and again when its descriptor is readable."
                .into()
        }
        Some(limit) => format!(
            "No token in the {} ms that this call had (its own timeout, or connect_timeout). The fetch goes on: a later \
             call may find its token.",
            limit.as_millis()
        ),
        None => "No token in time: the fetch did not end by its deadline (PGAAD_TIMEOUT_MS). Check the network, and \
                 PGAAD_PROXY."
            .into(),
    };
    Error::new(ErrorKind::Timeout, text)
}

/// The name that a token gives to its owner.
fn own_name(token: &Token, of: &str) -> Result<String, Error> {
    match token::name(token.secret.reveal()) {
        Some(Name::Own(name)) => Ok(name),
        Some(Name::OfHost(name)) => Err(no_user(&format!(
            "the identity belongs to the resource {name}, after which its role is mostly, but not always named"
        ))),
        None => Err(no_user(&format!("this identity's token{of} holds no name"))),
    }
}

fn no_user(why: &str) -> Error {
    config(format!(
        "No user for the database: {}. Set user in the connection string, or PGUSER, to the role that was made for the \
         identity (its display name, unless the administrator chose another).",
        why.trim_end_matches('.')
    ))
}
