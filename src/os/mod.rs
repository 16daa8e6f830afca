//! The operating system: files, clocks and dates, `AT_SECURE`, standard error, commands, fork, threads, events, freed
//! memory.
//!
//! One of the three rooms where `unsafe` is allowed; everything it offers is safe to call.
#![allow(unsafe_code)] // calls into the C library

#[cfg(feature = "capi")]
mod alloc;
pub(crate) mod calendar;
pub(crate) mod child;
pub(crate) mod directory;
pub(crate) mod event;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod fork;
#[cfg(feature = "command")]
pub(crate) mod signals;
pub(crate) mod thread;
pub(crate) mod unix_socket;

use std::ffi::{CStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time since boot on a clock that runs through suspend and that nobody can set (`CLOCK_BOOTTIME`): the clock
/// that tokens age by.
pub(crate) fn since_boot() -> Duration {
    #[cfg(test)]
    if let Some(time) = fake::here(fake::World::since_boot) {
        return time;
    }
    // SAFETY: timespec is plain data, for which zeroes are valid.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is a place for the answer. The clock exists since Linux 2.6.39, so the call can't fail.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Seconds since 1970-01-01 UTC by the wall clock.
pub(crate) fn unix_now() -> i64 {
    seconds(since_epoch())
}

/// The same, to the fraction of a second.
pub(crate) fn since_epoch() -> Duration {
    #[cfg(test)]
    if let Some(time) = fake::here(fake::World::unix_now) {
        return Duration::from_secs(time.unsigned_abs());
    }
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// Whole ones.
pub(crate) fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// The wall clock, a few milliseconds old, and cheaper.
pub(crate) fn unix_now_coarse() -> i64 {
    #[cfg(test)]
    if let Some(time) = fake::here(fake::World::unix_now) {
        return time;
    }
    // SAFETY: timespec is plain data, for which zeroes are valid.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is a place for the answer. The clock exists since Linux 2.6.32, so the call can't fail.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut time) };
    time.tv_sec
}

/// Whether the program runs with more rights than its caller (setuid, setgid, capabilities): getauxval(3).
pub(crate) fn secure_mode() -> bool {
    // SAFETY: getauxval only reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Opens a file for reading, without waiting where it is a pipe that nobody writes to. Only plain files are read.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    open_with(path, 0)
}

/// The same, if the path is no symbolic link.
pub(crate) fn open_unlinked(path: &Path) -> io::Result<File> {
    open_with(path, libc::O_NOFOLLOW)
}

fn open_with(path: &Path, flags: libc::c_int) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no plain file")),
    }
}

/// What a plain file holds, if that is no more than `most` bytes.
pub(crate) fn read_plain(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_up_to(open_plain(path)?, most)
}

/// The rest of an open file, if that is no more than `most` bytes.
pub(crate) fn read_up_to(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match file.take(most + 1).read_to_end(&mut bytes)? as u64 {
        length if length <= most => Ok(bytes),
        _ => Err(io::Error::other(format!("it has more than {most} bytes"))),
    }
}

/// The home directory that the user database names, for a process without `HOME`.
pub(crate) fn home_directory() -> Option<PathBuf> {
    from_user_database(|entry| entry.pw_dir).map(|home| PathBuf::from(OsString::from_vec(home)))
}

/// The name of the user that the process runs as, which libpq takes where no user is given.
pub(crate) fn user_name() -> Option<Vec<u8>> {
    from_user_database(|entry| entry.pw_name)
}

fn from_user_database(field: impl Fn(&libc::passwd) -> *mut libc::c_char) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 16 * 1024];
    // SAFETY: passwd is plain data, for which zeroes are valid.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are valid for the call, and the buffer's length is its own.
    let code = unsafe {
        libc::getpwuid_r(libc::geteuid(), &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found)
    };
    let text = field(&entry);
    if code != 0 || found.is_null() || text.is_null() {
        return None;
    }
    // SAFETY: getpwuid_r succeeded, so its fields are strings inside `buffer`, which still lives.
    Some(unsafe { CStr::from_ptr(text) }.to_bytes().to_vec())
}

/// Writes one line to standard error in one call: no lock that a forked child could find held, and no SIGPIPE
/// for the program when nobody reads.
pub(crate) fn write_to_stderr(line: &str) {
    // SAFETY: the signal sets are plain data that sigemptyset fills in before use; write gets a valid buffer.
    unsafe {
        let mut pipe: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        let mut pending: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut pipe);
        libc::sigaddset(&mut pipe, libc::SIGPIPE);
        libc::sigpending(&mut pending);
        libc::pthread_sigmask(libc::SIG_BLOCK, &pipe, &mut before);
        let written = libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
        let broken = written < 0 && *libc::__errno_location() == libc::EPIPE;
        if broken && libc::sigismember(&pending, libc::SIGPIPE) == 0 {
            let at_once: libc::timespec = std::mem::zeroed();
            libc::sigtimedwait(&pipe, std::ptr::null_mut(), &at_once);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
    }
}
