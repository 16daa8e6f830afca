//! A program under way: what it says, the signals it is sent, how it ends.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use emulator::os;

use crate::harness::wait_until;

/// Killed if the test ends before it does.
pub struct Process {
    child: Child,
    out: Heard,
    err: Heard,
}

/// What was read so far.
struct Heard {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Heard {
    fn from(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let heard = text.clone();
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut bytes) {
                heard.lock().expect("no panic").push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.text.lock().expect("no panic").clone()
    }

    fn all(&mut self) -> String {
        self.reader.take().map(|reader| reader.join());
        self.text()
    }
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// The one message of a command that failed with this exit code.
    #[track_caller]
    pub fn message(&self, code: i32) -> &str {
        assert_eq!(self.code(), Some(code), "{self:?}");
        assert!(self.err.starts_with("pgaad: ") && self.err.lines().count() == 1, "{self:?}");
        &self.err
    }

    /// What it printed; it ended well and said nothing else.
    #[track_caller]
    pub fn output(&self) -> &str {
        assert_eq!((self.code(), self.err.as_str()), (Some(0), ""), "{self:?}");
        &self.out
    }
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let out = Heard::from(child.stdout.take().expect("a pipe"));
        let err = Heard::from(child.stderr.take().expect("a pipe"));
        Self { child, out, err }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        os::forward(self.id(), signal);
    }

    /// What it printed so far.
    pub fn out(&self) -> String {
        self.out.text()
    }

    /// What it said on standard error so far.
    pub fn err(&self) -> String {
        self.err.text()
    }

    #[track_caller]
    pub fn wait_for_out(&self, text: &str) {
        wait_until(&format!("{text:?} is printed ({:?}, {:?})", self.out(), self.err()), || {
            self.out().contains(text)
        });
    }

    #[track_caller]
    pub fn wait_for_err(&self, text: &str) {
        wait_until(&format!("{text:?} is said"), || self.err().contains(text));
    }

    /// Has nothing more to read: a script goes on that waits for that.
    pub fn close_stdin(&mut self) {
        self.child.stdin.take();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        self.close_stdin();
        let mut status = None;
        wait_until("it ends", || {
            status = self.child.try_wait().expect("its status");
            status.is_some()
        });
        Ended { status: status.expect("a status"), out: self.out.all(), err: self.err.all() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The letter of a process's state (proc(5)); None: it is gone.
pub fn state(process: u32) -> Option<char> {
    let about = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    about.rsplit_once(") ")?.1.chars().next()
}
