//! The system calls that std doesn't offer: children that die with us, signals, sockets that end in a
//! reset or have no room.
#![allow(unsafe_code)] // prctl, kill, sigwaitinfo, setsockopt and a second listen have no safe form in std

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the kernel send `signal` to the child when the *thread* that spawns it ends, however that comes about.
/// The child starts with no signal blocked.
///
/// The setting outlives neither a change of user nor an `exec` of a setuid program; std runs this after `uid()`.
pub(crate) fn die_with_us(command: &mut Command, signal: i32) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made: sigemptyset, sigprocmask, prctl, getppid.
    unsafe {
        command.pre_exec(move || {
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            if libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) != 0
                || libc::prctl(libc::PR_SET_PDEATHSIG, signal) != 0
            {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH)); // the parent died before the prctl
            }
            Ok(())
        });
    }
}

/// Sends a signal to one process that we started and have not reaped.
pub(crate) fn kill(pid: u32, signal: i32) {
    // SAFETY: kill takes two numbers. Callers pass the id of a child they have not reaped.
    unsafe {
        libc::kill(pid as i32, signal);
    }
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Makes the coming close of this socket a reset (RST) instead of an orderly end.
pub(crate) fn reset_on_close(socket: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the pointer and length describe `linger`, which lives through the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a listener hold as few connections that nobody accepted as the kernel can: one.
pub(crate) fn shorten_queue(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: listen takes two numbers, and the descriptor is open.
    let done = unsafe { libc::listen(listener.as_raw_fd(), 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// SIGHUP, SIGINT and SIGTERM, to be waited for instead of handled.
pub struct Signals(libc::sigset_t);

/// A signal that arrived.
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// Whether a process sent it to us alone; the terminal sends to our children as well.
    pub by_process: bool,
}

impl Signals {
    /// Blocks the signals in this thread and those it starts, so call it first. Programs started with std inherit
    /// the mask, except those that the emulator itself starts.
    pub fn block() -> io::Result<Self> {
        // SAFETY: the set is initialised by sigemptyset before it is read.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
                libc::sigaddset(&mut set, signal);
            }
            match libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) {
                0 => Ok(Self(set)),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    /// Blocks until one of them arrives.
    pub fn wait(&self) -> Signal {
        loop {
            // SAFETY: sigwaitinfo fills `info`, for which all zeros is a valid value.
            let (number, info) = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                (libc::sigwaitinfo(&self.0, &mut info), info)
            };
            if number > 0 {
                return Signal { number, by_process: info.si_code <= 0 };
            }
        }
    }
}

/// Lets a command that runs in our place start with a clean signal mask, and end (SIGTERM) when this thread does.
pub fn tie_to_us(command: &mut Command) {
    die_with_us(command, libc::SIGTERM);
}

/// Waits until this child has ended, but leaves it to be reaped, so that its id is still its own.
pub fn wait_without_reaping(pid: u32) {
    loop {
        // SAFETY: waitid fills `info`, for which all zeros is a valid value.
        let done = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOWAIT)
        };
        if done == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// Sends a signal to a child of the program that has not been reaped.
pub fn forward(pid: u32, signal: i32) {
    kill(pid, signal);
}
