//! The token in memory, or what else ages: handed out without a lock, fetched once however many ask.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::bug;
use crate::counters::Counters;
use crate::credential::{Failure, Retry};
use crate::error::{Error, ErrorKind};
use crate::flight::{Desk, Flight};
use crate::os;
use crate::os::thread::Stack;
use crate::token::{Aging, Schedule};

/// A refusal is not asked for again for so long: a storm of connections makes one request.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);

/// How often is looked meanwhile whether another process has a token.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// The pause after a failed refresh while the old token lives; it doubles up to the longest.
const AFTER_FAILED_REFRESH: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a fetch may take beyond its time, to end by itself and say what it waited for.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How a token is got, with a deadline.
type Fetch<T> = dyn Fn(Instant, &Desk<'_, T, Failure>) + Send + Sync;

/// What another process has, without a fetch.
pub(crate) type Look<T> = dyn Fn(Instant) -> Option<T> + Send + Sync;

/// One token of one client, for one scope.
pub(crate) struct Slot<T> {
    fetch: Box<Fetch<T>>,
    /// None: nobody shares what is kept here.
    look: Option<Box<Look<T>>>,
    thread: Thread,
    /// How long a fetch may take, whoever waits for it.
    fetch_time: Duration,
    /// How much life a token must have left to be handed out without a try for a newer one.
    refresh_before: Duration,
    /// Changes when what proves the identity does: then what was refused is tried again.
    mark_of_proof: Box<dyn Fn() -> u64 + Send + Sync>,
    held: ArcSwapOption<Held<T>>,
    state: os::fork::Lock<State<T>>,
    pub(crate) counters: Counters,
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

/// A token, and when what is to happen with it. On cache lines of its own, as the token.
#[repr(align(128))]
struct Held<T> {
    token: Arc<T>,
    schedule: Schedule,
}

struct State<T> {
    flight: Option<Arc<Fetching<T>>>,
    look: Option<Arc<Looking<T>>>,
    /// When a look began last, on the boot clock.
    looked: Option<Duration>,
    failed: Option<Failed>,
    failures: u32,
    /// In Unix seconds.
    last_good: Option<i64>,
    failing_since: Option<i64>,
    last_error: Option<Error>,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            flight: None,
            look: None,
            looked: None,
            failed: None,
            failures: 0,
            last_good: None,
            failing_since: None,
            last_error: None,
        }
    }
}

/// What there is to tell of a slot.
pub(crate) struct Report<T> {
    pub(crate) token: Option<Arc<T>>,
    /// In Unix seconds, as the others.
    pub(crate) next_refresh: Option<i64>,
    pub(crate) last_good: Option<i64>,
    pub(crate) failing_since: Option<i64>,
    pub(crate) last_error: Option<Error>,
}

/// What the last fetch failed with; on the boot clock.
struct Failed {
    error: Error,
    /// Until when it is the answer for callers without a token.
    counts_until: Duration,
    /// Until when the old token is not refreshed, as long as it lives.
    refresh_after: Duration,
    mark_of_proof: u64,
}

/// A fetch under way.
type Fetching<T> = Flight<Result<Arc<T>, Error>>;

/// A look under way.
type Looking<T> = Flight<Option<Arc<T>>>;

/// What a caller has to do.
enum Turn<T> {
    Have(Arc<T>),
    /// With the mark of the proof that failed.
    Fail(Error, u64),
    Late,
    Wait(Arc<Fetching<T>>),
    Fetch(Arc<Fetching<T>>),
}

