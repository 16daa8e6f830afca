//! What systemd is told (sd_notify(3)).

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where it listens, if it does.
pub(super) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    pub(super) fn new() -> Self {
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(address);
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_meant = number("WATCHDOG_PID").is_none_or(|meant| meant == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|time| *time > 0 && is_meant);
        Self { watchdog: watchdog.map(Duration::from_micros).filter(|_| socket.is_some()), socket }
    }

    /// How long it may hear nothing before it ends this process.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Nobody waits for it, and nothing depends on it.
    pub(super) fn tell(&self, what: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(what.as_bytes(), address);
        }
    }

    /// One line for people.
    pub(super) fn status(&self, what: &str) {
        self.tell(&format!("STATUS={}", what.replace('\n', " ")));
    }
}

/// A path, or with `@` in front a name in the abstract namespace.
fn address(name: OsString) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}
