//! What `make install` lays out, and what a stranger builds on it: the examples, with pkg-config, as the README says.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use emulator::{APP_ONE, Emulator, Fault};

use crate::harness::{self, Driver, ground};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The folder of what is installed: a release where there is one.
fn out() -> PathBuf {
    harness::libraries().pop().expect("one at least")
}

/// Runs `make TARGET` as somebody whose files are private by default.
fn make(target: &str, variables: &[String]) {
    let script = r#"umask 077; exec make --no-print-directory -C "$@""#;
    let mut make = Command::new("sh");
    make.args(["-c", script, "sh", ROOT, target]).arg(format!("OUT={}", out().display()));
    let done = make.args(variables).env_clear().env("PATH", "/usr/bin:/bin").output().expect("make starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Files and links below a folder, each with its mode or its target.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let (path, about) = (entry.path(), entry.metadata().expect("its metadata"));
            let name = path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned();
            let what = match std::fs::read_link(&path) {
                Ok(target) => format!("-> {}", target.display()),
                Err(_) => format!("{:o}", about.permissions().mode() & 0o7777),
            };
            if about.is_dir() {
                assert_eq!(what, "755", "{name}");
                walk(root, &path, found);
            } else {
                found.insert(name, what);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

#[test]
fn everything_lands_in_its_place_and_goes_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let variables = [
        format!("DESTDIR={}", dir.path().display()),
        "PREFIX=/opt/x".to_owned(),
        "LIBDIR=/opt/x/lib/some-arch".to_owned(),
    ];
    make("install", &variables);
    let library = format!("opt/x/lib/some-arch/libpgaad.so.{VERSION}");
    let expected = [
        ("opt/x/include/pgaad.h", "644"),
        ("opt/x/lib/some-arch/libpgaad.a", "644"),
        ("opt/x/lib/some-arch/libpgaad.so", "-> libpgaad.so.0"),
        ("opt/x/lib/some-arch/libpgaad.so.0", &format!("-> libpgaad.so.{VERSION}")),
        (&library, "755"),
        ("opt/x/lib/some-arch/pkgconfig/pgaad.pc", "644"),
    ];
    assert_eq!(tree(dir.path()), expected.map(|(name, what)| (name.to_owned(), what.to_owned())).into());
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a file");
    assert_eq!(read("opt/x/include/pgaad.h"), include_str!("../../include/pgaad.h"));
    let pc = read("opt/x/lib/some-arch/pkgconfig/pgaad.pc");
    assert!(
        pc.starts_with("prefix=/opt/x\nlibdir=${prefix}/lib/some-arch\nincludedir=${prefix}/include\n"),
        "{pc}"
    );
    assert!(!pc.contains('@'), "{pc}");

    make("uninstall", &variables);
    assert_eq!(tree(dir.path()), BTreeMap::new());
}

/// An installed tree, and where programs for it are put.
struct Installed(PathBuf);

/// Installs at first use.
fn installed() -> &'static Installed {
    static INSTALLED: OnceLock<Installed> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let prefix = harness::c_dir().join("installed");
        let _ = std::fs::remove_dir_all(&prefix);
        make("install", &[format!("PREFIX={}", prefix.display())]);
        Installed(prefix)
    })
}

impl Installed {
    fn lib(&self) -> PathBuf {
        self.0.join("lib")
    }

