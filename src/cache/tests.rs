//! The slot beside a model of it: in a world whose clocks stand still, callers come, fetches end, time passes and
//! proofs change in an order that a seed decides, and each answer, each count and each report is the model's.
//!
//! The seeds are fixed, so that a failure can be had again; PGAAD_TEST_SEED sets another, PGAAD_TEST_TURNS how often.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, ThreadId};

use super::*;
use crate::os::fake::World;

/// Nothing takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// When the fake clocks begin.
const START: (Duration, i64) = (Duration::from_secs(1_000_000), 1_800_000_000);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A token without a secret.
#[derive(Clone, Copy, Debug)]
struct Thing {
    id: u64,
    asked: Duration,
    life: Duration,
    refresh_in: Option<Duration>,
    ends_on: i64,
}

impl Aging for Thing {
    fn asked(&self) -> Duration {
        self.asked
    }

    fn life(&self) -> Duration {
        self.life
    }

    fn refresh_in(&self) -> Option<Duration> {
        self.refresh_in
    }

    fn ends_on(&self) -> i64 {
        self.ends_on
    }
}

type Outcome = Result<Thing, Failure>;

/// What a fetch is told to do.
enum Order {
    /// It finds one that lives, though a newer one is wanted, and says when it has told that.
    Find(Thing, Sender<()>),
    End(Outcome),
}

/// What a call comes back with: a token, an error's message, or nothing in its time.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Token(u64),
    Error(String),
    Late,
}

impl From<Result<Option<Arc<Thing>>, Error>> for Answer {
    fn from(got: Result<Option<Arc<Thing>>, Error>) -> Self {
        match got {
            Ok(Some(thing)) => Self::Token(thing.id),
            Ok(None) => Self::Late,
            Err(error) => Self::Error(error.message().into()),
        }
    }
}

/// What a call is to do.
#[derive(Debug, PartialEq)]
enum Expected {
    /// Comes back at once.
    Answer(Answer),
    /// Waits for the fetch that is under way.
    Wait,
    /// Sets a fetch off, and waits for it.
    Fetch,
    /// Sets a fetch off, and comes back at once with the token that there is.
    FetchBehind(Answer),
}

/// What the slot has to remember, by the contract.
#[derive(Default)]
struct Model {
    runs_here: bool,
    refresh_before: Duration,
    boot: Duration,
    unix: i64,
    proof: u64,
    held: Option<Thing>,
    /// What another process has.
    shared: Option<Thing>,
    is_fetching: bool,
    /// When somebody looked there last.
    looked: Option<Duration>,
    failed: Option<Failed>,
    failures: u32,
    last_good: Option<i64>,
    failing_since: Option<i64>,
    last_error: Option<String>,
    /// Hits, misses, waits, refreshes, failures.
    counts: [u64; 5],
}

impl Model {
    fn ends(&self, thing: &Thing) -> (Duration, Duration, Duration) {
        let end = thing.asked + thing.life;
        let dead = end - (thing.life / 20).min(seconds(10));
        let stale = (end - self.refresh_before.min(thing.life / 2)).min(dead);
        let long = (thing.life >= seconds(7200)).then_some(thing.life / 2);
        let refresh = match thing.refresh_in.or(long) {
            // There is no thread to do it on.
            _ if self.runs_here => stale,
            Some(after) => stale.min(thing.asked + after),
            None => stale,
        };
        (refresh, stale, dead)
    }

    fn living(&self) -> Option<Thing> {
        self.held.filter(|thing| self.boot < self.ends(thing).2)
    }

    /// The one that needs no newer one.
    fn fresh(&self) -> Option<Thing> {
        self.living().filter(|thing| self.boot < self.ends(thing).0 && self.unix < thing.ends_on)
    }

    fn call(&mut self, has_time: bool) -> Expected {
        let living = self.living();
        let own = living.map(|thing| Answer::Token(thing.id));
        if self.fresh().is_some() || !has_time {
            self.counts[0] += u64::from(own.is_some());
            return Expected::Answer(own.unwrap_or(Answer::Late));
        }
        match (&self.failed, &own) {
            (Some(failed), Some(own)) if self.boot < failed.refresh_after => {
                self.counts[0] += 1;
                return Expected::Answer(own.clone());
            }
            (Some(failed), None) if self.boot < failed.counts_until => {
                if failed.mark_of_proof == self.proof {
                    let refusal = Answer::Error(failed.error.message().into());
                    return Expected::Answer(self.look().unwrap_or(refusal));
                }
                self.failed = None;
            }
            _ => {}
        }
        let is_first = !std::mem::replace(&mut self.is_fetching, true);
        if let Some(own) = own.filter(|_| !living.is_some_and(|thing| self.is_stale(&thing))) {
            self.counts[0] += 1;
            return if is_first { Expected::FetchBehind(own) } else { Expected::Answer(own) };
        }
        self.counts[if is_first { 1 } else { 2 }] += 1;
        if is_first { Expected::Fetch } else { Expected::Wait }
    }

