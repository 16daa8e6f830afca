//! `pgaad exec`: programs that nobody can change sign in, are none the wiser, and leave nothing behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use emulator::{APP_ONE, DEVELOPER, Emulator, Fault, Gate, Postgres, Tool};
use tempfile::TempDir;

use crate::harness::{
    self, Driver, compile, conninfo, each, ground, install, is_root, signed_in, unix_now, wait_until,
};
use crate::process::{Ended, Process, state};

/// A user's own directories, with nothing in them.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("run")).expect("a folder");
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// What is in the directory for files of running programs.
    fn left_behind(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path().join("run")).expect("our own folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// The command in this environment, and its files here.
    pub fn pgaad(&self, driver: Driver) -> Driver {
        driver
            .env("PATH", std::env::var_os("PATH").expect("a PATH"))
            .env("XDG_RUNTIME_DIR", self.path().join("run"))
            .instead(harness::command().to_owned())
    }

    /// Starts a shell script under `pgaad exec`, which knows this directory as $HERE.
    fn script(&self, driver: &Driver, script: &str) -> Process {
        self.exec(driver, &[], &["sh", "-c", script])
    }

    fn exec(&self, driver: &Driver, options: &[&str], program: &[&str]) -> Process {
        let driver = self.pgaad(driver.clone()).env("HERE", self.path());
        Process::start(driver.command(&[&[&["exec"], options, &["--"], program].concat()]))
    }
}

/// A driver that signs in, and names a server that nobody calls.
pub fn at_server(emulator: &Emulator) -> Driver {
    let server = [("PGHOST", "localhost"), ("PGPORT", "5433"), ("PGUSER", "app-one")];
    server.into_iter().fold(signed_in(emulator), |driver, (name, value)| driver.env(name, value))
}

fn requests(emulator: &Emulator) -> usize {
    emulator.entra().requests().len()
}

/// `NAME=value` lines.
fn variable<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn psql_signs_in_to_the_judged_server_and_to_no_other() {
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    let (home, driver) = (Home::new(), signed_in(&emulator).envs(postgres.env(APP_ONE.role)));
    let query = ["psql", "-XAtc", "select current_user"];
    assert_eq!(home.exec(&driver, &[], &query).end().output(), "app-one\n");
    assert_eq!(postgres.binds().len(), 1);
    // By a conninfo as well, whatever form it has.
    let uri = format!("postgresql://app-one@localhost:{}/postgres", postgres.port());
    let bare = ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE"].into_iter().fold(driver.clone(), Driver::without);
    assert_eq!(home.exec(&bare, &["--conninfo", &uri], &query).end().output(), "app-one\n");
    assert_eq!(postgres.binds().len(), 2);
    // The program may turn elsewhere, but has no token there.
    let elsewhere = ["psql", "-h", "127.0.0.1", "-XwAtc", "select 1"];
    let ended = home.exec(&driver, &[], &elsewhere).end();
    assert!(ended.code() == Some(2) && ended.err.contains("no password supplied"), "{ended:?}");
    assert_eq!(postgres.binds().len(), 2);
    assert_eq!(home.left_behind(), <[PathBuf; 0]>::default());
}

