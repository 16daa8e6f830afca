//! A Django site in production; Django's own tests, with its engine and with ours; Django's next version.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use emulator::serde_json;
use emulator::{APP_ONE, Emulator, Fault, PATIENCE, Postgres};

use crate::harness::{self, NO_IMDS, Pairs, each, wait_until};

const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bindings/python");

/// What the Makefile got, in cargo's target directory.
fn made(name: &str) -> PathBuf {
    let program = std::env::current_exe().expect("the test's own path");
    let found = program.ancestors().map(|dir| dir.join(name)).find(|dir| dir.exists());
    found.unwrap_or_else(|| panic!("no {name}: run make test-long"))
}

/// Python with the package, the library and the servers.
fn python(emulator: &Emulator, postgres: &Postgres, more: Pairs<'_>) -> Command {
    let mut command = Command::new(made("python").join("bin/python"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").env("LC_ALL", "C.UTF-8");
    command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", NO_IMDS).env("PYTHONDONTWRITEBYTECODE", "1");
    let library = harness::libraries().pop().expect("one at least").join("libpgaad.so");
    command.env("PGAAD_LIBRARY", library).env("PYTHONPATH", format!("{PACKAGE}:{PACKAGE}/tests"));
    command.envs(emulator.env(&APP_ONE)).envs(postgres.env(APP_ONE.role)).envs(more.iter().copied());
    command.env("EMULATOR_CONTROL", emulator.control_url()).stdin(Stdio::null());
    command
}

/// Of a token, in seconds; half of it before its end it is renewed.
const LIFE: i64 = 60;
/// How long the token service is away. It is asked again 5 and 10 seconds after failures of 4: while the token lives.
const AWAY: u64 = 20;

/// A site with two workers, and how it answered.
struct Site {
    gunicorn: Child,
    port: u16,
    served: AtomicUsize,
    failed: AtomicUsize,
}

impl Site {
    fn start(mut command: Command) -> Self {
        command.args(["-m", "gunicorn", "--bind=127.0.0.1:0", "--workers=2", "--threads=4"]);
        command.args([
            "--worker-class=gthread",
            "--no-control-socket",
            "django.core.wsgi:get_wsgi_application()",
        ]);
        let mut gunicorn = command.stderr(Stdio::piped()).spawn().expect("gunicorn starts");
        let mut lines = BufReader::new(gunicorn.stderr.take().expect("a pipe")).lines();
        let listens = lines.find_map(|line| {
            let line = line.expect("text");
            line.split_once("Listening at: http://127.0.0.1:").map(|(_, rest)| rest.to_owned())
        });
        let port = listens.and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a port");
        // What it says further is of failures, and no secret may stand there.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                assert!(!line.contains("eyJ"), "{line}");
            }
        });
        Self { gunicorn, port, served: AtomicUsize::new(0), failed: AtomicUsize::new(0) }
    }

    /// One request, and whether the site had what it needed from the database.
    fn ask(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let answer = ask().unwrap_or_else(|error| error.to_string());
        let good = answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("app-one True");
        if good { &self.served } else { &self.failed }.fetch_add(1, Ordering::Relaxed);
        good
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It ends its workers, as kill would not.
        let _ = Command::new("kill").arg(self.gunicorn.id().to_string()).status();
        let _ = self.gunicorn.wait();
    }
}

