//! The same with every libpq: this machine's, and those that `make test-libpqs` got.
//!
//! What each of them can do is found by trying, and is the table in the README.

use std::collections::BTreeMap;
use std::sync::Mutex;

use emulator::{APP_ONE, Emulator, Libpq, PASSWORDS, Postgres};

use crate::differential::{BUNDLE, compare, compare_files, count};
use crate::harness::{Driver, Line, Listener, Session, each, ground, options, postgres_18};

const WHO: &str = "select current_user || ' ' || ssl::text from pg_stat_ssl where pid = pg_backend_pid()";

/// A libpq, and an empty environment with it.
struct Version {
    major: u32,
    driver: Driver,
}

impl Version {
    /// This machine's, and the others. Two of one version are one here: the machine's.
    fn all() -> Vec<Self> {
        let here = Self { major: major(&Driver::new().run(&[&["libpq"]])), driver: Driver::new() };
        let mut others = Libpq::all();
        others.retain(|libpq| libpq.version != here.major);
        let others =
            others.iter().map(|libpq| Self { major: libpq.version, driver: Driver::new().with_libpq(libpq) });
        let mut all: Vec<_> = others.chain([here]).collect();
        all.sort_by_key(|version| version.major);
        all
    }

    /// One that signs in as the first application, to this server.
    fn to(&self, server: &Postgres) -> Driver {
        let ground = ground();
        self.driver.clone().envs(ground.emulator.env(&APP_ONE)).envs(server.env(APP_ONE.role))
    }

    /// Whether it did connect. If not, libpq is to say so, since it doesn't know the option.
    fn connected(&self, line: &Line) -> bool {
        let connected = line.get("conn") == "OK";
        let as_expected = connected || line.errmsg().contains("invalid connection option");
        assert!(line.status() == "PGAAD_OK" && as_expected, "libpq {}: {line:?}", self.major);
        connected
    }

    fn knows(&self, option: &str) -> bool {
        self.connected(&self.to(&ground().postgres).one(&["connect", option]))
    }
}

/// What `pgaad_libpq` says.
fn major(lines: &[Line]) -> u32 {
    lines[0].word().parse::<u32>().unwrap_or_else(|_| panic!("no version: {lines:?}")) / 10_000
}

/// Whether a libpq does it: with those that cannot, nothing goes wrong.
type Feature = fn(&Version) -> bool;

const FEATURES: [(&str, Feature); 16] = [
    ("the libpq that the program is run with is used", is_found),
    ("key=value, URI, arrays: a token over verified TLS", signs_in),
    ("`pgaad_connstring` is read as the caller's options and ours", writes_for_it),
    ("random connection strings, arrays, service and password files mean the same to both", agrees),
    ("hosts that may get no token are refused and not called", refuses_strangers),
    ("`pgaad_connect_start`, with `pgaad_client_prefetch`", starts),
    ("`pgaad_reset`, with a fresh token in the same `PGconn`", resets),
    ("a second attempt, where a token at hand is refused", tries_again),
    ("a token as the password of a server 18", |version| signs_in_to_18(version, "")),
    ("`pgaad_use_oauth`: the same token by OAUTHBEARER where the server asks for that", signs_in_by_oauth),
    ("`require_auth=password`", |version| version.knows("require_auth=password")),
    ("`load_balance_hosts=random`", |version| {
        version.knows("host=localhost,localhost load_balance_hosts=random")
    }),
    ("`sslrootcert=system`", takes_the_systems_roots),
    ("`sslnegotiation=direct`, to a server 18", |version| {
        signs_in_to_18(version, "sslmode=require sslnegotiation=direct")
    }),
    ("`min_protocol_version=3.2`, to a server 18", |version| {
        signs_in_to_18(version, "min_protocol_version=3.2")
    }),
    ("`servicefile`", reads_a_named_service_file),
];

fn is_found(version: &Version) -> bool {
    let lines = version.driver.run(&[&["libpq"], &["pq", "host=/nonexistent"]]);
    assert_eq!((major(&lines), lines[1].status()), (version.major, "PGAAD_OK"), "{lines:?}");
    true
}

