//! Signals that are waited for instead of handled, and what a program that is started gets of them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::child;

/// Where SIGPIPE went to before Rust's runtime had it ignored.
static PIPE: OnceLock<libc::sighandler_t> = OnceLock::new();

/// Before `main`, and before that runtime begins.
#[ctor::ctor(unsafe)]
fn remember_pipe() {
    let _ = PIPE.set(handler_of(libc::SIGPIPE));
}

/// Signals that end a process unless it sees to them.
pub(crate) const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// What keyboards and shells stop a process with.
const STOPPING: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Whether it is one of those.
pub(crate) fn is_of_job_control(signal: i32) -> bool {
    STOPPING.contains(&signal)
}

/// Everything that can be passed on: not what nobody can block, what a fault of one's own raises, and what the C library
/// keeps.
pub(crate) fn all() -> Vec<i32> {
    let own = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGSYS,
        libc::SIGABRT,
        libc::SIGPIPE,
        libc::SIGXFSZ,
        libc::SIGXCPU,
    ];
    let standard = (1..32).filter(|signal| !own.contains(signal));
    standard.chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).collect()
}

/// Whether the process was started with this signal ignored, as by nohup(1).
pub(crate) fn is_ignored(signal: i32) -> bool {
    handler_of(signal) == libc::SIG_IGN
}

fn handler_of(signal: i32) -> libc::sighandler_t {
    // SAFETY: sigaction is plain data, for which zeroes are valid; the call only fills it in.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action);
        action.sa_sigaction
    }
}

/// Async-signal-safe.
fn set_handler(signal: i32, handler: libc::sighandler_t) {
    // SAFETY: sigaction is plain data; `handler` is SIG_DFL, SIG_IGN, or what stood there before.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

/// Signals that this process waits for from now on (signalfd(2)).
pub(crate) struct Signals {
    arrivals: OwnedFd,
    before: Before,
}

/// What the process was started with.
#[derive(Clone, Copy)]
struct Before {
    blocked: libc::sigset_t,
    child: libc::sighandler_t,
}

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    pub(crate) number: i32,
    /// Which process sent it to this one, 0 for one that is not to be seen from here; None: the kernel, as for the keys
    /// of a terminal, which reach the whole process group.
    pub(crate) sender: Option<u32>,
}

impl Signals {
    /// Blocks them in this thread, so call it before others are started.
    pub(crate) fn block(numbers: &[i32]) -> io::Result<Self> {
        let set = set_of(numbers);
        // SAFETY: plain data that the calls read and fill in; signalfd gives a new descriptor or -1.
        let (blocked, arrivals) = unsafe {
            let mut blocked: libc::sigset_t = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut blocked);
            (blocked, libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))
        };
        if arrivals < 0 {
            return Err(io::Error::last_os_error());
        }
        // Ignored, it would lose the status of every child.
        let child = handler_of(libc::SIGCHLD);
        set_handler(libc::SIGCHLD, libc::SIG_DFL);
        // SAFETY: it is new, and nobody else's.
        let arrivals = unsafe { OwnedFd::from_raw_fd(arrivals) };
        Ok(Self { arrivals, before: Before { blocked, child } })
    }

    /// The next one; waits for it no longer than `limit`, where there is one. None: there was none.
    pub(crate) fn next(&self, limit: Option<Duration>) -> io::Result<Option<Signal>> {
        loop {
            if let Some(signal) = self.arrived()? {
                return Ok(Some(signal));
            }
            let [came] = child::wait_for([Some(self.arrivals.as_raw_fd())], limit.unwrap_or(Duration::MAX))?;
            if !came && limit.is_some() {
                return Ok(None);
            }
        }
    }

    fn arrived(&self) -> io::Result<Option<Signal>> {
        // SAFETY: plain data, for which zeroes are valid.
        let mut about: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `about` is a place for the answer, and its size its own.
        let read = unsafe { libc::read(self.arrivals.as_raw_fd(), (&raw mut about).cast(), size) };
        if read < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        // Positive codes are the kernel's.
        let sender = (about.ssi_code <= 0).then_some(about.ssi_pid);
        Ok(Some(Signal { number: about.ssi_signo.cast_signed(), sender }))
    }

    /// Lets a command start with the signals that this process was started with: blocked, ignored, or not.
    pub(crate) fn hand_on(&self, command: &mut Command) {
        let before = self.before;
        let pipe = PIPE.get().copied().unwrap_or(libc::SIG_DFL);
        // SAFETY: between fork and exec there are async-signal-safe calls alone: sigaction, sigprocmask.
        unsafe {
            command.pre_exec(move || {
                set_handler(libc::SIGPIPE, pipe);
                set_handler(libc::SIGCHLD, before.child);
                libc::sigprocmask(libc::SIG_SETMASK, &before.blocked, std::ptr::null_mut());
                Ok(())
            });
        }
    }
}

fn set_of(numbers: &[i32]) -> libc::sigset_t {
    // SAFETY: the set is plain data that sigemptyset fills in before use.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for number in numbers {
            libc::sigaddset(&mut set, *number);
        }
        set
    }
}

/// Sends a signal to a process. Not to groups, which zero and negative numbers stand for.
pub(crate) fn send(process: u32, signal: i32) -> io::Result<()> {
    match libc::pid_t::try_from(process) {
        // SAFETY: plain numbers.
        Ok(process) if process > 0 => match unsafe { libc::kill(process, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        },
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Does with this process what the signal does by itself, where nobody sees to it: stops it until it is continued, or ends it. Returns where it
/// does neither.
pub(crate) fn yield_to(signal: i32) {
    if !is_ignored(signal) || !is_of_job_control(signal) {
        set_handler(signal, libc::SIG_DFL);
    }
    let set = set_of(&[signal]);
    // SAFETY: the set is plain data; the calls take numbers. Sent to this thread while it is blocked: where the same came
    // from elsewhere too, the process is stopped once, for what continues it takes back all that wait.
    unsafe {
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before);
        libc::raise(signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
    }
}

/// No image of this process's memory is left, however it ends, and no other process of the user's reads it. A program
/// that it starts is as any other again.
pub(crate) fn hide_memory() {
    // SAFETY: takes numbers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Exited(i32),
    Killed(i32),
    Stopped(i32),
}

/// What became of a child since the last look. Whoever else's children the kernel gave to this process are laid to rest,
/// where that is its part: as the first process of a container.
pub(crate) fn change_of(child: u32) -> io::Result<Option<Change>> {
    let (kind, id) = if takes_orphans() { (libc::P_ALL, 0) } else { (libc::P_PID, child) };
    loop {
        // SAFETY: siginfo_t is plain data, for which zeroes are valid, and mean: nothing yet.
        let mut about: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG;
        // SAFETY: `about` is a place for the answer.
        if unsafe { libc::waitid(kind, id, &mut about, flags) } < 0 {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => continue,
                _ => return Err(error),
            }
        }
        // SAFETY: waitid filled in what it fills in for children.
        let (who, status) = unsafe { (about.si_pid(), about.si_status()) };
        match about.si_code {
            _ if who == 0 => return Ok(None),
            _ if who.unsigned_abs() != child => {}
            libc::CLD_EXITED => return Ok(Some(Change::Exited(status))),
            libc::CLD_STOPPED => return Ok(Some(Change::Stopped(status))),
            _ => return Ok(Some(Change::Killed(status))),
        }
    }
}

fn takes_orphans() -> bool {
    let mut is_reaper: libc::c_int = 0;
    // SAFETY: `is_reaper` is a place for the answer.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut is_reaper) };
    is_reaper != 0 || std::process::id() == 1
}
