//! Node, PHP, Ruby, Perl and Lua, by nothing but their FFI: `examples/<language>`, each with its usual driver.
//!
//! `tests/scripts/driver.*` take commands for the reusable file of each language, as `tests/c/driver.c` does for C.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use emulator::{APP_ONE, Emulator, Endpoint, Fault, Gate, IDENTITY_ONE, Imds, PATIENCE, Postgres};

use crate::harness::{
    self, Driver, Session, assert_fails, assert_refused, c_dir, each, ground, is_one_clear_line,
    readme_blocks, wait_until,
};

struct Language {
    /// What runs it.
    command: &'static [&'static str],
    /// Below `examples`.
    program: &'static str,
    /// Below `tests/scripts`.
    driver: &'static str,
    /// How README marks its programs.
    fence: &'static str,
    /// What its errors are.
    class: &'static str,
    /// What it says of a library that is missing.
    missing: &'static str,
}

const NODE: Language = Language {
    command: &["node"],
    program: "node/pool.js",
    driver: "driver.js",
    fence: "js",
    class: "PgaadError",
    missing: "ERR_DLOPEN_FAILED",
};

const RUBY: Language = Language {
    command: &["ruby", "-w"],
    program: "ruby/connect.rb",
    driver: "driver.rb",
    fence: "ruby",
    class: "Pgaad::Error",
    missing: "LoadError",
};

/// PHP shows in its traces as much as it can.
const PHP: Language = Language {
    command: &["php", "-d", "zend.exception_ignore_args=0"],
    program: "php/connect.php",
    driver: "driver.php",
    fence: "php",
    class: r"Pgaad\Exception",
    missing: r"FFI\Exception",
};

const PERL: Language = Language {
    command: &["perl"],
    program: "perl/connect.pl",
    driver: "driver.pl",
    fence: "perl",
    class: "PgAad::Error",
    missing: "died",
};

/// Its functions return nil.
const LUA: Language = Language {
    command: &["luajit"],
    program: "lua/connect.lua",
    driver: "driver.lua",
    fence: "lua",
    class: "nil",
    missing: "string",
};

const LANGUAGES: [Language; 5] = [NODE, PHP, RUBY, PERL, LUA];

const WHO: &str = "select current_user || ' ' || ssl::text from pg_stat_ssl where pid = pg_backend_pid()";

fn below(folder: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name)
}

/// Where `make test-node` put npm's packages.
fn node_modules() -> PathBuf {
    let found =
        c_dir().ancestors().map(|dir| dir.join("node/node_modules")).find(|dir| dir.join("koffi").exists());
    found.expect("npm's packages: run make test-node")
}

impl Language {
    /// The driver, with the library that cargo just built.
    fn driver(&self, env: Vec<(String, OsString)>) -> Driver {
        let driver = Driver::new().envs(env).env("LD_LIBRARY_PATH", c_dir()).env("NODE_PATH", node_modules());
        driver.under(self.command).instead(below("tests/scripts", self.driver))
    }

    fn session(&self, env: Vec<(String, OsString)>) -> Session {
        self.driver(env).session_of(&[])
    }

    /// A session with a client of these settings.
    fn client(&self, env: Vec<(String, OsString)>, settings: &str) -> Session {
        let mut session = self.session(env);
        assert_eq!(session.one(&["new", settings]).get("value"), "made", "{}", self.program);
        session
    }

    fn program(&self, arguments: &[&str], env: Vec<(String, OsString)>) -> Program {
        let mut command = Command::new(self.command[0]);
        command.args(&self.command[1..]).arg(below("examples", self.program)).args(arguments).env_clear();
        command.envs([("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/nonexistent"), ("LC_ALL", "C")]);
        command.env("LD_LIBRARY_PATH", c_dir()).env("NODE_PATH", node_modules()).envs(env);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Program(piped.spawn().expect("it starts"))
    }
}

/// An example under way, which waits for statements.
struct Program(Child);

impl Program {
    fn say(&mut self, sql: &str) {
        // It may be gone already, which is for `end` to tell.
        let _ = writeln!(self.0.stdin.as_mut().expect("a pipe"), "{sql}");
    }