    /// What pkg-config says, by words.
    fn pkg_config(&self, arguments: &[&str]) -> Vec<String> {
        let mut pkg_config = Command::new("pkg-config");
        let done = pkg_config.args(arguments).env("PKG_CONFIG_PATH", self.lib().join("pkgconfig")).output();
        let done = done.expect("pkg-config starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).split_whitespace().map(str::to_owned).collect()
    }

    /// Compiles an example with these flags.
    fn compile(&self, name: &str, flags: &[String], program: &str) -> PathBuf {
        let program = self.0.join(program);
        let strict = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"];
        let mut cc = Command::new("cc");
        cc.args(strict).arg(format!("{ROOT}/examples/{name}.c")).args(flags).arg("-o").arg(&program);
        let done = cc.output().expect("a C compiler");
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        program
    }

    /// Compiles an example as its first comment says.
    fn example(&self, name: &str) -> PathBuf {
        let flags = self.pkg_config(&["--cflags", "--libs", "pgaad", "libpq"]);
        self.compile(name, &flags, name)
    }

    /// Runs a program with this library and these variables.
    fn run(&self, program: &Path, arguments: &[&str], env: &[(String, OsString)]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("LD_LIBRARY_PATH", self.lib()).env("HOME", "/nonexistent");
        command.envs(env.iter().cloned()).env("LC_ALL", "C").stdin(Stdio::null()).output().expect("it starts")
    }
}

/// Exit code, standard output and standard error.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The libraries that a program names.
fn needed(program: &Path) -> String {
    let done = Command::new("readelf").arg("-d").arg(program).output().expect("readelf starts");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    text.lines().filter(|line| line.contains("(NEEDED)")).collect()
}

/// The environment of a program that signs in to the database as the first application.
fn env() -> Vec<(String, OsString)> {
    let ground = ground();
    [ground.emulator.env(&APP_ONE), ground.postgres.env(APP_ONE.role)].concat()
}

/// The same, but for one variable.
fn env_but(name: &str, value: &str) -> Vec<(String, OsString)> {
    let mut env = env();
    env.retain(|(known, _)| known != name);
    env.push((name.to_owned(), value.into()));
    env
}

#[test]
fn pkg_config_knows_version_and_flags() {
    let installed = installed();
    let prefix = installed.0.display();
    let text = |arguments: &[&str]| installed.pkg_config(arguments).join(" ");
    assert_eq!(text(&["--modversion", "pgaad"]), VERSION);
    assert_eq!(text(&["--cflags", "pgaad"]), format!("-I{prefix}/include"));
    assert_eq!(text(&["--libs", "pgaad"]), format!("-L{prefix}/lib -lpgaad"));
}

#[test]
fn the_example_connect_signs_in() {
    let installed = installed();
    let connect = installed.example("connect");
    assert!(needed(&connect).contains("[libpgaad.so.0]"), "a program is bound to the soname");
    let run = |arguments: &[&str], env: &[(String, OsString)]| said(&installed.run(&connect, arguments, env));

    let signed_in = (Some(0), "signed in as app-one over TLSv1.3\n".to_owned(), String::new());
    assert_eq!(run(&[], &env()), signed_in);
    assert_eq!(run(&["application_name=example"], &env()), signed_in);

    let (code, out, err) = run(&[], &env_but("PGAAD_CLIENT_SECRET", "wrong"));
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
    assert!(
        err.starts_with("pgaad: Entra refused the client secret") && err.contains("AADSTS7000215"),
        "{err}"
    );
    let (code, out, err) = run(&[], &env_but("PGUSER", "nobody"));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("connection to server at \"localhost\""), "{err}");
}

#[test]
fn the_example_params_tells_whose_failure_it_is() {
    let installed = installed();
    let params = installed.example("params");
    let run = |arguments: &[&str], env: &[(String, OsString)]| said(&installed.run(&params, arguments, env));

    let connected = (Some(0), "connected to postgres as app-one\n".to_owned(), String::new());
    assert_eq!(run(&[], &env()), connected);
    let (host, port) = ("localhost", ground().postgres.port());
    assert_eq!(
        run(&[&format!("postgresql://app-one@{host}:{port}/postgres")], &env_but("PGUSER", "nobody")),
        connected
    );

    let (code, out, err) = run(&["sslmode=disable"], &env());
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("PGAAD_INSECURE: pgaad: "), "{err}");
    let (code, out, err) = run(&["user=nobody"], &env());
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("the server or the network says: connection to server at"), "{err}");
}

#[test]
fn the_example_event_loop_connects_and_resets() {
    let installed = installed();
    let event_loop = installed.example("event_loop");
    let run = |env: &[(String, OsString)]| said(&installed.run(&event_loop, &[], env));
    assert_eq!(run(&env()), (Some(0), "signed in as app-one\nreset\n".to_owned(), String::new()));
    let (code, out, err) = run(&env_but("PGAAD_CLIENT_SECRET", "wrong"));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("pgaad: Entra refused the client secret"), "{err}");
    let (code, out, err) = run(&env_but("PGAAD_TENANT_ID", "-"));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("pgaad: ") && err.contains("PGAAD_TENANT_ID"), "{err}");
}