#[test]
fn a_site_serves_while_tokens_expire_and_the_token_service_is_away() {
    let kinds: [(&str, Pairs<'_>); 3] = [
        ("a connection for each request", &[]),
        ("connections that persist for 5 s", &[("SITE_MAX_AGE", "5")]),
        ("a pool", &[("SITE_POOL", "1")]),
    ];
    each(&kinds, |(kind, more)| {
        let emulator = Emulator::start();
        emulator.entra().configure(|config| config.lifetime = LIFE);
        let postgres = Postgres::start(&emulator);
        let secret = emulator.entra().secret(&APP_ONE);
        let site =
            [&[("SITE_SECRET", secret.as_str()), ("DJANGO_SETTINGS_MODULE", "django_site")], *more].concat();
        let site = Site::start(python(&emulator, &postgres, &site));
        wait_until("the site serves", || site.ask());
        site.failed.store(0, Ordering::Relaxed);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        site.ask();
                    }
                });
            }
            let faults = emulator.entra().faults();
            for fault in
                [Fault::reset(), Fault::status_without_code(503, "down"), Fault::reset().before_tls()]
            {
                thread::sleep(Duration::from_secs(LIFE as u64 / 2));
                faults.always(fault);
                thread::sleep(Duration::from_secs(AWAY));
                faults.clear();
            }
            thread::sleep(Duration::from_secs(LIFE as u64 / 2));
            over.store(true, Ordering::Relaxed);
        });
        let (served, failed) = (site.served.load(Ordering::Relaxed), site.failed.load(Ordering::Relaxed));
        let counters = emulator.entra().counters();
        println!(
            "{kind}: {served} requests, {failed} failed, {} tokens in {} requests, {} logins",
            counters.tokens,
            counters.requests,
            postgres.binds().len()
        );
        assert_eq!(failed, 0, "{kind}");
        assert!(served > 1000 && counters.tokens >= 6 && counters.requests > counters.tokens, "{counters:?}");
        let refused: Vec<_> = postgres.binds().into_iter().filter(|bind| !bind.ok()).collect();
        assert!(refused.is_empty(), "{kind}: {refused:?}");
        // Without a living token it cannot serve, and then again as soon as there is one.
        emulator.entra().faults().always(Fault::reset());
        if more.is_empty() {
            let deadline = Instant::now() + PATIENCE + Duration::from_secs(LIFE as u64);
            while site.ask() {
                assert!(Instant::now() < deadline, "the last token does not expire");
            }
        }
        emulator.entra().faults().clear();
        wait_until("the site serves again", || site.ask());
    });
}

/// What of Django's tests has to do with the database: PGAAD_TEST_DJANGO names others, `all` is all.
const SUITE: &str = "aggregation annotations async backends bulk_create cache composite_pk constraints custom_columns \
    custom_lookups datatypes datetimes dates db_functions db_typecasts db_utils dbshell defer delete distinct_on_fields \
    empty_models expressions expressions_case expressions_window field_deconstruction filtered_relation \
    force_insert_update from_db_value get_or_create indexes inspectdb introspection invalid_models_tests lookup \
    many_to_many migrate_signals migrations migration_test_data_persistence model_fields model_indexes multiple_database \
    nested_foreign_keys null_queries ordering postgres_tests prefetch_related queries queryset_pickle raw_query \
    reserved_names schema select_for_update select_related servers sessions_tests test_runner test_utils timezones \
    transaction_hooks transactions unmanaged_models update validators xor_lookups";

/// How each of Django's tests ended with this engine.
fn suite(emulator: &Emulator, postgres: &Postgres, engine: &str, name: &str) -> BTreeMap<String, String> {
    let outcomes = tempfile::NamedTempFile::new().expect("a file");
    let path = outcomes.path().to_str().expect("a path");
    let mut run = python(emulator, postgres, &[("ENGINE", engine), ("NAME", name), ("OUTCOMES", path)]);
    run.current_dir(made("django").join("suite/tests")).args(["runtests.py", "--settings=django_suite"]);
    run.args(["--noinput", "--parallel=1", "--verbosity=0"]);
    let labels = std::env::var("PGAAD_TEST_DJANGO").unwrap_or_else(|_| SUITE.to_owned());
    run.args(labels.split_whitespace().filter(|label| *label != "all"));
    let done = run.output().expect("it starts");
    let text = std::fs::read_to_string(path).expect("a file");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stderr)))
}

