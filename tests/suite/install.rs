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

/// The folder that is installed from: the release's where `make test` made one, else one with what was built for the tests.
pub fn out() -> &'static Path {
    static OUT: OnceLock<PathBuf> = OnceLock::new();
    OUT.get_or_init(|| {
        if let Some(stage) = std::env::var_os("PGAAD_STAGE") {
            return Path::new(&stage).with_file_name("release");
        }
        let out = harness::c_dir().join("out");
        let _ = std::fs::remove_dir_all(&out);
        std::fs::create_dir(&out).expect("a folder");
        let built = harness::libraries().remove(0);
        let parts = ["libpgaad.so", "libpgaad.a"].map(|name| built.join(name));
        for part in parts.iter().map(PathBuf::as_path).chain([harness::command()]) {
            let link = out.join(part.file_name().expect("a name"));
            std::os::unix::fs::symlink(part, link).expect("a link");
        }
        let mut make = Command::new("make");
        make.args(["-s", "-C", ROOT, "beside", &format!("OUT={}", out.display())]);
        assert!(make.status().expect("make starts").success());
        out
    })
}

/// What `make TARGET` says to somebody whose files are private by default.
fn make(target: &str, variables: &[String]) -> Output {
    let script = r#"umask 077; exec make --no-print-directory -C "$@""#;
    let mut make = Command::new("sh");
    make.args(["-c", script, "sh", ROOT, target]).arg(format!("OUT={}", out().display()));
    make.args(variables).env_clear().env("PATH", "/usr/bin:/bin").output().expect("make starts")
}

#[track_caller]
fn made(target: &str, variables: &[String]) {
    let done = make(target, variables);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// All that is below a folder: each file's mode, each link's target, each folder.
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
                found.insert(name, "a folder".to_owned());
            } else {
                found.insert(name, what);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

/// The names of the files in a folder of the source.
fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(Path::new(ROOT).join(folder)).expect("a folder");
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    files.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect()
}

/// The files and links that are put below `usr`, with this folder of libraries.
fn expected(usr: &str, lib: &str) -> BTreeMap<String, String> {
    let mut files: Vec<(String, String)> = [
        ("bin/pgaad", "755"),
        ("share/bash-completion/completions/pgaad", "644"),
        ("share/zsh/site-functions/_pgaad", "644"),
        ("share/fish/vendor_completions.d/pgaad.fish", "644"),
        ("share/man/man1/pgaad.1", "644"),
        ("share/man/man7/pgaad.7", "644"),
        ("share/doc/pgaad/third-party-licenses.txt", "644"),
        ("share/doc/pgaad/installed", "644"),
    ]
    .map(|(name, mode)| (name.to_owned(), mode.to_owned()))
    .into();
    for (name, what) in [
        ("libpgaad.a", "644"),
        ("libpgaad.so", "-> libpgaad.so.0"),
        ("libpgaad.so.0", &format!("-> libpgaad.so.{VERSION}")),
        (&format!("libpgaad.so.{VERSION}"), "755"),
        ("pkgconfig/pgaad.pc", "644"),
        ("cmake/pgaad/pgaad-config.cmake", "644"),
        ("cmake/pgaad/pgaad-config-version.cmake", "644"),
    ] {
        files.push((format!("{lib}/{name}"), what.to_owned()));
    }
    for text in ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "LICENSE-APACHE", "LICENSE-MIT"] {
        files.push((format!("share/doc/pgaad/{text}"), "644".to_owned()));
    }
    for (folder, place) in [
        ("include", "include"),
        ("man/man3", "share/man/man3"),
        ("docs", "share/doc/pgaad/docs"),
        ("examples", "share/doc/pgaad/examples"),
        ("examples/lua", "share/doc/pgaad/examples/lua"),
        ("examples/node", "share/doc/pgaad/examples/node"),
        ("examples/perl", "share/doc/pgaad/examples/perl"),
        ("examples/php", "share/doc/pgaad/examples/php"),
        ("examples/ruby", "share/doc/pgaad/examples/ruby"),
    ] {
        files.extend(names(folder).iter().map(|name| (format!("{place}/{name}"), "644".to_owned())));
    }
    files.into_iter().map(|(name, what)| (format!("{usr}/{name}"), what)).collect()
}

