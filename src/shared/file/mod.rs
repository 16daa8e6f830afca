//! The file cache: a directory that is its user's alone, for all processes of that user.
//!
//! `<name>.token` is an entry, `<name>.lock` what the holder of the right to fetch keeps locked, `own.key` the key of
//! entries for which none was given, and `<any of these>.<guid>.new` what is being written. A file is always whole: it gets its name when
//! it is complete. Each use opens the directory and checks it, so nothing stays open that a program which closes all
//! descriptors would pull away; the lock alone is held open, and for that a fetch is lost at worst.
//!
//! Times are bounded by what the disk takes; a file system that hangs (NFS without its server) hangs the caller.

mod lease;

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind::*};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use zeroize::Zeroizing;

use lease::FileLease;

use super::seal;
use super::{LONGEST_ENTRY, LONGEST_LIFE, Session, Store, Trouble};
use crate::environment::Environment;
use crate::os;
use crate::os::directory::{self, Directory};
use crate::random;

/// What to do where a directory won't do.
const ELSEWHERE: &str = "name another directory: PGAAD_CACHE=file:/path.";

const OWN_KEY: &str = "own.key";
const OWN_KEY_LENGTH: usize = 32;

/// How long another process may take to make the key.
const KEY_PATIENCE: Duration = Duration::from_secs(1);

/// A file that is still being written after that is left over from a process that was killed.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// Between looks at somebody else's lock; each pause is twice the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

#[derive(Debug)]
pub(crate) struct FileStore {
    dir: PathBuf,
    /// Whether the settings name it, or it is where such things are kept.
    is_named: bool,
}

/// Where entries are kept unless the settings say (XDG Base Directory Specification).
fn default_directory(environment: Environment<'_>) -> Result<PathBuf, Trouble> {
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
    /// The store in that directory, which is made if it is not there; None: in the user's own.
    pub(crate) fn open(dir: Option<&Path>, environment: Environment<'_>) -> Result<Self, Trouble> {
        let is_named = dir.is_some();
        let dir = dir.map_or_else(|| default_directory(environment), |dir| Ok(dir.into()))?;
        // Without a slash at its end, behind which a symbolic link would be followed.
        let store = Self { dir: dir.components().collect(), is_named };
        if !dir.is_absolute() || dir.file_name().is_none() {
            return Err(store.fault("that is not the absolute path of a directory", None));
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
                let why = format!("its key, {OWN_KEY}, cannot be used ({error})");
                Err(self.fault(&why, Some("Remove that file")))
            }
            Err(error) => Err(self.passing("its key cannot be read", &error)),
        }
    }

    /// The directory, open and found to be its user's alone.
    fn directory(&self) -> Result<Directory, Trouble> {
        let open = || Directory::open(&self.dir);
        let made = || {
            // What leads there is judged before anything is made.
            let there = self.dir.ancestors().skip(1).find(|path| path.exists());
            self.judge_way(there.unwrap_or(Path::new("/")), 0)?;
            let make = DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
            make.and_then(|()| open()).map_err(|error| self.unusable(&error))
        };
        let directory = match open() {
            Err(error) if error.kind() == NotFound => made(),
            opened => opened.map_err(|error| self.unusable(&error)),
        }?;
        let found = directory.metadata().map_err(|error| self.unusable(&error))?;
        if found.uid() != directory::user() {
            return Err(self.is_anothers(&self.dir, found.uid()));
        }
        if found.mode() & 0o077 != 0 {
            let mode = found.mode() & 0o7777;
            return Err(
                self.fault(&format!("others may use it (mode {mode:04o})"), Some("Make it mode 0700"))
            );
        }
        self.judge_way(&self.dir, 1)?;
        Ok(directory)
    }

    /// Nobody but root and this user may put another directory in the place of this one: that would have to be this
    /// user's alone, too, but an old copy of it would do. A group may: many systems give each user a group of its own, and
    /// let that write.
    fn judge_way(&self, path: &Path, skip: usize) -> Result<(), Trouble> {
        let real = fs::canonicalize(path).map_err(|error| self.unusable(&error))?;
        for parent in real.ancestors().skip(skip) {
            let found = fs::metadata(parent).map_err(|error| self.unusable(&error))?;
            if ![0, directory::user()].contains(&found.uid()) {
                return Err(self.is_anothers(parent, found.uid()));
            }
            if found.mode() & 0o1002 == 0o0002 {
                let (parent, mode) = (parent.display(), found.mode() & 0o7777);
                let why = format!("others may put another in its place ({parent} has mode {mode:04o})");
                return Err(self.fault(&why, None));
            }
        }
        Ok(())
    }

    /// Where nobody named it, that is no fault: a program that runs with another user's HOME (sudo) has no directory.
    fn is_anothers(&self, path: &Path, owner: u32) -> Trouble {
        let (path, user) = (path.display(), directory::user());
        let why = format!("{path} belongs to user {owner}, and this process is user {user}");
        match self.is_named {
            true => self.fault(&why, None),
            false => self.not_here(&why),
        }
    }

    fn not_here(&self, why: &str) -> Trouble {
        Trouble::not_here(format!("{} To share tokens, {ELSEWHERE}", self.says(why)))
    }

    /// Removes what killed processes left half written, and entries that ended long ago; nothing else, for the directory
    /// may be one that the user keeps other things in. Locks stay: somebody may hold them.
    fn sweep(&self, directory: &Directory) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some((name, limit)) = name.to_str().and_then(|name| Some((name, longest_age(name)?))) else {
                continue;
            };
            let Ok(written) = entry.metadata().and_then(|found| found.modified()) else { continue };
            let now = SystemTime::now();
            // One from the future is of another time, too: a clock was set.
            if now.duration_since(written).unwrap_or_else(|ahead| ahead.duration()) > limit {
                let _ = directory.remove(name);
            }
        }
    }

    /// None: somebody has it.
    fn try_lock(&self, directory: &Directory, name: &str) -> Result<Option<FileLease>, Trouble> {
        let lease = FileLease::try_take(directory, &lock_of(name));
        lease.map_err(|error| self.passing("it cannot be locked", &error))
    }

    /// Looks again and again: a call that waits for a lock can only be ended by a signal, and those are the program's.
    fn wait(&self, name: &str, until: Instant) -> Result<(), Trouble> {
        let (directory, lock) = (self.directory()?, lock_of(name));
        let (mut pause, longest) = PAUSES;
        while lease::is_taken(&directory, &lock)
            .map_err(|error| self.passing("its lock cannot be read", &error))?
        {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(longest);
        }
        Ok(())
    }

    fn says(&self, what: &str) -> String {
        format!("The file cache {}: {what}.", self.dir.display())
    }

    /// Something that somebody has to set right, by doing that or by going elsewhere.
    fn fault(&self, what: &str, to_do: Option<&str>) -> Trouble {
        let to_do = to_do.map_or_else(|| "To go on, ".into(), |to_do| format!("{to_do}, or "));
        Trouble::of_settings(format!("{} {to_do}{ELSEWHERE}", self.says(what)))
    }

    fn passing(&self, what: &str, error: &io::Error) -> Trouble {
        Trouble::of_moment(self.says(&format!("{what}: {error}")))
    }

    /// Why the directory cannot be made or opened.
    fn unusable(&self, error: &io::Error) -> Trouble {
        match error.kind() {
            NotADirectory | AlreadyExists => {
                self.fault("it is no directory, or a link, or leads through a file", None)
            }
            PermissionDenied | ReadOnlyFilesystem if !self.is_named => {
                self.not_here(&format!("it cannot be made or opened: {error}"))
            }
            InvalidFilename | InvalidInput | PermissionDenied | ReadOnlyFilesystem => {
                self.fault(&format!("it cannot be made or opened: {error}"), None)
            }
            _ => self.passing("it cannot be made or opened", error),
        }
    }
}

