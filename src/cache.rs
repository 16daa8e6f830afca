//! The token in memory, or what else ages: handed out without a lock, fetched once however many ask.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::bug;
use crate::credential::{Failure, Retry};
use crate::error::{Error, ErrorKind};
use crate::flight::Flight;
use crate::os;
use crate::os::thread::Stack;
use crate::token::Aging;

/// A refusal is not asked for again for so long: a storm of connections makes one request.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);

/// The pause after a failed refresh while the old token lives; it doubles up to the longest.
const AFTER_FAILED_REFRESH: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a fetch may take beyond its time, to end by itself and say what it waited for.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How a token is got, with a deadline.
type Fetch<T> = dyn Fn(Instant) -> Result<T, Failure> + Send + Sync;

/// One token of one client, for one scope.
pub(crate) struct Slot<T> {
    fetch: Box<Fetch<T>>,
    thread: Thread,
    /// How long a fetch may take, whoever waits for it.
    fetch_time: Duration,
    /// How much life a token must have left to be handed out without a try for a newer one.
    refresh_before: Duration,
    held: ArcSwapOption<Held<T>>,
    state: os::fork::Lock<State<T>>,
}

/// How a slot is filled.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) fetch_time: Duration,
    pub(crate) refresh_before: Duration,
    pub(crate) thread: Thread,
}

/// Where a fetch runs.
#[derive(Clone, Copy)]
pub(crate) enum Thread {
    /// On the thread of the call that needs it.
    Callers,
    Ours(Stack),
}

/// A token, and when what is to happen with it; all on the boot clock. On cache lines of its own, as the token.
#[repr(align(128))]
struct Held<T> {
    token: Arc<T>,
    /// From when on a newer one is fetched behind the callers' backs.
    refresh_at: Duration,
    /// From when on callers wait for a newer one.
    stale_at: Duration,
    /// From when on it is not handed out.
    dead_at: Duration,
}

struct State<T> {
    flight: Option<Arc<Fetching<T>>>,
    failed: Option<Failed>,
    failures: u32,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self { flight: None, failed: None, failures: 0 }
    }
}

/// What the last fetch failed with; on the boot clock.
struct Failed {
    error: Error,
    /// Until when it is the answer for callers without a token.
    counts_until: Duration,
    /// Until when the old token is not refreshed, as long as it lives.
    refresh_after: Duration,
}

/// A fetch under way.
type Fetching<T> = Flight<Result<Arc<T>, Error>>;

/// What a caller has to do.
enum Turn<T> {
    Have(Arc<T>),
    Fail(Error),
    Late,
    Wait(Arc<Fetching<T>>),
    Fetch(Arc<Fetching<T>>),
}

impl<T: Aging + Send + Sync + 'static> Slot<T> {
    pub(crate) fn new(
        manner: Manner,
        fetch: impl Fn(Instant) -> Result<T, Failure> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let Manner { fetch_time, refresh_before, thread } = manner;
        let state = os::fork::Lock::new(State::default());
        let held = ArcSwapOption::empty();
        Arc::new(Self { fetch: Box::new(fetch), thread, fetch_time, refresh_before, held, state })
    }

    /// Calls `give` with the token if there is one that needs no look at anything else: the warm path.
    pub(crate) fn warm<R>(&self, give: impl FnOnce(&T) -> R) -> Option<R> {
        let held = self.held.load();
        let held = held.as_ref().filter(|held| os::since_boot() < held.refresh_at)?;
        Some(give(&held.token))
    }

    /// The token, fetched if need be; the caller waits for that until `deadline`. None: it was too late.
    pub(crate) fn get(self: &Arc<Self>, deadline: Instant) -> Result<Option<Arc<T>>, Error> {
        loop {
            let living = self.living();
            if let Some(held) = &living
                && os::since_boot() < held.refresh_at
            {
                return Ok(Some(held.token.clone()));
            }
            let has_time = deadline > Instant::now();
            let (flight, is_anothers) = match self.state.with(|state| self.turn(state, has_time)) {
                Turn::Have(token) => return Ok(Some(token)),
                Turn::Late => return Ok(None),
                Turn::Fail(error) => return Err(error),
                Turn::Wait(flight) => (flight, true),
                Turn::Fetch(flight) => {
                    self.set_off(&flight, deadline);
                    (flight, false)
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
                Some(Ok(token)) => return Ok(Some(token)),
                // It had the time of another caller, on whose thread it ran.
                Some(Err(error))
                    if matches!(self.thread, Thread::Callers)
                        && is_anothers
                        && error.kind() == ErrorKind::Timeout => {}
                Some(Err(error)) => return old().map(Some).ok_or(error),
                None => return Ok(old()),
            }
        }
    }

    fn set_off(self: &Arc<Self>, flight: &Arc<Fetching<T>>, patience: Instant) {
        let deadline = Instant::now() + self.fetch_time;
        let Thread::Ours(stack) = self.thread else { return self.fly(flight, deadline.min(patience)) };
        let (slot, flown) = (self.clone(), flight.clone());
        // A thread of its own: the fetch belongs to the client, and goes on when this caller gives up.
        if os::thread::spawn("pgaad-fetch", stack, move || slot.fly(&flown, deadline)).is_err() {
            // No thread to be had: then here, and the caller waits as long as it takes.
            self.fly(flight, deadline);
        }
    }

    fn living(&self) -> Option<Arc<Held<T>>> {
        self.held.load_full().filter(|held| os::since_boot() < held.dead_at)
    }

    fn turn(&self, state: &mut State<T>, has_time: bool) -> Turn<T> {
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
            Some(flight) if self.is_under_way(flight) => Turn::Wait(flight.clone()),
            _ => {
                let flight = Arc::new(Flight::new());
                state.flight = Some(flight.clone());
                Turn::Fetch(flight)
            }
        }
    }

    /// Whether it is this process's, and has not run on for so long that it will hardly end.
    fn is_under_way(&self, flight: &Fetching<T>) -> bool {
        flight.is_of_this_process() && flight.age() <= self.fetch_time + GRACE
    }

    /// Fetches, keeps the result and hands it to those who wait.
    fn fly(&self, flight: &Arc<Fetching<T>>, deadline: Instant) {
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

    fn keep(&self, state: &mut State<T>, result: &Result<Arc<T>, Failure>) {
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

impl<T: Aging> Held<T> {
    fn new(token: Arc<T>, refresh_before: Duration) -> Self {
        let dead_at = token.dead_at();
        let end = token.asked() + token.life();
        let stale_at = (end - refresh_before.min(token.life() / 2)).min(dead_at);
        let advised = token.refresh_in().map(|after| token.asked() + after);
        Self { refresh_at: advised.unwrap_or(stale_at).min(stale_at), stale_at, dead_at, token }
    }
}