#[test]
fn what_was_judged_stands_in_the_environment_and_the_token_in_a_private_file() {
    let emulator = Emulator::start();
    let home = Home::new();
    let service = home.path().join("services");
    fs::write(&service, "[s]\nhost=localhost\nport=6543\napplication_name=of_service\n").expect("a file");
    let driver = at_server(&emulator)
        .env("PGSERVICEFILE", &service)
        .env("PGSERVICE", "s")
        .env("PGREQUIRESSL", "0")
        .env("PGPASSWORD", "")
        .env("PGHOSTADDR", "127.0.0.1")
        .env("PGSSLMODE", "prefer")
        .env("PGPASSFILE", "/nonexistent");
    let given = ["--conninfo", "hostaddr='' dbname='a b' options='-c a=b' passfile=/elsewhere"];
    let script = "env; stat -c '%a' $PGPASSFILE $(dirname $PGPASSFILE); echo; cat $PGPASSFILE";
    let ended = home.exec(&driver, &given, &["sh", "-c", script]).end();
    let out = ended.output();
    let token = &emulator.entra().tokens()[0];
    for (name, value) in [
        ("PGHOST", Some("localhost")),
        ("PGPORT", Some("6543")),
        ("PGHOSTADDR", None),
        ("PGDATABASE", Some("a b")),
        ("PGOPTIONS", Some("-c a=b")),
        ("PGAPPNAME", Some("of_service")),
        ("PGUSER", Some("app-one")),
        ("PGSSLMODE", Some("verify-full")),
        ("PGGSSENCMODE", Some("disable")),
        ("PGSERVICE", None),
        ("PGREQUIRESSL", None),
        ("PGPASSWORD", None),
    ] {
        assert_eq!(variable(out, name), value, "{name}: {out}");
    }
    assert!(variable(out, "PGSSLROOTCERT").is_some_and(|roots| Path::new(roots).is_file()), "{out}");
    let passfile = Path::new(variable(out, "PGPASSFILE").expect("a file"));
    assert!(passfile.starts_with(home.path().join("run")) && !passfile.exists(), "{}", passfile.display());
    assert!(out.ends_with(&format!("\n600\n700\n\nlocalhost:6543:*:*:{token}\n")), "{out}");
    assert_eq!(out.matches(token.as_str()).count(), 1, "the token stands elsewhere too");
    assert_eq!(home.left_behind(), <[PathBuf; 0]>::default());
}

#[test]
fn each_server_has_its_line() {
    let emulator = Emulator::start();
    let home = Home::new();
    let hosts = "host=localhost,a.postgres.database.azure.com,,/run/a:b,/tmp hostaddr=,,::1,, port=1,2,,4,5 requirepeer=x";
    let lines = |conninfo: &str| {
        let ended = home
            .exec(&at_server(&emulator), &["--conninfo", conninfo], &["sh", "-c", "cat $PGPASSFILE"])
            .end();
        let token = emulator.entra().tokens().pop().expect("a token");
        ended.output().replace(&token, "T")
    };
    let expected = "localhost:1:*:*:T\na.postgres.database.azure.com:2:*:*:T\n\\:\\:1:5432:*:*:T\n\
                    /run/a\\:b:4:*:*:T\n/tmp:5:*:*:T\nlocalhost:5:*:*:T\n";
    assert_eq!(lines(hosts), expected);
    assert_eq!(lines("host=localhost,127.0.0.1 port=7"), "localhost:7:*:*:T\n127.0.0.1:7:*:*:T\n");
}

#[test]
fn psql_signs_in_over_a_socket_that_is_vouched_for() {
    let (ground, home) = (ground(), Home::new());
    let socket = ground.postgres.socket_dir();
    let given =
        conninfo(&[("host", socket.to_str().expect("a path")), ("requirepeer", &ground.postgres.owner())]);
    let query = ["psql", "-XAtc", "select current_user"];
    let ended = home.exec(&ground.driver(&APP_ONE), &["--conninfo", &given], &query).end();
    assert_eq!(ended.output(), "app-one\n");
}

#[test]
fn what_is_refused_starts_nothing() {
    let emulator = Emulator::start();
    type Row<'a> = (&'a str, harness::Pairs<'a>, i32, &'a str);
    let rows: &[Row<'_>] = &[
        ("host=elsewhere.example", &[], 10, "elsewhere.example"),
        ("host=localhost,elsewhere.example", &[], 10, "elsewhere.example"),
        ("sslmode=disable", &[], 10, "sslmode=disable"),
        ("host=/run/postgresql", &[("PGAAD_AUTH", "client_secret")], 10, "requirepeer"),
        ("gssencmode=require", &[], 2, "gssencmode"),
        ("keepalives_idle=5", &[], 2, "keepalives_idle has no environment variable"),
        ("hunter2=x", &[], 2, "not shown"),
        ("host", &[], 2, "cannot be read"),
        ("service=none", &[], 2, "none"),
        // Programs would read it anew, and its options before those that protect the token.
        ("dbname='dbname=postgres sslmode=disable'", &[], 2, "dbname (PGDATABASE)"),
        ("", &[("PGDATABASE", "postgresql:///postgres?sslmode=disable")], 2, "dbname (PGDATABASE)"),
        ("host='a\nb'", &[("PGAAD_SERVER_HOSTS", "*")], 2, "line break"),
        ("", &[("PGAAD_TENANT_ID", ""), ("PGAAD_AUTH", "client_secret")], 2, "PGAAD_TENANT_ID"),
    ];
    each(rows, |(given, variables, code, words)| {
        let home = Home::new();
        let driver =
            variables.iter().fold(at_server(&emulator), |driver, (name, value)| driver.env(*name, *value));
        let ended = home.exec(&driver, &["--conninfo", given], &["sh", "-c", "touch $HERE/started"]).end();
        let message = ended.message(*code);
        assert!(message.contains(words) && !message.contains("hunter2"), "{given}: {message}");
        assert!(!home.path().join("started").exists(), "{given}: it was started");
        assert_eq!(home.left_behind(), <[PathBuf; 0]>::default(), "{given}");
    });
    assert_eq!(requests(&emulator), 0);
    // Nor without a token.
    emulator.entra().faults().always(Fault::status(401, "invalid_client", 7000215));
    let home = Home::new();
    let ended = home.script(&at_server(&emulator), "touch $HERE/started").end();
    assert!(ended.message(5).contains("AADSTS7000215"), "{ended:?}");
    assert!(!home.path().join("started").exists() && home.left_behind().is_empty());
}

