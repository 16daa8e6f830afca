//! Go: the module's own tests, with Debian's pgx and lib/pq; and programs whose library is missing, or an old one.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};

use emulator::{APP_ONE, Emulator, LAPTOP_PASSWORD, LAPTOP_ROLE, Postgres};

use crate::harness::{self, NO_IMDS, Pairs, c_dir, ground};

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bindings/go");
const PACKAGES: [&str; 3] = ["pgaad", "pgaad/internal/ground", "pgaad/example"];

/// Where Go finds the module, and pkg-config the library. Another process may be making the very same.
fn home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| {
        let home = c_dir().join("go");
        std::fs::create_dir_all(home.join("src")).expect("a folder in target");
        let module = home.join("src/pgaad");
        assert!(symlink(MODULE, &module).is_ok() || module.exists(), "no link in target");
        let pc = format!(
            "Name: pgaad\nDescription: what is tested\nVersion: {}\nLibs: -L{} -lpgaad\nCflags: -I{}/include\n",
            env!("CARGO_PKG_VERSION"),
            c_dir().display(),
            env!("CARGO_MANIFEST_DIR"),
        );
        std::fs::write(home.join("pgaad.pc"), pc).expect("a file in target");
        home
    })
}

/// A command that finds the library and Go's own things, in an environment with these variables and no others. All is built
/// for the race detector, and so only once.
fn command(program: &str, env: &[(String, OsString)]) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C");
    command.env("PKG_CONFIG_PATH", home()).env("LD_LIBRARY_PATH", c_dir());
    command.env("GO111MODULE", "off").env("GOPATH", format!("{}:/usr/share/gocode", home().display()));
    command.env("GOCACHE", home().join("cache")).env("GOPROXY", "off").env("GOFLAGS", "-race");
    command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", NO_IMDS).envs(env.iter().cloned());
    command.current_dir(MODULE).stdin(Stdio::null());
    command
}

/// Exit code, standard output and standard error.
fn said(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}

/// Runs Go, which must have nothing to say against it.
#[track_caller]
fn go(env: &[(String, OsString)], arguments: &[&str]) -> String {
    // One after the other, or each would compile all that they have in common.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (code, out, err) = said(command("go", env).args(arguments));
    assert_eq!(code, Some(0), "go {arguments:?}\n{out}\n{err}");
    out
}

fn variables(pairs: Pairs<'_>) -> Vec<(String, OsString)> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect()
}

/// The example, compiled.
fn example() -> &'static Path {
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let program = home().join("example");
        go(&[], &["build", "-o", program.to_str().expect("a path"), "pgaad/example"]);
        program
    })
}

/// Runs the example as the first application, but for these variables.
fn run(pairs: Pairs<'_>, arguments: &[&str]) -> (Option<i32>, String, String) {
    let ground = ground();
    let env = [ground.emulator.env(&APP_ONE), ground.postgres.env(APP_ONE.role), variables(pairs)].concat();
    said(command(example().to_str().expect("a path"), &env).args(arguments))
}

#[test]
fn its_own_tests_pass_under_the_race_detector() {
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    let more = variables(&[
        ("EMULATOR_CONTROL", &emulator.control_url()),
        ("LAPTOP_ROLE", LAPTOP_ROLE),
        ("LAPTOP_PASSWORD", LAPTOP_PASSWORD),
    ]);
    let env = [emulator.env(&APP_ONE), postgres.env(APP_ONE.role), more].concat();
    // One package after the other: they share the servers, and set what these do.
    let said = go(&env, &[&["test", "-count=1", "-p=1", "-timeout=5m"][..], &PACKAGES].concat());
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 2, "{said}");
}

#[test]
fn vet_and_gofmt_find_nothing() {
    go(&[], &[&["vet"][..], &PACKAGES].concat());
    assert_eq!(said(command("gofmt", &[]).args(["-l", "-s", "."])), (Some(0), String::new(), String::new()));
    // As a module it needs nothing but the standard library.
    let modules = variables(&[("GO111MODULE", "on"), ("GOFLAGS", "-race -mod=readonly")]);
    go(&modules, &["vet", "./..."]);
    assert_eq!(go(&modules, &["list", "-m", "all"]), "pgaad\n");
}

#[test]
fn the_example_signs_in_or_says_why_not() {
    assert_eq!(run(&[], &[]), (Some(0), "signed in as app-one\n".to_owned(), String::new()));
    let port = ground().postgres.port();
    let uri = format!("postgresql://localhost:{port}/postgres?user=app-one&application_name=it");
    assert_eq!(run(&[("PGUSER", "nobody"), ("PGPORT", "1")], &[&uri]).1, "signed in as app-one\n");
    for (pairs, argument, reason) in [
        (&[("PGAAD_CLIENT_SECRET", "wrong")][..], "", "pgaad: Entra refused the client secret"),
        (&[("PGAAD_TENANT_ID", "-")], "", "pgaad: "),
        (&[], "host=stranger.example", "pgaad: "),
        (&[("PGUSER", "nobody")], "", "SQLSTATE 28"),
    ] {
        let (code, out, err) = run(pairs, &[argument]);
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
        assert!(err.contains(reason) && !err.contains("eyJ"), "{err}");
    }
}

#[test]
fn a_library_that_is_missing_or_old_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().to_str().expect("a path");
    let (code, _, err) = run(&[("LD_LIBRARY_PATH", at)], &[]);
    assert!(code == Some(127) && err.contains("libpgaad.so.0"), "{code:?} {err}");
    symlink(harness::shim("old_version"), folder.path().join("libpgaad.so.0")).expect("a link");
    let (code, _, err) = run(&[("LD_LIBRARY_PATH", at)], &[]);
    let versions = format!("version 0.0.1, and this program was built for {}", env!("CARGO_PKG_VERSION"));
    assert!(code == Some(1) && err.starts_with("pgaad: ") && err.contains(&versions), "{code:?} {err}");
    // In another place, for Go remembers what it has built.
    std::fs::create_dir(folder.path().join("src")).expect("a folder");
    symlink(MODULE, folder.path().join("src/pgaad")).expect("a link");
    let nothing = variables(&[("GOPATH", at), ("PKG_CONFIG_PATH", ""), ("PKG_CONFIG_LIBDIR", at)]);
    let (code, _, err) = said(command("go", &nothing).args(["build", "pgaad"]));
    assert!(code != Some(0) && err.contains("Package pgaad was not found"), "{code:?} {err}");
}

#[test]
fn the_program_in_the_readme_is_the_example() {
    let example = include_str!("../../bindings/go/example/main.go");
    let (comment, code) = example.split_once("\npackage main\n").expect("a comment first");
    assert!(comment.starts_with("// "));
    assert_eq!(harness::readme_blocks("go"), [format!("package main\n{code}")]);
}
