//! A real PostgreSQL of its own, over TLS, that asks us about each token.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::Emulator;
use crate::account::Account;
use crate::checker::{Bind, Checker};
use crate::daemon::{Daemon, Log};
use crate::dir::PrivateDir;
use crate::entra::{POSTGRESQL, Subject, TENANT_ONE};
use crate::ldap::{self, PREFIX, SUFFIX};
use crate::net::Server;
use crate::sync::{Gate, LoginGate, PATIENCE};
use crate::tls::Authority;
use crate::{libpqs, oauth, os};

/// A role with an ordinary password.
pub const LAPTOP_ROLE: &str = "laptop";
/// Its password.
pub const LAPTOP_PASSWORD: &str = "it's a \\ secret";
/// The database of a PostgreSQL 18 that asks for passwords, in the clear. Those of the roles are set by
/// [`Postgres::set_password`].
pub const PASSWORDS: &str = "passwords";

/// The names in the server's certificate.
const NAMES: [&str; 10] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "db.pgaad.test",
    "pgaad-test.postgres.database.azure.com",
    "*.postgres.database.azure.com",
    "*.postgres.database.usgovcloudapi.net",
    "*.postgres.database.chinacloudapi.cn",
    "pgaad.postgres.cosmos.azure.com",
    "pgbouncer.example.com",
];

/// The settings of a server that lives for one test.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
ssl = on
fsync = off
full_page_writes = off
synchronous_commit = off
wal_level = minimal
max_wal_senders = 0
max_connections = 220
shared_buffers = 16MB
autovacuum = off
log_connections = on
log_disconnections = on
";

/// Fast shutdown; if that takes too long the immediate one; then the kernel's.
const ENDS: [i32; 3] = [libc::SIGINT, libc::SIGQUIT, libc::SIGKILL];

/// How the server has tokens checked.
enum Asks {
    /// Debian's: by LDAP, about the password.
    Ldap,
    /// PostgreSQL 18: by this validator, about the token of OAUTHBEARER, which is to be this issuer's.
    OAuth { validator: PathBuf, issuer: String },
}

/// A running server. Everything of it is gone after drop, and also when this process is killed.
pub struct Postgres {
    dir: PrivateDir,
    ca_file: PathBuf,
    bin: PathBuf,
    psql: PathBuf,
    account: Account,
    port: u16,
    checker: Arc<Checker>,
    gate: LoginGate,
    asks: Asks,
    asked: Option<Server>,
    postmaster: Option<Daemon>,
}

impl Postgres {
    /// Starts one that trusts the tokens of this emulator.
    ///
    /// # Panics
    /// If it does not start; with the server's log.
    pub fn start(emulator: &Emulator) -> Self {
        Self::try_start(emulator).unwrap_or_else(|error| panic!("cannot start PostgreSQL: {error}"))
    }

    /// Starts one, or says why it does not start.
    pub fn try_start(emulator: &Emulator) -> io::Result<Self> {
        Self::launch_one(emulator, find_bin()?, Asks::Ldap)
    }

    /// Starts a PostgreSQL 18 that wants tokens by OAUTHBEARER, but in the database [`PASSWORDS`].
    ///
    /// # Panics
    /// If it does not start; with the server's log.
    pub fn start_18(emulator: &Emulator) -> Self {
        Self::try_start_18(emulator).unwrap_or_else(|error| panic!("cannot start PostgreSQL 18: {error}"))
    }

    fn try_start_18(emulator: &Emulator) -> io::Result<Self> {
        let issuer = format!("{}/{}/v2.0", emulator.authority(), TENANT_ONE.id);
        let asks = Asks::OAuth { validator: oauth::validator()?, issuer };
        let server = Self::launch_one(emulator, libpqs::folder()?.join("18/bin"), asks)?;
        server.psql(&format!("create database {PASSWORDS}"))?;
        Ok(server)
    }

    fn launch_one(emulator: &Emulator, bin: PathBuf, asks: Asks) -> io::Result<Self> {
        let account = Account::of_servers()?;
        let dir = PrivateDir::new("pgaad-postgres-", 0o711)?;
        let authority = Authority::new("pgaad database CA")?;
        let ca_file = dir.write("ca.pem", authority.pem())?;
        let checker = Arc::new(Checker::new(Arc::clone(emulator.entra().state())));
        let gate = LoginGate::default();
        let asked = match asks {
            Asks::Ldap => ldap::start(Arc::clone(&checker), gate.clone()),
            Asks::OAuth { .. } => oauth::start(Arc::clone(&checker), gate.clone()),
        }?;
        let mut server = Self {
            dir,
            ca_file,
            bin,
            psql: find_bin()?.join("psql"),
            account,
            port: 0,
            checker,
            gate,
            asks,
            asked: Some(asked),
            postmaster: None,
        };
        server.initdb(&authority)?;
        server.launch()?;
        server.create_roles()?;
        emulator.register(&server.checker);
        Ok(server)
    }

