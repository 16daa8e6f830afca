//! Programs that have more rights than their caller (setuid, `AT_SECURE`): the caller's variables decide nothing.

use std::fs::{Permissions, copy, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use emulator::{APP_ONE, Emulator, Fault, Gate};
use tempfile::TempDir;

use crate::harness::{Driver, NO_IMDS, Options, conninfo, ground, install, is_root, program, signed_in};

const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A folder with programs that run as root, whoever starts them.
pub struct Raised(TempDir);

impl Raised {
    /// None, and a line that says so, where this test does not run as root.
    pub fn new() -> Option<Self> {
        if !is_root() {
            eprintln!("not tested: only root can make a setuid program of root's");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("its mode");
        Some(Self(folder))
    }

    /// The same driver, with the rights of root, started by nobody.
    fn of(&self, driver: Driver, name: &str, libraries: &[&str]) -> Driver {
        let path = self.0.path().join(name);
        if !path.exists() {
            install("4755", &program(name, libraries), &path);
        }
        driver.instead(path).by_nobody()
    }

    pub fn driver(&self, driver: Driver) -> Driver {
        self.of(driver, "driver", &["-lpq"])
    }
}

/// A settings string that holds all of the first application's identity.
fn settings(emulator: &Emulator, more: &str) -> String {
    let secret = emulator.entra().secret(&APP_ONE);
    let parts = [
        ("tenant_id", APP_ONE.tenant.id),
        ("client_id", APP_ONE.client_id),
        ("client_secret", &secret),
        ("authority_host", &emulator.authority()),
        ("ca_file", &emulator.ca_file().display().to_string()),
    ];
    conninfo(&parts) + more
}

#[test]
fn no_variable_of_ours_is_read() {
    let Some(raised) = Raised::new() else { return };
    let emulator = Emulator::start();
    let by_family = |prefix: &str| {
        let renamed = |(name, value): (String, _)| (name.replace("PGAAD_", prefix), value);
        let other = signed_in(&emulator).without("PGAAD_TENANT_ID").without("PGAAD_CLIENT_ID");
        other.without("PGAAD_CLIENT_SECRET").envs(emulator.env(&APP_ONE).into_iter().map(renamed))
    };
    for driver in [signed_in(&emulator), by_family("DB_SP_"), by_family("AZURE_")] {
        // As anybody's program it signs in; as one with more rights it knows nobody.
        assert_eq!(driver.one(&["get_token"]).status(), "PGAAD_OK");
        let tokens = emulator.entra().counters().tokens;
        let raised = raised.driver(driver.env("PGAAD_TRUST_ENVIRONMENT", "on"));
        let alone = format!("imds_host={NO_IMDS}");
        let lines = raised.run(&[&["new", &alone], &["client_get_token", "-1"]]);
        let line = lines.last().expect("a line");
        assert_eq!(line.status(), "PGAAD_UNAVAILABLE", "{line:?}");
        assert_eq!(emulator.entra().counters().tokens, tokens);
    }
    // Not even to complain of them, or to show more than the program meant to.
    let nonsense = Driver::new()
        .env("PGAAD_TIMEOUT_MS", "soon")
        .env("PGAAD_CLOUD", "mars")
        .env("PGAAD_AUTH", "off")
        .env("PGAAD_SCOPE", "none")
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env("PGAAD_PROXY", "http://127.0.0.1:1")
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("AZURE_TOKEN_CREDENTIALS", "nonsense")
        .env("PGAAD_LOG", "debug")
        .env("DB_SP_TENANT_ID", "x")
        .env("DB_HOST", "db.example")
        .env("DB_USERNAME", "somebody");
    let new = settings(&emulator, "");
    let commands: [&[&str]; 3] = [&["new", &new], &["client_get_token", "-1"], &["client_options", ""]];
    let output = raised.driver(nonsense).output(&commands);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = text.lines().map(|line| crate::harness::Line(line.into())).collect();
    assert_eq!((lines[0].status(), lines[2].status()), ("PGAAD_OK", "PGAAD_OK"), "{lines:?}");
    assert_eq!((lines[3].status(), lines[3].options()), ("PGAAD_OK", Options::new()), "{lines:?}");

    let finder = Driver::new().env("PGAAD_LIBPQ", "/nonexistent");
    let line = raised.of(finder, "find_libpq", &[]).one(&["libpq"]);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
}

#[test]
fn no_variable_of_libpqs_decides_where_a_token_goes() {
    let Some(raised) = Raised::new() else { return };
    let emulator = Emulator::start();
    let own = emulator.ca_file().display().to_string();
    let new = settings(&emulator, "");
    let all = "host=localhost user=a port=1";
    for (name, value, conninfo, keyword) in [
        ("PGHOST", "localhost", "user=a port=1", "host"),
        ("PGHOST", "x.postgres.database.azure.com", "user=a port=1 hostaddr=127.0.0.1", "host"),
        ("PGHOSTADDR", "127.0.0.1", all, "hostaddr"),
        ("PGHOSTADDR", "127.0.0.1", "host=x.postgres.database.azure.com user=a port=1", "hostaddr"),
        ("PGPORT", "2", "host=localhost user=a", "port"),
        ("PGSSLMODE", "verify-full", all, "sslmode"),
        ("PGSSLMODE", "disable", all, "sslmode"),
        ("PGREQUIRESSL", "1", all, "sslmode"),
        ("PGSSLROOTCERT", &own, all, "sslrootcert"),
        ("PGSSLMINPROTOCOLVERSION", "TLSv1", all, "ssl_min_protocol_version"),
        ("PGSSLCRL", "/nonexistent", all, "sslcrl"),
        ("PGGSSENCMODE", "disable", all, "gssencmode"),
        ("PGREQUIREPEER", "nobody", "host=/run/pg user=a port=1", "requirepeer"),
    ] {
        let mut session = raised.driver(Driver::new().env(name, value)).session();
        assert_eq!(session.one(&["new", &new]).status(), "PGAAD_OK");
        for function in ["client_options", "client_connect"] {
            let line = session.one(&[function, conninfo]);
            assert_eq!(line.status(), "PGAAD_CONFIG", "{name} {conninfo}: {line:?}");
            for part in [name, keyword, "trust_environment"] {
                assert!(line.errmsg().contains(part), "{part}: {line:?}");
            }
        }
    }
    // A service: its file is the caller's choice, whoever names the service.
    let folder = tempfile::tempdir().expect("a folder");
    let services = folder.path().join("services");
    std::fs::write(&services, "[mine]\nhost=localhost\nport=1\nuser=a\n").expect("a file");
    for (variable, conninfo) in [("mine", ""), ("mine", "host=localhost"), ("", "service=mine")] {
        let mut driver = Driver::new().env("PGSERVICEFILE", &services);
        if !variable.is_empty() {
            driver = driver.env("PGSERVICE", variable);
        }
        let line = raised.driver(driver).run(&[&["new", &new], &["client_connect", conninfo]]).remove(1);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_CONFIG", "BAD"), "{line:?}");
        assert!(line.errmsg().contains("service"), "{line:?}");
    }
    assert_eq!(emulator.entra().counters().connections, 0);
}

#[test]
fn a_service_file_that_changes_in_between_decides_nothing() {
    let Some(raised) = Raised::new() else { return };
    let emulator = Emulator::start();
    let gate = Gate::new();
    emulator.entra().faults().next(Fault::gate(&gate));
    let folder = tempfile::tempdir().expect("a folder");
    let services = folder.path().join("services");
    std::fs::write(&services, "[mine]\nuser=a\n").expect("a file");
    let mut session = raised.driver(Driver::new().env("PGSERVICEFILE", &services)).session();
    session.ask(&["new", &settings(&emulator, "")]);
    session.tell(&["client_connect", "service=mine host=localhost port=1"]);
    gate.wait_for_arrivals(1);
    let changed = "[mine]\nuser=b\nhost=elsewhere.example\nhostaddr=127.0.0.2\nport=2\nsslmode=disable\nsslcrl=/theirs\n";
    std::fs::write(&services, changed).expect("a file");
    gate.open();
    // It had its token, and found nobody where it was judged to go.
    let line = session.answer().pop().expect("a line");
    assert_eq!((line.status(), line.get("conn"), line.get("user")), ("PGAAD_OK", "BAD", "a"), "{line:?}");
    let options = session.one(&["conninfo"]).options();
    let got =
        ["host", "hostaddr", "port", "sslmode", "sslcrl"].map(|name| options.get(name).map_or("", |v| v));
    assert_eq!(got, ["localhost", "", "1", "verify-full", ""]);
}

#[test]
fn what_decides_nothing_may_come_from_the_caller() {
    let Some(raised) = Raised::new() else { return };
    let emulator = Emulator::start();
    let driver = Driver::new()
        .env("PGUSER", "a")
        .env("PGDATABASE", "db")
        .env("PGAPPNAME", "app")
        .env("PGCONNECT_TIMEOUT", "7")
        // The program has its own word on these.
        .env("PGHOST", "elsewhere.example")
        .env("PGPORT", "9")
        .env("PGHOSTADDR", "10.0.0.1")
        .env("PGSSLMODE", "disable")
        .env("PGSSLROOTCERT", "/nonexistent");
    let own = emulator.ca_file().display().to_string();
    let all = conninfo(&[
        ("host", "localhost"),
        ("port", "1"),
        ("hostaddr", ""),
        ("sslmode", "verify-full"),
        ("sslrootcert", &own),
    ]);
    let lines = raised.driver(driver).run(&[&["new", &settings(&emulator, "")], &["client_options", &all]]);
    assert_eq!(lines[1].status(), "PGAAD_OK", "{lines:?}");
    let options = lines[1].options();
    assert_eq!((options["host"].as_str(), options["user"].as_str()), ("localhost", "a"));
    assert!(options["password"].starts_with("eyJ"));

    // Where Entra is off, libpq reads its variables as ever.
    let with_password = Driver::new().env("PGHOST", "/nonexistent").env("PGPASSWORD", "x").env("PGUSER", "a");
    for new in ["auth=off".to_string(), settings(&emulator, "")] {
        let line =
            raised.driver(with_password.clone()).run(&[&["new", &new], &["client_connect", ""]]).remove(1);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
        assert!(line.errmsg().contains("/nonexistent"), "{line:?}");
    }
}

#[test]
fn a_program_that_says_all_itself_signs_in() {
    let Some(raised) = Raised::new() else { return };
    let ground = ground();
    let all = conninfo(&[
        ("host", "localhost"),
        ("port", &ground.postgres.port().to_string()),
        ("user", "app-one"),
        ("dbname", "postgres"),
        ("sslrootcert", &ground.postgres.ca_file().display().to_string()),
    ]);
    let new = settings(&ground.emulator, "");
    let lines = raised.driver(Driver::new()).run(&[&["new", &new], &["client_connect", &all]]);
    assert_eq!(lines[1].get("conn"), "OK", "{lines:?}");
}

#[test]
fn roots_in_the_callers_home_do_not_count() {
    let Some(raised) = Raised::new() else { return };
    let emulator = Emulator::start();
    let home = tempfile::tempdir().expect("a folder");
    let roots = home.path().join(".postgresql/root.crt");
    std::fs::create_dir(home.path().join(".postgresql")).expect("a folder");
    copy(emulator.ca_file(), &roots).expect("a file");
    let driver = Driver::new().env("HOME", home.path());
    let options = |driver: &Driver, more: &str| {
        let new = settings(&emulator, more);
        let line = driver
            .run(&[&["new", &new], &["client_options", "host=localhost user=a sslmode=require"]])
            .remove(1);
        assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
        (line.options()["sslmode"].clone(), line.options()["sslrootcert"].clone())
    };
    let theirs = ("require".to_string(), roots.display().to_string());
    assert_eq!(options(&driver, ""), theirs);
    let raised = raised.driver(driver);
    // Root's own would count.
    let of_root = Path::new("/root/.postgresql/root.crt");
    let wanted = if of_root.is_file() {
        ("require", of_root.to_str().expect("text"))
    } else {
        ("verify-full", BUNDLE)
    };
    let (sslmode, sslrootcert) = options(&raised, "");
    assert_eq!((sslmode.as_str(), sslrootcert.as_str()), wanted);
    assert_eq!(options(&raised, "trust_environment=on"), theirs);
}

#[test]
fn a_program_may_vouch_for_its_environment() {
    let Some(raised) = Raised::new() else { return };
    let ground = ground();
    // All of it, as any program would read it.
    let driver = raised.driver(ground.driver(&APP_ONE));
    let lines =
        driver.run(&[&["new", "trust_environment=on"], &["client_connect", ""], &["client_options", ""]]);
    assert_eq!(lines[1].get("conn"), "OK", "{lines:?}");
    assert_eq!(lines[2].options()["port"], ground.postgres.port().to_string());
    // Off is off, and another client's word is its own.
    let lines = driver.run(&[&["new", "trust_environment=on"], &["connect", ""], &["get_token"]]);
    assert_eq!(lines[2].status(), "PGAAD_UNAVAILABLE", "{lines:?}");
    let lines = driver.run(&[&["new", "trust_environment=off"], &["client_get_token", "-1"]]);
    assert_eq!(lines[2].status(), "PGAAD_UNAVAILABLE", "{lines:?}");
}