impl<T: Aging + Send + Sync + 'static> Slot<T> {
    pub(crate) fn new(
        manner: Manner,
        mark_of_proof: impl Fn() -> u64 + Send + Sync + 'static,
        fetch: impl Fn(Instant, &Desk<'_, T, Failure>) + Send + Sync + 'static,
        look: Option<Box<Look<T>>>,
    ) -> Arc<Self> {
        let Manner { fetch_time, refresh_before, thread } = manner;
        Arc::new(Self {
            fetch: Box::new(fetch),
            look,
            mark_of_proof: Box::new(mark_of_proof),
            thread,
            fetch_time,
            refresh_before,
            held: ArcSwapOption::empty(),
            state: os::fork::Lock::default(),
            counters: Counters::default(),
        })
    }

    /// Calls `give` with the token if there is one that needs no look at anything else: the warm path.
    pub(crate) fn warm<R>(&self, give: impl FnOnce(&T) -> R) -> Option<R> {
        let held = self.held.load();
        let held = held.as_ref().filter(|held| held.schedule.is_fresh())?;
        self.counters.hits.add();
        Some(give(&held.token))
    }

    /// The token, fetched if need be; the caller waits for that until `deadline`. None: it was too late.
    pub(crate) fn get(self: &Arc<Self>, deadline: Instant) -> Result<Option<Arc<T>>, Error> {
        loop {
            let living = self.living();
            if let Some(held) = &living
                && held.schedule.is_fresh()
            {
                self.counters.hits.add();
                return Ok(Some(held.token.clone()));
            }
            let has_time = deadline > Instant::now();
            let (flight, is_anothers) = match self.state.with(|state| self.turn(state, has_time)) {
                Turn::Have(token) => {
                    self.counters.hits.add();
                    return Ok(Some(token));
                }
                Turn::Late => return Ok(None),
                Turn::Fail(error, mark) if mark == (self.mark_of_proof)() => {
                    return self.look(deadline).inspect(|_| self.counters.hits.add()).map(Some).ok_or(error);
                }
                Turn::Fail(_, mark) => {
                    // Not a newer failure, of the proof that is here now.
                    self.state.with(|state| state.failed.take_if(|failed| failed.mark_of_proof == mark));
                    continue;
                }
                Turn::Wait(flight) => (flight, true),
                Turn::Fetch(flight) => (flight, false),
            };
            let usable = living.filter(|held| !held.schedule.is_stale());
            let counters = &self.counters;
            match (&usable, is_anothers) {
                (Some(_), _) => counters.hits.add(),
                (None, true) => counters.waits.add(),
                (None, false) => counters.misses.add(),
            }
            if !is_anothers {
                self.set_off(&flight, deadline);
            }
            // Behind the callers' backs: they go on with the token they have.
            if let Some(held) = usable {
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

    /// What would be handed out now without a wait.
    pub(crate) fn held(&self) -> Option<Arc<T>> {
        self.living().map(|held| held.token.clone())
    }

    /// Another token in the place of one that was refused, which stays until the other is there. None: there is none to
    /// be had by the deadline, or so soon after a failure.
    pub(crate) fn replace(self: &Arc<Self>, refused: &Arc<T>, deadline: Instant) -> Option<Arc<T>> {
        if let Some(other) = self.held().filter(|held| !Arc::ptr_eq(held, refused)) {
            return Some(other);
        }
        let (flight, is_anothers) = self.state.with(|state| {
            if state.failed.as_ref().is_some_and(|failed| os::since_boot() < failed.refresh_after) {
                return None;
            }
            match &state.flight {
                Some(flight) if self.is_under_way(flight) => Some((flight.clone(), true)),
                _ => Some((state.flight.insert(Arc::new(Flight::new())).clone(), false)),
            }
        })?;
        if !is_anothers {
            self.counters.misses.add();
            self.set_off(&flight, deadline);
        }
        flight.wait(deadline)?.ok()
    }

    fn living(&self) -> Option<Arc<Held<T>>> {
        self.held.load_full().filter(|held| held.schedule.is_alive())
    }

    fn turn(&self, state: &mut State<T>, has_time: bool) -> Turn<T> {
        let now = os::since_boot();
        let living = self.living();
        if let Some(held) = &living
            && (held.schedule.is_fresh() || !has_time)
        {
            return Turn::Have(held.token.clone());
        }
        if !has_time {
            return Turn::Late;
        }
        if let Some(failed) = &state.failed {
            match living {
                Some(held) if now < failed.refresh_after => return Turn::Have(held.token.clone()),
                None if now < failed.counts_until => {
                    return Turn::Fail(failed.error.clone(), failed.mark_of_proof);
                }
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

    /// In the pause after a refusal, which is for requests: what another process got meanwhile. One look for all who ask
    /// at the same time.
    fn look(self: &Arc<Self>, deadline: Instant) -> Option<Arc<T>> {
        self.look.as_ref()?;
        let (flight, is_first) = self.state.with(|state| match &state.look {
            Some(flight) if self.is_under_way(flight) => Some((flight.clone(), false)),
            _ => {
                let now = os::since_boot();
                if state.looked.is_some_and(|looked| now < looked + BETWEEN_LOOKS) {
                    return None;
                }
                state.looked = Some(now);
                Some((state.look.insert(Arc::new(Flight::new())).clone(), true))
            }
        })?;
        if is_first {
            let until = Instant::now() + self.fetch_time;
            let (slot, flown) = (self.clone(), flight.clone());
            if os::thread::spawn("pgaad-look", Stack::Ours, move || slot.look_until(until, &flown)).is_err() {
                self.look_until(deadline, &flight);
            }
        }
        flight.wait(deadline).flatten()
    }

    fn look_until(&self, deadline: Instant, flight: &Arc<Looking<T>>) {
        let found = self.look.as_ref().and_then(|look| bug::contain(|| look(deadline)).ok().flatten());
        let found = self.state.with(|state| {
            state.look.take_if(|look| Arc::ptr_eq(look, flight))?;
            let token = Arc::new(found?);
            if self.schedule(&token).is_fresh() {
                self.keep(state, &Ok(token), 0);
            } else {
                self.keep_old(token);
            }
            self.living().map(|held| held.token.clone())
        });
        flight.land(found);
    }

    /// Whether it is this process's, and has not run on for so long that it will hardly end.
    fn is_under_way<R: Clone>(&self, flight: &Flight<R>) -> bool {
        flight.is_of_this_process() && flight.age() <= self.fetch_time + GRACE
    }

    /// Fetches, keeps the result and hands it to those who wait.
    fn fly(&self, flight: &Arc<Fetching<T>>, deadline: Instant) {
        let mark = (self.mark_of_proof)();
        // Those who come later wait for another one, once there is something to make do with.
        let current = RefCell::new(flight.clone());
        let meanwhile = |old| self.make_do_with(old, &current);
        let (has_landed, slept) = (Cell::new(false), Cell::new(false));
        let land = |result: Result<T, Failure>| {
            has_landed.set(true);
            self.land(result, mark, &current.borrow());
        };
        let done = |result: Result<T, Failure>| {
            // Where the machine slept meanwhile, it is over already, and is fetched once more.
            let is_over = result.as_ref().is_ok_and(|token| !self.schedule(token).is_alive());
            if !is_over || slept.replace(true) {
                land(result);
            }
        };
        let can_wait = || self.living().is_some_and(|held| !held.schedule.is_stale());
        let desk = Desk { can_wait: &can_wait, meanwhile: &meanwhile, done: &done };
        for _ in 0..2 {
            let ended = bug::contain(|| (self.fetch)(deadline, &desk));
            if let (Err(bug), false) = (ended, has_landed.get()) {
                land(Err(bug.into()));
            }
            if has_landed.get() {
                break;
            }
        }
        // For the call on whose thread this runs.
        if let Some(result) = current.into_inner().wait(Instant::now()) {
            flight.land(result);
        }
    }

    fn land(&self, result: Result<T, Failure>, mark: u64, flight: &Arc<Fetching<T>>) {
        let result = result.map(Arc::new);
        match &result {
            Ok(_) => self.counters.refreshes.add(),
            Err(_) => self.counters.failures.add(),
        }
        self.state.with(|state| {
            // Not one that was given up: by `clear`, or because it did not end.
            if state.flight.take_if(|current| Arc::ptr_eq(current, flight)).is_some() {
                self.keep(state, &result, mark);
            }
        });
        flight.land(result.map_err(|failure| failure.error));
    }

    fn keep(&self, state: &mut State<T>, result: &Result<Arc<T>, Failure>, mark_of_proof: u64) {
        let now = os::unix_now();
        match result {
            Ok(token) => {
                let schedule = self.schedule(token);
                self.held.store(Some(Arc::new(Held { token: token.clone(), schedule })));
                (state.failed, state.failures) = (None, 0);
                (state.last_good, state.failing_since) = (Some(now), None);
            }
            Err(failure) => {
                let pause = match (failure.error.kind(), failure.retry) {
                    (_, Retry::After(pause)) => pause,
                    (ErrorKind::Denied | ErrorKind::Throttled, _) => AFTER_REFUSAL,
                    _ => Duration::ZERO,
                };
                let grown = (AFTER_FAILED_REFRESH * 2_u32.pow(state.failures.min(8))).min(LONGEST_PAUSE);
                let boot = os::since_boot();
                state.failed = Some(Failed {
                    error: failure.error.clone(),
                    counts_until: boot + pause,
                    refresh_after: boot + pause.max(grown),
                    mark_of_proof,
                });
                state.failures += 1;
                state.failing_since.get_or_insert(now);
                state.last_error = Some(failure.error.clone());
            }
        }
    }

    fn schedule(&self, token: &T) -> Schedule {
        let schedule = Schedule::of(token, self.refresh_before);
        match self.thread {
            // Nothing happens behind the callers' backs where there are only their threads.
            Thread::Callers => schedule.without_advance(),
            Thread::Ours(_) => schedule,
        }
    }

    /// A token that another process has, for as long as there is no newer one; never in the place of one that lives
    /// longer.
    fn keep_old(&self, old: Arc<T>) {
        let ours = self.living().map(|held| held.token.asked() + held.token.life());
        if ours.is_none_or(|end| end < old.asked() + old.life()) {
            let schedule = self.schedule(&old);
            self.held.store(Some(Arc::new(Held { token: old, schedule })));
        }
    }

    /// A token that was found on the way to a newer one: those who wait go on with it at once, unless it is time to wait
    /// for the newer one, as those who come later may have to.
    fn make_do_with(&self, old: T, current: &RefCell<Arc<Fetching<T>>>) {
        let landed = self.state.with(|state| {
            let mut current = current.borrow_mut();
            let flight = state.flight.as_mut().filter(|flight| Arc::ptr_eq(flight, &current))?;
            self.keep_old(Arc::new(old));
            let held = self.living().filter(|held| !held.schedule.is_stale())?;
            *flight = Arc::new(Flight::new());
            Some((std::mem::replace(&mut *current, flight.clone()), held.token.clone()))
        });
        if let Some((flight, token)) = landed {
            flight.land(Ok(token));
        }
    }

    /// What there is to tell.
    pub(crate) fn report(&self) -> Report<T> {
        let living = self.living();
        let now = (os::since_boot(), os::unix_now());
        let on_wall_clock = |at: Duration| {
            let (ahead, behind) = (at.saturating_sub(now.0), now.0.saturating_sub(at));
            now.1.saturating_add_unsigned(ahead.as_secs()).saturating_sub_unsigned(behind.as_secs())
        };
        self.state.with(|state| Report {
            next_refresh: living.as_ref().map(|held| {
                let put_off = state.failed.as_ref().map_or(Duration::ZERO, |failed| failed.refresh_after);
                on_wall_clock(held.schedule.refresh_at.max(put_off))
            }),
            token: living.as_ref().map(|held| held.token.clone()),
            last_good: state.last_good,
            failing_since: state.failing_since,
            last_error: state.last_error.clone(),
        })
    }

    /// Forgets the token and any failure; the next caller fetches, whatever is under way.
    pub(crate) fn clear(&self) {
        self.state.with(|state| {
            self.held.store(None);
            (state.flight, state.look, state.looked) = (None, None, None);
            (state.failed, state.failures) = (None, 0);
        });
    }
}

#[cfg(test)]
mod tests;
