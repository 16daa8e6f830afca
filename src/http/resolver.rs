//! Looks names up with a time limit, which the C library's resolver does not have.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::NextTimeout;

use crate::os;
use crate::os::thread::Stack;

/// Runs the look-up on a thread of its own, which is left behind when the time is up.
#[derive(Debug)]
pub(super) struct Resolver;

/// What the C library said.
#[derive(Debug)]
struct LookUpFailed(String, std::io::Error);

impl fmt::Display for LookUpFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot look up {}: {}", self.0, self.1)
    }
}

impl std::error::Error for LookUpFailed {}

impl UreqResolver for Resolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_string();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let addresses = look_up(&host, port, *timeout.after)?;
        let mut resolved = self.empty();
        for address in addresses.into_iter().take(16) {
            resolved.push(address);
        }
        if resolved.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(resolved) }
    }
}

pub(super) fn look_up(host: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>, ureq::Error> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (answer, answered) = mpsc::sync_channel(1);
    let name = host.to_string();
    os::thread::spawn("pgaad-resolver", Stack::Ours, move || {
        // A thread that looked something up takes the resolver's locks once more when it ends; a fork waits for that
        // too. This one looks nothing up.
        let found = os::fork::in_resolver(|| {
            os::thread::run("pgaad-look-up", move || (name.as_str(), port).to_socket_addrs())
        });
        // Nobody listens any more when the time was up.
        let _ = answer.send(found.and_then(|found| Ok(found?.collect())));
    })?;
    match answered.recv_timeout(limit) {
        Ok(found) => found.map_err(|error| ureq::Error::Other(Box::new(LookUpFailed(host.into(), error)))),
        Err(RecvTimeoutError::Timeout) => Err(ureq::Error::Timeout(ureq::Timeout::Resolve)),
        Err(RecvTimeoutError::Disconnected) => Err(ureq::Error::HostNotFound),
    }
}
