//! Threads of ours: they take no signals, which belong to the program's own threads.

use std::io;
use std::thread::JoinHandle;

/// How much a thread may put on its stack.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stack {
    /// Enough for a TLS handshake; the host may run under a tight address-space limit.
    Ours = 512 * 1024,
    /// For code that is not ours: what a program's first thread mostly has.
    Anybodys = 8 * 1024 * 1024,
}

/// Runs `body` on a thread that blocks every signal.
pub(crate) fn spawn(name: &str, stack: Stack, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // One type for all of them: the code that starts a thread is there once.
    let body: Box<dyn FnOnce() + Send> = Box::new(body);
    start(name, stack, body).map(drop)
}

/// Runs `body` on such a thread and returns when that thread is gone, its last doings in the C library included.
pub(crate) fn run<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    start(name, Stack::Ours, body)?.join().map_err(|_| io::Error::other("a bug in pgaad ended a thread"))
}

fn start<T: Send + 'static>(
    name: &str,
    stack: Stack,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    // SAFETY: the sets are plain data; sigfillset fills one, pthread_sigmask the other.
    let before = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        before
    };
    // The new thread inherits the mask of the one that makes it.
    let started = std::thread::Builder::new().name(name.into()).stack_size(stack as usize).spawn(body);
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    started
}
