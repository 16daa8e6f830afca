//! The token in memory: handed out without a lock, fetched once however many ask.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::bug;
use crate::credential::{Failure, Retry};
use crate::error::{Error, ErrorKind};
use crate::os;
use crate::token::Token;

/// A refusal is not asked for again for so long: a storm of connections makes one request.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);

/// The pause after a failed refresh while the old token lives; it doubles up to the longest.
const AFTER_FAILED_REFRESH: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a fetch may take beyond its time, to end by itself and say what it waited for.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How a token is got, with a deadline.
type Fetch = dyn Fn(Instant) -> Result<Token, Failure> + Send + Sync;

/// One token of one client, for one scope.
pub(crate) struct Slot {
    fetch: Box<Fetch>,
    /// How long a fetch may take, whoever waits for it.
    fetch_time: Duration,
    /// How much life a token must have left to be handed out without a try for a newer one.
    refresh_before: Duration,
    held: ArcSwapOption<Held>,
    state: os::fork::Lock<State>,
}

/// A token, and when what is to happen with it; all on the boot clock. On cache lines of its own, as the token.
#[repr(align(128))]
struct Held {
    token: Arc<Token>,
    /// From when on a newer one is fetched behind the callers' backs.
    refresh_at: Duration,
    /// From when on callers wait for a newer one.
    stale_at: Duration,
    /// From when on it is not handed out.
    dead_at: Duration,
}

#[derive(Default)]
struct State {
    flight: Option<Arc<Flight>>,
    failed: Option<Failed>,
    failures: u32,
}

/// What the last fetch failed with; on the boot clock.
struct Failed {
    error: Error,
    /// Until when it is the answer for callers without a token.
    counts_until: Duration,
    /// Until when the old token is not refreshed, as long as it lives.
    refresh_after: Duration,
}

/// A fetch under way, and its result for all who wait. A child never waits for a flight of its parent's.
struct Flight {
    generation: u64,
    begun: Instant,
    result: Mutex<Option<Result<Arc<Token>, Error>>>,
    landed: Condvar,
}

/// What a caller has to do.
enum Turn {
    Have(Arc<Token>),
    Fail(Error),
    Late,
    Wait(Arc<Flight>),
    Fetch(Arc<Flight>),
}

impl Slot {
    pub(crate) fn new(
        fetch_time: Duration,
        refresh_before: Duration,
        fetch: impl Fn(Instant) -> Result<Token, Failure> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let state = os::fork::Lock::new(State::default());
        Arc::new(Self {
            fetch: Box::new(fetch),
            fetch_time,
            refresh_before,
            held: ArcSwapOption::empty(),
            state,
        })
    }

    /// Calls `give` with the token if there is one that needs no look at anything else: the warm path.
    pub(crate) fn warm<R>(&self, give: impl FnOnce(&Token) -> R) -> Option<R> {
        let held = self.held.load();
        let held = held.as_ref().filter(|held| os::since_boot() < held.refresh_at)?;
        Some(give(&held.token))
    }

    /// The token, fetched if need be; the caller waits for that until `deadline`. None: it was too late.
    pub(crate) fn get(self: &Arc<Self>, deadline: Instant) -> Result<Option<Arc<Token>>, Error> {
        let living = self.living();
        if let Some(held) = &living
            && os::since_boot() < held.refresh_at
        {
            return Ok(Some(held.token.clone()));
        }
        let has_time = deadline > Instant::now();
        let flight = match self.state.with(|state| self.turn(state, has_time)) {
            Turn::Have(token) => return Ok(Some(token)),
            Turn::Late => return Ok(None),
            Turn::Fail(error) => return Err(error),
            Turn::Wait(flight) => flight,
            Turn::Fetch(flight) => {
                let (slot, flown) = (self.clone(), flight.clone());
                // A thread of its own: the fetch belongs to the client, and goes on when this caller gives up.
                if os::thread::spawn("pgaad-fetch", move || slot.fly(&flown)).is_err() {
                    // No thread to be had: then here, and the caller waits as long as it takes.
                    self.fly(&flight);
                }
                flight
            }
        };
        // Behind the callers' backs: they go on with the token they have.
        if let Some(held) = &living
            && os::since_boot() < held.stale_at
        {
            return Ok(Some(held.token.clone()));
        }
        let old = || self.living().map(|held| held.token.clone());
        match flight.wait(deadline) {
            Some(Ok(token)) => Ok(Some(token)),
            Some(Err(error)) => old().map(Some).ok_or(error),
            None => Ok(old()),
        }
    }

