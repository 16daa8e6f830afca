//! A listener on the loopback interface: one thread accepts, one serves each connection, all end on drop.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::sync::{Stop, lock};

pub(crate) struct Server {
    address: SocketAddr,
    stop: Stop,
    live: Arc<Mutex<HashMap<u64, TcpStream>>>,
    acceptor: Option<JoinHandle<Vec<JoinHandle<()>>>>,
}

impl Server {
    /// Serves connections, numbered from 1, on a port of the system's choice until dropped.
    pub(crate) fn start(
        name: &str,
        stop: Stop,
        serve: impl Fn(TcpStream, u64) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let live = Arc::new(Mutex::new(HashMap::new()));
        let (serve, name) = (Arc::new(serve), name.to_owned());
        let acceptor = thread::Builder::new().name(name.clone()).spawn({
            let (stop, live) = (stop.clone(), Arc::clone(&live));
            move || {
                let mut serving: Vec<JoinHandle<()>> = Vec::new();
                for number in 1.. {
                    let accepted = listener.accept();
                    if stop.is_set() {
                        break;
                    }
                    serving.retain(|thread| !thread.is_finished());
                    let Ok((stream, _)) = accepted else {
                        stop.pause(Duration::from_millis(50)); // out of descriptors: some may be returned
                        continue;
                    };
                    let _ = stream.set_nodelay(true);
                    let Ok(twin) = stream.try_clone() else { continue };
                    lock(&live).insert(number, twin);
                    let (serve, held) = (Arc::clone(&serve), Arc::clone(&live));
                    let thread = thread::Builder::new().name(format!("{name} {number}")).spawn(move || {
                        let _forget = Forget { held, number };
                        serve(stream, number);
                    });
                    match thread {
                        Ok(thread) => serving.push(thread),
                        Err(_) => drop(lock(&live).remove(&number)),
                    }
                }
                serving
            }
        })?;
        Ok(Self { address, stop, live, acceptor: Some(acceptor) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.set();
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(5)); // wakes the acceptor
        let Some(serving) = self.acceptor.take().and_then(|acceptor| acceptor.join().ok()) else { return };
        for stream in lock(&self.live).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in serving {
            let _ = thread.join();
        }
    }
}

/// Closes the second descriptor of a connection whose thread has ended, however it ended.
struct Forget {
    held: Arc<Mutex<HashMap<u64, TcpStream>>>,
    number: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        lock(&self.held).remove(&self.number);
    }
}