fn signs_in(version: &Version) -> bool {
    let mut session = version.to(&ground().postgres).session();
    session.ask(&["default"]);
    for (key, function) in [("connect", "params"), ("client_connect", "client_params")] {
        for command in [
            vec![key, "application_name=here"],
            vec![key, "postgresql://localhost/postgres?application_name=here"],
            vec![function, "1", "dbname", "application_name=here"],
            vec![function, "1", "dbname", "postgresql:///postgres?application_name=here", "user", "app-one"],
            vec![function, "0", "application_name", "nowhere", "application_name", "here", "user", ""],
        ] {
            let line = session.one(&command);
            assert_eq!(line.get("conn"), "OK", "libpq {}: {command:?}: {line:?}", version.major);
            assert_eq!(session.one(&["query", WHO]).get("value"), "app-one true");
            assert_eq!(session.one(&["query", "show application_name"]).get("value"), "here");
            let options = session.one(&["conninfo"]).options();
            assert_eq!((&*options["sslmode"], &*options["gssencmode"]), ("verify-full", "disable"));
        }
    }
    true
}

fn writes_for_it(version: &Version) -> bool {
    let driver = version.driver.clone().envs(ground().emulator.env(&APP_ONE));
    let ours = [
        ("hostaddr", ""),
        ("port", "5432"),
        ("sslmode", "verify-full"),
        ("sslrootcert", BUNDLE),
        ("gssencmode", "disable"),
    ];
    for conninfo in [
        r"host=localhost user='it\'s \\' options='-c a=b' connect_timeout=7",
        "postgresql://it%27s%20%5C@localhost?options=-c%20a%3Db&connect_timeout=7",
    ] {
        let line = driver.one(&["options", conninfo]);
        assert_eq!((line.status(), line.errmsg()), ("PGAAD_OK", ""), "libpq {}: {line:?}", version.major);
        let mut read = line.options();
        assert!(read.remove("password").is_some_and(|token| token.starts_with("eyJ")), "{line:?}");
        let mut expected = options(&ours);
        let theirs =
            [("host", "localhost"), ("user", r"it's \"), ("options", "-c a=b"), ("connect_timeout", "7")];
        expected.extend(options(&theirs));
        assert_eq!(read, expected, "libpq {}", version.major);
    }
    true
}

fn agrees(version: &Version) -> bool {
    let emulator = &ground().emulator;
    let roots = emulator.ca_file().display().to_string();
    let off = version.driver.clone().env("PGAAD_AUTH", "off");
    let on = version.driver.clone().envs(emulator.env(&APP_ONE));
    let seed = 20260200 + u64::from(version.major);
    let parsed = compare(&off, "parse", seed, 20_000, &[]);
    let granted = compare(&on, "token", seed, 3_000, &[&roots, BUNDLE]);
    let services = compare_files(&on.clone().env("PGUSER", "a"), "services", seed, 2_000);
    let passwords = compare_files(&on, "passfiles", seed, 1_000);
    let on = on.env("PGUSER", "by-variable").env("PGPORT", "1");
    let arrays = compare(&on, "arrays", seed, 1_000, &[]);
    for (line, key, least) in [
        (&parsed, "accepted", 5000),
        (&granted, "granted", 150),
        (&services, "read", 200),
        (&passwords, "with", 200),
        (&arrays, "with_token", 100),
    ] {
        assert!(count(line, key) > least, "libpq {}: {line:?}", version.major);
    }
    true
}

fn refuses_strangers(version: &Version) -> bool {
    let nobody = Listener::start();
    let mut session = version.to(&ground().postgres).env("PGPORT", nobody.port()).session();
    session.ask(&["default"]);
    for conninfo in [
        "host=stranger.example",
        "postgresql://localhost,stranger.example/",
        "host=localhost sslmode=disable",
    ] {
        for command in [&["connect", conninfo][..], &["client_params", "1", "dbname", conninfo]] {
            let line = session.one(command);
            let got = (line.status(), line.get("conn"));
            assert_eq!(got, ("PGAAD_INSECURE", "BAD"), "libpq {}: {line:?}", version.major);
            assert!(line.errmsg().starts_with("pgaad: ") && !line.errmsg().contains('|'), "{line:?}");
        }
    }
    assert!(!nobody.was_called());
    true
}

fn starts(version: &Version) -> bool {
    let mut session = version.to(&ground().postgres).session();
    session.ask(&["default"]);
    assert_eq!(session.one(&["prefetch"]).status(), "PGAAD_OK");
    session.ask(&["await", "poll"]);
    for command in [&["client_start", "application_name=here"][..], &["start_params", "1", "dbname", ""]] {
        assert_eq!(session.one(command).get("conn"), "STARTED", "libpq {}", version.major);
        let line = session.one(&["poll"]);
        assert_eq!(
            (line.status(), line.get("conn")),
            ("PGAAD_OK", "OK"),
            "libpq {}: {line:?}",
            version.major
        );
        assert_eq!(session.one(&["query", WHO]).get("value"), "app-one true");
    }
    true
}

fn resets(version: &Version) -> bool {
    let ground = ground();
    let mut session = version.to(&ground.postgres).session();
    session.ask(&["default"]);
    for reset in ["reset", "client_reset"] {
        assert_eq!(session.one(&["connect", "application_name=here"]).get("conn"), "OK");
        session.ask(&["invalidate"]);
        let lines = session.ask(&[reset]);
        let (call, after) = (&lines[0], &lines[1]);
        assert_eq!(
            (call.status(), call.get("same")),
            ("PGAAD_OK", "1"),
            "libpq {}: {lines:?}",
            version.major
        );
        assert_eq!(after.get("conn"), "OK", "libpq {}: {lines:?}", version.major);
        assert_eq!(session.one(&["query", WHO]).get("value"), "app-one true");
        assert_eq!(session.one(&["query", "show application_name"]).get("value"), "here");
        let token = session.one(&["get_token"]).get("token").to_string();
        assert_eq!(ground.uses_of(&token).len(), 1, "it came with the fresh token");
    }
    true
}

fn tries_again(version: &Version) -> bool {
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    let driver = version.driver.clone().envs(emulator.env(&APP_ONE)).envs(postgres.env(APP_ONE.role));
    let mut session = driver.session();
    let refused = session.one(&["get_token"]).get("token").to_string();
    postgres.revoke_all();
    let line = session.one(&["connect", ""]);
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "OK"), "libpq {}: {line:?}", version.major);
    let token = session.one(&["get_token"]).get("token").to_string();
    assert_ne!(token, refused);
    let ok: Vec<_> = postgres.binds().iter().map(|bind| bind.ok()).collect();
    assert_eq!(ok, [false, true], "libpq {}", version.major);
    true
}

