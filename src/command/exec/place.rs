//! A directory for one password file, and for as long as one program runs.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::error::Error;
use crate::os;
use crate::os::directory::{self, Directory};
use crate::random;
use crate::settings::config;

const PREFIX: &str = "pgaad-exec-";
const PASSFILE: &str = "passfile";
const NEW: &str = "passfile.new";
/// Locked while its owner lives.
const LOCK: &str = "lock";

/// Removed when it is dropped, with all that is in it.
pub(super) struct Place {
    path: PathBuf,
    name: String,
    parent: Directory,
    directory: Directory,
    lock: File,
}

impl Place {
    /// Makes one with these lines in it, in memory where that can be, and removes those whose owners were killed.
    pub(super) fn make(lines: &[Zeroizing<Vec<u8>>]) -> Result<Self, Error> {
        let mut trouble = Vec::new();
        for parent in parents() {
            sweep(&parent);
        }
        for parent in parents() {
            let made = Self::make_in(&parent).and_then(|place| {
                place.write(&together(lines))?;
                Ok(place)
            });
            match made {
                Ok(place) => return Ok(place),
                Err(error) => trouble.push(format!("{}: {error}", parent.display())),
            }
        }
        Err(config(format!(
            "There is no place for a private password file ({}). Set TMPDIR to a directory that can be written to.",
            trouble.join("; ")
        )))
    }

    fn make_in(path: &Path) -> io::Result<Self> {
        let parent = Directory::open_named(path)?;
        loop {
            let name = format!("{PREFIX}{}", random::guid());
            parent.make_directory(&name)?;
            match lock(&parent, &name) {
                Ok(Some((directory, lock))) => {
                    return Ok(Self { path: path.join(&name), name, parent, directory, lock });
                }
                // It was taken for a dead one's before it was locked.
                Ok(None) => {}
                Err(error) => {
                    if let Ok(directory) = parent.open_directory(&name) {
                        remove(&parent, &name, &directory);
                    }
                    return Err(error);
                }
            }
        }
    }

    pub(super) fn passfile(&self) -> PathBuf {
        self.path.join(PASSFILE)
    }

    /// Sees that these lines are in the password file, and no others. The directory is made again where somebody removed
    /// it: at a user's last logout that may happen to all that is in memory.
    pub(super) fn put(&mut self, lines: &[Zeroizing<Vec<u8>>]) -> Result<(), Error> {
        self.see_to(&together(lines)).map_err(|error| {
            let path = self.passfile();
            config(format!("The private password file {} cannot be written: {error}.", path.display()))
        })
    }

    fn see_to(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Who cleans up behind others looks at the time.
        let _ = self.lock.set_modified(SystemTime::now());
        if let Ok(file) = self.directory.open_file(PASSFILE) {
            let _ = file.set_modified(SystemTime::now());
            let held = os::read_up_to(file, bytes.len() as u64).map(Zeroizing::new);
            if held.is_ok_and(|held| *held == bytes) && self.lock.metadata()?.nlink() > 0 {
                return Ok(());
            }
        }
        if self.lock.metadata()?.nlink() == 0 {
            match self.parent.make_directory(&self.name) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let again = lock(&self.parent, &self.name)?.ok_or(ErrorKind::WouldBlock)?;
            (self.directory, self.lock) = again;
        }
        self.write(bytes)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let write = || {
            self.directory.write_new(NEW, bytes)?.set_permissions(Permissions::from_mode(0o600))?;
            self.directory.rename(NEW, PASSFILE)
        };
        write().inspect_err(|_| {
            let _ = self.directory.remove(NEW);
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove(&self.parent, &self.name, &self.directory);
    }
}

/// Where there may be one, the best place first: what is gone when the user logs out, what is in memory, what is there.
fn parents() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let runtime = variable("XDG_RUNTIME_DIR").filter(|path| is_of_this_user(path));
    let temporary = variable("TMPDIR").unwrap_or_else(|| "/tmp".into());
    let all = runtime.into_iter().chain(["/dev/shm".into(), temporary]);
    all.filter(|path| path.metadata().is_ok_and(|found| found.is_dir() && directory::keeps_files(&found)))
        .collect()
}

fn is_of_this_user(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.uid() == directory::user() && found.permissions().mode() & 0o022 == 0)
}

fn together(lines: &[Zeroizing<Vec<u8>>]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum()));
    for line in lines {
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    }
    bytes
}

/// Takes the right to a directory. None: its owner lives, or it is gone.
fn lock(parent: &Directory, name: &str) -> io::Result<Option<(Directory, File)>> {
    let directory = match parent.open_directory(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        directory => directory?,
    };
    if directory.metadata()?.uid() != directory::user() {
        return Ok(None);
    }
    let lock = match directory.open_lock(LOCK) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        lock => lock?,
    };
    // Somebody may have removed it before it was locked.
    let is_ours = directory::lock(&lock)? && lock.metadata()?.nlink() > 0;
    Ok(is_ours.then_some((directory, lock)))
}

/// Removes directories of this user's whose owners were killed.
fn sweep(path: &Path) {
    let Ok(parent) = Directory::open_named(path) else { return };
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if let Ok(Some((directory, _lock))) = lock(&parent, name) {
            remove(&parent, name, &directory);
        }
    }
}

fn remove(parent: &Directory, name: &str, directory: &Directory) {
    for file in [PASSFILE, NEW, LOCK] {
        let _ = directory.remove(file);
    }
    let _ = parent.remove_directory(name);
}