    fn living(&self) -> Option<Arc<Held>> {
        self.held.load_full().filter(|held| os::since_boot() < held.dead_at)
    }

    fn turn(&self, state: &mut State, has_time: bool) -> Turn {
        let now = os::since_boot();
        let living = self.living();
        if let Some(held) = &living
            && (now < held.refresh_at || !has_time)
        {
            return Turn::Have(held.token.clone());
        }
        if !has_time {
            return Turn::Late;
        }
        if let Some(failed) = &state.failed {
            match living {
                Some(held) if now < failed.refresh_after => return Turn::Have(held.token.clone()),
                None if now < failed.counts_until => return Turn::Fail(failed.error.clone()),
                _ => {}
            }
        }
        match &state.flight {
            Some(flight) if flight.is_under_way(self.fetch_time) => Turn::Wait(flight.clone()),
            _ => {
                let flight = Arc::new(Flight::new());
                state.flight = Some(flight.clone());
                Turn::Fetch(flight)
            }
        }
    }

    /// Fetches, keeps the result and hands it to those who wait.
    fn fly(&self, flight: &Arc<Flight>) {
        let deadline = Instant::now() + self.fetch_time;
        let result =
            bug::contain(|| (self.fetch)(deadline)).unwrap_or_else(|bug| Err(bug.into())).map(Arc::new);
        self.state.with(|state| {
            // Not one that was given up: by `clear`, or because it did not end.
            if state.flight.take_if(|current| Arc::ptr_eq(current, flight)).is_some() {
                self.keep(state, &result);
            }
        });
        flight.land(result.map_err(|failure| failure.error));
    }

    fn keep(&self, state: &mut State, result: &Result<Arc<Token>, Failure>) {
        match result {
            Ok(token) => {
                self.held.store(Some(Arc::new(Held::new(token.clone(), self.refresh_before))));
                (state.failed, state.failures) = (None, 0);
            }
            Err(failure) => {
                let pause = match (failure.error.kind(), failure.retry) {
                    (_, Retry::After(pause)) => pause,
                    (ErrorKind::Denied | ErrorKind::Throttled, _) => AFTER_REFUSAL,
                    _ => Duration::ZERO,
                };
                let grown = (AFTER_FAILED_REFRESH * 2_u32.pow(state.failures.min(8))).min(LONGEST_PAUSE);
                let now = os::since_boot();
                state.failed = Some(Failed {
                    error: failure.error.clone(),
                    counts_until: now + pause,
                    refresh_after: now + pause.max(grown),
                });
                state.failures += 1;
            }
        }
    }

    /// Forgets the token and any failure; the next caller fetches, whatever is under way.
    pub(crate) fn clear(&self) {
        self.state.with(|state| {
            self.held.store(None);
            *state = State::default();
        });
    }
}

impl Held {
    fn new(token: Arc<Token>, refresh_before: Duration) -> Self {
        let dead_at = token.dead_at();
        let end = token.asked + token.life;
        let stale_at = (end - refresh_before.min(token.life / 2)).min(dead_at);
        let advised = token.refresh_in.map(|after| token.asked + after);
        Self { refresh_at: advised.unwrap_or(stale_at).min(stale_at), stale_at, dead_at, token }
    }
}

impl Flight {
    fn new() -> Self {
        Self {
            generation: os::fork::generation(),
            begun: Instant::now(),
            result: Mutex::new(None),
            landed: Condvar::new(),
        }
    }

    /// Whether it is this process's, and has not run on for so long that it will hardly end.
    fn is_under_way(&self, fetch_time: Duration) -> bool {
        self.generation == os::fork::generation() && self.begun.elapsed() <= fetch_time + GRACE
    }

    fn land(&self, result: Result<Arc<Token>, Error>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.landed.notify_all();
    }

    fn wait(&self, deadline: Instant) -> Option<Result<Arc<Token>, Error>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        let (result, _) = self
            .landed
            .wait_timeout_while(result, left, |result| result.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        result.clone()
    }
}
