//! Descriptors that event loops wait for: select, poll, epoll, io_uring.

use std::io::{self, ErrorKind::Interrupted};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Makes a descriptor readable. It is a descriptor of its own, since the other may be closed at any time.
#[derive(Debug)]
pub(crate) struct Signal(OwnedFd);

impl Signal {
    /// What is to be waited for, and what ends the wait.
    pub(crate) fn new() -> io::Result<(OwnedFd, Self)> {
        let waited_for = new()?;
        let signal = waited_for.try_clone()?;
        Ok((waited_for, Self(signal)))
    }

    /// From now on the other descriptor is readable.
    pub(crate) fn give(self) {
        give(&self.0);
    }
}

/// A descriptor that is readable already.
pub(crate) fn given() -> io::Result<OwnedFd> {
    let event = new()?;
    give(&event);
    Ok(event)
}

/// Whether it is readable now.
pub(crate) fn is_given(event: &OwnedFd) -> bool {
    let mut poll = libc::pollfd { fd: event.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives until the call is over; it does not wait.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

/// An event counter (eventfd(2)) that each read takes one from.
fn new() -> io::Result<OwnedFd> {
    let flags = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK | libc::EFD_SEMAPHORE;
    // SAFETY: takes numbers, gives a new descriptor or -1.
    match unsafe { libc::eventfd(0, flags) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: it is new and nobody else's.
        event => Ok(unsafe { OwnedFd::from_raw_fd(event) }),
    }
}

/// So much that it stays readable however often it is read.
fn give(event: &OwnedFd) {
    let count = (u64::MAX / 2).to_ne_bytes();
    // SAFETY: a buffer of eight bytes, as eventfd(2) wants it. It fails only where so much was written before.
    while unsafe { libc::write(event.as_raw_fd(), count.as_ptr().cast(), count.len()) } < 0
        && io::Error::last_os_error().kind() == Interrupted
    {}
}
