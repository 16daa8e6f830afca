//! The file that holds the lines: who may have it, and how it is replaced.

use std::ffi::OsString;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::lines::{Format, Line, edit};
use crate::error::Error;
use crate::os;
use crate::os::directory::{self, Directory};
use crate::settings::config;

/// No password file has as much.
const MOST: u64 = 16 * 1024 * 1024;

/// How often is begun anew where somebody else writes to the file at the same time.
const TRIES: usize = 10;

/// A file that this process writes tokens to, alone once it has taken it and until it is dropped.
pub(super) struct Target {
    path: PathBuf,
    directory: Directory,
    name: OsString,
    format: Format,
    /// A file beside it, locked. It is removed at the end; where that was not to be, the lock is gone all the same.
    lock: Option<File>,
}

impl Target {
    /// Looks whether the file, which need not be there yet, can be taken.
    pub(super) fn find(path: &Path, format: Format) -> Result<Self, Error> {
        let name = match path.file_name() {
            Some(name) if !path.as_os_str().as_encoded_bytes().ends_with(b"/") => name.to_os_string(),
            _ => return Err(unfit(path, "it is a directory", "Name a file")),
        };
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let of_parent =
            |error: io::Error| config(format!("The directory {} cannot be used: {error}.", parent.display()));
        let directory = Directory::open_named(parent).map_err(of_parent)?;
        if !directory::keeps_files(&directory.metadata().map_err(of_parent)?) {
            return Err(config(format!(
                "The directory {} belongs to another user or may be written to by others, who could put another file in \
                 the place of {}. Take that right away (chmod go-w), or choose another directory.",
                parent.display(),
                name.display()
            )));
        }
        let target = Self { path: path.to_path_buf(), directory, name, format, lock: None };
        target.open()?;
        match target.directory.open_file(target.lock_name()) {
            Ok(lock) => target.check_free(&lock)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(target.no_lock(&error)),
        }
        Ok(target)
    }

    fn lock_name(&self) -> String {
        format!(".{}.pgaad", self.name.display())
    }

    fn new_name(&self) -> String {
        format!("{}-new", self.lock_name())
    }

    /// Takes the file for this process alone.
    pub(super) fn take(&mut self) -> Result<(), Error> {
        loop {
            let cannot = |error| self.no_lock(&error);
            let lock = self.directory.open_lock(&self.lock_name()).map_err(cannot)?;
            if !directory::lock(&lock).map_err(cannot)? {
                self.check_free(&lock)?;
                // It is just gone.
                continue;
            }
            // Its owner may have removed it before it was locked here.
            if lock.metadata().map_err(cannot)?.nlink() > 0 {
                self.lock = Some(lock);
                return Ok(());
            }
        }
    }

    fn check_free(&self, lock: &File) -> Result<(), Error> {
        let who = match directory::locker(lock).map_err(|error| self.no_lock(&error))? {
            None => return Ok(()),
            Some(0) => "a process that is not to be seen from here".into(),
            Some(process) => format!("process {process}"),
        };
        Err(config(format!(
            "{} is kept fresh by another pgaad already ({who}). Stop that one first, or leave the file to it: it takes \
             --conninfo more than once.",
            self.path.display()
        )))
    }

    fn no_lock(&self, error: &io::Error) -> Error {
        config(format!(
            "The lock {} beside {} cannot be taken: {error}.",
            self.lock_name(),
            self.path.display()
        ))
    }

    /// Leaves the file to others, for a process that ends without dropping this.
    pub(super) fn release(&self) {
        if self.lock.is_some() {
            let _ = self.directory.remove(&self.lock_name());
        }
    }

    /// Sees that the lines are in the file, which is its user's alone; whether that changed it.
    pub(super) fn put(&self, lines: &[Line]) -> Result<bool, Error> {
        for _ in 0..TRIES {
            let (old, found) = match self.open()? {
                Some((file, found)) => {
                    let old = os::read_up_to(file, MOST).map_err(|error| self.cannot("read", &error))?;
                    (Zeroizing::new(old), Some(found))
                }
                None => (Zeroizing::default(), None),
            };
            let new = edit(&old, self.format, lines);
            let is_private = found.as_ref().is_some_and(|found| found.permissions().mode() & 0o7777 == 0o600);
            if *new == *old && is_private {
                return Ok(false);
            }
            if self.replace(&new, found.as_ref())? {
                return Ok(true);
            }
        }
        Err(config(format!("{} is written to by others again and again.", self.path.display())))
    }

    /// Puts this in the file's place, unless that was changed meanwhile.
    fn replace(&self, bytes: &[u8], before: Option<&Metadata>) -> Result<bool, Error> {
        let new = self.new_name();
        let _ = self.directory.remove(&new);
        let written = self.directory.write_new(&new, bytes).and_then(|file| {
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.sync_all()
        });
        let replaced = written.map_err(|error| self.cannot("written", &error)).and_then(|()| {
            let now = self.open()?.map(|(_, found)| found);
            if before.map(mark) != now.as_ref().map(mark) {
                return Ok(false);
            }
            self.directory.rename(&new, &self.name).map_err(|error| self.cannot("replaced", &error))?;
            Ok(true)
        });
        if !matches!(replaced, Ok(true)) {
            let _ = self.directory.remove(&new);
        }
        // It is in its place, on disk or not.
        let _ = self.directory.sync();
        replaced
    }

    /// The file, if it is there and nobody else can have put it there.
    fn open(&self) -> Result<Option<(File, Metadata)>, Error> {
        let file = match self.directory.open_file(&self.name) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(unfit(&self.path, "it is a symbolic link", "Name the file that it leads to"));
            }
            file => file.map_err(|error| self.cannot("read", &error))?,
        };
        let found = file.metadata().map_err(|error| self.cannot("read", &error))?;
        let (what, todo) = if found.is_dir() {
            ("it is a directory", "Name a file")
        } else if !found.is_file() {
            ("it is no plain file", "Name a plain file, or one that is not there yet")
        } else if found.uid() != directory::user() {
            ("it belongs to another user", "Run this command as that user, or name another file")
        } else if found.permissions().mode() & 0o022 != 0 {
            ("others may write to it", "See who has done so, then take that right away (chmod 600)")
        } else if found.nlink() > 1 {
            (
                "it has more than one name (hard links), and only this one would be renewed",
                "Remove the others",
            )
        } else {
            return Ok(Some((file, found)));
        };
        Err(unfit(&self.path, what, todo))
    }

    fn cannot(&self, what: &str, error: &io::Error) -> Error {
        config(format!("{} cannot be {what}: {error}.", self.path.display()))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.release();
    }
}

/// Changes when the file does.
fn mark(found: &Metadata) -> [i64; 7] {
    let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
    let [dev, ino, size] = [found.dev(), found.ino(), found.size()].map(u64::cast_signed);
    [dev, ino, size, times[0], times[1], times[2], times[3]]
}

fn unfit(path: &Path, what: &str, todo: &str) -> Error {
    config(format!("{} cannot hold tokens: {what}. {todo}.", path.display()))
}
