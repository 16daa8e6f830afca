//! Python: the package's own tests, with the drivers and Django; its types; its wheel; what README prints.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use emulator::{APP_ONE, Emulator, LAPTOP_PASSWORD, LAPTOP_ROLE, Postgres};

use crate::harness::{self, NO_IMDS, Pairs, c_dir, ground};

const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bindings/python");

/// A Python with the drivers and Django: what `make test-python` got, in cargo's target directory.
fn python() -> PathBuf {
    let program = std::env::current_exe().expect("the test's own path");
    let made = program.ancestors().map(|dir| dir.join("python")).find(|dir| dir.join("made").exists());
    made.expect("run make test-python").join("bin/python")
}

/// A program in an environment with the library and these variables alone.
fn command(program: &Path, env: &[(String, OsString)]) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C.UTF-8");
    command.env("PGAAD_LIBRARY", c_dir().join("libpgaad.so.0")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", NO_IMDS).envs(env.iter().cloned());
    command.current_dir(format!("{PACKAGE}/tests")).stdin(Stdio::null());
    command
}

fn variables(pairs: Pairs<'_>) -> Vec<(String, OsString)> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect()
}

/// Exit code, standard output and standard error.
fn said(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}

/// Runs a module of the package's tests, with servers of its own that it may upset.
fn run(module: &str, more: Pairs<'_>) {
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    let role = APP_ONE.role;
    postgres
        .psql(&format!("alter role \"{role}\" createdb; grant create on schema public to \"{role}\";"))
        .expect("the right to make databases and tables");
    let beside = variables(&[
        ("EMULATOR_CONTROL", &emulator.control_url()),
        ("LAPTOP_ROLE", LAPTOP_ROLE),
        ("LAPTOP_PASSWORD", LAPTOP_PASSWORD),
        ("LIBRARY_FOLDER", &c_dir().display().to_string()),
        ("OLD_LIBRARY", &harness::shim("old_version").display().to_string()),
        ("PYTHONPATH", PACKAGE),
    ]);
    let env = [emulator.env(&APP_ONE), postgres.env(role), beside, variables(more)].concat();
    let mut python = command(&python(), &env);
    python.args(["-X", "dev", "-W", "error::ResourceWarning", "-m", "unittest", module]);
    let (code, out, err) = said(&mut python);
    assert_eq!(code, Some(0), "{out}\n{err}");
    assert!(err.contains("\nOK"), "{out}\n{err}");
}

#[test]
fn tokens_settings_callbacks_errors_threads_and_forks() {
    run("test_pgaad", &[]);
}

#[test]
fn psycopg_psycopg2_asyncpg_and_sqlalchemy() {
    run("test_drivers", &[]);
}

#[test]
fn django() {
    run("test_django", &[]);
}

#[test]
fn django_with_psycopg2() {
    run("test_django", &[("DRIVER", "psycopg2")]);
}

#[test]
fn the_types_are_complete() {
    let mut mypy = command(&python(), &[]);
    mypy.current_dir(PACKAGE).args(["-m", "mypy", "--cache-dir"]).arg(c_dir().join("mypy"));
    let (code, out, err) = said(&mut mypy);
    assert_eq!(code, Some(0), "{out}{err}");
}