#[test]
fn everything_lands_in_its_place_and_goes_again() {
    for (prefix, lib) in [("/opt/x", "lib/some-arch"), ("/opt/a b & |c", "li b")] {
        let dir = tempfile::Builder::new().prefix("pgaad install ").tempdir().expect("a folder");
        let usr = &prefix[1..];
        // What is there already stays, empty folders too.
        for folder in ["share/man/man3", "share/doc", "include"] {
            std::fs::create_dir_all(dir.path().join(usr).join(folder)).expect("a folder");
        }
        std::fs::write(dir.path().join(usr).join("include/other.h"), "").expect("a file");
        let before = tree(dir.path());
        let mut variables = vec![
            format!("DESTDIR={}", dir.path().display()),
            format!("PREFIX={prefix}"),
            format!("LIBDIR={prefix}/{lib}"),
        ];
        made("install", &variables);
        let mut files = tree(dir.path());
        files.retain(|name, what| what != "a folder" && !before.contains_key(name));
        assert_eq!(files, expected(usr, lib));

        let read = |name: &str| std::fs::read_to_string(dir.path().join(usr).join(name)).expect("a file");
        assert_eq!(read("include/pgaad.h"), include_str!("../../include/pgaad.h"));
        let pc = read(&format!("{lib}/pkgconfig/pgaad.pc"));
        let head = format!("prefix={prefix}\nlibdir=${{prefix}}/{lib}\nincludedir=${{prefix}}/include\n");
        assert!(pc.starts_with(&head), "{pc}");
        let filled_in = ["pgaad-config.cmake", "pgaad-config-version.cmake"];
        let filled_in = filled_in.map(|name| read(&format!("{lib}/cmake/pgaad/{name}")));
        assert!(filled_in.iter().chain([&pc]).all(|text| !text.contains('@')), "{filled_in:?} {pc}");
        for (shell, name) in [
            ("bash", "bash-completion/completions/pgaad"),
            ("zsh", "zsh/site-functions/_pgaad"),
            ("fish", "fish/vendor_completions.d/pgaad.fish"),
        ] {
            let said =
                Command::new(harness::command()).args(["completion", shell]).output().expect("it starts");
            assert_eq!(read(&format!("share/{name}")).as_bytes(), said.stdout, "{shell}");
        }

        // An older version's file, too, is taken away by the last.
        variables.push("VERSION=0.0.9".to_owned());
        made("install", &variables);
        variables.pop();
        made("install", &variables);
        made("uninstall", &variables);
        assert_eq!(tree(dir.path()), before);
    }
}

#[test]
fn where_nothing_was_there_nothing_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let variables = [format!("PREFIX={}/deep/below", dir.path().display())];
    made("install", &variables);
    assert!(tree(dir.path()).len() > 40);
    made("uninstall", &variables);
    assert_eq!(tree(dir.path()), BTreeMap::new());
    let again = make("uninstall", &variables);
    assert!(String::from_utf8_lossy(&again.stderr).starts_with("Nothing is installed: "), "{again:?}");
}

#[test]
fn an_installation_that_failed_can_be_taken_away() {
    let (dir, part) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    for name in ["libpgaad.so", "libpgaad.a"] {
        std::os::unix::fs::symlink(out().join(name), part.path().join(name)).expect("a link");
    }
    let variables = [format!("PREFIX={}/x", dir.path().display()), format!("OUT={}", part.path().display())];
    assert!(!make("install", &variables).status.success(), "there is no command");
    assert!(dir.path().join("x/lib/libpgaad.a").exists());
    made("uninstall", &variables);
    assert_eq!(tree(dir.path()), BTreeMap::new());
}

#[test]
fn what_cannot_be_installed_is_said_before_anything_is() {
    let dir = tempfile::tempdir().expect("a folder");
    for (variable, why) in [
        ("OUT=/nonexistent", "Nothing is built yet: run make first\n"),
        ("PREFIX=usr", "usr/bin is no absolute path\n"),
        ("MANDIR=man", "man is no absolute path\n"),
    ] {
        let done = make("install", &[format!("DESTDIR={}", dir.path().display()), variable.to_owned()]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.starts_with(why), "{said}");
        assert_eq!(tree(dir.path()), BTreeMap::new());
    }
}

/// An installed tree, and where programs for it are put.
pub struct Installed(pub PathBuf);

/// Installs at first use.
pub fn installed() -> &'static Installed {
    static INSTALLED: OnceLock<Installed> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let prefix = harness::c_dir().join("installed");
        let _ = std::fs::remove_dir_all(&prefix);
        made("install", &[format!("PREFIX={}", prefix.display())]);
        Installed(prefix)
    })
}

impl Installed {
    pub fn lib(&self) -> PathBuf {
        self.0.join("lib")
    }

    /// What pkg-config says, by words.
    pub fn pkg_config(&self, arguments: &[&str]) -> Vec<String> {
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
    pub fn run(&self, program: &Path, arguments: &[&str], env: &[(String, OsString)]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("LD_LIBRARY_PATH", self.lib()).env("HOME", "/nonexistent");
        command.envs(env.iter().cloned()).env("LC_ALL", "C").stdin(Stdio::null()).output().expect("it starts")
    }
}

/// Exit code, standard output and standard error.
pub fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The libraries that a program names.
pub fn needed(program: &Path) -> String {
    let done = Command::new("readelf").arg("-d").arg(program).output().expect("readelf starts");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    text.lines().filter(|line| line.contains("(NEEDED)")).collect()
}

/// The environment of a program that signs in to the database as the first application.
pub fn env() -> Vec<(String, OsString)> {
    let ground = ground();
    [ground.emulator.env(&APP_ONE), ground.postgres.env(APP_ONE.role)].concat()
}

/// The same, but for one variable.
pub fn env_but(name: &str, value: &str) -> Vec<(String, OsString)> {
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

/// Configures a project of `tests/cmake`, with what is installed below this prefix.
fn cmake(project: &str, build: &Path, prefix: &Path, wanted: &str) -> Output {
    let mut cmake = Command::new("cmake");
    cmake.arg("-S").arg(Path::new(ROOT).join("tests/cmake").join(project)).arg("-B").arg(build);
    cmake.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())).arg(format!("-DWANTED={wanted}"));
    cmake.output().expect("cmake starts")
}

