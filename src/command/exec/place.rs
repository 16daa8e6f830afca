//! A directory for one password file, and for as long as one program runs.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::Error;
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
    _lock: File,
}

impl Place {
    /// Makes one with these lines in it, in memory where that can be, and removes those whose owners were killed.
    pub(super) fn make(lines: &[Zeroizing<Vec<u8>>]) -> Result<Self, Error> {
        let mut trouble = Vec::new();
        for parent in parents() {
            sweep(&parent);
        }
        for parent in parents() {
            let made = Self::make_in(&parent).and_then(|place| place.write(lines).map(|()| place));
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
                    return Ok(Self { path: path.join(&name), name, parent, directory, _lock: lock });
                }
                // It was taken for a dead one's before it was locked.
                Ok(None) => {}
                Err(error) => {
                    let _ = parent.remove_directory(&name);
                    return Err(error);
                }
            }
        }
    }

    pub(super) fn passfile(&self) -> PathBuf {
        self.path.join(PASSFILE)
    }

    /// Puts these lines into the password file, in the place of those that are there.
    pub(super) fn put(&self, lines: &[Zeroizing<Vec<u8>>]) -> Result<(), Error> {
        self.write(lines).map_err(|error| {
            let path = self.passfile();
            config(format!("The private password file {} cannot be written: {error}.", path.display()))
        })
    }

    fn write(&self, lines: &[Zeroizing<Vec<u8>>]) -> io::Result<()> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum()));
        for line in lines {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        let write = || {
            self.directory.write_new(NEW, &bytes)?.set_permissions(Permissions::from_mode(0o600))?;
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
    runtime.into_iter().chain(["/dev/shm".into(), temporary]).collect()
}

fn is_of_this_user(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| {
        found.is_dir() && found.uid() == directory::user() && found.permissions().mode() & 0o022 == 0
    })
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