#[test]
fn djangos_own_tests_end_as_with_its_own_engine() {
    let emulator = Emulator::start();
    // Django's engine is given a token that has to last.
    emulator.entra().configure(|config| config.lifetime = 86400);
    let postgres = Postgres::start(&emulator);
    postgres.psql(&format!("alter role \"{}\" superuser", APP_ONE.role)).expect("a superuser");
    let engines = [("django.db.backends.postgresql", "theirs"), ("pgaad.django", "ours")];
    let [theirs, ours] = thread::scope(|scope| {
        let (emulator, postgres) = (&emulator, &postgres);
        let runs = engines.map(|(engine, name)| scope.spawn(move || suite(emulator, postgres, engine, name)));
        runs.map(|run| run.join().expect("its outcomes"))
    });
    let count = |outcomes: &BTreeMap<String, String>| {
        let mut counts = BTreeMap::<String, usize>::new();
        outcomes.values().for_each(|outcome| *counts.entry(outcome.clone()).or_default() += 1);
        format!("{} tests, {counts:?}", outcomes.len())
    };
    println!("Django's tests with its own engine: {}; with ours: {}", count(&theirs), count(&ours));
    let all = theirs.keys().chain(ours.keys());
    let differing: BTreeMap<_, _> = all
        .filter(|test| theirs.get(*test) != ours.get(*test))
        .map(|test| (test, (theirs.get(test), ours.get(test))))
        .collect();
    let failed: Vec<_> =
        ours.iter().filter(|(_, outcome)| *outcome == "failed").map(|(test, _)| test).collect();
    println!("failed with both: {failed:#?}");
    assert!(differing.is_empty(), "with Django's engine, and with ours: {differing:#?}");
    assert!(ours.values().filter(|outcome| *outcome == "passed").count() > 500, "{}", count(&ours));
}

#[test]
fn the_next_django_with_debian_13s_python() {
    let root = made("django").join("next");
    if !root.join("made").exists() {
        println!("No Debian 13 here: make test-django says why.");
        return;
    }
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    let role = APP_ONE.role;
    let rights = format!("alter role \"{role}\" createdb; grant create on schema public to \"{role}\";");
    postgres.psql(&rights).expect("the right to make databases and tables");
    // All that it needs is put below its root: another run's would be another's.
    let folder = tempfile::tempdir_in(root.join("srv")).expect("a folder in target");
    let inside =
        |name: &str| format!("/{}/{name}", folder.path().strip_prefix(&root).expect("below").display());
    let library = harness::libraries().pop().expect("one at least").join("libpgaad.so");
    let files = [
        (PathBuf::from(PACKAGE), "package"),
        (library, "libpgaad.so.0"),
        (emulator.ca_file().to_owned(), "ca.pem"),
        (postgres.ca_file().to_owned(), "server-ca.pem"),
    ];
    for (file, name) in files {
        let copied = Command::new("cp").arg("-r").args([file, folder.path().join(name)]).status();
        assert!(copied.is_ok_and(|status| status.success()), "no copy as {name}");
    }
    // With a /proc of its own, which ends with it: what a process was started with stands there.
    let script =
        "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" env -C \"$1\" python3 -m unittest test_django";
    let unittest = python(&emulator, &postgres, &[]);
    let program = unittest.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    let mut chroot = Command::new("unshare");
    chroot.env_clear().envs(program.collect::<Vec<_>>()).args(["--mount", "sh", "-c", script]).arg(&root);
    chroot.arg(inside("package/tests")).env("PGAAD_LIBRARY", inside("libpgaad.so.0")).env("HOME", "/");
    chroot.env("PYTHONPATH", format!("{}:/opt/python", inside("package"))).stdin(Stdio::null());
    chroot.env("PGAAD_CA_FILE", inside("ca.pem")).env("PGSSLROOTCERT", inside("server-ca.pem"));
    chroot.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let done = chroot.output().expect("it starts");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("\nOK"), "{said}");
    println!("{}", said.lines().filter(|line| line.starts_with("Ran ")).collect::<String>());
}
