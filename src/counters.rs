//! What happened how often. Counting on the warm path must cost next to nothing, so each thread mostly has a place of its
//! own to count in.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A few more than threads that mostly run at the same time.
const PLACES: usize = 16;

/// On a cache line of its own: threads that write to one slow each other down.
#[derive(Default)]
#[repr(align(128))]
struct Place(AtomicU64);

#[derive(Default)]
pub(crate) struct Counter([Place; PLACES]);

thread_local! {
    /// Its address tells threads apart.
    static MARK: u8 = const { 0 };
}

impl Counter {
    pub(crate) fn add(&self) {
        let place = MARK.with(|mark| std::ptr::from_ref(mark).addr()) / 4096 % PLACES;
        self.0[place].0.fetch_add(1, Relaxed);
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|place| place.0.load(Relaxed)).sum()
    }
}

/// Of one slot.
#[derive(Default)]
pub(crate) struct Counters {
    /// Calls that had a token at once.
    pub(crate) hits: Counter,
    /// Calls that set off a fetch and waited for it.
    pub(crate) misses: Counter,
    /// Calls that waited for a fetch of another call's.
    pub(crate) waits: Counter,
    /// Fetches that brought a token.
    pub(crate) refreshes: Counter,
    /// Fetches that brought none.
    pub(crate) failures: Counter,
}