/// Both libraries from this prefix, in a program that CMake builds.
#[track_caller]
fn cmake_programs_sign_in(prefix: &Path) {
    let build = tempfile::tempdir().expect("a folder");
    let configured = cmake("", build.path(), prefix, "0.1");
    assert!(configured.status.success(), "{}", String::from_utf8_lossy(&configured.stderr));
    let built = Command::new("cmake").arg("--build").arg(build.path()).output().expect("cmake starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stdout));
    for (name, shared) in [("with-pgaad", true), ("with-pgaad-static", false)] {
        let program = build.path().join(name);
        assert_eq!(needed(&program).contains("[libpgaad.so.0]"), shared, "{name}");
        let mut run = Command::new(&program);
        run.env_clear().env("HOME", "/nonexistent").env("LC_ALL", "C").envs(env());
        let done = run.output().expect("it starts");
        assert_eq!(said(&done), (Some(0), "signed in as app-one over TLSv1.3\n".to_owned(), String::new()));
    }
}

#[test]
fn cmake_finds_both_libraries() {
    cmake_programs_sign_in(&installed().0);
}

#[test]
fn a_moved_tree_with_blanks_in_its_name_serves_cmake_and_pkg_config() {
    let dir = tempfile::tempdir().expect("a folder");
    let (first, then) = (dir.path().join("first"), dir.path().join("then here"));
    // Where Debian has it; on a system without such folders, there is nothing between the slashes.
    let arch = Command::new("cc").arg("-print-multiarch").output().expect("a compiler").stdout;
    let lib = format!("lib/{}", String::from_utf8_lossy(&arch).trim());
    let first_lib = format!("LIBDIR={}/{lib}", first.display());
    made("install", &[format!("PREFIX={}", first.display()), first_lib]);
    std::fs::rename(first, &then).expect("a move");
    cmake_programs_sign_in(&then);

    let script = r#"eval "cc $ROOT/examples/connect.c -o '$HERE/connect' $(pkg-config --define-variable=prefix="$HERE" --cflags --libs pgaad) $(pkg-config --cflags --libs libpq)""#;
    let mut cc = Command::new("sh");
    cc.args(["-euc", script]).env("ROOT", ROOT).env("HERE", &then);
    let done = cc.env("PKG_CONFIG_PATH", then.join(&lib).join("pkgconfig")).output().expect("a shell");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut run = Command::new(then.join("connect"));
    run.env_clear().env("LD_LIBRARY_PATH", then.join(&lib)).env("HOME", "/nonexistent").envs(env());
    assert_eq!(said(&run.output().expect("it starts")).0, Some(0));
}

/// Any until the major version changes, which is when the soname does.
#[test]
fn cmake_takes_no_version_that_is_too_old_or_another() {
    let rows = [
        ("0", true),
        ("0.0.1", true),
        ("0.1", true),
        (VERSION, true),
        (&format!("{VERSION} EXACT"), true),
        ("0.0.1 EXACT", false),
        ("0.99", false),
        ("1.0", false),
        ("99", false),
        ("0.0.1...0.99", true),
        ("0.0.1...1", true),
        ("0.0.1...0.0.2", false),
        (&format!("0.0.1...<{VERSION}"), false),
        (&format!("{VERSION}...<1"), true),
        ("0.50...0.99", false),
    ];
    let build = tempfile::tempdir().expect("a folder");
    let wanted = rows.map(|(wanted, _)| wanted).join(";");
    let done = cmake("versions", build.path(), &installed().0, &wanted);
    let said = String::from_utf8_lossy(&done.stderr);
    let said: Vec<_> = said.lines().collect();
    assert_eq!(said, rows.map(|(wanted, taken)| format!("{wanted}: {}", u8::from(taken))));

    let build = tempfile::tempdir().expect("a folder");
    let refused = cmake("", build.path(), &installed().0, "99");
    let said = String::from_utf8_lossy(&refused.stderr);
    let why = format!("pgaad-config.cmake, version: {VERSION}");
    assert!(!refused.status.success() && said.contains("version \"99\"") && said.contains(&why), "{said}");
}

#[test]
fn each_example_is_run() {
    let read =
        |name| std::fs::read_to_string(Path::new(ROOT).join("tests/suite").join(name)).expect("a file");
    let tests = ["install.rs", "cpp.rs"].map(read).concat();
    for name in names("examples").iter().filter_map(|name| name.rsplit_once(".c").map(|(name, _)| name)) {
        let of_it = tests.contains(&format!("\"{name}\"")) || tests.contains(&format!("\"{name}.cpp\""));
        assert!(of_it, "nothing runs examples/{name}");
    }
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