    /// In the pause after a refusal: what another process has.
    fn look(&mut self) -> Option<Answer> {
        if self.looked.is_some_and(|looked| self.boot < looked + seconds(1)) {
            return None;
        }
        self.looked = Some(self.boot);
        let shared = self.shared?;
        if self.boot < self.ends(&shared).0 && self.unix < shared.ends_on {
            self.keep(shared);
        } else {
            self.keep_old(shared);
        }
        let living = self.living()?;
        self.counts[0] += 1;
        Some(Answer::Token(living.id))
    }

    fn keep(&mut self, thing: Thing) {
        (self.held, self.failed, self.failures) = (Some(thing), None, 0);
        (self.last_good, self.failing_since) = (Some(self.unix), None);
    }

    /// The fetch under way has ended.
    fn land(&mut self, outcome: &Outcome, proof_then: u64) {
        self.is_fetching = false;
        let failure = match outcome {
            Ok(thing) => return self.keep(*thing),
            Err(failure) => failure,
        };
        let error = &failure.error;
        let pause = match (failure.retry, error.kind()) {
            (Retry::After(pause), _) => pause,
            (_, ErrorKind::Denied | ErrorKind::Throttled) => seconds(5),
            _ => Duration::ZERO,
        };
        let grown = [5, 10, 20, 40, 60][self.failures.min(4) as usize];
        self.failed = Some(Failed {
            error: error.clone(),
            counts_until: self.boot + pause,
            refresh_after: self.boot + pause.max(seconds(grown)),
            mark_of_proof: proof_then,
        });
        self.failures += 1;
        self.failing_since = self.failing_since.or(Some(self.unix));
        self.last_error = Some(error.message().into());
    }

    fn keep_old(&mut self, old: Thing) {
        if self.living().is_none_or(|own| own.asked + own.life < old.asked + old.life) {
            self.held = Some(old);
        }
    }

    fn is_stale(&self, thing: &Thing) -> bool {
        self.boot >= self.ends(thing).1 || self.unix >= thing.ends_on
    }

    fn clear(&mut self) {
        (self.held, self.failed, self.failures, self.is_fetching, self.looked) = (None, None, 0, false, None);
    }

    /// When the next fetch is due by the wall clock.
    fn next_refresh(&self) -> Option<i64> {
        let due = self.ends(&self.living()?).0;
        let due = self.failed.as_ref().map_or(due, |failed| due.max(failed.refresh_after));
        Some(match due.checked_sub(self.boot) {
            Some(ahead) => self.unix + ahead.as_secs() as i64,
            None => self.unix - (self.boot - due).as_secs() as i64,
        })
    }
}

/// A call that waits, and what it will come back with.
struct Caller {
    thread: ThreadId,
    said: Receiver<Answer>,
}

impl Caller {
    fn wait(self) -> Answer {
        self.said.recv_timeout(PATIENCE).expect("a call that comes back")
    }
}

/// A fetch under way, and the calls that wait for it, first the one that it runs in, if it runs in one.
struct Aloft {
    /// When it has ended, nobody but us knows of it.
    flight: Arc<Fetching<Thing>>,
    orders: Sender<Order>,
    callers: VecDeque<Caller>,
    proof_then: u64,
    /// Not given up by `clear`, or left behind by a fork.
    counts: bool,
}

struct Game {
    random: u64,
    world: Arc<World>,
    slot: Arc<Slot<Thing>>,
    /// What tells a fetch that has begun what to do, and where it runs.
    begun: Receiver<(Sender<Order>, ThreadId)>,
    proof: Arc<AtomicU64>,
    shared: Arc<Mutex<Option<Thing>>>,
    model: Model,
    aloft: Vec<Aloft>,
    last_id: u64,
    /// By token, from when on it is never handed out.
    deaths: BTreeMap<u64, Duration>,
    wall_is_off: i64,
    /// What happened how often: a game in which something never happens shows nothing.
    tally: BTreeMap<&'static str, usize>,
}