#[test]
fn it_ends_as_the_program_does() {
    let emulator = Emulator::start();
    let cases =
        ["exit 0", "exit 7", "exit 255", "kill -TERM $$", "kill -KILL $$", "kill -HUP $$", "kill -SEGV $$"];
    for (entra, off) in [("on", false), ("off", true)] {
        each(&cases, |script| {
            let home = Home::new();
            let driver = at_server(&emulator);
            let driver = if off { driver.env("PGAAD_AUTH", "off") } else { driver };
            // A shell may leave an image of its memory, where the machine lets it; this command never does.
            let expected =
                std::process::Command::new("sh").args(["-c", script]).current_dir(home.path()).status();
            let expected = expected.expect("a shell");
            let driver = driver.under(&["sh", "-c", "cd $HERE; ulimit -c unlimited; exec \"$@\"", "sh"]);
            let ended = home.exec(&driver, &[], &["sh", "-c", script]).end();
            let how = (ended.code(), ended.signal());
            assert_eq!(how, (expected.code(), expected.signal()), "{script}, {entra}");
            assert!(!ended.status.core_dumped(), "{script}, {entra}");
            assert_eq!(ended.err, "", "{script}, {entra}");
            assert_eq!(home.left_behind(), <[PathBuf; 0]>::default(), "{script}, {entra}");
        });
    }
}

#[test]
fn a_program_that_is_not_there_or_cannot_run_is_named() {
    let emulator = Emulator::start();
    let home = Home::new();
    let text = home.path().join("text");
    fs::write(&text, "no program").expect("a file");
    fs::set_permissions(&text, Permissions::from_mode(0o644)).expect("its mode");
    let (text, folder) = (text.to_str().expect("a path"), home.path().to_str().expect("a path"));
    for auth in ["auto", "off"] {
        let driver = at_server(&emulator).env("PGAAD_AUTH", auth);
        for (program, code) in [("no-such-program", 127), ("/nonexistent/x", 127), (text, 126), (folder, 126)]
        {
            let ended = home.exec(&driver, &[], &[program]).end();
            assert!(ended.message(code).contains(program), "{ended:?}");
            assert_eq!(home.left_behind(), <[PathBuf; 0]>::default(), "{program}");
        }
    }
    // As execvp(3) has it.
    fs::write(text, "echo no shebang").expect("a file");
    fs::set_permissions(text, Permissions::from_mode(0o755)).expect("its mode");
    let copy = home.path().join("copy");
    install("755", Path::new(text), &copy);
    let ended = home.exec(&at_server(&emulator), &[], &[copy.to_str().expect("a path")]).end();
    assert_eq!(ended.output(), "no shebang\n");
}

/// A script that says which signals it gets, until USR2.
const LISTENING: &str = "for s in HUP INT QUIT TERM USR1 WINCH CONT TSTP ALRM RTMIN+3; do trap \"echo $s\" $s; done; \
                         trap 'echo USR2; exit 5' USR2; echo ready; while :; do sleep 0.05 & wait $!; done";

