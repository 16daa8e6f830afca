//! The crate as a Rust program uses it: without the C interface, with tokio-postgres.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use emulator::{APP_ONE, Emulator, Fault, Postgres};

use crate::harness::{self, NO_IMDS, c_dir, unix_now, wait_until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const WHO: &str = "select current_user || ' ' || ssl::text from pg_stat_ssl where pid = pg_backend_pid()";

/// The example, compiled in a folder of its own, or the library under test would be another one.
fn example() -> &'static Path {
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let folder = c_dir().join("rust");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--manifest-path"]);
        cargo.arg(format!("{ROOT}/examples/rust/Cargo.toml")).arg("--target-dir").arg(&folder);
        let done = cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").output().expect("cargo starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        folder.join("debug/sign-in")
    })
}

/// The example under way, which waits for statements.
struct Program(Child);

impl Program {
    fn start(conninfo: &str, env: impl IntoIterator<Item = (String, OsString)>) -> Self {
        let mut command = Command::new(example());
        command.arg(conninfo).env_clear().env("HOME", "/nonexistent").env("PATH", "/nonexistent").envs(env);
        command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", NO_IMDS);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(piped.spawn().expect("it starts"))
    }

    fn say(&mut self, sql: &str) {
        writeln!(self.0.stdin.as_mut().expect("a pipe"), "{sql}").expect("it reads");
    }

    /// Standard output and standard error, once it has ended well.
    #[track_caller]
    fn end(self) -> (String, String) {
        let done = self.0.wait_with_output().expect("its output");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert!(done.status.success(), "{}", text(&done.stderr));
        (text(&done.stdout), text(&done.stderr))
    }
}

fn env_of(emulator: &Emulator, postgres: &Postgres) -> Vec<(String, OsString)> {
    [emulator.env(&APP_ONE), postgres.env(APP_ONE.role)].concat()
}

fn conninfo(postgres: &Postgres) -> String {
    format!("host=localhost port={} user={} dbname=postgres", postgres.port(), APP_ONE.role)
}

#[test]
fn it_lives_through_an_expiring_token_and_a_token_service_that_is_down() {
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    emulator.entra().configure(|config| config.lifetime = 2);
    let env = env_of(&emulator, &postgres).into_iter().chain([("PGAAD_TIMEOUT_MS".into(), "1500".into())]);
    let mut program = Program::start(&conninfo(&postgres), env);
    let logins = |n: usize| wait_until("it signs in", || postgres.binds().len() == n);
    program.say(WHO);
    logins(1);
    let first = unix_now();
    wait_until("its token has expired", || unix_now() > first + 2);
    program.say(WHO);
    logins(2);
    let second = unix_now();
    wait_until("its token has expired", || unix_now() > second + 2);
    let asked = emulator.entra().counters().connections;
    emulator.entra().faults().always(Fault::reset());
    program.say(WHO);
    wait_until("it asks in vain", || emulator.entra().counters().connections > asked);
    emulator.entra().faults().clear();
    program.say(WHO);
    logins(3);
    let binds = postgres.binds();
    assert!(binds.iter().all(|bind| bind.ok()), "{binds:?}");
    assert!(binds[0].uti != binds[1].uti && binds[1].uti != binds[2].uti, "{binds:?}");
    drop(program.0.stdin.take());
    let (out, _) = program.end();
    assert!(out.lines().all(|line| line == "app-one true") && out.lines().count() >= 3, "{out}");
}

#[test]
fn it_says_why_it_does_not_sign_in() {
    let ground = harness::ground();
    let env = env_of(&ground.emulator, &ground.postgres);
    let but = |name: &str, value: OsString| env.clone().into_iter().chain([(name.to_owned(), value)]);
    let stranger = ground.emulator.ca_file().as_os_str().to_owned(); // it did not sign the database's certificate
    for (env, reason) in [
        (but("PGAAD_CLIENT_SECRET", "wrong".into()), "Entra refused the client secret"),
        (but("PGSSLROOTCERT", stranger), "certificate"),
    ] {
        let mut program = Program::start(&conninfo(&ground.postgres), env);
        program.say(WHO);
        let (out, err) = program.end();
        assert!(out.is_empty() && err.contains(reason) && !err.contains("eyJ"), "{reason}: {out} {err}");
    }
}

#[test]
fn the_program_in_the_readme_is_the_example() {
    let example = include_str!("../../examples/rust/src/main.rs");
    let (comment, code) = example.split_once("\n\n").expect("a comment first");
    assert!(comment.starts_with("//! "));
    assert_eq!(harness::readme_blocks("rust"), [code]);
}
