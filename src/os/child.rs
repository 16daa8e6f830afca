//! Runs a command to its end, within its time, and takes what it prints.
//!
//! By posix_spawn(3): unlike fork(2) it neither runs other libraries' fork handlers nor copies a large host's page
//! tables.

use std::ffi::{CString, OsStr, OsString, c_char, c_int};
use std::io::{self, ErrorKind::Interrupted, ErrorKind::WouldBlock, PipeReader, PipeWriter, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

/// What to run, by no shell.
pub(crate) struct Command<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [&'a str],
    /// Where it runs.
    pub(crate) directory: &'a Path,
    /// Set beside this process's variables.
    pub(crate) variable: (&'a str, &'a str),
}

/// What a command printed. Both may hold secrets.
pub(crate) struct Printed {
    /// None: somebody else in this process took it, or the host ignores SIGCHLD.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stdout: Zeroizing<Vec<u8>>,
    pub(crate) stderr: Zeroizing<Vec<u8>>,
}

/// Runs a command with nothing to read. `TimedOut`: it did not end by the deadline; `FileTooLarge`: it printed more than
/// `most` bytes. In both cases it was killed, with all that it started.
pub(crate) fn run(command: &Command<'_>, deadline: Instant, most: usize) -> io::Result<Printed> {
    let ((stdout, its_stdout), (stderr, its_stderr)) = (io::pipe()?, io::pipe()?);
    let mut child = Child::spawn(command, &its_stdout, &its_stderr)?;
    drop((its_stdout, its_stderr));
    let (mut out, mut err) = (Pipe::new(stdout)?, Pipe::new(stderr)?);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let asked = child.end.as_ref().map(AsRawFd::as_raw_fd);
        let waits = if asked.is_some() { left } else { left.min(WITHOUT_NEWS) };
        wait_for([out.descriptor(), err.descriptor(), asked], waits)?;
        // Before the last look at the pipes. A descendant may hold them open for longer than the command lives.
        let ended = child.has_ended();
        out.read(most)?;
        err.read(most)?;
        if ended {
            return Ok(Printed { status: child.status(), stdout: out.text, stderr: err.text });
        }
    }
}

/// How often is looked whether a command has ended, where nothing tells (before Linux 5.3).
const WITHOUT_NEWS: Duration = Duration::from_millis(20);

/// A command that runs in a group of its own. Dropped, it is ended with all that it started.
struct Child {
    id: libc::pid_t,
    /// Readable once the command has ended, whoever takes its status (pidfd_open(2)).
    end: Option<OwnedFd>,
    /// Its status was taken: its number may be another's.
    is_over: bool,
}

impl Child {
    fn spawn(command: &Command<'_>, stdout: &PipeWriter, stderr: &PipeWriter) -> io::Result<Self> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let program = text(command.program.as_os_str())?;
        let mut arguments = vec![program.clone()];
        for argument in command.arguments {
            arguments.push(text(argument.as_ref())?);
        }
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os().filter(|(name, _)| name != command.variable.0) {
            variables.push(text(&[name, OsString::from("="), value].into_iter().collect::<OsString>())?);
        }
        variables.push(text(format!("{}={}", command.variable.0, command.variable.1).as_ref())?);
        let plan = Plan::new(&text(command.directory.as_os_str())?, stdout.as_raw_fd(), stderr.as_raw_fd())?;
        let mut id = 0;
        // SAFETY: all pointers are to strings and lists that live through the call; the lists end in NULL.
        let code = unsafe {
            let (actions, attributes) = (plan.actions.as_ptr(), plan.attributes.as_ptr());
            let (arguments, variables) = (list(&arguments), list(&variables));
            libc::posix_spawn(
                &mut id,
                program.as_ptr(),
                actions,
                attributes,
                arguments.as_ptr(),
                variables.as_ptr(),
            )
        };
        check(code)?;
        // SAFETY: the call takes numbers alone and gives a new descriptor, closed across exec, or -1.
        let end = unsafe { libc::syscall(libc::SYS_pidfd_open, id, 0) };
        let end = RawFd::try_from(end).ok().filter(|descriptor| *descriptor >= 0);
        // SAFETY: it is new, and nobody else's.
        let end = end.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) });
        Ok(Self { id, end, is_over: false })
    }

    /// Whether it has ended; its status is not taken.
    fn has_ended(&self) -> bool {
        if let Some(end) = &self.end {
            return wait_for([Some(end.as_raw_fd())], Duration::ZERO).is_ok_and(|[ended]| ended);
        }
        self.is_running() != Some(true)
    }

    /// None: it is no child of ours any more, for somebody else took its status.
    fn is_running(&self) -> Option<bool> {
        let mut about = MaybeUninit::<libc::siginfo_t>::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: `about` is a place for the answer, zeroed, which means: nothing yet.
        let (code, ended) = unsafe {
            let code = libc::waitid(libc::P_PID, self.id.unsigned_abs(), about.as_mut_ptr(), flags);
            (code, about.assume_init_ref().si_pid())
        };
        (code == 0).then_some(ended == 0)
    }

    /// Takes its status, if it has ended and nobody did.
    fn status(&mut self) -> Option<ExitStatus> {
        let mut status = 0;
        // SAFETY: `status` is a place for the answer; the call does not wait.
        let taken = unsafe { libc::waitpid(self.id, &mut status, libc::WNOHANG) };
        self.is_over = taken != 0;
        (taken == self.id).then(|| ExitStatus::from_raw(status))
    }
}

