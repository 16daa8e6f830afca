//! When Entra is on: the contract's table, judged through connstrings, which contact no server.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use emulator::{APP_ONE, Counters, Emulator, Endpoint, Imds, LAPTOP_PASSWORD, LAPTOP_ROLE};

use crate::harness::{Driver, Line, Pairs, Session, conninfo, each, ground};

const AZURE: &str = "host=x.postgres.database.azure.com";

/// What became of a connection string: `token`, `unchanged`, or the status of a refusal.
fn verdict(session: &mut Session, command: &str, conninfo: &str) -> (String, Line) {
    let line = session.one(&[command, conninfo]);
    let asked = session.one(&["parse", conninfo]).options();
    let got = line.options();
    let verdict = match line.status() {
        "PGAAD_OK" if got == asked => "unchanged",
        "PGAAD_OK" if got.get("password").is_some_and(|password| password.starts_with("eyJ")) => "token",
        "PGAAD_OK" => "neither unchanged nor with a token",
        status => status,
    };
    (verdict.to_string(), line)
}

/// Where an identity comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    Settings,
    Pgaad,
    DbSp,
    Azure,
    /// Nothing names it, and the machine has one.
    Machine,
    Nowhere,
}

impl From {
    const ALL: [Self; 6] =
        [Self::Settings, Self::Pgaad, Self::DbSp, Self::Azure, Self::Machine, Self::Nowhere];