    /// What it printed.
    fn end(self) -> Output {
        self.0.wait_with_output().expect("its output")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The environment of the first application and of its role.
fn env_of(emulator: &Emulator, postgres: &Postgres) -> Vec<(String, OsString)> {
    let no_imds = ("AZURE_POD_IDENTITY_AUTHORITY_HOST".to_owned(), Imds::NONE.into());
    [emulator.env(&APP_ONE), postgres.env(APP_ONE.role), vec![no_imds]].concat()
}

fn env() -> Vec<(String, OsString)> {
    env_of(&ground().emulator, &ground().postgres)
}

fn with(mut env: Vec<(String, OsString)>, name: &str, value: impl Into<OsString>) -> Vec<(String, OsString)> {
    env.retain(|(known, _)| known != name);
    env.push((name.to_owned(), value.into()));
    env
}

/// Whether this password is let in, as psql sees it.
fn is_let_in(postgres: &Postgres, password: &str) -> bool {
    let mut psql = Command::new("psql");
    psql.args(["-XAtqc", "select 1"]).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    psql.envs(postgres.env(APP_ONE.role)).env("PGSSLMODE", "verify-full").env("PGPASSWORD", password);
    psql.stdin(Stdio::null()).output().expect("psql starts").status.success()
}

#[test]
fn each_program_lives_through_an_expiring_token() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.lifetime = 10);
    let postgres = Postgres::start(&emulator);
    let mut programs =
        LANGUAGES.each_ref().map(|language| language.program(&[], env_of(&emulator, &postgres)));
    for program in &mut programs {
        program.say(WHO);
        // A pool keeps the connection until the server ends it.
        program.say("select pg_terminate_backend(pg_backend_pid())");
    }
    let all = |binds: &[emulator::Bind]| binds.iter().filter(|bind| bind.ok()).count() >= 9;
    assert!(postgres.wait_for_binds(all, PATIENCE), "{:?}", postgres.binds());

    let old = emulator.entra().tokens();
    assert_eq!(old.len(), LANGUAGES.len());
    let ends = |token: &String| emulator::claims(token).expect("a token")["exp"].as_i64().expect("a time");
    let last = old.iter().map(ends).max().expect("five");
    wait_until("the tokens' end", || harness::unix_now() > last);
    assert!(!old.iter().any(|token| is_let_in(&postgres, token)));
    assert!(is_let_in(&postgres, &emulator.entra().mint(&APP_ONE)));

    for (mut program, language) in programs.into_iter().zip(&LANGUAGES) {
        program.say(WHO);
        let output = program.end();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(out, "app-one true\napp-one true\n", "{}: {err}", language.program);
        assert!(err.contains("terminating connection"), "{}: {err}", language.program);
        assert!(output.status.success(), "{}", language.program);
    }
    let tokens = emulator.entra().tokens();
    let fresh: Vec<_> = tokens.iter().filter(|token| !old.contains(token)).collect();
    assert_eq!(fresh.len(), LANGUAGES.len());
}

#[test]
fn each_program_says_what_is_wrong() {
    let wrong_secret = with(env(), "PGAAD_CLIENT_SECRET", "wrong");
    let no_library = with(env(), "PGAAD_LIBRARY", "/nonexistent/libpgaad.so.0");
    let rows: [(&[&str], _, _); 4] = [
        (&[], wrong_secret, "pgaad: Entra refused the client secret"),
        (&[], no_library, "pgaad: cannot load /nonexistent/libpgaad.so.0"),
        (&["host=stranger.example"], env(), "pgaad: No token for stranger.example"),
        (&["user=nobody"], env(), "authentication failed for user \"nobody\""),
    ];
    each(&LANGUAGES, |language| {
        for (arguments, env, words) in &rows {
            let mut program = language.program(arguments, env.clone());
            program.say(WHO);
            let output = program.end();
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(out, "", "{}", language.program);
            assert!(err.contains(words), "{}: {err}", language.program);
        }
    });
}

#[test]
fn tokens_users_and_connection_strings() {
    each(&LANGUAGES, |language| {
        let mut session = language.client(env(), "");
        let token = session.one(&["token"]);
        assert_eq!(token.status(), "PGAAD_OK", "{}", language.driver);
        assert!(emulator::claims(token.get("value")).is_some(), "{token:?}");
        // The one that is here: no time is needed.
        assert_eq!(session.one(&["token", "0"]).get("value"), token.get("value"), "{}", language.driver);
        let line = session.one(&["connstring", "application_name='it''s' dbname=a"]);
        assert_refused(&line, "PGAAD_CONFIG", &["connection string"]);
        let line = session.one(&["connstring", r"application_name='it\'s a \\' dbname=postgres"]);
        assert!(line.get("value").contains(token.get("value")), "{}: {line:?}", language.driver);
        assert_eq!(session.one(&["connect", r"application_name='it\'s a \\'"]).get("value"), "app-one");
        let port = ground().postgres.port();
        let uri = format!("postgresql://app-one@localhost:{port}/postgres?application_name=%27%5C");
        assert_eq!(session.one(&["connect", &uri]).get("value"), "app-one", "{}", language.driver);

        assert_refused(&session.one(&["user"]), "PGAAD_CONFIG", &["PGUSER"]);
        let imds = Endpoint::start(&ground().emulator, Imds);
        imds.configure(|has| (has.system, has.user_assigned) = (None, vec![&IDENTITY_ONE]));
        let vm = [imds.env(), ground().emulator.env(&APP_ONE)].concat();
        let vm =
            vm.into_iter().filter(|(name, _)| !name.contains("CLIENT") && !name.contains("TENANT")).collect();
        let mut session = language.client(vm, "auth=managed_identity");
        assert_eq!(session.one(&["user"]).get("value"), IDENTITY_ONE.role, "{}", language.driver);
    });
}

