//! Runs a command to its end, within its time, and takes what it prints.

use std::io::{self, ErrorKind::Interrupted, ErrorKind::WouldBlock, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

/// What a command printed. Both may hold secrets.
pub(crate) struct Printed {
    /// None: a signal ended it, or somebody else in this process took its exit status.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Zeroizing<Vec<u8>>,
    pub(crate) stderr: Zeroizing<Vec<u8>>,
}

/// Runs a command with nothing to read. `TimedOut`: it did not end by the deadline, and was killed with all that it
/// started. `FileTooLarge`: it printed more than `most` bytes, and was killed too.
pub(crate) fn run(command: &mut Command, deadline: Instant, most: usize) -> io::Result<Printed> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Its own group, so that what it starts ends with it.
    let mut child = command.process_group(0).spawn()?;
    let printed = listen(&mut child, deadline, most);
    if printed.is_err() {
        kill_group(&child);
    }
    // A host that ignores SIGCHLD or takes every child's status leaves none to us.
    let code = child.wait().ok().and_then(|status| status.code());
    let (stdout, stderr) = printed?;
    Ok(Printed { code, stdout, stderr })
}

type Output = Zeroizing<Vec<u8>>;

fn listen(child: &mut Child, deadline: Instant, most: usize) -> io::Result<(Output, Output)> {
    let mut out = Pipe::new(child.stdout.take())?;
    let mut err = Pipe::new(child.stderr.take())?;
    let end = end_of(child);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let ended =
            wait_for(&[out.descriptor(), err.descriptor(), end.as_ref().map(AsRawFd::as_raw_fd)], left)?[2];
        out.read(most)?;
        err.read(most)?;
        // A descendant may hold the pipes open for longer than the command lives.
        if ended || (out.has_ended() && err.has_ended() && end.is_none()) {
            return Ok((out.text, err.text));
        }
    }
}

/// One of the command's outputs, as far as it was read.
struct Pipe<R> {
    from: Option<R>,
    text: Output,
}

impl<R: Read + AsRawFd> Pipe<R> {
    fn new(from: Option<R>) -> io::Result<Self> {
        if let Some(from) = &from {
            set_nonblocking(from.as_raw_fd())?;
        }
        Ok(Self { from, text: Output::default() })
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.from.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn has_ended(&self) -> bool {
        self.from.is_none()
    }

    /// Takes what is there.
    fn read(&mut self, most: usize) -> io::Result<()> {
        let mut buffer = Zeroizing::new([0; 16 * 1024]);
        while let Some(from) = &mut self.from {
            match from.read(&mut *buffer) {
                Ok(0) => self.from = None,
                Ok(length) if self.text.len() + length > most => {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                Ok(length) => self.text.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == WouldBlock => break,
                Err(error) if error.kind() == Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn set_nonblocking(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: the descriptor is open; F_GETFL and F_SETFL take and give plain numbers.
    let set = unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A descriptor that becomes readable when the command ends, whoever takes its status (Linux 5.3, pidfd_open(2)).
fn end_of(child: &Child) -> Option<OwnedFd> {
    // SAFETY: the call takes numbers alone and gives a new descriptor, closed across exec, or -1.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let descriptor = RawFd::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: it is new, and nobody else's.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Waits until one of the descriptors has something to say, and tells which do.
fn wait_for<const N: usize>(descriptors: &[Option<RawFd>; N], limit: Duration) -> io::Result<[bool; N]> {
    // poll(2) passes over negative descriptors.
    let mut polled = descriptors.map(|descriptor| libc::pollfd {
        fd: descriptor.unwrap_or(-1),
        events: libc::POLLIN,
        revents: 0,
    });
    let limit = i32::try_from(limit.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
    // SAFETY: the array is valid for the call, and its length is its own.
    if unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, limit) } < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == Interrupted { Ok([false; N]) } else { Err(error) };
    }
    Ok(polled.map(|polled| polled.revents != 0))
}

fn kill_group(child: &Child) {
    if let Ok(group) = libc::pid_t::try_from(child.id()) {
        // SAFETY: the group was made for the command, which still runs or waits for its status to be taken.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}
