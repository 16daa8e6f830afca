//! A real Redis of its own: over TCP, TLS and a Unix socket, with or without a password.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, Log};
use crate::dir::PrivateDir;
use crate::os;
use crate::random;
use crate::sync::{PATIENCE, lock};
use crate::tls::Authority;

/// The names in the server's certificate. It also listens on 127.0.0.2, which is not among them.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisLogin {
    /// All.
    Open,
    /// Who has the password.
    Password,
    /// A user with a password, who may use what pgaad needs, on keys of its own, and nothing else.
    User,
}

const USER: &str = "pga@d";
/// With characters that a URL must encode.
const PASSWORD: &str = "p/ä@:%s?#w";
const PASSWORD_ENCODED: &str = "p%2F%C3%A4%40%3A%25s%3F%23w";
const USER_ENCODED: &str = "pga%40d";
const RIGHTS: &str = "~pgaad:1:* +select +getrange +set +del +pttl +get +watch +multi +exec";

/// A running server. Everything of it is gone after drop, and also when this process is killed.
pub struct Redis {
    dir: PrivateDir,
    login: RedisLogin,
    /// Of the user through whom we look and change things.
    own_password: String,
    ca_file: PathBuf,
    stranger_ca_file: PathBuf,
    port: u16,
    tls_port: u16,
    daemon: Mutex<Option<Daemon>>,
    own_connections: Mutex<u64>,
}

impl Redis {
    /// Starts one that lets all in.
    ///
    /// # Panics
    /// If it does not start; with the server's log.
    pub fn start() -> Self {
        Self::start_with(RedisLogin::Open)
    }

    /// Starts one.
    ///
    /// # Panics
    /// If it does not start; with the server's log.
    pub fn start_with(login: RedisLogin) -> Self {
        Self::try_start(login).unwrap_or_else(|error| panic!("cannot start Redis: {error}"))
    }

    /// Starts one, or says why it does not start.
    pub fn try_start(login: RedisLogin) -> io::Result<Self> {
        let dir = PrivateDir::new("pgaad-redis-", 0o700)?;
        let authority = Authority::new("pgaad cache CA")?;
        let identity = authority.sign(&NAMES, false)?;
        dir.write("server.crt", &identity.certificate_pem)?;
        dir.write("server.key", &identity.key_pem)?;
        let mut server = Self {
            ca_file: dir.write("ca.pem", authority.pem())?,
            stranger_ca_file: dir.write("stranger-ca.pem", Authority::new("pgaad stranger CA")?.pem())?,
            dir,
            login,
            own_password: random::text::<16>(),
            port: 0,
            tls_port: 0,
            daemon: Mutex::default(),
            own_connections: Mutex::default(),
        };
        // Between our look at a port and its bind another may take it: then once more.
        let mut trouble = None;
        for _ in 0..5 {
            let probes =
                [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
            (server.port, server.tls_port) = (probes[0].local_addr()?.port(), probes[1].local_addr()?.port());
            drop(probes);
            match server.launch() {
                Ok(()) => return Ok(server),
                Err(error) => trouble = Some(error),
            }
        }
        Err(trouble.unwrap_or_else(|| io::ErrorKind::Other.into()))
    }

    /// `redis://`, with the login.
    pub fn url(&self) -> String {
        format!("redis://{}localhost:{}", self.user_info(), self.port)
    }

    /// `rediss://`, with the login.
    pub fn tls_url(&self) -> String {
        format!("rediss://{}localhost:{}", self.user_info(), self.tls_port)
    }

    /// `unix://`, with the login.
    pub fn unix_url(&self) -> String {
        format!("unix://{}{}", self.user_info(), self.socket().display())
    }

    fn user_info(&self) -> String {
        match self.login {
            RedisLogin::Open => String::new(),
            RedisLogin::Password => format!(":{PASSWORD_ENCODED}@"),
            RedisLogin::User => format!("{USER_ENCODED}:{PASSWORD_ENCODED}@"),
        }
    }

    /// The port without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port with TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// The authority that signed the server's certificate, for `localhost` and 127.0.0.1.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// An authority that did not.
    pub fn stranger_ca_file(&self) -> &Path {
        &self.stranger_ca_file
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// Stops it in its tracks (SIGSTOP): the kernel still accepts, but nobody answers. In force when this returns.
    ///
    /// # Panics
    /// If it does not stop.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
        let deadline = Instant::now() + PATIENCE;
        while !self.is_stopped() {
            assert!(Instant::now() < deadline, "it did not stop");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Kills it (SIGKILL), and all that it knew.
    pub fn crash(&self) {
        *lock(&self.daemon) = None;
    }

    /// Starts it again, empty, on the same ports; it is killed first if it runs.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&self) {
        self.crash();
        self.launch().unwrap_or_else(|error| panic!("cannot restart Redis: {error}"));
    }

    /// Makes it refuse all that needs memory.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn fill(&self) {
        self.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    }

    /// Gives it room again.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn make_room(&self) {
        self.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    }