#[test]
fn signals_are_passed_on() {
    let emulator = Emulator::start();
    let home = Home::new();
    let program = home.exec(&at_server(&emulator), &[], &["bash", "-c", LISTENING]);
    program.wait_for_out("ready\n");
    let signals = [
        (libc::SIGHUP, "HUP"),
        (libc::SIGINT, "INT"),
        (libc::SIGQUIT, "QUIT"),
        (libc::SIGTERM, "TERM"),
        (libc::SIGUSR1, "USR1"),
        (libc::SIGWINCH, "WINCH"),
        (libc::SIGCONT, "CONT"),
        (libc::SIGTSTP, "TSTP"),
        (libc::SIGALRM, "ALRM"),
        (libc::SIGRTMIN() + 3, "RTMIN+3"),
    ];
    let mut said = "ready\n".to_string();
    for (signal, name) in signals {
        program.signal(signal);
        said.push_str(&format!("{name}\n"));
        wait_until(name, || program.out() == said);
    }
    program.signal(libc::SIGUSR2);
    let ended = program.end();
    assert_eq!((ended.code(), ended.out), (Some(5), format!("{said}USR2\n")));
    assert_eq!(home.left_behind(), <[PathBuf; 0]>::default());
    // And what the program does not see to ends both.
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGUSR1] {
        let program = home.script(&at_server(&emulator), "echo ready; exec sleep 1000");
        program.wait_for_out("ready\n");
        program.signal(signal);
        let ended = program.end();
        assert_eq!((ended.signal(), ended.err.as_str()), (Some(signal), ""));
        assert_eq!(home.left_behind(), <[PathBuf; 0]>::default());
    }
}

#[test]
fn what_the_program_sends_to_its_group_it_gets_once() {
    let emulator = Emulator::start();
    let home = Home::new();
    let script = "trap 'echo TERM' TERM; trap 'echo USR1; exit 5' USR1; kill -TERM 0; echo sent; \
                  while :; do sleep 0.05 & wait $!; done";
    let program = home.exec(&at_server(&emulator).under(&["setsid"]), &[], &["sh", "-c", script]);
    program.wait_for_out("sent\n");
    program.signal(libc::SIGUSR1);
    let ended = program.end();
    assert_eq!((ended.code(), ended.out.as_str()), (Some(5), "TERM\nsent\nUSR1\n"));
}

/// The command at a terminal of its own, where a shell's script runs under it.
fn at_terminal(home: &Home, emulator: &Emulator, script: &str) -> harness::Session {
    let terminal = compile("terminal", &[]);
    let driver = home.pgaad(at_server(emulator)).env("HERE", home.path()).instead(terminal);
    let command = harness::command().to_str().expect("a path");
    let script = format!("exec >$HERE/log 2>&1; echo $$ $PPID >$HERE/ids; {script}");
    driver.session_of(&[command, "exec", "--", "bash", "-c", &script])
}

fn log(home: &Home) -> String {
    fs::read_to_string(home.path().join("log")).unwrap_or_default()
}

/// The program's process id, and that of the command.
fn ids(home: &Home) -> Vec<u32> {
    let text = fs::read_to_string(home.path().join("ids")).expect("a file");
    text.split_whitespace().map(|id| id.parse().expect("a number")).collect()
}

#[test]
fn keys_reach_the_program_once() {
    let emulator = Emulator::start();
    let home = Home::new();
    let mut terminal = at_terminal(&home, &emulator, LISTENING);
    wait_until("the program listens", || log(&home) == "ready\n");
    let mut said = "ready\n".to_string();
    // Ctrl-C, and Ctrl-\.
    for (key, name) in [("3", "INT"), ("28", "QUIT"), ("3", "INT")] {
        terminal.ask(&["key", key]);
        said.push_str(&format!("{name}\n"));
        wait_until(name, || log(&home) == said);
    }
    // What the command would have passed on by now comes before this.
    emulator::os::forward(ids(&home)[1], libc::SIGUSR2);
    assert_eq!(terminal.one(&["wait"]).0, "exited 5");
    assert_eq!(log(&home), format!("{said}USR2\n"));
    assert_eq!(home.left_behind(), <[PathBuf; 0]>::default());
    // A key that ends the program ends the command by the same signal.
    let home = Home::new();
    let mut terminal = at_terminal(&home, &emulator, "echo ready; exec sleep 1000");
    wait_until("the program runs", || log(&home) == "ready\n");
    terminal.ask(&["key", "3"]);
    assert_eq!(terminal.one(&["wait"]).0, "killed 2");
    assert_eq!(home.left_behind(), <[PathBuf; 0]>::default());
}