impl Store for FileStore {
    /// Its operations take what the disk takes.
    fn session(&self, _: Instant) -> Box<dyn Session + '_> {
        Box::new(FileSession { store: self, lease: None })
    }

    /// The key of entries for which no other is given: random, made once, and the same for all who share the directory.
    fn own_key(&self, deadline: Instant) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let deadline = deadline.min(Instant::now() + KEY_PATIENCE);
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
}

struct FileSession<'a> {
    store: &'a FileStore,
    /// Held until the session ends.
    lease: Option<FileLease>,
}

impl Session for FileSession<'_> {
    fn get(&mut self, name: &str) -> Result<Option<Vec<u8>>, Trouble> {
        match read(&self.store.directory()?, &entry_of(name)) {
            Ok(entry) => Ok(Some(entry)),
            // Unfit files are replaced by the next entry.
            Err(error) if matches!(error.kind(), NotFound | InvalidData | PermissionDenied) => Ok(None),
            Err(error) => Err(self.store.passing("the entry cannot be read", &error)),
        }
    }

    /// Not flushed to the disk: what a power failure damages is a miss.
    fn put(&mut self, name: &str, entry: &[u8], _: Duration) -> Result<(), Trouble> {
        replace(&self.store.directory()?, &entry_of(name), entry, |_| Ok(()))
            .map_err(|error| self.store.passing("the entry cannot be written", &error))
    }

    fn remove(&mut self, name: &str) -> Result<(), Trouble> {
        match self.store.directory()?.remove(&entry_of(name)) {
            Err(error) if error.kind() != NotFound => {
                Err(self.store.passing("the entry cannot be removed", &error))
            }
            _ => Ok(()),
        }
    }

    fn try_lease(&mut self, name: &str) -> Result<bool, Trouble> {
        self.lease = self.store.try_lock(&self.store.directory()?, name)?;
        Ok(self.lease.is_some())
    }

    fn release(&mut self) {
        self.lease = None;
    }

    /// The lock of a holder that died is free at once, so nothing else is looked at.
    fn wait(&mut self, name: &str, _: Option<&[u8]>, until: Instant) -> Result<(), Trouble> {
        self.store.wait(name, until)
    }

    fn extend(&mut self, _: Instant) {}
}

fn entry_of(name: &str) -> String {
    format!("{name}.token")
}

fn lock_of(name: &str) -> String {
    format!("{name}.lock")
}

/// How old a file of that name may get; None: it is not ours, or stays.
fn longest_age(file: &str) -> Option<Duration> {
    let name = file.split('.').next().unwrap_or_default();
    let hash = name.strip_suffix(['n', 'd']).unwrap_or(name);
    let is_entry = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_ours = |whole: &str| is_entry && whole == entry_of(name);
    match file.strip_suffix(".new").and_then(|new| new.rsplit_once('.')) {
        Some((whole, guid)) => {
            (guid.len() == 36 && (whole == OWN_KEY || is_ours(whole))).then_some(LEFT_OVER)
        }
        None => is_ours(file).then_some(LONGEST_LIFE),
    }
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
    if found.len() > LONGEST_ENTRY as u64 {
        return unfit("it is too long");
    }
    os::read_up_to(file, LONGEST_ENTRY as u64)
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