/// The token is made the role's password, which is one for all.
fn signs_in_to_18(version: &Version, option: &str) -> bool {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let server = postgres_18();
    let mut session = version.to(server).session();
    let token = session.one(&["get_token"]).get("token").to_string();
    let _held = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    server.set_password(APP_ONE.role, &token).expect("a password");
    let line = session.one(&["connect", &format!("dbname={PASSWORDS} {option}")]);
    version.connected(&line) && session.one(&["query", WHO]).get("value") == "app-one true"
}

fn signs_in_by_oauth(version: &Version) -> bool {
    let mut session = version.to(postgres_18()).session();
    session.ask(&["default"]);
    let installed = session.one(&["use_oauth"]);
    if installed.status() != "PGAAD_OK" {
        let has_version = installed.errmsg().contains(&version.major.to_string());
        assert!(installed.status() == "PGAAD_LIBPQ" && has_version, "{installed:?}");
        return false;
    }
    let started = |session: &mut Session| {
        assert_eq!(session.one(&["client_start", ""]).get("conn"), "STARTED");
        session.one(&["poll"])
    };
    for way in [|session: &mut Session| session.one(&["connect", ""]), started] {
        let line = way(&mut session);
        assert_eq!(
            (line.status(), line.get("conn")),
            ("PGAAD_OK", "OK"),
            "libpq {}: {line:?}",
            version.major
        );
        assert_eq!(session.one(&["query", "select system_user"]).get("value"), "oauth:app-one");
        let lines = session.ask(&["reset"]);
        assert_eq!(lines[1].get("conn"), "OK", "libpq {}: {lines:?}", version.major);
        assert_eq!(session.one(&["query", "select system_user"]).get("value"), "oauth:app-one");
    }
    // With the same hook, where a password is asked for.
    let here = ground().postgres.port().to_string();
    let roots = ground().postgres.ca_file().display();
    let line = session.one(&["connect", &format!("port={here} sslrootcert={roots}")]);
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "OK"), "libpq {}: {line:?}", version.major);
    assert_eq!(session.one(&["query", WHO]).get("value"), "app-one true");
    true
}