impl Game {
    fn new(seed: u64, runs_here: bool, refresh_before: Duration) -> Self {
        let world = Arc::new(World::default());
        world.enter();
        world.set(START.0, START.1);
        let thread = if runs_here { Thread::Callers } else { Thread::Ours(Stack::Ours) };
        let manner = Manner { fetch_time: 10 * PATIENCE, refresh_before, thread };
        let (proof, shared) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
        let (begin, begun) = channel();
        let mark = {
            let (world, proof) = (world.clone(), proof.clone());
            move || {
                world.enter();
                proof.load(SeqCst)
            }
        };
        let fetch = move |_, desk: &Desk<'_, Thing, Failure>| {
            let (give, orders) = channel();
            begin.send((give, thread::current().id())).expect("somebody plays");
            loop {
                match orders.recv_timeout(PATIENCE).expect("an end") {
                    Order::Find(thing, done) => {
                        (desk.meanwhile)(thing);
                        let _ = done.send(());
                    }
                    Order::End(outcome) => return (desk.done)(outcome),
                }
            }
        };
        let look = {
            let (world, shared) = (world.clone(), shared.clone());
            move |_| {
                world.enter();
                *shared.lock().expect("no panic")
            }
        };
        let slot = Slot::new(manner, mark, fetch, Some(Box::new(look)));
        let model = Model { runs_here, refresh_before, boot: START.0, unix: START.1, ..Model::default() };
        let random = seed.wrapping_mul(2).wrapping_add(1);
        let (aloft, deaths, tally) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            random,
            world,
            slot,
            begun,
            proof,
            shared,
            model,
            aloft,
            last_id: 0,
            deaths,
            wall_is_off: 0,
            tally,
        }
    }

    /// From 0 up to this, by xorshift (Marsaglia 2003).
    fn up_to(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.up_to(all.len() as u64) as usize]
    }

    fn note(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn turn(&mut self) {
        match self.up_to(100) {
            0..40 if self.waiting() < 12 => self.call(),
            0..40 => self.land(),
            40..45 => self.call_without_time(),
            45..47 => self.call_without_patience(),
            47..63 => self.land(),
            63..67 => self.find(),
            67..92 => self.pass_time(),
            92..94 => self.set_wall_clock(),
            94..96 => {
                self.model.proof += 1;
                self.proof.store(self.model.proof, SeqCst);
            }
            96..98 => self.fork(),
            98 => self.share(),
            _ => {
                self.slot.clear();
                self.model.clear();
                self.give_up_flights();
            }
        }
        self.compare();
    }

    /// How many calls wait.
    fn waiting(&self) -> usize {
        self.aloft.iter().map(|aloft| aloft.callers.len()).sum()
    }

    fn call(&mut self) {
        let far = Instant::now() + 10 * PATIENCE;
        let (had_failed, had_one) = (self.model.failed.is_some(), self.model.living().is_some());
        match self.model.call(true) {
            Expected::Answer(expected) => {
                self.note(match &expected {
                    Answer::Token(_) if !had_one => "another's in the pause",
                    Answer::Token(_) if self.model.fresh().is_some() => "fresh",
                    Answer::Token(_) if self.model.is_fetching => "meanwhile",
                    Answer::Token(_) => "old, in the pause",
                    _ => "refusal again",
                });
                let got = self.slot.get(far);
                self.check(got.into(), &expected);
            }
            Expected::FetchBehind(expected) => {
                self.note("refresh behind");
                let got = self.slot.get(far);
                self.check(got.into(), &expected);
                self.take_off(VecDeque::new());
            }
            Expected::Wait => {
                self.note("wait");
                let caller = self.caller(far);
                let current = self.aloft.iter_mut().find(|aloft| aloft.counts).expect("the model has one");
                current.callers.push_back(caller);
            }
            Expected::Fetch => {
                self.note(match () {
                    () if had_failed && self.model.failed.is_none() => "fetch with a new proof",
                    () if self.model.living().is_some() => "fetch while the old one lives",
                    () => "fetch",
                });
                let caller = self.caller(far);
                self.take_off([caller].into());
            }
        }
    }

    /// A call on a thread of its own.
    fn caller(&self, deadline: Instant) -> Caller {
        let (say, said) = channel();
        let (world, slot) = (self.world.clone(), self.slot.clone());
        let body = move || {
            world.enter();
            let _ = say.send(slot.get(deadline).into());
        };
        Caller { thread: thread::spawn(body).thread().id(), said }
    }

    /// A fetch begins for these.
    fn take_off(&mut self, mut callers: VecDeque<Caller>) {
        let (orders, thread) = self.begun.recv_timeout(PATIENCE).expect("a fetch that begins");
        if let Some(at) = callers.iter().position(|caller| caller.thread == thread) {
            callers.swap(0, at);
        }
        let flight = self.slot.state.with(|state| state.flight.clone()).expect("a flight");
        let proof_then = self.model.proof;
        self.aloft.push(Aloft { flight, orders, callers, proof_then, counts: true });
    }

    fn check(&self, got: Answer, expected: &Answer) {
        assert_eq!(got, *expected);
        if let Answer::Token(id) = got {
            assert!(self.model.boot < self.deaths[&id], "a dead token was handed out");
        }
    }

    fn call_without_time(&mut self) {
        let Expected::Answer(expected) = self.model.call(false) else { unreachable!("it has no time") };
        self.note("no time");
        let got = self.slot.get(Instant::now());
        self.check(got.into(), &expected);
    }

    /// A call whose time is over before a fetch that runs.
    fn call_without_patience(&mut self) {
        let counts = self.model.counts;
        if !self.model.is_fetching || self.model.call(true) != Expected::Wait {
            self.model.counts = counts;
            return;
        }
        self.note("gave up");
        let living = self.model.living().map(|thing| Answer::Token(thing.id));
        let got = self.slot.get(Instant::now() + Duration::from_millis(3));
        self.check(got.into(), &living.unwrap_or(Answer::Late));
        // On a busy machine it may have had no time at all, which counts as something else.
        self.model.counts = self.counts();
    }

    fn mint(&mut self, age: Duration) -> Thing {
        self.last_id += 1;
        let life = seconds(self.one_of(&[20, 600, 3600, 7200, 90_000]));
        let advised = self.up_to(3) == 0;
        let refresh_in = advised.then(|| life * (self.up_to(100) as u32) / 100);
        let asked = self.model.boot - age;
        let ends_on = self.model.unix + life.as_secs() as i64 - age.as_secs() as i64;
        let thing = Thing { id: self.last_id, asked, life, refresh_in, ends_on };
        self.deaths.insert(thing.id, asked + life);
        thing
    }

    fn outcome(&mut self) -> Outcome {
        if self.up_to(2) == 0 {
            return Ok(self.mint(Duration::ZERO));
        }
        self.last_id += 1;
        let (kind, retry) = self.one_of(&[
            (ErrorKind::Network, Retry::Soon),
            (ErrorKind::Timeout, Retry::Soon),
            (ErrorKind::Denied, Retry::Never),
            (ErrorKind::Denied, Retry::Never),
            (ErrorKind::Throttled, Retry::Never),
            (ErrorKind::Throttled, Retry::After(seconds(30))),
        ]);
        let mut failure = Failure::from(Error::new(kind, format!("failure {}", self.last_id)));
        failure.retry = retry;
        Err(failure)
    }

    /// One of the fetches under way ends.
    fn land(&mut self) {
        if self.aloft.is_empty() {
            return;
        }
        let at = self.up_to(self.aloft.len() as u64) as usize;
        let mut aloft = self.aloft.remove(at);
        let mut outcome = self.outcome();
        if outcome.is_ok() && self.up_to(10) == 0 {
            // The machine slept meanwhile, so the token is no use, and the same fetch asks again.
            self.note("slept");
            self.model.boot += seconds(100_000);
            self.set_clocks();
            aloft.orders.send(Order::End(outcome)).expect("a fetch that waits for its end");
            (aloft.orders, _) = self.begun.recv_timeout(PATIENCE).expect("a fetch that asks again");
            outcome = self.outcome();
        }
        self.model.counts[if outcome.is_ok() { 3 } else { 4 }] += 1;
        self.note(match (aloft.counts, &outcome) {
            (true, Ok(_)) => "token",
            (true, Err(_)) => "failure",
            (false, _) => "came too late",
        });
        if aloft.counts {
            self.model.land(&outcome, aloft.proof_then);
        }
        let answer = match &outcome {
            Ok(thing) => Answer::Token(thing.id),
            Err(failure) => match self.model.living() {
                Some(old) => Answer::Token(old.id),
                None => Answer::Error(failure.error.message().into()),
            },
        };
        // What ran on a caller's thread had that caller's time, so the others go on by themselves.
        let was_anothers_time = self.model.runs_here
            && matches!(&outcome, Err(failure) if failure.error.kind() == ErrorKind::Timeout);
        aloft.orders.send(Order::End(outcome)).expect("a fetch that waits for its end");
        let those = if was_anothers_time { 1.min(aloft.callers.len()) } else { aloft.callers.len() };
        for caller in aloft.callers.drain(..those) {
            self.check(caller.wait(), &answer);
        }
        self.call_again(aloft.callers);
        wait_until(|| Arc::strong_count(&aloft.flight) == 1);
    }

    /// One of the fetches under way finds a token on its way.
    fn find(&mut self) {
        if self.aloft.is_empty() {
            return;
        }
        let at = self.up_to(self.aloft.len() as u64) as usize;
        let age = seconds(self.up_to(4000));
        let old = self.mint(age);
        let aloft = &mut self.aloft[at];
        let (say, done) = channel();
        aloft.orders.send(Order::Find(old, say)).expect("a fetch that waits for its end");
        done.recv_timeout(PATIENCE).expect("a fetch that goes on");
        if !aloft.counts {
            // It found what was dropped meanwhile. Whoever waits for it waits on.
            return self.note("found too late");
        }
        self.model.keep_old(old);
        let Some(usable) = self.model.living().filter(|thing| !self.model.is_stale(thing)) else {
            return self.note("found a stale one");
        };
        self.note("found one");
        // But for the one on whose thread it runs.
        let stays = usize::from(self.model.runs_here).min(self.aloft[at].callers.len());
        self.aloft[at].flight = self.slot.state.with(|state| state.flight.clone()).expect("a flight");
        for caller in self.aloft[at].callers.split_off(stays) {
            self.check(caller.wait(), &Answer::Token(usable.id));
        }
    }

    /// These calls ask once more, all at the same time.
    fn call_again(&mut self, callers: VecDeque<Caller>) {
        let mut waiting = VecDeque::new();
        let mut is_first = false;
        for caller in callers {
            self.note("again");
            match self.model.call(true) {
                Expected::Answer(expected) => self.check(caller.wait(), &expected),
                Expected::FetchBehind(_) => unreachable!("it runs on the callers' threads"),
                expected => {
                    is_first |= expected == Expected::Fetch;
                    waiting.push_back(caller);
                }
            }
        }
        match self.aloft.iter_mut().find(|aloft| aloft.counts) {
            Some(current) => current.callers.append(&mut waiting),
            None if is_first => self.take_off(waiting),
            None => {}
        }
    }

    fn pass_time(&mut self) {
        let boot = self.model.boot;
        // To where something changes, or just before it.
        let failed = self.model.failed.as_ref().map(|failed| [failed.counts_until, failed.refresh_after]);
        let ends = self.model.held.map(|held| self.model.ends(&held)).map(|ends| [ends.0, ends.1, ends.2]);
        let corners = failed.into_iter().flatten().chain(ends.into_iter().flatten());
        let corners: Vec<_> = corners.filter(|at| *at > boot + Duration::from_nanos(1)).collect();
        let by = match self.up_to(10) {
            0..4 if !corners.is_empty() => {
                self.note("at a corner");
                self.one_of(&corners) - boot - Duration::from_nanos(self.up_to(2))
            }
            0..8 => Duration::from_millis(self.up_to(10_000)),
            8 => seconds(self.up_to(1000)),
            _ => seconds(self.up_to(10_000)),
        };
        self.model.boot += by;
        self.set_clocks();
    }

    /// Another process has one now, which may not live any more, or none.
    fn share(&mut self) {
        let age = seconds(self.up_to(2000));
        self.model.shared = (self.up_to(3) > 0).then(|| self.mint(age));
        *self.shared.lock().expect("no panic") = self.model.shared;
    }

    fn set_wall_clock(&mut self) {
        let to_its_end = self.up_to(2) == 0;
        match self.model.held {
            // To the second in which the token ends, or the one before.
            Some(held) if to_its_end => {
                self.wall_is_off += held.ends_on - self.model.unix - self.up_to(2) as i64;
            }
            _ => self.wall_is_off = self.one_of(&[0, 0, 7200, -7200, 1_000_000]),
        }
        self.set_clocks();
    }

    fn set_clocks(&mut self) {
        let since = (self.model.boot - START.0).as_secs() as i64;
        self.model.unix = START.1 + since + self.wall_is_off;
        self.world.set(self.model.boot, self.model.unix);
        let ended = |thing: Thing| self.model.unix >= thing.ends_on;
        if self.model.living().is_some_and(ended) {
            self.note("ended by the wall clock");
        }
    }

    fn give_up_flights(&mut self) {
        self.aloft.iter_mut().for_each(|aloft| aloft.counts = false);
    }

    /// A child whose parent was fetching. The parent's callers, whom it has not, are only seen off.
    fn fork(&mut self) {
        if !self.model.is_fetching {
            return;
        }
        // What the parent gets would come to this memory, which a real child does not share: so only a child that begins
        // a fetch of its own at once.
        if self.model.fresh().is_some() || self.model.failed.is_some() {
            return;
        }
        self.note("fork");
        self.world.fork();
        self.model.is_fetching = false;
        self.give_up_flights();
        self.call();
        assert!(self.model.is_fetching, "the child waits for nobody's fetch");
    }

    fn counts(&self) -> [u64; 5] {
        let counters = &self.slot.counters;
        [&counters.hits, &counters.misses, &counters.waits, &counters.refreshes, &counters.failures]
            .map(|counter| counter.sum())
    }

    /// The slot is what the model is.
    fn compare(&mut self) {
        // A call counts itself when it begins to wait, which is when its thread gets there.
        wait_until(|| self.counts() == self.model.counts);
        assert!(self.begun.try_recv().is_err(), "a fetch that nobody needs, or a second one");
        assert!(self.aloft.iter().filter(|aloft| aloft.counts).count() <= 1);
        let report = self.slot.report();
        let model = &self.model;
        assert_eq!(report.token.map(|thing| thing.id), model.living().map(|thing| thing.id));
        assert_eq!(report.next_refresh, model.next_refresh());
        assert_eq!((report.last_good, report.failing_since), (model.last_good, model.failing_since));
        assert_eq!(report.last_error.as_ref().map(Error::message), model.last_error.as_deref());
        let warm = self.slot.warm(|thing| thing.id);
        assert_eq!(warm, self.model.fresh().map(|thing| thing.id));
        self.model.counts[0] += u64::from(warm.is_some());
    }

    /// Nobody is left waiting.
    fn end(&mut self) {
        while !self.aloft.is_empty() {
            self.land();
            self.compare();
        }
    }
}