#[test]
fn a_program_is_stopped_and_goes_on_with_its_shells_job() {
    let emulator = Emulator::start();
    // By the key, by itself, and by reading in the background.
    let rows = [
        ("sleep 0 ; read x; echo \"read $x\"; exit 3", true, "stopped 20"),
        ("kill -TSTP $$; read x; echo \"read $x\"; exit 3", false, "stopped 20"),
        ("kill -TTIN $$; read x; echo \"read $x\"; exit 3", false, "stopped 21"),
    ];
    each(&rows, |(script, by_key, how)| {
        let home = Home::new();
        let mut terminal = at_terminal(&home, &emulator, &format!("echo ready; {script}"));
        wait_until("the program runs", || log(&home) == "ready\n");
        if *by_key {
            terminal.ask(&["key", "26"]);
        }
        assert_eq!(terminal.one(&["wait"]).0, *how, "{script}");
        for process in ids(&home) {
            wait_until("both are stopped", || state(process) == Some('T'));
        }
        terminal.ask(&["fg"]);
        for process in ids(&home) {
            wait_until("both go on", || state(process) != Some('T'));
        }
        for key in ["97", "10"] {
            terminal.ask(&["key", key]);
        }
        assert_eq!(terminal.one(&["wait"]).0, "exited 3", "{script}");
        assert_eq!(log(&home), "ready\nread a\n");
    });
}

#[test]
fn the_program_starts_with_the_signals_and_descriptors_that_the_command_was_started_with() {
    let emulator = Emulator::start();
    let settings: [&[&str]; 5] = [
        &["env"],
        &["env", "--ignore-signal=HUP"],
        &["env", "--ignore-signal=PIPE,CHLD,INT,USR1", "--block-signal=USR2,TERM"],
        &["env", "--block-signal=CHLD,HUP,INT,TSTP"],
        &["sh", "-c", "exec 7</dev/null 9>/dev/null; exec \"$@\"", "sh"],
    ];
    // No shell, for some see to their own mask.
    let programs: [&[&str]; 2] =
        [&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"], &["ls", "/proc/self/fd"]];
    each(&settings, |wrapper| {
        let home = Home::new();
        let driver = at_server(&emulator).under(wrapper);
        for program in programs {
            let path = std::env::var_os("PATH").expect("a PATH");
            let direct = driver.clone().env("PATH", path).instead("/usr/bin/env".into());
            let direct = Process::start(direct.command(&[program])).end();
            let through = home.exec(&driver, &[], program).end();
            assert_eq!(
                without_the_librarys(through.output()),
                without_the_librarys(direct.output()),
                "{wrapper:?}"
            );
        }
        let blocked = home.exec(&driver, &[], programs[0]).end();
        let is_set = |key: &str| !blocked.output().contains(&format!("{key}:\t0000000000000000"));
        let (ignored, blocked) = (is_set("SigIgn"), is_set("SigBlk"));
        assert!(!wrapper.concat().contains("ignore") || ignored, "{wrapper:?}");
        assert_eq!(wrapper.concat().contains("block"), blocked, "{wrapper:?}");
    });
}

/// Signals 32 and 33 are the C library's, and nobody else can set them.
fn without_the_librarys(text: &str) -> String {
    let line = |line: &str| match line.split_once(":\t") {
        Some((key, set)) => {
            format!("{key} {:x}\n", u64::from_str_radix(set, 16).expect("a number") & !0x1_8000_0000)
        }
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn no_command_line_holds_a_token_and_only_password_env_the_environment() {
    let emulator = Emulator::start();
    let home = Home::new();
    for (options, is_there) in [(&[][..], false), (&["--password-env"][..], true)] {
        let mut program = home.exec(&at_server(&emulator), options, &["sh", "-c", "echo $$; read x; exit 0"]);
        program.wait_for_out("\n");
        let token = emulator.entra().tokens().pop().expect("a token");
        let id: u32 = program.out().trim().parse().expect("a number");
        for process in fs::read_dir("/proc").expect("proc").flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&line).contains(&token), "{}", process.path().display());
        }
        let environ = |id| {
            String::from_utf8_lossy(&fs::read(format!("/proc/{id}/environ")).expect("ours")).into_owned()
        };
        let held = format!("PGPASSWORD={token}");
        assert_eq!(environ(id).split('\0').any(|line| line == held), is_there, "{options:?}");
        assert_eq!(environ(id).contains(&token), is_there, "{options:?}");
        // The command's own is nobody's to read, but root's.
        let own = fs::read(format!("/proc/{}/environ", program.id()));
        assert!(own.map_or(!is_root(), |own| !String::from_utf8_lossy(&own).contains(&token)));
        program.close_stdin();
        assert_eq!(program.end().code(), Some(0));
    }
}

