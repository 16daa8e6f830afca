//! The file cache: a directory that is its user's alone, for all processes of that user.
//!
//! `<name>.token` is an entry, `<name>.lock` what the holder of the right to fetch keeps locked, `own.key` the key of
//! entries for which none was given, and `*.new` what is being written. A file is always whole: it gets its name when
//! it is complete. Each use opens the directory and checks it, so nothing stays open that a program which closes all
//! descriptors would pull away; the lock alone is held open, and for that a fetch is lost at worst.
//!
//! Times are bounded by what the disk takes; a file system that hangs (NFS without its server) hangs the caller.

mod lease;

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind::*};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use zeroize::Zeroizing;

use lease::FileLease;

use super::seal;
use super::{Lease, Store, Trouble};
use crate::environment::Environment;
use crate::os;
use crate::os::directory::{self, Directory};
use crate::random;

/// The longest entry, in bytes; a token has a few thousand.
const LONGEST: u64 = 64 * 1024;

const OWN_KEY: &str = "own.key";
const OWN_KEY_LENGTH: usize = 32;

/// How long another process may take to make the key.
const KEY_PATIENCE: Duration = Duration::from_secs(5);

/// A file that is still being written after that is left over from a process that was killed.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// Between looks at somebody else's lock; each pause is twice the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

#[derive(Debug)]
pub(crate) struct FileStore {
    dir: PathBuf,
}

/// Where entries are kept unless the settings say (XDG Base Directory Specification).
pub(crate) fn default_directory(environment: Environment<'_>) -> Result<PathBuf, Trouble> {
    // The specification ignores relative paths.
    let variable = |name| environment.var(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let below_home = || variable("HOME").or_else(os::home_directory).map(|home| home.join(".cache"));
    variable("XDG_CACHE_HOME").or_else(below_home).map(|caches| caches.join("pgaad")).ok_or_else(|| {
        Trouble::of_settings(
            "The file cache has no directory: neither XDG_CACHE_HOME nor HOME is set, and the user database \
             names no home. Name a directory: PGAAD_CACHE=file:/path.",
        )
    })
}

impl FileStore {
    /// The store in that directory, which is made if it is not there.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, Trouble> {
        // Without a slash at its end, behind which a symbolic link would be followed.
        let store = Self { dir: dir.components().collect() };
        if !dir.is_absolute() || dir.file_name().is_none() {
            return Err(store.fault("that is not the absolute path of a directory"));
        }
        store.sweep(&store.directory()?);
        Ok(store)
    }

    /// A key that is too short or too long is damaged, and replaced.
    fn find_own_key(&self, directory: &Directory) -> Result<Option<Zeroizing<Vec<u8>>>, Trouble> {
        match read(directory, OWN_KEY) {
            Ok(key) => Ok(Some(Zeroizing::new(key)).filter(|key| key.len() == OWN_KEY_LENGTH)),
            Err(error) if error.kind() == NotFound => Ok(None),
            Err(error) if matches!(error.kind(), InvalidData | PermissionDenied) => {
                Err(self.fault(&format!("its key, {OWN_KEY}, cannot be used ({error}). Remove that file")))
            }
            Err(error) => Err(self.passing("its key cannot be read", &error)),
        }
    }

    /// The directory, open and found to be its user's alone.
    fn directory(&self) -> Result<Directory, Trouble> {
        let make = || DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        let open = || Directory::open(&self.dir);
        let directory = open()
            .or_else(|error| if error.kind() == NotFound { make().and_then(|()| open()) } else { Err(error) })
            .map_err(|error| self.unusable(&error))?;
        let found = directory.metadata().map_err(|error| self.unusable(&error))?;
        if found.uid() != directory::user() {
            let (owner, user) = (found.uid(), directory::user());
            return Err(self.fault(&format!("it belongs to user {owner}, and this process is user {user}")));
        }
        if found.mode() & 0o077 != 0 {
            let mode = found.mode() & 0o7777;
            return Err(self.fault(&format!("others may use it (mode {mode:04o}). Make it mode 0700")));
        }
        // Where others could put another directory in its place, that would have to be this user's alone, too. Yet a
        // cache that others can take away is none.
        let real = fs::canonicalize(&self.dir).map_err(|error| self.unusable(&error))?;
        for parent in real.ancestors().skip(1) {
            let mode = fs::metadata(parent).map_err(|error| self.unusable(&error))?.mode();
            if mode & 0o1002 == 0o0002 {
                let (parent, mode) = (parent.display(), mode & 0o7777);
                let why = format!("others may put another in its place ({parent} has mode {mode:04o})");
                return Err(self.fault(&why));
            }
        }
        Ok(directory)
    }

    /// Removes what killed processes left half written.
    fn sweep(&self, directory: &Directory) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.ends_with(".new")) else { continue };
            let Ok(written) = entry.metadata().and_then(|found| found.modified()) else { continue };
            let now = SystemTime::now();
            // One from the future is of another time, too: a clock was set.
            let age = now.duration_since(written).unwrap_or_else(|ahead| ahead.duration());
            if age > LEFT_OVER {
                let _ = directory.remove(name);
            }
        }
    }

    /// None: somebody has it.
    fn try_lock(&self, directory: &Directory, name: &str) -> Result<Option<FileLease>, Trouble> {
        let lease = FileLease::try_take(directory, &lock_of(name));
        lease.map_err(|error| self.passing("it cannot be locked", &error))
    }

    fn says(&self, what: &str) -> String {
        format!("The file cache {}: {what}.", self.dir.display())
    }

    /// Something that its owner has to set right.
    fn fault(&self, what: &str) -> Trouble {
        Trouble::of_settings(self.says(&format!("{what}, or name another directory: PGAAD_CACHE=file:/path")))
    }

    fn passing(&self, what: &str, error: &io::Error) -> Trouble {
        Trouble::of_moment(self.says(&format!("{what}: {error}")))
    }

    /// Why the directory cannot be made or opened.
    fn unusable(&self, error: &io::Error) -> Trouble {
        match error.kind() {
            NotADirectory | AlreadyExists => {
                self.fault("it is no directory, or a link, or leads through a file")
            }
            InvalidFilename | InvalidInput | PermissionDenied | ReadOnlyFilesystem => {
                self.fault(&format!("it cannot be made or opened: {error}"))
            }
            _ => self.passing("it cannot be made or opened", error),
        }
    }
}

