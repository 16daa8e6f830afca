//! Something under way, and its result for all who wait.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::os::fork;

/// Where one who fetches hands over what there is.
pub(crate) struct Desk<'a, T, E> {
    /// Whether those who ask have something that will do for now.
    pub(crate) can_wait: &'a dyn Fn() -> bool,
    /// Takes something old that will do, though a newer one is wanted.
    pub(crate) meanwhile: &'a dyn Fn(T),
    /// Takes the result. Those who wait have it at once, unless it is their own thread that fetches.
    pub(crate) done: &'a dyn Fn(Result<T, E>),
}

/// A child never waits for a flight of its parent's: the thread that it needs is not there.
pub(crate) struct Flight<T> {
    generation: u64,
    begun: Instant,
    result: Mutex<Option<T>>,
    landed: Condvar,
}

impl<T: Clone> Flight<T> {
    pub(crate) fn new() -> Self {
        Self {
            generation: fork::generation(),
            begun: Instant::now(),
            result: Mutex::new(None),
            landed: Condvar::new(),
        }
    }

    pub(crate) fn is_of_this_process(&self) -> bool {
        self.generation == fork::generation()
    }

    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn land(&self, result: T) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.landed.notify_all();
    }

    /// None: it had not landed by the deadline.
    pub(crate) fn wait(&self, deadline: Instant) -> Option<T> {
        let left = deadline.saturating_duration_since(Instant::now());
        let result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        let (result, _) = self
            .landed
            .wait_timeout_while(result, left, |result| result.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        result.clone()
    }
}
