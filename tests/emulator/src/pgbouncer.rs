//! A real PgBouncer.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::account::Account;
use crate::daemon::{Daemon, Log};
use crate::dir::PrivateDir;
use crate::os;
use crate::sync::PATIENCE;
use crate::tls::Authority;

/// The names in the server's certificate, for its clients.
const NAMES: [&str; 2] = ["localhost", "pgbouncer.example.com"];

/// Immediate shutdown, then the kernel's.
const ENDS: [i32; 2] = [libc::SIGTERM, libc::SIGKILL];

/// A directory for one, and the server once it is launched. Everything of it is gone after drop, and also when this
/// process is killed.
pub struct PgBouncer {
    dir: PrivateDir,
    account: Account,
    port: u16,
    daemon: Option<Daemon>,
}

impl PgBouncer {
    /// Makes the directory of a server that does not run yet, with a certificate: `server.crt`, `server.key` and its
    /// authority's, `client-ca.pem`.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn new() -> Self {
        Self::try_new().unwrap_or_else(|error| panic!("no directory for PgBouncer: {error}"))
    }

    fn try_new() -> io::Result<Self> {
        let account = Account::of_servers()?;
        let dir = PrivateDir::new("pgaad-pgbouncer-", 0o755)?;
        account.give(dir.path())?;
        let bouncer = Self { dir, account, port: 0, daemon: None };
        let authority = Authority::new("pgaad pooler CA")?;
        let identity = authority.sign(&NAMES, false)?;
        bouncer.write("server.crt", &identity.certificate_pem);
        bouncer.write("server.key", &identity.key_pem);
        bouncer.write("client-ca.pem", authority.pem());
        Ok(bouncer)
    }

    /// The directory, which belongs to the user that the server runs as.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The port of the launched server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Writes a file that the server may read, and gives its path.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let written = self.dir.write(name, content).and_then(|path| self.account.give(&path).map(|()| path));
        written.unwrap_or_else(|error| panic!("cannot write {name}: {error}"))
    }

    /// Starts the server, in the place of one that runs, with the settings for this port.
    ///
    /// # Panics
    /// If it does not start; with the server's log.
    pub fn launch(&mut self, settings: impl Fn(u16) -> String) {
        self.daemon = None;
        // Between our look at a port and its bind another may take it: then once more.
        let mut trouble = None;
        for _ in 0..5 {
            match self.try_launch(&settings) {
                Ok(()) => return,
                Err(error) => trouble = Some(error),
            }
        }
        panic!("cannot start PgBouncer: {}", trouble.unwrap_or_else(|| io::ErrorKind::Other.into()));
    }

    fn try_launch(&mut self, settings: &impl Fn(u16) -> String) -> io::Result<()> {
        self.port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let file = self.write("pgbouncer.ini", &settings(self.port));
        let mut command = Command::new("/usr/sbin/pgbouncer");
        command
            .arg(file)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::from(self.dir.keep()?));
        self.account.run(&mut command);
        os::die_with_us(&mut command, libc::SIGTERM);
        let daemon = Daemon::start(command, &ENDS)
            .map_err(|error| io::Error::other(format!("{error}; apt-get install pgbouncer")))?;
        let settled = |log: &Log| log.ended || log.text.contains("LOG process up");
        let is_settled = daemon.wait_for_log(PATIENCE, settled);
        let log = daemon.log().text.clone();
        if !is_settled || daemon.log().ended || log.contains("cannot listen") {
            return Err(io::Error::other(log));
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map_or_else(String::new, |daemon| daemon.log().text.clone())
    }

    /// Blocks until the server's log is as wanted; false if it is not within `patience`.
    #[must_use]
    pub fn wait_for_log(&self, done: impl Fn(&str) -> bool, patience: Duration) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| daemon.wait_for_log(patience, |log| done(&log.text)))
    }
}

impl Default for PgBouncer {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log()); // a test fails: this may tell why
        }
        self.daemon = None;
    }
}
