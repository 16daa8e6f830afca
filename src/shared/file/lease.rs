//! The right to fetch: a file that is locked.

use std::fs::File;
use std::io::{self, ErrorKind::NotFound};
use std::os::unix::fs::MetadataExt;

use crate::os::directory::{self, Directory};
use crate::os::fork::{self, Lock};

/// A lock: the directory's device and number, and the file's name.
type LockId = (u64, u64, String);

/// What threads of this process have locked, or look at. Locks of POSIX's belong to the process as a whole, and end
/// when any descriptor of the file is closed: so only one thread at a time may open it.
static TAKEN: Lock<Taken> = Lock::new(Taken { generation: 0, locks: Vec::new() });

struct Taken {
    generation: u64,
    locks: Vec<LockId>,
}

/// A thread's turn at a lock, and the lock once the file is locked.
pub(super) struct FileLease {
    id: LockId,
    generation: u64,
    file: Option<File>,
}

impl FileLease {
    /// None: somebody has it, or a thread of this process looks at it.
    pub(super) fn try_take(directory: &Directory, name: &str) -> io::Result<Option<Self>> {
        let Some(mut lease) = Self::reserve(directory, name)? else { return Ok(None) };
        let file = lease.file.insert(directory.open_lock(name)?);
        Ok(directory::lock(file)?.then_some(lease))
    }

    /// None: it is another thread's turn.
    fn reserve(directory: &Directory, name: &str) -> io::Result<Option<Self>> {
        let found = directory.metadata()?;
        let id = (found.dev(), found.ino(), name.to_string());
        let generation = fork::generation();
        let is_free = TAKEN.with(|taken| {
            // A child has no part in its parent's.
            if taken.generation != generation {
                *taken = Taken { generation, locks: Vec::new() };
            }
            let is_free = !taken.locks.contains(&id);
            if is_free {
                taken.locks.push(id.clone());
            }
            is_free
        });
        // Made only where it is free, for dropping it ends the turn.
        Ok(is_free.then(|| Self { id, generation, file: None }))
    }
}

impl Drop for FileLease {
    fn drop(&mut self) {
        let file = self.file.take();
        if self.generation != fork::generation() {
            // In a child, that descriptor may have been closed with all others, and its number be another file's.
            return std::mem::forget(file);
        }
        // Closed first, then the next thread's turn.
        drop(file);
        TAKEN.with(|taken| taken.locks.retain(|id| *id != self.id));
    }
}

/// Whether somebody has it, or a thread of this process looks at it.
pub(super) fn is_taken(directory: &Directory, name: &str) -> io::Result<bool> {
    let Some(mut turn) = FileLease::reserve(directory, name)? else { return Ok(true) };
    match directory.open_file(name) {
        Ok(file) => directory::is_locked(turn.file.insert(file)),
        Err(error) if error.kind() == NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
