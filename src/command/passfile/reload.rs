//! Tells a program that its file has changed: SIGHUP.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::os;
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
    let bytes =
        os::read_plain(path, 4096).map_err(|error| format!("the pidfile cannot be read ({error})"))?;
    let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let number = str::from_utf8(first.trim_ascii()).ok().and_then(|text| text.parse().ok());
    // The first process is nobody's program, and our own does not read the file.
    number
        .filter(|number| *number > 1 && *number != std::process::id())
        .ok_or_else(|| "the pidfile holds no process id".into())
}