#[test]
fn errors_are_of_the_languages_own_kind() {
    let rows = [
        ("clientid=1", "PGAAD_CONFIG", "did you mean client_id?"),
        ("auth=off", "PGAAD_DISABLED", "auth=off"),
        ("client_secret=wrong", "PGAAD_DENIED", "AADSTS7000215"),
    ];
    each(&LANGUAGES, |language| {
        for (settings, status, words) in rows {
            let mut session = language.session(env());
            let made = session.one(&["new", settings]);
            let line = if made.status() == "PGAAD_OK" { session.one(&["token"]) } else { made };
            assert_refused(&line, status, &[words]);
            assert_eq!(line.get("class"), language.class, "{}", language.driver);
        }
        let mut session = language.client(env(), "");
        assert_refused(&session.one(&["token", "0"]), "PGAAD_TIMEOUT", &[]);
    });
}

#[test]
fn the_token_service_is_down_and_comes_back() {
    each(&LANGUAGES, |language| {
        let emulator = Emulator::start();
        let mut session = language.client(env_of(&emulator, &ground().postgres), "timeout_ms=2000");
        emulator.entra().faults().always(Fault::close());
        let line = session.one(&["connect", ""]);
        assert!(["PGAAD_NETWORK", "PGAAD_TIMEOUT"].contains(&line.status()), "{}: {line:?}", language.driver);
        assert!(is_one_clear_line(&line, line.status()), "{line:?}");
        emulator.entra().faults().clear();
        wait_until("a token", || session.one(&["token"]).status() == "PGAAD_OK");
        // While it lives, nobody needs the service.
        emulator.entra().faults().always(Fault::close());
        assert_eq!(session.one(&["token"]).status(), "PGAAD_OK", "{}", language.driver);
    });
}

#[test]
fn a_stranger_as_host_gets_no_token() {
    let emulator = Emulator::start();
    let port = ground().postgres.port();
    each(&LANGUAGES, |language| {
        let mut session = language.client(env_of(&emulator, &ground().postgres), "");
        for conninfo in [
            "host=stranger.example",
            "host=localhost,stranger.example",
            "postgresql://stranger.example/postgres",
            "sslmode=disable",
        ] {
            for command in ["connstring", "connect"] {
                let line = session.one(&[command, conninfo]);
                assert_refused(&line, "PGAAD_INSECURE", &[]);
            }
        }
        // Whom the environment names counts as well.
        let mut session =
            language.client(with(env_of(&emulator, &ground().postgres), "PGHOST", "stranger.example"), "");
        assert_refused(&session.one(&["connect", ""]), "PGAAD_INSECURE", &["stranger.example"]);
    });
    assert_eq!(emulator.entra().counters().requests, 0);

    // A server that cannot prove who it is: by another authority, by another name.
    each(&LANGUAGES, |language| {
        let stranger = ground().emulator.stranger_ca_file().display().to_string();
        let settings = "server_hosts=other.example";
        let env = with(env(), "NODE_TLS_REJECT_UNAUTHORIZED", "0");
        let mut session = language.client(env, settings);
        let token = session.one(&["token"]).get("value").to_owned();
        for (conninfo, words) in [
            (format!("sslrootcert={stranger}"), "certificate"),
            (format!("host=other.example hostaddr=127.0.0.1 port={port}"), "certificate"),
            (format!("hostaddr=127.0.0.1 port={port} host=''"), "host name"),
        ] {
            let line = session.one(&["connect", &conninfo]);
            assert_ne!(line.status(), "PGAAD_OK", "{} with {conninfo}", language.driver);
            assert!(line.errmsg().contains(words), "{}: {line:?}", language.driver);
        }
        assert_eq!(ground().uses_of(&token), []);
        // And one that can, at an address that is given.
        for host in ["localhost", "127.0.0.1"] {
            let line = session.one(&["connect", &format!("host={host} hostaddr=127.0.0.1 port={port}")]);
            assert_eq!(line.get("value"), "app-one", "{}: {line:?}", language.driver);
        }
    });
}