/// How long one that was killed may take to be gone: it may be another user's, or hang in the kernel.
/// Less than a fetch may take beyond its time.
const TIME_TO_DIE: Duration = Duration::from_millis(300);

impl Drop for Child {
    fn drop(&mut self) {
        if self.is_over || self.is_running().is_none() {
            return;
        }
        // SAFETY: plain numbers. Its status was not taken a moment ago, so no other process or group has its number, unless
        // a thread of the host's takes it just now.
        unsafe {
            libc::kill(-self.id, libc::SIGKILL);
            libc::kill(self.id, libc::SIGKILL);
        }
        let deadline = Instant::now() + TIME_TO_DIE;
        while self.status().is_none() && !self.is_over && Instant::now() < deadline {
            let _ = wait_for([self.end.as_ref().map(AsRawFd::as_raw_fd)], WITHOUT_NEWS);
        }
    }
}

/// What posix_spawn(3) is to do between fork and exec.
struct Plan {
    actions: Box<MaybeUninit<libc::posix_spawn_file_actions_t>>,
    attributes: Box<MaybeUninit<libc::posix_spawnattr_t>>,
}

impl Plan {
    /// Nothing to read, these to write to, no other descriptor that the host has open now, no signal blocked or ignored.
    fn new(directory: &CString, stdout: RawFd, stderr: RawFd) -> io::Result<Self> {
        let mut plan =
            Self { actions: Box::new(MaybeUninit::zeroed()), attributes: Box::new(MaybeUninit::zeroed()) };
        let (actions, attributes) = (plan.actions.as_mut_ptr(), plan.attributes.as_mut_ptr());
        // SAFETY: both are initialised before anything else is done with them, and stay where they are; the strings are
        // copied.
        unsafe {
            check(libc::posix_spawn_file_actions_init(actions))?;
            check(libc::posix_spawnattr_init(attributes))?;
            check(libc::posix_spawn_file_actions_addopen(
                actions,
                0,
                c"/dev/null".as_ptr(),
                libc::O_RDONLY,
                0,
            ))?;
            check(libc::posix_spawn_file_actions_adddup2(actions, stdout, 1))?;
            check(libc::posix_spawn_file_actions_adddup2(actions, stderr, 2))?;
            check(add_chdir()?(actions, directory.as_ptr()))?;
            // What it starts may outlive it, and would keep the host's sockets open.
            for descriptor in open_descriptors() {
                // Refused where the limit was lowered below it; then it stays open.
                let _ = libc::posix_spawn_file_actions_addclose(actions, descriptor);
            }
            let (mut none, mut all) = (MaybeUninit::uninit(), MaybeUninit::uninit());
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigfillset(all.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(attributes, none.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(attributes, all.as_ptr()))?;
            check(libc::posix_spawnattr_setpgroup(attributes, 0))?;
            let flags =
                libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETPGROUP;
            check(libc::posix_spawnattr_setflags(attributes, flags as libc::c_short))?;
        }
        Ok(plan)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: `new` initialised both, or left them zeroed, which holds nothing to free.
        unsafe {
            libc::posix_spawn_file_actions_destroy(self.actions.as_mut_ptr());
            libc::posix_spawnattr_destroy(self.attributes.as_mut_ptr());
        }
    }
}

type AddChdir = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, *const c_char) -> c_int;

/// posix_spawn_file_actions_addchdir_np(3), which C libraries have since glibc 2.29: looked up, so that the library loads
/// with older ones.
fn add_chdir() -> io::Result<AddChdir> {
    // SAFETY: the name is a string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"posix_spawn_file_actions_addchdir_np".as_ptr()) };
    if found.is_null() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the C library is too old (glibc before 2.29)",
        ));
    }
    // SAFETY: it is the function of that name, which has this type.
    Ok(unsafe { std::mem::transmute::<*mut libc::c_void, AddChdir>(found) })
}

/// Pointers to the strings, with NULL at the end.
fn list(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|text| text.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
}

/// The descriptors beyond the usual three (proc(5)). One that is closed meanwhile does no harm.
fn open_descriptors() -> Vec<RawFd> {
    let listed = std::fs::read_dir("/proc/thread-self/fd").into_iter().flatten().flatten();
    let numbers = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|descriptor| *descriptor > 2).collect()
}

fn check(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// One of the command's outputs, as far as it was read.
struct Pipe {
    from: Option<PipeReader>,
    text: Zeroizing<Vec<u8>>,
}

impl Pipe {
    fn new(from: PipeReader) -> io::Result<Self> {
        // SAFETY: the descriptor is open; F_GETFL and F_SETFL take and give plain numbers.
        let set = unsafe {
            let flags = libc::fcntl(from.as_raw_fd(), libc::F_GETFL);
            libc::fcntl(from.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
        };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { from: Some(from), text: Zeroizing::default() })
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.from.as_ref().map(AsRawFd::as_raw_fd)
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

/// Waits until one of the descriptors has something to say, and tells which do.
pub(super) fn wait_for<const N: usize>(
    descriptors: [Option<RawFd>; N],
    limit: Duration,
) -> io::Result<[bool; N]> {
    // poll(2) passes over negative descriptors.
    let mut polled = descriptors.map(|descriptor| libc::pollfd {
        fd: descriptor.unwrap_or(-1),
        events: libc::POLLIN,
        revents: 0,
    });
    let limit = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: the array is valid for the call, and its length is its own.
    if unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, limit) } < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == Interrupted { Ok([false; N]) } else { Err(error) };
    }
    Ok(polled.map(|polled| polled.revents != 0))
}