#[test]
fn the_example_callback_takes_the_programs_own_token() {
    let installed = installed();
    let callback = installed.example("callback");
    let ground = ground();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{}\n", ground.emulator.entra().mint(&APP_ONE))).expect("written");
    // Nothing says who to be but the token.
    let env = ground.postgres.env(APP_ONE.role);
    let run = |path: &str| said(&installed.run(&callback, &[path], &env));
    let path = file.path().to_str().expect("a path");
    assert_eq!(run(path), (Some(0), "signed in as app-one\n".to_owned(), String::new()));
    let (code, out, err) = run("/nonexistent");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(err, "pgaad: The token callback failed: the token file cannot be read.\n");
}

#[test]
fn the_example_get_token_shows_no_token() {
    let emulator = Emulator::start();
    let installed = installed();
    // It needs no libpq.
    let flags = installed.pkg_config(&["--cflags", "--libs", "pgaad"]);
    let get_token = installed.compile("get_token", &flags, "get_token");
    let env = emulator.env(&APP_ONE);
    let run = |arguments: &[&str]| said(&installed.run(&get_token, arguments, &env));

    let (code, out, err) = run(&[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let token = &emulator.entra().tokens()[0];
    let claims = emulator::claims(token).expect("a token");
    let until = claims["exp"].as_i64().expect("a time");
    let shown: Vec<_> = out.trim_end().split(", good until ").collect();
    assert_eq!(shown[0], format!("a token of {} characters", token.len()));
    let shown: i64 = shown[1].parse().expect("a time");
    assert!((until - 2..=until + 2).contains(&shown), "{shown} is not {until}");

    assert_eq!(run(&["auth=off"]), {
        let text = "PGAAD_DISABLED: pgaad: A token was asked for, but auth=off. Set auth (PGAAD_AUTH) to auto or to a \
                    credential.\n";
        (Some(1), String::new(), text.to_owned())
    });
    emulator.entra().faults().next(Fault::garbage_json());
    let (code, out, err) = run(&[]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("PGAAD_PROTOCOL: pgaad: "), "{err}");
    let (code, out, err) = run(&["tenant_id=a/b"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("PGAAD_CONFIG: pgaad: ") && err.contains("tenant_id"), "{err}");
}

#[test]
fn the_archive_links_with_what_pkg_config_says() {
    let installed = installed();
    // A tree with the archive alone; what pkg-config says moves with its prefix.
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("lib")).expect("a folder");
    for name in ["lib/libpgaad.a", "include"] {
        std::os::unix::fs::symlink(installed.0.join(name), dir.path().join(name)).expect("a link");
    }
    let prefix = format!("--define-variable=prefix={}", dir.path().display());
    let mut flags = installed.pkg_config(&[&prefix, "--static", "--cflags", "--libs", "pgaad"]);
    flags.extend(installed.pkg_config(&["--cflags", "--libs", "libpq"]));
    let connect = installed.compile("connect", &flags, "connect-static");
    assert!(!needed(&connect).contains("pgaad"), "{}", needed(&connect));
    let signed_in = (Some(0), "signed in as app-one over TLSv1.3\n".to_owned(), String::new());
    assert_eq!(said(&installed.run(&connect, &[], &env())), signed_in);
}

#[test]
fn the_archive_uses_the_libpq_that_is_linked_with_it() {
    let archive = out().join("libpgaad.a");
    let program =
        harness::compile("static_libpq", &[archive.to_str().expect("a path"), "-lgcc_s", "-ldl", "-lm"]);
    let lines = Driver::new().env("PGAAD_LIBPQ", "libpq.so.5").instead(program.clone()).run(&[&[]]);
    let lines: Vec<_> = lines.into_iter().map(|line| line.0).collect();
    assert_eq!(lines, [format!("170099 in {}", program.display()), "its connection, 1 call".to_owned()]);
}

#[test]
fn the_program_in_the_readme_is_the_example() {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```c\n").skip(1).filter_map(|rest| rest.split("```\n").next());
    let program: Vec<_> =
        blocks.filter(|block| block.contains("pgaad_connectdb") && block.contains("main(")).collect();
    let example = include_str!("../../examples/connect.c");
    let (comment, code) = example.split_once("*/\n").expect("a comment first");
    assert!(comment.starts_with("/*"));
    assert_eq!(program, [code]);
}
