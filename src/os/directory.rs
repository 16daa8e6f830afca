//! Files of one directory, reached by its descriptor: whatever becomes of its path, it stays the one that was checked.
//! And locks on files, which the kernel takes back when their holder dies.

use std::ffi::{CString, OsStr};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind::Interrupted, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
#[cfg(feature = "command")]
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// No symbolic link is followed to its files, and none is waited for.
pub(crate) struct Directory(File);

impl Directory {
    /// Fails where the last part of the path is a symbolic link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        OpenOptions::new().read(true).custom_flags(flags).open(path).map(Self)
    }

    /// Whatever the path's last part is, as for files that somebody names.
    #[cfg(feature = "command")]
    pub(crate) fn open_named(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path).map(Self)
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    /// A directory in it.
    #[cfg(feature = "command")]
    pub(crate) fn open_directory(&self, name: &str) -> io::Result<Self> {
        self.open_with(name, libc::O_RDONLY | libc::O_DIRECTORY).map(Self)
    }

    /// Makes one, for its owner alone.
    #[cfg(feature = "command")]
    pub(crate) fn make_directory(&self, name: &str) -> io::Result<()> {
        let name = CString::new(name)?;
        // SAFETY: the descriptor is open and the name a string.
        answer(|| unsafe { libc::mkdirat(self.0.as_raw_fd(), name.as_ptr(), 0o700) }).map(drop)
    }

    #[cfg(feature = "command")]
    pub(crate) fn remove_directory(&self, name: &str) -> io::Result<()> {
        let name = CString::new(name)?;
        let flags = libc::AT_REMOVEDIR;
        // SAFETY: as above.
        answer(|| unsafe { libc::unlinkat(self.0.as_raw_fd(), name.as_ptr(), flags) }).map(drop)
    }

    /// Waits until what was renamed in it is on the disk.
    #[cfg(feature = "command")]
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    /// A file to read.
    pub(crate) fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.open_with(name, libc::O_RDONLY)
    }

    /// A file to lock, made if it is not there.
    pub(crate) fn open_lock(&self, name: &str) -> io::Result<File> {
        self.open_with(name, libc::O_RDWR | libc::O_CREAT)
    }

    /// Makes a file with that in it, for its owner alone. A file that fails half-way is left to the caller.
    pub(crate) fn write_new(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        let mut file = self.open_with(name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)?;
        // Beyond the limit, a write would end the program with SIGXFSZ.
        if bytes.len() as libc::rlim_t > file_size_limit() {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        file.write_all(bytes)?;
        Ok(file)
    }

    fn open_with(&self, name: impl AsRef<OsStr>, flags: libc::c_int) -> io::Result<File> {
        let name = CString::new(name.as_ref().as_bytes())?;
        let flags = flags | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let mode: libc::c_uint = 0o600;
        // SAFETY: the descriptor is open and the name a string.
        let descriptor = answer(|| unsafe { libc::openat(self.0.as_raw_fd(), name.as_ptr(), flags, mode) })?;
        // SAFETY: it is new, and nobody else's.
        Ok(unsafe { File::from_raw_fd(descriptor) })
    }

    /// In place of what has that name already.
    pub(crate) fn rename(&self, old: &str, new: impl AsRef<OsStr>) -> io::Result<()> {
        let (old, new, at) = (CString::new(old)?, CString::new(new.as_ref().as_bytes())?, self.0.as_raw_fd());
        // SAFETY: the descriptor is open and the names are strings.
        answer(|| unsafe { libc::renameat(at, old.as_ptr(), at, new.as_ptr()) }).map(drop)
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        let name = CString::new(name)?;
        // SAFETY: the descriptor is open and the name a string.
        answer(|| unsafe { libc::unlinkat(self.0.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
    }
}

/// Locks the file for this process, if no other process has it locked. Closing any descriptor of that file ends it.
///
/// A lock of POSIX's (fcntl(2)) and not of flock(2) or the open file: a child has no part in it, so that a worker forked
/// at the wrong moment cannot keep it when the holder was killed.
pub(crate) fn lock(file: &File) -> io::Result<bool> {
    let whole = whole_file();
    // SAFETY: the descriptor is open and the lock's description is one.
    match answer(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &whole) }) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        locked => locked.map(|_| true),
    }
}

/// Whether another process has locked the file.
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    locker(file).map(|locker| locker.is_some())
}

/// Which other process has locked the file; 0 for one that is not to be seen from here.
pub(crate) fn locker(file: &File) -> io::Result<Option<u32>> {
    let mut found = whole_file();
    // SAFETY: as above; the call fills in what it finds.
    answer(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut found) })?;
    let is_locked = found.l_type != libc::F_UNLCK as libc::c_short;
    Ok(is_locked.then(|| u32::try_from(found.l_pid).unwrap_or(0)))
}

fn whole_file() -> libc::flock {
    // SAFETY: flock is plain data; zeroes mean the whole file.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = libc::F_WRLCK as libc::c_short;
    whole
}

/// What a call said, made again where a signal broke it off.
fn answer(mut call: impl FnMut() -> libc::c_int) -> io::Result<libc::c_int> {
    loop {
        let answer = call();
        if answer >= 0 {
            return Ok(answer);
        }
        let error = io::Error::last_os_error();
        if error.kind() != Interrupted {
            return Err(error);
        }
    }
}

/// How long a file may grow (`ulimit -f`).
fn file_size_limit() -> libc::rlim_t {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a place for the answer.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) };
    limit.rlim_cur
}

/// Whether nobody but root can take away what this user has in the directory, or put something else there.
#[cfg(feature = "command")]
pub(crate) fn keeps_files(directory: &Metadata) -> bool {
    let (mode, owner) = (directory.mode(), directory.uid());
    (owner == 0 || owner == user()) && (mode & 0o022 == 0 || mode & 0o1000 != 0)
}

/// The user whose rights the process has.
pub(crate) fn user() -> u32 {
    // SAFETY: the call only reads.
    unsafe { libc::geteuid() }
}
