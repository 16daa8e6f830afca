//! Waiting: for a test, for a condition, for the end.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a test may wait for something that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Locks. A thread that panicked while it held the lock left nothing half done that matters here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value that threads can wait for.
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Condvar::new() }
    }

    pub(crate) fn get(&self) -> MutexGuard<'_, T> {
        lock(&self.value)
    }

    /// Changes the value and wakes all who wait.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.get());
        self.changed.notify_all();
        result
    }

    /// Blocks until `done` holds; false if `patience` ran out first.
    pub(crate) fn wait_until(&self, patience: Duration, mut done: impl FnMut(&T) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut value = self.get();
        while !done(&value) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            value = self.changed.wait_timeout(value, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// Tells the threads of a server that it is over.
#[derive(Clone)]
pub(crate) struct Stop(Arc<Watched<bool>>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Watched::new(false)))
    }

    pub(crate) fn set(&self) {
        self.0.change(|stopped| *stopped = true);
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.get()
    }

    /// Lets `time` pass, unless the end comes first.
    pub(crate) fn pause(&self, time: Duration) {
        self.0.wait_until(time, |stopped| *stopped);
    }
}

/// Holds requests back until the test opens it, so that a test can force a race instead of hoping for one.
#[derive(Clone)]
pub struct Gate(Arc<Watched<GateState>>);

struct GateState {
    arrivals: usize,
    open: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(Watched::new(GateState { arrivals: 0, open: false })))
    }

    /// Blocks until `n` requests in all have come to the gate.
    ///
    /// # Panics
    /// After [`PATIENCE`], saying how many came.
    pub fn wait_for_arrivals(&self, n: usize) {
        assert!(
            self.arrived_within(n, PATIENCE),
            "{} of {n} requests came to the gate within {PATIENCE:?}",
            self.arrivals()
        );
    }

    /// Blocks until `n` requests in all have come to the gate; false if they did not within `patience`.
    #[must_use]
    pub fn arrived_within(&self, n: usize, patience: Duration) -> bool {
        self.0.wait_until(patience, |gate| gate.arrivals >= n)
    }

    /// How many requests have come to the gate so far.
    pub fn arrivals(&self) -> usize {
        self.0.get().arrivals
    }

    /// Lets everything pass that waits, and all that comes later.
    pub fn open(&self) {
        self.0.change(|gate| gate.open = true);
    }

    /// Holds what comes from now on.
    pub fn close(&self) {
        self.0.change(|gate| gate.open = false);
    }

    /// Counts an arrival, and waits until the gate is open or the server is at its end.
    pub(crate) fn pass(&self, stop: &Stop) {
        self.0.change(|gate| gate.arrivals += 1);
        // The end is rare and a tenth of a second late is no harm, so it needs no notice of its own.
        while !self.0.wait_until(Duration::from_millis(100), |gate| gate.open) && !stop.is_set() {}
    }
}

/// Where logins wait, if anywhere.
#[derive(Clone, Default)]
pub(crate) struct LoginGate(Arc<Mutex<Option<Gate>>>);

impl LoginGate {
    pub(crate) fn set(&self, gate: Option<&Gate>) {
        *lock(&self.0) = gate.cloned();
    }

    pub(crate) fn pass(&self, stop: &Stop) {
        let held = lock(&self.0).clone();
        if let Some(gate) = held {
            gate.pass(stop);
        }
    }
}