/// Tokens that live for so many seconds.
pub fn short_lived(seconds: i64) -> Emulator {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.lifetime = seconds);
    emulator
}

pub fn end_of(token: &str) -> i64 {
    emulator::claims(token).expect("a token")["exp"].as_i64().expect("a time")
}

#[test]
fn a_program_that_outlives_its_first_token_connects_with_a_newer_one() {
    let emulator = short_lived(8);
    let postgres = Postgres::start(&emulator);
    let home = Home::new();
    let query = "psql -XAtc 'select current_user'";
    let driver = signed_in(&emulator).envs(postgres.env(APP_ONE.role));
    let mut program = home.script(&driver, &format!("{query}; read x; {query}"));
    program.wait_for_out("app-one\n");
    let first = emulator.entra().tokens()[0].clone();
    wait_until("the first token has ended", || unix_now() > end_of(&first) + 1);
    program.close_stdin();
    assert_eq!(program.end().output(), "app-one\napp-one\n");
    let binds = postgres.binds();
    assert!(binds.len() == 2 && binds.iter().all(emulator::Bind::ok), "{binds:?}");
    assert_ne!(binds[0].uti, binds[1].uti);
}

#[test]
fn an_outage_is_said_once_and_the_living_token_stays() {
    let emulator = short_lived(6);
    let home = Home::new();
    let mut program = home.script(&at_server(&emulator), "echo $PGPASSFILE; read x; exit 0");
    program.wait_for_out("\n");
    let passfile = PathBuf::from(program.out().trim());
    let held = || fs::read_to_string(&passfile).expect("the file is always there");
    let first = emulator.entra().tokens()[0].clone();
    emulator.entra().faults().always(Fault::status(401, "invalid_client", 7000215));
    program.wait_for_err("could not be renewed");
    assert!(held().contains(&first));
    program.wait_for_err("has expired");
    assert!(held().contains(&first));
    let before = requests(&emulator);
    wait_until("it is tried again", || requests(&emulator) > before);
    emulator.entra().faults().clear();
    program.wait_for_err("renewed again");
    let said = program.err();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    for (line, words) in lines.iter().zip(["AADSTS7000215", "AADSTS7000215", "is renewed again."]) {
        assert!(line.starts_with("pgaad: ") && line.contains(words), "{said}");
    }
    assert!(!held().contains(&first));
    assert!(!emulator.entra().tokens().iter().any(|token| said.contains(token)));
    program.close_stdin();
    assert_eq!(program.end().code(), Some(0));
}

#[test]
fn what_a_killed_command_left_is_swept_away_and_a_living_ones_is_not() {
    let emulator = Emulator::start();
    let home = Home::new();
    let driver = at_server(&emulator);
    let mut living = home.script(&driver, "echo ready; read x");
    living.wait_for_out("ready\n");
    let of_living = home.left_behind();
    // Its program goes on without it, until it has nothing more to read.
    let killed = home.script(&driver, "echo ready; read x");
    killed.wait_for_out("ready\n");
    killed.signal(libc::SIGKILL);
    assert_eq!(killed.end().signal(), Some(libc::SIGKILL));
    assert_eq!(home.left_behind().len(), 2);
    // What only looks like one of ours stays.
    let other = home.path().join("run/pgaad-exec-link");
    std::os::unix::fs::symlink(home.path(), &other).expect("a link");
    assert_eq!(home.script(&driver, "exit 0").end().output(), "");
    let mut left = home.left_behind();
    left.retain(|path| *path != other);
    assert_eq!(left, of_living);
    living.close_stdin();
    assert_eq!(living.end().code(), Some(1));
}

