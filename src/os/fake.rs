//! For tests: clocks that stand still until somebody moves them, and forks that are only counted. A thread is in the real
//! world until it enters another.

use std::cell::RefCell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct World {
    boot: Mutex<Duration>,
    unix: AtomicI64,
    forks: AtomicU64,
}

thread_local! {
    static HERE: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// What there is to tell of this thread's world; None: it is the real one.
pub(crate) fn here<T>(ask: impl FnOnce(&World) -> T) -> Option<T> {
    HERE.with_borrow(|here| here.as_deref().map(ask))
}

impl World {
    pub(crate) fn enter(self: &Arc<Self>) {
        HERE.set(Some(self.clone()));
    }

    pub(crate) fn since_boot(&self) -> Duration {
        *self.boot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn unix_now(&self) -> i64 {
        self.unix.load(SeqCst)
    }

    pub(crate) fn forks(&self) -> u64 {
        self.forks.load(SeqCst)
    }

    pub(crate) fn set(&self, since_boot: Duration, unix: i64) {
        *self.boot.lock().unwrap_or_else(PoisonError::into_inner) = since_boot;
        self.unix.store(unix, SeqCst);
    }

    /// From now on this process is the child.
    pub(crate) fn fork(&self) {
        self.forks.fetch_add(1, SeqCst);
    }
}
