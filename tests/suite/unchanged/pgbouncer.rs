//! PgBouncer beside the program: it signs in for all, and `pgaad passfile` keeps its tokens fresh.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use emulator::{APP_ONE, PATIENCE, PgBouncer, Redis};

use super::page::{block, says};
use super::stage::{SERVER, Script, Stage, staying, token_in};
use crate::harness::{Driver, Session, is_root, signed_in};

/// A PgBouncer that does not run yet, and the commands of the page for it.
struct Pooler<'a> {
    stage: &'a Stage,
    bouncer: PgBouncer,
}

impl<'a> Pooler<'a> {
    fn new(stage: &'a Stage) -> Self {
        let bouncer = PgBouncer::new();
        let ca_file = std::fs::read_to_string(stage.emulator.ca_file()).expect("our own file");
        bouncer.write("ca.pem", &ca_file);
        Self { stage, bouncer }
    }

    fn userlist(&self) -> PathBuf {
        self.bouncer.dir().join("userlist.txt")
    }

    fn block(&self, name: &str) -> String {
        self.stage.block(name).replace("/run/pgbouncer", &self.bouncer.dir().display().to_string())
    }

    /// Runs a script as the user that the server runs as, who alone can read its files and signal it.
    fn run_as_owner(&self, script: &str) -> Script {
        self.stage.run(script, |command| {
            command.env("PGAAD_CA_FILE", self.bouncer.dir().join("ca.pem")).current_dir("/");
            if is_root() {
                let owner = self.bouncer.dir().metadata().expect("our own folder");
                command.uid(owner.uid()).gid(owner.gid());
            }
        })
    }

    /// Starts the server with the page's settings, and perhaps others.
    fn launch(&mut self, more: &[&str]) {
        let name = format!("host={}", SERVER);
        let blocks = [&["pgbouncer_ini"], more].concat();
        let settings: String = blocks.iter().map(|name| self.block(name)).collect();
        self.bouncer.launch(|port| {
            settings
                .replace(&name, "host=localhost")
                .replace("listen_port = 6432", &format!("listen_port = {port}"))
        });
    }

    /// What a program of the page does that connects through the server.
    fn through(&self, block: &str) -> Script {
        let script = self.block(block).replace("6432", &self.bouncer.port().to_string());
        self.stage.run(&script, |command| {
            for name in ["PGHOSTADDR", "PGPORT", "PGSSLROOTCERT"] {
                command.env_remove(name);
            }
        })
    }

    /// Where programs find its socket.
    fn conninfo(&self) -> String {
        let (dir, port) = (self.bouncer.dir().display(), self.bouncer.port());
        format!("host={dir} port={port} dbname=app user={}", APP_ONE.role)
    }
}

/// A program that calls pgaad, and its first connection.
fn program(driver: Driver, conninfo: &str) -> Session {
    let mut session = driver.session();
    session.ask(&["new", ""]);
    let line = session.one(&["client_connect", conninfo]);
    assert_eq!(line.get("conn"), "OK", "{line:?}");
    session
}

#[track_caller]
fn assert_signed_in(session: &mut Session) {
    assert_eq!(session.one(&["query", "SELECT current_user"]).get("value"), APP_ONE.role);
}

#[test]
fn a_pooler_signs_in_again_when_its_first_token_has_ended() {
    // Its own, and the program's.
    let stage = Stage::new(2);
    let mut pooler = Pooler::new(&stage);
    let mut watcher = pooler.run_as_owner(&staying(&pooler.block("pgbouncer_watch")));
    let first = watcher.wait_for_token(&pooler.userlist(), "");
    pooler.launch(&[]);
    // A program that calls pgaad goes through it too, and keeps its connection all the time.
    let socket = pooler.bouncer.dir().as_os_str().to_owned();
    let driver = signed_in(&stage.emulator).env("PGAAD_ALLOW_PLAINTEXT", socket);
    let mut session = program(driver, &pooler.conninfo());
    assert_signed_in(&mut session);
    assert_eq!(stage.uses(&first), 1);

    stage.outlive(std::slice::from_ref(&first));
    let second = watcher.wait_for_token(&pooler.userlist(), &first);
    let is_told = pooler.bouncer.wait_for_log(|log| log.contains("got SIGHUP"), PATIENCE);
    assert!(is_told, "{}", watcher.log());
    assert_signed_in(&mut session);
    // The connection to the server is the program's as long as that is connected, so that psql gets another.
    pooler.through("pgbouncer_psql").assert_ends_well("psql");
    assert_eq!((stage.uses(&first), stage.uses(&second)), (1, 1));
}