/// The newest version of the C library that a library names, by another tool than the one that makes the wheel.
fn glibc(library: &Path) -> String {
    let done = Command::new("objdump").arg("-T").arg(library).output().expect("objdump starts");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let versions = text.split("GLIBC_").skip(1).filter_map(|rest| {
        let (major, rest) = rest.split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let (major, minor) = versions.max().expect("it uses the C library");
    format!("{major}_{minor}")
}

#[test]
fn a_wheel_with_the_library_in_it_signs_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    // The release where there is one; what tells where lines are is of no use here, and large.
    let library = harness::libraries().pop().expect("one at least").join("libpgaad.so");
    let stripped = Command::new("strip").arg("-o").args([&at("libpgaad.so"), &library]).status();
    assert!(stripped.is_ok_and(|status| status.success()));
    let pip = |env: &[(String, OsString)], arguments: &[&str]| {
        let mut pip = command(Path::new("python3"), env);
        // pip asks rustc for its version, which by rustup makes a folder in HOME.
        pip.envs(["HOME", "PATH"].map(|name| (name, std::env::var_os(name).expect("it is set")))).args([
            "-m",
            "pip",
            "--disable-pip-version-check",
        ]);
        let (code, out, err) = said(pip.args(arguments));
        assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    };
    let library = variables(&[("PGAAD_LIBRARY", &at("libpgaad.so").display().to_string())]);
    let wheels = at("wheels").display().to_string();
    pip(&library, &["wheel", "--quiet", "--no-index", "--no-deps", "--wheel-dir", &wheels, PACKAGE]);
    let names: Vec<_> =
        std::fs::read_dir(&wheels).expect("a folder").flatten().map(|entry| entry.path()).collect();
    let name = format!(
        "pgaad-{}-py3-none-manylinux_{}_{}.whl",
        env!("CARGO_PKG_VERSION"),
        glibc(&at("libpgaad.so")),
        std::env::consts::ARCH
    );
    assert_eq!(names, [at("wheels").join(name)]);

    // Debian's Python, with Debian's psycopg.
    let made = Command::new("/usr/bin/python3")
        .args(["-m", "venv", "--without-pip", "--system-site-packages"])
        .arg(at("venv"))
        .status();
    assert!(made.is_ok_and(|status| status.success()), "no virtual environment");
    let python = at("venv/bin/python");
    let wheel = names[0].display().to_string();
    pip(
        &[],
        &["--python", &python.display().to_string(), "install", "--quiet", "--no-index", "--no-deps", &wheel],
    );
    let ground = ground();
    let env = [ground.emulator.env(&APP_ONE), ground.postgres.env(APP_ONE.role)].concat();
    let program = "import pgaad, pgaad.psycopg, pgaad.psycopg2\n\
                   for connect in pgaad.psycopg.connect, pgaad.psycopg2.connect:\n\
                   \x20   cursor = connect().cursor(); cursor.execute('select current_user'); print(cursor.fetchone()[0])\n\
                   print(pgaad.__version__, pgaad.version(), pgaad._library.library()._name)\n";
    let (code, out, err) =
        said(command(&python, &env).env_remove("PGAAD_LIBRARY").args(["-I", "-c", program]));
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        code == Some(0) && out.starts_with(&format!("app-one\napp-one\n{version} {version} ")),
        "{out}{err}"
    );
    assert!(out.trim_end().ends_with("/site-packages/pgaad/libpgaad.so.0"), "{out}");
}

#[test]
fn the_example_pool_signs_in_or_says_why_not() {
    let ground = ground();
    let path = variables(&[("PYTHONPATH", PACKAGE)]);
    let env = [ground.emulator.env(&APP_ONE), ground.postgres.env(APP_ONE.role), path].concat();
    let run = |conninfo: &str| said(command(&python(), &env).args(["../examples/pool.py", conninfo]));
    assert_eq!(run("application_name=it"), (Some(0), "signed in as app-one\n".to_owned(), String::new()));
    let (code, out, err) = run("host=stranger.example");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("pgaad: ") && err.contains("server_hosts") && !err.contains("eyJ"), "{err}");
}

#[test]
fn the_settings_in_the_readme_run() {
    let ground = ground();
    // The server in them is this one; a database may be there from another run of this test.
    let _ = ground.postgres.psql(&format!("create database app owner \"{}\"", APP_ONE.role));
    let known = ["PGAAD_AUTHORITY_HOST", "PGAAD_CA_FILE", "PGPORT", "PGSSLROOTCERT"];
    let mut env = [ground.emulator.env(&APP_ONE), ground.postgres.env(APP_ONE.role)].concat();
    let secret = env.iter().find(|(name, _)| name == "PGAAD_CLIENT_SECRET").expect("a secret").1.clone();
    env.retain(|(name, _)| known.contains(&name.as_str()));
    env.push(("SP_CLIENT_SECRET".into(), secret));
    env.extend(variables(&[
        ("PGHOSTADDR", "127.0.0.1"),
        ("PYTHONPATH", &format!("{PACKAGE}:{PACKAGE}/examples")),
        ("DJANGO_SETTINGS_MODULE", "databases"),
    ]));
    let dbshell = ["-m", "django", "dbshell", "--", "-XAtc", "select current_user, current_database()"];
    let (code, out, err) = said(command(&python(), &env).args(dbshell));
    assert_eq!((code, out.as_str()), (Some(0), "app-one|app\n"), "{err}");
}

#[test]
fn the_programs_in_the_readme_are_the_examples() {
    let examples = [
        include_str!("../../bindings/python/examples/pool.py"),
        include_str!("../../bindings/python/examples/databases.py"),
    ];
    assert_eq!(harness::readme_blocks("python"), examples);
}