impl Store for FileStore {
    /// The key of entries for which no other is given: random, made once, and the same for all who share the directory.
    fn own_key(&self) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let deadline = Instant::now() + KEY_PATIENCE;
        loop {
            let directory = self.directory()?;
            if let Some(key) = self.find_own_key(&directory)? {
                return Ok(key);
            }
            if let Some(_lock) = self.try_lock(&directory, OWN_KEY)? {
                // One may have been made since.
                if let Some(key) = self.find_own_key(&directory)? {
                    return Ok(key);
                }
                let key = Zeroizing::new(seal::random::<OWN_KEY_LENGTH>()?);
                // Flushed, since entries are lost with their key.
                replace(&directory, OWN_KEY, &*key, |file| file.sync_all())
                    .map_err(|error| self.passing("its key cannot be written", &error))?;
                return Ok(Zeroizing::new(key.to_vec()));
            }
            if Instant::now() >= deadline {
                let text = "another process makes its key, and does not come to an end";
                return Err(Trouble::of_moment(self.says(text)));
            }
            self.wait(OWN_KEY, deadline)?;
        }
    }

    fn get(&self, name: &str, _: Instant) -> Result<Option<Vec<u8>>, Trouble> {
        match read(&self.directory()?, &entry_of(name)) {
            Ok(entry) => Ok(Some(entry)),
            // Unfit files are replaced by the next entry.
            Err(error) if matches!(error.kind(), NotFound | InvalidData | PermissionDenied) => Ok(None),
            Err(error) => Err(self.passing("the entry cannot be read", &error)),
        }
    }

    /// Not flushed to the disk: what a power failure damages is a miss.
    fn put(&self, name: &str, entry: &[u8], _: Duration, _: Instant) -> Result<(), Trouble> {
        replace(&self.directory()?, &entry_of(name), entry, |_| Ok(()))
            .map_err(|error| self.passing("the entry cannot be written", &error))
    }

    fn remove(&self, name: &str, _: Instant) -> Result<(), Trouble> {
        match self.directory()?.remove(&entry_of(name)) {
            Err(error) if error.kind() != NotFound => {
                Err(self.passing("the entry cannot be removed", &error))
            }
            _ => Ok(()),
        }
    }

    fn try_lease(&self, name: &str, _: Instant) -> Result<Option<Box<dyn Lease>>, Trouble> {
        let lease = self.try_lock(&self.directory()?, name)?;
        Ok(lease.map(|lease| Box::new(lease) as Box<dyn Lease>))
    }

    /// Looks again and again: a call that waits for a lock can only be ended by a signal, and those are the program's.
    fn wait(&self, name: &str, deadline: Instant) -> Result<(), Trouble> {
        let (directory, lock) = (self.directory()?, lock_of(name));
        let (mut pause, longest) = PAUSES;
        while lease::is_taken(&directory, &lock)
            .map_err(|error| self.passing("its lock cannot be read", &error))?
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(longest);
        }
        Ok(())
    }
}

fn entry_of(name: &str) -> String {
    format!("{name}.token")
}

fn lock_of(name: &str) -> String {
    format!("{name}.lock")
}

/// What a file of ours holds. `InvalidData`: it is not one that we wrote.
fn read(directory: &Directory, name: &str) -> io::Result<Vec<u8>> {
    let unfit = |why: &str| Err(io::Error::new(InvalidData, why));
    let file = match directory.open_file(name) {
        // A symbolic link, and a socket.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => {
            return unfit("it is no plain file");
        }
        file => file?,
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return unfit("it is no plain file");
    }
    if found.uid() != directory::user() || found.mode() & 0o077 != 0 {
        return unfit("others own it or may use it");
    }
    // None at all: it was replaced a moment ago.
    if found.nlink() > 1 {
        return unfit("it has a second name");
    }
    if found.len() > LONGEST {
        return unfit("it is too long");
    }
    os::read_up_to(file, LONGEST)
}

/// Puts a file with that in it in the place of what has the name; on failure, the old one stays.
fn replace(
    directory: &Directory,
    name: &str,
    bytes: &[u8],
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let new = format!("{name}.{}.new", random::guid());
    let replaced = directory
        .write_new(&new, bytes)
        .and_then(|file| finish(&file))
        .and_then(|()| directory.rename(&new, name));
    if replaced.is_err() {
        let _ = directory.remove(&new);
    }
    replaced
}

#[cfg(test)]
mod tests;
