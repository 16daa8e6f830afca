//! A token service whose first tokens end soon, a database that refuses them then, and the commands of the page.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use emulator::{APP_ONE, Emulator, Fault, Gate, PATIENCE, Postgres};
use tempfile::{NamedTempFile, TempDir};

use super::page::block;
use crate::harness::{self, NO_IMDS, install, unix_now, wait_until};

/// How long the first tokens live: as long as it takes the programs to connect for the first time.
const LIFE: i64 = 20;

/// The server's name on the page, which its certificate has too.
pub const SERVER: &str = "myserver.postgres.database.azure.com";

/// The program in Java.
pub const JAVA: &str = include_str!("../../java/Connect.java");

pub struct Stage {
    pub emulator: Emulator,
    pub postgres: Postgres,
    gate: Gate,
    dir: TempDir,
}

impl Stage {
    /// The first so many tokens end soon; requests for others wait.
    pub fn new(firsts: usize) -> Self {
        let stage = Self::lasting();
        let entra = stage.emulator.entra();
        entra.faults().next_n(firsts, Fault::none());
        entra.faults().always(Fault::gate(&stage.gate));
        entra.configure(|config| config.lifetime = LIFE);
        stage
    }

    /// No token ends.
    pub fn lasting() -> Self {
        harness::command(); // may have to be built: not while tokens live
        let emulator = Emulator::start();
        let postgres = Postgres::start(&emulator);
        for database in ["app", "copy"] {
            let create = format!("create database {database} owner \"{}\"", APP_ONE.role);
            postgres.psql(&create).expect("a database");
        }
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("hosts"), format!("127.0.0.1 {SERVER}\n")).expect("a file");
        Self { emulator, postgres, gate: Gate::new(), dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where programs are: `pgaad`, and Debian's.
    pub fn path(&self) -> String {
        format!("{}:/usr/bin:/bin", harness::command().parent().expect("a folder").display())
    }

    /// As the page is written for a server elsewhere, the address says where it is, and Java reads a file of hosts.
    pub fn env(&self) -> Vec<(String, OsString)> {
        let java = format!("-Djdk.net.hosts.file={}", self.dir().join("hosts").display());
        let own = [
            ("PATH", self.path().into()),
            ("HOME", self.dir().into()),
            ("LC_ALL", "C".into()),
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST", NO_IMDS.into()),
            ("PGHOSTADDR", "127.0.0.1".into()),
            ("PGPORT", self.postgres.port().to_string().into()),
            ("PGSSLROOTCERT", self.postgres.ca_file().into()),
            ("JAVA_TOOL_OPTIONS", java.into()),
        ];
        let own = own.map(|(name, value): (&str, OsString)| (name.to_string(), value));
        [self.emulator.env(&APP_ONE), own.into()].concat()
    }

    /// A block of the page, with this machine's ports and files.
    pub fn block(&self, name: &str) -> String {
        block(name)
            .replace("5432", &self.postgres.port().to_string())
            .replace("/etc/ssl/certs/ca-certificates.crt", &self.postgres.ca_file().display().to_string())
    }

    /// A block that follows upon the one that says where to.
    pub fn command(&self, name: &str) -> String {
        block("where") + &self.block(name)
    }

    /// Starts a script, tied to the thread that does.
    pub fn run(&self, script: &str, change: impl FnOnce(&mut Command)) -> Script {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script])
            .env_clear()
            .envs(self.env())
            .current_dir(self.dir())
            .stdin(Stdio::null())
            .process_group(0);
        let log = NamedTempFile::new().expect("a file");
        command.stdout(log.reopen().expect("a file")).stderr(log.reopen().expect("a file"));
        emulator::os::tie_to_us(&mut command);
        change(&mut command);
        Script { child: command.spawn().expect("a shell"), log }
    }

    /// Lets these tokens, and all others of the time, end; then others can be had.
    pub fn outlive(&self, tokens: &[String]) {
        let end = tokens.iter().map(|token| end_of(token)).max().expect("a token");
        wait_until("the end of the first tokens", || unix_now() >= end);
        self.emulator.entra().configure(|config| config.lifetime = 3600);
        for token in tokens {
            self.assert_refused(token);
        }
        self.gate.open();
    }

    /// The server doesn't take it any longer.
    #[track_caller]
    fn assert_refused(&self, token: &str) {
        let psql = Command::new("psql")
            .env_clear()
            .envs(self.postgres.env(APP_ONE.role))
            .env("PATH", "/usr/bin")
            .env("PGSSLMODE", "verify-full")
            .env("PGPASSWORD", token)
            .args(["-c", "SELECT 1"])
            .output()
            .expect("psql");
        let message = String::from_utf8_lossy(&psql.stderr);
        assert!(message.contains("authentication failed for user"), "{:?} {message}", psql.status);
    }

    /// How often this token let somebody in.
    pub fn uses(&self, token: &str) -> usize {
        let uti = claim(token, "uti");
        let binds = self.postgres.binds();
        binds.iter().filter(|bind| bind.ok() && bind.uti.as_deref() == uti.as_str()).count()
    }
}