    fn parts(emulator: &Emulator) -> [(&'static str, String); 3] {
        [
            ("tenant_id", APP_ONE.tenant.id.into()),
            ("client_id", APP_ONE.client_id.into()),
            ("client_secret", emulator.entra().secret(&APP_ONE)),
        ]
    }

    /// A driver that knows the identity, unless it is in the settings string.
    fn driver(self, emulator: &Emulator) -> Driver {
        let driver = Driver::new()
            .env("PGAAD_AUTHORITY_HOST", emulator.authority())
            .env("PGAAD_CA_FILE", emulator.ca_file())
            .env("PGUSER", "app-one");
        let prefix = match self {
            Self::Pgaad => "PGAAD_",
            Self::DbSp => "DB_SP_",
            Self::Azure => "AZURE_",
            Self::Settings | Self::Machine | Self::Nowhere => return driver,
        };
        let named = |(key, value): (&str, String)| {
            (format!("{prefix}{}", key.to_ascii_uppercase()), OsString::from(value))
        };
        driver.envs(Self::parts(emulator).map(named))
    }

    /// The same beside a metadata service, which only a machine's program knows.
    fn driver_beside(self, emulator: &Emulator, imds: &Endpoint<Imds>) -> Driver {
        let driver = self.driver(emulator);
        if self == Self::Machine { driver.envs(imds.env()) } else { driver }
    }

    /// A settings string with these settings, and the identity if it is there.
    fn settings(self, emulator: &Emulator, settings: &str) -> String {
        let parts = Self::parts(emulator);
        let identity: Vec<_> = parts.iter().map(|(key, value)| (*key, value.as_str())).collect();
        match self {
            Self::Settings => format!("{}{settings}", conninfo(&identity)),
            _ => settings.to_string(),
        }
    }
}

/// How often either service was called.
fn calls(emulator: &Emulator, imds: &Endpoint<Imds>) -> usize {
    emulator.entra().counters().connections + imds.front().counters().connections
}

/// What a row of the table says: without and with a password at hand, for a deliberate identity, for one from
/// `AZURE_*` or the machine's, and for none.
type Row = [&'static str; 6];

const OFF: &str = "unchanged";
const ON: &str = "token";
const REFUSED: &str = "PGAAD_INSECURE";
const NONE: &str = "PGAAD_UNAVAILABLE";

const IS_AZURE: Row = [ON, ON, ON, OFF, NONE, OFF];
const IS_HERE: Row = [ON, OFF, OFF, OFF, OFF, OFF];
const IS_OFF: Row = [OFF; 6];
const IS_ELSEWHERE: Row = [REFUSED, OFF, OFF, OFF, OFF, OFF];
const IS_ANYWHERE: Row = [ON, OFF, ON, OFF, NONE, OFF];
/// Of several kinds, with and without one of Azure's, allowed or not.
const MIXED_ALLOWED: Row = [ON, ON, REFUSED, OFF, REFUSED, OFF];
const MIXED_REFUSED: Row = [REFUSED, REFUSED, REFUSED, OFF, REFUSED, OFF];
const MIXED_OTHERS_ALLOWED: Row = IS_HERE;
const MIXED_OTHERS_REFUSED: Row = IS_ELSEWHERE;

/// Settings, conninfo, and what becomes of it.
const TABLE: &[(&str, &str, Row)] = &[
    // Every host is an Azure server.
    ("", AZURE, IS_AZURE),
    ("", "host=x.postgres.cosmos.azure.com", IS_AZURE),
    ("", "host=X.Postgres.Database.AZURE.com.", IS_AZURE),
    ("", "host=a.b.postgres.database.azure.com", IS_AZURE),
    ("", "postgresql://x.postgres.database.azure.com:6432/db", IS_AZURE),
    ("", "host=x.postgres.database.azure.com hostaddr=127.0.0.1", IS_AZURE),
    ("", "host=x.postgres.database.azure.com hostaddr=10.0.0.1", IS_AZURE),
    ("", "host=x.postgres.database.azure.com,y.postgres.database.azure.com", IS_AZURE),
    ("server_hosts=*.corp.example", "host=db.corp.example", IS_AZURE),
    ("server_hosts=*.corp.example", "host=a.b.CORP.example.", IS_AZURE),
    ("server_hosts='db.corp.example, other.example'", "host=other.example", IS_AZURE),
    ("server_hosts=db.corp.example", "host=db.corp.example,x.postgres.database.azure.com", IS_AZURE),
    ("server_hosts=10.0.0.5", "hostaddr=10.0.0.5", IS_AZURE),
    ("server_hosts=10.0.0.5", "host=10.0.0.5", IS_AZURE),
    ("server_hosts=localhost", "host=localhost", IS_AZURE),
    ("server_hosts=/run/pg", "host=/run/pg requirepeer=postgres", IS_AZURE),
    // On this machine.
    ("", "host=localhost", IS_HERE),
    ("", "host=LOCALHOST.", IS_HERE),
    ("", "host=127.0.0.1", IS_HERE),
    ("", "host=127.200.0.1", IS_HERE),
    ("", "host=::1", IS_HERE),
    ("", "postgresql://[::1]:5433/db", IS_HERE),
    ("", "host=::ffff:127.0.0.1", IS_HERE),
    ("", "hostaddr=127.0.0.1", IS_HERE),
    ("", "hostaddr=::1", IS_HERE),
    ("", "host=db.example hostaddr=127.0.0.1", IS_HERE),
    ("", "host=localhost,127.0.0.1,::1", IS_HERE),
    ("", "host=db.example,localhost hostaddr=127.0.0.1,", IS_HERE),
    ("server_hosts=*", "host=localhost", IS_HERE),
    ("", "host=/run/pg requirepeer=postgres", IS_HERE),
    ("", "host=@pg requirepeer=postgres", IS_HERE),
    ("", "postgresql://%2Frun%2Fpg/?requirepeer=postgres", IS_HERE),
    ("", "host=localhost,/run/pg requirepeer=postgres", IS_HERE),
    ("allow_plaintext=/run/pg", "host=/run/pg", IS_HERE),
    ("allow_plaintext=*", "host=/run/pg", IS_HERE),
    ("", "host=/run/pg", IS_OFF),
    ("", "host=@pg", IS_OFF),
    ("", "host=localhost,/run/pg", IS_OFF),
    ("allow_plaintext=/run/other", "host=/run/pg", IS_OFF),
    ("server_hosts=*", "host=/run/pg", IS_OFF),
    // None is named.
    ("", "", IS_OFF),
    ("", "dbname=db port=5433 requirepeer=postgres", IS_OFF),
    ("", "postgresql:///db", IS_OFF),
    ("server_hosts=* allow_plaintext=*", "", IS_OFF),
    // Elsewhere.
    ("", "host=db.example", IS_ELSEWHERE),
    ("", "host=10.0.0.1", IS_ELSEWHERE),
    ("", "hostaddr=10.0.0.1", IS_ELSEWHERE),
    ("", "host=localhost hostaddr=10.0.0.1", IS_ELSEWHERE),
    ("", "host=127.0.0.1.", IS_ELSEWHERE), // a name, not an address
    ("", "host=/run/pg hostaddr=10.0.0.1 requirepeer=postgres", IS_ELSEWHERE),
    ("", "host=db.example,other.example", IS_ELSEWHERE),
    ("server_hosts=db.example", "host=other.example", IS_ELSEWHERE),
    ("server_hosts=*.example", "host=example", IS_ELSEWHERE),
    ("allow_plaintext=*", "host=db.example", IS_ELSEWHERE),
    ("server_hosts=*", "host=db.example", IS_ANYWHERE),
    ("server_hosts=*", "host=db.example,other.example", IS_ANYWHERE),
    ("server_hosts='db.example,*'", "host=other.example", IS_ANYWHERE),
    // Of several kinds.
    ("", "host=localhost,x.postgres.database.azure.com", MIXED_ALLOWED),
    ("", "host=x.postgres.database.azure.com,/run/pg requirepeer=postgres", MIXED_ALLOWED),
    ("server_hosts=*", "host=db.example,x.postgres.database.azure.com", MIXED_ALLOWED),
    ("", "host=x.postgres.database.azure.com,db.example", MIXED_REFUSED),
    ("", "host=db.example,localhost,x.postgres.database.azure.com", MIXED_REFUSED),
    ("", "host=/run/pg,x.postgres.database.azure.com", MIXED_REFUSED),
    ("", "host=x.postgres.database.azure.com,", MIXED_REFUSED),
    ("server_hosts=*", "host=localhost,db.example", MIXED_OTHERS_ALLOWED),
    ("", "host=localhost,db.example", MIXED_OTHERS_REFUSED),
    ("", "host=/run/pg,db.example requirepeer=postgres", MIXED_OTHERS_REFUSED),
];

/// Runs what may get a token or not, and sees that only a token makes a request: `requests` counts them.
fn judge(
    session: &mut Session,
    requests: impl Fn() -> usize,
    conninfo: &str,
    wanted: &str,
    failures: &mut Vec<String>,
) {
    let before = requests();
    let (verdict, line) = verdict(session, "client_options", conninfo);
    let named = match verdict.as_str() {
        // A list is refused for its strangers, its sockets, or for being mixed.
        REFUSED => {
            ["server_hosts", "requirepeer", "auth=off"].iter().any(|name| line.errmsg().contains(name))
        }
        NONE => line.errmsg().contains("PGAAD_CLIENT_ID"),
        _ => line.errmsg().is_empty(),
    };
    let silent = verdict == ON || requests() == before;
    if verdict != wanted || !named || !silent {
        failures.push(format!("{conninfo}: {wanted} is wanted (said nothing: {silent}), got {line:?}"));
    }
}

#[test]
fn the_table_of_when_entra_is_on() {
    each(&From::ALL, |&from| {
        let emulator = Emulator::start();
        let imds = Endpoint::start(&emulator, Imds);
        let mut session = from.driver_beside(&emulator, &imds).session();
        let requests = || calls(&emulator, &imds);
        let column = match from {
            From::Settings | From::Pgaad | From::DbSp => 0,
            From::Azure | From::Machine => 2,
            From::Nowhere => 4,
        };
        let mut failures = Vec::new();
        for (settings, conninfo, row) in TABLE {
            let made = session.one(&["new", &from.settings(&emulator, settings)]);
            assert_eq!(made.status(), "PGAAD_OK", "{made:?}");
            judge(&mut session, requests, conninfo, row[column], &mut failures);
            session.ask(&["setenv", "PGPASSWORD", "hunter2"]);
            judge(&mut session, requests, conninfo, row[column + 1], &mut failures);
            session.ask(&["unsetenv", "PGPASSWORD"]);
            session.ask(&["free"]);
        }
        assert!(failures.is_empty(), "an identity from {from:?}:\n{}", failures.join("\n"));
    });
}

#[test]
fn a_named_credential_or_the_chain_is_on_for_every_connection_and_off_for_none() {
    for (from, auth, table) in [
        (From::Pgaad, "client_secret", [ON, ON, ON, ON, "PGAAD_CONFIG", REFUSED, REFUSED]),
        (From::Azure, "client_secret", [ON, ON, ON, ON, "PGAAD_CONFIG", REFUSED, REFUSED]),
        (From::Azure, "default", [ON, ON, ON, ON, "PGAAD_CONFIG", REFUSED, REFUSED]),
        (From::Machine, "default", [ON, ON, ON, ON, "PGAAD_CONFIG", REFUSED, REFUSED]),
        (From::Machine, "managed_identity", [ON, ON, ON, ON, "PGAAD_CONFIG", REFUSED, REFUSED]),
        (From::Settings, "client_secret", [ON, ON, ON, ON, "PGAAD_CONFIG", REFUSED, REFUSED]),
        (From::Nowhere, "default", [NONE, NONE, NONE, NONE, "PGAAD_CONFIG", REFUSED, REFUSED]),
        (From::Pgaad, "off", [OFF; 7]),
        (From::Settings, "off", [OFF; 7]),
        (From::Azure, "off", [OFF; 7]),
    ] {
        let emulator = Emulator::start();
        let imds = Endpoint::start(&emulator, Imds);
        let mut session = from.driver_beside(&emulator, &imds).env("PGPASSWORD", "hunter2").session();
        let mut failures = Vec::new();
        let settings = from.settings(&emulator, &format!("auth={auth}"));
        assert_eq!(session.one(&["new", &settings]).status(), "PGAAD_OK");
        let conninfos = [
            AZURE,
            "host=localhost",
            "host=localhost password=x",
            "host=/run/pg requirepeer=postgres",
            "dbname=db",
            "host=db.example",
            "host=/run/pg",
        ];
        for (conninfo, wanted) in conninfos.into_iter().zip(table) {
            let before = calls(&emulator, &imds);
            let (verdict, line) = verdict(&mut session, "client_options", conninfo);
            if verdict != wanted || (verdict != ON && calls(&emulator, &imds) != before) {
                failures.push(format!("{conninfo}: {wanted} is wanted, got {line:?}"));
            }
            let named = match (conninfo, wanted) {
                ("dbname=db", "PGAAD_CONFIG") => &["host", "hostaddr"][..],
                ("host=db.example", REFUSED) => &["db.example", "server_hosts", "auth=off"],
                ("host=/run/pg", REFUSED) => &["/run/pg", "requirepeer", "allow_plaintext"],
                _ => &[],
            };
            if let Some(missing) = named.iter().find(|name| !line.errmsg().contains(**name)) {
                failures.push(format!("{conninfo}: {missing} is not named in {line:?}"));
            }
        }
        assert!(failures.is_empty(), "auth={auth}, {from:?}:\n{}", failures.join("\n"));
    }
}

#[test]
fn an_identity_in_the_settings_string_is_no_business_of_the_variables() {
    let emulator = Emulator::start();
    let driver = From::Azure.driver(&emulator).env("PGAAD_AUTH", "off");
    let mut session = driver.session();
    session.ask(&["new", &From::Settings.settings(&emulator, "")]);
    assert_eq!(verdict(&mut session, "client_options", "host=localhost").0, ON);
    session.ask(&["new", ""]);
    assert_eq!(verdict(&mut session, "client_options", AZURE).0, OFF);
    assert_eq!(verdict(&mut session, "options", AZURE).0, OFF);
}

#[test]
fn a_stranger_is_refused_by_name_and_told_what_to_set() {
    let emulator = Emulator::start();
    let mut session = From::Pgaad.driver(&emulator).session();
    for host in [
        "a.postgres.database.azure.com.evil.example",
        "evilpostgres.database.azure.com",
        "postgres.database.azure.com",
        ".postgres.database.azure.com",
        "a.postgres.database.azure.com..",
        "a.postgres.database.azure.comm",
        "a.postgres.database.azure.com:5432",
        "a.postgres.database.azure.com@evil.example",
        "a.postgres.database.azure.com%00.evil.example",
        "a-postgres.database.azure.com",
        "a.postgres.database.azure.com\\\\",
        "evilpostgres.cosmos.azure.com",
        "postgres.cosmos.azure.com.evil.example",
        "a.mysql.database.azure.com",
        "localhost.evil.example",
        "localhost..",
        "127.0.0.1.evil.example",
        "evil.example",
        "[::1]",
    ] {
        for conninfo in [format!("host='{host}'"), format!("host='{host},x.postgres.database.azure.com'")] {
            let (verdict, line) = verdict(&mut session, "options", &conninfo);
            assert_eq!(verdict, REFUSED, "{conninfo}: {line:?}");
            // What stands before an @ could be a piece of a URI's password.
            let host = host.rsplit('@').next().unwrap_or(host).replace("\\\\", "\\");
            for name in ["server_hosts", "PGAAD_SERVER_HOSTS", "auth=off", &host] {
                assert!(line.errmsg().contains(name), "{name}: {line:?}");
            }
        }
    }
    // The host is what libpq takes for it, not what looks like it.
    for conninfo in [
        "postgresql://x.postgres.database.azure.com@evil.example/db",
        "postgresql://x.postgres.database.azure.com:a@evil.example/db",
        "postgresql://u@x.postgres.database.azure.com@evil.example/db",
        "postgresql://x.postgres.database.azure.com/db?host=evil.example",
        "postgresql://evil.example/x.postgres.database.azure.com",
        "postgresql://evil.example?dbname=x.postgres.database.azure.com",
        "postgresql://evil.example,x.postgres.database.azure.com/",
        "host=x.postgres.database.azure.com host=evil.example",
        "host=evil.example application_name='host=x.postgres.database.azure.com'",
        "hostaddr=10.1.2.3",
    ] {
        let (verdict, line) = verdict(&mut session, "options", conninfo);
        let refused = [REFUSED, OFF].contains(&verdict.as_str());
        assert!(refused, "{conninfo}: {line:?}");
        // With a password at hand it would be libpq's affair; one of these holds one.
        assert_eq!(verdict == OFF, conninfo.contains(":a@"), "{conninfo}: {line:?}");
    }
    assert_eq!(emulator.entra().counters(), Counters::default());
}

#[test]
fn a_directory_is_no_server_of_azures_whatever_its_name() {
    let emulator = Emulator::start();
    let mut session = From::Pgaad.driver(&emulator).session();
    for name in ["/tmp/x.postgres.database.azure.com", "@x.postgres.database.azure.com"] {
        assert_eq!(verdict(&mut session, "options", &format!("host={name}")).0, OFF);
        assert_eq!(verdict(&mut session, "options", &format!("host={name} password=a requirepeer=b")).0, OFF);
    }
    assert_eq!(emulator.entra().counters(), Counters::default());
}

/// A file that libpq takes for a password file.
fn passfile(folder: &Path, name: &str, lines: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, lines).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    path
}

#[test]
fn a_password_is_at_hand_wherever_libpq_finds_one() {
    let emulator = Emulator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    std::fs::create_dir(&home).expect("a folder");
    passfile(&home, ".pgpass", "from-home:*:*:*:secret\n");
    let all = passfile(folder.path(), "all", "# a comment\n*:*:*:*:secret\n").display().to_string();
    let one = "localhost:5433:db:app-one:se\\:cret\nother:*:*:*:x\n";
    let one = passfile(folder.path(), "one", one).display().to_string();
    let open = passfile(folder.path(), "open", "*:*:*:*:secret\n");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).expect("its mode");
    let open = open.display().to_string();

