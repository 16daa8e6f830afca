//! What makes every function usable in a child after fork(2).
//!
//! A child has the parent's memory but only the thread that forked, so a lock that another thread held stays
//! held in the child for ever. Therefore our locks are only held for a few instructions, never across I/O, and
//! a fork waits for those to end ([`Lock`]). A fetch that was under way belongs to a thread that the child does
//! not have; the child sees that by its [`generation`].

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a fork waits for threads of ours, and such a thread for a fork that does not end.
const PATIENCE: Duration = Duration::from_secs(1);

static LOCKS: Gate = Gate::new();
static RESOLVER: Gate = Gate::new();
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// How many forks lie between this process and the one that loaded the library.
pub(crate) fn generation() -> u64 {
    #[cfg(test)]
    if let Some(forks) = super::fake::here(super::fake::World::forks) {
        return forks;
    }
    GENERATION.load(SeqCst)
}

/// A section of code that a fork waits for.
struct Gate {
    inside: AtomicUsize,
    /// Forks of several threads go one after the other.
    forking: AtomicBool,
    forks: AtomicUsize,
}

struct Inside(&'static Gate);

impl Gate {
    const fn new() -> Self {
        Self { inside: AtomicUsize::new(0), forking: AtomicBool::new(false), forks: AtomicUsize::new(0) }
    }

    fn enter(&'static self) -> Inside {
        loop {
            self.inside.fetch_add(1, SeqCst);
            if !self.forking.load(SeqCst) {
                return Inside(self);
            }
            self.leave();
            let forks = self.forks.load(SeqCst);
            let ended = wait_until(|| !self.forking.load(SeqCst) || self.forks.load(SeqCst) != forks);
            // A fork handler of another library may itself wait for this thread, so not for ever.
            if !ended {
                self.inside.fetch_add(1, SeqCst);
                return Inside(self);
            }
        }
    }

    /// Saturating: in a child that gave up waiting, the count starts anew while a guard may be left over.
    fn leave(&self) {
        let _ = self.inside.fetch_update(SeqCst, SeqCst, |count| count.checked_sub(1));
    }

    fn close(&self) {
        wait_until(|| !self.forking.swap(true, SeqCst));
        wait_until(|| self.inside.load(SeqCst) == 0);
    }

    fn open(&self) {
        self.forks.fetch_add(1, SeqCst);
        self.forking.store(false, SeqCst);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.leave();
    }
}

fn wait_until(done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    true
}

/// Marks a look-up in the C library's resolver, whose own locks a child could find held.
pub(crate) fn in_resolver<T>(look_up: impl FnOnce() -> T) -> T {
    let _inside = RESOLVER.enter();
    look_up()
}

/// A mutex that no child finds held. Sections must be short, must not do I/O and must not nest.
pub(crate) struct Lock<T>(Mutex<T>);

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Runs `section` with the value. A panic in an earlier section left the value whole, so poison is ignored.
    pub(crate) fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        let _inside = LOCKS.enter();
        section(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

extern "C" fn before_fork() {
    RESOLVER.close();
    LOCKS.close();
}

extern "C" fn after_fork_in_parent() {
    LOCKS.open();
    RESOLVER.open();
}

extern "C" fn after_fork_in_child() {
    GENERATION.fetch_add(1, SeqCst);
    for gate in [&LOCKS, &RESOLVER] {
        gate.inside.store(0, SeqCst);
        gate.open();
    }
}

/// When the library is loaded: the handlers must be there before the first fork.
#[ctor::ctor(unsafe)]
fn watch() {
    // SAFETY: the handlers are functions of this library, which is linked never to be unloaded.
    unsafe {
        libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child));
    }
}

/// For tests: splits the process in two. True in the child, which has this thread alone.
#[cfg(test)]
pub(crate) fn fork() -> bool {
    // SAFETY: the handlers above run, as for any program that forks.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no process to be had");
    child == 0
}