/// A command that does not end by itself: in the place of the shell, so that it is tied as that is.
pub fn staying(command: &str) -> String {
    format!("exec {command}")
}

fn claim(token: &str, name: &str) -> emulator::serde_json::Value {
    emulator::claims(token).unwrap_or_else(|| panic!("no token: {token}"))[name].clone()
}

fn end_of(token: &str) -> i64 {
    claim(token, "exp").as_i64().expect("a time")
}

/// The token in a password file or a userlist, if it is there.
pub fn token_in(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let token = text.split([':', '"', '\n']).find(|part| part.starts_with("eyJ"));
    token.map(String::from)
}

/// A shell under way, and what it has started; ended if the test ends before it does.
pub struct Script {
    child: Child,
    log: NamedTempFile,
}

impl Script {
    /// What all of them have printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).expect("text")
    }

    /// Whether it has ended well; None while it runs.
    pub fn ended(&mut self) -> Option<bool> {
        self.child.try_wait().expect("its status").map(|status| status.success())
    }

    #[track_caller]
    pub fn assert_ends_well(&mut self, what: &str) {
        assert!(self.end(), "{what}: {}", self.log());
    }

    /// It says why.
    #[track_caller]
    pub fn assert_fails(&mut self, why: &str) {
        assert!(!self.end() && self.log().contains(why), "{}", self.log());
    }

    /// Whether it ends well.
    #[track_caller]
    fn end(&mut self) -> bool {
        let mut well = None;
        wait_until("its end", || {
            well = self.ended();
            well.is_some()
        });
        well == Some(true)
    }

    /// Waits for a token in this file, which is to be another one than `before`.
    #[track_caller]
    pub fn wait_for_token(&mut self, file: &Path, before: &str) -> String {
        let mut found = String::new();
        wait_until("a token in the file", || {
            assert_ne!(self.ended(), Some(false), "{}", self.log());
            found = token_in(file).unwrap_or_default();
            !found.is_empty() && found != before
        });
        found
    }

    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        // The group is ours as long as its first process is not reaped.
        if self.ended().is_none() {
            self.signal("-TERM");
            let deadline = Instant::now() + PATIENCE;
            while self.ended().is_none() {
                if Instant::now() > deadline {
                    self.signal("-KILL");
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

/// Where a program stops between its first connection and its second.
pub struct Turn {
    dir: TempDir,
    go: File,
}

impl Turn {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let turn = dir.path().display();
        // The first time it says where the passwords are, and waits to be told to go on.
        let pause = format!(
            "#!/bin/sh\n[ ! -e {turn}/said ] || exit 0\necho \"$PGPASSFILE\" >{turn}/said.new\n\
             mv {turn}/said.new {turn}/said\nread -r _ <{turn}/go\n"
        );
        // A program that connects once is run twice, by its own name.
        let twice = format!(
            "#!/bin/sh\nprogram=/usr/bin/${{0##*/}}\ncat >{turn}/input\n\
             \"$program\" \"$@\" <{turn}/input || exit\n{turn}/pause\nexec \"$program\" \"$@\" <{turn}/input\n"
        );
        for (name, text) in [("pause", pause), ("twice", twice)] {
            let draft = dir.path().join(format!("{name}.draft"));
            std::fs::write(&draft, text).expect("a file");
            install("755", &draft, &dir.path().join(name));
        }
        let go = dir.path().join("go");
        let made = Command::new("mkfifo").arg(&go).status();
        assert!(made.is_ok_and(|status| status.success()), "no pipe");
        // Open at both ends, it waits for nobody, and keeps what is written until it is read.
        let go = File::options().read(true).write(true).open(go).expect("a pipe");
        Self { dir, go }
    }

    /// Lets this program run twice, with a pause between.
    pub fn of(program: &str) -> Self {
        let turn = Self::new();
        std::os::unix::fs::symlink("twice", turn.dir().join(program)).expect("a link");
        turn
    }

    /// Goes before the PATH.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits for the pause, and gives the file that the program has for passwords.
    #[track_caller]
    pub fn wait(&self, what: &str, script: &mut Script) -> PathBuf {
        let said = self.dir().join("said");
        wait_until(what, || {
            assert!(said.exists() || script.ended().is_none(), "{what}: {}", script.log());
            said.exists()
        });
        PathBuf::from(std::fs::read_to_string(said).expect("text").trim_end())
    }

    /// Ends the pause.
    pub fn go(&self) {
        (&self.go).write_all(b"go\n").expect("room in the pipe");
    }
}