    /// The keys of all databases, in order.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn keys(&self) -> Vec<String> {
        let databases = self.cli(&["INFO", "keyspace"]);
        let databases = databases.lines().filter_map(|line| line.strip_prefix("db")?.split(':').next());
        let mut keys: Vec<_> = databases
            .flat_map(|database| {
                let keys = self.cli(&["-n", database, "KEYS", "*"]);
                keys.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        keys.sort();
        keys
    }

    /// How often it did each command since it started, by lower-case name; ours are among them.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn commands(&self) -> BTreeMap<String, u64> {
        let stats = self.cli(&["INFO", "commandstats"]);
        let parse = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        stats.lines().filter_map(parse).collect()
    }

    /// How many connections it has accepted since it started, ours aside.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn connections(&self) -> u64 {
        let all = self.number("stats", "total_connections_received");
        all - *lock(&self.own_connections)
    }

    /// How many connections it has now, ours aside.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn clients(&self) -> u64 {
        self.number("clients", "connected_clients") - 1
    }

    fn number(&self, section: &str, name: &str) -> u64 {
        let info = self.cli(&["INFO", section]);
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {info}"))
    }

    /// Does a command through `redis-cli`, as a user who may do all, and returns what it prints.
    ///
    /// # Panics
    /// If the command fails.
    pub fn cli(&self, arguments: &[&str]) -> String {
        *lock(&self.own_connections) += 1;
        let done = Command::new("redis-cli")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("REDISCLI_AUTH", &self.own_password)
            .args(["-e", "--user", "own", "-s"])
            .arg(self.socket())
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("redis-cli: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "");
        assert!(
            done.status.success(),
            "redis-cli {arguments:?}: {}{}",
            text(&done.stdout),
            text(&done.stderr)
        );
        text(&done.stdout)
    }

    /// What the server has logged since it started.
    pub fn log(&self) -> String {
        lock(&self.daemon).as_ref().map_or_else(String::new, |daemon| daemon.log().text.clone())
    }

    fn launch(&self) -> io::Result<()> {
        let file = self.dir.write("redis.conf", self.settings())?;
        let mut command = Command::new("redis-server");
        command
            .arg(file)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::from(self.dir.keep()?));
        // It has nothing to save, and could be stopped: a milder signal would then wait.
        os::die_with_us(&mut command, libc::SIGKILL);
        let daemon = Daemon::start(command, &[libc::SIGKILL]).map_err(|error| {
            io::Error::other(format!("redis-server: {error}; apt-get install redis-server"))
        })?;
        *lock(&self.own_connections) = 0;
        let settled = |log: &Log| log.ended || log.text.contains("eady to accept connections");
        let is_settled = daemon.wait_for_log(PATIENCE, settled);
        if !is_settled || daemon.log().ended {
            return Err(io::Error::other(daemon.log().text.clone()));
        }
        *lock(&self.daemon) = Some(daemon);
        Ok(())
    }

    fn settings(&self) -> String {
        let (dir, port, tls_port, own_password) =
            (self.dir.path().display(), self.port, self.tls_port, &self.own_password);
        let users = match self.login {
            RedisLogin::Open => String::new(),
            RedisLogin::Password => format!("requirepass \"{PASSWORD}\""),
            RedisLogin::User => format!("user default off\nuser {USER} on \">{PASSWORD}\" {RIGHTS}"),
        };
        format!(
            "bind 127.0.0.1 127.0.0.2\n\
             port {port}\n\
             tls-port {tls_port}\n\
             tls-cert-file {dir}/server.crt\n\
             tls-key-file {dir}/server.key\n\
             tls-ca-cert-file {dir}/ca.pem\n\
             tls-auth-clients no\n\
             unixsocket {dir}/redis.sock\n\
             dir {dir}\n\
             save \"\"\n\
             user own on >{own_password} ~* &* +@all\n\
             {users}\n"
        )
    }

    fn signal(&self, signal: i32) {
        if let Some(daemon) = &*lock(&self.daemon) {
            daemon.signal(signal);
        }
    }

    fn is_stopped(&self) -> bool {
        lock(&self.daemon).as_ref().is_some_and(Daemon::is_stopped)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log()); // a test fails: this may tell why
        }
        self.crash();
    }
}
