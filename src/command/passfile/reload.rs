//! Tells a program that its file has changed: SIGHUP.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::os;
use crate::os::directory;
use crate::os::signals;
use crate::settings::config;

/// The program whose process id a file holds.
pub(super) struct Reload(pub(super) PathBuf);

impl Reload {
    pub(super) fn tell(&self) -> Result<(), Error> {
        let process = process(&self.0).map_err(|why| self.not_told(&why))?;
        signals::send(process, libc::SIGHUP)
            .map_err(|error| self.not_told(&format!("process {process} cannot be signalled ({error})")))
    }

    fn not_told(&self, why: &str) -> Error {
        config(format!(
            "The program of --reload {} was not told of the new file: {why}. If it runs, name its pidfile.",
            self.0.display()
        ))
    }
}

fn process(path: &Path) -> Result<u32, String> {
    let unread = |error: io::Error| format!("the pidfile cannot be read ({error})");
    let file = os::open_plain(path).map_err(unread)?;
    let about = file.metadata().map_err(unread)?;
    let bytes = os::read_up_to(file, 4096).map_err(unread)?;
    let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let number = str::from_utf8(first.trim_ascii()).ok().and_then(|text| text.parse().ok());
    // The first process is nobody's program, and our own does not read the file.
    let process = number
        .filter(|number| *number > 1 && *number != std::process::id())
        .ok_or("the pidfile holds no process id")?;
    // Whoever writes to it names a process of any user's.
    let is_its_own =
        || fs::metadata(format!("/proc/{process}")).is_ok_and(|found| found.uid() == about.uid());
    let is_trusted = [0, directory::user()].contains(&about.uid()) || is_its_own();
    match is_trusted && about.mode() & 0o022 == 0 {
        true => Ok(process),
        false => Err("the pidfile can be written to by others".into()),
    }
}