#[test]
fn a_file_that_somebody_removes_is_there_again() {
    let emulator = Emulator::start();
    let home = Home::new();
    let mut program = home.script(&at_server(&emulator), "echo $PGPASSFILE; read x; exit 0");
    program.wait_for_out("\n");
    let passfile = PathBuf::from(program.out().trim());
    let held = fs::read(&passfile).expect("a file");
    let directory = passfile.parent().expect("a folder");
    fs::remove_file(&passfile).expect("ours");
    wait_until("the file is there again", || fs::read(&passfile).is_ok_and(|now| now == held));
    fs::remove_dir_all(directory).expect("ours");
    wait_until("both are there again", || fs::read(&passfile).is_ok_and(|now| now == held));
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o7777;
    assert_eq!((mode(directory), mode(&passfile)), (0o700, 0o600));
    // It is a living one's still.
    assert_eq!(home.script(&at_server(&emulator), "exit 0").end().output(), "");
    assert_eq!(fs::read(&passfile).expect("it stays"), held);
    program.close_stdin();
    assert_eq!(program.end().output(), format!("{}\n", passfile.display()));
    assert_eq!(home.left_behind(), <[PathBuf; 0]>::default());
}

#[test]
fn where_entra_is_off_the_program_runs_as_it_is() {
    let emulator = Emulator::start();
    let home = Home::new();
    let service = home.path().join("services");
    fs::write(&service, "[s]\nhost=db.example\npassword=of_service\n").expect("a file");
    let driver = at_server(&emulator)
        .without("PGHOST")
        .env("PGSERVICEFILE", &service)
        .env("PGPASSFILE", "/my/passfile")
        .env("PGPASSWORD", "mine");
    let script = ["sh", "-c", "env | grep '^PG[A-Z]*=' | sort"];
    let printed = |driver: &Driver, given: &str| {
        home.exec(driver, &["--conninfo", given, "--password-env"], &script).end().output().to_string()
    };
    let same = "PGPASSFILE=/my/passfile\nPGPASSWORD=mine\nPGPORT=5433\n";
    let files = format!("PGSERVICEFILE={}\n", service.display());
    for (auth, given, out) in [
        ("off", "", format!("{same}{files}PGUSER=app-one\n")),
        // A password is at hand.
        ("auto", "host=db.example user=me", format!("PGHOST=db.example\n{same}{files}PGUSER=me\n")),
        (
            "auto",
            "host=db.example password=p",
            format!("PGHOST=db.example\n{same}{files}PGUSER=app-one\n").replace("mine", "p"),
        ),
        // No host is named.
        ("auto", "dbname=d", format!("PGDATABASE=d\n{same}{files}PGUSER=app-one\n")),
        (
            "off",
            "service=s",
            format!("PGHOST=db.example\n{same}{files}PGUSER=app-one\n").replace("mine", "of_service"),
        ),
    ] {
        assert_eq!(printed(&driver.clone().env("PGAAD_AUTH", auth), given), out, "{given}");
    }
    assert_eq!(requests(&emulator), 0);
    assert_eq!(home.left_behind(), <[PathBuf; 0]>::default());
}

#[test]
fn the_user_is_the_named_one_else_the_tokens_else_the_programs_to_name() {
    let emulator = Emulator::start();
    let home = Home::new();
    let az = Tool::az(&emulator);
    let path = std::env::join_paths(
        [az.dir().to_path_buf()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").expect("a PATH"))),
    );
    let by_az = home.pgaad(Driver::new().env("PGHOST", "localhost").env("PGAAD_AUTH", "azure_cli"));
    let by_az = by_az.env("PATH", path.expect("a PATH"));
    let app = home.pgaad(at_server(&emulator)).without("PGUSER");
    let script = "echo user=$PGUSER";
    for (driver, given, user) in
        [(&by_az, "", DEVELOPER.role), (&by_az, "user=me", "me"), (&app, "", ""), (&app, "user=me", "me")]
    {
        let command = driver.command(&[&["exec", "--conninfo", given, "--", "sh", "-c", script]]);
        let ended = Process::start(command).end();
        assert_eq!(ended.output(), format!("user={user}\n"), "{given}");
    }
    let ended = Process::start(app.command(&[&["-v", "exec", "--", "sh", "-c", script]])).end();
    assert!(ended.out == "user=\n" && ended.err.contains("PGUSER"), "{ended:?}");
}

#[test]
fn a_signal_before_there_is_a_program_ends_the_command() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let (emulator, home, gate) = (Emulator::start(), Home::new(), Gate::new());
        emulator.entra().faults().always(Fault::gate(&gate));
        let program = home.script(&at_server(&emulator), "touch $HERE/started");
        gate.wait_for_arrivals(1);
        program.signal(signal);
        assert_eq!(program.end().signal(), Some(signal));
        gate.open();
        assert!(!home.path().join("started").exists() && home.left_behind().is_empty());
    }
}