#[test]
fn in_php_a_token_outlives_the_request_that_fetched_it() {
    let mut session = PHP.session(env());
    session.one(&["default"]);
    let token = session.one(&["token"]);
    session.one(&["default"]); // the one before is destroyed
    assert_eq!(session.one(&["token", "0"]).get("value"), token.get("value"));
    session.one(&["new", ""]);
    assert_eq!(session.one(&["token", "0"]).status(), "PGAAD_TIMEOUT");
}

/// node-postgres is not built on libpq: what it is told is translated.
#[test]
fn in_node_a_pool_stays_where_it_was_judged_to_be() {
    let mut session = NODE.client(env(), "");
    assert_eq!(session.one(&["steady"]).get("value"), "app-one,app-one,app-one,2");

    let socket = ground().postgres.socket_dir().display().to_string();
    let mut session = NODE.client(env(), "");
    for (conninfo, words) in [
        ("host=localhost,127.0.0.1", "lists of hosts"),
        ("target_session_attrs=read-write", "target_session_attrs"),
        (&format!("host={socket} requirepeer=postgres"), "requirepeer"),
    ] {
        assert_refused(&session.one(&["connect", conninfo]), "PGAAD_CONFIG", &["node-postgres", words]);
    }
}

#[test]
fn without_entra_it_is_the_driver_as_ever() {
    each(&LANGUAGES, |language| {
        let mut session = language.client(ground().postgres.env(APP_ONE.role), "auth=off");
        let password = ground().emulator.entra().mint(&APP_ONE); // what the server takes for one
        let line = session.one(&["connect", &format!("sslmode=require password={password}")]);
        assert_eq!(line.get("value"), "app-one", "{}: {line:?}", language.driver);
    });
}

#[test]
fn a_library_that_is_missing_or_another_one_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = |name: &str, library: &Path| {
        let path = folder.path().join(name);
        std::fs::copy(library, &path).expect("a copy");
        path.display().to_string()
    };
    let old = copy("libpgaad.so.0", &harness::shim("old_version"));
    let other = copy("libother.so.0", &harness::shim("clock"));
    let rows = [
        ("/nonexistent/libpgaad.so.0".to_owned(), "cannot load"),
        (old, "is version 0.0.1, and 0.1.0 is needed"),
        (other, ""),
    ];
    each(&LANGUAGES, |language| {
        for (path, words) in &rows {
            let line = language.driver(with(env(), "PGAAD_LIBRARY", path)).one(&[]);
            assert_fails(&line, language.missing, &[path, words, "PGAAD_LIBRARY"]);
        }
    });
}

#[test]
fn nothing_that_a_program_may_log_holds_a_secret() {
    each(&LANGUAGES, |language| {
        let mut session = language.client(env(), "");
        let token = session.one(&["token"]).get("value").to_owned();
        let secret = ground().emulator.entra().secret(&APP_ONE);
        assert_ne!(session.one(&["connstring", "password=hunter2 host"]).status(), "PGAAD_OK");
        for conninfo in
            ["user=nobody", "bogus=1", "user=nobody password=hunter2", "password=hunter2 sslmode=no"]
        {
            let seen = session.one(&["inspect", conninfo]);
            assert!(
                seen.status() == "PGAAD_OK" && seen.0.contains("pgaad: "),
                "{}: {seen:?}",
                language.driver
            );
            for secret in [&token, &secret, "hunter2"] {
                assert!(!seen.0.contains(secret), "{} shows {secret} in {seen:?}", language.driver);
            }
        }
    });
}

/// More than libuv has threads, on the same client; the loop, its files and its names go on.
#[test]
fn nothing_else_waits_in_node_and_ruby_while_the_token_service_hangs() {
    each(&[NODE, RUBY], |language| {
        let emulator = Emulator::start();
        let gate = Gate::new();
        emulator.entra().faults().next(Fault::gate(&gate));
        let mut session = language.client(env_of(&emulator, &ground().postgres), "");
        assert_eq!(session.one(&["hang", "40"]).get("value"), "0", "{}", language.driver);
        gate.wait_for_arrivals(1);
        gate.open();
        let different = if language.driver == NODE.driver { "2" } else { "1" }; // connection strings and tokens
        assert_eq!(session.one(&["join"]).get("value"), different, "{}", language.driver);
        assert_eq!(emulator.entra().counters().requests, 1);
    });
}

#[test]
fn the_programs_are_short_and_in_the_readme() {
    for language in &LANGUAGES {
        let program = std::fs::read_to_string(below("examples", language.program)).expect("a program");
        let lines = program.lines().count();
        assert!(lines <= 40, "{} has {lines} lines", language.program);
        assert!(readme_blocks(language.fence).contains(&program.as_str()), "{}", language.program);
    }
}
