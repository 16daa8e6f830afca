//! An address that does not answer: off Azure, that of the metadata service is one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::os;

/// A port where connections neither succeed nor fail: the kernel drops what asks for one.
pub struct Nowhere {
    address: SocketAddr,
    /// Nobody accepts the connections that fill its queue.
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Nowhere {
    /// Finds such a port on loopback.
    ///
    /// # Panics
    /// If there is none.
    pub fn start() -> Self {
        Self::try_start().unwrap_or_else(|error| panic!("there is no nowhere: {error}"))
    }

    fn try_start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        os::shorten_queue(&listener)?;
        let address = listener.local_addr()?;
        let mut queue = Vec::new();
        loop {
            match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
                Ok(connection) => queue.push(connection),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Self { address, _listener: listener, _queue: queue })
    }

    /// Scheme, host and port, for `PGAAD_IMDS_HOST`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}