fn takes_the_systems_roots(version: &Version) -> bool {
    let server = &ground().postgres;
    let driver = version.to(server).env("SSL_CERT_FILE", server.ca_file());
    let line = driver.one(&["connect", "sslrootcert=system"]);
    let connected = line.get("conn") == "OK";
    // Before 16 it is the name of a file.
    let complaint = "root certificate file \"system\" does not exist";
    assert!(connected || line.errmsg().contains(complaint), "libpq {}: {line:?}", version.major);
    connected
}

fn reads_a_named_service_file(version: &Version) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("services");
    std::fs::write(&file, "[here]\napplication_name=by-service\n").expect("a file");
    let conninfo = format!("servicefile={} service=here", file.display());
    let mut session = version.to(&ground().postgres).session();
    let line = session.one(&["connect", &conninfo]);
    if !version.connected(&line) {
        return false;
    }
    assert_eq!(session.one(&["query", "show application_name"]).get("value"), "by-service");
    true
}

const BEGIN: &str = "<!-- versions: written by tests/suite/versions.rs -->\n";
const END: &str = "<!-- end of versions -->\n";

/// Rows of cells; the first row is the head.
type Table = Vec<Vec<String>>;

fn written(table: &Table) -> String {
    let row = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|{}\n", "---|".repeat(table[0].len()));
    row(&table[0]) + &rule + &table[1..].iter().map(row).collect::<String>()
}

/// The table of the README, less the columns of versions that aren't here.
fn in_readme(head: &[String]) -> Table {
    let readme = include_str!("../../README.md");
    let text =
        readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map_or("", |(text, _)| text);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let table: Table = text.lines().filter(|line| !line.starts_with("|---")).map(cells).collect();
    let Some(first) = table.first() else { return table };
    let kept: Vec<_> = (0..first.len()).filter(|at| head.contains(&first[*at])).collect();
    table
        .iter()
        .map(|row| kept.iter().map(|at| row.get(*at).cloned().unwrap_or_default()).collect())
        .collect()
}

#[test]
fn the_table_in_the_readme_is_what_each_libpq_does() {
    let versions = Version::all();
    let tried = Mutex::new(BTreeMap::new());
    each(&versions, |version| {
        for (at, (_, feature)) in FEATURES.iter().enumerate() {
            let does = feature(version);
            tried.lock().expect("nobody panics with it").insert((at, version.major), does);
        }
    });
    let tried = tried.into_inner().expect("nobody panicked with it");
    let head = versions.iter().map(|version| version.major.to_string());
    let mut table = vec![["libpq".to_owned()].into_iter().chain(head).collect::<Vec<_>>()];
    for (at, (name, _)) in FEATURES.iter().enumerate() {
        let cells = versions.iter().map(|version| if tried[&(at, version.major)] { "yes" } else { "no" });
        table.push([*name].into_iter().chain(cells).map(str::to_owned).collect());
    }
    assert!(
        in_readme(&table[0]) == table,
        "the README's table of versions is to be:\n{BEGIN}{}{END}",
        written(&table)
    );
}