#[test]
fn where_no_file_can_be_written_nothing_starts_and_nothing_is_left() {
    let emulator = Emulator::start();
    let home = Home::new();
    let limited = at_server(&emulator).under(&["sh", "-c", "ulimit -f 1; exec \"$@\"", "sh"]);
    let limited = limited.env("TMPDIR", home.path().join("run"));
    let ended = home.script(&limited, "touch $HERE/started").end();
    let message = ended.message(2);
    assert!(message.contains("File too large") && message.contains("TMPDIR"), "{message}");
    assert!(!home.path().join("started").exists());
    assert_eq!(home.left_behind(), <[PathBuf; 0]>::default());
}

#[test]
fn a_full_place_is_passed_over_for_the_next_one() {
    if !is_root() {
        return;
    }
    let emulator = Emulator::start();
    let home = Home::new();
    // Directories take memory too, so a page is left for them.
    let full = "mount -t tmpfs -o size=8k,mode=700 full $XDG_RUNTIME_DIR && head -c 8000 /dev/zero >$XDG_RUNTIME_DIR/x; \
                exec \"$@\"";
    let driver = at_server(&emulator).under(&["unshare", "--mount", "sh", "-c", full, "sh"]);
    let ended = home.script(&driver, "echo $PGPASSFILE; ls -A $XDG_RUNTIME_DIR").end();
    let out = ended.output();
    assert!(out.starts_with("/dev/shm/pgaad-exec-") && out.ends_with("/passfile\nx\n"), "{out}");
    assert!(!Path::new(out.lines().next().expect("a path")).parent().expect("a folder").exists());
}

#[test]
fn a_directory_that_is_not_ones_own_holds_no_file() {
    let emulator = Emulator::start();
    let home = Home::new();
    let run = home.path().join("run");
    for mode in [0o777, 0o770, 0o1777] {
        fs::set_permissions(&run, Permissions::from_mode(mode)).expect("its mode");
        let ended = home.script(&at_server(&emulator), "echo $PGPASSFILE").end();
        assert!(ended.output().starts_with("/dev/shm/pgaad-exec-"), "{mode:o}: {ended:?}");
    }
}

/// Runs the command as the first process of a container.
fn as_first(home: &Home, emulator: &Emulator, script: &str) -> Ended {
    let driver = at_server(emulator).under(&["unshare", "--pid", "--fork", "--mount-proc"]);
    home.script(&driver, script).end()
}

#[test]
fn as_the_first_process_of_a_container_it_lays_orphans_to_rest() {
    if !is_root() {
        return;
    }
    let emulator = Emulator::start();
    let home = Home::new();
    // An orphan that ends while the program goes on; as a zombie it would stay to be seen.
    let script = "sh -c 'sleep 0.1 & echo $! >$HERE/orphan'; o=$(cat $HERE/orphan); \
                  while [ -e /proc/$o ]; do sleep 0.05; n=$((n+1)); [ $n -lt 400 ] || exit 9; done; \
                  echo $PPID; exit 4";
    let ended = as_first(&home, &emulator, script);
    assert_eq!((ended.code(), ended.out.as_str()), (Some(4), "1\n"), "{ended:?}");
    // It cannot die by a signal, and says so as shells do.
    assert_eq!(as_first(&home, &emulator, "kill -TERM $$").code(), Some(143));
    assert_eq!(home.left_behind(), <[PathBuf; 0]>::default());
}
