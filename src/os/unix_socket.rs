//! Unix sockets, connected to within a time, for which std has no function.

use std::ffi::c_char;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

/// Connects before the deadline: a program may leave those who come to its socket waiting. std's type for TCP does all
/// that a stream of any kind needs (send without SIGPIPE, recv, timeouts, shutdown), so callers need only one.
pub(crate) fn connect(path: &Path, deadline: Instant) -> io::Result<TcpStream> {
    // SAFETY: sockaddr_un is plain data, for which zeroes are valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let path = path.as_os_str().as_bytes();
    // The last byte stays NUL.
    if path.is_empty() || path.contains(&0) || path.len() >= address.sun_path.len() {
        return Err(ErrorKind::InvalidInput.into());
    }
    for (place, byte) in address.sun_path.iter_mut().zip(path) {
        *place = *byte as c_char;
    }
    // SAFETY: the call takes numbers alone and gives a new descriptor, or -1.
    let descriptor = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is new, and nobody else's.
    let socket = TcpStream::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        // What bounds a send also bounds connect, see unix(7).
        socket.set_write_timeout(Some(left))?;
        // SAFETY: the address is valid for the call, and its length is its own.
        let done = unsafe {
            let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
            libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length)
        };
        if done == 0 {
            return Ok(socket);
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            ErrorKind::Interrupted | ErrorKind::WouldBlock => {}
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_socket_is_reached_unless_it_is_full_or_not_there() {
        let soon = || Instant::now() + Duration::from_millis(50);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        let mut ours = connect(&path, Instant::now() + Duration::from_secs(60)).expect("a connection");
        let (mut theirs, _) = listener.accept().expect("a connection");
        ours.write_all(b"hello").expect("sent");
        drop(ours);
        let mut heard = String::new();
        theirs.read_to_string(&mut heard).expect("received");
        assert_eq!(heard, "hello");

        // SAFETY: the call takes two numbers, and the descriptor is open.
        unsafe { libc::listen(listener.as_raw_fd(), 0) };
        let queued: Vec<_> = (0..3).map(|_| connect(&path, soon())).collect();
        let last = queued.last().and_then(|last| last.as_ref().err()).map(io::Error::kind);
        assert_eq!(last, Some(ErrorKind::TimedOut));

        for (path, kind) in [
            (dir.path().join("none"), ErrorKind::NotFound),
            (PathBuf::new(), ErrorKind::InvalidInput),
            ("/".repeat(108).into(), ErrorKind::InvalidInput),
        ] {
            assert_eq!(connect(&path, soon()).expect_err("no socket").kind(), kind, "{}", path.display());
        }
    }
}