    let sources: &[(Pairs<'_>, &str, &str)] = &[
        (&[], "host=localhost", ON),
        (&[], "host=localhost password=secret", OFF),
        (&[], "postgresql://app-one:secret@localhost/", OFF),
        (&[], "postgresql://localhost/?password=secret", OFF),
        (&[("PGPASSWORD", "secret")], "host=localhost", OFF),
        (&[("PGPASSWORD", "")], "host=localhost", ON),
        // An empty one hides those behind it, but not the password file.
        (&[("PGPASSWORD", "secret")], "host=localhost password=''", ON),
        (&[("PGPASSFILE", &all)], "host=localhost password=''", OFF),
        (&[("PGPASSFILE", &all)], "host=localhost", OFF),
        (&[("PGPASSFILE", &all), ("PGPASSWORD", "")], "host=localhost", OFF),
        (&[], &format!("host=localhost passfile='{all}'"), OFF),
        (&[("PGPASSFILE", &all)], "host=localhost passfile=/nonexistent", ON),
        (&[("PGPASSFILE", &open)], "host=localhost", ON),
        (&[("PGPASSFILE", &one)], "host=localhost", ON),
        (&[("PGPASSFILE", &one)], "host=localhost port=5433 dbname=db", OFF),
        (&[("PGPASSFILE", &one), ("PGPORT", "5433"), ("PGDATABASE", "db")], "host=localhost", OFF),
        (&[("PGPASSFILE", &one)], "host=localhost port=5433 dbname=db user=other", ON),
        (&[("PGPASSFILE", &one)], "host=127.0.0.1 port=5433 dbname=db", ON),
        (&[("PGPASSFILE", &one)], "host=127.0.0.1,localhost port=5433 dbname=db", OFF),
        (&[("PGPASSFILE", &one)], "host=127.0.0.1,localhost port=5432,5433 dbname=db", OFF),
        (&[("PGPASSFILE", &one)], "host=127.0.0.1,localhost port=5433,5432 dbname=db", ON),
        (&[("HOME", &home.display().to_string())], "host=from-home hostaddr=127.0.0.1", OFF),
        (&[("HOME", &home.display().to_string())], "host=localhost", ON),
        (
            &[("HOME", &home.display().to_string()), ("PGPASSFILE", &one)],
            "host=from-home hostaddr=127.0.0.1",
            ON,
        ),
    ];
    let mut session = From::Pgaad.driver(&emulator).session();
    for (environment, conninfo, wanted) in sources {
        for (name, value) in *environment {
            session.ask(&["setenv", name, value]);
        }
        let (verdict, line) = verdict(&mut session, "options", conninfo);
        assert_eq!(verdict, *wanted, "{environment:?} {conninfo}: {line:?}");
        for (name, _) in *environment {
            session.ask(&["unsetenv", name]);
        }
    }
}

#[test]
fn connections_find_the_same_passwords() {
    let emulator = Emulator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = passfile(folder.path(), "pgpass", "127.0.0.1:1:*:*:secret\n").display().to_string();
    let mut session = From::Pgaad.driver(&emulator).env("PGPASSFILE", file).env("PGPORT", "1").session();
    for (conninfo, sslmode) in [
        ("host=localhost", "verify-full"),
        ("host=localhost password=secret", "prefer"),
        ("host=127.0.0.1", "prefer"),
        ("host=127.0.0.1 passfile=/nonexistent", "verify-full"),
        ("host=127.0.0.1,localhost", "prefer"),
        ("host=localhost,127.0.0.1", "prefer"),
        ("postgresql://localhost:1,127.0.0.1:1/db", "prefer"),
    ] {
        for command in [&["connect", conninfo][..], &["params", "1", "dbname", conninfo]] {
            let line = session.one(command);
            assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
            assert_eq!(session.one(&["conninfo"]).options()["sslmode"], sslmode, "{command:?}");
        }
    }
}

#[test]
fn a_token_that_we_issued_is_no_password() {
    let emulator = Emulator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let mut session = From::Pgaad.driver(&emulator).session();
    let token = session.one(&["get_token"]).get("token").to_string();
    let file = passfile(folder.path(), "pgpass", &format!("*:*:*:*:{token}\n")).display().to_string();
    assert_eq!(verdict(&mut session, "options", "host=localhost password=@TOKEN").0, ON);
    assert_eq!(verdict(&mut session, "options", &format!("host=localhost passfile='{file}'")).0, ON);
    session.ask(&["setenv", "PGPASSWORD", "@TOKEN"]);
    assert_eq!(verdict(&mut session, "options", "host=localhost").0, ON);
    // So it is after it has been dropped, and for another client.
    session.ask(&["new", "refresh_before_minutes=7"]);
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    assert_eq!(verdict(&mut session, "client_options", "host=localhost").0, ON);

    // A token of which we know nothing is a password.
    session.ask(&["setenv", "PGPASSWORD", &emulator.entra().mint(&APP_ONE)]);
    assert_eq!(verdict(&mut session, "options", "host=localhost").0, OFF);
}

#[test]
fn a_service_is_judged_by_what_it_holds() {
    let ground = ground();
    let port = ground.postgres.port();
    let roots = ground.postgres.ca_file().display();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("services");
    let azure = "host=pgaad-test.postgres.database.azure.com\nhostaddr=127.0.0.1\nuser=app-one";
    let common = format!("port={port}\ndbname=postgres\nsslrootcert={roots}\n");
    let services = format!(
        "[laptop]\nhost=localhost\nuser={LAPTOP_ROLE}\npassword={LAPTOP_PASSWORD}\n{common}
[here]\nhost=localhost\nuser=app-one\n{common}
[azure]\n{azure}\n{common}
[azure-password]\n{azure}\npassword=secret\n{common}
[stranger]\nhost=evil.example\nuser=app-one\n{common}"
    );
    std::fs::write(&file, services).expect("a file");
    for (from, service, status, conn, user) in [
        (From::Pgaad, "laptop", "PGAAD_OK", "OK", "laptop"),
        (From::Pgaad, "here", "PGAAD_OK", "OK", "app-one"),
        (From::Pgaad, "azure", "PGAAD_OK", "OK", "app-one"),
        (From::Pgaad, "azure-password", "PGAAD_OK", "OK", "app-one"),
        (From::Pgaad, "stranger", REFUSED, "BAD", ""),
        (From::Azure, "laptop", "PGAAD_OK", "OK", "laptop"),
        (From::Azure, "here", "PGAAD_OK", "BAD", "app-one"), // libpq has no password
        (From::Azure, "azure", "PGAAD_OK", "OK", "app-one"),
        (From::Azure, "azure-password", "PGAAD_OK", "BAD", "app-one"), // the password is no token
        (From::Nowhere, "azure", NONE, "BAD", ""),
    ] {
        let driver = from.driver(&ground.emulator).without("PGUSER").env("PGSERVICEFILE", &file);
        for line in [
            driver.one(&["connect", &format!("service={service}")]),
            driver.one(&["params", "0", "service", service]),
            driver.env("PGSERVICE", service).one(&["connect", ""]),
        ] {
            let got = (line.status(), line.get("conn"), line.get("user"));
            assert_eq!(got, (status, conn, user), "{from:?} {service}: {line:?}");
        }
    }
}
