//! Caches that processes and machines share: sealed entries by name, and one right to fetch for all.
//!
//! A store keeps bytes and gives no opinion on them: what it returns may be damaged, old or somebody else's.
//! [`seal::Key::open`] and [`entry::Entry::from_bytes`] tell.

pub(crate) mod entry; // what an entry says
pub(crate) mod file; //  a directory
pub(crate) mod redis; // a server
pub(crate) mod seal; //  what only the key's owner can read or make

use std::fmt;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::error::ErrorKind;

/// The longest entry, in bytes; a token has a few thousand.
pub(crate) const LONGEST_ENTRY: usize = 64 * 1024;

/// Longer than any token lives: Entra's end within 28 hours.
pub(crate) const LONGEST_LIFE: Duration = Duration::from_secs(48 * 60 * 60);

/// By how much the clocks of machines may differ.
pub(crate) const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// A place for entries. A name is lower-case hex, fit for a file and for a Redis key.
///
/// Nothing here is needed to get a token: after any [`Trouble`] the caller can go on without.
pub(crate) trait Store: Send + Sync {
    /// For what one caller needs at one time, and has to have done by the deadline.
    fn session(&self, deadline: Instant) -> Box<dyn Session + '_>;

    /// A key of the store's own, for entries that nothing else seals; only a store that others can't read has one.
    fn own_key(&self, _deadline: Instant) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        Err(Trouble::of_settings("this cache needs a key: set cache_key (PGAAD_CACHE_KEY)"))
    }
}

/// One caller's use of a store. Dropping it gives back the right to fetch, and whatever else it holds.
pub(crate) trait Session {
    /// The entry of that name, if there is one.
    fn get(&mut self, name: &str) -> Result<Option<Vec<u8>>, Trouble>;

    /// Puts it there, in place of what is there. The store may forget it after `life`.
    fn put(&mut self, name: &str, entry: &[u8], life: Duration) -> Result<(), Trouble>;

    fn remove(&mut self, name: &str) -> Result<(), Trouble>;

    /// The right to fetch for that name: one holder among all who share the store, for as long as the session and the
    /// process live. False: somebody else has it. Doesn't wait for that.
    fn try_lease(&mut self, name: &str) -> Result<bool, Trouble>;

    /// Gives it back.
    fn release(&mut self);

    /// Waits until nobody holds that right any more, or the entry is not the one that was `seen`, or until then. Who
    /// comes back looks for the entry, and then tries for the lease: the holder may have died.
    fn wait(&mut self, name: &str, seen: Option<&[u8]>, until: Instant) -> Result<(), Trouble>;

    /// What is still to be done keeps nobody waiting, and may take until then. It is done also where the store was to be
    /// left alone.
    fn extend(&mut self, deadline: Instant);
}

/// Why a store is of no use, now or at all: one line, without secrets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trouble {
    text: String,
    kind: ErrorKind,
}

impl Trouble {
    /// It stays until somebody sets something right.
    pub(crate) fn of_settings(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: ErrorKind::Config }
    }

    /// It may be over the next time: a full disk, a server that is down.
    pub(crate) fn of_moment(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: ErrorKind::Network }
    }

    /// There is no store for this process, and nobody said that there is to be one at that place.
    pub(crate) fn not_here(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: ErrorKind::Unavailable }
    }

    /// The kind of the error that it is to a call which can't go on without.
    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    #[cfg(test)]
    pub(crate) fn is_of_settings(&self) -> bool {
        self.kind == ErrorKind::Config
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