fn wait_until(done: impl Fn() -> bool) {
    let late = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < late, "it is not as the model has it");
        thread::yield_now();
    }
}

/// Says where it failed, if it does.
struct Turns(u64, bool, Duration, u64);

impl Drop for Turns {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("seed {}, runs here: {}, refresh before {:?}, turn {}", self.0, self.1, self.2, self.3);
        }
    }
}

#[test]
fn it_does_what_its_model_does_in_any_order() {
    let from_outside = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seed = from_outside("PGAAD_TEST_SEED").unwrap_or(20_260_501);
    let turns = from_outside("PGAAD_TEST_TURNS").unwrap_or(60_000_u64).div_ceil(6);
    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, minutes) in [0, 5, 60].into_iter().enumerate() {
        for runs_here in [false, true] {
            let (seed, refresh_before) = (seed + at as u64, seconds(60 * minutes));
            let mut game = Game::new(seed, runs_here, refresh_before);
            let mut where_ = Turns(seed, runs_here, refresh_before, 0);
            for turn in 0..turns {
                where_.3 = turn;
                game.turn();
            }
            game.end();
            for (what, times) in game.tally {
                *tally.entry(what).or_default() += times;
            }
        }
    }
    let expected = [
        "again",
        "another's in the pause",
        "at a corner",
        "came too late",
        "ended by the wall clock",
        "failure",
        "fetch",
        "fetch while the old one lives",
        "fetch with a new proof",
        "fork",
        "found a stale one",
        "found one",
        "found too late",
        "fresh",
        "gave up",
        "meanwhile",
        "no time",
        "old, in the pause",
        "refresh behind",
        "refusal again",
        "slept",
        "token",
        "wait",
    ];
    assert_eq!(tally.keys().copied().collect::<Vec<_>>(), expected);
    assert!(tally.values().all(|times| *times >= 20), "{tally:?}");
}