    /// The port, on 127.0.0.1 and in the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whose tokens a PostgreSQL 18 wants, as it tells its clients; nobody's where there is no OAuth.
    pub fn issuer(&self) -> Option<&str> {
        match &self.asks {
            Asks::Ldap => None,
            Asks::OAuth { issuer, .. } => Some(issuer),
        }
    }

    /// Gives a role a password, which counts where the server doesn't ask for tokens.
    pub fn set_password(&self, role: &str, password: &str) -> io::Result<()> {
        let (role, password) = (role.replace('"', "\"\""), password.replace('\'', "''"));
        self.psql(&format!("alter role \"{role}\" password '{password}'")).map(drop)
    }

    /// The directory of the Unix socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// The authority that signed the server's certificate; it is not that of the token service.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The operating system's user that the server runs as, for `requirepeer`.
    pub fn owner(&self) -> String {
        self.account.name().to_owned()
    }

    /// The logins that the server asked about, in order.
    pub fn binds(&self) -> Vec<Bind> {
        self.checker.binds()
    }

    /// Blocks until the logins are as wanted; false if they are not within `patience`.
    #[must_use]
    pub fn wait_for_binds(&self, done: impl Fn(&[Bind]) -> bool, patience: Duration) -> bool {
        self.checker.wait_until(done, patience)
    }

    /// Makes the server refuse all tokens that exist by now.
    pub fn revoke_all(&self) {
        self.checker.revoke_all();
    }

    /// Sets the audience that tokens must have; that of Azure Database for PostgreSQL at first.
    pub fn set_audience(&self, audience: &str) {
        self.checker.set_audience(audience);
    }

    /// Makes logins wait at a gate from now on; None for no gate.
    pub fn hold_logins(&self, gate: Option<&Gate>) {
        self.gate.set(gate);
    }

    /// Lets roles in without TLS, or not. In force when this returns.
    pub fn allow_plaintext(&self, allow: bool) -> io::Result<()> {
        self.write_hba(allow)?;
        let postmaster = self.postmaster.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let before = self.reloads();
        postmaster.signal(libc::SIGHUP);
        // The postmaster logs that it got the signal and reads pg_hba.conf before it accepts again.
        if !postmaster.wait_for_log(PATIENCE, |log| reloads(&log.text) > before) {
            return Err(io::Error::other(format!("the server did not reload\n{}", self.log())));
        }
        self.psql("select 1").map(drop)
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        self.postmaster.as_ref().map_or_else(String::new, |postmaster| postmaster.log().text.clone())
    }

    /// Blocks until the server's log is as wanted; false if it is not within `patience`.
    #[must_use]
    pub fn wait_for_log(&self, done: impl Fn(&str) -> bool, patience: Duration) -> bool {
        self.postmaster.as_ref().is_some_and(|p| p.wait_for_log(patience, |log| done(&log.text)))
    }

