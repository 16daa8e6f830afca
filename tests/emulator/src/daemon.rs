//! A server of the system's that runs for one test: its log is read, and it ends when we do.

use std::io::{self, BufRead, BufReader};
use std::process::Command;
use std::sync::{Arc, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::os;
use crate::sync::Watched;

/// What it has printed.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) text: String,
    /// The server has ended, with all its children.
    pub(crate) ended: bool,
}

/// The server's first process. Dropping it shuts the server down.
pub(crate) struct Daemon {
    pid: u32,
    log: Arc<Watched<Log>>,
    ends: &'static [i32],
    keeper: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts it from a thread that lives as long as it does: the kernel ends it when that thread ends. `ends` are the
    /// signals that shut it down, each for when the one before did not.
    pub(crate) fn start(mut command: Command, ends: &'static [i32]) -> io::Result<Self> {
        let (printed, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let log = Arc::new(Watched::new(Log::default()));
        let (tell, told) = std::sync::mpsc::channel();
        let writing = Arc::clone(&log);
        let keeper = thread::Builder::new().name("daemon".to_owned()).spawn(move || {
            let spawned = command.spawn();
            drop(command); // its copies of the log's end, and of the descriptor that keeps the directory
            match spawned {
                Ok(mut child) => {
                    let _ = tell.send(Ok(child.id()));
                    for line in BufReader::new(printed).split(b'\n') {
                        let Ok(line) = line else { break };
                        let line = String::from_utf8_lossy(&line).into_owned() + "\n";
                        writing.change(|log| log.text.push_str(&line));
                    }
                    os::wait_without_reaping(child.id());
                    // Whoever sends a signal looks at `ended` under the same lock, so the id is still the child's.
                    writing.change(|log| {
                        log.ended = true;
                        let _ = child.wait();
                    });
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        })?;
        let pid = told.recv().map_err(io::Error::other)??;
        Ok(Self { pid, log, ends, keeper: Some(keeper) })
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.get()
    }

    /// Blocks until the log is as wanted; false if it is not within `patience`.
    pub(crate) fn wait_for_log(&self, patience: Duration, done: impl Fn(&Log) -> bool) -> bool {
        self.log.wait_until(patience, done)
    }

    /// Whether a signal has stopped it.
    pub(crate) fn is_stopped(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:\tT"))
    }

    pub(crate) fn signal(&self, signal: i32) {
        let log = self.log.get();
        if !log.ended {
            os::kill(self.pid, signal);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for signal in self.ends {
            self.signal(*signal);
            if self.log.wait_until(Duration::from_secs(10), |log| log.ended) {
                break;
            }
        }
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}