#[test]
fn a_pooler_that_asks_for_the_token_lets_in_who_has_the_same() {
    let stage = Stage::lasting();
    let mut pooler = Pooler::new(&stage);
    let redis = Redis::start();
    let cache = redis.url();
    let watch = staying(&pooler.block("pgbouncer_watch"));
    let mut watcher = pooler.run_as_owner(&format!("export PGAAD_CACHE={cache}\n{watch}"));
    watcher.wait_for_token(&pooler.userlist(), "");
    pooler.launch(&["pgbouncer_plain"]);
    let port = pooler.bouncer.port();
    let by_tcp =
        format!("host=pgbouncer.example.com hostaddr=127.0.0.1 port={port} dbname=app user={}", APP_ONE.role);
    let by_socket = pooler.conninfo();
    let driver = || signed_in(&stage.emulator).env("PGAAD_CACHE", &cache);
    let over_tls = |driver: Driver| {
        let roots = pooler.bouncer.dir().join("client-ca.pem");
        driver.env("PGAAD_SERVER_HOSTS", "pgbouncer.example.com").env("PGSSLROOTCERT", roots)
    };
    let in_plain = |driver: Driver| driver.env("PGAAD_ALLOW_PLAINTEXT", pooler.bouncer.dir());
    let rows: [(Driver, &str); 2] = [(in_plain(driver()), &by_socket), (over_tls(driver()), &by_tcp)];
    for (driver, conninfo) in rows {
        // Who fetches a token of its own shows the pooler one that it does not know.
        let alone = driver.clone().env("PGAAD_CACHE", "memory").one(&["connect", conninfo]);
        assert!(alone.errmsg().contains("password authentication failed"), "{alone:?}");
        assert_signed_in(&mut program(driver, conninfo));
    }
}

#[test]
fn a_token_that_is_too_long_for_the_pooler_is_none() {
    const TOO_LONG: &str = "password too long in auth file";
    const EMPTY: &str = "empty password returned by client";
    const UNKNOWN: &str = "\"trust\" authentication failed";
    assert!([TOO_LONG, EMPTY, UNKNOWN].iter().all(|message| says(message)));
    let stage = Stage::lasting();
    let mut pooler = Pooler::new(&stage);
    let watch = pooler.block("pgbouncer_watch");
    let (write, _) = watch.split_once("--watch").expect("a command that stays");
    let size = |bytes: usize| stage.emulator.entra().configure(|config| config.token_size = bytes);
    // So many bytes, or up to two more.
    size(2045);
    pooler.run_as_owner(write).assert_ends_well("pgaad passfile");
    let token = token_in(&pooler.userlist()).expect("a token");
    assert!((2045..=2047).contains(&token.len()));
    pooler.launch(&[]);
    pooler.through("pgbouncer_psql").assert_ends_well("psql");
    assert_eq!(stage.uses(&token), 1);

    size(2048);
    pooler.run_as_owner(&watch.replace("--watch", "")).assert_ends_well("pgaad passfile");
    let left = |log: &str| log.contains(TOO_LONG) && log.contains("database configuration changed");
    assert!(pooler.bouncer.wait_for_log(left, PATIENCE));
    pooler.through("pgbouncer_psql").assert_fails(EMPTY);
    // To a new one the user is unknown.
    pooler.launch(&[]);
    assert!(pooler.bouncer.log().contains(TOO_LONG));
    pooler.through("pgbouncer_psql").assert_fails(UNKNOWN);
    assert_eq!(stage.postgres.binds().len(), 1);
}

#[test]
fn the_poolers_unit_runs_the_same_command() {
    let words =
        |text: &str| text.replace("\\\n", " ").split_whitespace().map(String::from).collect::<Vec<_>>();
    let unit = block("pgbouncer_unit");
    let (_, rest) = unit.split_once("ExecStart=/usr/bin/").expect("a command");
    let (command, _) = rest.split_once("\nRestart=").expect("its end");
    assert_eq!(words(command), words(&block("pgbouncer_watch")));
}