    /// Runs SQL as superuser, and returns what it prints, unaligned.
    pub fn psql(&self, sql: &str) -> io::Result<String> {
        let mut psql = Command::new(&self.psql);
        clean(&mut psql)
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-f", "-", "-h"])
            .arg(self.socket_dir())
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = psql.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(sql.as_bytes())?;
        }
        let done = child.wait_with_output()?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(io::Error::other(text(&done.stderr))) }
    }

    /// The libpq variables that reach this server as a role, its password and `sslmode` aside.
    pub fn env(&self, role: &str) -> Vec<(String, OsString)> {
        [
            ("PGHOST", "localhost".into()),
            ("PGPORT", self.port.to_string().into()),
            ("PGUSER", role.into()),
            ("PGDATABASE", "postgres".into()),
            ("PGSSLROOTCERT", self.ca_file.clone().into_os_string()),
        ]
        .map(|(name, value): (&str, OsString)| (name.to_owned(), value))
        .into()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn initdb(&self, authority: &Authority) -> io::Result<()> {
        for (path, mode) in [(self.data(), 0o700), (self.socket_dir(), 0o755)] {
            fs::create_dir(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
            self.account.give(&path)?;
        }
        let mut initdb = self.command("initdb")?;
        initdb.args([
            "--no-sync",
            "--no-instructions",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-D",
        ]);
        let done = initdb.arg(self.data()).stdout(Stdio::null()).output()?;
        if !done.status.success() {
            return Err(io::Error::other(format!("initdb: {}", String::from_utf8_lossy(&done.stderr))));
        }
        let identity = authority.sign(&NAMES, false)?;
        let sockets = self
            .socket_dir()
            .to_str()
            .map(|path| path.replace('\'', "''"))
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut settings = format!("{SETTINGS}unix_socket_directories = '{sockets}'\n");
        if let Asks::OAuth { validator, .. } = &self.asks {
            settings.push_str(&format!("oauth_validator_libraries = '{}'\n", validator.display()));
        }
        fs::OpenOptions::new()
            .append(true)
            .open(self.data().join("postgresql.conf"))?
            .write_all(settings.as_bytes())?;
        self.put("server.crt", &identity.certificate_pem)?;
        self.put("server.key", &identity.key_pem)?;
        self.write_hba(false)
    }

    /// Starts the server on a free port. Between our look and its bind another may take it: then once more.
    fn launch(&mut self) -> io::Result<()> {
        let mut trouble = String::new();
        for _ in 0..5 {
            self.port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let mut command = self.command("postgres")?;
            command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
            let postmaster = Daemon::start(command, &ENDS)?;
            let settled =
                |log: &Log| log.ended || log.text.contains("database system is ready to accept connections");
            if !postmaster.wait_for_log(PATIENCE, settled) {
                return Err(io::Error::other(format!("not ready in time\n{}", postmaster.log().text)));
            }
            if !postmaster.log().ended {
                self.postmaster = Some(postmaster);
                return Ok(());
            }
            trouble = postmaster.log().text.clone();
            if !trouble.contains("could not bind") {
                break;
            }
        }
        Err(io::Error::other(trouble))
    }

    fn create_roles(&self) -> io::Result<()> {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let mut sql = String::from("begin;\n");
        for who in Subject::all() {
            sql.push_str(&format!("create role {} login;\n", quote(who.role())));
        }
        let password = LAPTOP_PASSWORD.replace('\'', "''");
        sql.push_str(&format!("create role {} login password '{password}';\ncommit;\n", quote(LAPTOP_ROLE)));
        self.psql(&sql).map(drop)
    }

    fn write_hba(&self, plaintext: bool) -> io::Result<()> {
        let method = match &self.asks {
            Asks::Ldap => format!(
                "ldap ldapserver=127.0.0.1 ldapport={} ldapprefix=\"{PREFIX}\" ldapsuffix=\"{SUFFIX}\"",
                self.port_asked()
            ),
            Asks::OAuth { issuer, .. } => {
                format!("oauth issuer=\"{issuer}\" scope=\"{POSTGRESQL}/.default\"")
            }
        };
        let (laptop, all) = (format!("all {LAPTOP_ROLE} 127.0.0.1/32"), "all all 127.0.0.1/32");
        let passwords = match &self.asks {
            Asks::Ldap => String::new(),
            Asks::OAuth { .. } => format!("hostssl {PASSWORDS} all 127.0.0.1/32 password\n"),
        };
        let mut hba = format!(
            "local all postgres trust\nlocal all {LAPTOP_ROLE} scram-sha-256\nlocal all all {method}\n\
             hostssl {laptop} scram-sha-256\n{passwords}hostssl {all} {method}\n"
        );
        hba.push_str(&match plaintext {
            true => format!("hostnossl {laptop} scram-sha-256\nhostnossl {all} {method}\n"),
            false => format!("hostnossl {all} reject\n"),
        });
        self.put("pg_hba.conf", &hba)
    }

    /// Where we answer the server's questions.
    fn port_asked(&self) -> u16 {
        self.asked.as_ref().map_or(0, Server::port)
    }

    /// Writes a file below the data directory, for the server's eyes only.
    fn put(&self, name: &str, content: &str) -> io::Result<()> {
        let path = self.data().join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        self.account.give(&path)
    }

    /// One of the server's programs, as its user. Its input keeps our directory: see [`PrivateDir::keep`].
    fn command(&self, program: &str) -> io::Result<Command> {
        let mut command = Command::new(self.bin.join(program));
        clean(&mut command)
            .env(oauth::PORT, self.port_asked().to_string())
            .current_dir("/")
            .stdin(self.dir.keep()?)
            .process_group(0);
        self.account.run(&mut command);
        os::die_with_us(&mut command, libc::SIGINT);
        Ok(command)
    }

    fn reloads(&self) -> usize {
        reloads(&self.log())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{:#?}\n{}", self.binds(), self.log()); // a test fails: this may tell why
        }
        self.asked = None; // a login that waits for it would not hear the postmaster
        self.postmaster = None;
    }
}

fn reloads(log: &str) -> usize {
    log.matches("received SIGHUP, reloading configuration files").count()
}

/// Takes away the variables that steer libpq, libldap and the server.
fn clean(command: &mut Command) -> &mut Command {
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("LDAPNOINIT", "1")
}

/// The programs of the newest version that is installed.
fn find_bin() -> io::Result<PathBuf> {
    let root = Path::new("/usr/lib/postgresql");
    let missing =
        || io::Error::other("no PostgreSQL server in /usr/lib/postgresql: apt-get install postgresql");
    fs::read_dir(root)
        .map_err(|_| missing())?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| root.join(format!("{version}/bin/postgres")).exists())
        .max()
        .map(|version| root.join(format!("{version}/bin")))
        .ok_or_else(missing)
}
